-- Callbacks: Lua functions called from C.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
typedef int (*clb_compare)(const void *, const void *);
typedef int (*clb_unary)(int);
struct clb_item { int key; double value; };
struct clb_ops { clb_unary change; void (*tell)(int); };
enum clb_enum { CLB_ZERO, CLB_ONE, CLB_TWO };
void qsort(void *, size_t, size_t, clb_compare);
void *bsearch(const void *, const void *, size_t, size_t, clb_compare);
int abs(int);
]]

local C = ffi.C

local function compare_ints(a, b)
  local x, y = ffi.cast("const int *", a)[0], ffi.cast("const int *", b)[0]
  return x < y and -1 or x > y and 1 or 0
end

local function contents(array, count)
  local out = {}
  for i = 0, count - 1 do out[i + 1] = tostring(array[i]) end
  return table.concat(out, " ")
end

test("a cast makes a C function of a Lua function", function()
  local cb = ffi.cast("clb_unary", function(n) return n + 1 end)
  test.equal(type(cb), "cdata")
  test.equal(cb(41), 42)
  cb:free()
end)

test("a callback sorts an array through qsort", function()
  local cb = ffi.cast("clb_compare", compare_ints)
  local a = ffi.new("int[8]", 5, 3, 8, 1, 7, 2, 6, 4)
  C.qsort(a, 8, 4, cb)
  cb:free()
  test.equal(contents(a, 8), "1 2 3 4 5 6 7 8")
end)

test("a Lua function is turned into a callback when it is passed", function()
  local a = ffi.new("int[3]", 3, 1, 2)
  C.qsort(a, 3, 4, compare_ints)
  test.equal(contents(a, 3), "1 2 3")
end)

test("a callback may order the other way round", function()
  local cb = ffi.cast("clb_compare", function(a, b) return compare_ints(b, a) end)
  local a = ffi.new("int[4]", 2, 4, 1, 3)
  C.qsort(a, 4, 4, cb)
  cb:free()
  test.equal(contents(a, 4), "4 3 2 1")
end)

test("a callback receives pointers to structs", function()
  local cb = ffi.cast("clb_compare", function(a, b)
    local x, y = ffi.cast("const struct clb_item *", a), ffi.cast("const struct clb_item *", b)
    return x.value < y.value and -1 or 1
  end)
  local items = ffi.new("struct clb_item[3]", { { 1, 2.5 }, { 2, 0.5 }, { 3, 1.5 } })
  C.qsort(items, 3, ffi.sizeof("struct clb_item"), cb)
  cb:free()
  test.equal(items[0].key, 2)
  test.equal(items[1].key, 3)
  test.equal(items[2].key, 1)
end)

test("a callback searches an array through bsearch", function()
  local cb = ffi.cast("clb_compare", compare_ints)
  local a, key = ffi.new("int[5]", 10, 20, 30, 40, 50), ffi.new("int[1]", 40)
  local found = ffi.cast("int *", C.bsearch(key, a, 5, 4, cb))
  test.equal(found - a, 3)
  key[0] = 41
  test.equal(C.bsearch(key, a, 5, 4, cb) == nil, true)
  cb:free()
end)

test("a callback sees the variables of its Lua function", function()
  local calls = 0
  local cb = ffi.cast("clb_compare", function(a, b)
    calls = calls + 1
    return compare_ints(a, b)
  end)
  local a = ffi.new("int[2]", 2, 1)
  C.qsort(a, 2, 4, cb)
  cb:free()
  test.equal(calls > 0, true)
end)

test("set gives a callback another Lua function", function()
  local cb = ffi.cast("clb_unary", function(n) return n + 1 end)
  test.equal(cb(1), 2)
  cb:set(function(n) return n * 10 end)
  test.equal(cb(1), 10)
  cb:free()
end)

test("the resources of a callback are freed only once", function()
  local cb = ffi.cast("clb_unary", function(n) return n end)
  cb:free()
  test.fails(function() cb:free() end, "bad callback")
end)

test("a freed callback takes no other function", function()
  local cb = ffi.cast("clb_unary", function(n) return n end)
  cb:free()
  test.fails(function() cb:set(function(n) return n end) end, "bad callback")
end)

test("set needs a function", function()
  local cb = ffi.cast("clb_unary", function(n) return n end)
  test.fails(function() cb:set(5) end)
  cb:free()
end)

test("a C function is not freed like a callback", function()
  local f = ffi.cast("clb_unary", C.abs)
  test.fails(function() f:free() end, "bad callback")
end)

test("many callbacks are made and freed in turn", function()
  for i = 1, 3000 do
    local cb = ffi.cast("clb_unary", function(n) return n + i end)
    if i % 1000 == 0 then test.equal(cb(1), i + 1) end
    cb:free()
  end
end)

test("several callbacks are in use at once", function()
  local cbs = {}
  for i = 1, 20 do cbs[i] = ffi.cast("clb_unary", function(n) return n * i end) end
  for i = 1, 20 do test.equal(cbs[i](3), 3 * i) end
  for i = 1, 20 do cbs[i]:free() end
end)

test("an error in a callback reaches the caller of the C function", function()
  local cb = ffi.cast("clb_compare", function() error("comparison failed") end)
  local a = ffi.new("int[2]", 2, 1)
  test.fails(function() C.qsort(a, 2, 4, cb) end, "comparison failed")
  cb:free()
end)

test("an error object of a callback is kept", function()
  local problem = { code = 7 }
  local cb = ffi.cast("clb_compare", function() error(problem) end)
  local a = ffi.new("int[2]", 2, 1)
  local ok, caught = pcall(function() C.qsort(a, 2, 4, cb) end)
  cb:free()
  test.equal(ok, false)
  test.equal(caught, problem)
end)

test("a callback works again after an error", function()
  local fail = true
  local cb = ffi.cast("clb_unary", function(n)
    if fail then error("not yet") end
    return n
  end)
  test.fails(function() return cb(5) end, "not yet")
  fail = false
  test.equal(cb(5), 5)
  cb:free()
end)

test("a callback catches its own errors", function()
  local cb = ffi.cast("clb_unary", function(n)
    local ok = pcall(error, "inside")
    return ok and 0 or n
  end)
  test.equal(cb(9), 9)
  cb:free()
end)

test("arguments of a callback are converted to Lua", function()
  local seen = {}
  local cb = ffi.cast("void (*)(int8_t, uint32_t, int64_t, double, float, bool, const char *, enum clb_enum)",
    function(...) seen = { ... } end)
  cb(-1, 4294967295, ffi.new("int64_t", 5), 1.5, 0.25, true, "text", 2)
  test.equal(seen[1], -1)
  test.equal(seen[2], 4294967295)
  test.equal(tostring(seen[3]), "5LL")
  test.equal(seen[4], 1.5)
  test.equal(seen[5], 0.25)
  test.equal(seen[6], true)
  test.equal(ffi.string(seen[7]), "text")
  test.equal(seen[8] == "CLB_TWO", true)
  cb:free()
end)

test("a NULL argument of a callback equals nil", function()
  local is_null
  local cb = ffi.cast("void (*)(void *)", function(p) is_null = p == nil end)
  cb(nil)
  test.equal(is_null, true)
  cb:free()
end)

test("a callback takes many arguments", function()
  local cb = ffi.cast("double (*)(int, double, int, double, int, double, int, double, int, double, int, double)",
    function(...)
      local sum = 0
      for _, v in ipairs { ... } do sum = sum + v end
      return sum
    end)
  test.equal(cb(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 78)
  cb:free()
end)

test("the result of a callback is converted to its C type", function()
  local cb = ffi.cast("uint8_t (*)(double)", function(n) return n end)
  test.equal(cb(7.9), 7)
  cb:free()
  local wide = ffi.cast("int64_t (*)(void)", function() return ffi.new("int64_t", 2 ^ 53) + 1 end)
  test.equal(tostring(wide()), "9007199254740993LL")
  wide:free()
  local flag = ffi.cast("bool (*)(int)", function(n) return n > 0 end)
  test.equal(flag(1), true)
  test.equal(flag(-1), false)
  flag:free()
end)

test("a callback returns a double, a float and a pointer", function()
  local d = ffi.cast("double (*)(double)", function(x) return x / 2 end)
  test.equal(d(5), 2.5)
  d:free()
  local f = ffi.cast("float (*)(float)", function(x) return x * 2 end)
  test.equal(f(1.25), 2.5)
  f:free()
  local a = ffi.new("int[2]", 1, 2)
  local p = ffi.cast("int *(*)(int)", function(i) return a + i end)
  test.equal(p(1)[0], 2)
  p:free()
end)

test("a callback without result ignores what its function returns", function()
  local cb = ffi.cast("void (*)(int)", function(n) return n end)
  test.equal(select("#", cb(1)), 0)
  cb:free()
end)

test("a result of the wrong type is an error", function()
  local cb = ffi.cast("clb_unary", function() return {} end)
  test.fails(function() return cb(1) end, "cannot convert")
  cb:free()
end)

test("a callback calls C functions itself", function()
  local cb = ffi.cast("clb_unary", function(n) return C.abs(n) + 1 end)
  test.equal(cb(-4), 5)
  cb:free()
end)

test("callbacks are nested", function()
  local inner = ffi.cast("clb_unary", function(n) return n * 2 end)
  local outer = ffi.cast("clb_unary", function(n) return inner(n) + 1 end)
  test.equal(outer(10), 21)
  outer:free()
  inner:free()
end)

test("a sort runs within the comparison of another sort", function()
  local inner = ffi.cast("clb_compare", compare_ints)
  local outer = ffi.cast("clb_compare", function(a, b)
    local pair = ffi.new("int[2]", 2, 1)
    C.qsort(pair, 2, 4, inner)
    return compare_ints(a, b) * pair[0]
  end)
  local a = ffi.new("int[3]", 3, 1, 2)
  C.qsort(a, 3, 4, outer)
  outer:free()
  inner:free()
  test.equal(contents(a, 3), "1 2 3")
end)

test("a callback is stored in a member of a struct", function()
  local ops = ffi.new("struct clb_ops")
  local cb = ffi.cast("clb_unary", function(n) return n - 1 end)
  ops.change = cb
  test.equal(ops.change(10), 9)
  cb:free()
end)

test("a Lua function assigned to a member becomes a callback", function()
  local ops, told = ffi.new("struct clb_ops"), nil
  ops.tell = function(n) told = n end
  ops.tell(12)
  test.equal(told, 12)
  ops.tell:free()
end)

test("a coroutine runs within a callback", function()
  local cb = ffi.cast("clb_unary", function(n)
    local thread = coroutine.wrap(function() coroutine.yield(n + 1) end)
    return thread()
  end)
  test.equal(cb(1), 2)
  cb:free()
end)

test("a Lua function does not become a function of variable arguments", function()
  test.fails(function() return ffi.cast("int (*)(int, ...)", function() end) end, "cannot convert")
end)

test("a Lua function does not take or return structs by value", function()
  test.fails(function() return ffi.cast("void (*)(struct clb_item)", function() end) end, "cannot convert")
  test.fails(function() return ffi.cast("struct clb_item (*)(void)", function() end) end, "cannot convert")
end)

test.done()
