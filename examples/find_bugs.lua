-- A test of the library in inventory.c, which has three mistakes. Each of them is
-- expected here, exactly; the session fails if one is not found, or if there are more.
--
--   cc -g -O1 -shared -fPIC -o libinventory.so inventory.c
--   ffitrace run find_bugs.lua ./libinventory.so

local ffi = require("ffi")
local trace = require("trace")

ffi.cdef [[
  typedef struct inventory inventory;

  inventory *inventory_new(void);
  void inventory_free(inventory *stock);
  int inventory_add(inventory *stock, const char *name, int quantity, int price);
  int inventory_label(const inventory *stock, int place, char *label, int size);
  void inventory_set_reserve(inventory *stock, const int *reserve);
  int inventory_short(const inventory *stock);
  int inventory_price(const inventory *stock, const char *name, int *price);
]]

local library = ffi.load(arg[1] or "./libinventory.so")

local stock = library.inventory_new()
local bolts = library.inventory_add(stock, "bolts", 120, 15)
local hinges = library.inventory_add(stock, "brass hinges", 4, 250)
assert(library.inventory_add(stock, "door handles", 0, 1990) >= 0)

-- The violation that the last call made, if it is of the kind and in the function.
local function last_violation(kind, name)
  local all = trace.violations()
  local last = assert(all[#all], "no violation was recorded")
  assert(last.kind == kind, last.message)
  assert(last.symbol:match("^[%w_]+") == name, last.symbol)
  return last.message
end

local found = {}

-- 1. A label that is written past its end.

local label = ffi.new("char[8]")

trace.expect {
  name = "a name that fits into the label",
  call = function() return library.inventory_label(stock, bolts, label, ffi.sizeof(label)) end,
  returns = 5,
  reads = { { label } },
  writes = { { label, { 0, 6 } } },
}
assert(ffi.string(label) == "bolts")

trace.expect {
  name = "a name that is cut to fit",
  call = function() return library.inventory_label(stock, hinges, label, ffi.sizeof(label)) end,
  returns = 8, -- and not 7
  violations = { "out_of_bounds" },
  writes = { { label, { 0, 8 } } },
}
found[#found + 1] = {
  "inventory_label", "writes the NUL one byte past a label that is too short for the name",
  last_violation("out_of_bounds", "inventory_label"),
}

-- 2. A pointer to the caller's number, kept although the number should be copied.

-- In a function of its own, so that nothing refers to the number after it has returned.
local function set_reserve(number)
  local reserve = ffi.new("int[1]", number)
  trace.expect {
    name = "the number in use",
    call = function()
      library.inventory_set_reserve(stock, reserve)
      return library.inventory_short(stock)
    end,
    returns = 2,
    reads = { { reserve, { 0, 4 } } },
    writes = { { reserve } },
  }
end

set_reserve(10)
collectgarbage()
collectgarbage()

-- What it returns is whatever the freed bytes make of it, so it is not compared.
trace.expect {
  name = "the number after it was collected",
  call = function() return library.inventory_short(stock) end,
  violations = { "use_after_free" },
}
found[#found + 1] = {
  "inventory_short", "reads the caller's number, which inventory_set_reserve did not copy",
  last_violation("use_after_free", "inventory_short"),
}
library.inventory_set_reserve(stock, nil)

-- 3. An output that is not written on one of the paths that report success.

local function price_of(name)
  local price = trace.uninit(ffi.new("int[1]"))
  return price, function()
    return library.inventory_price(stock, name, price)
  end
end

local price, ask = price_of "bolts"
trace.expect {
  name = "the price of what is there",
  call = ask,
  returns = 1,
  reads = { { price } },
  writes = { { price, { 0, 4 } } },
}
assert(price[0] == 15)

price, ask = price_of "ladders"
trace.expect {
  name = "the price of what was never there",
  call = ask,
  returns = 0,
  writes = { { price } },
}

price, ask = price_of "door handles"
trace.expect {
  name = "the price of what is sold out",
  call = ask,
  returns = 1,
  writes = { { price } }, -- success, but nothing was written
}
assert(#trace.initialized(price) == 0)

local ok, message = pcall(function() return price[0] end)
assert(not ok and message:find("not initialised", 1, true), message)
found[#found + 1] = {
  "inventory_price", "returns 1 for what is sold out and does not store a price", message,
}

library.inventory_free(stock)

print(("%d mistakes found, as expected"):format(#found))
for i, mistake in ipairs(found) do
  local name, what, evidence = unpack(mistake)
  print(("  %d. %s\n     %s\n     %s"):format(i, name, what, (evidence:gsub("\n", "\n     "))))
end
