-- Metatypes: ffi.metatype and the metamethods of cdata.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct met_point { double x, y; };
struct met_index { int real; };
struct met_fallback { int real; };
struct met_store { int real; };
struct met_call { int base; };
struct met_text { int n; };
struct met_equal { int key; int other; };
struct met_order { int rank; };
struct met_made { int a; };
struct met_late { int a; };
struct met_fixed { int a; };
struct met_pairs { int n; };
struct met_list { int count; double items[?]; };
struct met_arith { int n; };
typedef struct { float v[3]; } met_vector;
struct met_bad { int a; };
]]

local point
local point_methods = {}
local point_meta = {
  __add = function(a, b) return point(a.x + b.x, a.y + b.y) end,
  __sub = function(a, b) return point(a.x - b.x, a.y - b.y) end,
  __mul = function(a, b)
    if type(a) == "number" then return point(a * b.x, a * b.y) end
    if type(b) == "number" then return point(a.x * b, a.y * b) end
    return a.x * b.x + a.y * b.y
  end,
  __unm = function(a) return point(-a.x, -a.y) end,
  __len = function(a) return math.sqrt(a.x * a.x + a.y * a.y) end,
  __index = point_methods,
}
function point_methods:area() return self.x * self.y end
function point_methods.origin() return point(0, 0) end
point = ffi.metatype("struct met_point", point_meta)

test("ffi.metatype returns the ctype", function()
  test.equal(point == ffi.typeof("struct met_point"), true)
  test.equal(ffi.istype(point, point(1, 2)), true)
end)

test("operators of a metatype are applied to its objects", function()
  local p = point(1, 2) + point(3, 4)
  test.equal(p.x, 4)
  test.equal(p.y, 6)
  p = point(1, 2) - point(3, 5)
  test.equal(p.y, -3)
end)

test("an operator is applied when only one side has the metatype", function()
  local p = point(1, 2) * 3
  test.equal(p.y, 6)
  p = 2 * point(1, 2)
  test.equal(p.y, 4)
  test.equal(point(1, 2) * point(3, 4), 11)
end)

test("the unary minus is applied", function()
  test.equal((-point(1, 2)).y, -2)
end)

test("the length operator is applied", function()
  test.equal(#point(3, 4), 5)
end)

test("a method is called on an object", function()
  test.equal(point(3, 4):area(), 12)
end)

test("members come before the names of the index table", function()
  ffi.metatype("struct met_index", { __index = { real = "hidden", extra = "seen" } })
  local s = ffi.new("struct met_index", 5)
  test.equal(s.real, 5)
  test.equal(s.extra, "seen")
end)

test("a name that the index table lacks is an error", function()
  test.fails(function() return point(1, 2).nothing end, "no member named")
end)

test("an index function receives the object and the name", function()
  ffi.metatype("struct met_fallback", { __index = function(s, key) return key .. s.real end })
  local s = ffi.new("struct met_fallback", 7)
  test.equal(s.number, "number7")
  test.equal(s.real, 7)
end)

test("an index function receives numbers", function()
  ffi.metatype("met_vector", { __index = function(s, key) return s.v[key - 1] end })
  local v = ffi.new("met_vector", { { 1, 2, 3 } })
  test.equal(v[1], 1)
  test.equal(v[3], 3)
end)

test("a newindex function receives what is no member", function()
  local seen = {}
  ffi.metatype("struct met_store", { __newindex = function(_, key, value) seen[key] = value end })
  local s = ffi.new("struct met_store")
  s.real = 3
  s.extra = "kept"
  test.equal(s.real, 3)
  test.equal(seen.extra, "kept")
  test.equal(seen.real, nil)
end)

test("methods are called through a pointer to the struct", function()
  local s = point(3, 5)
  local p = ffi.cast("struct met_point *", s)
  test.equal(p:area(), 15)
end)

test("methods are called on a struct nested in another", function()
  local o = ffi.new("struct { struct met_point p; }", { { 2, 3 } })
  test.equal(o.p:area(), 6)
end)

test("methods are called on the elements of an array", function()
  local a = ffi.new("struct met_point[2]", { { 1, 2 }, { 3, 4 } })
  test.equal(a[1]:area(), 12)
  local sum = a[0] + a[1]
  test.equal(sum.x, 4)
end)

test("the index table is reached through the ctype", function()
  local p = point.origin()
  test.equal(p.x, 0)
  test.equal(ffi.istype(point, p), true)
end)

test("methods added to the index table later are found", function()
  local methods = {}
  ffi.metatype("struct met_late", { __index = methods })
  local s = ffi.new("struct met_late", 4)
  test.fails(function() return s.twice end, "no member named")
  function methods:twice() return self.a * 2 end
  test.equal(s:twice(), 8)
end)

test("an object is called by its call metamethod", function()
  ffi.metatype("struct met_call", { __call = function(s, a, b) return s.base + a + b end })
  local s = ffi.new("struct met_call", 100)
  test.equal(s(20, 3), 123)
end)

test("tostring uses the tostring metamethod", function()
  ffi.metatype("struct met_text", {
    __tostring = function(s) return "text " .. s.n end,
    __concat = function(a, b) return tostring(a) .. "/" .. tostring(b) end,
  })
  test.equal(tostring(ffi.new("struct met_text", 5)), "text 5")
end)

test("joining uses the concat metamethod", function()
  local s = ffi.new("struct met_text", 5)
  test.equal(s .. "end", "text 5/end")
  test.equal("start" .. s, "start/text 5")
end)

test("equality uses the eq metamethod", function()
  ffi.metatype("struct met_equal", { __eq = function(a, b)
    return ffi.istype("struct met_equal", a) and ffi.istype("struct met_equal", b) and a.key == b.key
  end })
  local a, b, c = ffi.new("struct met_equal", 1, 2), ffi.new("struct met_equal", 1, 3),
    ffi.new("struct met_equal", 2, 2)
  test.equal(a == b, true)
  test.equal(a == c, false)
  test.equal(a ~= c, true)
end)

test("the eq metamethod is also asked about other types", function()
  test.equal(ffi.new("struct met_equal", 1) == 1, false)
  test.equal(ffi.new("struct met_equal", 1) == "x", false)
end)

test("ordering uses the lt and le metamethods", function()
  ffi.metatype("struct met_order", {
    __lt = function(a, b) return a.rank < b.rank end,
    __le = function(a, b) return a.rank <= b.rank end,
  })
  local low, high = ffi.new("struct met_order", 1), ffi.new("struct met_order", 2)
  test.equal(low < high, true)
  test.equal(high < low, false)
  test.equal(low <= low, true)
  test.equal(high > low, true)
  test.equal(low >= high, false)
end)

test("division, remainder and power use their metamethods", function()
  ffi.metatype("struct met_arith", {
    __div = function() return "div" end,
    __mod = function() return "mod" end,
    __pow = function() return "pow" end,
  })
  local s = ffi.new("struct met_arith")
  test.equal(s / 1, "div")
  test.equal(1 % s, "mod")
  test.equal(s ^ s, "pow")
end)

test("a new metamethod makes the objects of a ctype call", function()
  local made = ffi.metatype("struct met_made", {
    __new = function(ct, a, b) return ffi.new(ct, a * b) end,
  })
  test.equal(made(6, 7).a, 42)
end)

test("ffi.new does not use the new metamethod", function()
  test.equal(ffi.new("struct met_made", 5).a, 5)
end)

test("a metatype of a variable-length struct has a length", function()
  local list = ffi.metatype("struct met_list", {
    __len = function(l) return l.count end,
    __index = function(l, i) return l.items[i - 1] end,
    __new = function(ct, t) return ffi.new(ct, #t, #t, t) end,
  })
  local l = list { 1.5, 2.5, 3.5 }
  test.equal(#l, 3)
  test.equal(l[3], 3.5)
end)

test("pairs and ipairs use their metamethods", function()
  ffi.metatype("struct met_pairs", {
    __pairs = function(s) return function(_, k) if not k then return "n", s.n end end end,
    __ipairs = function(s) return function(_, i) if i < s.n then return i + 1, i + 1 end end, s, 0 end,
  })
  local s = ffi.new("struct met_pairs", 3)
  local names, sum = {}, 0
  for k, v in pairs(s) do names[k] = v end
  for _, v in ipairs(s) do sum = sum + v end
  test.equal(names.n, 3)
  test.equal(sum, 6)
end)

test("a metatype is set only once", function()
  ffi.metatype("struct met_fixed", {})
  test.fails(function() ffi.metatype("struct met_fixed", {}) end, "protected metatable")
end)

test("only structs, unions and complex types take a metatype", function()
  test.fails(function() ffi.metatype("int", {}) end)
  test.fails(function() ffi.metatype("int *", {}) end)
end)

test("the metatable of a metatype must be a table", function()
  test.fails(function() ffi.metatype("struct met_bad", 5) end, "bad argument")
end)

test("an operator without its metamethod is an error", function()
  test.fails(function() return point(1, 2) / point(1, 2) end, "arithmetic")
end)

test("an error raised in a metamethod reaches the caller", function()
  ffi.cdef "struct met_raise { int a; };"
  ffi.metatype("struct met_raise", { __add = function() error("from the metamethod") end })
  test.fails(function() return ffi.new("struct met_raise") + 1 end, "from the metamethod")
end)

test.done()
