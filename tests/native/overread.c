/* Reads past a string: libc's on purpose, through its callers, and user code's, which look alike. */
#include "fx.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Callers of string functions inside libc. */
EXPORT int print_string(char *d, size_t n, const char *s) { return snprintf(d, n, "<%s>", s); }
EXPORT int print_part(char *d, size_t n, const char *s, int most) {
    return snprintf(d, n, "<%.*s>", most, s);
}
EXPORT int scan_string(const char *s) {
    int number = 0;
    char word[20] = "";
    int found = sscanf(s, "%d %19s", &number, word);
    return found * 1000 + number + (int)strlen(word);
}
EXPORT long parse_long(const char *s) { return strtol(s, NULL, 10); }
EXPORT double parse_double(const char *s) { return strtod(s, NULL); }
EXPORT int count_words(char *s) {
    int words = 0;
    char *rest = s;
    for (char *word; (word = strsep(&rest, " "));) words += *word != 0;
    return words;
}
EXPORT size_t duplicate(const char *s) {
    char *copy = strdup(s);
    size_t n = strlen(copy);
    free(copy);
    return n;
}
EXPORT int compare(const char *a, const char *b) { return strcmp(a, b); }
/* The same between buffers that it has nothing to do with. */
EXPORT int compare_among(const char *below, const char *a, const char *between, const char *b,
                         const char *above) {
    (void)below, (void)between, (void)above;
    return strcmp(a, b);
}
EXPORT int compare_bytes(const void *a, const void *b, size_t n) { return memcmp(a, b, n) != 0; }

/* What a word-wise strlen does, in user code: no over-read of libc's. */
EXPORT size_t length_by_words(const char *s) {
    const char *p = s;
    for (;; p += 8) {
        uint64_t w;
        __asm__ volatile("movq (%1), %0" : "=r"(w) : "r"(p) : "memory"); /* MARK: length_by_words */
        if ((w - 0x0101010101010101u) & ~w & 0x8080808080808080u) break;
    }
    while (*(volatile const char *)p) p++;
    return (size_t)(p - s);
}
/* The same with a vector, on a boundary of its size, within the page. */
EXPORT int first_vector(const char *s) {
    int mask;
    const char *block = (const char *)((uintptr_t)s & ~(uintptr_t)15);
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpcmpeqb (%1), %%xmm0\n\tpmovmskb %%xmm0, %0" /* MARK: first_vector */
                     : "=r"(mask) : "r"(block) : "xmm0", "memory");
    return mask != 0;
}
