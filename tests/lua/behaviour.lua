-- The harness of the behaviour tests: one line of output for each behaviour.
--
--   local test = require "behaviour"
--   test("a rule in plain English", function() test.equal(1 + 1, 2) end)
--   test.done()

local test = {}

local count, failed = 0, 0
local seen = {}

local function one_line(value)
  return (tostring(value):gsub("%s*[\r\n]+%s*", " "))
end

local function show(value)
  if type(value) == "string" then
    return string.format("%q", value)
  end
  return tostring(value)
end

local function say(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

-- Fails unless both values have the same Lua type and are equal.
function test.equal(got, wanted)
  if type(got) ~= type(wanted) then
    error("got the " .. type(got) .. " " .. show(got) .. ", wanted the "
      .. type(wanted) .. " " .. show(wanted), 2)
  end
  if not (got == wanted) then
    error("got " .. show(got) .. ", wanted " .. show(wanted), 2)
  end
end

-- Fails unless the number is within the tolerance (1e-9 where none is given).
function test.near(got, wanted, tolerance)
  if type(got) ~= "number" then
    error("got the " .. type(got) .. " " .. show(got) .. ", wanted a number", 2)
  end
  if not (math.abs(got - wanted) <= (tolerance or 1e-9)) then
    error("got " .. show(got) .. ", wanted about " .. show(wanted), 2)
  end
end

-- Fails unless the function raises an error whose text matches the Lua pattern.
function test.fails(fn, pattern)
  local ok, message = pcall(fn)
  if ok then
    error("no error was raised", 2)
  end
  if pattern and not string.find(tostring(message), pattern) then
    error("the error was " .. show(tostring(message)) .. ", wanted " .. show(pattern), 2)
  end
end

-- Ends the file: prints the number of behaviours and exits with 1 where any failed.
function test.done()
  say("done " .. count)
  if failed > 0 then
    os.exit(1)
  end
end

local function run(_, name, fn)
  if seen[name] then
    error("two behaviours are named " .. show(name), 2)
  end
  seen[name] = true
  count = count + 1
  local ok, message = xpcall(fn, one_line)
  if ok then
    say("ok - " .. name)
  else
    failed = failed + 1
    say("not ok - " .. name .. ": " .. message)
  end
end

return setmetatable(test, { __call = run })
