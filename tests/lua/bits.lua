-- The bit library with 64-bit integers.

local ffi = require "ffi"
local bit = require "bit"
local test = require "behaviour"

local i64, u64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local pattern = u64(0x01234567) * u64(2 ^ 32) + u64(0x89abcdef)

local function same(value, text)
  test.equal(tostring(value), text)
end

test("Lua numbers give signed 32-bit numbers", function()
  test.equal(bit.band(0xff00, 0x0ff0), 0x0f00)
  test.equal(bit.bnot(0), -1)
  test.equal(bit.bor(0x80000000, 0), -2147483648)
end)

test("band keeps all bits of 64-bit integers", function()
  same(bit.band(u64(2 ^ 40) + 5, u64(2 ^ 40) + 3), "1099511627777ULL")
end)

test("bor keeps all bits of 64-bit integers", function()
  same(bit.bor(u64(2 ^ 40), u64(2 ^ 50)), "1126999418470400ULL")
end)

test("bxor keeps all bits of 64-bit integers", function()
  same(bit.bxor(pattern, pattern), "0ULL")
  same(bit.bxor(i64(-1), i64(2 ^ 40)), "-1099511627777LL")
end)

test("bnot inverts all 64 bits", function()
  same(bit.bnot(i64(0)), "-1LL")
  same(bit.bnot(u64(0)), "18446744073709551615ULL")
end)

test("one 64-bit operand makes the whole operation 64-bit", function()
  same(bit.bor(1, i64(2 ^ 40)), "1099511627777LL")
  same(bit.band(-1, i64(2 ^ 40)), "1099511627776LL")
end)

test("an unsigned operand makes the result unsigned", function()
  test.equal(ffi.istype(u64, bit.bor(i64(1), u64(2))), true)
  test.equal(ffi.istype(i64, bit.bor(i64(1), i64(2))), true)
end)

test("more than two operands are combined", function()
  same(bit.bor(i64(1), 2, u64(4), 8), "15ULL")
  same(bit.band(i64(15), 7, 3), "3LL")
end)

test("lshift moves bits beyond the lower half", function()
  same(bit.lshift(i64(1), 40), "1099511627776LL")
  same(bit.lshift(u64(1), 63), "9223372036854775808ULL")
end)

test("lshift of a Lua number stays within 32 bits", function()
  test.equal(bit.lshift(1, 31), -2147483648)
end)

test("rshift fills up with zeros", function()
  same(bit.rshift(i64(-1), 63), "1LL")
  same(bit.rshift(u64(2 ^ 63), 62), "2ULL")
end)

test("arshift fills up with the sign", function()
  same(bit.arshift(i64(-16), 2), "-4LL")
  same(bit.arshift(i64(-1), 63), "-1LL")
end)

test("only the lower six bits of a 64-bit shift count are used", function()
  same(bit.lshift(i64(1), 65), "2LL")
end)

test("a shift count may be a 64-bit integer", function()
  same(bit.lshift(i64(1), i64(33)), "8589934592LL")
end)

test("rol rotates 64 bits to the left", function()
  same(bit.rol(u64(2 ^ 63), 1), "1ULL")
  same(bit.rol(pattern, 64), tostring(pattern))
end)

test("ror rotates 64 bits to the right", function()
  same(bit.ror(u64(1), 1), "9223372036854775808ULL")
end)

test("bswap reverses eight bytes", function()
  test.equal(bit.tohex(bit.bswap(pattern)), "efcdab8967452301")
end)

test("bswap of a Lua number reverses four bytes", function()
  test.equal(bit.tohex(bit.bswap(0x12345678)), "78563412")
end)

test("tohex writes sixteen digits of a 64-bit integer", function()
  test.equal(bit.tohex(pattern), "0123456789abcdef")
  test.equal(bit.tohex(i64(-1)), "ffffffffffffffff")
end)

test("tohex takes a number of digits", function()
  test.equal(bit.tohex(pattern, 4), "cdef")
  test.equal(bit.tohex(pattern, -4), "CDEF")
end)

test("tobit of a 64-bit integer keeps its lower 32 bits as a number", function()
  test.equal(bit.tobit(u64(2 ^ 32) + 5), 5)
  test.equal(bit.tobit(u64(0xffffffff)), -1)
end)

test("an enum object is an operand", function()
  ffi.cdef "enum bit_flags { BIT_ONE = 1, BIT_FOUR = 4 };"
  local mask = bit.bor(ffi.new("enum bit_flags", 1), ffi.new("enum bit_flags", 4))
  test.equal(tonumber(mask), 5)
end)

test("a pointer or a struct is no operand", function()
  test.fails(function() return bit.band(ffi.new("int *"), 1) end)
  test.fails(function() return bit.bnot(ffi.new("struct { int a; }")) end)
end)

test("a 64-bit hash is computed with shifts and products", function()
  local hash = bit.bxor(u64(0xcbf29ce4) * u64(2 ^ 32) + u64(0x84222325), 0)
  local prime = u64(2 ^ 40) + u64(0x1b3)
  for c in ("hello"):gmatch(".") do
    hash = bit.bxor(hash, c:byte()) * prime
  end
  test.equal(bit.tohex(hash), "a430d84680aabd0b")
end)

test.done()
