-- What a script may not do with memory, and what it is told.
local ffi = require "ffi"
local trace = require "trace"
local test = require "behaviour"

ffi.cdef [[
void *memset(void *at, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);
char *strcpy(char *to, const char *from);
void *malloc(size_t size);
void free(void *block);
struct err_pair { int a, b; };
struct err_open { int len; char text[?]; };
]]
local C = ffi.C

test("a read behind an array is an error with the line of the script", function()
  local a = ffi.new("int[4]")
  local ok, message = pcall(function() return a[4] end)
  test.equal(ok, false)
  test.equal(message:match("^[%w_/%.]*errors%.lua:%d+: ") ~= nil, true)
  test.equal(message:find("not inside", 1, true) ~= nil, true)
end)

test("a read before an array is an error", function()
  local a = ffi.new("int[4]")
  test.fails(function() return a[-1] end, "not inside")
end)

test("a write behind an array is an error and changes nothing", function()
  local a = ffi.new("uint8_t[4]", 1, 2, 3, 4)
  test.fails(function() a[4] = 9 end, "write of 1 byte")
  test.equal(a[3], 4)
end)

test("the message names the type and the line where the object was made", function()
  local line = debug.getinfo(1, "l").currentline + 1
  local a = ffi.new("short[3]")
  local _, message = pcall(function() return a[3] end)
  test.equal(message:find("`short [3] at errors.lua:" .. line .. "` (6 bytes)", 1, true) ~= nil, true)
end)

test("a pointer keeps to the object that it was made from", function()
  local a, b = ffi.new("int[4]"), ffi.new("int[4]")
  local p = ffi.cast("int *", a)
  local far = (ffi.cast("char *", b) - ffi.cast("char *", a)) / 4
  test.fails(function() return p[far] end, "not inside")
  test.equal(b[0], 0)
end)

test("a pointer may be moved out of its object and back", function()
  local a = ffi.new("int[4]", 1, 2, 3, 4)
  local p = ffi.cast("int *", a) + 100
  test.fails(function() return p[0] end, "not inside")
  test.equal((p - 99)[0], 2)
end)

test("an object that was collected is freed", function()
  local p = (function() return ffi.cast("int *", ffi.new("int[2]", 7)) end)()
  collectgarbage()
  collectgarbage()
  test.fails(function() return p[0] end, "was freed")
end)

test("a reference to a part does not keep the whole", function()
  local part = (function() return ffi.new("struct { struct err_pair p; }").p end)()
  collectgarbage()
  collectgarbage()
  test.fails(function() return part.a end, "was freed")
end)

test("uninitialised bytes are not read", function()
  local a = trace.uninit(ffi.new("int[2]"))
  test.fails(function() return a[0] end, "not initialised")
  a[0] = 5
  test.equal(a[0], 5)
  test.fails(function() return a[1] end, "not initialised")
end)

test("ffi.string checks the bytes that it reads", function()
  local a = trace.uninit(ffi.new("char[8]"))
  ffi.copy(a, "abc")
  test.equal(ffi.string(a), "abc")
  test.fails(function() return ffi.string(a, 8) end, "not initialised")
  test.fails(function() return ffi.string(ffi.cast("char *", a), 9) end, "not inside")
end)

test("a string without a zero byte does not end behind its object", function()
  local a = ffi.new("char[4]", 120)
  test.fails(function() return ffi.string(ffi.cast("const char *", a)) end, "zero byte")
  test.equal(ffi.string(a), "xxxx")
end)

test("ffi.copy and ffi.fill stay inside of objects", function()
  local a, b = ffi.new("char[4]"), ffi.new("char[8]")
  test.fails(function() ffi.copy(a, b, 5) end, "write of 5 bytes")
  test.fails(function() ffi.copy(b, a, 5) end, "read of 5 bytes")
  test.fails(function() ffi.fill(a, 5) end, "write of 5 bytes")
  test.fails(function() ffi.copy(a, "four") end, "write of 5 bytes")
  ffi.copy(a, "four", 4)
  test.equal(ffi.string(a, 4), "four")
end)

test("ffi.copy takes uninitialised bytes along as such", function()
  local a, b = trace.uninit(ffi.new("int[2]")), ffi.new("int[2]")
  a[0] = 3
  ffi.copy(b, a, 8)
  test.equal(b[0], 3)
  test.fails(function() return b[1] end, "not initialised")
end)

test("a null pointer is not followed", function()
  test.fails(function() return ffi.cast("int *", nil)[0] end, "null pointer")
  test.fails(function() return ffi.cast("struct err_pair *", nil).b end, "null pointer")
  test.fails(function() ffi.cast("int *", nil)[0] = 1 end, "null pointer")
  test.fails(function() return ffi.string(ffi.cast("char *", nil)) end, "null pointer")
end)

test("an address without memory is not followed", function()
  test.fails(function() return ffi.cast("int *", 0x10000)[0] end, "mapped")
end)

test("a pointer survives its way through a number", function()
  local a = ffi.new("int[2]", 4, 5)
  local number = ffi.cast("uintptr_t", ffi.cast("void *", a))
  test.equal(ffi.cast("int *", number + 4)[0], 5)
end)

test("an address that nobody gave away is not guessed", function()
  local a = ffi.new("int[2]", 4, 5)
  local guessed = tonumber(tostring(a):match("0x%x+"))
  test.fails(function() return ffi.cast("int *", guessed)[0] end, "never given away")
end)

test("a pointer in memory keeps its object", function()
  local a, b = ffi.new("int[2]", 1, 2), ffi.new("int[2]", 3, 4)
  local box = ffi.new("int *[1]", { a })
  test.equal(box[0][1], 2)
  test.fails(function() return box[0][2] end, "not inside")
  box[0] = b
  test.equal(box[0][0], 3)
end)

test("a pointer that native code copied reaches what is exposed", function()
  local a = ffi.new("int[2]", 8, 9)
  local from, to = ffi.new("int *[1]", { a }), ffi.new("int *[1]")
  C.memcpy(to, from, 8)
  test.equal(to[0][1], 9)
end)

test("the end of an object of variable length is known", function()
  local s = ffi.new("struct err_open", 4)
  s.text[3] = 1
  test.fails(function() s.text[4] = 1 end, "write of 1 byte")
  local v = ffi.new("int[?]", 3)
  test.fails(function() return v[3] end, "read of 4 bytes")
end)

test("memory of malloc is read and written without account", function()
  local p = ffi.cast("int *", C.malloc(16))
  p[0] = 42
  test.equal(p[0], 42)
  test.fails(function() return trace.coverage(p) end, "native code's own")
  C.free(p)
end)

test("native code that writes past an object raises an error", function()
  local a = ffi.new("char[4]")
  test.fails(function() C.memset(a, 1, 5) end, "out_of_bounds")
  test.equal(trace.violations()[#trace.violations()].kind, "out_of_bounds")
end)

test("native code may not write a string of Lua", function()
  test.fails(function() C.memset(ffi.cast("char *", "constant"), 0, 1) end, "write_to_read_only")
end)

test("native code may not write what is read-only", function()
  local a = trace.readonly(ffi.new("char[4]"))
  test.fails(function() C.memset(a, 1, 4) end, "write_to_read_only")
  trace.readonly(a, false)
  C.memset(a, 1, 4)
  test.equal(a[3], 1)
end)

test("native code that follows a wild pointer ends, and the script goes on", function()
  local ok, message = pcall(C.strcpy, ffi.cast("char *", 16), "x")
  test.equal(ok, false)
  test.equal(message:find("wild_access") ~= nil or message:find("native_crash") ~= nil, true)
end)

-- Violations were meant here, and are not the session's.
test.done()
