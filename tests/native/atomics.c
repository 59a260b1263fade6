/* Locked instructions. */
#include "fx.h"

EXPORT void lock_add(void *p, uint32_t v) {
    __asm__ volatile("lock addl %1, (%0)" : : "r"(p), "r"(v) : "memory", "cc");
}
EXPORT uint64_t xchg8(void *p, uint64_t v) {
    __asm__ volatile("xchgq %0, (%1)" : "+r"(v) : "r"(p) : "memory");
    return v;
}
EXPORT uint32_t lock_xadd(void *p, uint32_t v) {
    __asm__ volatile("lock xaddl %0, (%1)" : "+r"(v) : "r"(p) : "memory", "cc");
    return v;
}
/* 1 if the exchange took place. */
EXPORT int lock_cmpxchg4(void *p, uint32_t expect, uint32_t value) {
    unsigned char ok;
    __asm__ volatile("lock cmpxchgl %3, (%2)\n\tsete %1"
                     : "+a"(expect), "=q"(ok) : "r"(p), "r"(value) : "memory", "cc");
    return ok;
}
EXPORT int lock_cmpxchg8b(void *p, uint64_t expect, uint64_t value) {
    unsigned char ok;
    uint32_t lo = (uint32_t)expect, hi = (uint32_t)(expect >> 32);
    __asm__ volatile("lock cmpxchg8b (%3)\n\tsete %2"
                     : "+a"(lo), "+d"(hi), "=q"(ok)
                     : "r"(p), "b"((uint32_t)value), "c"((uint32_t)(value >> 32))
                     : "memory", "cc");
    return ok;
}
/* On the first 16-byte boundary in the buffer. */
EXPORT int lock_cmpxchg16b(void *p, uint64_t expect_lo, uint64_t expect_hi, uint64_t lo,
                           uint64_t hi) {
    unsigned char ok;
    void *at = fx_align(p, 16);
    __asm__ volatile("lock cmpxchg16b (%3)\n\tsete %2"
                     : "+a"(expect_lo), "+d"(expect_hi), "=q"(ok)
                     : "r"(at), "b"(lo), "c"(hi) : "memory", "cc");
    return ok;
}
EXPORT int lock_bts(void *p, uint32_t bit) {
    unsigned char was;
    __asm__ volatile("lock btsl %2, (%1)\n\tsetc %0" : "=q"(was) : "r"(p), "r"(bit) : "memory", "cc");
    return was;
}
