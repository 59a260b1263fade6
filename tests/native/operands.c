/* Operands that are not a plain [base]: implicit ones, two at once, far bit offsets, x87. */
#include "fx.h"

/* Bit string instructions with a register offset reach outside the named operand. */
EXPORT int bt_reg(const void *p, int64_t bit) {
    unsigned char c;
    __asm__ volatile("btq %2, (%1)\n\tsetc %0" : "=q"(c) : "r"(p), "r"(bit) : "memory", "cc");
    return c;
}
EXPORT int bts_reg4(void *p, int32_t bit) {
    unsigned char c;
    __asm__ volatile("btsl %2, (%1)\n\tsetc %0" : "=q"(c) : "r"(p), "r"(bit) : "memory", "cc");
    return c;
}
/* Negative offset, from the middle of the buffer. */
EXPORT int btr_negative(char *p, int64_t bit) {
    unsigned char c;
    __asm__ volatile("btrq %2, (%1)\n\tsetc %0" : "=q"(c) : "r"(p + 16), "r"(bit) : "memory", "cc");
    return c;
}
/* An immediate offset stays in the operand. */
EXPORT int bt_imm(const void *p) {
    unsigned char c;
    __asm__ volatile("btl $35, (%1)\n\tsetc %0" : "=q"(c) : "r"(p) : "memory", "cc");
    return c;
}

EXPORT uint64_t push_mem(const void *p) {
    uint64_t v;
    __asm__ volatile("subq $128, %%rsp\n\tpushq (%1)\n\tpopq %0\n\taddq $128, %%rsp"
                     : "=&r"(v) : "r"(p) : "memory", "cc");
    return v;
}
EXPORT void pop_mem(void *p, uint64_t v) {
    __asm__ volatile("subq $128, %%rsp\n\tpushq %1\n\tpopq (%0)\n\taddq $128, %%rsp"
                     : : "r"(p), "r"(v) : "memory", "cc");
}

HIDDEN int answer_a(void) { return 41; }
HIDDEN int answer_b(void) { return 42; }
/* Writes two function pointers into the buffer and calls through the second. */
EXPORT int call_table(void *p) {
    typedef int (*fn)(void);
    fn volatile *table = p;
    table[0] = answer_a;
    table[1] = answer_b;
    int result;
    __asm__ volatile("subq $128, %%rsp\n\tcall *8(%1)\n\taddq $128, %%rsp"
                     : "=a"(result) : "b"(p)
                     : "memory", "cc", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
    return result;
}
EXPORT int jmp_mem(void *p) {
    int result;
    __asm__ volatile(
        "leaq 1f(%%rip), %%rax\n\tmovq %%rax, (%1)\n\t"
        "xorl %0, %0\n\tjmp *(%1)\n\tmovl $-1, %0\n"
        "1:\taddl $7, %0"
        : "=&r"(result) : "r"(p) : "rax", "memory", "cc");
    return result;
}
/* A stack in the buffer: push, pop, call and ret on arena memory. */
EXPORT uint64_t stack_in_buffer(void *p, uint64_t size) {
    uint64_t v;
    __asm__ volatile(
        "movq %%rsp, %%r12\n\tleaq (%1,%2), %%rsp\n\t"
        "pushq $5\n\tpushq $6\n\tpopq %0\n\taddq (%%rsp), %0\n\tmovq %%r12, %%rsp"
        : "=&r"(v) : "r"(p), "r"(size) : "r12", "memory", "cc");
    return v;
}
EXPORT uint8_t xlat(const void *table, uint8_t i) {
    __asm__ volatile("xlatb" : "+a"(i) : "b"(table) : "memory");
    return i;
}

EXPORT double x87_sum(const void *p) {
    double v;
    __asm__ volatile("fldl (%1)\n\tfaddl 8(%1)\n\tfstpl %0" : "=m"(v) : "r"(p) : "memory");
    return v;
}
EXPORT void x87_store10(void *p) {
    __asm__ volatile("fldpi\n\tfstpt (%0)" : : "r"(p) : "memory");
}
EXPORT int x87_load10(const void *p) {
    int v;
    __asm__ volatile("fldt (%1)\n\tfistpl %0" : "=m"(v) : "r"(p) : "memory");
    return v;
}
EXPORT void x87_mixed(void *p) {
    __asm__ volatile("fildl (%0)\n\tfsts 4(%0)\n\tfistpll 8(%0)" : : "r"(p) : "memory");
}
EXPORT void x87_control(void *p) { __asm__ volatile("fnstcw (%0)" : : "r"(p) : "memory"); }

EXPORT void movnti8(void *p, uint64_t v) {
    __asm__ volatile("movntiq %1, (%0)\n\tsfence" : : "r"(p), "r"(v) : "memory");
}
EXPORT void stmxcsr(void *p) { __asm__ volatile("stmxcsr (%0)" : : "r"(p) : "memory"); }
/* Saves 512 bytes on the first 16-byte boundary in the buffer. */
EXPORT void fxsave(void *p) {
    __asm__ volatile("fxsave64 (%0)" : : "r"(fx_align(p, 16)) : "memory");
}
