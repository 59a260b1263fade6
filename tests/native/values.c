/* Arguments and results: every scalar type, structs by value, many arguments. */
#include "fx.h"
#include <stdbool.h>

struct point { int x, y; };
struct pair_d { double a, b; };
struct mixed { int64_t count; double ratio; };
struct big { int64_t a, b, c, d; };
struct nested { struct point p; float f; uint8_t tail; };

EXPORT int8_t id_i8(int8_t v) { return v; }
EXPORT uint8_t id_u8(uint8_t v) { return v; }
EXPORT int16_t id_i16(int16_t v) { return v; }
EXPORT uint16_t id_u16(uint16_t v) { return v; }
EXPORT int32_t id_i32(int32_t v) { return v; }
EXPORT uint32_t id_u32(uint32_t v) { return v; }
EXPORT int64_t id_i64(int64_t v) { return v; }
EXPORT uint64_t id_u64(uint64_t v) { return v; }
EXPORT size_t id_size(size_t v) { return v; }
EXPORT long id_long(long v) { return v; }
EXPORT long long id_longlong(long long v) { return v; }
EXPORT unsigned short id_ushort(unsigned short v) { return v; }
EXPORT float half_f(float v) { return v / 2; }
EXPORT double half_d(double v) { return v / 2; }
EXPORT bool not_bool(bool v) { return !v; }
EXPORT char next_char(char c) { return (char)(c + 1); }

EXPORT double many_args(int a, double b, long c, float d, unsigned char e, short f, int64_t g,
                        uint64_t h, double i, double j, float k, double l, double m, double n,
                        double o, int p) {
    return a + 10 * b + 100 * c + 1000 * d + e + f + g + (double)h + i + j + k + l + m + n + o + p;
}
EXPORT int64_t ten_ints(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f,
                        int64_t g, int64_t h, int64_t i, int64_t j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

EXPORT struct point make_point(int x, int y) { return (struct point){x, y}; }
EXPORT struct pair_d make_pair_d(double a, double b) { return (struct pair_d){a, b}; }
EXPORT struct mixed make_mixed(int64_t i, double d) { return (struct mixed){i, d}; }
EXPORT struct big make_big(int64_t a) { return (struct big){a, a + 1, a + 2, a + 3}; }
EXPORT int sum_point(struct point p) { return p.x + p.y; }
EXPORT int64_t sum_big(struct big b) { return b.a + b.b + b.c + b.d; }
EXPORT double sum_mixed(struct mixed m) { return (double)m.count + m.ratio; }
EXPORT int sum_nested(struct nested n) { return n.p.x + n.p.y + (int)n.f + n.tail; }

/* Pointers handed back: into a buffer, and null. */
EXPORT void *advance(void *p, size_t n) { return (char *)p + n; }
EXPORT void *null_pointer(void) { return NULL; }

/* A plain struct copy, the case of `movups` at -O2. */
struct forty { uint64_t w[5]; };
EXPORT void copy_struct(struct forty *dst, const struct forty *src) { *dst = *src; }
EXPORT void fill_point(struct point *p, int x, int y) { p->x = x; p->y = y; }
/* Writes the first and third member only: the middle stays uninitialised. */
struct gap { int a, b, c; };
EXPORT void fill_gap(struct gap *g) { g->a = 1; g->c = 3; }

/* Follows a pointer stored in one buffer into another one. */
EXPORT int through_pointer(int *const *slot) { return **slot; }
/* One parameter may refer into the other one's buffer. */
EXPORT int offset_reads(const uint8_t *p, const uint8_t *q) { return p[0] * 256 + q[0]; }
