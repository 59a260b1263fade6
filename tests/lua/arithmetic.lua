-- Arithmetic on 64-bit integers and other cdata numbers.

local ffi = require "ffi"
local test = require "behaviour"

local i64, u64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local max_i64 = -(i64(-2 ^ 63) + 1)
local max_u64 = -u64(1)

local function same(value, text)
  test.equal(tostring(value), text)
end

test("the sum of two signed integers is signed", function()
  same(i64(40) + i64(2), "42LL")
end)

test("a Lua number is turned into a signed integer", function()
  same(i64(40) + 2, "42LL")
  same(2 + i64(40), "42LL")
end)

test("the fraction of a Lua number is dropped", function()
  same(i64(40) + 2.9, "42LL")
  same(i64(40) - 2.9, "38LL")
end)

test("the difference of signed integers may be negative", function()
  same(i64(1) - 3, "-2LL")
end)

test("the product of large integers keeps all bits", function()
  same(i64(3037000499) * 3037000499, "9223372030926249001LL")
end)

test("the sum of unsigned integers is unsigned", function()
  same(u64(2) + u64(3), "5ULL")
  same(u64(2) + 3, "5ULL")
end)

test("an unsigned operand makes the operation unsigned", function()
  same(i64(2) + u64(3), "5ULL")
  same(i64(2) - u64(3), "18446744073709551615ULL")
  same(u64(3) - i64(5), "18446744073709551614ULL")
end)

test("the signed sum wraps around", function()
  same(max_i64, "9223372036854775807LL")
  same(max_i64 + 1, "-9223372036854775808LL")
end)

test("the unsigned sum wraps around", function()
  same(max_u64, "18446744073709551615ULL")
  same(max_u64 + 1, "0ULL")
end)

test("the unsigned product wraps around", function()
  same(max_u64 * max_u64, "1ULL")
end)

test("the unary minus negates a signed integer", function()
  same(-i64(5), "-5LL")
  same(-i64(-5), "5LL")
end)

test("the unary minus of an unsigned integer wraps around", function()
  same(-u64(5), "18446744073709551611ULL")
end)

test("signed division drops the fraction towards zero", function()
  same(i64(7) / 2, "3LL")
  same(i64(-7) / 2, "-3LL")
  same(i64(7) / -2, "-3LL")
end)

test("unsigned division uses the whole range", function()
  same(max_u64 / 2, "9223372036854775807ULL")
  same(max_u64 / u64(10), "1844674407370955161ULL")
end)

test("the signed remainder has the sign of the dividend", function()
  same(i64(7) % 3, "1LL")
  same(i64(-7) % 3, "-1LL")
  same(i64(7) % -3, "1LL")
end)

test("the unsigned remainder uses the whole range", function()
  same(max_u64 % 10, "5ULL")
end)

test("a signed power is computed on integers", function()
  same(i64(2) ^ 10, "1024LL")
  same(i64(-3) ^ 3, "-27LL")
  same(i64(7) ^ 0, "1LL")
  same(i64(3) ^ 39, "4052555153018976267LL")
end)

test("an unsigned power is computed on integers", function()
  same(u64(2) ^ 63, "9223372036854775808ULL")
  same(u64(10) ^ 19, "10000000000000000000ULL")
end)

test("a power beyond the range wraps around", function()
  same(i64(2) ^ 64, "0LL")
end)

test("a negative signed exponent gives an integer", function()
  same(i64(2) ^ -1, "0LL")
  same(i64(1) ^ -5, "1LL")
  same(i64(-1) ^ -1, "-1LL")
end)

test("the result of integer arithmetic is cdata", function()
  test.equal(type(i64(1) + 1), "cdata")
  test.equal(ffi.istype(i64, i64(1) + 1), true)
  test.equal(ffi.istype(u64, u64(1) + 1), true)
  test.equal(ffi.istype(u64, i64(1) + u64(1)), true)
end)

test("an operand keeps its value", function()
  local n = i64(5)
  local m = n + 1
  same(n, "5LL")
  same(m, "6LL")
end)

test("smaller integer objects take part as signed integers", function()
  same(ffi.new("int", 3) + 1, "4LL")
  same(ffi.new("uint8_t", 200) + ffi.new("uint8_t", 100), "300LL")
end)

test("a 32-bit unsigned object takes part as a signed integer", function()
  same(ffi.new("uint32_t", 1) - 2, "-1LL")
end)

test("a floating-point object loses its fraction in arithmetic", function()
  same(ffi.new("double", 1.5) + 1, "2LL")
end)

test("members read from a struct are Lua numbers in arithmetic", function()
  local s = ffi.new("struct { int a; double b; }", 7, 0.5)
  test.equal(s.a / 2, 3.5)
  test.equal(s.a + s.b, 7.5)
end)

test("64-bit members take part as 64-bit integers", function()
  local s = ffi.new("struct { uint64_t a; }", 7)
  same(s.a / 2, "3ULL")
end)

test("a sum is stored in an integer member", function()
  local s = ffi.new("struct { int64_t total; }")
  for i = 1, 10 do s.total = s.total + i end
  same(s.total, "55LL")
end)

test("a factorial beyond the exact range of doubles is exact", function()
  local n = i64(1)
  for i = 2, 20 do n = n * i end
  same(n, "2432902008176640000LL")
end)

test("a Fibonacci number beyond the exact range of doubles is exact", function()
  local a, b = u64(0), u64(1)
  for _ = 1, 93 do a, b = b, a + b end
  same(a, "12200160415121876738ULL")
end)

test("arithmetic with a string is an error", function()
  test.fails(function() return i64(1) + "2" end, "arithmetic")
end)

test("arithmetic with nil, a boolean or a table is an error", function()
  test.fails(function() return i64(1) + nil end, "arithmetic")
  test.fails(function() return i64(1) + true end, "arithmetic")
  test.fails(function() return {} + i64(1) end, "arithmetic")
end)

test("arithmetic on a struct without metamethods is an error", function()
  local s = ffi.new("struct { int a; }")
  test.fails(function() return s + 1 end, "arithmetic")
  test.fails(function() return -s end, "arithmetic")
end)

test("joining a 64-bit integer with a string is an error", function()
  test.fails(function() return "n = " .. i64(1) end, "concatenate")
end)

test.done()
