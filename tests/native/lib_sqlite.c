/* sqlite3 with its whole heap in a buffer of the caller's. */
#include "fx.h"
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

/* First fit over one block, for packages of sqlite that were built without SQLITE_CONFIG_HEAP.
 * A header of 16 bytes before each piece: its size, and whether it is free. */
struct piece { uint64_t size, free; };
static char *heap;
static size_t heap_len;
static void *heap_malloc(int want) {
    uint64_t size = ((uint64_t)want + 15) & ~15ull;
    for (size_t at = 0; at + sizeof(struct piece) <= heap_len;) {
        struct piece *p = (struct piece *)(heap + at);
        if (p->free) {
            for (size_t next; (next = at + sizeof *p + p->size) < heap_len;) {
                struct piece *q = (struct piece *)(heap + next);
                if (!q->free) break;
                p->size += sizeof *q + q->size;
            }
            if (p->size >= size) {
                if (p->size >= size + 2 * sizeof *p) {
                    struct piece *rest = (struct piece *)(heap + at + sizeof *p + size);
                    *rest = (struct piece){p->size - size - sizeof *p, 1};
                    p->size = size;
                }
                p->free = 0;
                return p + 1;
            }
        }
        at += sizeof *p + p->size;
    }
    return NULL;
}
static void heap_free(void *p) { ((struct piece *)p)[-1].free = 1; }
static int heap_size(void *p) { return p ? (int)((struct piece *)p)[-1].size : 0; }
static void *heap_realloc(void *p, int want) {
    if (heap_size(p) >= want) return p;
    void *q = heap_malloc(want);
    if (q) {
        memcpy(q, p, (size_t)heap_size(p));
        heap_free(p);
    }
    return q;
}
static int heap_roundup(int n) { return (n + 15) & ~15; }
static int heap_init(void *p) {
    (void)p;
    *(struct piece *)heap = (struct piece){heap_len - sizeof(struct piece), 1};
    return SQLITE_OK;
}
static void heap_shutdown(void *p) { (void)p; }

/* How the heap was given to sqlite: 1 SQLITE_CONFIG_HEAP, 2 SQLITE_CONFIG_MALLOC, 0 not at all. */
static int give_heap(void *buf, size_t len) {
    if (sqlite3_config(SQLITE_CONFIG_HEAP, buf, (int)len, 64) == SQLITE_OK) return 1;
    static const sqlite3_mem_methods methods = {
        heap_malloc, heap_free, heap_realloc, heap_size, heap_roundup, heap_init, heap_shutdown, NULL};
    heap = buf;
    heap_len = len & ~15ull;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK ? 2 : 0;
}

static int append(void *out, int columns, char **values, char **names) {
    (void)names;
    for (int i = 0; i < columns; i++) {
        strcat(out, values[i] ? values[i] : "NULL");
        strcat(out, i + 1 < columns ? "|" : "\n");
    }
    return 0;
}
/* Runs `sql` in a database in memory and appends what it selects to `out`, which holds a string.
 * The result is sqlite's status, or -1; *how is as give_heap has it. */
EXPORT int sqlite_run(void *buf, size_t len, const char *sql, char *out, int *how) {
    sqlite3 *db = NULL;
    *how = give_heap(buf, len);
    if (*how == 0) return -1;
    int status = sqlite3_initialize();
    if (status == SQLITE_OK) status = sqlite3_open(":memory:", &db);
    if (status == SQLITE_OK) status = sqlite3_exec(db, sql, append, out, NULL);
    int closed = sqlite3_close(db);
    sqlite3_shutdown();
    return status ? status : closed;
}
/* The same with sqlite's own heap. */
EXPORT int sqlite_plain(const char *sql, char *out) {
    sqlite3 *db = NULL;
    int status = sqlite3_open(":memory:", &db);
    if (status == SQLITE_OK) status = sqlite3_exec(db, sql, append, out, NULL);
    int closed = sqlite3_close(db);
    sqlite3_shutdown();
    return status ? status : closed;
}
