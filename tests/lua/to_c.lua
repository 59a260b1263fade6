-- Conversions of Lua values to C types.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct toc_pair { int a, b; };
struct toc_all { int8_t i8; uint8_t u8; int16_t i16; uint16_t u16; int32_t i32; uint32_t u32;
  int64_t i64; uint64_t u64; float f; double d; bool flag; const char *text; void *any; char name[8]; };
typedef struct toc_file toc_file;
int fileno(toc_file *stream);
size_t strlen(const char *text);
]]

test("a Lua number loses its fraction towards zero in an integer", function()
  local s = ffi.new("struct toc_all")
  s.i32 = 3.9
  test.equal(s.i32, 3)
  s.i32 = -3.9
  test.equal(s.i32, -3)
end)

test("a Lua number wraps around in a narrow integer", function()
  local s = ffi.new("struct toc_all")
  s.u8 = 300
  test.equal(s.u8, 44)
  s.i8 = 200
  test.equal(s.i8, -56)
  s.i16 = 40000
  test.equal(s.i16, -25536)
  s.u16 = 65537
  test.equal(s.u16, 1)
end)

test("a negative number wraps around in an unsigned integer", function()
  local s = ffi.new("struct toc_all")
  s.u8 = -1
  test.equal(s.u8, 255)
  s.u16 = -2
  test.equal(s.u16, 65534)
  s.u32 = -1
  test.equal(s.u32, 4294967295)
end)

test("an unsigned integer holds its whole range", function()
  local s = ffi.new("struct toc_all")
  s.u32 = 4294967295
  test.equal(s.u32, 4294967295)
end)

test("a Lua number fills a 64-bit integer", function()
  local s = ffi.new("struct toc_all")
  s.i64 = -2 ^ 40
  test.equal(tostring(s.i64), "-1099511627776LL")
  s.u64 = 2 ^ 63
  test.equal(tostring(s.u64), "9223372036854775808ULL")
end)

test("a Lua number is rounded to a float", function()
  local s = ffi.new("struct toc_all")
  s.f = 0.1
  test.equal(s.f == 0.1, false)
  test.near(s.f, 0.1, 1e-7)
  s.f = 0.25
  test.equal(s.f, 0.25)
end)

test("a Lua number is kept whole in a double", function()
  local s = ffi.new("struct toc_all")
  s.d = 0.1
  test.equal(s.d, 0.1)
end)

test("infinities and NaN are kept in floating-point types", function()
  local s = ffi.new("struct toc_all")
  s.d = 1 / 0
  test.equal(s.d, 1 / 0)
  s.f = -1 / 0
  test.equal(s.f, -1 / 0)
  s.d = 0 / 0
  test.equal(s.d ~= s.d, true)
end)

test("a Lua boolean becomes a bool", function()
  local s = ffi.new("struct toc_all")
  s.flag = true
  test.equal(s.flag, true)
  s.flag = false
  test.equal(s.flag, false)
end)

test("a Lua boolean becomes one or zero in a number", function()
  local s = ffi.new("struct toc_all")
  s.i32 = true
  test.equal(s.i32, 1)
  s.i32 = false
  test.equal(s.i32, 0)
  s.d = true
  test.equal(s.d, 1)
end)

test("a number becomes a bool that is false only for zero", function()
  local s = ffi.new("struct toc_all")
  s.flag = 2
  test.equal(s.flag, true)
  s.flag = 0
  test.equal(s.flag, false)
  s.flag = 0.5
  test.equal(s.flag, true)
end)

test("nil becomes a NULL pointer", function()
  local s = ffi.new("struct toc_all")
  s.any = s
  test.equal(s.any == nil, false)
  s.any = nil
  test.equal(s.any == nil, true)
  s.text = nil
  test.equal(s.text == nil, true)
end)

test("nil does not become a number", function()
  test.fails(function() return ffi.new("int", nil) end, "cannot convert")
  test.fails(function() ffi.new("int[1]")[0] = nil end, "cannot convert")
end)

test("a string becomes a pointer to constant characters", function()
  test.equal(tonumber(ffi.C.strlen("hello")), 5)
  local text = "anchored"
  local p = ffi.new("const char *", text)
  test.equal(ffi.string(p), "anchored")
end)

test("a string becomes a pointer to constant bytes of any signedness", function()
  local text = "\255a"
  local p = ffi.new("const uint8_t *", text)
  test.equal(p[0], 255)
  local q = ffi.new("const int8_t *", text)
  test.equal(q[0], -1)
end)

test("a string becomes a pointer to constant void", function()
  local text = "xyz"
  local p = ffi.new("const void *", text)
  test.equal(ffi.string(p, 3), "xyz")
end)

test("a string does not become a pointer to writable characters", function()
  test.fails(function() return ffi.new("char *", "text") end, "cannot convert")
end)

test("a string does not become a pointer to other elements", function()
  test.fails(function() return ffi.new("const int *", "text") end, "cannot convert")
end)

test("a string does not become a number", function()
  test.fails(function() return ffi.new("int", "12") end, "cannot convert")
  test.fails(function() return ffi.new("double", "1.5") end, "cannot convert")
end)

test("a string is copied into a char array that is assigned", function()
  local s = ffi.new("struct toc_all")
  s.name = "abc"
  test.equal(ffi.string(s.name), "abc")
  s.name = "x"
  test.equal(ffi.string(s.name), "x")
end)

test("a table does not become a number or a pointer", function()
  test.fails(function() ffi.new("struct toc_all").i32 = {} end, "cannot convert")
  test.fails(function() ffi.new("struct toc_all").any = {} end, "cannot convert")
end)

test("a function does not become a number", function()
  test.fails(function() return ffi.new("int", print) end, "cannot convert")
end)

test("a function does not become a data pointer", function()
  test.fails(function() return ffi.new("void *", print) end, "cannot convert")
end)

test("a number does not become a pointer without a cast", function()
  test.fails(function() return ffi.new("int *", 16) end, "cannot convert")
end)

test("a Lua file handle becomes a C stream", function()
  test.equal(ffi.C.fileno(io.stdin), 0)
  test.equal(ffi.C.fileno(io.stdout), 1)
end)

test("cdata numbers convert to other numbers", function()
  local s = ffi.new("struct toc_all")
  s.u8 = ffi.new("int64_t", 258)
  test.equal(s.u8, 2)
  s.d = ffi.new("int64_t", 12)
  test.equal(s.d, 12)
  s.i32 = ffi.new("double", -2.5)
  test.equal(s.i32, -2)
  s.f = ffi.new("int", 3)
  test.equal(s.f, 3)
end)

test("a signed integer is extended with its sign", function()
  local s = ffi.new("struct toc_all")
  s.i64 = ffi.new("int8_t", -5)
  test.equal(tostring(s.i64), "-5LL")
end)

test("an unsigned integer is extended with zeros", function()
  local s = ffi.new("struct toc_all")
  s.i64 = ffi.new("uint32_t", 4294967295)
  test.equal(tostring(s.i64), "4294967295LL")
end)

test("a complex number becomes its real part", function()
  local s = ffi.new("struct toc_all")
  s.d = ffi.new("double complex", 2.5, 9)
  test.equal(s.d, 2.5)
end)

test("a real number becomes a complex number without imaginary part", function()
  local c = ffi.new("double complex[1]", 5)
  test.equal(c[0].re, 5)
  test.equal(c[0].im, 0)
end)

test("a complex number is narrowed to another width", function()
  local c = ffi.new("float complex", ffi.new("double complex", 0.5, 0.25))
  test.equal(c.re, 0.5)
  test.equal(c.im, 0.25)
end)

test("an array becomes a pointer to its first element", function()
  local a = ffi.new("int[2]", 11, 22)
  local p = ffi.new("int *", a)
  test.equal(p[1], 22)
  p[0] = 33
  test.equal(a[0], 33)
end)

test("a struct becomes a pointer to itself", function()
  local s = ffi.new("struct toc_pair", 1, 2)
  local p = ffi.new("struct toc_pair *", s)
  p.b = 20
  test.equal(s.b, 20)
end)

test("any data pointer becomes a void pointer and back", function()
  local a = ffi.new("int[1]", 5)
  local p = ffi.new("void *", a)
  local q = ffi.new("int *", p)
  test.equal(q[0], 5)
end)

test("a pointer gains const but does not lose it", function()
  local a = ffi.new("int[1]", 5)
  local p = ffi.new("const int *", a)
  test.equal(p[0], 5)
  test.fails(function() return ffi.new("int *", p) end, "cannot convert")
end)

test("pointers to different types do not convert", function()
  local a = ffi.new("int[1]")
  test.fails(function() return ffi.new("double *", a) end, "cannot convert")
  test.fails(function() return ffi.new("struct toc_pair *", a) end, "cannot convert")
end)

test("a pointer does not become a number without a cast", function()
  local a = ffi.new("int[1]")
  test.fails(function() return ffi.new("intptr_t", ffi.new("int *", a)) end, "cannot convert")
end)

test("a struct does not become another struct", function()
  local s = ffi.new("struct toc_pair")
  test.fails(function() return ffi.new("struct toc_all[1]", { s }) end, "cannot convert")
end)

test.done()
