-- Comparisons of cdata with cdata and with Lua values.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct cmp_point { int x, y; };
enum cmp_level { CMP_LOW, CMP_MIDDLE = 4, CMP_HIGH };
int abs(int);
int toupper(int);
]]

local i64, u64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")

test("64-bit integers of the same value are equal", function()
  test.equal(i64(5) == i64(5), true)
  test.equal(i64(5) == i64(6), false)
  test.equal(i64(5) ~= i64(6), true)
end)

test("a 64-bit integer equals a Lua number of its value", function()
  test.equal(i64(5) == 5, true)
  test.equal(5 == i64(5), true)
  test.equal(u64(5) == 6, false)
end)

test("signed and unsigned integers of the same value are equal", function()
  test.equal(i64(5) == u64(5), true)
end)

test("signed integers are ordered by their sign", function()
  test.equal(i64(-1) < i64(1), true)
  test.equal(i64(-1) < 1, true)
  test.equal(-1 < i64(1), true)
  test.equal(i64(2) >= 2, true)
  test.equal(i64(3) <= 2, false)
end)

test("unsigned integers are ordered over their whole range", function()
  test.equal(-u64(1) > u64(1), true)
  test.equal(u64(2 ^ 63) > u64(1), true)
end)

test("an unsigned operand makes the comparison unsigned", function()
  test.equal(i64(-1) > u64(1), true)
  test.equal(u64(1) < i64(-1), true)
end)

test("integers that differ in their lowest bit are told apart", function()
  local n = i64(2 ^ 53)
  test.equal(n == n + 1, false)
  test.equal(n < n + 1, true)
end)

test("small integer objects are compared by value", function()
  test.equal(ffi.new("int", 3) == ffi.new("uint8_t", 3), true)
  test.equal(ffi.new("int", 3) < ffi.new("short", 4), true)
  test.equal(ffi.new("int", 3) == 3, true)
end)

test("a floating-point object equals a number of its value", function()
  test.equal(ffi.new("double", 1.5) == 1.5, true)
  test.equal(ffi.new("float", 2) == 2, true)
end)

test("a cdata number does not equal a string", function()
  test.equal(i64(1) == "1", false)
  test.equal(ffi.new("int", 1) == "1", false)
end)

test("a cdata number does not equal nil, a boolean, a table or a function", function()
  test.equal(i64(1) == nil, false)
  test.equal(i64(1) == true, false)
  test.equal(i64(0) == false, false)
  test.equal(i64(1) == {}, false)
  test.equal(i64(1) == print, false)
end)

test("an object equals itself", function()
  local s, a = ffi.new("struct cmp_point"), ffi.new("int[2]")
  test.equal(s == s, true)
  test.equal(a == a, true)
end)

test("structs are equal only when they are the same object", function()
  local s, t = ffi.new("struct cmp_point", 1, 2), ffi.new("struct cmp_point", 1, 2)
  test.equal(s == t, false)
  test.equal(s ~= t, true)
end)

test("arrays are equal only when they are the same object", function()
  local a, b = ffi.new("int[2]", 1, 2), ffi.new("int[2]", 1, 2)
  test.equal(a == b, false)
end)

test("two references to one nested struct are equal", function()
  local o = ffi.new("struct { struct cmp_point a, b; }")
  test.equal(o.a == o.a, true)
  test.equal(o.a == o.b, false)
end)

test("a struct does not equal nil, a number or a string", function()
  local s = ffi.new("struct cmp_point")
  test.equal(s == nil, false)
  test.equal(s == 0, false)
  test.equal(s == "text", false)
end)

test("NULL equals nil from either side", function()
  test.equal(ffi.new("void *") == nil, true)
  test.equal(nil == ffi.new("char *"), true)
  test.equal(ffi.new("void *") ~= nil, false)
end)

test("a NULL function pointer equals nil", function()
  test.equal(ffi.new("int (*)(int)") == nil, true)
  test.equal(ffi.C.abs == nil, false)
end)

test("functions are equal by their address", function()
  test.equal(ffi.C.abs == ffi.C.abs, true)
  test.equal(ffi.C.abs == ffi.C.toupper, false)
end)

test("NULL is not false", function()
  test.equal(ffi.new("void *") == false, false)
  test.equal(not ffi.new("void *"), false)
end)

test("an integer zero counts as true in a condition", function()
  test.equal(not i64(0), false)
  test.equal(not ffi.new("bool", false), false)
end)

test("ordering a cdata number against a string is an error", function()
  test.fails(function() return ffi.new("int", 1) < "x" end, "compare")
end)

test("ordering a cdata number against nil is an error", function()
  test.fails(function() return i64(1) < nil end, "compare")
  test.fails(function() return {} < i64(1) end, "compare")
end)

test("ordering structs without metamethods is an error", function()
  local s, t = ffi.new("struct cmp_point"), ffi.new("struct cmp_point")
  test.fails(function() return s < t end, "compare")
  test.fails(function() return s <= 1 end, "compare")
end)

test("an enum is compared with the name of a constant", function()
  local e = ffi.new("enum cmp_level", 4)
  test.equal(e == "CMP_MIDDLE", true)
  test.equal("CMP_MIDDLE" == e, true)
  test.equal(e ~= "CMP_HIGH", true)
  test.equal(e < "CMP_HIGH", true)
  test.equal(e > "CMP_LOW", true)
end)

test("enums are compared with numbers and with each other", function()
  local e = ffi.new("enum cmp_level", 4)
  test.equal(e == 4, true)
  test.equal(e < 5, true)
  test.equal(e == ffi.new("enum cmp_level", "CMP_MIDDLE"), true)
end)

test("ctypes of the same type are equal", function()
  test.equal(ffi.typeof("int *") == ffi.typeof("int *"), true)
  test.equal(ffi.typeof("int") == ffi.typeof("unsigned"), false)
end)

test("rawequal tells separate objects of the same value apart", function()
  local a, b = i64(5), i64(5)
  test.equal(rawequal(a, b), false)
  test.equal(rawequal(a, a), true)
end)

test.done()
