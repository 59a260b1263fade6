-- Sizes, alignments and offsets of types: sizeof, alignof, offsetof, attributes.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct lay_padded { char a; int b; char c; };
struct lay_wide { char a; double b; };
struct lay_packed { char a; int b; char c; } __attribute__((packed));
struct lay_part { char a; int b __attribute__((packed)); };
struct lay_member { char a; int b __attribute__((aligned(16))); };
struct lay_aligned { int a; } __attribute__((aligned(32)));
struct lay_nested { char a; struct lay_padded b; struct { short c, d; }; union { int e; double f; }; };
union lay_union { char a; int b; double c; char d[9]; };
struct lay_opaque;
struct lay_tail { int count; double items[?]; };
struct lay_flexible { int count; short items[]; };
struct lay_empty { };
#pragma pack(push, 1)
struct lay_pragma { char a; int b; };
#pragma pack(pop)
struct lay_unpragma { char a; int b; };
]]

test("the basic types have their C sizes", function()
  test.equal(ffi.sizeof("char"), 1)
  test.equal(ffi.sizeof("short"), 2)
  test.equal(ffi.sizeof("int"), 4)
  test.equal(ffi.sizeof("long long"), 8)
  test.equal(ffi.sizeof("float"), 4)
  test.equal(ffi.sizeof("double"), 8)
end)

test("a pointer is as large as an address", function()
  test.equal(ffi.sizeof("void *"), ffi.abi("64bit") and 8 or 4)
  test.equal(ffi.sizeof("int (*)(int)"), ffi.sizeof("void *"))
end)

test("the size of an object is the size of its type", function()
  test.equal(ffi.sizeof(ffi.new("int[5]")), 20)
  test.equal(ffi.sizeof(ffi.new("struct lay_padded")), 12)
  test.equal(ffi.sizeof(ffi.typeof("short[3]")), 6)
end)

test("the size of a pointer object is that of the pointer", function()
  local a = ffi.new("int[5]")
  test.equal(ffi.sizeof(ffi.cast("int *", a)), ffi.sizeof("void *"))
end)

test("a struct is padded to the alignment of its members", function()
  test.equal(ffi.sizeof("struct lay_padded"), 12)
  test.equal(ffi.alignof("struct lay_padded"), 4)
end)

test("a union is as large as its largest member and padded", function()
  test.equal(ffi.sizeof("union lay_union"), 16)
  test.equal(ffi.alignof("union lay_union"), 8)
end)

test("an array has the alignment of its elements", function()
  test.equal(ffi.alignof("short[5]"), 2)
  test.equal(ffi.alignof("double[5]"), 8)
end)

test("alignof accepts an object", function()
  test.equal(ffi.alignof(ffi.new("int[3]")), 4)
end)

test("offsetof gives the offset of each member", function()
  test.equal(ffi.offsetof("struct lay_padded", "a"), 0)
  test.equal(ffi.offsetof("struct lay_padded", "b"), 4)
  test.equal(ffi.offsetof("struct lay_padded", "c"), 8)
  test.equal(ffi.offsetof("struct lay_wide", "b"), 8)
end)

test("offsetof of an ordinary member is a single value", function()
  test.equal(select("#", ffi.offsetof("struct lay_padded", "b")), 1)
end)

test("offsetof of an unknown member gives nothing", function()
  test.equal((ffi.offsetof("struct lay_padded", "nothing")), nil)
end)

test("offsetof finds members of transparent structs and unions", function()
  test.equal(ffi.offsetof("struct lay_nested", "b"), 4)
  test.equal(ffi.offsetof("struct lay_nested", "d"), 18)
  test.equal(ffi.offsetof("struct lay_nested", "e"), 24)
  test.equal(ffi.offsetof("struct lay_nested", "f"), 24)
end)

test("offsetof accepts a ctype object", function()
  test.equal(ffi.offsetof(ffi.typeof("struct lay_wide"), "b"), 8)
end)

test("every member of a union is at its beginning", function()
  for name in ("abcd"):gmatch(".") do
    test.equal(ffi.offsetof("union lay_union", name), 0)
  end
end)

test("the packed attribute of a struct removes the padding", function()
  test.equal(ffi.sizeof("struct lay_packed"), 6)
  test.equal(ffi.offsetof("struct lay_packed", "b"), 1)
  test.equal(ffi.alignof("struct lay_packed"), 1)
end)

test("members of a packed struct are read and written", function()
  local s = ffi.new("struct lay_packed", 1, 0x12345678, 3)
  test.equal(s.b, 0x12345678)
  s.b = -2
  test.equal(s.a, 1)
  test.equal(s.b, -2)
  test.equal(s.c, 3)
end)

test("the packed attribute of a member removes the padding before it", function()
  test.equal(ffi.offsetof("struct lay_part", "b"), 1)
  test.equal(ffi.sizeof("struct lay_part"), 5)
end)

test("the aligned attribute of a member moves it", function()
  test.equal(ffi.offsetof("struct lay_member", "b"), 16)
  test.equal(ffi.sizeof("struct lay_member"), 32)
  test.equal(ffi.alignof("struct lay_member"), 16)
end)

test("the aligned attribute of a struct rounds its size up", function()
  test.equal(ffi.sizeof("struct lay_aligned"), 32)
  test.equal(ffi.alignof("struct lay_aligned"), 32)
end)

test("an object of an aligned type is at an aligned address", function()
  local s = ffi.new("struct lay_aligned")
  local address = ffi.cast("uintptr_t", ffi.cast("void *", s))
  test.equal(tonumber(address % 32), 0)
end)

test("pragma pack holds until it is popped", function()
  test.equal(ffi.sizeof("struct lay_pragma"), 5)
  test.equal(ffi.sizeof("struct lay_unpragma"), 8)
end)

test("void has no size", function()
  test.equal((ffi.sizeof("void")), nil)
end)

test("an incomplete struct has no size", function()
  test.equal((ffi.sizeof("struct lay_opaque")), nil)
end)

test("the size of a variable-length array type needs a number of elements", function()
  test.equal(ffi.sizeof("int[?]", 7), 28)
  test.equal(ffi.sizeof("int[?]", 0), 0)
end)

test("the size of a variable-length struct counts its elements", function()
  test.equal(ffi.sizeof("struct lay_tail", 3), 8 + 24)
  test.equal(ffi.sizeof("struct lay_tail", 0), 8)
  test.equal(ffi.sizeof(ffi.new("struct lay_tail", 2)), 24)
end)

test("the last member of a variable-length struct has an offset", function()
  test.equal(ffi.offsetof("struct lay_tail", "items"), 8)
end)

test("an array without a size at the end of a struct takes no space", function()
  test.equal(ffi.sizeof("struct lay_flexible"), 4)
  test.equal(ffi.offsetof("struct lay_flexible", "items"), 4)
end)

test("a struct without members has no bytes", function()
  test.equal(ffi.sizeof("struct lay_empty"), 0)
end)

test("the size of an enum is that of an int", function()
  ffi.cdef "enum lay_enum { LAY_ONE = 1 };"
  test.equal(ffi.sizeof("enum lay_enum"), 4)
end)

test.done()
