/* Code that changes while it runs, in ways that are allowed and in one that is not. */
#include "fx.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reads *p, until its second byte is changed: then *q. On pages of its own. */
__asm__(".pushsection .text.changing, \"ax\", @progbits\n"
        ".balign 4096\n"
        ".type changing_read, @function\n"
        "changing_read: mov (%rdi), %eax\n"
        "    ret\n"
        ".balign 4096\n"
        ".size changing_read, . - changing_read\n"
        /* Reads *p, and *q once it is changed, until it finds a value; counts in vain. */
        ".type changing_loop, @function\n"
        "changing_loop: mov (%rdi), %eax\n"
        "    cmp %edx, %eax\n"
        "    jne changing_loop\n"
        "    ret\n"
        ".balign 4096\n"
        ".size changing_loop, . - changing_loop\n"
        ".popsection\n");
extern unsigned changing_loop(const unsigned *p, const unsigned *q, unsigned until);
extern unsigned changing_read(const unsigned *p, const unsigned *q);

/* The ModRM bytes of mov (%rdi), %eax and mov (%rsi), %eax. */
enum { FROM_RDI = 0x07, FROM_RSI = 0x06 };

/* n reads of *p, n of *q, n of *p, with the code made writable in between. */
EXPORT unsigned changed_by_mprotect(const unsigned *p, const unsigned *q, unsigned n) {
    volatile unsigned char *code = (volatile unsigned char *)changing_read;
    unsigned sum = 0;
    for (unsigned round = 0; round < 3; round++) {
        if (mprotect((void *)code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return 0;
        code[1] = round == 1 ? FROM_RSI : FROM_RDI;
        if (mprotect((void *)code, 4096, PROT_READ | PROT_EXEC)) return 0;
        for (unsigned i = 0; i < n; i++) sum += changing_read(p, q);
    }
    return sum;
}

/* The same behind everybody's back, through /proc. */
EXPORT unsigned changed_by_proc(const unsigned *p, const unsigned *q, unsigned n) {
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    unsigned sum = 0;
    for (unsigned round = 0; round < 3; round++) {
        unsigned char byte = round == 1 ? FROM_RSI : FROM_RDI;
        if (pwrite(memory, &byte, 1, (off_t)(unsigned long)changing_read + 1) != 1) return 0;
        for (unsigned i = 0; i < n; i++) sum += changing_read(p, q);
    }
    close(memory);
    return sum;
}

struct loop { const unsigned *p, *q; };
static void *looper(void *argument) {
    const struct loop *loop = argument;
    return (void *)(unsigned long)changing_loop(loop->p, loop->q, *(volatile const unsigned *)loop->q);
}

/* A thread reads *p for a while, until its loop is changed to read *q. */
EXPORT unsigned changed_under_a_thread(const unsigned *p, const unsigned *q, unsigned microseconds) {
    volatile unsigned char *code = (volatile unsigned char *)changing_loop;
    struct loop loop = { p, q };
    pthread_t thread;
    void *found;
    if (pthread_create(&thread, 0, looper, &loop)) return 0;
    usleep(microseconds);
    if (mprotect((void *)code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return 0;
    code[1] = FROM_RSI;
    if (mprotect((void *)code, 4096, PROT_READ | PROT_EXEC)) return 0;
    pthread_join(thread, &found);
    return (unsigned)(unsigned long)found;
}
