-- The C declarations that ffi.cdef and the type arguments accept.

local ffi = require "ffi"
local test = require "behaviour"

test("line and block comments are skipped", function()
  ffi.cdef [[
    // a line comment
    struct dec_commented { /* a block
      comment */ int a; // the end
    };
  ]]
  test.equal(ffi.sizeof("struct dec_commented"), 4)
end)

test("declarations may be spread over several calls of ffi.cdef", function()
  ffi.cdef "typedef int dec_first;"
  ffi.cdef "typedef dec_first dec_second[4];"
  test.equal(ffi.sizeof("dec_second"), 16)
end)

test("a typedef names a struct without a tag", function()
  ffi.cdef "typedef struct { int a; int b; } dec_untagged;"
  local s = ffi.new("dec_untagged", 1, 2)
  test.equal(s.b, 2)
end)

test("a typedef may name several types at once", function()
  ffi.cdef "typedef struct dec_multi { int a; } dec_multi_t, *dec_multi_p;"
  test.equal(ffi.sizeof("dec_multi_t"), 4)
  test.equal(ffi.sizeof("dec_multi_p"), ffi.sizeof("void *"))
end)

test("tags and typedef names are separate", function()
  ffi.cdef "struct dec_same { char c[3]; }; typedef int dec_same;"
  test.equal(ffi.sizeof("struct dec_same"), 3)
  test.equal(ffi.sizeof("dec_same"), 4)
end)

test("nested structs are declared in place", function()
  ffi.cdef "struct dec_outer { int a; struct dec_inner { int b, c; } inner; };"
  local s = ffi.new("struct dec_outer")
  s.inner.c = 6
  test.equal(s.inner.c, 6)
  test.equal(ffi.sizeof("struct dec_inner"), 8)
end)

test("members of a transparent struct are reached directly", function()
  ffi.cdef "struct dec_transparent { int a; struct { int b, c; }; };"
  local s = ffi.new("struct dec_transparent")
  s.c = 5
  test.equal(s.c, 5)
  test.equal(s.b, 0)
  test.equal(ffi.offsetof("struct dec_transparent", "c"), 8)
end)

test("members of a transparent union share their memory", function()
  ffi.cdef "struct dec_shared { int kind; union { uint32_t word; uint8_t byte[4]; }; };"
  local s = ffi.new("struct dec_shared")
  s.word = 0x01010101
  for i = 0, 3 do test.equal(s.byte[i], 1) end
  test.equal(ffi.offsetof("struct dec_shared", "word"), ffi.offsetof("struct dec_shared", "byte"))
end)

test("transparent members may be nested in each other", function()
  ffi.cdef "struct dec_deep { union { struct { int x; union { int y; float z; }; }; int all[2]; }; };"
  local s = ffi.new("struct dec_deep")
  s.y = 12
  test.equal(s.all[1], 12)
end)

test("a struct may point to itself", function()
  ffi.cdef "struct dec_node { int value; struct dec_node *next; };"
  local tail = ffi.new("struct dec_node", 2)
  local head = ffi.new("struct dec_node", 1, tail)
  test.equal(head.next.value, 2)
  test.equal(head.next.next == nil, true)
end)

test("a struct may be declared before it is defined", function()
  ffi.cdef "struct dec_later; typedef struct dec_later *dec_later_p;"
  test.equal(ffi.new("dec_later_p") == nil, true)
  ffi.cdef "struct dec_later { int a, b, c; };"
  test.equal(ffi.sizeof("struct dec_later"), 12)
end)

test("a struct cannot be defined twice", function()
  ffi.cdef "struct dec_twice { int a; };"
  test.fails(function() ffi.cdef "struct dec_twice { int b; };" end, "redefine")
end)

test("one declaration holds declarators of different kinds", function()
  ffi.cdef "struct dec_declarators { int a, *b, c[2], (*d)(int); };"
  local s = ffi.new("struct dec_declarators")
  test.equal(s.a, 0)
  test.equal(s.b == nil, true)
  test.equal(ffi.sizeof(s.c), 8)
  test.equal(s.d == nil, true)
end)

test("pointers to arrays and arrays of pointers differ", function()
  test.equal(ffi.sizeof("int (*)[3]"), ffi.sizeof("void *"))
  test.equal(ffi.sizeof("int *[3]"), 3 * ffi.sizeof("void *"))
end)

test("arrays may have several dimensions", function()
  test.equal(ffi.sizeof("int[2][3][4]"), 96)
end)

test("the fixed-width integer types are predefined", function()
  for _, width in ipairs { 8, 16, 32, 64 } do
    test.equal(ffi.sizeof("int" .. width .. "_t"), width / 8)
    test.equal(ffi.sizeof("uint" .. width .. "_t"), width / 8)
  end
end)

test("the pointer-sized integer types are predefined", function()
  for _, name in ipairs { "intptr_t", "uintptr_t", "size_t", "ssize_t", "ptrdiff_t" } do
    test.equal(ffi.sizeof(name), ffi.sizeof("void *"))
  end
end)

test("va_list and wchar_t are predefined", function()
  test.equal(ffi.sizeof("va_list") > 0, true)
  test.equal(ffi.sizeof("wchar_t") >= 2, true)
end)

test("the words of an integer type may stand in any order", function()
  test.equal(ffi.typeof("unsigned long long") == ffi.typeof("long unsigned int long"), true)
  test.equal(ffi.typeof("short") == ffi.typeof("signed short int"), true)
end)

test("bool and _Bool are one type", function()
  test.equal(ffi.typeof("bool") == ffi.typeof("_Bool"), true)
  test.equal(ffi.sizeof("bool"), 1)
end)

test("complex and _Complex are one type", function()
  test.equal(ffi.typeof("double complex") == ffi.typeof("double _Complex"), true)
  test.equal(ffi.sizeof("double complex"), 16)
  test.equal(ffi.sizeof("float complex"), 8)
  test.equal(ffi.typeof("complex") == ffi.typeof("double complex"), true)
end)

test("an array size may be a constant expression", function()
  ffi.cdef "struct dec_sized { char a[2 * 3 + (1 << 2)]; char b[5 > 3 ? 7 : 9]; char c[~0 & 3]; };"
  test.equal(ffi.sizeof("struct dec_sized"), 10 + 7 + 3)
end)

test("sizeof may be used in a constant expression", function()
  ffi.cdef "struct dec_of_size { char a[sizeof(double) + sizeof(int[2])]; };"
  test.equal(ffi.sizeof("struct dec_of_size"), 16)
end)

test("a constant expression may use hexadecimal, octal and character constants", function()
  ffi.cdef "enum { DEC_HEX = 0x1F, DEC_OCTAL = 017, DEC_CHAR = 'A', DEC_ESCAPE = '\\n' };"
  test.equal(ffi.C.DEC_HEX, 31)
  test.equal(ffi.C.DEC_OCTAL, 15)
  test.equal(ffi.C.DEC_CHAR, 65)
  test.equal(ffi.C.DEC_ESCAPE, 10)
end)

test("an array size may be an enum constant", function()
  ffi.cdef "enum { DEC_COUNT = 6 }; struct dec_counted { short a[DEC_COUNT]; };"
  test.equal(ffi.sizeof("struct dec_counted"), 12)
end)

test("const and volatile are accepted before and after a type", function()
  test.equal(ffi.sizeof("const int"), 4)
  test.equal(ffi.sizeof("int const volatile"), 4)
  test.equal(ffi.sizeof("const char *const"), ffi.sizeof("void *"))
end)

test("restrict, inline and extern are accepted", function()
  ffi.cdef [[
    extern size_t strlen(const char *restrict text);
    extern int atoi(const char *__restrict text);
  ]]
  test.equal(tonumber(ffi.C.strlen("four")), 4)
end)

test("the body of an inline function is skipped", function()
  ffi.cdef [[
    static inline int dec_inline(int x) { if (x) { return x + 1; } return 0; }
    typedef int dec_after_inline;
  ]]
  test.equal(ffi.sizeof("dec_after_inline"), 4)
end)

test("an asm label gives a function another name in Lua", function()
  ffi.cdef [[int dec_magnitude(int) __asm__("abs");]]
  test.equal(ffi.C.dec_magnitude(-9), 9)
end)

test("an asm label is accepted in its short spelling", function()
  ffi.cdef [[size_t dec_length(const char *) asm("strlen");]]
  test.equal(tonumber(ffi.C.dec_length("abc")), 3)
end)

test("parameters may be declared with and without names", function()
  ffi.cdef "int abs(int value); long labs(long);"
  test.equal(ffi.C.abs(-1), 1)
  test.equal(tonumber(ffi.C.labs(-2)), 2)
end)

test("array parameters are pointers", function()
  ffi.cdef "void qsort(int items[], size_t count, size_t size, int (*compare)(const int *, const int *));"
  local a = ffi.new("int[2]", 2, 1)
  local compare = ffi.cast("int (*)(const int *, const int *)", function(x, y) return x[0] - y[0] end)
  ffi.C.qsort(a, 2, 4, compare)
  compare:free()
  test.equal(a[0], 1)
  test.equal(a[1], 2)
end)

test("a function may be declared again", function()
  ffi.cdef "int abs(int);"
  ffi.cdef "int abs(int);"
  test.equal(ffi.C.abs(-3), 3)
end)

test("adjacent string constants of an asm label are joined", function()
  ffi.cdef [[int dec_joined(int) __asm__("a" "bs");]]
  test.equal(ffi.C.dec_joined(-4), 4)
end)

test("a syntax error is raised by ffi.cdef", function()
  test.fails(function() ffi.cdef "struct dec_broken { int a;" end, "expected")
  test.fails(function() ffi.cdef "int int int dec_x = ;" end)
end)

test("an unknown type name in a declaration is an error that names it", function()
  test.fails(function() ffi.cdef "dec_unknown_type dec_f(int);" end, "dec_unknown_type")
end)

test("the number of the faulty line is told", function()
  test.fails(function() ffi.cdef "typedef int dec_fine;\n\ndec_unknown dec_g;" end, "line 3")
end)

test("the aligned attribute of a typedef is kept", function()
  ffi.cdef "typedef int dec_aligned __attribute__((aligned(16)));"
  test.equal(ffi.alignof("dec_aligned"), 16)
end)

test("an extension marker and unknown attributes are ignored", function()
  ffi.cdef "__extension__ int abs(int) __attribute__((__nothrow__, __leaf__)) __attribute__((const));"
  test.equal(ffi.C.abs(-5), 5)
end)

test.done()
