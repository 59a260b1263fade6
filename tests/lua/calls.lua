-- Calling C functions: arguments, results, variable arguments.

local ffi = require "ffi"
local test = require "behaviour"

ffi.cdef [[
typedef struct { int quot, rem; } cal_div;
typedef struct { long quot, rem; } cal_ldiv;
struct cal_address { uint32_t bits; };
int abs(int);
long labs(long);
long long llabs(long long);
cal_div div(int, int);
cal_ldiv ldiv(long, long);
char *inet_ntoa(struct cal_address);
double sqrt(double);
float sqrtf(float);
double pow(double, double);
double ldexp(double, int);
double frexp(double, int *);
double modf(double, double *);
double cabs(double complex);
double complex conj(double complex);
size_t strlen(const char *);
int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t);
char *strcpy(char *, const char *);
char *strchr(const char *, int);
void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);
int memcmp(const void *, const void *, size_t);
int snprintf(char *, size_t, const char *, ...);
int sscanf(const char *, const char *, ...);
long strtol(const char *, char **, int);
double strtod(const char *, char **);
int toupper(int);
char *getenv(const char *);
int setenv(const char *, const char *, int);
void srand(unsigned);
struct cal_tm { int sec, min, hour, mday, mon, year, wday, yday, isdst; long gmtoff; const char *zone; };
struct cal_tm *gmtime_r(const int64_t *, struct cal_tm *);
]]

local C = ffi.C

local function format(pattern, ...)
  local buffer = ffi.new("char[200]")
  local length = C.snprintf(buffer, 200, pattern, ...)
  return ffi.string(buffer, length)
end

test("a function takes and returns an int", function()
  test.equal(C.abs(-5), 5)
end)

test("an int argument loses its fraction", function()
  test.equal(C.abs(-5.9), 5)
end)

test("a function takes and returns doubles", function()
  test.equal(C.sqrt(81), 9)
  test.equal(C.pow(2, 10), 1024)
end)

test("a function takes and returns floats", function()
  test.equal(C.sqrtf(6.25), 2.5)
end)

test("a function takes a double and an int", function()
  test.equal(C.ldexp(1.5, 4), 24)
end)

test("a 64-bit result is cdata", function()
  local n = C.llabs(-5)
  test.equal(ffi.istype("int64_t", n), true)
  test.equal(tonumber(n), 5)
  test.equal(ffi.istype("size_t", C.strlen("abc")), true)
end)

test("a 64-bit argument is passed whole", function()
  local n = -(ffi.new("int64_t", 2 ^ 53) + 1)
  test.equal(tostring(C.llabs(n)), "9007199254740993LL")
end)

test("a string is passed to a pointer to constant characters", function()
  test.equal(tonumber(C.strlen("")), 0)
  test.equal(tonumber(C.strlen("twelve bytes")), 12)
  test.equal(C.strcmp("abc", "abc"), 0)
  test.equal(C.strcmp("abc", "abd") < 0, true)
end)

test("a string is not passed to a pointer to writable characters", function()
  test.fails(function() return C.strcpy("target", "source") end, "cannot convert")
end)

test("an array is passed to a pointer", function()
  local b = ffi.new("char[16]")
  C.strcpy(b, "copied")
  test.equal(ffi.string(b), "copied")
end)

test("a struct is passed to a pointer by its address", function()
  local seconds = ffi.new("int64_t[1]", 86400)
  local tm = ffi.new("struct cal_tm")
  local result = C.gmtime_r(seconds, tm)
  test.equal(tm.mday, 2)
  test.equal(tm.year, 70)
  test.equal(result == tm, true)
end)

test("a function writes its second result through a pointer", function()
  local exponent = ffi.new("int[1]")
  test.equal(C.frexp(12, exponent), 0.75)
  test.equal(exponent[0], 4)
  local whole = ffi.new("double[1]")
  test.equal(C.modf(3.25, whole), 0.25)
  test.equal(whole[0], 3)
end)

test("a small struct is returned by value", function()
  local r = C.div(17, 5)
  test.equal(r.quot, 3)
  test.equal(r.rem, 2)
end)

test("a struct of two registers is returned by value", function()
  local r = C.ldiv(-17, 5)
  test.equal(tonumber(r.quot), -3)
  test.equal(tonumber(r.rem), -2)
end)

test("each returned struct is a separate object", function()
  local a, b = C.div(7, 2), C.div(9, 2)
  test.equal(a.quot, 3)
  test.equal(b.quot, 4)
end)

test("a struct is passed by value", function()
  local address = ffi.new("struct cal_address")
  ffi.copy(address, "\127\0\0\1", 4)
  test.equal(ffi.string(C.inet_ntoa(address)), "127.0.0.1")
end)

test("a table becomes a struct that is passed by value", function()
  test.equal(ffi.string(C.inet_ntoa({ bits = 0 })), "0.0.0.0")
end)

test("a complex number is passed by value", function()
  test.equal(C.cabs(ffi.new("double complex", 3, 4)), 5)
end)

test("a complex number is returned by value", function()
  local z = C.conj(ffi.new("double complex", 3, 4))
  test.equal(z.re, 3)
  test.equal(z.im, -4)
end)

test("nil is passed as NULL", function()
  test.equal(tonumber(C.strtol("42", nil, 10)), 42)
end)

test("a NULL result equals nil", function()
  test.equal(C.strchr("abc", 120) == nil, true)
  test.equal(C.getenv("CAL_NO_SUCH_VARIABLE") == nil, true)
end)

test("a returned string is read by ffi.string", function()
  test.equal(C.setenv("CAL_VARIABLE", "value", 1), 0)
  test.equal(ffi.string(C.getenv("CAL_VARIABLE")), "value")
end)

test("a pointer into the argument is returned", function()
  local b = ffi.new("char[8]", "a=b")
  local p = C.strchr(b, 61)
  test.equal(ffi.string(p), "=b")
  test.equal(p - ffi.cast("char *", b), 1)
end)

test("an end pointer is written into an array of one pointer", function()
  local b = ffi.new("char[16]", "123abc")
  local rest = ffi.new("char *[1]")
  test.equal(tonumber(C.strtol(b, rest, 10)), 123)
  test.equal(ffi.string(rest[0]), "abc")
  test.equal(C.strtod(b, rest), 123)
  test.equal(ffi.string(rest[0]), "abc")
end)

test("a function without a result returns no values", function()
  test.equal(select("#", C.srand(1)), 0)
end)

test("a pointer result has the declared type", function()
  local b = ffi.new("char[4]")
  local p = C.memset(b, 65, 3)
  test.equal(ffi.istype("void *", p), true)
  test.equal(ffi.string(b), "AAA")
end)

test("any array is passed to a void pointer", function()
  local a, b = ffi.new("int[2]", 1, 2), ffi.new("int[2]")
  C.memcpy(b, a, 8)
  test.equal(b[1], 2)
  test.equal(C.memcmp(a, b, 8), 0)
end)

test("a string is passed to a pointer to constant void", function()
  local b = ffi.new("char[4]")
  C.memcpy(b, "xyz", 3)
  test.equal(ffi.string(b), "xyz")
end)

test("an array of another element type is refused", function()
  test.fails(function() return C.frexp(1, ffi.new("double[1]")) end, "cannot convert")
end)

test("a pointer to const is refused where the function may write", function()
  local b = ffi.new("char[4]")
  local p = ffi.cast("const char *", b)
  test.fails(function() return C.memset(p, 0, 1) end, "cannot convert")
end)

test("too few arguments are an error", function()
  test.fails(function() return C.pow(2) end, "wrong number of arguments")
  test.fails(function() return C.abs() end, "wrong number of arguments")
end)

test("too many arguments are an error", function()
  test.fails(function() return C.abs(1, 2) end, "wrong number of arguments")
end)

test("an argument of the wrong type is an error that tells its number", function()
  test.fails(function() return C.pow(1, {}) end, "bad argument #2")
  test.fails(function() return C.abs("x") end, "cannot convert 'string' to 'int'")
end)

test("a bool is passed for an int", function()
  test.equal(C.abs(true), 1)
end)

test("a Lua number is a double among variable arguments", function()
  test.equal(format("%g", 1.5), "1.5")
  test.equal(format("%.0f", 12), "12")
end)

test("an int object is an int among variable arguments", function()
  test.equal(format("%d", ffi.new("int", -42)), "-42")
  test.equal(format("%x", ffi.new("unsigned", 0xbeef)), "beef")
end)

test("smaller integers are widened among variable arguments", function()
  test.equal(format("%d", ffi.new("int8_t", -3)), "-3")
  test.equal(format("%d", ffi.new("uint16_t", 65535)), "65535")
end)

test("a float object is a double among variable arguments", function()
  test.equal(format("%g", ffi.new("float", 0.25)), "0.25")
end)

test("a 64-bit integer is passed whole among variable arguments", function()
  local n = ffi.new("int64_t", 2 ^ 53) + 1
  test.equal(format("%lld", n), "9007199254740993")
end)

test("a string is a character pointer among variable arguments", function()
  test.equal(format("<%s>", "text"), "<text>")
end)

test("a char array is a pointer among variable arguments", function()
  test.equal(format("<%s>", ffi.new("char[8]", "array")), "<array>")
end)

test("a boolean is an int among variable arguments", function()
  test.equal(format("%d %d", true, false), "1 0")
end)

test("nil is a NULL pointer among variable arguments", function()
  test.equal(format("%p", nil), "(nil)")
end)

test("an enum is an int among variable arguments", function()
  ffi.cdef "enum cal_enum { CAL_TEN = 10 };"
  test.equal(format("%d", ffi.new("enum cal_enum", "CAL_TEN")), "10")
end)

test("variable arguments of many kinds are mixed", function()
  test.equal(format("%s %d %g %lld %c", "a", ffi.new("int", 1), 2.5, ffi.new("int64_t", 3),
    ffi.new("char", 65)), "a 1 2.5 3 A")
end)

test("more variable arguments than registers are passed", function()
  local int = ffi.typeof("int")
  test.equal(format("%d %d %d %d %d %d %d %d", int(1), int(2), int(3), int(4), int(5), int(6),
    int(7), int(8)), "1 2 3 4 5 6 7 8")
  test.equal(format("%g %g %g %g %g %g %g %g %g %g", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    "1 2 3 4 5 6 7 8 9 10")
end)

test("a variable argument receives a result", function()
  local n, word = ffi.new("int[1]"), ffi.new("char[16]")
  test.equal(C.sscanf("17 apples", "%d %15s", n, word), 2)
  test.equal(n[0], 17)
  test.equal(ffi.string(word), "apples")
end)

test("a table is no variable argument", function()
  test.fails(function() return format("%d", {}) end, "cannot convert")
end)

test("the fixed arguments of a variable-argument function are still needed", function()
  test.fails(function() return C.snprintf(nil, 0) end, "wrong number of arguments")
end)

test("a C function pointer is called", function()
  local f = ffi.cast("int (*)(int)", C.abs)
  test.equal(f(-6), 6)
end)

test("a struct member that is a function pointer is called", function()
  ffi.cdef "struct cal_ops { int (*change)(int); };"
  local ops = ffi.new("struct cal_ops", { change = C.toupper })
  test.equal(ops.change(97), 65)
end)

test("an array of function pointers is called", function()
  local table_of = ffi.new("int (*[2])(int)", C.abs, C.toupper)
  test.equal(table_of[0](-1), 1)
  test.equal(table_of[1](98), 66)
end)

test.done()
