/* libc's qsort with elements of any size. */
#include "fx.h"
#include <stdlib.h>
#include <string.h>

static size_t width;
static int by_bytes(const void *a, const void *b) { return memcmp(a, b, width); }
EXPORT void sort_bytes(void *p, size_t n, size_t size) {
    width = size;
    qsort(p, n, size, by_bytes);
}
