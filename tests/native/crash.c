/* Native code that does not come back by itself. */
#include "fx.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

EXPORT int crash_abort(int *p) {
    *(volatile int *)p = 1;
    abort(); /* MARK: crash_abort */
}
EXPORT int crash_divide(int *p, int by) {
    *(volatile int *)p = 1;
    volatile int d = by;
    return 7 / d; /* MARK: crash_divide */
}
EXPORT void crash_sigfpe(int *p) {
    *(volatile int *)p = 1;
    raise(SIGFPE); /* MARK: crash_sigfpe */
}
EXPORT void crash_ud2(int *p) {
    *(volatile int *)p = 1;
    __asm__ volatile("ud2"); /* MARK: crash_ud2 */
}
EXPORT void crash_int3(int *p) {
    *(volatile int *)p = 1;
    __asm__ volatile("int3"); /* MARK: crash_int3 */
}
EXPORT void crash_hlt(int *p) {
    *(volatile int *)p = 1;
    __asm__ volatile("hlt"); /* MARK: crash_hlt */
}
EXPORT void crash_kill(int *p, int sig) {
    *(volatile int *)p = 1;
    kill(getpid(), sig);
    for (int i = 0; i < 50; i++) usleep(100000);
}
EXPORT void calls_exit(int *p, int code) {
    *(volatile int *)p = 1;
    exit(code); /* MARK: calls_exit */
}
EXPORT void calls_quick_exit(int *p, int code) {
    *(volatile int *)p = 1;
    _exit(code);
}
EXPORT void loops_forever(int *p) {
    *(volatile int *)p = 1;
    for (;;) __asm__ volatile("pause"); /* MARK: loops_forever */
}
/* For ever, and touching the buffer each time. */
EXPORT void loops_on_buffer(int *p) {
    for (;;) ++*(volatile int *)p;
}
EXPORT void sleeps_forever(int *p) {
    *(volatile int *)p = 1;
    for (;;) pause();
}
EXPORT int jumps_to_null(int *p) {
    int (*volatile f)(void) = NULL;
    *(volatile int *)p = 1;
    return f() + 1; /* MARK: jumps_to_null */
}
/* A call into the buffer itself: it holds data, not code. */
EXPORT int jumps_to_buffer(int *p) {
    int (*volatile f)(void) = (int (*)(void))p;
    return f() + 1;
}
/* #GP, not a page fault: the operand lies in the buffer, but off its 16-byte boundary. */
EXPORT void misaligned_movaps(void *p) {
    __asm__ volatile("movaps (%0), %%xmm0" : : "r"(fx_align(p, 16) + 1) : "xmm0", "memory"); /* MARK: misaligned_movaps */
}
EXPORT int overflow_stack(int *p, int n) {
    volatile char frame[4096];
    frame[0] = (char)n;
    *(volatile int *)p = n;
    return overflow_stack(p, n + 1) + frame[0];
}
static void *crash_there(void *arg) {
    *(volatile int *)arg = 1;
    *(volatile int *)8 = 1; /* MARK: crash_there */
    return NULL;
}
EXPORT int thread_crashes(int *p) {
    pthread_t id;
    if (pthread_create(&id, NULL, crash_there, p)) return -1;
    pthread_join(id, NULL);
    return 0;
}
static void *oob_there(void *arg) {
    *((volatile char *)arg - 1) = 1; /* MARK: oob_there */
    return NULL;
}
EXPORT int thread_out_of_bounds(char *p) {
    pthread_t id;
    if (pthread_create(&id, NULL, oob_there, p)) return -1;
    pthread_join(id, NULL);
    return 0;
}
/* Damages its own return address. */
EXPORT void smashes_stack(int *p) {
    *(volatile int *)p = 1;
    __asm__ volatile("movq $0x1234, (%rsp)\n\tret");
}
