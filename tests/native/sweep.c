/* libc's memory and string functions at many sizes in one call. Built against glibc, and against a
 * copy of musl's functions that is linked into the library.
 *
 * For each size n, what a function is given ends where its buffer ends: the last n bytes of `src`
 * are a string (its NUL included where the function wants one), the last n of `dst` are room, or
 * the same string. A write to a byte of `mark` and a read of it stand before and after each call
 * in the trace. */
#include "fx.h"
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define W(p) ((wchar_t *)(p))
/* Where a pointer points, or -1. */
static uint64_t at(const void *p, const void *base) {
    return p ? (uint64_t)((const char *)p - (const char *)base) : (uint64_t)-1;
}
static const wchar_t wide_qq[] = {'q', 'q', 0};

/* name, what is done before, call. Of n bytes, of any value: */
#define MEMORY(X)                                                                   \
    X(memcpy, , at(memcpy(d, s, n), d))                                             \
    X(memmove, , at(memmove(d, s, n), d))                                           \
    X(memmove_up, , at(memmove(s, s - 9, n), s))                                    \
    X(memmove_down, , at(memmove(s - 9, s, n), s))                                  \
    X(mempcpy, , at(mempcpy(d, s, n), d))                                           \
    X(memset, , at(memset(d, 7, n), d))                                             \
    X(memcmp, , memcmp(s, d, n) == 0)                                               \
    X(bcmp, , bcmp(s, d, n) == 0)
/* Of a string of n - 1 characters; `dst` holds the same one, before and after: */
#define STRINGS(X)                                                                  \
    X(memchr, , at(memchr(s, 'q', n), s))                                           \
    X(memchr_last, , at(memchr(s, 0, n), s))                                        \
    X(memrchr, , at(memrchr(s, 'q', n), s))                                         \
    X(memccpy, , at(memccpy(d, s, 'q', n), d))                                      \
    X(memmem, , at(memmem(s, n, "qq", 2), s))                                       \
    X(strlen, , strlen(s))                                                          \
    X(strnlen, , strnlen(s, n - 1))                                                 \
    X(strnlen_more, , strnlen(s, n + 1000))                                         \
    X(strchr, , at(strchr(s, 'q'), s))                                              \
    X(strchr_nul, , at(strchr(s, 0), s))                                            \
    X(strchrnul, , at(strchrnul(s, 'q'), s))                                        \
    X(strrchr, , at(strrchr(s, 'q'), s))                                            \
    X(strcmp, , strcmp(s, d) == 0)                                                  \
    X(strncmp, , strncmp(s, d, n) == 0)                                             \
    X(strncmp_more, , strncmp(s, d, n + 1000) == 0)                                 \
    X(strcasecmp, , strcasecmp(s, d) == 0)                                          \
    X(strncasecmp, , strncasecmp(s, d, n) == 0)                                     \
    X(strcpy, , at(strcpy(d, s), d))                                                \
    X(stpcpy, , at(stpcpy(d, s), d))                                                \
    X(strncpy, , at(strncpy(d, s, n), d))                                           \
    X(stpncpy, , at(stpncpy(d, s, n), d))                                           \
    X(strcat, d[0] = 0, at(strcat(d, s), d))                                        \
    X(strncat, d[0] = 0, at(strncat(d, s, n), d))                                   \
    X(strspn, , strspn(s, "xyz"))                                                   \
    X(strcspn, , strcspn(s, "abc"))                                                 \
    X(strpbrk, , at(strpbrk(s, "abc"), s))                                          \
    X(strstr, , at(strstr(s, "qq"), s))                                             \
    X(strcasestr, , at(strcasestr(s, "qq"), s))
/* The same of wide characters: n counts bytes and is a multiple of 4. */
#define WIDE(X)                                                                     \
    X(wmemchr, , at(wmemchr(W(s), 'q', n / 4), s))                                  \
    X(wmemcmp, , wmemcmp(W(s), W(d), n / 4) == 0)                                   \
    X(wmemcpy, , at(wmemcpy(W(d), W(s), n / 4), d))                                 \
    X(wcslen, , wcslen(W(s)))                                                       \
    X(wcsnlen, , wcsnlen(W(s), n / 4))                                              \
    X(wcschr, , at(wcschr(W(s), 'q'), s))                                           \
    X(wcsrchr, , at(wcsrchr(W(s), 'q'), s))                                         \
    X(wcscmp, , wcscmp(W(s), W(d)) == 0)                                            \
    X(wcsncmp, , wcsncmp(W(s), W(d), n / 4) == 0)                                   \
    X(wcsstr, , at(wcsstr(W(s), wide_qq), s))                                       \
    X(wcscpy, , at(wcscpy(W(d), W(s)), d))                                          \
    X(wcscat, *W(d) = 0, at(wcscat(W(d), W(s)), d))
#define FILL(X) X(wmemset, , at(wmemset(W(d), 7, n / 4), d))
/* What only glibc has. */
#ifdef MUSL
#define MORE(X)
#else
extern int __memcmpeq(const void *, const void *, size_t);
#define MORE(X)                                                                     \
    X(rawmemchr, , at(rawmemchr(s, 0), s))                                          \
    X(memcmpeq, , __memcmpeq(s, d, n) == 0)
#endif

/* One call. Results go into one number: recorders and the untraced call must agree on it. */
#define CALL(name, prepare, call)                                                   \
    {                                                                               \
        prepare;                                                                    \
        *(volatile unsigned char *)(mark + i) = 1;                                  \
        uint64_t got = (uint64_t)(call);                                            \
        (void)*(volatile unsigned char *)(mark + i);                                \
        sum = sum * 31 + got;                                                       \
        i++;                                                                        \
    }
#define SWEEP(name, calls)                                                          \
    EXPORT uint64_t sweep_##name(char *src, char *dst, unsigned char *mark, size_t len, \
                                 const uint32_t *sizes, size_t count) {             \
        uint64_t sum = 0;                                                           \
        size_t i = 0;                                                               \
        for (size_t which = 0; which < count; which++) {                            \
            size_t n = sizes[which];                                                \
            char *s = src + len - n, *d = dst + len - n;                            \
            (void)s, (void)d;                                                       \
            calls                                                                   \
        }                                                                           \
        return sum;                                                                 \
    }
#define ONE(name, prepare, call) SWEEP(name, CALL(name, prepare, call))
MEMORY(ONE)
STRINGS(ONE)
WIDE(ONE)
FILL(ONE)
MORE(ONE)
/* All of a kind, one after the other, for each size. */
SWEEP(every_string, STRINGS(CALL) MORE(CALL))
SWEEP(every_wide, WIDE(CALL))
