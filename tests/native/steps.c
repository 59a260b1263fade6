/* Instructions that have no displaced copy (the stack itself lies in the buffer), beside other
 * threads that work on the buffers. */
#include "fx.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

/* Has `enter` put `value` on a stack that ends at `top`, and `leave` take it back: one write and
 * one read of 8 bytes, by instructions that no other operand can be given. */
static uint64_t put_take(void *top, uint64_t value) {
    uint64_t taken, frame;
    __asm__ volatile("movq %%rbp, %1\n\t"
                     "movq %3, %%rbp\n\t"
                     "xchgq %%rsp, %2\n\t"
                     "enter $0, $0\n\t"
                     "leave\n\t"
                     "xchgq %%rsp, %2\n\t"
                     "movq %%rbp, %0\n\t"
                     "movq %1, %%rbp"
                     : "=&r"(taken), "=&r"(frame), "+&r"(top)
                     : "r"(value)
                     : "memory");
    return taken;
}

struct worker {
    volatile uint32_t *p;
    unsigned per;
    void *top;
    unsigned steps;
    unsigned wrong;
};

static void *work(void *data) {
    struct worker *w = data;
    /* The kernel cannot put a signal frame on a stack in the buffer. */
    stack_t alternate = {.ss_size = 256 << 10};
    if (w->steps) {
        alternate.ss_sp = malloc(alternate.ss_size);
        sigaltstack(&alternate, NULL);
    }
    unsigned many = w->per > w->steps ? w->per : w->steps;
    for (unsigned i = 0; i < many; i++) {
        if (i < w->per)
            w->p[i] = i;
        if (i < w->steps)
            w->wrong += put_take(w->top, i) != i;
    }
    if (w->steps) {
        alternate.ss_flags = SS_DISABLE;
        sigaltstack(&alternate, NULL);
        free(alternate.ss_sp);
    }
    return NULL;
}

/* `threads` threads write `per` words each, one after the other in `p`; `stepping` of them, and
 * the caller, put and take `steps` times each on stacks of 64 bytes in `stacks`. Returns how many
 * values did not come back. */
EXPORT unsigned steps_beside_threads(uint32_t *p, char *stacks, unsigned threads, unsigned per,
                                     unsigned stepping, unsigned steps) {
    struct worker *workers = calloc(threads, sizeof *workers);
    pthread_t *ids = calloc(threads, sizeof *ids);
    unsigned wrong = 0;
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){
            .p = p + (size_t)i * per,
            .per = per,
            .top = stacks + 64 * (i + 2),
            .steps = i < stepping ? steps : 0,
        };
        pthread_create(&ids[i], NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < steps; i++)
        wrong += put_take(stacks + 64, i) != i;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        wrong += workers[i].wrong;
    }
    free(ids);
    free(workers);
    return wrong;
}
