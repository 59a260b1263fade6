/* Signals that arrive in hot loops. Their handlers see the program where it is: an address in its
 * own code, and registers as the instruction there has them. */
#include "fx.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { WORDS = 1024, ENOUGH = 40 };

/* Adds 1 to each of `n` words. Between two instructions it holds that r12 is rdi + 4 * rcx, and 4
 * more from `advanced` to `counted`; eax is the word where r12 points, or 1 more. */
__asm__(".text\n"
        ".type hot_add, @function\n"
        "hot_add:\n"
        "push %r12\n"
        "xorl %ecx, %ecx\n"
        "mov %rdi, %r12\n"
        "hot_head: movl (%r12), %eax\n"
        "hot_loaded: leal 1(%rax), %eax\n"
        "hot_summed: movl %eax, (%r12)\n"
        "hot_stored: lea 4(%r12), %r12\n"
        "hot_advanced: inc %rcx\n"
        "hot_counted: cmp %rsi, %rcx\n"
        "hot_compared: jb hot_head\n"
        "hot_left: pop %r12\n"
        "ret\n"
        ".size hot_add, .-hot_add\n");
extern void hot_add(uint32_t *, size_t) OURS;
extern const char hot_head[] OURS, hot_loaded[] OURS, hot_summed[] OURS, hot_stored[] OURS,
    hot_advanced[] OURS, hot_counted[] OURS, hot_compared[] OURS, hot_left[] OURS;

/* Executable mappings that have a file, and the kernel's own. */
static struct range { uintptr_t from, to; } code[256];
static int ranges;
static void find_code(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4400];
    ranges = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[2] != 'x') continue;
        int named = strchr(line, '/') || strstr(line, "[vdso]");
        if (named && !strstr(line, "memfd:") && ranges < 256) code[ranges++] = (struct range){from, to};
    }
    if (maps) fclose(maps);
}
static int in_code(uintptr_t rip) {
    for (int i = 0; i < ranges; i++)
        if (rip >= code[i].from && rip < code[i].to) return 1;
    return 0;
}

static uint32_t *words;
static volatile unsigned signals, hits, wrong, reads, outside;
static volatile greg_t seen[4];
static void complain(unsigned why, const greg_t *regs) {
    if (wrong) return;
    wrong = why;
    seen[0] = regs[REG_RIP] - (greg_t)(uintptr_t)hot_head;
    seen[1] = regs[REG_R12] - regs[REG_RDI];
    seen[2] = regs[REG_RCX];
    seen[3] = regs[REG_RAX];
}
static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)sig; (void)info;
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *rip = (const char *)regs[REG_RIP];
    signals++;
    outside += !in_code((uintptr_t)rip);
    if (rip < hot_head || rip > hot_left) return;
    hits++;
    int at_start = rip == hot_head || rip == hot_loaded || rip == hot_summed || rip == hot_stored ||
                   rip == hot_advanced || rip == hot_counted || rip == hot_compared || rip == hot_left;
    if (!at_start) return complain(1, regs);
    if ((uint32_t *)regs[REG_RDI] != words || regs[REG_RSI] != WORDS) return complain(2, regs);
    greg_t ahead = rip == hot_advanced;
    if (regs[REG_R12] != regs[REG_RDI] + 4 * (regs[REG_RCX] + ahead)) return complain(3, regs);
    if (rip == hot_loaded || rip == hot_summed || rip == hot_stored) {
        uint32_t now = *(volatile uint32_t *)regs[REG_R12];
        reads++;
        uint32_t want = now + (rip == hot_summed);
        if ((uint32_t)regs[REG_RAX] != want) return complain(4, regs);
    }
    if (rip == hot_compared) {
        int carry = (regs[REG_EFL] & 1) != 0, zero = (regs[REG_EFL] & 0x40) != 0;
        if (carry != (regs[REG_RCX] < WORDS) || zero != (regs[REG_RCX] == WORDS)) complain(5, regs);
    }
}

static void every(long microseconds, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval each = {{0, microseconds}, {0, microseconds}};
    if (handler) sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &each, NULL);
}

static pthread_t target;
static volatile int sending;
static void *sends(void *arg) {
    struct timespec pause = {0, 150000};
    while (sending) {
        pthread_kill(target, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return arg;
}

/* Until enough signals have come in the middle of the loop. `out`: what was wrong first, passes,
 * the handler's own reads, signals, those in the loop, those in no file's code, and where something
 * was wrong: rip from the loop's head, r12 from the buffer, rcx, rax. */
EXPORT int hot_invariant(uint32_t *p, int64_t *out, int by_thread, unsigned passes) {
    signals = hits = wrong = reads = outside = 0;
    words = p;
    find_code();
    pthread_t sender;
    if (by_thread) {
        struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigaction(SIGUSR1, &act, NULL);
        target = pthread_self();
        sending = 1;
        if (pthread_create(&sender, NULL, sends, NULL)) return -1;
    } else {
        every(1000, on_signal);
    }
    unsigned pass = 0;
    while (pass < passes && (hits < ENOUGH || pass < 8)) {
        hot_add(p, WORDS);
        pass++;
    }
    if (by_thread) {
        sending = 0;
        pthread_join(sender, NULL);
        signal(SIGUSR1, SIG_IGN);
    } else {
        every(0, NULL);
    }
    int64_t told[] = {wrong, pass, reads, signals, hits, outside, seen[0], seen[1], seen[2], seen[3]};
    for (int i = 0; i < 10; i++)
        __asm__ volatile("movq %1, (%0)" : : "r"(out + i), "r"(told[i]) : "memory");
    return (int)wrong;
}

/* A signal in each turn, whose handler uses the buffer. */
static void uses(int sig) {
    (void)sig;
    __asm__ volatile("addl $3, 4(%0)" : : "r"(words) : "memory");
    signals++;
}
EXPORT unsigned hot_raise(uint32_t *p, unsigned n) {
    words = p;
    signals = 0;
    signal(SIGUSR1, uses);
    for (unsigned i = 0; i < n; i++) {
        __asm__ volatile("addl %1, (%0)" : : "r"(p + 2 + i % 8), "r"(i) : "memory");
        if (i % 4 == 3) raise(SIGUSR1);
        __asm__ volatile("addl %1, (%0)" : : "r"(p), "r"(i) : "memory");
    }
    signal(SIGUSR1, SIG_DFL);
    return signals;
}

/* A handler that does not come back. Each addition is a read and a write, or nothing. A signal
   between the last jump and the end of the timer is one too many, and does nothing. */
static sigjmp_buf away;
static volatile unsigned jumps_wanted;
static void jumps(int sig, siginfo_t *info, void *context) {
    (void)sig; (void)info; (void)context;
    if (signals == jumps_wanted) return;
    signals++;
    siglongjmp(away, 1);
}
EXPORT uint64_t hot_jump_out(uint64_t *p, unsigned times) {
    signals = 0;
    jumps_wanted = times;
    if (sigsetjmp(away, 1) == 0) every(1000, jumps);
    while (signals < times) __asm__ volatile("addq $1, (%0)" : : "r"(p) : "memory");
    every(0, NULL);
    return signals;
}

/* A thread that is cancelled in its loop. */
static void cleans(void *arg) {
    uint64_t *p = arg;
    __asm__ volatile("addq $1, (%0)" : : "r"(p + 1) : "memory");
}
static volatile int at_once, running;
static void *endless(void *arg) {
    uint64_t *p = arg;
    int old;
    pthread_setcanceltype(at_once ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED, &old);
    pthread_cleanup_push(cleans, arg);
    running = 1;
    for (unsigned i = 0;; i++) {
        __asm__ volatile("addq $1, (%0)" : : "r"(p) : "memory");
        if (!at_once && i % 64 == 0) pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return NULL;
}
EXPORT int hot_cancel(uint64_t *p, int asynchronous, int threads) {
    int good = 0;
    at_once = asynchronous;
    for (int i = 0; i < threads; i++) {
        pthread_t id;
        void *got = NULL;
        running = 0;
        if (pthread_create(&id, NULL, endless, p)) return -1;
        while (!running) usleep(100);
        usleep(2000 + 300 * i);
        pthread_cancel(id);
        pthread_join(id, &got);
        good += got == PTHREAD_CANCELED;
    }
    return good;
}
