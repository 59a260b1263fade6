/* Native code that uses signals: its handlers see its own signals, with its own registers, mask
 * and stack, and none of the recorder's. */
#include "fx.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int *seen;
static volatile int count;

static void note(int sig) {
    count++;
    seen[1] = sig;
}

/* A handler runs at once, and may touch the buffer. */
EXPORT int sig_raise(int *p) {
    seen = p;
    count = 0;
    signal(SIGUSR1, note);
    *(volatile int *)p = 1;
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    *(volatile int *)(p + 2) = 3;
    return count;
}

/* The signals that the recorder uses itself. */
EXPORT int sig_real_time(int *p) {
    seen = p;
    count = 0;
    signal(61, note);
    signal(62, note);
    *(volatile int *)p = 1;
    raise(61);
    raise(62);
    signal(61, SIG_DFL);
    signal(62, SIG_DFL);
    *(volatile int *)(p + 2) = 3;
    return count;
}

/* As kill to the own process, from another thread too. */
static void *kills(void *p) {
    (void)p;
    kill(getpid(), SIGUSR2);
    return NULL;
}
EXPORT int sig_kill(int *p) {
    seen = p;
    count = 0;
    signal(SIGUSR2, note);
    kill(getpid(), SIGUSR2);
    pthread_t id;
    if (pthread_create(&id, NULL, kills, NULL)) return -1;
    pthread_join(id, NULL);
    for (int i = 0; i < 1000 && count < 2; i++) usleep(1000);
    return count;
}

static sigjmp_buf back;
static char *page;
static void jump(int sig, siginfo_t *info, void *context) {
    (void)context;
    count++;
    /* Only its own fault, with its own address. */
    seen[1] = sig == SIGSEGV && info->si_code == SEGV_ACCERR && (char *)info->si_addr == page + 8;
    siglongjmp(back, 1);
}
static int jumps(int *p, int flags) {
    seen = p;
    count = 0;
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction act = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO | flags}, old, now;
    sigaction(SIGSEGV, &act, &old);
    for (volatile int i = 0; i < 4; i++) {
        *(volatile int *)p = i;
        if (!sigsetjmp(back, 1)) page[8] = 1;
        *(volatile int *)(p + 2) = i;
    }
    sigaction(SIGSEGV, &old, &now);
    munmap(page, 4096);
    /* What is asked for is what was set; the C library adds SA_RESTORER. */
    if (now.sa_sigaction != jump || (now.sa_flags & ~0x04000000) != (SA_SIGINFO | flags)) return -1;
    return count;
}
EXPORT int sig_segv_jump(int *p) { return jumps(p, 0); }

static char *own_stack;
static int on_own_stack;
static void where(int sig) {
    (void)sig;
    char here;
    stack_t now;
    sigaltstack(NULL, &now);
    on_own_stack += &here > own_stack && &here < own_stack + 65536 && now.ss_flags == SS_ONSTACK;
    seen[1] = on_own_stack;
}
/* With an alternate stack: set, used, reported, taken away again. */
EXPORT int sig_altstack(int *p) {
    seen = p;
    on_own_stack = 0;
    own_stack = malloc(65536);
    stack_t stack = {.ss_sp = own_stack, .ss_size = 65536}, old, now;
    if (sigaltstack(&stack, &old)) return -1;
    struct sigaction act = {.sa_handler = where, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &act, NULL);
    raise(SIGUSR1);
    *(volatile int *)p = 1;
    raise(SIGUSR1);
    int jumped = jumps(p, SA_ONSTACK);
    sigaltstack(&old, &now);
    signal(SIGUSR1, SIG_DFL);
    int same = now.ss_sp == own_stack && now.ss_size == 65536 && now.ss_flags == 0;
    free(own_stack);
    return same && jumped == 4 ? on_own_stack : -2;
}

/* A handler that mends and returns: the instruction that faulted runs again. */
static void skip(int sig, siginfo_t *info, void *context) {
    (void)sig; (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen[1] = regs[REG_RAX] == 64;
    regs[REG_RAX] = 0x1234;
    regs[REG_RIP] += 3;
}
EXPORT int sig_segv_skip(int *p) {
    seen = p;
    struct sigaction act = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO}, old;
    sigaction(SIGSEGV, &act, &old);
    *(volatile int *)p = 1;
    long value = 64;
    __asm__ volatile(".byte 0x48, 0x8b, 0x00" /* mov (%rax), %rax */ : "+a"(value) : : "memory");
    *(volatile int *)(p + 2) = 3;
    sigaction(SIGSEGV, &old, NULL);
    return value == 0x1234;
}

/* Every signal blocked: the buffer can be touched all the same, and the mask reads back. */
EXPORT int sig_block_all(int *p) {
    sigset_t all, old, now;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < 8; i++) *(volatile int *)(p + i) = i;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    int blocked = sigismember(&now, SIGSEGV) && sigismember(&now, SIGTRAP) &&
                  sigismember(&now, SIGSYS) && sigismember(&now, SIGUSR1) &&
                  sigismember(&now, 62) && !sigismember(&now, SIGKILL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    return blocked && !sigismember(&now, SIGSEGV) && !sigismember(&now, SIGUSR1);
}

/* A blocked signal waits; sigsuspend lets it in with its own mask, which then goes again. */
EXPORT int sig_suspend(int *p) {
    seen = p;
    count = 0;
    sigset_t one, old, none, now;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    sigprocmask(SIG_BLOCK, &one, &old);
    signal(SIGUSR1, note);
    raise(SIGUSR1);
    *(volatile int *)p = count;
    sigemptyset(&none);
    int result = sigsuspend(&none);
    int interrupted = result == -1 && errno == EINTR && count == 1;
    sigprocmask(SIG_SETMASK, &old, &now);
    signal(SIGUSR1, SIG_DFL);
    return interrupted && sigismember(&now, SIGUSR1);
}

/* SA_NODEFER, SA_RESETHAND and sa_mask. */
static volatile int nested, deepest, masked;
static void nest(int sig) {
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    masked += sigismember(&now, SIGUSR2) && !sigismember(&now, SIGUSR1);
    if (++nested > deepest) deepest = nested;
    if (nested < 3) raise(sig);
    seen[nested] = nested;
    nested--;
}
EXPORT int sig_flags(int *p) {
    seen = p;
    nested = deepest = masked = count = 0;
    struct sigaction act = {.sa_handler = nest, .sa_flags = SA_NODEFER}, now;
    sigaddset(&act.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &act, NULL);
    raise(SIGUSR1);
    if (deepest != 3 || masked != 3) return -1;
    struct sigaction once = {.sa_handler = note, .sa_flags = SA_RESETHAND};
    sigaction(SIGUSR1, &once, NULL);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &now);
    return now.sa_handler == SIG_DFL && count == 1;
}

/* A blocking call is interrupted where the handler is without SA_RESTART, else it goes on. */
static int write_end;
static void feeds(int sig) {
    (void)sig;
    count++;
    if (write(write_end, "abc", 3) != 3) abort();
}
static long interrupted(int *p, void (*handler)(int), int flags) {
    seen = p;
    count = 0;
    int ends[2];
    if (pipe(ends)) return -2;
    write_end = ends[1];
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &act, NULL);
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    long got = read(ends[0], p + 4, 16);
    if (got < 0) got = -errno;
    close(ends[0]);
    close(ends[1]);
    signal(SIGALRM, SIG_DFL);
    return count == 1 ? got : -3;
}
EXPORT long sig_eintr(int *p) { return interrupted(p, note, 0); }
EXPORT long sig_restart(int *p) { return interrupted(p, feeds, SA_RESTART); }

/* A thousand signals a second while a loop touches the buffer: nothing is lost or done twice. */
static volatile int ticks;
static void tick(int sig) {
    (void)sig;
    ticks++;
}
EXPORT int sig_storm(int *p, int n) {
    ticks = 0;
    struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &act, NULL);
    struct itimerval each = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    setitimer(ITIMER_REAL, &each, NULL);
    for (int i = 0; i < n; i++) {
        __asm__ volatile("incl (%0)" : : "r"(p) : "memory");
        /* However fast that is: a signal for each quarter. */
        if (i % (n / 4) == 0) while (ticks < i / (n / 4)) {}
    }
    memset(&each, 0, sizeof each);
    setitimer(ITIMER_REAL, &each, NULL);
    signal(SIGALRM, SIG_DFL);
    return ticks > 2;
}

/* A thread of its own waits for signals; another is cancelled in a blocking call. */
static void *waits(void *arg) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    return sigwait(&one, arg) ? NULL : arg;
}
EXPORT int sig_wait(int *p) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    pthread_t id;
    if (pthread_create(&id, NULL, waits, p)) return -1;
    pthread_kill(id, SIGUSR1);
    void *got;
    pthread_join(id, &got);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    return got == p;
}
static void cleans(void *arg) { *(volatile int *)arg = 2; }
static void *sleeps(void *arg) {
    pthread_cleanup_push(cleans, arg);
    *(volatile int *)((int *)arg + 1) = 1;
    for (;;) sleep(10);
    pthread_cleanup_pop(0);
    return NULL;
}
EXPORT int sig_cancel(int *p) {
    pthread_t id;
    if (pthread_create(&id, NULL, sleeps, p)) return -1;
    usleep(20000);
    pthread_cancel(id);
    void *got;
    pthread_join(id, &got);
    return got == PTHREAD_CANCELED;
}

/* Blocked, a fault ends the process as it would without a recorder. */
EXPORT int sig_blocked_fault(int *p) {
    sigset_t all;
    sigfillset(&all);
    signal(SIGSEGV, note);
    sigprocmask(SIG_SETMASK, &all, NULL);
    *(volatile int *)p = 1;
    *(volatile int *)64 = 1;
    return 0;
}

/* A handler that was there before the call runs as it did; put away for a while, it comes back. */
EXPORT int sig_of_program(int *p) {
    volatile int *calls = dlsym(RTLD_DEFAULT, "fx_preload_count");
    void *handler = dlsym(RTLD_DEFAULT, "fx_preload_handler");
    struct sigaction old, mine = {.sa_handler = note};
    if (!calls || !handler) return -1;
    seen = p;
    count = 0;
    raise(SIGUSR1);
    *(volatile int *)p = 1;
    raise(SIGUSR1);
    sigaction(SIGUSR1, &mine, &old);
    if ((void *)old.sa_handler != handler || !sigismember(&old.sa_mask, SIGSEGV)) return -2;
    raise(SIGUSR1);
    sigaction(SIGUSR1, &old, NULL);
    raise(SIGUSR1);
    *(volatile int *)(p + 2) = 2;
    return *calls * 10 + count;
}
