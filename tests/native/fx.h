/* Shared by all fixtures.
 *
 * The fixtures are compiled several times (-O2, -O0, stripped); the same functions must touch the
 * same bytes each time. Where the single access matters, the instruction is written out in
 * assembly, so that the tests can name each access by hand; elsewhere plain C lets the compiler
 * choose and only the coverage is fixed. A comment `MARK: name` marks the line that a report's
 * `source` must name. */
#ifndef FX_H
#define FX_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default"), noinline, used))
#define HIDDEN __attribute__((visibility("hidden"), noinline, used))
/* For data and for what assembly defines. */
#define OURS __attribute__((visibility("hidden")))

/* The first address at or after `p` that is a multiple of `align`. */
static inline char *fx_align(const void *p, uintptr_t align) {
    return (char *)(((uintptr_t)p + align - 1) & ~(align - 1));
}

#endif
