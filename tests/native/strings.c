/* libc's memory and string functions, of sizes that take each of their paths. */
#include "fx.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Through volatile pointers, so that the compiler can neither expand nor drop the calls. */
static void *(*volatile do_memcpy)(void *, const void *, size_t) = memcpy;
static void *(*volatile do_memmove)(void *, const void *, size_t) = memmove;
static void *(*volatile do_memset)(void *, int, size_t) = memset;
static int (*volatile do_memcmp)(const void *, const void *, size_t) = memcmp;
static size_t (*volatile do_strlen)(const char *) = strlen;
static int (*volatile do_strcmp)(const char *, const char *) = strcmp;
static char *(*volatile do_strcpy)(char *, const char *) = strcpy;

EXPORT void fx_memcpy(void *d, const void *s, size_t n) { do_memcpy(d, s, n); }
EXPORT void fx_memmove(void *d, const void *s, size_t n) { do_memmove(d, s, n); }
EXPORT void fx_memset(void *d, int c, size_t n) { do_memset(d, c, n); }
/* Overlapping, both ways. */
EXPORT void shift_up(char *p, size_t n, size_t by) { do_memmove(p + by, p, n - by); }
EXPORT void shift_down(char *p, size_t n, size_t by) { do_memmove(p, p + by, n - by); }
EXPORT int fx_memcmp(const void *a, const void *b, size_t n) { return do_memcmp(a, b, n) != 0; }
EXPORT size_t fx_strlen(const char *s) { return do_strlen(s); }
EXPORT long fx_strchr(const char *s, int c) {
    char *(*volatile f)(const char *, int) = (char *(*)(const char *, int))strchr;
    char *at = f(s, c);
    return at ? at - s : -1;
}
EXPORT long fx_memchr(const void *s, int c, size_t n) {
    void *(*volatile f)(const void *, int, size_t) = (void *(*)(const void *, int, size_t))memchr;
    char *at = f(s, c, n);
    return at ? at - (const char *)s : -1;
}
EXPORT int fx_strcmp(const char *a, const char *b) { return do_strcmp(a, b) != 0; }
EXPORT void fx_strcpy(char *d, const char *s) { do_strcpy(d, s); }
EXPORT int fx_atoi(const char *s) { return atoi(s); }
EXPORT int fx_snprintf(char *d, size_t n, int v) { return snprintf(d, n, "v=%d", v); }

static int by_value(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}
EXPORT void sort_ints(int *p, size_t n) { qsort(p, n, sizeof *p, by_value); }
