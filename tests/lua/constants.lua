-- Enums and static constants.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
enum con_colour { CON_RED, CON_GREEN = 5, CON_BLUE };
typedef enum { CON_OFF, CON_ON } con_switch;
enum { CON_LOOSE = 77, CON_SUM = CON_LOOSE + 3, CON_MINUS = -12 };
enum con_unsigned { CON_TOP = 0x80000000u };
static const int CON_ANSWER = 42;
static const int CON_NEGATIVE = -7;
static const unsigned int CON_MASK = 0xfffffff0u;
struct con_holder { static const int SIZE = 4; int items[4]; enum con_colour colour; };
]]

test("enum constants count on from the last value", function()
  test.equal(ffi.C.CON_RED, 0)
  test.equal(ffi.C.CON_GREEN, 5)
  test.equal(ffi.C.CON_BLUE, 6)
end)

test("constants of an enum without a tag are found in the namespace", function()
  test.equal(ffi.C.CON_LOOSE, 77)
  test.equal(ffi.C.CON_ON, 1)
end)

test("an enum constant may be computed from others", function()
  test.equal(ffi.C.CON_SUM, 80)
end)

test("an enum constant may be negative", function()
  test.equal(ffi.C.CON_MINUS, -12)
end)

test("an enum constant may be beyond the signed range", function()
  test.equal(ffi.C.CON_TOP, 2147483648)
end)

test("an enum constant is a Lua number", function()
  test.equal(type(ffi.C.CON_BLUE), "number")
end)

test("static const integers are found in the namespace", function()
  test.equal(ffi.C.CON_ANSWER, 42)
  test.equal(ffi.C.CON_NEGATIVE, -7)
end)

test("an unsigned static const is not negative", function()
  test.equal(ffi.C.CON_MASK, 4294967280)
end)

test("constants cannot be assigned", function()
  test.fails(function() ffi.C.CON_ANSWER = 1 end)
  test.fails(function() ffi.C.CON_RED = 1 end)
  test.equal(ffi.C.CON_ANSWER, 42)
end)

test("a static const within a struct is read from the ctype", function()
  test.equal(ffi.typeof("struct con_holder").SIZE, 4)
end)

test("a static const within a struct is read from an object", function()
  local s = ffi.new("struct con_holder")
  test.equal(s.SIZE, 4)
end)

test("an unknown name on a ctype is an error", function()
  test.fails(function() return ffi.typeof("struct con_holder").NOTHING end, "no member named")
end)

test("an enum object is made from the name of a constant", function()
  test.equal(tonumber(ffi.new("enum con_colour", "CON_BLUE")), 6)
end)

test("an enum object is made from a number", function()
  test.equal(tonumber(ffi.new("enum con_colour", 5)), 5)
end)

test("an enum accepts numbers that are no constants", function()
  test.equal(tonumber(ffi.new("enum con_colour", 99)), 99)
end)

test("an enum member is read as a cdata object", function()
  local s = ffi.new("struct con_holder")
  s.colour = "CON_GREEN"
  test.equal(type(s.colour), "cdata")
  test.equal(tonumber(s.colour), 5)
end)

test("an enum member is assigned from a name or a number", function()
  local s = ffi.new("struct con_holder")
  s.colour = "CON_BLUE"
  test.equal(tonumber(s.colour), 6)
  s.colour = 5
  test.equal(tonumber(s.colour), 5)
end)

test("an unknown constant name is an error", function()
  test.fails(function() return ffi.new("enum con_colour", "CON_PINK") end, "cannot convert")
end)

test("a constant of another enum is an error", function()
  test.fails(function() return ffi.new("enum con_colour", "CON_ON") end, "cannot convert")
end)

test("an enum object equals the name of its constant", function()
  local e = ffi.new("enum con_colour", 5)
  test.equal(e == "CON_GREEN", true)
  test.equal(e == "CON_BLUE", false)
end)

test("an enum object does not equal an unknown name", function()
  test.equal(ffi.new("enum con_colour", 5) == "CON_PINK", false)
end)

test("an enum object equals its number", function()
  test.equal(ffi.new("enum con_colour", 5) == 5, true)
end)

test("an enum object is ordered against a name", function()
  local e = ffi.new("enum con_colour", 5)
  test.equal(e < "CON_BLUE", true)
  test.equal(e <= "CON_RED", false)
end)

test("arithmetic on an enum object gives a 64-bit integer", function()
  local n = ffi.new("enum con_colour", 5) + 1
  test.equal(ffi.istype("int64_t", n), true)
  test.equal(tonumber(n), 6)
end)

test("an array of enums is initialised by names", function()
  local a = ffi.new("con_switch[3]", "CON_ON", "CON_OFF", "CON_ON")
  test.equal(tonumber(a[0]), 1)
  test.equal(tonumber(a[1]), 0)
  test.equal(tonumber(a[2]), 1)
end)

test("a cast makes an enum of a number", function()
  test.equal(ffi.cast("enum con_colour", 6) == "CON_BLUE", true)
end)

test.done()
