-- Bit-fields: layout, reading, writing.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct bit_flags { unsigned low : 3, high : 5; int level : 4; bool on : 1; unsigned rest : 20; };
struct bit_signed { int a : 4; int b : 12; };
struct bit_bytes { uint8_t left : 4; uint8_t right : 4; uint8_t next; };
struct bit_break { unsigned a : 5; unsigned : 0; unsigned b : 3; };
struct bit_gap { unsigned a : 4; unsigned : 8; unsigned b : 4; };
union bit_both { struct { uint32_t red : 8, green : 8, blue : 8, alpha : 8; }; uint32_t all; };
struct bit_full { uint32_t all : 32; };
]]

test("a new bit-field is zero", function()
  local s = ffi.new("struct bit_flags")
  test.equal(s.low, 0)
  test.equal(s.high, 0)
  test.equal(s.level, 0)
  test.equal(s.rest, 0)
end)

test("an unsigned bit-field holds values up to its width", function()
  local s = ffi.new("struct bit_flags")
  s.low = 7
  s.high = 31
  test.equal(s.low, 7)
  test.equal(s.high, 31)
end)

test("a value too large for a bit-field is cut to its width", function()
  local s = ffi.new("struct bit_flags")
  s.low = 9
  s.high = 33
  test.equal(s.low, 1)
  test.equal(s.high, 1)
end)

test("writing a bit-field leaves its neighbours alone", function()
  local s = ffi.new("struct bit_flags", 5, 17, -3, true, 1000)
  s.high = 0
  test.equal(s.low, 5)
  test.equal(s.level, -3)
  test.equal(s.rest, 1000)
  s.level = 0
  test.equal(s.low, 5)
  test.equal(s.on, true)
end)

test("a signed bit-field is extended with its sign", function()
  local s = ffi.new("struct bit_signed")
  s.a = -1
  s.b = -2048
  test.equal(s.a, -1)
  test.equal(s.b, -2048)
  s.a = 7
  test.equal(s.a, 7)
end)

test("a value beyond a signed bit-field wraps around", function()
  local s = ffi.new("struct bit_signed")
  s.a = 8
  test.equal(s.a, -8)
end)

test("a bool bit-field is a boolean", function()
  local s = ffi.new("struct bit_flags")
  test.equal(s.on, false)
  s.on = true
  test.equal(s.on, true)
end)

test("flat initialisers fill bit-fields in order", function()
  local s = ffi.new("struct bit_flags", 1, 2, 3, true, 4)
  test.equal(s.low, 1)
  test.equal(s.high, 2)
  test.equal(s.level, 3)
  test.equal(s.on, true)
  test.equal(s.rest, 4)
end)

test("a table names bit-fields", function()
  local s = ffi.new("struct bit_flags", { high = 9, level = -8 })
  test.equal(s.low, 0)
  test.equal(s.high, 9)
  test.equal(s.level, -8)
end)

test("offsetof of a bit-field gives offset, position and width", function()
  local offset, position, width = ffi.offsetof("struct bit_flags", "high")
  test.equal(offset, 0)
  test.equal(position, 3)
  test.equal(width, 5)
end)

test("the position of a bit-field counts from its container", function()
  local offset, position, width = ffi.offsetof("struct bit_bytes", "right")
  test.equal(offset, 0)
  test.equal(position, 4)
  test.equal(width, 4)
end)

test("a bit-field that does not fit starts in the next unit", function()
  local offset, position, width = ffi.offsetof("struct bit_flags", "rest")
  test.equal(offset, 4)
  test.equal(position, 0)
  test.equal(width, 20)
  test.equal(ffi.sizeof("struct bit_flags"), 8)
end)

test("bit-fields of uint8_t share one byte", function()
  test.equal(ffi.sizeof("struct bit_bytes"), 2)
  test.equal(ffi.offsetof("struct bit_bytes", "next"), 1)
end)

test("bit-fields fill their byte from its low end", function()
  local s = ffi.new("struct bit_bytes", 3, 12)
  test.equal(ffi.cast("uint8_t *", s)[0], 12 * 16 + 3)
end)

test("a bit-field without a name and of no width ends the unit", function()
  local offset, position = ffi.offsetof("struct bit_break", "b")
  test.equal(offset, 4)
  test.equal(position, 0)
end)

test("a bit-field without a name is a gap", function()
  local offset, position = ffi.offsetof("struct bit_gap", "b")
  test.equal(offset, 0)
  test.equal(position, 12)
end)

test("a union lays bit-fields over an integer", function()
  local u = ffi.new("union bit_both")
  u.all = 0x04030201
  test.equal(u.red, 1)
  test.equal(u.green, 2)
  test.equal(u.blue, 3)
  test.equal(u.alpha, 4)
  u.green = 255
  test.equal(u.all, 0x0403ff01)
end)

test("a bit-field as wide as its type holds every value", function()
  local s = ffi.new("struct bit_full")
  s.all = 4294967295
  test.equal(s.all, 4294967295)
end)

test("bit-fields of structs in an array are reached", function()
  local a = ffi.new("struct bit_bytes[3]")
  for i = 0, 2 do
    a[i].left = i
    a[i].right = 15 - i
  end
  test.equal(a[2].left, 2)
  test.equal(a[1].right, 14)
end)

test("bit-fields are reached through a pointer", function()
  local s = ffi.new("struct bit_signed", -4, 100)
  local p = ffi.cast("struct bit_signed *", s)
  test.equal(p.a, -4)
  p.b = -100
  test.equal(s.b, -100)
  test.equal(s.a, -4)
end)

test.done()
