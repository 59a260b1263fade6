/* Control flow around accesses: loops, recursion, threads, signals. */
#include "fx.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

/* n four-byte reads over a ring of `len` ints: the same bytes, n accesses. */
EXPORT uint64_t read_loop(const uint32_t *p, uint64_t len, uint64_t n) {
    uint64_t sum = 0, at = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t v;
        __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(p + at) : "memory");
        sum += v;
        if (++at == len) at = 0;
    }
    return sum;
}
EXPORT void write_loop(uint32_t *p, uint64_t len, uint64_t n) {
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        __asm__ volatile("movl %1, (%0)" : : "r"(p + at), "r"((uint32_t)i) : "memory");
        if (++at == len) at = 0;
    }
}

/* Every other byte: many small ranges. */
EXPORT unsigned stride_sum(const uint8_t *p, size_t n, size_t step) {
    unsigned sum = 0;
    for (size_t i = 0; i < n; i += step) {
        unsigned v;
        __asm__ volatile("movzbl (%1), %0" : "=r"(v) : "r"(p + i) : "memory");
        sum += v;
    }
    return sum;
}

EXPORT uint64_t recurse(uint64_t *p, unsigned depth) {
    if (depth == 0) return 0;
    uint64_t below = recurse(p + 1, depth - 1);
    __asm__ volatile("movq %1, (%0)" : : "r"(p), "r"((uint64_t)depth) : "memory");
    return below + depth;
}
EXPORT int nested_inner(const int *p) {
    int v;
    __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(p) : "memory");
    return v;
}
EXPORT int nested_outer(const int *p) { return nested_inner(p) + nested_inner(p + 1); }

/* setjmp/longjmp out of a deeper frame, an access on either side. */
static jmp_buf escape;
static __attribute__((noinline)) void deep(int *p) { *(volatile int *)p = 5; longjmp(escape, 3); }
EXPORT int jump_out(int *p) {
    int code = setjmp(escape);
    if (code == 0) deep(p);
    *(volatile int *)(p + 1) = code;
    return code;
}

struct job { uint32_t *p; unsigned n; uint32_t base; };
static void *fill(void *arg) {
    struct job *job = arg;
    for (unsigned i = 0; i < job->n; i++)
        __asm__ volatile("movl %1, (%0)" : : "r"(job->p + i), "r"(job->base + i) : "memory");
    return NULL;
}
/* `threads` threads (at most 8) each fill their own `per` ints; all are joined. */
EXPORT int threads_fill(uint32_t *p, unsigned threads, unsigned per) {
    pthread_t id[8];
    struct job job[8];
    if (threads > 8) return -1;
    for (unsigned t = 0; t < threads; t++) {
        job[t] = (struct job){p + t * per, per, t * 1000};
        if (pthread_create(&id[t], NULL, fill, &job[t])) return -2;
    }
    for (unsigned t = 0; t < threads; t++) pthread_join(id[t], NULL);
    return (int)threads;
}
static void *add_locked(void *arg) {
    for (int i = 0; i < 500; i++) __asm__ volatile("lock incl (%0)" : : "r"(arg) : "memory", "cc");
    return NULL;
}
/* Two threads increment one counter: a lost update shows in the sum. */
EXPORT uint32_t threads_counter(uint32_t *p) {
    pthread_t a, b;
    if (pthread_create(&a, NULL, add_locked, p) || pthread_create(&b, NULL, add_locked, p)) return 0;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return *p;
}

static volatile sig_atomic_t seen;
static void on_usr1(int sig) { seen = sig; }
static int *volatile handler_target;
static void on_usr2(int sig) { *(volatile int *)handler_target = sig; }
/* The program's own signals reach the program's own handlers. */
EXPORT int raise_usr1(int *p) {
    struct sigaction act = {.sa_handler = on_usr1}, old;
    seen = 0;
    sigaction(SIGUSR1, &act, &old);
    *(volatile int *)p = 1;
    raise(SIGUSR1);
    *(volatile int *)(p + 1) = 2;
    sigaction(SIGUSR1, &old, NULL);
    return seen == SIGUSR1;
}
/* An access made by a signal handler. */
EXPORT int handler_writes(int *p) {
    struct sigaction act = {.sa_handler = on_usr2}, old;
    handler_target = p;
    sigaction(SIGUSR2, &act, &old);
    raise(SIGUSR2);
    sigaction(SIGUSR2, &old, NULL);
    return 1;
}
/* Signals blocked around an access: a fault must come through all the same. */
EXPORT int blocked_signals(int *p) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    *(volatile int *)p = 7;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return *(volatile int *)p;
}

static char *guard_page;
static volatile sig_atomic_t repaired;
static void on_segv(int sig, siginfo_t *info, void *context) {
    (void)sig; (void)context;
    if ((char *)info->si_addr >= guard_page && (char *)info->si_addr < guard_page + 4096) {
        mprotect(guard_page, 4096, PROT_READ | PROT_WRITE);
        repaired++;
        return;
    }
    signal(SIGSEGV, SIG_DFL);
}
/* The library has a SIGSEGV handler of its own and uses it on its own page, then puts the old
 * one back and goes on with the buffer. */
EXPORT int own_segv_handler(int *p) {
    struct sigaction act, old;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = on_segv;
    act.sa_flags = SA_SIGINFO;
    repaired = 0;
    *(volatile int *)p = 1;
    guard_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &act, &old);
    *(volatile char *)guard_page = 1;
    sigaction(SIGSEGV, &old, NULL);
    *(volatile int *)(p + 1) = 2;
    munmap(guard_page, 4096);
    return repaired;
}
/* The same, but the buffer is used while the library's handler is in place. */
EXPORT int own_segv_handler_kept(int *p) {
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = on_segv;
    act.sa_flags = SA_SIGINFO;
    repaired = 0;
    guard_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &act, NULL);
    *(volatile int *)p = 1;
    *(volatile char *)guard_page = 1;
    *(volatile int *)(p + 1) = 2;
    return repaired;
}
