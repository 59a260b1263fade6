/* Shapes that other tracers are known to get wrong. */
#include "fx.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

EXPORT void touch_nothing(const void *p) { (void)p; }

EXPORT int test_register(const void *p, uint32_t v) {
    unsigned char zero;
    __asm__ volatile("testl %2, (%1)\n\tsetz %0" : "=q"(zero) : "r"(p), "r"(v) : "memory", "cc");
    return zero;
}
EXPORT void store_movq(void *p) {
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovq %%xmm0, (%0)" : : "r"(p) : "xmm0", "memory");
}
EXPORT void store_movups(void *p) {
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovups %%xmm0, (%0)" : : "r"(p) : "xmm0", "memory");
}
EXPORT void store_fstp(void *p) { __asm__ volatile("fld1\n\tfstpl (%0)" : : "r"(p) : "memory"); }

/* Each of the three signals has a handler here, and arrives by another way. */
static volatile sig_atomic_t seen[3];
static int *volatile handlers_write;
static void on_signal(int signal) {
    int which = signal == SIGUSR1 ? 0 : signal == SIGUSR2 ? 1 : 2;
    seen[which]++;
    ((volatile int *)handlers_write)[which] = signal;
}
EXPORT int three_signals(int *p) {
    static const int numbers[3] = {SIGUSR1, SIGUSR2, SIGALRM};
    struct sigaction act = {.sa_handler = on_signal}, old[3];
    handlers_write = p;
    memset((void *)seen, 0, sizeof seen);
    for (int i = 0; i < 3; i++) sigaction(numbers[i], &act, &old[i]);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR2);
    struct itimerval soon = {.it_value = {.tv_usec = 2000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    for (int i = 0; i < 5000 && !(seen[1] && seen[2]); i++) usleep(1000);
    for (int i = 0; i < 3; i++) sigaction(numbers[i], &old[i], NULL);
    return seen[0] * 100 + seen[1] * 10 + seen[2];
}

/* The first call starts a thread; the second one sees whether it still runs. */
static volatile unsigned long beats;
static void *beat(void *arg) {
    (void)arg;
    for (;;) {
        beats++;
        usleep(500);
    }
    return NULL;
}
EXPORT int thread_lives_on(int *p) {
    static int started;
    pthread_t thread;
    if (!started) {
        started = 1;
        if (pthread_create(&thread, NULL, beat, NULL)) return -1;
        return 0;
    }
    unsigned long before = beats;
    for (int i = 0; i < 5000 && beats < before + 5; i++) usleep(1000);
    *(volatile int *)p = beats >= before + 5;
    return *p;
}

/* 8 threads add to one counter, each in its own way of reaching it atomically. */
struct adder { uint64_t *counter; uint64_t n; };
static void *add_up(void *arg) {
    struct adder *a = arg;
    for (uint64_t i = 0; i < a->n; i++) __atomic_fetch_add(a->counter, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
static void *fill_up(void *arg) {
    struct adder *a = arg;
    for (uint64_t i = 0; i < a->n; i++)
        __asm__ volatile("movl %1, (%0)" : : "r"((uint32_t *)a->counter + i), "r"((uint32_t)i)
                         : "memory");
    return NULL;
}
/* `threads` threads, half of which add to *sum, `per` times each, while the others each fill their
 * own `per` words of `words`. */
EXPORT uint64_t add_and_fill(uint64_t *sum, uint32_t *words, unsigned threads, uint64_t per) {
    pthread_t id[64];
    struct adder job[64];
    if (threads > 64) return 0;
    for (unsigned t = 0; t < threads; t++) {
        int adds = t % 2 == 0;
        job[t] = (struct adder){adds ? sum : (uint64_t *)(words + t / 2 * per), per};
        if (pthread_create(&id[t], NULL, adds ? add_up : fill_up, &job[t])) return 0;
    }
    for (unsigned t = 0; t < threads; t++) pthread_join(id[t], NULL);
    return *sum;
}

/* A lock in the buffer, that nobody else wants. */
EXPORT int lock_alone(pthread_mutex_t *lock, int *p) {
    pthread_mutex_init(lock, NULL);
    pthread_mutex_lock(lock);
    *(volatile int *)p = 1;
    int busy = pthread_mutex_trylock(lock);
    pthread_mutex_unlock(lock);
    pthread_mutex_destroy(lock);
    return busy;
}
/* A lock in the buffer, that `threads` threads want at once. */
struct locked { pthread_mutex_t *lock; uint64_t *sum; unsigned n; };
static void *add_under_lock(void *arg) {
    struct locked *job = arg;
    for (unsigned i = 0; i < job->n; i++) {
        pthread_mutex_lock(job->lock);
        *(volatile uint64_t *)job->sum += 1;
        pthread_mutex_unlock(job->lock);
    }
    return NULL;
}
EXPORT uint64_t lock_contended(pthread_mutex_t *lock, uint64_t *sum, unsigned threads, unsigned per) {
    pthread_t id[16];
    struct locked job = {lock, sum, per};
    if (threads > 16) return 0;
    pthread_mutex_init(lock, NULL);
    *(volatile uint64_t *)sum = 0;
    for (unsigned t = 0; t < threads; t++)
        if (pthread_create(&id[t], NULL, add_under_lock, &job)) return 0;
    for (unsigned t = 0; t < threads; t++) pthread_join(id[t], NULL);
    return *sum;
}

/* What the library has of its own: a static counter and a piece of its heap. */
EXPORT int *own_static(int *p) {
    static int counter = 40;
    counter++;
    *(volatile int *)p = counter;
    return &counter;
}
EXPORT char *own_heap(const char *s) { return strdup(s); }
EXPORT void store_own_pointer(const char **slot) {
    static const char text[] = "static";
    *(const char *volatile *)slot = text;
}
