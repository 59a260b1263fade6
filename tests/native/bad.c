/* Accesses that break a rule. Each marked line holds the one access that does. */
#include "fx.h"
#include <stdlib.h>
#include <string.h>

EXPORT int oob_read_after(const int *p, size_t n) {
    int ok = *(volatile const int *)p;
    return ok + *(volatile const int *)(p + n); /* MARK: oob_read_after */
}
EXPORT void oob_write_after(char *p, size_t n) {
    *(volatile char *)p = 'a';
    *(volatile char *)(p + n) = 'b'; /* MARK: oob_write_after */
}
EXPORT char oob_read_before(const char *p) {
    return *(volatile const char *)(p - 1); /* MARK: oob_read_before */
}
EXPORT void oob_write_before(int *p) {
    *(volatile int *)(p - 1) = 1; /* MARK: oob_write_before */
}
/* Half inside, half outside. */
EXPORT uint64_t oob_straddle(const char *p, size_t n) {
    return *(volatile const uint64_t *)(p + n - 4); /* MARK: oob_straddle */
}
EXPORT char oob_far(const char *p, size_t by) {
    return *(volatile const char *)(p + by); /* MARK: oob_far */
}
/* From one buffer into another one: live memory, but not through this pointer's allocation. The
 * red zone between them is what an off-by-some overrun meets first. */
EXPORT unsigned oob_loop(const uint8_t *p, size_t n) {
    unsigned sum = 0;
    for (size_t i = 0; i <= n; i++)
        sum += *(volatile const uint8_t *)(p + i); /* MARK: oob_loop */
    return sum;
}
/* A vector load past the end, by no string function: no benign over-read. */
EXPORT int oob_vector(const char *p, size_t n) {
    int v;
    __asm__ volatile("movups (%1), %%xmm0\n\tmovd %%xmm0, %0" /* MARK: oob_vector */
                     : "=r"(v) : "r"(p + n - 12) : "xmm0", "memory");
    return v;
}
static void *(*volatile do_memcpy)(void *, const void *, size_t) = memcpy;
/* libc writes past the end for us; the line is the caller's, in the backtrace. */
EXPORT void oob_memcpy(char *p, size_t n) {
    char local[64] = {0};
    do_memcpy(p, local, n + 1);
    __asm__ volatile("" ::: "memory");
}
static __attribute__((noinline)) void helper_writes(char *p) {
    *(volatile char *)p = 1; /* MARK: helper_writes */
}
/* The culprit is a local function of the library, one frame down. */
EXPORT int oob_in_helper(char *p, size_t n) {
    helper_writes(p + n);
    return 1;
}

EXPORT void write_const(const char *p) {
    *(volatile char *)p = 'x'; /* MARK: write_const */
}
EXPORT void add_const(const int *p) {
    int *q = (int *)p;
    __asm__ volatile("addl $1, (%0)" : : "r"(q) : "memory", "cc"); /* MARK: add_const */
}

EXPORT int read_null(const int *p) {
    return *(volatile const int *)p; /* MARK: read_null */
}
EXPORT void write_null(int *p) {
    *(volatile int *)p = 1; /* MARK: write_null */
}
EXPORT short read_null_member(const char *p) {
    return *(volatile const short *)(p + 0x28); /* MARK: read_null_member */
}
/* At an address of the caller's choice: unmapped, kernel's, not canonical. */
EXPORT int read_at(uint64_t addr) {
    return *(volatile int *)addr; /* MARK: read_at */
}
EXPORT void write_at(uint64_t addr) {
    *(volatile char *)addr = 1; /* MARK: write_at */
}
/* The library's own read-only data. */
static const char own_rodata[] = "constant";
EXPORT void write_own_rodata(void) {
    *(volatile char *)own_rodata = 'C'; /* MARK: write_own_rodata */
}
/* The library's own heap and statics are its own business. */
EXPORT int own_memory(int *p) {
    static int counter;
    int *heap = malloc(sizeof *heap);
    *(volatile int *)heap = 40;
    counter = 2;
    *(volatile int *)p = *(volatile int *)heap + counter;
    free(heap);
    return *(volatile int *)p;
}
/* First a good write, then a bad one, then another good one: what came before and after the
 * violation is reported all the same. */
EXPORT void good_bad_good(char *p, size_t n) {
    *(volatile char *)p = 1;
    *(volatile char *)(p + n) = 2; /* MARK: good_bad_good */
    *(volatile char *)(p + n - 1) = 3;
}
