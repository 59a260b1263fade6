-- Garbage collection and finalizers: ffi.gc and the gc metamethod.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct fin_object { int id; };
struct fin_meta { int id; };
struct fin_both { int id; };
struct fin_raise { int id; };
void *malloc(size_t);
void free(void *);
void *memset(void *, int, size_t);
]]

local function collect()
  for _ = 1, 4 do collectgarbage() end
end

-- Runs a function in a frame of its own, so that its temporaries are gone afterwards.
local function apart(fn)
  local thread = coroutine.create(fn)
  local ok, message = coroutine.resume(thread)
  if not ok then error(message, 0) end
end

test("ffi.gc returns the same object", function()
  local s = ffi.new("struct fin_object")
  test.equal(rawequal(ffi.gc(s, function() end), s), true)
  ffi.gc(s, nil)
end)

test("a finalizer is called when its object is collected", function()
  local calls = 0
  apart(function()
    ffi.gc(ffi.new("struct fin_object"), function() calls = calls + 1 end)
  end)
  collect()
  test.equal(calls, 1)
end)

test("a finalizer receives the object with its contents", function()
  local id
  apart(function()
    ffi.gc(ffi.new("struct fin_object", 42), function(s) id = s.id end)
  end)
  collect()
  test.equal(id, 42)
end)

test("a finalizer is not called while its object is in use", function()
  local calls = 0
  local s = ffi.gc(ffi.new("struct fin_object", 7), function() calls = calls + 1 end)
  collect()
  test.equal(calls, 0)
  test.equal(s.id, 7)
  ffi.gc(s, nil)
end)

test("a finalizer is called only once", function()
  local calls = 0
  apart(function()
    ffi.gc(ffi.new("int[4]"), function() calls = calls + 1 end)
  end)
  collect()
  collect()
  test.equal(calls, 1)
end)

test("a removed finalizer is not called", function()
  local calls = 0
  apart(function()
    local s = ffi.gc(ffi.new("struct fin_object"), function() calls = calls + 1 end)
    ffi.gc(s, nil)
  end)
  collect()
  test.equal(calls, 0)
end)

test("a second finalizer replaces the first", function()
  local first, second = 0, 0
  apart(function()
    local s = ffi.gc(ffi.new("struct fin_object"), function() first = first + 1 end)
    ffi.gc(s, function() second = second + 1 end)
  end)
  collect()
  test.equal(first, 0)
  test.equal(second, 1)
end)

test("every object has a finalizer of its own", function()
  local seen = {}
  apart(function()
    for i = 1, 5 do
      ffi.gc(ffi.new("struct fin_object", i), function(s) seen[s.id] = true end)
    end
  end)
  collect()
  for i = 1, 5 do test.equal(seen[i], true) end
end)

test("arrays and pointers may have finalizers", function()
  local calls = 0
  local keep = ffi.new("int[1]")
  apart(function()
    ffi.gc(ffi.new("int[?]", 3), function() calls = calls + 1 end)
    ffi.gc(ffi.cast("int *", keep), function() calls = calls + 1 end)
  end)
  collect()
  test.equal(calls, 2)
end)

test("a C function is a finalizer", function()
  apart(function()
    local p = ffi.gc(ffi.C.malloc(100), ffi.C.free)
    ffi.C.memset(p, 0, 100)
  end)
  collect()
end)

test("a manual release removes the finalizer first", function()
  local p = ffi.gc(ffi.C.malloc(8), ffi.C.free)
  ffi.C.memset(p, 1, 8)
  test.equal(ffi.cast("uint8_t *", p)[7], 1)
  ffi.C.free(ffi.gc(p, nil))
  collect()
end)

test("a finalizer may release memory through a closure", function()
  local released
  apart(function()
    ffi.gc(ffi.C.malloc(16), function(p)
      released = true
      ffi.C.free(p)
    end)
  end)
  collect()
  test.equal(released, true)
end)

test("the gc metamethod is called for every object of its type", function()
  local sum = 0
  ffi.metatype("struct fin_meta", { __gc = function(s) sum = sum + s.id end })
  apart(function()
    for i = 1, 4 do ffi.new("struct fin_meta", i) end
  end)
  collect()
  test.equal(sum, 10)
end)

test("ffi.gc replaces the gc metamethod of one object", function()
  local meta, own = 0, 0
  ffi.metatype("struct fin_both", { __gc = function() meta = meta + 1 end })
  apart(function()
    ffi.gc(ffi.new("struct fin_both", 1), function() own = own + 1 end)
    ffi.new("struct fin_both", 2)
  end)
  collect()
  test.equal(meta, 1)
  test.equal(own, 1)
end)

test("a finalizer needs cdata", function()
  test.fails(function() ffi.gc(5, function() end) end, "bad argument")
  test.fails(function() ffi.gc({}, function() end) end, "bad argument")
end)

test("a struct in a table stays alive with the table", function()
  local keep = {}
  for i = 1, 100 do keep[i] = ffi.new("struct fin_object", i) end
  collect()
  for i = 1, 100 do test.equal(keep[i].id, i) end
end)

test("an owner that is kept keeps the memory of its pointers", function()
  local cache = {}
  local function make(value)
    local owner = ffi.new("int[1]", value)
    local p = ffi.cast("int *", owner)
    cache[#cache + 1] = owner
    return p
  end
  local p, q = make(1), make(2)
  collect()
  test.equal(p[0], 1)
  test.equal(q[0], 2)
end)

test.done()
