/* Runs generated programs one after another and folds what each leaves behind into one number.
 * Linked with the assembly that `tests/hot/random` writes; see there for what is where. */
#include "fx.h"
#include <signal.h>
#include <string.h>
#include <sys/time.h>

enum { ARENA = 12288, PRIVATE = 8192, GENERAL = 16, VECTORS = 16 };

/* The library's own memory, and the middle of the buffer. */
OURS uint8_t hot_private[PRIVATE] __attribute__((aligned(4096)));
OURS uint8_t *hot_arena;
OURS uint64_t hot_stack;
OURS void (*hot_target)(void);
/* Registers before and after: general, flags, vectors. */
OURS uint64_t hot_in[GENERAL + 1 + VECTORS * 4] __attribute__((aligned(64)));
OURS uint64_t hot_out[GENERAL + 1 + VECTORS * 4] __attribute__((aligned(64)));

extern void (*const hot_programs[])(void) OURS;
extern const unsigned hot_count OURS;
extern void hot_enter(void) OURS;

static uint8_t copy[ARENA];

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}
static void pattern(void *to, size_t bytes, uint64_t seed) {
    uint64_t *words = to;
    for (size_t i = 0; i < bytes / 8; i++) words[i] = mixed(seed + i * 0x9e3779b97f4a7c15);
}
static uint64_t fold(uint64_t sum, const void *from, size_t bytes) {
    const uint64_t *words = from;
    for (size_t i = 0; i < bytes / 8; i++) sum = ((sum << 7 | sum >> 57) ^ words[i]) * 0x100000001b3;
    return sum;
}
/* One instruction, and so one access. */
static void move(void *to, const void *from, size_t bytes) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static volatile unsigned long ticks;
static void tick(int sig) {
    (void)sig;
    ticks++;
}
static uint8_t own_stack[65536] __attribute__((aligned(16)));
static void storm(long microseconds) {
    stack_t stack = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct itimerval each = {{0, microseconds}, {0, microseconds}};
    sigaltstack(&stack, NULL);
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &each, NULL);
}

/* Programs `from` to `to`, each `rounds` times on a fresh buffer; `out[i]` is what program i left
 * behind. With `every`, a signal comes each so many microseconds. */
EXPORT unsigned hot_run(uint8_t *buf, uint64_t *out, unsigned from, unsigned to, unsigned rounds,
                        long every) {
    hot_arena = (uint8_t *)fx_align(buf, 4096) + ARENA / 2;
    if (every) storm(every);
    if (to > hot_count) to = hot_count;
    for (unsigned i = from; i < to; i++) {
        uint64_t sum = i;
        pattern(copy, ARENA, i);
        move(hot_arena - ARENA / 2, copy, ARENA);
        pattern(hot_private, PRIVATE, i + 1000);
        for (unsigned round = 0; round < rounds; round++) {
            pattern(hot_in, sizeof hot_in, i * 64 + round);
            hot_in[GENERAL] = (hot_in[GENERAL] & 0x8d5) | 2;
            hot_target = hot_programs[i];
            hot_enter();
            sum = fold(sum, hot_out, sizeof hot_out);
        }
        move(copy, hot_arena - ARENA / 2, ARENA);
        sum = fold(sum, copy, ARENA);
        sum = fold(sum, hot_private, PRIVATE);
        __asm__ volatile("movq %1, (%0)" : : "r"(out + i), "r"(sum) : "memory");
    }
    if (every) storm(0);
    return to - from;
}
