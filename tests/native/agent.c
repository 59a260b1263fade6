/* Accesses that are a process's own, around a gate: for many processes that are recorded at once. */
#include "fx.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* Says that it is here by making the file FX_READY, and goes on when the file FX_GATE is there. The
 * names come from the environment: in a buffer they would be accesses, too. */
static void gate(void) {
    const char *ready = getenv("FX_READY"), *open_when = getenv("FX_GATE");
    if (ready) close(open(ready, O_CREAT | O_WRONLY, 0666));
    while (open_when && access(open_when, F_OK)) usleep(5000);
}

/* Access `i` writes the byte `seed + i` to one of `span` places, in turn. */
static void write_places(unsigned char *p, unsigned long stride, unsigned long span,
                         unsigned long seed, unsigned long from, unsigned long to) {
    for (unsigned long i = from; i < to; i++) {
        unsigned char value = (unsigned char)(seed + i);
        __asm__ volatile("movb %1, (%0)" : : "r"(p + i % span * stride), "q"(value) : "memory");
    }
}

/* `before` accesses, the gate, and `after` accesses that go on with the same pattern. */
EXPORT int agent_pattern(unsigned char *p, unsigned long stride, unsigned long span,
                         unsigned long seed, unsigned long before, unsigned long after) {
    write_places(p, stride, span, seed, 0, before);
    gate();
    write_places(p, stride, span, seed, before, before + after);
    return (int)(before + after);
}

/* Ends in the middle, in a way that nothing in the process can see. */
EXPORT int agent_killed(unsigned char *p, unsigned long n) {
    write_places(p, 1, 1, 0, 0, n);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Reads the buffer again and again, with pauses. */
EXPORT unsigned agent_loop(const unsigned char *p, unsigned n, unsigned rounds, unsigned pause_ms) {
    unsigned sum = 0;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < n; i++) sum += ((const volatile unsigned char *)p)[i];
        usleep(pause_ms * 1000);
    }
    return sum;
}
