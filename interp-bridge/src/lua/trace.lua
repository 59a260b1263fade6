-- The module `trace`, on the session's core.
local core, prelude, checked = ...

local trace = { backend = checked(core.trace_begin()) }

local type, error, ipairs, tostring, pcall = type, error, ipairs, tostring, pcall

function trace.events() return (checked(core.trace_events())) end
function trace.coverage(cdata) return (checked(core.trace_coverage(cdata))) end
function trace.initialized(cdata) return checked(core.trace_initialized(cdata)) end
function trace.violations() return (checked(core.trace_violations(0))) end
function trace.call_stats() return (checked(core.trace_stats(false))) end
function trace.totals() return (checked(core.trace_stats(true))) end
function trace.reset() checked(core.trace_reset()) end

function trace.uninit(cdata)
  checked(core.trace_uninit(cdata))
  return cdata
end

function trace.readonly(cdata, flag)
  checked(core.trace_readonly(cdata, flag))
  return cdata
end

-- Handlers

local kinds = { read = true, write = true, access = true, call = true, violation = true }
local handlers = {}
local told, known = -1, 0

local function has(kind)
  for _, handler in ipairs(handlers) do
    if handler.kind == kind then return true end
  end
end

local function tell(kind, event)
  -- Of a copy: a handler may remove itself.
  for _, handler in ipairs { unpack(handlers) } do
    if handler.kind == kind then handler.work(event) end
  end
end

local function after_call()
  if has "read" or has "write" or has "access" then
    for _, event in ipairs(checked(core.trace_events(told >= 0 and told or nil))) do
      told = event.seq
      tell(event.kind, event)
      tell("access", event)
    end
  end
  if has "violation" then
    for _, violation in ipairs(checked(core.trace_violations(known))) do
      known = known + 1
      tell("violation", violation)
    end
  end
  if has "call" then tell("call", checked(core.trace_stats(false))) end
end

function trace.on(kind, work)
  if not kinds[kind] then
    error("bad argument #1 to 'on' (read, write, access, call or violation expected, got "
      .. tostring(kind) .. ")", 2)
  end
  if type(work) ~= "function" then
    error("bad argument #2 to 'on' (function expected, got " .. type(work) .. ")", 2)
  end
  local handler = { kind = kind, work = work }
  -- What was before is not told.
  if #handlers == 0 then
    for _, event in ipairs(checked(core.trace_events())) do told = event.seq end
  end
  if not has "violation" then known = #checked(core.trace_violations(0)) end
  handlers[#handlers + 1] = handler
  prelude.after_call(after_call)
  return function()
    for i, other in ipairs(handlers) do
      if other == handler then
        table.remove(handlers, i)
        break
      end
    end
    if #handlers == 0 then prelude.after_call(nil) end
  end
end

-- Expectations

local function shown(ranges)
  if #ranges == 0 then return "nothing" end
  local words = {}
  for _, range in ipairs(ranges) do words[#words + 1] = range[1] .. ".." .. range[2] end
  return table.concat(words, ", ")
end

local function list(words)
  return #words == 0 and "none" or table.concat(words, ", ")
end

-- A range that is written in two parts is the same as in one.
local function merged(ranges)
  local sorted = {}
  for _, range in ipairs(ranges) do
    if type(range) ~= "table" or type(range[1]) ~= "number" or type(range[2]) ~= "number" then
      error("a range is a table of two offsets, as {0, 8}", 4)
    end
    if range[1] < range[2] then sorted[#sorted + 1] = { range[1], range[2] } end
  end
  table.sort(sorted, function(a, b) return a[1] < b[1] end)
  local all = {}
  for _, range in ipairs(sorted) do
    local last = all[#all]
    if last and range[1] <= last[2] then
      last[2] = math.max(last[2], range[2])
    else
      all[#all + 1] = range
    end
  end
  return all
end

local fields = { name = true, call = true, returns = true, error = true, violations = true,
  reads = true, writes = true }

function trace.expect(wanted)
  if type(wanted) ~= "table" or type(wanted.call) ~= "function" then
    error("bad argument #1 to 'expect' (a table with the function `call` expected)", 2)
  end
  for field in pairs(wanted) do
    if not fields[field] then
      error("trace.expect has no field '" .. tostring(field)
        .. "'; it has name, call, returns, error, violations, reads and writes", 2)
    end
  end
  local kinds_wanted = wanted.violations or {}
  checked(core.trace_reset())
  local first = checked(core.trace_expect())
  local results = { pcall(wanted.call) }
  local ok, result = results[1], results[2]
  local kinds_found = checked(core.trace_expected(first, kinds_wanted))

  local differences = {}
  local function differ(...) differences[#differences + 1] = table.concat({ ... }) end

  if not ok and not wanted.error then
    differ("an error was raised: ", tostring(result))
  elseif wanted.error and ok then
    differ("no error was raised; one like '", wanted.error, "' was expected")
  elseif wanted.error and not tostring(result):find(wanted.error) then
    differ("the error is '", tostring(result), "'; one like '", wanted.error, "' was expected")
  elseif wanted.returns ~= nil and ok and result ~= wanted.returns then
    differ("returned ", tostring(result), ", expected ", tostring(wanted.returns))
  end

  local found, expected = { unpack(kinds_found) }, { unpack(kinds_wanted) }
  table.sort(found)
  table.sort(expected)
  if list(found) ~= list(expected) then
    differ("violations: ", list(found), "; expected: ", list(expected))
    for _, violation in ipairs(checked(core.trace_violations(first))) do
      differ("  ", violation.kind, ": ", violation.message)
    end
  end

  for what, name in pairs { reads = "read", writes = "written" } do
    for i, entry in ipairs(wanted[what] or {}) do
      local cdata = entry[1]
      local coverage = checked(core.trace_coverage(cdata))
      local is, should = coverage[name], merged { unpack(entry, 2) }
      if shown(is) ~= shown(should) then
        differ(tostring(cdata), " (", what, ", entry ", i, "): ", name, " ", shown(is), "; expected ",
          shown(should))
      end
      if name == "written" and #coverage.maybe_written > 0 then
        differ(tostring(cdata), " (", what, ", entry ", i, "): maybe written ",
          shown(coverage.maybe_written))
      end
    end
  end

  if #differences > 0 then
    local title = wanted.name and ("trace.expect '" .. wanted.name .. "'") or "trace.expect"
    error(title .. ": not as expected\n  " .. table.concat(differences, "\n  "), 2)
  end
  return unpack(results, 2, table.maxn(results))
end

return trace
