/* System calls of all kinds on buffer memory: made as without a recorder, told byte by byte. */
#include "fx.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Both halves of a vector in the buffer; 7 bytes come. */
EXPORT long call_readv(char *p) {
    int ends[2];
    if (pipe(ends) || write(ends[1], "abcdefg", 7) != 7) return -1;
    struct iovec parts[2] = {{p, 4}, {p + 8, 16}};
    long got = readv(ends[0], parts, 2);
    close(ends[0]);
    close(ends[1]);
    return got;
}
/* The vector itself lies in the buffer, what it points to does not. */
EXPORT long call_writev(char *p) {
    int ends[2];
    if (pipe(ends)) return -1;
    struct iovec parts[2] = {{"abc", 3}, {"de", 2}};
    /* Calls to memcpy are read as memory accesses of their own kind: written by hand. */
    volatile uint64_t *to = (uint64_t *)p;
    to[0] = (uint64_t)parts[0].iov_base;
    to[1] = 3;
    to[2] = (uint64_t)parts[1].iov_base;
    to[3] = 2;
    long put = writev(ends[1], (struct iovec *)p, 2);
    close(ends[0]);
    close(ends[1]);
    return put;
}
EXPORT long call_recv(char *p) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)) return -1;
    if (send(ends[0], p, 5, 0) != 5) return -2;
    long got = recv(ends[1], p + 16, 32, 0);
    close(ends[0]);
    close(ends[1]);
    return got;
}
/* A bad descriptor: the kernel never looks at the memory. */
EXPORT long call_bad_fd(char *p) { return write(-1, p, 5) < 0 ? errno : 0; }

EXPORT long call_fread(char *p) {
    FILE *file = fopen("/dev/zero", "r");
    long got = file ? (long)fread(p, 1, 100, file) : -1;
    if (file) fclose(file);
    return got;
}
/* The path lies in the buffer. */
EXPORT long call_path(char *p) {
    int fd = open(p, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct stat st;
    long kind = fstat(fd, &st) ? -errno : (long)(st.st_mode & S_IFMT);
    close(fd);
    return kind == S_IFCHR;
}
EXPORT long call_stat(char *p) {
    return syscall(SYS_stat, "/dev/null", p) ? -errno : 0;
}
EXPORT long call_uname(char *p) { return uname((struct utsname *)p); }
EXPORT long call_getcwd(char *p) {
    if (chdir("/tmp")) return -1;
    return syscall(SYS_getcwd, p, 64);
}
/* From user mode, by the vdso: plain stores. */
EXPORT long call_clock(char *p) { return clock_gettime(CLOCK_MONOTONIC, (struct timespec *)p); }
/* The same by the kernel. */
EXPORT long call_clock_kernel(char *p) { return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p); }

EXPORT long call_poll(char *p) {
    int ends[2];
    if (pipe(ends) || write(ends[1], "x", 1) != 1) return -1;
    volatile int *entry = (int *)p;
    entry[0] = ends[0];
    ((volatile short *)p)[2] = POLLIN;
    long ready = poll((struct pollfd *)p, 1, 1000);
    close(ends[0]);
    close(ends[1]);
    return ready;
}
/* Refused: not to be made. */
EXPORT long call_mprotect(char *p) {
    long page = (long)p & ~4095L;
    return mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) ? errno : 0;
}
EXPORT long call_munmap(char *p) {
    long page = (long)p & ~4095L;
    *(volatile char *)p = 1;
    long result = munmap((void *)page, 4096) ? errno : 0;
    *(volatile char *)(p + 1) = 2;
    return result;
}
/* A process that shares the memory and runs beside this one. */
static int does_nothing(void *p) { (void)p; return 0; }
EXPORT long call_clone_vm(char *p) {
    *(volatile char *)p = 1;
    static char stack[16384];
    extern int clone(int (*)(void *), void *, int, void *, ...);
    return clone(does_nothing, stack + sizeof stack, 0x100 /* CLONE_VM */, NULL) < 0 ? errno : 0;
}

/* Threads, and what they wait with, in the buffer. */
static void *writes(void *p) {
    *(volatile int *)p = 7;
    return p;
}
EXPORT int call_thread(int *p) {
    pthread_t id;
    void *got;
    if (pthread_create(&id, NULL, writes, p)) return -1;
    pthread_join(id, &got);
    return got == p ? *(volatile int *)p : -2;
}
struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    sem_t done;
    int turns;
};
static void *turns(void *arg) {
    struct shared *s = arg;
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&s->mutex);
        s->turns++;
        pthread_cond_broadcast(&s->cond);
        pthread_mutex_unlock(&s->mutex);
    }
    sem_post(&s->done);
    return NULL;
}
/* 8 threads and a waiter; `shared` asks for futexes that other processes could use too. */
EXPORT int call_futexes(void *p, int shared) {
    struct shared *s = p;
    pthread_mutexattr_t mutex;
    pthread_condattr_t cond;
    pthread_mutexattr_init(&mutex);
    pthread_condattr_init(&cond);
    pthread_mutexattr_setpshared(&mutex, shared);
    pthread_condattr_setpshared(&cond, shared);
    pthread_mutex_init(&s->mutex, &mutex);
    pthread_cond_init(&s->cond, &cond);
    sem_init(&s->done, shared, 0);
    s->turns = 0;
    pthread_t ids[8];
    for (int i = 0; i < 8; i++)
        if (pthread_create(&ids[i], NULL, turns, s)) return -1;
    pthread_mutex_lock(&s->mutex);
    while (s->turns < 400) pthread_cond_wait(&s->cond, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    for (int i = 0; i < 8; i++) sem_wait(&s->done);
    for (int i = 0; i < 8; i++) pthread_join(ids[i], NULL);
    return s->turns;
}
/* Small stacks, detached, many one after the other. */
static void *detached(void *p) {
    __atomic_add_fetch((int *)p, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
EXPORT int call_detached(int *p) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 16384);
    for (int i = 0; i < 100; i++) {
        pthread_t id;
        while (pthread_create(&id, &attr, detached, p)) usleep(1000);
    }
    for (int i = 0; i < 5000 && __atomic_load_n(p, __ATOMIC_SEQ_CST) < 100; i++) usleep(1000);
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

/* Other programs, their names and arguments in the buffer. */
EXPORT int call_system(char *p) { return WEXITSTATUS(system(p)); }
EXPORT int call_popen(char *p) {
    char line[16] = "";
    FILE *out = popen(p, "r");
    if (!out || !fgets(line, sizeof line, out)) return -1;
    pclose(out);
    return strcmp(line, "hi\n") == 0;
}
EXPORT int call_spawn(char *p) {
    extern char **environ;
    char *args[] = {p, "-c", "exit 9", NULL};
    pid_t child;
    int status;
    if (posix_spawn(&child, p, NULL, NULL, args, environ)) return -1;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
EXPORT int call_vfork_exec(char *p) {
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execl(p, p, "-c", "exit 11", (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
EXPORT int call_fork_exec(char *p) {
    int status;
    char copy[32];
    strcpy(copy, p);
    pid_t child = fork();
    if (child == 0) {
        execl(copy, copy, "-c", "exit 13", (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
