/* String instructions, by hand: forwards, backwards, counted, and ended by a condition. */
#include "fx.h"

EXPORT void rep_movsb(void *d, const void *s, uint64_t n) {
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}
EXPORT void rep_movsq(void *d, const void *s, uint64_t n) {
    __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}
/* Copies n bytes from the end towards the start. */
EXPORT void rep_movsb_back(char *d, const char *s, uint64_t n) {
    void *di = d + n - 1;
    const void *si = s + n - 1;
    __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(di), "+S"(si), "+c"(n) : : "memory", "cc");
}
EXPORT void rep_movsl_back(char *d, const char *s, uint64_t n) {
    void *di = d + 4 * (n - 1);
    const void *si = s + 4 * (n - 1);
    __asm__ volatile("std\n\trep movsl\n\tcld" : "+D"(di), "+S"(si), "+c"(n) : : "memory", "cc");
}
/* Within one buffer, source and destination overlapping. */
EXPORT void rep_movsb_overlap(char *p, uint64_t n) {
    void *di = p + 1;
    const void *si = p;
    __asm__ volatile("rep movsb" : "+D"(di), "+S"(si), "+c"(n) : : "memory");
}
/* Only one side is in the arena. */
EXPORT int rep_movsb_from_stack(void *d) {
    char local[16] = "fifteen letters";
    const void *si = local;
    uint64_t n = sizeof local;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(si), "+c"(n) : : "memory");
    return local[0];
}
EXPORT int rep_movsb_to_stack(const void *s) {
    char local[16];
    void *di = local;
    uint64_t n = sizeof local;
    __asm__ volatile("rep movsb" : "+D"(di), "+S"(s), "+c"(n) : : "memory");
    return local[15];
}
EXPORT void movsb_once(void *d, const void *s) {
    __asm__ volatile("movsb" : "+D"(d), "+S"(s) : : "memory");
}
EXPORT void rep_stosb(void *d, uint8_t v, uint64_t n) {
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(v) : "memory");
}
EXPORT void rep_stosl(void *d, uint32_t v, uint64_t n) {
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(v) : "memory");
}
EXPORT void rep_stosq_back(char *d, uint64_t v, uint64_t n) {
    void *di = d + 8 * (n - 1);
    __asm__ volatile("std\n\trep stosq\n\tcld" : "+D"(di), "+c"(n) : "a"(v) : "memory", "cc");
}
EXPORT uint32_t lodsl(const void *s) {
    uint32_t v;
    __asm__ volatile("lodsl" : "=a"(v), "+S"(s) : : "memory");
    return v;
}
/* Counted load: only the last element stays in the register. */
EXPORT uint8_t rep_lodsb(const void *s, uint64_t n) {
    uint8_t v = 0;
    __asm__ volatile("rep lodsb" : "+a"(v), "+S"(s), "+c"(n) : : "memory");
    return v;
}
/* How many elements were compared before the first difference (or n). */
EXPORT uint64_t repe_cmpsb(const void *a, const void *b, uint64_t n) {
    uint64_t c = n;
    __asm__ volatile("cmp %%eax, %%eax\n\trepe cmpsb" : "+D"(b), "+S"(a), "+c"(c) : : "memory", "cc");
    return n - c;
}
EXPORT uint64_t repe_cmpsw_back(const char *a, const char *b, uint64_t n) {
    const void *si = a + 2 * (n - 1), *di = b + 2 * (n - 1);
    uint64_t c = n;
    __asm__ volatile("cmp %%eax, %%eax\n\tstd\n\trepe cmpsw\n\tcld"
                     : "+D"(di), "+S"(si), "+c"(c) : : "memory", "cc");
    return n - c;
}
/* How many bytes were looked at until `v` was found (or n). */
EXPORT uint64_t repne_scasb(const void *p, uint8_t v, uint64_t n) {
    uint64_t c = n;
    __asm__ volatile("test %%rdi, %%rdi\n\trepne scasb" : "+D"(p), "+c"(c) : "a"(v) : "memory", "cc");
    return n - c;
}
EXPORT uint64_t repe_scasl_back(const char *p, uint32_t v, uint64_t n) {
    const void *di = p + 4 * (n - 1);
    uint64_t c = n;
    __asm__ volatile("cmp %%eax, %%eax\n\tstd\n\trepe scasl\n\tcld"
                     : "+D"(di), "+c"(c) : "a"(v) : "memory", "cc");
    return n - c;
}
/* A count of zero executes nothing. */
EXPORT void rep_zero_count(void *d, const void *s) {
    uint64_t n = 0;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    n = 0;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(1) : "memory");
}
