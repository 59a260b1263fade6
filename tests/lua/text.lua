-- tostring and type of cdata and ctypes.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct txt_point { int x, y; };
union txt_value { int i; float f; };
enum txt_colour { TXT_RED, TXT_BLUE = 3 };
int abs(int);
]]

local function named(type_name, wanted)
  test.equal(tostring(ffi.typeof(type_name)), wanted)
end

test("a signed 64-bit integer ends in LL", function()
  test.equal(tostring(ffi.new("int64_t", 42)), "42LL")
  test.equal(tostring(ffi.new("int64_t", -42)), "-42LL")
end)

test("an unsigned 64-bit integer ends in ULL", function()
  test.equal(tostring(ffi.new("uint64_t", 42)), "42ULL")
  test.equal(tostring(-ffi.new("uint64_t", 1)), "18446744073709551615ULL")
end)

test("an integer type is written in angle brackets", function()
  named("int", "ctype<int>")
  named("short", "ctype<short>")
  named("unsigned int", "ctype<unsigned int>")
  named("unsigned", "ctype<unsigned int>")
end)

test("fixed-width types are written as their C types", function()
  named("uint8_t", "ctype<unsigned char>")
  named("int16_t", "ctype<short>")
  named("uint32_t", "ctype<unsigned int>")
end)

test("64-bit types are written by their width", function()
  named("long long", "ctype<int64_t>")
  named("unsigned long long", "ctype<uint64_t>")
end)

test("floating-point and bool types are written", function()
  named("double", "ctype<double>")
  named("float", "ctype<float>")
  named("bool", "ctype<bool>")
  named("void", "ctype<void>")
end)

test("complex types are written", function()
  named("double complex", "ctype<complex>")
  named("float complex", "ctype<complex float>")
end)

test("a pointer type has a space before the star", function()
  named("int*", "ctype<int *>")
  named("char**", "ctype<char **>")
  named("void *", "ctype<void *>")
end)

test("qualifiers are written", function()
  named("const char *", "ctype<const char *>")
  named("const struct txt_point *", "ctype<const struct txt_point *>")
  named("int *const", "ctype<int *const>")
end)

test("array types have their sizes", function()
  named("int[3]", "ctype<int [3]>")
  named("int[2][3]", "ctype<int [2][3]>")
  named("int[?]", "ctype<int [?]>")
  named("int *[4]", "ctype<int *[4]>")
end)

test("a pointer to an array has parentheses", function()
  named("int (*)[3]", "ctype<int (*)[3]>")
end)

test("tagged types are written with their tags", function()
  named("struct txt_point", "ctype<struct txt_point>")
  named("union txt_value", "ctype<union txt_value>")
  named("enum txt_colour", "ctype<enum txt_colour>")
end)

test("the parameters of a function pointer are left out", function()
  named("int (*)(int, double)", "ctype<int (*)()>")
end)

test("a typedef is written as its type", function()
  ffi.cdef "typedef struct txt_point txt_alias;"
  named("txt_alias", "ctype<struct txt_point>")
end)

test("a struct without a tag is written with a number", function()
  test.equal(tostring(ffi.typeof("struct { int a; }")):match("^ctype<struct %d+>$") ~= nil, true)
end)

test("a NULL pointer is written as NULL", function()
  test.equal(tostring(ffi.new("int *")), "cdata<int *>: NULL")
  test.equal(tostring(ffi.new("void *")), "cdata<void *>: NULL")
end)

test("a pointer is written with its address", function()
  local a = ffi.new("int[1]")
  test.equal(tostring(ffi.cast("int *", a)):match("^cdata<int %*>: 0x%x+$") ~= nil, true)
end)

test("an address is written in hexadecimal", function()
  test.equal(tostring(ffi.cast("char *", 0x12345678)), "cdata<char *>: 0x12345678")
end)

test("structs and arrays are written with their addresses", function()
  test.equal(tostring(ffi.new("struct txt_point")):match("^cdata<struct txt_point>: 0x%x+$") ~= nil, true)
  test.equal(tostring(ffi.new("int[3]")):match("^cdata<int %[3%]>: 0x%x+$") ~= nil, true)
end)

test("a small number is written with its type and address", function()
  test.equal(tostring(ffi.new("int", 5)):match("^cdata<int>: 0x%x+$") ~= nil, true)
end)

test("a reference is written with an ampersand", function()
  local o = ffi.new("struct { struct txt_point p; }")
  test.equal(tostring(o.p):match("^cdata<struct txt_point &>: 0x%x+$") ~= nil, true)
end)

test("a complex number is written as a sum", function()
  test.equal(tostring(ffi.new("double complex", 1, 2)), "1+2i")
  test.equal(tostring(ffi.new("double complex", 1.5, -2)), "1.5-2i")
end)

test("an enum object is written with its value", function()
  test.equal(tostring(ffi.new("enum txt_colour", "TXT_BLUE")), "cdata<enum txt_colour>: 3")
end)

test("a function is written with its type", function()
  test.equal(tostring(ffi.C.abs):match("^cdata<int %(%)>: 0x%x+$") ~= nil, true)
end)

test("objects and ctypes have the type cdata", function()
  test.equal(type(ffi.new("int")), "cdata")
  test.equal(type(ffi.typeof("int")), "cdata")
  test.equal(type(ffi.C.abs), "cdata")
end)

test.done()
