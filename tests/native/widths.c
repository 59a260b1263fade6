/* One access of every width, plain, unaligned and across a page boundary. */
#include "fx.h"

#define LOAD(name, type, insn, reg)                                        \
    EXPORT type name(const void *p) {                                      \
        type v;                                                            \
        __asm__ volatile(insn " (%1), %" reg "0" : "=r"(v) : "r"(p) : "memory"); \
        return v;                                                          \
    }
#define STORE(name, type, insn, reg)                                       \
    EXPORT void name(void *p, type v) {                                    \
        __asm__ volatile(insn " %" reg "1, (%0)" : : "r"(p), "r"(v) : "memory"); \
    }
#define LOAD_B(name, type)                                                 \
    EXPORT type name(const void *p) {                                      \
        type v;                                                            \
        __asm__ volatile("movb (%1), %b0" : "=q"(v) : "r"(p) : "memory");  \
        return v;                                                          \
    }

LOAD_B(load1, uint8_t)
LOAD(load2, uint16_t, "movw", "w")
LOAD(load4, uint32_t, "movl", "k")
LOAD(load8, uint64_t, "movq", "q")
STORE(store1, uint8_t, "movb", "b")
STORE(store2, uint16_t, "movw", "w")
STORE(store4, uint32_t, "movl", "k")
STORE(store8, uint64_t, "movq", "q")

/* Widening loads read the narrow width. */
EXPORT int load1_sx(const void *p) {
    int v;
    __asm__ volatile("movsbl (%1), %0" : "=r"(v) : "r"(p) : "memory");
    return v;
}
EXPORT uint64_t load2_zx(const void *p) {
    uint64_t v;
    __asm__ volatile("movzwl (%1), %k0" : "=r"(v) : "r"(p) : "memory");
    return v;
}
EXPORT int64_t load4_sx(const void *p) {
    int64_t v;
    __asm__ volatile("movslq (%1), %0" : "=r"(v) : "r"(p) : "memory");
    return v;
}

/* Immediate stores, and a scaled index with a displacement. */
EXPORT void store_imm(void *p) {
    __asm__ volatile("movl $0x11223344, 2(%0)\n\tmovb $0x55, (%0)" : : "r"(p) : "memory");
}
EXPORT uint32_t load_indexed(const void *p, uint64_t i) {
    uint32_t v;
    __asm__ volatile("movl 4(%1,%2,8), %0" : "=r"(v) : "r"(p), "r"(i) : "memory");
    return v;
}

/* Read-modify-write, compare and test. */
EXPORT void rmw_add4(void *p, uint32_t v) {
    __asm__ volatile("addl %1, (%0)" : : "r"(p), "r"(v) : "memory", "cc");
}
EXPORT void rmw_inc8(void *p) { __asm__ volatile("incq (%0)" : : "r"(p) : "memory", "cc"); }
EXPORT void rmw_not2(void *p) { __asm__ volatile("notw (%0)" : : "r"(p) : "memory"); }
EXPORT void rmw_shl1(void *p) { __asm__ volatile("shlb $1, (%0)" : : "r"(p) : "memory", "cc"); }
EXPORT int cmp_mem4(const void *p, uint32_t v) {
    unsigned char eq;
    __asm__ volatile("cmpl %2, (%1)\n\tsete %0" : "=q"(eq) : "r"(p), "r"(v) : "memory", "cc");
    return eq;
}
EXPORT int test_mem1(const void *p, uint8_t v) {
    unsigned char nz;
    __asm__ volatile("testb %2, (%1)\n\tsetne %0" : "=q"(nz) : "r"(p), "q"(v) : "memory", "cc");
    return nz;
}
EXPORT uint64_t alu_mem8(const void *p, uint64_t v) {
    __asm__ volatile("addq (%1), %0" : "+r"(v) : "r"(p) : "memory", "cc");
    return v;
}
EXPORT uint64_t mul_mem4(const void *p, uint32_t v) {
    uint32_t lo = v, hi;
    __asm__ volatile("mull (%2)" : "+a"(lo), "=d"(hi) : "r"(p) : "memory", "cc");
    return (uint64_t)hi << 32 | lo;
}
EXPORT void setcc_mem(void *p, int a, int b) {
    __asm__ volatile("cmpl %2, %1\n\tsetl (%0)" : : "r"(p), "r"(a), "r"(b) : "memory", "cc");
}
/* A conditional move loads whether or not the condition holds. */
EXPORT int cmov_mem(const void *p, int take) {
    int v = -1;
    __asm__ volatile("testl %2, %2\n\tcmovne (%1), %0" : "+r"(v) : "r"(p), "r"(take) : "memory", "cc");
    return v;
}
EXPORT uint32_t movbe_load(const void *p) {
    uint32_t v;
    __asm__ volatile("movbe (%1), %0" : "=r"(v) : "r"(p) : "memory");
    return v;
}
/* The base register is also the destination: after the load the address is gone. */
EXPORT uint64_t load_clobbers_base(const void *p) {
    const void *v = p;
    __asm__ volatile("movq (%0), %0" : "+r"(v) : : "memory");
    return (uint64_t)v;
}

/* Accesses that begin `before` bytes ahead of the first page boundary inside the buffer. */
EXPORT uint64_t cross_load8(const void *p, unsigned before) {
    uint64_t v;
    const char *at = fx_align((const char *)p + 8, 4096) - before;
    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(at) : "memory");
    return v;
}
EXPORT void cross_store8(void *p, unsigned before, uint64_t v) {
    char *at = fx_align((char *)p + 8, 4096) - before;
    __asm__ volatile("movq %1, (%0)" : : "r"(at), "r"(v) : "memory");
}
EXPORT void cross_add4(void *p, unsigned before, uint32_t v) {
    char *at = fx_align((char *)p + 8, 4096) - before;
    __asm__ volatile("addl %1, (%0)" : : "r"(at), "r"(v) : "memory", "cc");
}

/* No access at all: address arithmetic, prefetches, multi-byte NOPs with an operand. */
EXPORT uint64_t no_access(const void *p) {
    uint64_t v;
    __asm__ volatile(
        "leaq 3(%1), %0\n\t"
        "prefetcht0 (%1)\n\tprefetchnta (%1)\n\tprefetchw (%1)\n\t"
        "nopl (%1)\n\tnopw 8(%1)\n\tsubq %1, %0"
        : "=&r"(v) : "r"(p) : "memory", "cc");
    return v;
}
/* Nor does a call that never looks at the buffer. */
EXPORT int untouched(const void *p) { return p != NULL; }
EXPORT void nothing(void) {}
