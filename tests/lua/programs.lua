-- Small programs that use several features together.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
int snprintf(char *, size_t, const char *, ...);
void *malloc(size_t);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);
void free(void *);
char *strtok_r(char *, const char *, char **);
typedef struct { uint8_t red, green, blue, alpha; } prg_pixel;
typedef struct { double x, y; } prg_point;
struct prg_stack { int top; int slots[16]; };
struct prg_string { size_t length; size_t capacity; char *data; };
struct prg_tree { int key; struct prg_tree *left, *right; };
struct prg_header { uint8_t version : 4; uint8_t kind : 4; uint8_t flags; uint16_t length; };
typedef union { double number; uint64_t bits; } prg_double;
]]

local C = ffi.C

test("text is formatted by the C library", function()
  local b = ffi.new("char[64]")
  local n = C.snprintf(b, 64, "%s has %d legs and weighs %.1f kg", "cat", ffi.new("int", 4), 3.5)
  test.equal(ffi.string(b, n), "cat has 4 legs and weighs 3.5 kg")
end)

test("text too long for its buffer is cut and its length told", function()
  local b = ffi.new("char[8]")
  local n = C.snprintf(b, 8, "%s", "abcdefghijkl")
  test.equal(n, 12)
  test.equal(ffi.string(b), "abcdefg")
end)

test("a colour image becomes grey", function()
  local function ramp(count)
    local image = ffi.new("prg_pixel[?]", count)
    local scale = 255 / (count - 1)
    for i = 0, count - 1 do
      image[i].green = i * scale
      image[i].alpha = 255
    end
    return image
  end
  local function to_grey(image, count)
    for i = 0, count - 1 do
      local grey = 0.3 * image[i].red + 0.59 * image[i].green + 0.11 * image[i].blue
      image[i].red, image[i].green, image[i].blue = grey, grey, grey
    end
  end
  local count = 256
  local image = ramp(count)
  to_grey(image, count)
  test.equal(image[0].red, 0)
  test.equal(image[255].red, 150)
  test.equal(image[255].blue, image[255].green)
  test.equal(image[100].alpha, 255)
  test.equal(ffi.sizeof(image), count * 4)
end)

test("points are added and measured by their metatype", function()
  local point
  point = ffi.metatype("prg_point", {
    __add = function(a, b) return point(a.x + b.x, a.y + b.y) end,
    __len = function(a) return math.sqrt(a.x * a.x + a.y * a.y) end,
    __index = { area = function(a) return a.x * a.x + a.y * a.y end },
  })
  local a = point(3, 4)
  test.equal(#a, 5)
  test.equal(a:area(), 25)
  test.equal((a + point(0.5, 8)).x, 3.5)
  test.equal(#(a + point(2, 8)), 13)
end)

test("cached namespaces and ctypes are used in a loop", function()
  local snprintf, buffer_of, int = C.snprintf, ffi.typeof("char[?]"), ffi.typeof("int")
  local parts = {}
  for i = 1, 20 do
    local b = buffer_of(8)
    local n = snprintf(b, 8, "%03d", int(i))
    parts[#parts + 1] = ffi.string(b, n)
  end
  test.equal(table.concat(parts, " ", 18), "018 019 020")
end)

test("a stack is a struct with an array", function()
  local stack = ffi.new("struct prg_stack")
  local function push(n)
    stack.slots[stack.top] = n
    stack.top = stack.top + 1
  end
  local function pop()
    stack.top = stack.top - 1
    return stack.slots[stack.top]
  end
  for i = 1, 5 do push(i * i) end
  test.equal(pop(), 25)
  test.equal(pop(), 16)
  test.equal(stack.top, 3)
end)

test("a growing string lives in memory of the C library", function()
  local s = ffi.new("struct prg_string")
  local function append(text)
    local wanted = tonumber(s.length) + #text
    if wanted > tonumber(s.capacity) then
      s.capacity = wanted * 2
      s.data = ffi.cast("char *", C.realloc(s.data, s.capacity))
    end
    ffi.copy(s.data + s.length, text, #text)
    s.length = wanted
  end
  for i = 1, 10 do append(tostring(i) .. ",") end
  test.equal(ffi.string(s.data, s.length), "1,2,3,4,5,6,7,8,9,10,")
  C.free(s.data)
  s.data = nil
end)

test("cleared memory of the C library is used as an array", function()
  local a = ffi.cast("int *", C.calloc(10, 4))
  for i = 0, 9 do a[i] = a[i] + i end
  local sum = 0
  for i = 0, 9 do sum = sum + a[i] end
  C.free(a)
  test.equal(sum, 45)
end)

test("a tree of structs is searched", function()
  local nodes = {}
  local function insert(root, key)
    local node = ffi.new("struct prg_tree", key)
    nodes[#nodes + 1] = node
    if root == nil then return node end
    local at = root
    while true do
      local side = key < at.key and "left" or "right"
      if at[side] == nil then
        at[side] = node
        return root
      end
      at = at[side]
    end
  end
  local root
  for _, key in ipairs { 50, 30, 70, 20, 40, 60, 80 } do root = insert(root, key) end
  local out = {}
  local function walk(node)
    if node == nil then return end
    walk(node.left)
    out[#out + 1] = node.key
    walk(node.right)
  end
  walk(root)
  test.equal(table.concat(out, " "), "20 30 40 50 60 70 80")
end)

test("the bits of a double are read through a union", function()
  local u = ffi.new("prg_double", 1)
  test.equal(tostring(u.bits), tostring(ffi.new("uint64_t", 0x3ff00000) * 2 ^ 32))
  u.number = -2
  test.equal(tostring(u.bits), tostring(ffi.new("uint64_t", 0xc0000000) * 2 ^ 32))
end)

test("a message is taken apart by a struct laid over it", function()
  local message = "\0\1\5\0hello"
  local buffer = ffi.new("uint8_t[?]", #message)
  ffi.copy(buffer, message, #message)
  buffer[0] = 0x24
  local header = ffi.cast("struct prg_header *", buffer)
  test.equal(header.version, 4)
  test.equal(header.kind, 2)
  test.equal(header.flags, 1)
  test.equal(header.length, 5)
  test.equal(ffi.string(buffer + ffi.sizeof("struct prg_header"), header.length), "hello")
end)

test("words are taken from a buffer by the C library", function()
  local b, rest = ffi.new("char[32]", "one two  three"), ffi.new("char *[1]")
  local words = {}
  local word = C.strtok_r(b, " ", rest)
  while word ~= nil do
    words[#words + 1] = ffi.string(word)
    word = C.strtok_r(nil, " ", rest)
  end
  test.equal(table.concat(words, "|"), "one|two|three")
end)

test("primes are sifted in a byte array", function()
  local n = 1000
  local composite = ffi.new("bool[?]", n + 1)
  local count = 0
  for i = 2, n do
    if not composite[i] then
      count = count + 1
      for j = i * i, n, i do composite[j] = true end
    end
  end
  test.equal(count, 168)
end)

test("matrices are multiplied", function()
  local matrix = ffi.typeof("double[3][3]")
  local a = matrix { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } }
  local b = matrix { { 1, 0, 0 }, { 0, 2, 0 }, { 0, 0, 3 } }
  local c = matrix()
  for i = 0, 2 do
    for j = 0, 2 do
      for k = 0, 2 do c[i][j] = c[i][j] + a[i][k] * b[k][j] end
    end
  end
  test.equal(c[0][1], 4)
  test.equal(c[2][2], 27)
  test.equal(c[1][0], 4)
end)

test("a random generator works on unsigned 32-bit members", function()
  local state = ffi.new("uint32_t[1]", 1)
  local function step()
    local bit = require "bit"
    local x = state[0]
    x = bit.bxor(x, bit.lshift(x, 13))
    x = bit.bxor(x, bit.rshift(x, 17))
    x = bit.bxor(x, bit.lshift(x, 5))
    state[0] = x
    return state[0]
  end
  test.equal(step(), 270369)
  test.equal(step(), 67634689)
end)

test("a struct is an output parameter kept between calls", function()
  local cursor = ffi.new("struct { int position; int end_; }", 0, 3)
  local function advance(c)
    if c.position >= c.end_ then return false end
    c.position = c.position + 1
    return true
  end
  local steps = 0
  while advance(cursor) do steps = steps + 1 end
  test.equal(steps, 3)
end)

test.done()
