/* What goes wrong only after many turns of a loop, at an instruction that was right until then. */
#include "fx.h"

#define TURNS(n, good, bad) ((i) + 1 == (n) ? (bad) : (good))

static __attribute__((noinline)) void touch(uint32_t *at, unsigned i) {
    __asm__ volatile("addl %1, (%0)" : : "r"(at), "r"(i) : "memory"); /* MARK: hot_touch */
}
static __attribute__((noinline)) unsigned peek(const uint32_t *at) {
    unsigned value;
    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(at)); /* MARK: hot_peek */
    return value;
}

/* At `offset` from the buffer in the last turn. */
EXPORT unsigned hot_outside(uint32_t *p, unsigned n, long offset) {
    for (unsigned i = 0; i < n; i++) touch((uint32_t *)((char *)p + TURNS(n, (i % 8) * 4, offset)), i);
    return n;
}
EXPORT unsigned hot_outside_read(const uint32_t *p, unsigned n, long offset) {
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += peek((const uint32_t *)((const char *)p + TURNS(n, (i % 8) * 4, offset)));
    return sum;
}
/* In another buffer in the last turn: freed, read-only, or none. */
EXPORT unsigned hot_elsewhere(uint32_t *p, uint32_t *q, unsigned n) {
    for (unsigned i = 0; i < n; i++) touch(TURNS(n, p + i % 8, q), i);
    return n;
}
EXPORT unsigned hot_constant(uint32_t *p, const uint32_t *q, unsigned n) {
    for (unsigned i = 0; i < n; i++) touch(TURNS(n, p + i % 8, (uint32_t *)q), i);
    return n;
}
EXPORT unsigned hot_divide(uint32_t *p, unsigned n) {
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned low = 100, high = 0, by = n - 1 - i;
        touch(p + i % 8, i);
        __asm__ volatile("divl %2" : "+a"(low), "+d"(high) : "r"(by)); /* MARK: hot_divide */
        sum += low;
    }
    return sum;
}
EXPORT unsigned hot_undefined(uint32_t *p, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        __asm__ volatile("addl %1, (%0)" : : "r"(p + i % 8), "r"(i) : "memory");
        if (i + 1 == n) __asm__ volatile("ud2"); /* MARK: hot_undefined */
    }
    return n;
}
EXPORT void hot_endless(uint32_t *p) {
    for (unsigned i = 0;; i++) __asm__ volatile("addl %1, (%0)" : : "r"(p + i % 8), "r"(i) : "memory");
}
