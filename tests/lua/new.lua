-- Creating cdata objects: ffi.new and calls of ctype objects.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct new_pair { int first; double second; };
struct new_nested { struct new_pair pair; char name[8]; void *link; };
struct new_tail { int count; short items[?]; };
struct new_opaque;
enum new_level { NEW_LOW, NEW_HIGH };
]]

test("a new object has the Lua type cdata", function()
  test.equal(type(ffi.new("int")), "cdata")
  test.equal(type(ffi.new("int[2]")), "cdata")
  test.equal(type(ffi.new("struct new_pair")), "cdata")
end)

test("a new integer without an initialiser is zero", function()
  test.equal(tonumber(ffi.new("int")), 0)
  test.equal(tonumber(ffi.new("uint8_t")), 0)
  test.equal(tonumber(ffi.new("int64_t")), 0)
end)

test("a new floating-point number without an initialiser is zero", function()
  test.equal(tonumber(ffi.new("double")), 0)
  test.equal(tonumber(ffi.new("float")), 0)
end)

test("a new small number stays a cdata object", function()
  local n = ffi.new("int", 7)
  test.equal(type(n), "cdata")
  test.equal(tonumber(n), 7)
end)

test("a new pointer without an initialiser is NULL", function()
  test.equal(ffi.new("int *") == nil, true)
  test.equal(ffi.new("void *") == nil, true)
  test.equal(ffi.new("int (*)(int)") == nil, true)
end)

test("an array without initialisers is zero", function()
  local a = ffi.new("int[4]")
  for i = 0, 3 do test.equal(a[i], 0) end
end)

test("a struct without initialisers is zero throughout", function()
  local s = ffi.new("struct new_nested")
  test.equal(s.pair.first, 0)
  test.equal(s.pair.second, 0)
  for i = 0, 7 do test.equal(s.name[i], 0) end
  test.equal(s.link == nil, true)
end)

test("a complex number without an initialiser is zero", function()
  local c = ffi.new("double complex")
  test.equal(c.re, 0)
  test.equal(c.im, 0)
end)

test("an enum without an initialiser is zero", function()
  test.equal(tonumber(ffi.new("enum new_level")), 0)
end)

test("a variable-length array takes its number of elements first", function()
  local a = ffi.new("int[?]", 5)
  test.equal(ffi.sizeof(a), 20)
  for i = 0, 4 do test.equal(a[i], 0) end
end)

test("the initialisers of a variable-length array follow its number of elements", function()
  local a = ffi.new("int[?]", 3, 10, 20, 30)
  test.equal(a[0], 10)
  test.equal(a[1], 20)
  test.equal(a[2], 30)
end)

test("a variable-length array accepts a table after its number of elements", function()
  local a = ffi.new("double[?]", 3, { 0.5, 1.5, 2.5 })
  test.equal(a[0], 0.5)
  test.equal(a[2], 2.5)
end)

test("a variable-length array may have no elements", function()
  test.equal(ffi.sizeof(ffi.new("int[?]", 0)), 0)
end)

test("a variable-length array without its number of elements is an error", function()
  test.fails(function() return ffi.new("int[?]") end)
end)

test("a negative number of elements is an error", function()
  test.fails(function() return ffi.new("int[?]", -1) end, "unknown or too large")
end)

test("a variable-length struct takes the number of elements of its last member", function()
  local s = ffi.new("struct new_tail", 3)
  test.equal(s.count, 0)
  for i = 0, 2 do
    test.equal(s.items[i], 0)
    s.items[i] = i + 1
  end
  test.equal(s.items[2], 3)
end)

test("the initialisers of a variable-length struct follow its number of elements", function()
  local s = ffi.new("struct new_tail", 2, 9, { 4, 5 })
  test.equal(s.count, 9)
  test.equal(s.items[0], 4)
  test.equal(s.items[1], 5)
end)

test("a ctype object is called to create an object", function()
  local pair = ffi.typeof("struct new_pair")
  local p = pair(3, 1.5)
  test.equal(p.first, 3)
  test.equal(p.second, 1.5)
  test.equal(ffi.istype(pair, p), true)
end)

test("ffi.new accepts a ctype object", function()
  local array = ffi.typeof("short[2]")
  local a = ffi.new(array, 4, 5)
  test.equal(a[0], 4)
  test.equal(a[1], 5)
end)

test("ffi.new accepts a cdata object as the template of a type", function()
  local a = ffi.new("int[3]", 1, 2, 3)
  local b = ffi.new(a)
  test.equal(ffi.sizeof(b), 12)
  test.equal(b[2], 0)
  test.equal(a[2], 3)
end)

test("each call of ffi.new makes a separate object", function()
  local a, b = ffi.new("int[1]"), ffi.new("int[1]")
  a[0] = 5
  test.equal(b[0], 0)
  test.equal(rawequal(a, b), false)
end)

test("an object of a variable-length array type made by a ctype object knows its size", function()
  local bytes = ffi.typeof("uint8_t[?]")
  test.equal(ffi.sizeof(bytes(10)), 10)
  test.equal(ffi.sizeof(bytes(11)), 11)
end)

test("a new object is aligned for its type", function()
  for _, name in ipairs { "short", "int", "double", "int64_t", "void *" } do
    local a = ffi.new(ffi.typeof("$[1]", ffi.typeof(name)))
    local address = ffi.cast("uintptr_t", ffi.cast("void *", a))
    test.equal(tonumber(address % ffi.alignof(name)), 0)
  end
end)

test("void objects cannot be created", function()
  test.fails(function() return ffi.new("void") end)
end)

test("an incomplete struct cannot be created", function()
  test.fails(function() return ffi.new("struct new_opaque") end)
end)

test("an unknown type name is an error", function()
  test.fails(function() return ffi.new("new_no_such_type") end, "new_no_such_type")
end)

test("an undeclared struct tag is an error", function()
  test.fails(function() return ffi.new("struct new_no_such_tag") end, "undeclared")
end)

test("a type must be given as a string, a ctype or a cdata", function()
  test.fails(function() return ffi.new(42) end, "bad argument")
  test.fails(function() return ffi.new({}) end, "bad argument")
end)

test("large arrays are zero throughout", function()
  local n = 100000
  local a = ffi.new("uint8_t[?]", n)
  local sum = 0
  for i = 0, n - 1 do sum = sum + a[i] end
  test.equal(sum, 0)
end)

test.done()
