-- Reading and writing elements and members of cdata.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct acc_point { int x, y; };
struct acc_box { struct acc_point corner[2]; const int id; char label[8]; struct acc_point *owner; };
struct acc_cell { int value; struct acc_cell *next; };
struct acc_opaque;
]]

local i64 = ffi.typeof("int64_t")

test("elements of an array are counted from zero", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  test.equal(a[0], 10)
  test.equal(a[2], 30)
  a[1] = 99
  test.equal(a[1], 99)
end)

test("an index loses its fraction", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  test.equal(a[1.9], 20)
  a[2.5] = 5
  test.equal(a[2], 5)
end)

test("a 64-bit integer is an index", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  test.equal(a[i64(2)], 30)
  a[ffi.new("uint64_t", 1)] = 4
  test.equal(a[1], 4)
end)

test("any cdata integer is an index", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  test.equal(a[ffi.new("uint8_t", 2)], 30)
  test.equal(a[ffi.new("int", 1)], 20)
end)

test("a pointer is indexed like an array", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  local p = ffi.cast("int *", a)
  test.equal(p[2], 30)
  p[0] = 1
  test.equal(a[0], 1)
end)

test("a pointer may be indexed backwards within its object", function()
  local a = ffi.new("int[3]", 10, 20, 30)
  local p = ffi.cast("int *", a) + 2
  test.equal(p[-1], 20)
  test.equal(p[-2], 10)
end)

test("members of a struct are read and written by name", function()
  local s = ffi.new("struct acc_point")
  s.x, s.y = 3, 4
  test.equal(s.x, 3)
  test.equal(s["y"], 4)
end)

test("members are reached through a pointer to a struct", function()
  local s = ffi.new("struct acc_point", 3, 4)
  local p = ffi.cast("struct acc_point *", s)
  test.equal(p.x, 3)
  p.y = 40
  test.equal(s.y, 40)
end)

test("a pointer to a struct is indexed to reach the struct", function()
  local a = ffi.new("struct acc_point[2]", { { 1, 2 }, { 3, 4 } })
  local p = ffi.cast("struct acc_point *", a)
  test.equal(p[1].x, 3)
  p[1].x = 30
  test.equal(a[1].x, 30)
end)

test("a linked list is followed through its pointers", function()
  local third = ffi.new("struct acc_cell", 3)
  local second = ffi.new("struct acc_cell", 2, third)
  local first = ffi.new("struct acc_cell", 1, second)
  local sum, cell = 0, ffi.cast("struct acc_cell *", first)
  while cell ~= nil do
    sum = sum + cell.value
    cell = cell.next
  end
  test.equal(sum, 6)
end)

test("an array of arrays is indexed twice", function()
  local m = ffi.new("int[2][3]")
  m[1][2] = 6
  test.equal(m[1][2], 6)
  test.equal(m[0][2], 0)
  test.equal(ffi.cast("int *", m)[5], 6)
end)

test("assigning a struct to an element copies it", function()
  local a = ffi.new("struct acc_point[2]", { { 1, 2 }, { 3, 4 } })
  a[0] = a[1]
  a[1].x = 100
  test.equal(a[0].x, 3)
  test.equal(a[0].y, 4)
end)

test("assigning a table to an element fills the struct anew", function()
  local a = ffi.new("struct acc_point[1]", { { 1, 2 } })
  a[0] = { x = 7 }
  test.equal(a[0].x, 7)
  test.equal(a[0].y, 0)
end)

test("assigning through index zero of a pointer copies a struct", function()
  local s, t = ffi.new("struct acc_point", 1, 2), ffi.new("struct acc_point", 8, 9)
  local p = ffi.cast("struct acc_point *", s)
  p[0] = t
  test.equal(s.x, 8)
  test.equal(s.y, 9)
end)

test("an array member is assigned from a table", function()
  local b = ffi.new("struct acc_box")
  b.corner = { { 1, 2 }, { 3, 4 } }
  test.equal(b.corner[0].y, 2)
  test.equal(b.corner[1].x, 3)
end)

test("an array member is assigned from an array of its type", function()
  local b, c = ffi.new("struct acc_box"), ffi.new("struct acc_box")
  b.corner[1].y = 5
  c.corner = b.corner
  b.corner[1].y = 6
  test.equal(c.corner[1].y, 5)
end)

test("an array of another length is not assigned", function()
  local b = ffi.new("struct acc_box")
  test.fails(function() b.corner = ffi.new("struct acc_point[3]") end, "cannot convert")
end)

test("a pointer member holds the address of a struct", function()
  local b, p = ffi.new("struct acc_box"), ffi.new("struct acc_point", 1, 2)
  b.owner = p
  p.x = 55
  test.equal(b.owner.x, 55)
end)

test("pointers to pointers are indexed", function()
  local a = ffi.new("int[1]", 5)
  local pp = ffi.new("int *[1]", { a })
  test.equal(pp[0][0], 5)
  local q = ffi.cast("int **", pp)
  q[0][0] = 6
  test.equal(a[0], 6)
end)

test("a const member cannot be assigned", function()
  local b = ffi.new("struct acc_box", { id = 4 })
  test.equal(b.id, 4)
  test.fails(function() b.id = 5 end, "constant")
  test.equal(b.id, 4)
end)

test("elements of a const array cannot be assigned", function()
  local a = ffi.new("const int[2]", 1, 2)
  test.fails(function() a[0] = 9 end, "constant")
  test.equal(a[0], 1)
end)

test("nothing is written through a pointer to const", function()
  local a = ffi.new("int[2]", 1, 2)
  local p = ffi.cast("const int *", a)
  test.fails(function() p[0] = 9 end, "constant")
  a[0] = 3
  test.equal(p[0], 3)
end)

test("members of a const struct cannot be assigned", function()
  local s = ffi.new("const struct acc_point", 1, 2)
  test.fails(function() s.x = 9 end, "constant")
end)

test("a constant pointer still leads to writable memory", function()
  local a = ffi.new("int[1]", 1)
  local p = ffi.new("int *const", a)
  p[0] = 2
  test.equal(a[0], 2)
end)

test("reading an unknown member is an error", function()
  local s = ffi.new("struct acc_point")
  test.fails(function() return s.z end, "has no member named 'z'")
end)

test("writing an unknown member is an error", function()
  local s = ffi.new("struct acc_point")
  test.fails(function() s.z = 1 end, "has no member named 'z'")
end)

test("an unknown member of a pointed-to struct is an error", function()
  local s = ffi.new("struct acc_point")
  local p = ffi.cast("struct acc_point *", s)
  test.fails(function() return p.z end, "has no member named 'z'")
end)

test("a struct is not indexed by numbers", function()
  local s = ffi.new("struct acc_point")
  test.fails(function() return s[0] end)
end)

test("an array is not indexed by names", function()
  local a = ffi.new("int[2]")
  test.fails(function() return a.x end)
  test.fails(function() return a["0"] end)
end)

test("nil and tables are no index", function()
  local a = ffi.new("int[2]")
  test.fails(function() return a[nil] end)
  test.fails(function() a[{}] = 1 end)
end)

test("a number object is not indexed", function()
  local n = ffi.new("int", 5)
  test.fails(function() return n[0] end, "cannot be indexed")
  test.fails(function() return n.x end)
end)

test("a pointer to an incomplete struct has no members", function()
  local a = ffi.new("int[1]")
  local p = ffi.cast("struct acc_opaque *", ffi.cast("void *", a))
  test.fails(function() return p.x end)
end)

test("the parts of a complex number are read by name and by number", function()
  local z = ffi.new("double complex", 3, 4)
  test.equal(z.re, 3)
  test.equal(z.im, 4)
  test.equal(z[0], 3)
  test.equal(z[1], 4)
end)

test("a complex number has no other parts", function()
  local z = ffi.new("double complex", 3, 4)
  test.fails(function() return z.abs end)
end)

test("the parts of a complex number cannot be assigned", function()
  local z = ffi.new("double complex", 3, 4)
  test.fails(function() z.re = 1 end, "constant")
end)

test("a complex element is replaced as a whole", function()
  local a = ffi.new("double complex[2]")
  a[1] = ffi.new("double complex", 5, 6)
  test.equal(a[1].im, 6)
  a[1] = 7
  test.equal(a[1].re, 7)
  test.equal(a[1].im, 0)
end)

test("members keep their values while others are written", function()
  local b = ffi.new("struct acc_box", { id = 7, label = "box" })
  b.corner[0].x = -1
  b.corner[1].y = -1
  test.equal(b.id, 7)
  test.equal(ffi.string(b.label), "box")
end)

test("cdata is not called unless it is a function", function()
  test.fails(function() ffi.new("int", 5)() end, "callable")
  test.fails(function() ffi.new("struct acc_point")() end, "callable")
end)

test("the length of cdata is an error", function()
  test.fails(function() return #ffi.new("int[3]") end, "length")
end)

test("joining cdata with a string is an error", function()
  test.fails(function() return ffi.new("int[3]") .. "x" end, "concatenate")
end)

test("the metatable of cdata is hidden", function()
  test.equal(getmetatable(ffi.new("int[3]")), "ffi")
  test.equal(getmetatable(ffi.new("struct acc_point")), "ffi")
end)

test("the metatable of cdata cannot be set", function()
  test.fails(function() setmetatable(ffi.new("int[3]"), {}) end)
end)

test.done()
