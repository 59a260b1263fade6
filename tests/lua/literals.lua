-- Literals of 64-bit integers and imaginary numbers.

local ffi = require "ffi"
local test = require "behaviour"

local function same(value, text)
  test.equal(tostring(value), text)
end

test("LL makes a signed 64-bit integer", function()
  test.equal(ffi.istype("int64_t", 42LL), true)
  same(42LL, "42LL")
end)

test("ULL makes an unsigned 64-bit integer", function()
  test.equal(ffi.istype("uint64_t", 42ULL), true)
  same(42ULL, "42ULL")
end)

test("the suffixes are accepted in any case", function()
  same(1ll, "1LL")
  same(1Ll, "1LL")
  same(1ull, "1ULL")
  same(1uLL, "1ULL")
end)

test("a hexadecimal literal takes a suffix", function()
  same(0x10ULL, "16ULL")
  same(0xffLL, "255LL")
end)

test("the largest literals are exact", function()
  same(9223372036854775807LL, "9223372036854775807LL")
  same(18446744073709551615ULL, "18446744073709551615ULL")
  same(0xffffffffffffffffULL, "18446744073709551615ULL")
end)

test("a literal beyond the exact range of doubles is exact", function()
  same(9007199254740993LL, "9007199254740993LL")
end)

test("a minus negates a literal", function()
  same(-1LL, "-1LL")
  same(-1ULL, "18446744073709551615ULL")
end)

test("the smallest signed integer is written as a negated literal", function()
  same(-9223372036854775807LL - 1, "-9223372036854775808LL")
  same(-0x8000000000000000LL, "-9223372036854775808LL")
end)

test("literals take part in arithmetic", function()
  same(1LL + 2LL, "3LL")
  same(7ULL / 2, "3ULL")
  same(2LL ^ 62, "4611686018427387904LL")
  same(5LL - 7ULL, "18446744073709551614ULL")
end)

test("literals are compared", function()
  test.equal(1LL == 1ULL, true)
  test.equal(1LL == 1, true)
  test.equal(1LL < 2LL, true)
  test.equal(-1LL < 1LL, true)
  test.equal(-1LL < 1ULL, false)
end)

test("a literal is assigned to a member", function()
  local s = ffi.new("struct { int64_t a; uint64_t b; int c; }")
  s.a, s.b, s.c = -5LL, 0x8000000000000000ULL, 7LL
  test.equal(s.a == -5, true)
  same(s.b, "9223372036854775808ULL")
  test.equal(s.c, 7)
end)

test("a literal is an index", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  test.equal(a[2LL], 30)
  test.equal(a[1ULL], 20)
end)

test("a literal has the type cdata", function()
  test.equal(type(1LL), "cdata")
  test.equal(type(1ULL), "cdata")
  test.equal(type(1i), "cdata")
end)

test("the suffix i makes an imaginary number", function()
  local z = 12i
  test.equal(ffi.istype("double complex", z), true)
  test.equal(z.re, 0)
  test.equal(z.im, 12)
end)

test("an imaginary literal may have a fraction and an exponent", function()
  test.equal((12.5i).im, 12.5)
  test.equal((2e3i).im, 2000)
  test.equal((0x10i).im, 16)
end)

test("an imaginary literal in upper case is the same", function()
  test.equal((3I).im, 3)
end)

test("literals are read from strings of Lua code", function()
  same(assert(loadstring("return 0x7fffffffffffffffLL"))(), "9223372036854775807LL")
end)

test("each evaluation of a literal compares equal", function()
  local function literal() return 99LL end
  test.equal(literal() == literal(), true)
end)

test.done()
