-- The rules of initialisers: flat values, tables, strings, copies.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
struct ini_point { int x, y; };
struct ini_line { struct ini_point from, to; };
struct ini_mixed { int id; struct ini_point at; short list[3]; char name[6]; };
union ini_value { int32_t i; float f; uint8_t bytes[4]; };
struct ini_tagged { int tag; union { int a; unsigned char b; }; int after; };
]]

local function contents(array, count)
  local out = {}
  for i = 0, count - 1 do out[i + 1] = tostring(array[i]) end
  return table.concat(out, " ")
end

test("one scalar initialises every element of an array", function()
  test.equal(contents(ffi.new("int[5]", 7), 5), "7 7 7 7 7")
end)

test("several flat initialisers fill an array from its first element", function()
  test.equal(contents(ffi.new("int[3]", 1, 2, 3), 3), "1 2 3")
end)

test("elements after the last of several initialisers are zero", function()
  test.equal(contents(ffi.new("int[5]", 1, 2), 5), "1 2 0 0 0")
end)

test("too many flat initialisers of an array are an error", function()
  test.fails(function() return ffi.new("int[2]", 1, 2, 3) end, "too many initializers")
end)

test("too many flat initialisers of a struct are an error", function()
  test.fails(function() return ffi.new("struct ini_point", 1, 2, 3) end, "too many initializers")
end)

test("too many initialisers of a scalar are an error", function()
  test.fails(function() return ffi.new("int", 1, 2) end, "too many initializers")
end)

test("too many elements in a table are an error", function()
  test.fails(function() return ffi.new("int[2]", { 1, 2, 3 }) end, "too many initializers")
end)

test("a table counted from one fills an array from its first element", function()
  test.equal(contents(ffi.new("int[4]", { 5, 6, 7 }), 4), "5 6 7 0")
end)

test("a table with a zeroth element is counted from zero", function()
  test.equal(contents(ffi.new("int[4]", { [0] = 5, 6, 7 }), 4), "5 6 7 0")
end)

test("a table of a single element initialises every element of an array", function()
  test.equal(contents(ffi.new("int[4]", { 9 }), 4), "9 9 9 9")
end)

test("a table with only a zeroth element initialises every element of an array", function()
  test.equal(contents(ffi.new("int[3]", { [0] = 8 }), 3), "8 8 8")
end)

test("an empty table leaves an array zero", function()
  test.equal(contents(ffi.new("int[3]", {}), 3), "0 0 0")
end)

test("a table is read up to its first missing element", function()
  test.equal(contents(ffi.new("int[5]", { 1, 2, nil, 4 }), 5), "1 2 0 0 0")
end)

test("flat initialisers fill the fields of a struct in order", function()
  local p = ffi.new("struct ini_point", 3, 4)
  test.equal(p.x, 3)
  test.equal(p.y, 4)
end)

test("one scalar initialises only the first field of a struct", function()
  local p = ffi.new("struct ini_point", 3)
  test.equal(p.x, 3)
  test.equal(p.y, 0)
end)

test("a table of named fields initialises a struct", function()
  local p = ffi.new("struct ini_point", { y = 8 })
  test.equal(p.x, 0)
  test.equal(p.y, 8)
end)

test("a table of positions initialises a struct", function()
  local p = ffi.new("struct ini_point", { 5, 6 })
  test.equal(p.x, 5)
  test.equal(p.y, 6)
end)

test("a table counted from zero initialises a struct", function()
  local p = ffi.new("struct ini_point", { [0] = 5, 6 })
  test.equal(p.x, 5)
  test.equal(p.y, 6)
end)

test("names in a table that are no fields are ignored", function()
  local p = ffi.new("struct ini_point", { x = 1, colour = "red" })
  test.equal(p.x, 1)
  test.equal(p.y, 0)
end)

test("nested tables initialise nested structs", function()
  local l = ffi.new("struct ini_line", { { 1, 2 }, { x = 3, y = 4 } })
  test.equal(l.from.x, 1)
  test.equal(l.from.y, 2)
  test.equal(l.to.x, 3)
  test.equal(l.to.y, 4)
end)

test("nested tables under field names initialise nested structs", function()
  local l = ffi.new("struct ini_line", { to = { 3, 4 } })
  test.equal(l.from.x, 0)
  test.equal(l.to.x, 3)
  test.equal(l.to.y, 4)
end)

test("flat initialisers may be tables for the nested members", function()
  local m = ffi.new("struct ini_mixed", 1, { 2, 3 }, { 4, 5, 6 }, "seven")
  test.equal(m.id, 1)
  test.equal(m.at.y, 3)
  test.equal(contents(m.list, 3), "4 5 6")
  test.equal(ffi.string(m.name), "seven")
end)

test("a table initialises members of all kinds by name", function()
  local m = ffi.new("struct ini_mixed", { name = "abc", list = { 1, 2 }, id = 9, at = { x = 4 } })
  test.equal(m.id, 9)
  test.equal(m.at.x, 4)
  test.equal(m.at.y, 0)
  test.equal(contents(m.list, 3), "1 2 0")
  test.equal(ffi.string(m.name), "abc")
end)

test("nested tables initialise the rows of an array of arrays", function()
  local m = ffi.new("int[2][3]", { { 1, 2, 3 }, { 4, 5, 6 } })
  test.equal(contents(m[0], 3), "1 2 3")
  test.equal(contents(m[1], 3), "4 5 6")
end)

test("tables as flat initialisers initialise the rows of an array of arrays", function()
  local m = ffi.new("int[2][2]", { 1, 2 }, { 3, 4 })
  test.equal(contents(m[0], 2), "1 2")
  test.equal(contents(m[1], 2), "3 4")
end)

test("an array of structs is initialised by a table of tables", function()
  local a = ffi.new("struct ini_point[3]", { { 1, 2 }, { x = 3 }, { y = 4 } })
  test.equal(a[0].y, 2)
  test.equal(a[1].x, 3)
  test.equal(a[1].y, 0)
  test.equal(a[2].y, 4)
end)

test("a single table in a table initialises every struct of an array", function()
  local a = ffi.new("struct ini_point[3]", { { 7, 8 } })
  for i = 0, 2 do
    test.equal(a[i].x, 7)
    test.equal(a[i].y, 8)
  end
end)

test("a string initialises a char array with its closing zero", function()
  local s = ffi.new("char[8]", "abc")
  test.equal(ffi.string(s), "abc")
  test.equal(s[3], 0)
end)

test("a string that fills a char array leaves no closing zero", function()
  local s = ffi.new("char[3]", "abc")
  test.equal(ffi.string(s, 3), "abc")
end)

test("a string longer than its char array is cut", function()
  local s = ffi.new("char[4]", "abcdefgh")
  test.equal(ffi.string(s, 4), "abcd")
end)

test("a string initialises an array of uint8_t", function()
  local s = ffi.new("uint8_t[4]", "\200\201")
  test.equal(s[0], 200)
  test.equal(s[1], 201)
  test.equal(s[2], 0)
end)

test("a string with zeros inside is copied whole", function()
  local s = ffi.new("char[6]", "a\0b\0c")
  test.equal(ffi.string(s, 5), "a\0b\0c")
end)

test("a variable-length char array is initialised by a string", function()
  local text = "hello"
  local s = ffi.new("char[?]", #text + 1, text)
  test.equal(ffi.string(s), text)
end)

test("a flat initialiser of a union sets its first member", function()
  local u = ffi.new("union ini_value", 0x01020304)
  test.equal(u.i, 0x01020304)
end)

test("a table initialises a union by the name of one member", function()
  local u = ffi.new("union ini_value", { f = 1.5 })
  test.equal(u.f, 1.5)
end)

test("a table of positions sets the first member of a union", function()
  local u = ffi.new("union ini_value", { 77 })
  test.equal(u.i, 77)
end)

test("more than one flat initialiser of a union is an error", function()
  test.fails(function() return ffi.new("union ini_value", 1, 2) end, "too many initializers")
end)

test("the initialiser after a transparent union sets the member after it", function()
  local t = ffi.new("struct ini_tagged", 1, 2, 3)
  test.equal(t.tag, 1)
  test.equal(t.a, 2)
  test.equal(t.after, 3)
end)

test("a table names members of a transparent union", function()
  local t = ffi.new("struct ini_tagged", { tag = 4, b = 200 })
  test.equal(t.tag, 4)
  test.equal(t.b, 200)
end)

test("a struct is copied when it initialises another of its type", function()
  local p = ffi.new("struct ini_point", 1, 2)
  local q = ffi.new("struct ini_point", p)
  p.x = 100
  test.equal(q.x, 1)
  test.equal(q.y, 2)
end)

test("an array is copied when it initialises another of its type", function()
  local a = ffi.new("int[3]", 1, 2, 3)
  local b = ffi.new("int[3]", a)
  a[0] = 100
  test.equal(contents(b, 3), "1 2 3")
end)

test("cdata numbers are accepted as initialisers", function()
  local a = ffi.new("int[2]", ffi.new("int64_t", 5), ffi.new("double", 6))
  test.equal(contents(a, 2), "5 6")
end)

test("structs are copied when they initialise members", function()
  local p, q = ffi.new("struct ini_point", 1, 2), ffi.new("struct ini_point", 3, 4)
  local l = ffi.new("struct ini_line", p, q)
  p.x = 9
  test.equal(l.from.x, 1)
  test.equal(l.to.y, 4)
end)

test("an initialiser of the wrong type is an error", function()
  test.fails(function() return ffi.new("int[2]", "text") end, "cannot convert")
  test.fails(function() return ffi.new("struct ini_point", "text", 1) end, "cannot convert")
end)

test("a wrong value within a table is an error", function()
  test.fails(function() return ffi.new("int[2]", { 1, {} }) end, "cannot convert")
  test.fails(function() return ffi.new("struct ini_point", { x = "one" }) end, "cannot convert")
end)

test("a complex number takes its real and imaginary part", function()
  local c = ffi.new("double complex", 3, 4)
  test.equal(c.re, 3)
  test.equal(c.im, 4)
end)

test("one number initialises only the real part of a complex number", function()
  local c = ffi.new("double complex", 3)
  test.equal(c.re, 3)
  test.equal(c.im, 0)
end)

test("a table initialises a complex number", function()
  local c = ffi.new("double complex", { 1, 2 })
  test.equal(c.re, 1)
  test.equal(c.im, 2)
end)

test.done()
