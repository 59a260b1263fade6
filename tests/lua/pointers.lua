-- Pointer arithmetic, casts of pointers, pointer comparison.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct ptr_point { int x, y; };
struct ptr_head { int kind; int length; };
]]

local i64 = ffi.typeof("int64_t")

test("adding a number moves a pointer by elements", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = ffi.cast("int *", a)
  test.equal((p + 1)[0], 20)
  test.equal((p + 3)[0], 40)
end)

test("a number may stand before the pointer it is added to", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = ffi.cast("int *", a)
  test.equal((2 + p)[0], 30)
end)

test("subtracting a number moves a pointer back", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = ffi.cast("int *", a) + 3
  test.equal((p - 2)[0], 20)
end)

test("a 64-bit integer moves a pointer", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = ffi.cast("int *", a)
  test.equal((p + i64(2))[0], 30)
  test.equal((p + i64(3) - i64(2))[0], 20)
end)

test("a fraction is dropped when a pointer is moved", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  test.equal((ffi.cast("int *", a) + 1.7)[0], 20)
end)

test("adding a number to an array gives a pointer to its elements", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = a + 2
  test.equal(ffi.istype("int *", p), true)
  test.equal(p[0], 30)
end)

test("a moved pointer is a new object", function()
  local a = ffi.new("int[4]", 10, 20, 30, 40)
  local p = ffi.cast("int *", a)
  local q = p + 1
  test.equal(p[0], 10)
  test.equal(q[0], 20)
end)

test("the difference of two pointers counts elements", function()
  local a = ffi.new("double[8]")
  local p = ffi.cast("double *", a)
  test.equal((p + 5) - p, 5)
  test.equal(p - (p + 5), -5)
end)

test("the difference of two pointers is a Lua number", function()
  local a = ffi.new("int[4]")
  test.equal(type((a + 1) - a), "number")
end)

test("the difference of an array and a pointer into it counts elements", function()
  local a = ffi.new("short[6]")
  test.equal((a + 4) - a, 4)
end)

test("qualifiers do not matter for a difference", function()
  local a = ffi.new("int[4]")
  local p, q = ffi.cast("int *", a), ffi.cast("const int *", a)
  test.equal((p + 2) - q, 2)
end)

test("the difference of pointers to different types is an error", function()
  local a = ffi.new("int[4]")
  test.fails(function() return ffi.cast("int *", a) - ffi.cast("char *", a) end, "arithmetic")
end)

test("adding two pointers is an error", function()
  local a = ffi.new("int[4]")
  test.fails(function() return ffi.cast("int *", a) + ffi.cast("int *", a) end, "arithmetic")
end)

test("pointers are neither negated nor multiplied", function()
  local a = ffi.new("int[4]")
  local p = ffi.cast("int *", a)
  test.fails(function() return -p end, "arithmetic")
  test.fails(function() return p * 2 end, "arithmetic")
end)

test("a pointer is not subtracted from a number", function()
  local a = ffi.new("int[4]")
  local p = ffi.cast("int *", a)
  test.fails(function() return 5 - p end, "arithmetic")
end)

test("a void pointer cannot be moved", function()
  local a = ffi.new("int[4]")
  local p = ffi.cast("void *", a)
  test.fails(function() return p + 1 end, "arithmetic")
end)

test("a struct pointer moves by whole structs", function()
  local a = ffi.new("struct ptr_point[3]", { { 1, 2 }, { 3, 4 }, { 5, 6 } })
  local p = ffi.cast("struct ptr_point *", a)
  test.equal((p + 2).x, 5)
  p = p + 1
  test.equal(p.y, 4)
end)

test("pointers to the same place are equal", function()
  local a = ffi.new("int[4]")
  test.equal(a + 1 == ffi.cast("int *", a) + 1, true)
  test.equal(a + 1 ~= a + 2, true)
end)

test("an array equals a pointer to its first element", function()
  local a = ffi.new("int[4]")
  test.equal(ffi.cast("int *", a) == a, true)
end)

test("a pointer to a struct equals the struct", function()
  local s = ffi.new("struct ptr_point")
  test.equal(ffi.cast("struct ptr_point *", s) == s, true)
end)

test("pointers to different types are equal by their address", function()
  local a = ffi.new("int[4]")
  test.equal(ffi.cast("char *", a) == ffi.cast("int *", a), true)
  test.equal(ffi.cast("char *", a) + 1 == ffi.cast("int *", a), false)
end)

test("pointers into one array are ordered", function()
  local a = ffi.new("int[4]")
  test.equal(a + 1 < a + 2, true)
  test.equal(a + 2 <= a + 2, true)
  test.equal(a + 3 > a + 2, true)
  test.equal(a + 1 >= a + 2, false)
end)

test("pointers to different types are not ordered", function()
  local a = ffi.new("int[4]")
  test.fails(function() return ffi.cast("int *", a) < ffi.cast("char *", a) end, "compare")
end)

test("pointers are ordered without sign", function()
  local low, high = ffi.cast("char *", 16), ffi.cast("char *", i64(-16))
  test.equal(low < high, true)
end)

test("a NULL pointer equals nil and other NULL pointers", function()
  local p = ffi.new("int *")
  test.equal(p == nil, true)
  test.equal(nil == p, true)
  test.equal(p == ffi.new("void *"), true)
end)

test("a pointer to something does not equal nil", function()
  local a = ffi.new("int[1]")
  test.equal(ffi.cast("int *", a) ~= nil, true)
  test.equal(a == nil, false)
end)

test("a NULL pointer counts as true in a condition", function()
  local p = ffi.new("int *")
  test.equal(p and "true" or "false", "true")
end)

test("a cast reads the bytes of an object under another type", function()
  local a = ffi.new("uint32_t[1]", 0x04030201)
  local bytes = ffi.cast("uint8_t *", a)
  test.equal(bytes[0], 1)
  test.equal(bytes[3], 4)
end)

test("a cast lays a struct over a buffer", function()
  local buffer = ffi.new("uint8_t[8]", { 1, 0, 0, 0, 2, 0, 0, 0 })
  local head = ffi.cast("struct ptr_head *", buffer)
  test.equal(head.kind, 1)
  test.equal(head.length, 2)
end)

test("a cast removes const", function()
  local a = ffi.new("int[1]", 5)
  local p = ffi.cast("const int *", a)
  ffi.cast("int *", p)[0] = 6
  test.equal(a[0], 6)
end)

test("a pointer is cast to an integer and back", function()
  local a = ffi.new("int[1]", 5)
  local address = ffi.cast("intptr_t", ffi.cast("void *", a))
  test.equal(type(address), "cdata")
  test.equal(ffi.cast("int *", address)[0], 5)
end)

test("the address of an element is its pointer", function()
  local a = ffi.new("int[4]")
  local base = ffi.cast("uintptr_t", ffi.cast("void *", a))
  local third = ffi.cast("uintptr_t", a + 2)
  test.equal(tonumber(third - base), 8)
end)

test("a number is cast to a pointer", function()
  local p = ffi.cast("char *", 4096)
  test.equal(tonumber(ffi.cast("uintptr_t", p)), 4096)
  test.equal(p == nil, false)
end)

test("zero is cast to NULL", function()
  test.equal(ffi.cast("void *", 0) == nil, true)
end)

test("a string is walked by a pointer to constant characters", function()
  local text = "walk"
  local p = ffi.cast("const char *", text)
  local out = {}
  while p[0] ~= 0 do
    out[#out + 1] = string.char(p[0])
    p = p + 1
  end
  test.equal(table.concat(out, "-"), "w-a-l-k")
end)

test.done()
