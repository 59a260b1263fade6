-- ffi.typeof, ffi.istype, ffi.cast, ffi.abi, ffi.os, ffi.arch.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct typ_point { int x, y; };
struct typ_other { int x, y; };
typedef struct typ_point typ_alias;
enum typ_enum { TYP_ZERO, TYP_ONE };
int abs(int);
]]

test("the module holds every documented function", function()
  for _, name in ipairs { "cdef", "load", "new", "typeof", "cast", "metatype", "gc", "sizeof", "alignof",
    "offsetof", "istype", "errno", "string", "copy", "fill", "abi" } do
    test.equal(type(ffi[name]), "function")
  end
end)

test("the operating system and the processor are named", function()
  local systems = { Windows = true, Linux = true, OSX = true, BSD = true, POSIX = true, Other = true }
  test.equal(systems[ffi.os], true)
  test.equal(type(ffi.arch), "string")
  test.equal(#ffi.arch > 0, true)
end)

test("the address width is told by ffi.abi", function()
  test.equal(ffi.abi("64bit"), ffi.sizeof("void *") == 8)
  test.equal(ffi.abi("32bit"), ffi.sizeof("void *") == 4)
end)

test("the byte order is told by ffi.abi", function()
  local n = ffi.new("uint16_t[1]", 1)
  local little = ffi.cast("uint8_t *", n)[0] == 1
  test.equal(ffi.abi("le"), little)
  test.equal(ffi.abi("be"), not little)
end)

test("an unknown parameter of ffi.abi is false", function()
  test.equal(ffi.abi("typ_nothing"), false)
end)

test("ffi.typeof makes a ctype of a string", function()
  local ct = ffi.typeof("struct typ_point")
  test.equal(type(ct), "cdata")
  test.equal(ct(1, 2).y, 2)
end)

test("ffi.typeof of an object is its type", function()
  test.equal(ffi.typeof(ffi.new("int[3]")) == ffi.typeof("int[3]"), true)
  test.equal(ffi.typeof(ffi.new("struct typ_point")) == ffi.typeof("struct typ_point"), true)
end)

test("ffi.typeof of a ctype is that type", function()
  local ct = ffi.typeof("int *")
  test.equal(ffi.typeof(ct) == ct, true)
end)

test("every struct without a tag is a new type", function()
  test.equal(ffi.typeof("struct { int a; }") == ffi.typeof("struct { int a; }"), false)
end)

test("ffi.typeof needs a type", function()
  test.fails(function() return ffi.typeof(5) end, "bad argument")
  test.fails(function() return ffi.typeof("typ_nothing") end, "typ_nothing")
end)

test("ffi.istype accepts an object of the type", function()
  test.equal(ffi.istype("int", ffi.new("int")), true)
  test.equal(ffi.istype("struct typ_point", ffi.new("struct typ_point")), true)
  test.equal(ffi.istype("int[3]", ffi.new("int[3]")), true)
end)

test("ffi.istype refuses other types", function()
  test.equal(ffi.istype("int", ffi.new("short")), false)
  test.equal(ffi.istype("unsigned", ffi.new("int")), false)
  test.equal(ffi.istype("struct typ_other", ffi.new("struct typ_point")), false)
  test.equal(ffi.istype("int[3]", ffi.new("int[4]")), false)
end)

test("ffi.istype looks through typedefs", function()
  test.equal(ffi.istype("typ_alias", ffi.new("struct typ_point")), true)
end)

test("ffi.istype ignores const and volatile", function()
  test.equal(ffi.istype("const int", ffi.new("int")), true)
  test.equal(ffi.istype("int", ffi.new("volatile int")), true)
  test.equal(ffi.istype("const int *", ffi.new("int *")), true)
end)

test("ffi.istype takes integers of the same width and sign for one type", function()
  test.equal(ffi.istype("int32_t", ffi.new("int")), true)
  test.equal(ffi.istype("long long", ffi.new("int64_t")), true)
end)

test("ffi.istype accepts a pointer to a struct for the struct", function()
  local s = ffi.new("struct typ_point")
  test.equal(ffi.istype("struct typ_point", ffi.cast("struct typ_point *", s)), true)
end)

test("ffi.istype does not take an array for a pointer", function()
  test.equal(ffi.istype("int *", ffi.new("int[3]")), false)
end)

test("ffi.istype does not take one pointer for another", function()
  test.equal(ffi.istype("void *", ffi.new("int *")), false)
end)

test("ffi.istype is false for Lua values", function()
  test.equal(ffi.istype("int", 5), false)
  test.equal(ffi.istype("const char *", "text"), false)
  test.equal(ffi.istype("struct typ_point", {}), false)
  test.equal(ffi.istype("int *", nil), false)
end)

test("ffi.istype accepts a ctype object", function()
  local ct = ffi.typeof("struct typ_point")
  test.equal(ffi.istype(ct, ct()), true)
end)

test("ffi.cast of a number is a cdata object of the type", function()
  local n = ffi.cast("int16_t", 5)
  test.equal(type(n), "cdata")
  test.equal(ffi.istype("int16_t", n), true)
end)

test("ffi.cast narrows integers", function()
  test.equal(tonumber(ffi.cast("uint8_t", 300)), 44)
  test.equal(tonumber(ffi.cast("int8_t", 200)), -56)
  test.equal(tonumber(ffi.cast("uint16_t", -1)), 65535)
end)

test("ffi.cast changes the sign of an integer", function()
  test.equal(tonumber(ffi.cast("uint32_t", ffi.new("int", -1))), 4294967295)
  test.equal(tostring(ffi.cast("uint64_t", ffi.new("int64_t", -1))), "18446744073709551615ULL")
  test.equal(tostring(ffi.cast("int64_t", -ffi.new("uint64_t", 1))), "-1LL")
end)

test("ffi.cast keeps the low bits of a 64-bit integer", function()
  local n = ffi.new("int64_t", 2 ^ 40) + 7
  test.equal(tonumber(ffi.cast("int32_t", n)), 7)
end)

test("ffi.cast drops the fraction of a number", function()
  test.equal(tonumber(ffi.cast("int", 2.9)), 2)
  test.equal(tonumber(ffi.cast("int", -2.9)), -2)
end)

test("ffi.cast rounds a number to a float", function()
  test.equal(tonumber(ffi.cast("float", 0.1)) == 0.1, false)
  test.near(tonumber(ffi.cast("float", 0.1)), 0.1, 1e-7)
end)

test("ffi.cast of a bool is a bool object", function()
  test.equal(tonumber(ffi.cast("bool", 5)), 1)
  test.equal(tonumber(ffi.cast("bool", 0)), 0)
end)

test("ffi.cast changes one pointer type into any other", function()
  local a = ffi.new("float[1]", 1)
  test.equal(ffi.cast("uint32_t *", a)[0], 0x3f800000)
end)

test("ffi.cast leads from one struct to another", function()
  local s = ffi.new("struct typ_point", 3, 4)
  local p = ffi.cast("struct typ_other *", s)
  test.equal(p.y, 4)
end)

test("ffi.cast accepts a string for a pointer to constant characters", function()
  local text = "cast"
  test.equal(ffi.string(ffi.cast("const char *", text)), "cast")
end)

test("ffi.cast of nil is NULL", function()
  test.equal(ffi.cast("int *", nil) == nil, true)
end)

test("ffi.cast of a function pointer is an address", function()
  local address = ffi.cast("intptr_t", ffi.cast("void *", ffi.C.abs))
  local f = ffi.cast("int (*)(int)", address)
  test.equal(f(-3), 3)
end)

test("ffi.cast to a struct or an array is an error", function()
  test.fails(function() return ffi.cast("struct typ_point", 1) end, "invalid C type")
  test.fails(function() return ffi.cast("int[2]", 1) end, "invalid C type")
end)

test("ffi.cast of a table is an error", function()
  test.fails(function() return ffi.cast("int", {}) end, "cannot convert")
end)

test("ffi.cast accepts the name of an enum constant", function()
  test.equal(tonumber(ffi.cast("enum typ_enum", "TYP_ONE")), 1)
end)

test.done()
