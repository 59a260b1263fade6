-- The C library's qsort, with comparisons written in Lua: numbers, then structs.
-- Needs nothing but `ffi`.

local ffi = require("ffi")

ffi.cdef [[
  void qsort(void *base, size_t count, size_t size,
             int (*compare)(const void *, const void *));

  typedef struct { char name[12]; int year; } language;
]]

-- Sorts the first `count` elements of `array`. `compare` gets two of them, as
-- pointers of the type `pointer`, and says by the sign how they compare.
local function sort(array, count, pointer, compare)
  local calls = 0
  local callback = ffi.cast("int (*)(const void *, const void *)", function(a, b)
    calls = calls + 1
    return compare(ffi.cast(pointer, a), ffi.cast(pointer, b))
  end)
  ffi.C.qsort(array, count, ffi.sizeof(array) / count, callback)
  callback:free() -- there are only so many callbacks at a time
  return calls
end

local function order(a, b)
  return a < b and -1 or a > b and 1 or 0
end

local count = 10
local numbers = ffi.new("int[?]", count, { 31, 4, 15, 9, 26, 5, 35, 8, 97, 93 })
local calls = sort(numbers, count, "const int *", function(a, b)
  return order(a[0], b[0])
end)

local sorted = {}
for i = 0, count - 1 do
  sorted[#sorted + 1] = numbers[i]
  assert(i == 0 or numbers[i - 1] <= numbers[i], "not sorted")
end
print(("%d numbers, %d comparisons"):format(count, calls))
print("  " .. table.concat(sorted, " "))

local languages = ffi.new("language[6]", {
  { "Lua", 1993 }, { "C", 1972 }, { "Lisp", 1960 }, { "Rust", 2012 }, { "Java", 1995 },
  { "Ruby", 1995 },
})
calls = sort(languages, 6, "const language *", function(a, b)
  local years = order(b.year, a.year) -- the newest first
  return years ~= 0 and years or order(ffi.string(a.name), ffi.string(b.name))
end)

print(("6 structs of %d bytes, %d comparisons"):format(ffi.sizeof("language"), calls))
for i = 0, 5 do
  print(("  %d  %s"):format(languages[i].year, ffi.string(languages[i].name)))
end
