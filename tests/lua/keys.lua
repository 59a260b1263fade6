-- Cdata as keys of Lua tables.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef "struct key_point { int x, y; };"

local i64 = ffi.typeof("int64_t")

test("an object is found again as a key", function()
  local t, s = {}, ffi.new("struct key_point")
  t[s] = "found"
  test.equal(t[s], "found")
end)

test("equal integers are different keys", function()
  local t = {}
  t[i64(1)] = "first"
  test.equal(t[i64(1)], nil)
end)

test("the same integer object is one key", function()
  local t, n = {}, i64(1)
  t[n] = "first"
  t[n] = "second"
  test.equal(t[n], "second")
  local count = 0
  for _ in pairs(t) do count = count + 1 end
  test.equal(count, 1)
end)

test("a Lua number and an integer object are different keys", function()
  local t = {}
  t[1] = "number"
  test.equal(t[i64(1)], nil)
end)

test("equal pointers are different keys", function()
  local a, t = ffi.new("int[1]"), {}
  t[ffi.cast("int *", a)] = true
  test.equal(t[ffi.cast("int *", a)], nil)
end)

test("two NULL pointers are different keys", function()
  local t = {}
  t[ffi.new("void *")] = true
  test.equal(t[ffi.new("void *")], nil)
end)

test("a NULL pointer is a key although it equals nil", function()
  local t, null = {}, ffi.new("void *")
  t[null] = "null"
  test.equal(t[null], "null")
end)

test("two references to one struct are different keys", function()
  local o, t = ffi.new("struct { struct key_point p; }"), {}
  t[o.p] = true
  test.equal(t[o.p], nil)
end)

test("tonumber makes a key of a small 64-bit integer", function()
  local t = {}
  t[tonumber(i64(7))] = "seven"
  test.equal(t[tonumber(i64(7))], "seven")
  test.equal(t[7], "seven")
end)

test("tostring makes a key of a large 64-bit integer", function()
  local t, n = {}, i64(2 ^ 53)
  t[tostring(n)] = "even"
  t[tostring(n + 1)] = "odd"
  test.equal(t[tostring(i64(2 ^ 53) + 1)], "odd")
  test.equal(t[tostring(i64(2 ^ 53))], "even")
end)

test("the address as a number makes a key of a pointer", function()
  local a, t = ffi.new("int[4]"), {}
  local function key(p) return tonumber(ffi.cast("intptr_t", ffi.cast("void *", p))) end
  t[key(a + 1)] = "one"
  t[key(a + 2)] = "two"
  test.equal(t[key(a + 1)], "one")
  test.equal(t[key(a + 2)], "two")
  test.equal(t[key(a + 3)], nil)
end)

test("objects are the values of a table", function()
  local t = { ffi.new("struct key_point", 1, 2), i64(5) }
  test.equal(t[1].y, 2)
  test.equal(tostring(t[2]), "5LL")
end)

test("objects with the same contents are different keys", function()
  local t = {}
  local a, b = ffi.new("struct key_point", 1, 2), ffi.new("struct key_point", 1, 2)
  t[a], t[b] = "a", "b"
  test.equal(t[a], "a")
  test.equal(t[b], "b")
end)

test("a ctype object is a key", function()
  local t, int = {}, ffi.typeof("int")
  t[int] = "int"
  test.equal(t[int], "int")
end)

test("a weak table drops an object that is not used elsewhere", function()
  local t = setmetatable({}, { __mode = "k" })
  local thread = coroutine.create(function() t[ffi.new("struct key_point")] = true end)
  coroutine.resume(thread)
  thread = nil
  for _ = 1, 4 do collectgarbage() end
  test.equal(next(t), nil)
end)

test.done()
