-- Namespaces of C libraries: ffi.C and ffi.load.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
int abs(int);
int toupper(int);
double sqrt(double);
int nam_not_in_any_library(int);
extern int nam_variable_in_no_library;
extern int optind;
extern int opterr;
extern char **environ;
const char *zlibVersion(void);
unsigned long nam_checksum(unsigned long, const unsigned char *, unsigned) __asm__("crc32");
static const int NAM_CONSTANT = 6;
]]

test("the default namespace finds functions of the C library", function()
  test.equal(ffi.C.abs(-2), 2)
end)

test("the default namespace finds functions of the mathematics library", function()
  test.equal(ffi.C.sqrt(16), 4)
end)

test("a namespace is a userdata", function()
  test.equal(type(ffi.C), "userdata")
  test.equal(type(ffi.load("z")), "userdata")
end)

test("a function of a namespace is cdata", function()
  test.equal(type(ffi.C.abs), "cdata")
end)

test("a function is looked up once", function()
  test.equal(rawequal(ffi.C.abs, ffi.C.abs), true)
end)

test("a function may be kept in a local variable", function()
  local abs = ffi.C.abs
  test.equal(abs(-7), 7)
end)

test("a namespace may be kept in a local variable", function()
  local C = ffi.C
  test.equal(C.toupper(97), 65)
end)

test("an undeclared name is an error that names it", function()
  test.fails(function() return ffi.C.nam_undeclared end, "missing declaration for symbol 'nam_undeclared'")
end)

test("a declared function that no library holds is an error on use", function()
  test.fails(function() return ffi.C.nam_not_in_any_library end, "nam_not_in_any_library")
end)

test("a declared variable that no library holds is an error on use", function()
  test.fails(function() return ffi.C.nam_variable_in_no_library end, "nam_variable_in_no_library")
end)

test("declaring a missing function is no error", function()
  ffi.cdef "int nam_also_missing(void);"
end)

test("a missing name may be probed by pcall", function()
  local function has(name) return (pcall(function() return ffi.C[name] end)) end
  test.equal(has("abs"), true)
  test.equal(has("nam_not_in_any_library"), false)
end)

test("a variable is read from the namespace", function()
  test.equal(type(ffi.C.optind), "number")
  test.equal(ffi.C.optind, 1)
end)

test("a variable is assigned in the namespace", function()
  local before = ffi.C.opterr
  ffi.C.opterr = 0
  test.equal(ffi.C.opterr, 0)
  ffi.C.opterr = before
  test.equal(ffi.C.opterr, before)
end)

test("a pointer variable is read from the namespace", function()
  test.equal(ffi.C.environ ~= nil, true)
  test.equal(ffi.istype("char **", ffi.C.environ), true)
end)

test("a function cannot be assigned", function()
  test.fails(function() ffi.C.abs = ffi.C.toupper end)
  test.equal(ffi.C.abs(-1), 1)
end)

test("an undeclared name cannot be assigned", function()
  test.fails(function() ffi.C.nam_new = 1 end, "missing declaration")
end)

test("a namespace is only indexed by strings", function()
  test.fails(function() return ffi.C[1] end)
end)

test("a library is loaded by its short name", function()
  local z = ffi.load("z")
  test.equal(ffi.string(z.zlibVersion()):match("^%d+%.%d+") ~= nil, true)
end)

test("a library that does not exist is an error", function()
  test.fails(function() return ffi.load("nam_no_such_library") end, "nam_no_such_library")
end)

test("a library does not hold what another one declares", function()
  local z = ffi.load("z")
  test.fails(function() return z.nam_not_in_any_library end, "nam_not_in_any_library")
end)

test("a loaded library also finds constants", function()
  test.equal(ffi.load("z").NAM_CONSTANT, 6)
end)

test("an asm label is looked up in the loaded library", function()
  local z = ffi.load("z")
  test.equal(tonumber(z.nam_checksum(0, "123456789", 9)), 0xcbf43926)
end)

test("a library may be loaded twice", function()
  local a, b = ffi.load("z"), ffi.load("z")
  test.equal(ffi.string(a.zlibVersion()), ffi.string(b.zlibVersion()))
end)

test("a library loaded globally is found in the default namespace", function()
  local z = ffi.load("z", true)
  test.equal(ffi.string(ffi.C.zlibVersion()), ffi.string(z.zlibVersion()))
end)

test("the name of a library must be a string", function()
  test.fails(function() return ffi.load({}) end, "bad argument")
end)

test.done()
