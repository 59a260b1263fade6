/* Compiled twice into libraries of one size, which do different things at the same place. */
#include "fx.h"

EXPORT unsigned plugin(uint32_t *p, unsigned n) {
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++) {
        __asm__ volatile(PLUGIN " %1, (%0)" : : "r"(p + i % 16), "r"(i) : "memory", "cc");
        sum += *(volatile uint32_t *)(p + i % 16);
    }
    return sum;
}
