/* System calls on buffer memory: exact or refused, never silent. */
#include "fx.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

/* read(2) of n zero bytes into the buffer; -errno if it failed. */
EXPORT long sys_read(void *p, size_t n) {
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    long got = read(fd, p, n);
    if (got < 0) got = -errno;
    close(fd);
    return got;
}
/* A short read: the file has fewer bytes than asked for. */
EXPORT long sys_read_short(void *p, size_t n) {
    int fd[2];
    if (pipe(fd)) return -errno;
    if (write(fd[1], "12345", 5) != 5) return -errno;
    long got = read(fd[0], p, n);
    if (got < 0) got = -errno;
    close(fd[0]);
    close(fd[1]);
    return got;
}
EXPORT long sys_write(const void *p, size_t n) {
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    /* A pipe, because /dev/null does not look at the bytes. */
    int pipes[2];
    if (pipe(pipes)) return -errno;
    long put = write(pipes[1], p, n);
    if (put < 0) put = -errno;
    close(pipes[0]);
    close(pipes[1]);
    close(fd);
    return put;
}
EXPORT long sys_getrandom(void *p, size_t n) {
    long got = getrandom(p, n, 0);
    return got < 0 ? -errno : got;
}
/* A system call that has nothing to do with the buffer must simply work. */
EXPORT long sys_unrelated(int *p) {
    char local[8];
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    long got = read(fd, local, sizeof local);
    close(fd);
    *(volatile int *)p = (int)got;
    return got;
}
/* Native code that prints: stdout belongs to the report. */
EXPORT int prints(const int *p) {
    int v = *(volatile const int *)p;
    printf("native says %d\n", v);
    fflush(stdout);
    return v;
}
