-- The module `trace`.
local ffi = require "ffi"
local trace = require "trace"
local test = require "behaviour"

ffi.cdef [[
void *memset(void *at, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);
char *strcpy(char *to, const char *from);
int abs(int number);
struct mod_frame { char head[8]; int body[4]; };
void qsort(void *base, size_t count, size_t size, int (*compare)(const int *, const int *));
]]
local C = ffi.C

local function ranges(list)
  local words = {}
  for _, range in ipairs(list) do words[#words + 1] = range[1] .. "-" .. range[2] end
  return table.concat(words, " ")
end

test("the recorder has a name", function()
  local names = { ebpf = true, inproc = true, ptrace = true, none = true }
  test.equal(names[trace.backend], true)
end)

test("coverage has what native code read and wrote", function()
  local a, b = ffi.new("char[16]"), ffi.new("char[16]")
  C.memcpy(ffi.cast("char *", b) + 4, a, 8)
  test.equal(ranges(trace.coverage(a).read), "0-8")
  test.equal(ranges(trace.coverage(a).written), "")
  test.equal(ranges(trace.coverage(b).written), "4-12")
end)

test("coverage of a part counts from its start", function()
  local frame = ffi.new("struct mod_frame")
  C.memset(frame.body, 1, 8)
  test.equal(ranges(trace.coverage(frame).written), "8-16")
  test.equal(ranges(trace.coverage(frame.body).written), "0-8")
  test.equal(ranges(trace.coverage(frame.head).written), "")
end)

test("what the script does itself is no coverage", function()
  local a = ffi.new("int[4]")
  a[0] = a[1]
  test.equal(ranges(trace.coverage(a).read), "")
  test.equal(ranges(trace.coverage(a).written), "")
end)

test("trace.reset forgets coverage", function()
  local a = ffi.new("char[8]")
  C.memset(a, 1, 8)
  trace.reset()
  test.equal(ranges(trace.coverage(a).written), "")
end)

test("initialised bytes are told as ranges", function()
  local a = trace.uninit(ffi.new("char[16]"))
  test.equal(#trace.initialized(a), 0)
  C.memset(ffi.cast("char *", a) + 2, 1, 4)
  a[8] = 1
  test.equal(ranges((trace.initialized(a))), "2-6 8-9")
  test.equal(select(2, trace.initialized(a)), false)
  C.memset(a, 1, 16)
  test.equal(select(2, trace.initialized(a)), true)
end)

test("trace.uninit takes a part, too", function()
  local frame = ffi.new("struct mod_frame")
  trace.uninit(frame.body)
  test.equal(ranges((trace.initialized(frame))), "0-8")
end)

test("events are those of the last call, in order", function()
  local a, b = ffi.new("char[8]"), ffi.new("char[8]")
  C.memset(a, 1, 8)
  C.memcpy(b, a, 8)
  local events = trace.events()
  test.equal(events.total, #events)
  test.equal(events[1].kind, "read")
  test.equal(events[#events].kind, "write")
  test.equal(events[1].size, 8)
  test.equal(events[1].offset, 0)
  test.equal(events[1].allocation:match("^char %[8%] at module%.lua:%d+$") ~= nil, true)
  test.equal(events[1].symbol:find("memcpy") ~= nil or events[1].symbol:find("memmove") ~= nil, true)
  for i = 2, #events do test.equal(events[i].seq > events[i - 1].seq, true) end
  C.abs(-1)
  test.equal(#trace.events(), 0)
end)

test("events of native code between callbacks belong to the outer call", function()
  local a = ffi.new("int[3]", 3, 1, 2)
  C.qsort(a, 3, 4, function(x, y)
    C.abs(-1)
    return x[0] - y[0]
  end)
  test.equal(#trace.events() > 0, true)
  test.equal(a[0] == 1 and a[2] == 3, true)
end)

test("counts of the last call and of all", function()
  local a = ffi.new("char[8]")
  local before = trace.totals()
  C.memset(a, 1, 1)
  local stats = trace.call_stats()
  test.equal(stats.name, "memset")
  test.equal(stats.calls, 1)
  test.equal(stats.writes, 1)
  test.equal(stats.events, stats.reads + stats.writes)
  test.equal(stats.complete, true)
  test.equal(stats.emitted, stats.delivered + stats.rejected + stats.dropped)
  local after = trace.totals()
  test.equal(after.calls, before.calls + 1)
  test.equal(after.events, before.events + 1)
end)

test("handlers are told of reads, writes and accesses", function()
  local a, b = ffi.new("char[8]"), ffi.new("char[8]")
  local seen = {}
  local removers = {}
  for _, kind in ipairs { "read", "write", "access" } do
    removers[#removers + 1] = trace.on(kind, function(event)
      seen[#seen + 1] = kind .. ":" .. event.kind
    end)
  end
  C.memcpy(b, a, 1)
  for _, remove in ipairs(removers) do remove() end
  test.equal(table.concat(seen, " "), "read:read access:read write:write access:write")
  C.memcpy(b, a, 8)
  test.equal(#seen, 4)
end)

test("a handler is told of calls", function()
  local names = {}
  local remove = trace.on("call", function(call) names[#names + 1] = call.name end)
  C.abs(-1)
  C.memset(ffi.new("char[8]"), 0, 8)
  remove()
  C.abs(-2)
  test.equal(table.concat(names, " "), "abs memset")
end)

test("a handler that calls native code is not told of that for ever", function()
  local count = 0
  local remove
  remove = trace.on("call", function()
    count = count + 1
    if count < 3 then C.abs(-1) else remove() end
  end)
  C.abs(-1)
  test.equal(count, 3)
end)

test("a handler is told of violations", function()
  local kinds = {}
  local remove = trace.on("violation", function(violation) kinds[#kinds + 1] = violation.kind end)
  trace.expect {
    call = function() C.memset(ffi.new("char[4]"), 1, 5) end,
    violations = { "out_of_bounds" },
  }
  remove()
  test.equal(table.concat(kinds, " "), "out_of_bounds")
end)

test("trace.on needs a kind and a function", function()
  test.fails(function() trace.on("reads", print) end, "bad argument #1")
  test.fails(function() trace.on("read") end, "bad argument #2")
end)

test("violations have stacks and bytes", function()
  local a = ffi.new("char[4]")
  trace.expect {
    call = function() C.memset(a, 1, 5) end,
    violations = { "out_of_bounds" },
  }
  local all = trace.violations()
  local last = all[#all]
  test.equal(last.access, "write")
  test.equal(last.allocation:match("^char %[4%] at module%.lua:%d+$") ~= nil, true)
  test.equal(last.native[1]:find("memset") ~= nil, true)
  test.equal(last.lua[1]:match("module%.lua:%d+") ~= nil, true)
  test.equal(#last.bytes > 0, true)
  test.equal(last.bytes[2]:find("^^", 1, true) ~= nil, true)
end)

test("expectations return what the call returned", function()
  test.equal(trace.expect { call = function() return C.abs(-3) end, returns = 3 }, 3)
end)

test("an expectation of ranges is exact", function()
  local a, b = ffi.new("char[8]"), ffi.new("char[8]")
  local function copy() C.memcpy(b, a, 4) end
  trace.expect { call = copy, reads = { { a, { 0, 4 } } }, writes = { { b, { 0, 2 }, { 2, 4 } } } }
  test.fails(function() trace.expect { call = copy, reads = { { a, { 0, 8 } } } } end, "read 0..4; expected 0..8")
  test.fails(function() trace.expect { call = copy, writes = { { b } } } end, "expected nothing")
end)

test("an unexpected violation is a difference", function()
  local a = ffi.new("char[4]")
  test.fails(function() trace.expect { call = function() C.memset(a, 1, 5) end } end,
    "violations: out_of_bounds; expected: none")
end)

test("a violation that does not happen is a difference", function()
  test.fails(function()
    trace.expect { call = function() C.abs(-1) end, violations = { "out_of_bounds" } }
  end, "expected: out_of_bounds")
end)

test("every difference is told", function()
  local ok, message = pcall(trace.expect, {
    name = "of abs",
    call = function() return C.abs(-3) end,
    returns = 4,
    violations = { "timeout" },
  })
  test.equal(ok, false)
  test.equal(message:find("of abs", 1, true) ~= nil, true)
  test.equal(message:find("returned 3, expected 4", 1, true) ~= nil, true)
  test.equal(message:find("timeout", 1, true) ~= nil, true)
end)

test("errors are expected by a pattern", function()
  trace.expect { call = function() error("of a kind") end, error = "of a %w+" }
  test.fails(function() trace.expect { call = function() error("other") end } end, "other")
  test.fails(function()
    trace.expect { call = function() end, error = "anything" }
  end, "no error was raised")
end)

test("an expectation has no other fields", function()
  test.fails(function() trace.expect { call = print, return_ = 1 } end, "no field 'return_'")
  test.fails(function() trace.expect {} end, "bad argument")
end)

test("native code goes on behind an expected violation", function()
  local a = ffi.new("char[4]")
  trace.expect {
    call = function() return C.memset(a, 7, 6) == a end,
    returns = true,
    violations = { "out_of_bounds" },
  }
  test.equal(a[3], 7)
end)

test.done()
