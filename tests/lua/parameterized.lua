-- Parameterized types: dollar signs in type strings and declarations.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef "struct par_point { int x, y; };"

test("a dollar sign stands for a ctype", function()
  local int = ffi.typeof("int")
  test.equal(ffi.typeof("$ *", int) == ffi.typeof("int *"), true)
end)

test("a parameterized array type is made of an element type", function()
  local array = ffi.typeof("$[4]", ffi.typeof("short"))
  test.equal(ffi.sizeof(array), 8)
end)

test("a dollar sign stands for a number", function()
  test.equal(ffi.typeof("int[$]", 5) == ffi.typeof("int[5]"), true)
end)

test("several parameters are used in order", function()
  local matrix = ffi.typeof("$[$][$]", ffi.typeof("double"), 2, 3)
  test.equal(ffi.sizeof(matrix), 48)
  test.equal(matrix == ffi.typeof("double[2][3]"), true)
end)

test("a struct type is a parameter", function()
  local array = ffi.typeof("$[2]", ffi.typeof("struct par_point"))
  local a = array({ { 1, 2 }, { 3, 4 } })
  test.equal(a[1].y, 4)
end)

test("a struct type without a tag is a parameter", function()
  local pair = ffi.typeof("struct { int a, b; }")
  local pointer = ffi.typeof("$ *", pair)
  local s = pair(5, 6)
  test.equal(ffi.cast(pointer, s).b, 6)
end)

test("a dollar sign stands for the name of a member", function()
  local s = ffi.new(ffi.typeof("struct { int $; double $; }", "first", "second"), 1, 2.5)
  test.equal(s.first, 1)
  test.equal(s.second, 2.5)
end)

test("types and names are mixed", function()
  local t = ffi.typeof("struct { $ $; $ *$; }", ffi.typeof("short"), "a", ffi.typeof("char"), "b")
  test.equal(ffi.sizeof(t), 16)
  test.equal(ffi.offsetof(t, "b"), 8)
end)

test("a name from a parameter may be a word of C", function()
  local s = ffi.new(ffi.typeof("struct { int $; }", "while"), 7)
  test.equal(s["while"], 7)
end)

test("ffi.cdef takes parameters", function()
  ffi.cdef("struct $ { $ value; int items[$]; };", "par_made", ffi.typeof("int64_t"), 3)
  test.equal(ffi.sizeof("struct par_made"), 24)
  test.equal(ffi.new("struct par_made", 5).value == 5, true)
end)

test("a constant is given as a parameter", function()
  ffi.cdef("static const int $ = $;", "PAR_SEVEN", 7)
  test.equal(ffi.C.PAR_SEVEN, 7)
end)

test("an enum constant is given as a parameter", function()
  ffi.cdef("enum { $ = $ };", "PAR_NINE", 9)
  test.equal(ffi.C.PAR_NINE, 9)
end)

test("a number is a parameter of an expression", function()
  test.equal(ffi.sizeof(ffi.typeof("char[$ * 2 + 1]", 4)), 9)
end)

test("the width of a bit-field is a parameter", function()
  local t = ffi.typeof("struct { unsigned a : $; }", 5)
  local _, _, width = ffi.offsetof(t, "a")
  test.equal(width, 5)
end)

test("an object stands for its type", function()
  local s = ffi.new("struct par_point")
  test.equal(ffi.typeof("$ *", s) == ffi.typeof("struct par_point *"), true)
end)

test("too few parameters are an error", function()
  test.fails(function() return ffi.typeof("$ *") end, "wrong number of type parameters")
  test.fails(function() return ffi.typeof("$[$]", ffi.typeof("int")) end, "wrong number of type parameters")
end)

test("too many parameters are an error", function()
  test.fails(function() return ffi.typeof("int", 1) end, "wrong number of type parameters")
end)

test("a parameter of the wrong kind is an error", function()
  test.fails(function() return ffi.typeof("$ *", "int") end)
  test.fails(function() return ffi.typeof("int[$]", {}) end)
end)

test("a generic list of any type is built from parameters", function()
  local function list_of(ct)
    local node = ffi.typeof("struct { $ value; void *next; }", ct)
    local pointer = ffi.typeof("$ *", node)
    return function(...)
      local head, keep = nil, {}
      for i = select("#", ...), 1, -1 do
        local n = node((select(i, ...)), head)
        keep[#keep + 1] = n
        head = n
      end
      return ffi.cast(pointer, head), keep, pointer
    end
  end
  local head, keep, pointer = list_of(ffi.typeof("double"))(1.5, 2.5, 3.5)
  local sum = 0
  while head ~= nil do
    sum = sum + head.value
    head = ffi.cast(pointer, head.next)
  end
  test.equal(sum, 7.5)
  test.equal(#keep, 3)
end)

test.done()
