/* Native code that makes processes, and threads that outlive the call. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fx.h"

/* Writes, forks a child that ends in the way asked for, writes what became of it. */
EXPORT int proc_fork(int *p, int how)
{
    p[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        switch (how) {
        case 0:
            exit(5);
        case 1:
            abort();
        case 2:
            *(volatile int *)8 = 1;
            return 0;
        default:
            return 7;
        }
    }
    int status = 0;
    waitpid(child, &status, 0);
    p[1] = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return p[1];
}

/* A child that shares the memory writes to it. */
EXPORT int proc_vfork(int *p)
{
    p[0] = 1;
    pid_t child = vfork();
    if (child == 0) {
        p[2] = 3;
        _exit(4);
    }
    int status = 0;
    waitpid(child, &status, 0);
    p[1] = WEXITSTATUS(status);
    return p[1];
}

static void *count_for_ever(void *p)
{
    for (;;)
        ++*(volatile int *)p;
    return NULL;
}

EXPORT int proc_outlive(int *p)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, count_for_ever, p) != 0)
        return 1;
    while (*(volatile int *)p < 100)
        usleep(1000);
    return 0;
}

/* Never returns, and lets no signal in. */
EXPORT void proc_deaf(int *p)
{
    sigset_t all;
    sigfillset(&all);
    p[0] = 1;
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;)
        pause();
}

/* A loop whose head is the first instruction of the function: no record of a call each time. */
EXPORT unsigned long proc_loop(unsigned long n);
__asm__(".globl proc_loop\n"
        ".type proc_loop, @function\n"
        "proc_loop: dec %rdi\n"
        "  jnz proc_loop\n"
        "  mov $42, %eax\n"
        "  ret\n"
        ".size proc_loop, . - proc_loop\n");
