-- Conversions of C values to Lua on reading.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
enum tol_enum { TOL_A, TOL_B };
struct tol_inner { int x, y; };
struct tol_all { int8_t i8; uint8_t u8; int16_t i16; uint16_t u16; int32_t i32; uint32_t u32;
  int64_t i64; uint64_t u64; float f; double d; bool flag; char c; enum tol_enum e; int *p;
  double complex z; struct tol_inner inner; int list[3]; unsigned bits : 3; bool bit : 1;
  int (*fn)(int); };
int abs(int);
]]

test("integers up to 32 bits are read as Lua numbers", function()
  local s = ffi.new("struct tol_all")
  for _, name in ipairs { "i8", "u8", "i16", "u16", "i32", "u32" } do
    s[name] = 100
    test.equal(s[name], 100)
    test.equal(type(s[name]), "number")
  end
end)

test("signed integers are read with their sign", function()
  local s = ffi.new("struct tol_all")
  for _, name in ipairs { "i8", "i16", "i32" } do
    s[name] = -100
    test.equal(s[name], -100)
  end
end)

test("the largest unsigned integers are read as positive numbers", function()
  local s = ffi.new("struct tol_all")
  s.u8, s.u16, s.u32 = 255, 65535, 4294967295
  test.equal(s.u8, 255)
  test.equal(s.u16, 65535)
  test.equal(s.u32, 4294967295)
end)

test("the smallest 32-bit integer is read exactly", function()
  local s = ffi.new("struct tol_all")
  s.i32 = -2147483648
  test.equal(s.i32, -2147483648)
end)

test("a char is read as a number", function()
  local s = ffi.new("struct tol_all")
  s.c = 65
  test.equal(s.c, 65)
end)

test("64-bit integers are read as cdata", function()
  local s = ffi.new("struct tol_all")
  s.i64, s.u64 = 5, 6
  test.equal(type(s.i64), "cdata")
  test.equal(type(s.u64), "cdata")
  test.equal(ffi.istype("int64_t", s.i64), true)
  test.equal(ffi.istype("uint64_t", s.u64), true)
end)

test("a 64-bit integer that was read is a copy", function()
  local s = ffi.new("struct tol_all")
  s.i64 = 5
  local n = s.i64
  s.i64 = 6
  test.equal(tonumber(n), 5)
end)

test("floating-point numbers are read as Lua numbers", function()
  local s = ffi.new("struct tol_all")
  s.f, s.d = 1.5, 2.25
  test.equal(s.f, 1.5)
  test.equal(s.d, 2.25)
end)

test("a bool is read as a boolean", function()
  local s = ffi.new("struct tol_all")
  test.equal(s.flag, false)
  s.flag = true
  test.equal(s.flag, true)
end)

test("a bit-field is read as a number and a bool bit-field as a boolean", function()
  local s = ffi.new("struct tol_all")
  s.bits, s.bit = 5, true
  test.equal(s.bits, 5)
  test.equal(s.bit, true)
end)

test("an enum is read as cdata of its type", function()
  local s = ffi.new("struct tol_all")
  s.e = 1
  test.equal(ffi.istype("enum tol_enum", s.e), true)
  test.equal(s.e == "TOL_B", true)
end)

test("an enum that was read is a copy", function()
  local s = ffi.new("struct tol_all")
  s.e = 1
  local e = s.e
  s.e = 0
  test.equal(tonumber(e), 1)
end)

test("a pointer is read as cdata of its type", function()
  local a = ffi.new("int[1]", 7)
  local s = ffi.new("struct tol_all", { p = a })
  test.equal(ffi.istype("int *", s.p), true)
  test.equal(s.p[0], 7)
end)

test("a pointer that was read is a copy", function()
  local a = ffi.new("int[2]", 7, 8)
  local s = ffi.new("struct tol_all", { p = a })
  local p = s.p
  s.p = nil
  test.equal(p[1], 8)
end)

test("a complex number is read as a copy", function()
  local s = ffi.new("struct tol_all", { z = ffi.new("double complex", 1, 2) })
  local z = s.z
  s.z = 9
  test.equal(z.re, 1)
  test.equal(z.im, 2)
  test.equal(s.z.re, 9)
end)

test("a nested struct is read as a reference", function()
  local s = ffi.new("struct tol_all")
  local inner = s.inner
  inner.x = 4
  test.equal(s.inner.x, 4)
  s.inner.y = 5
  test.equal(inner.y, 5)
end)

test("a nested array is read as a reference", function()
  local s = ffi.new("struct tol_all")
  local list = s.list
  list[2] = 6
  test.equal(s.list[2], 6)
end)

test("a struct in an array is read as a reference", function()
  local a = ffi.new("struct tol_inner[2]")
  local second = a[1]
  second.y = 3
  test.equal(a[1].y, 3)
end)

test("a row of an array of arrays is read as a reference", function()
  local m = ffi.new("int[2][2]")
  local row = m[1]
  row[0] = 9
  test.equal(m[1][0], 9)
end)

test("a reference to a struct has the type of the struct", function()
  local s = ffi.new("struct tol_all")
  test.equal(ffi.istype("struct tol_inner", s.inner), true)
  test.equal(ffi.sizeof(s.inner), 8)
end)

test("a function pointer is read as cdata that can be called", function()
  local s = ffi.new("struct tol_all")
  test.equal(s.fn == nil, true)
  s.fn = ffi.C.abs
  test.equal(type(s.fn), "cdata")
  test.equal(s.fn(-8), 8)
end)

test("tonumber turns cdata numbers into Lua numbers", function()
  test.equal(tonumber(ffi.new("int", -3)), -3)
  test.equal(tonumber(ffi.new("uint64_t", 3)), 3)
  test.equal(tonumber(ffi.new("float", 0.5)), 0.5)
end)

test("tonumber of a bool object is one or zero", function()
  test.equal(tonumber(ffi.new("bool", true)), 1)
  test.equal(tonumber(ffi.new("bool", false)), 0)
end)

test("tonumber of a large 64-bit integer is rounded", function()
  local n = ffi.new("int64_t", 2 ^ 53) + 1
  test.equal(tonumber(n), 2 ^ 53)
end)

test("tonumber of a pointer or a struct is nil", function()
  test.equal(tonumber(ffi.new("int *")), nil)
  test.equal(tonumber(ffi.new("struct tol_inner")), nil)
end)

test.done()
