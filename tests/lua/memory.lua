-- ffi.string, ffi.copy, ffi.fill and ffi.errno.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct mem_record { int id; char name[8]; };
int close(int);
char *strerror(int);
int access(const char *, int);
int abs(int);
]]

test("ffi.string reads up to the closing zero", function()
  local b = ffi.new("char[16]", "hello")
  test.equal(ffi.string(b), "hello")
end)

test("ffi.string of an empty C string is empty", function()
  test.equal(ffi.string(ffi.new("char[1]")), "")
end)

test("ffi.string with a length reads that many bytes", function()
  local b = ffi.new("char[16]", "hello")
  test.equal(ffi.string(b, 3), "hel")
  test.equal(ffi.string(b, 0), "")
end)

test("ffi.string with a length keeps zeros", function()
  local b = ffi.new("char[4]", "a\0b")
  test.equal(ffi.string(b, 4), "a\0b\0")
end)

test("ffi.string without a length stops at the end of a full array", function()
  local b = ffi.new("char[3]", "abc")
  test.equal(ffi.string(b), "abc")
end)

test("ffi.string reads through pointers", function()
  local b = ffi.new("char[16]", "hello")
  test.equal(ffi.string(ffi.cast("char *", b) + 2), "llo")
  test.equal(ffi.string(ffi.cast("const char *", b)), "hello")
end)

test("ffi.string reads arrays of signed and unsigned bytes", function()
  test.equal(ffi.string(ffi.new("uint8_t[4]", { 65, 66, 0 })), "AB")
  test.equal(ffi.string(ffi.new("int8_t[4]", { 67, 68, 0 })), "CD")
end)

test("ffi.string with a length reads any memory", function()
  local a = ffi.new("int32_t[2]", 0x44434241, 0x48474645)
  test.equal(ffi.string(a, 8), "ABCDEFGH")
  test.equal(ffi.string(ffi.cast("void *", a), 4), "ABCD")
end)

test("ffi.string with a length reads the bytes of a struct", function()
  local s = ffi.new("struct mem_record", 1, "ab")
  test.equal(ffi.string(s, 7), "\1\0\0\0ab\0")
end)

test("ffi.string without a length needs characters", function()
  test.fails(function() return ffi.string(ffi.new("int[2]")) end, "cannot convert")
  test.fails(function() return ffi.string(5) end, "cannot convert")
end)

test("the result of ffi.string is a copy", function()
  local b = ffi.new("char[4]", "abc")
  local s = ffi.string(b)
  b[0] = 88
  test.equal(s, "abc")
end)

test("ffi.copy of a string adds the closing zero", function()
  local b = ffi.new("char[8]", "xxxxxxx")
  ffi.copy(b, "abc")
  test.equal(ffi.string(b), "abc")
  test.equal(b[3], 0)
  test.equal(b[4], 120)
end)

test("ffi.copy of a string with a length adds no zero", function()
  local b = ffi.new("char[8]", "xxxxxxx")
  ffi.copy(b, "abc", 3)
  test.equal(ffi.string(b), "abcxxxx")
end)

test("ffi.copy may copy a part of a string", function()
  local b = ffi.new("char[8]")
  ffi.copy(b, "abcdef", 2)
  test.equal(ffi.string(b), "ab")
end)

test("ffi.copy copies bytes between objects", function()
  local a, b = ffi.new("int[3]", 1, 2, 3), ffi.new("int[3]")
  ffi.copy(b, a, 8)
  test.equal(b[0], 1)
  test.equal(b[1], 2)
  test.equal(b[2], 0)
end)

test("ffi.copy copies between different types", function()
  local a, b = ffi.new("uint32_t[1]", 0x04030201), ffi.new("uint8_t[4]")
  ffi.copy(b, a, 4)
  test.equal(b[3], 4)
end)

test("ffi.copy copies a whole struct", function()
  local s, t = ffi.new("struct mem_record", 5, "five"), ffi.new("struct mem_record")
  ffi.copy(t, s, ffi.sizeof(s))
  test.equal(t.id, 5)
  test.equal(ffi.string(t.name), "five")
end)

test("ffi.copy of no bytes changes nothing", function()
  local a, b = ffi.new("int[1]", 1), ffi.new("int[1]", 2)
  ffi.copy(b, a, 0)
  test.equal(b[0], 2)
end)

test("ffi.copy between objects needs a length", function()
  local a, b = ffi.new("int[1]"), ffi.new("int[1]")
  test.fails(function() ffi.copy(b, a) end, "bad argument")
end)

test("ffi.copy does not write to a string or a number", function()
  test.fails(function() ffi.copy(5, "abc") end, "cannot convert")
  test.fails(function() ffi.copy({}, "abc") end, "cannot convert")
end)

test("ffi.fill clears memory", function()
  local a = ffi.new("int[3]", 1, 2, 3)
  ffi.fill(a, 8)
  test.equal(a[0], 0)
  test.equal(a[1], 0)
  test.equal(a[2], 3)
end)

test("ffi.fill writes a byte value", function()
  local b = ffi.new("char[6]")
  ffi.fill(b, 5, 65)
  test.equal(ffi.string(b), "AAAAA")
end)

test("ffi.fill uses the low byte of its value", function()
  local b = ffi.new("uint8_t[2]")
  ffi.fill(b, 2, 0x1ff)
  test.equal(b[1], 255)
end)

test("ffi.fill writes through a pointer", function()
  local b = ffi.new("char[6]", "abcde")
  ffi.fill(ffi.cast("char *", b) + 1, 3, 46)
  test.equal(ffi.string(b), "a...e")
end)

test("ffi.errno sets the error number and returns the last one", function()
  ffi.errno(3)
  test.equal(ffi.errno(7), 3)
  test.equal(ffi.errno(), 7)
  ffi.errno(0)
  test.equal(ffi.errno(), 0)
end)

test("a failing C function leaves its error number", function()
  ffi.errno(0)
  test.equal(ffi.C.close(-1), -1)
  test.equal(ffi.errno(), 9)
end)

test("the error number is kept across Lua code", function()
  ffi.C.close(-1)
  local t = {}
  for i = 1, 1000 do t[i] = tostring(i) .. "x" end
  collectgarbage()
  test.equal(ffi.errno(), 9)
end)

test("a missing file has its own error number", function()
  test.equal(ffi.C.access("no/such/file", 0), -1)
  test.equal(ffi.errno(), 2)
end)

test("the error number is described by the C library", function()
  test.equal(#ffi.string(ffi.C.strerror(9)) > 0, true)
end)

test("the error number set from Lua is seen after a function that leaves it alone", function()
  ffi.errno(11)
  ffi.C.abs(-1)
  test.equal(ffi.errno(), 11)
end)

test.done()
