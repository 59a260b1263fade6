/* Control flow that leaves hot code in other ways than it came: jumps out of it, stacks that change
 * under it, code that comes and goes. Each function says at the end what it saw. */
#include "fx.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <libgen.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef volatile uint32_t word;

/* longjmp and siglongjmp out of the middle of a loop, from its own frame and from one below. */
static sigjmp_buf back;
static __attribute__((noinline)) void leaves(word *p, unsigned i) {
    p[1] += i;
    if (i % 3 == 0) siglongjmp(back, 2);
    p[2] += 1;
}
EXPORT unsigned hot_jump(uint32_t *buf, unsigned n) {
    word *p = buf;
    volatile unsigned sum = 0;
    for (volatile unsigned i = 0; i < n; i++) {
        jmp_buf here;
        switch (i & 1 ? sigsetjmp(back, 1) : sigsetjmp(back, 0)) {
        case 0:
            for (unsigned k = 0; k < 4; k++) leaves(p, i + k);
            break;
        default:
            p[3] += 1;
            sum++;
        }
        if (setjmp(here) == 0) {
            p[4] += 1;
            if (i & 2) longjmp(here, 1);
        } else {
            p[5] += 1;
        }
    }
    return sum;
}

/* Two coroutines that take turns in the middle of their loops. */
static ucontext_t of_main, of_other;
static word *shared;
static void other(void) {
    for (unsigned i = 0;; i++) {
        shared[8 + i % 8] += i;
        swapcontext(&of_other, &of_main);
    }
}
EXPORT unsigned hot_coroutine(uint32_t *buf, unsigned n) {
    static char stack[65536];
    volatile unsigned sum = 0;
    shared = buf;
    getcontext(&of_other);
    of_other.uc_stack.ss_sp = stack;
    of_other.uc_stack.ss_size = sizeof stack;
    makecontext(&of_other, other, 0);
    for (volatile unsigned i = 0; i < n; i++) {
        shared[i % 8] = i;
        swapcontext(&of_main, &of_other);
        sum += shared[8 + i % 8];
    }
    return sum;
}

/* The stack as backtrace() sees it from below a hot loop: the frames down to the loop's own, each
 * as an offset in its function. */
EXPORT unsigned hot_backtrace(uint32_t *buf, unsigned n);
static __attribute__((noinline)) unsigned looks(word *p, unsigned depth) {
    if (depth) {
        unsigned found = looks(p, depth - 1);
        p[0] += found;
        return found;
    }
    void *frames[32];
    int got = backtrace(frames, 32);
    unsigned hash = 0;
    for (int i = 0; i < got; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info)) break;
        hash = hash * 31 + (unsigned)((char *)frames[i] - (char *)info.dli_fbase);
        if (info.dli_saddr == (void *)hot_backtrace) return hash * 32 + (unsigned)i;
    }
    return 0;
}
EXPORT unsigned hot_backtrace(uint32_t *buf, unsigned n) {
    word *p = buf;
    unsigned first = looks(p, 5), same = 0;
    for (unsigned i = 0; i < n; i++) {
        p[1 + i % 8] += i;
        same += looks(p, i % 5) != 0;
        p[10] += 1;
    }
    return same == n ? first : 0;
}

static int compare(const void *left, const void *right) {
    int a, b;
    __asm__ volatile("movl (%1), %0" : "=r"(a) : "r"(left));
    __asm__ volatile("movl (%1), %0" : "=r"(b) : "r"(right));
    return (a > b) - (a < b);
}
EXPORT int hot_qsort(int *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (int)((i * 7919) % 10007) - 5000;
    qsort(p, n, sizeof *p, compare);
    int sorted = 1;
    for (size_t i = 1; i < n; i++) sorted &= p[i - 1] <= p[i];
    return sorted;
}

/* A child leaves from the middle of the loop. */
EXPORT unsigned hot_fork(uint32_t *buf, unsigned n) {
    word *p = buf;
    unsigned good = 0;
    for (unsigned i = 0; i < n; i++) {
        p[i % 8] += i;
        if (i % 20 == 19) {
            pid_t child = fork();
            if (child == 0) _exit(3);
            int status = 0;
            good += waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3;
        }
        p[8] += 1;
    }
    return good;
}

/* Libraries that come, run hot and go, one often where the other was. */
EXPORT unsigned hot_dlopen(uint32_t *buf, unsigned rounds) {
    Dl_info info;
    char own[4096], path[8192];
    if (!dladdr((void *)hot_dlopen, &info)) return 0;
    strncpy(own, info.dli_fname, sizeof own - 1);
    own[sizeof own - 1] = 0;
    strcpy(path, dirname(own));
    size_t dir = strlen(path);
    unsigned sum = 0;
    for (unsigned r = 0; r < rounds; r++) {
        strcpy(path + dir, r % 2 ? "/libfx_hot_b.so" : "/libfx_hot_a.so");
        void *handle = dlopen(path, RTLD_NOW);
        if (!handle) return 0;
        unsigned (*plugin)(uint32_t *, unsigned) =
            (unsigned (*)(uint32_t *, unsigned))dlsym(handle, "plugin");
        if (!plugin) return 0;
        sum = sum * 3 + plugin(buf, 40);
        dlclose(handle);
    }
    return sum;
}

EXPORT unsigned hot_switch(uint32_t *buf, unsigned n) {
    word *p = buf;
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++) {
        switch ((i * 7 + i / 5) % 9) {
        case 0: p[0] += i; break;
        case 1: sum ^= p[1]; break;
        case 2: p[2] = sum; break;
        case 3: sum += p[3] * 3; p[3] = i; break;
        case 4: p[4] -= sum; break;
        case 5: sum = sum * 5 + p[0]; break;
        case 6: p[6] |= i; sum -= p[6]; break;
        case 7: p[7]++; p[0] ^= p[7]; break;
        default: sum++;
        }
    }
    return sum;
}

/* 0 is not known yet. */
static __attribute__((noinline)) uint64_t fib(volatile uint64_t *memo, unsigned n) {
    if (n < 2) return n;
    if (memo[n]) return memo[n];
    uint64_t value = fib(memo, n - 1) + fib(memo, n - 2);
    memo[n] = value;
    return value;
}
EXPORT uint64_t hot_fib(uint64_t *memo, unsigned rounds) {
    uint64_t sum = 0;
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < 60; i++) memo[i] = 0;
        sum += fib(memo, 50 + r % 10);
    }
    return sum;
}

/* 128 functions, each calls the next in the middle of its own accesses. */
#define LINK(n, next)                                                                    \
    static __attribute__((noinline)) uint32_t link_##n(word *p, uint32_t x) {            \
        p[n % 64] += x;                                                                  \
        uint32_t y = next(p, x + 1);                                                     \
        return y ^ p[(n * 5) % 64];                                                      \
    }
static __attribute__((noinline)) uint32_t link_end(word *p, uint32_t x) { return p[0] + x; }
#define LINK8(n, a, b, c, d, e, f, g, next)                                              \
    LINK(g, next) LINK(f, link_##g) LINK(e, link_##f) LINK(d, link_##e) LINK(c, link_##d) \
    LINK(b, link_##c) LINK(a, link_##b) LINK(n, link_##a)
LINK8(120, 121, 122, 123, 124, 125, 126, 127, link_end)
LINK8(112, 113, 114, 115, 116, 117, 118, 119, link_120)
LINK8(104, 105, 106, 107, 108, 109, 110, 111, link_112)
LINK8(96, 97, 98, 99, 100, 101, 102, 103, link_104)
LINK8(88, 89, 90, 91, 92, 93, 94, 95, link_96)
LINK8(80, 81, 82, 83, 84, 85, 86, 87, link_88)
LINK8(72, 73, 74, 75, 76, 77, 78, 79, link_80)
LINK8(64, 65, 66, 67, 68, 69, 70, 71, link_72)
LINK8(56, 57, 58, 59, 60, 61, 62, 63, link_64)
LINK8(48, 49, 50, 51, 52, 53, 54, 55, link_56)
LINK8(40, 41, 42, 43, 44, 45, 46, 47, link_48)
LINK8(32, 33, 34, 35, 36, 37, 38, 39, link_40)
LINK8(24, 25, 26, 27, 28, 29, 30, 31, link_32)
LINK8(16, 17, 18, 19, 20, 21, 22, 23, link_24)
LINK8(8, 9, 10, 11, 12, 13, 14, 15, link_16)
LINK8(0, 1, 2, 3, 4, 5, 6, 7, link_8)
EXPORT uint32_t hot_chain(uint32_t *p, unsigned n) {
    uint32_t sum = 0;
    for (unsigned i = 0; i < n; i++) sum = sum * 7 + link_0(p, i);
    return sum;
}

/* Code that is written as it runs, in memory of no file: add what the instruction says. */
EXPORT uint32_t hot_jit(uint32_t *p, unsigned n) {
    static const unsigned char code[] = {
        0x81, 0x07, 1, 0, 0, 0, /* 1: addl $1, (%rdi) */
        0x8b, 0x47, 0x04,       /* movl 4(%rdi), %eax */
        0x01, 0xc8,             /* addl %ecx, %eax */
        0x89, 0x47, 0x04,       /* movl %eax, 4(%rdi) */
        0xff, 0xce,             /* decl %esi */
        0x75, 0xee,             /* jnz 1b */
        0xc3,
    };
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 0;
    memcpy(page, code, sizeof code);
    uint32_t (*run)(uint32_t *, unsigned, unsigned, unsigned) =
        (uint32_t (*)(uint32_t *, unsigned, unsigned, unsigned))page;
    uint32_t sum = 0;
    for (unsigned round = 1; round <= 4; round++) {
        page[2] = (unsigned char)(round * 3);
        sum = sum * 11 + run(p, n, 0, round);
    }
    munmap(page, 4096);
    return sum + p[0];
}

/* The last bytes of the library's code. */
__asm__(".section hot_end, \"ax\", @progbits\n"
        ".type hot_last, @function\n"
        "hot_last:\n"
        "1: movl (%rdi), %eax\n"
        "addl %esi, %eax\n"
        "movl %eax, 4(%rdi)\n"
        "addl %eax, (%rdi)\n"
        "decl %esi\n"
        "jnz 1b\n"
        "ret\n"
        ".size hot_last, .-hot_last\n"
        ".text\n");
extern uint32_t hot_last(uint32_t *, unsigned) OURS;
EXPORT uint32_t hot_at_end(uint32_t *p, unsigned n) { return hot_last(p, n); }

/* Four threads: each has words of its own, and all add to one. */
struct job {
    uint32_t *own;
    uint64_t *all;
    unsigned n;
};
static void *works(void *arg) {
    struct job *job = arg;
    uint64_t one = 1;
    for (unsigned i = 0; i < job->n; i++) {
        __asm__ volatile("movl %1, (%0)" : : "r"(job->own + i), "r"(i * 3) : "memory");
        __asm__ volatile("lock xaddq %0, (%1)" : "+r"(one) : "r"(job->all) : "memory");
        one = 1;
        __asm__ volatile("addl %1, (%0)" : : "r"(job->own + i / 2), "r"(i) : "memory");
    }
    return NULL;
}
EXPORT uint64_t hot_threads(uint32_t *words, uint64_t *all, unsigned n) {
    pthread_t id[4];
    struct job job[4];
    /* What made the threads runs translated code before. */
    struct job first = {words, all, n};
    works(&first);
    for (unsigned t = 0; t < 4; t++) {
        job[t] = (struct job){words + t * n, all, n};
        if (pthread_create(&id[t], NULL, works, &job[t])) return 0;
    }
    for (unsigned t = 0; t < 4; t++) pthread_join(id[t], NULL);
    return *all;
}

/* So many accesses: a read and a write in each turn. */
EXPORT uint64_t hot_many(uint64_t *p, uint64_t turns) {
    for (uint64_t i = 0; i < turns; i++) __asm__ volatile("incq (%0)" : : "r"(p + i % 8) : "memory");
    return turns;
}
