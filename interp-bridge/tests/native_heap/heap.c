/* Uses of the heap, right and wrong. Each takes a word of the interpreter's, in or out. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Optimisers know what these functions are for. */
#define OPAQUE __attribute__((noinline))
/* In a register: handlers and threads use it in the middle of one another. */
static OPAQUE void *opaque(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

int counter = 7;
static const int limit = 9;
const char *const names[2] = {"one", "two"};
static __thread int per_thread = 1;
int use_statics(void) { return counter + limit + per_thread + names[0][0]; }

void fine(long *word) {
    int *p = malloc(10 * sizeof *p);
    for (int i = 0; i < 10; i++)
        p[i] = i;
    long sum = 0;
    for (int i = 0; i < 10; i++)
        sum += p[i];
    free(opaque(p));
    *word = sum;
}

void overrun(long *word) {
    char *p = opaque(malloc(10));
    for (int i = 0; i <= 10; i++)
        ((volatile char *)p)[i] = 1;
    free(p);
    *word = 1;
}

void use_after_free(long *word) {
    volatile char *p = opaque(malloc(24));
    free((void *)p);
    *word = p[3];
}

void double_free(long *word) {
    char *p = opaque(malloc(24));
    free(p);
    free(opaque(p));
    *word = 1;
}

void free_inside(long *word) {
    char *p = opaque(malloc(24));
    free(opaque(p + 8));
    free(p);
    *word = 1;
}

void free_static(long *word) {
    free(opaque(&counter));
    *word = counter;
}

void free_stack(long *word) {
    long local[4] __attribute__((aligned(16))) = {0};
    free(opaque(local));
    *word = 1;
}

/* The word holds an address of the interpreter's. */
void free_interpreters(long *word) { free(opaque((void *)*word)); }

void resize(long *word) {
    char *p = malloc(4);
    memcpy(p, "abc", 4);
    for (size_t size = 8; size < 100000; size *= 2)
        p = realloc(p, size);
    p = realloc(p, 4);
    *word = strcmp(p, "abc") == 0;
    free(opaque(p));
    p = realloc(NULL, 5);
    *word += realloc(opaque(p), 0) == NULL;
    *word += reallocarray(NULL, SIZE_MAX / 2, 4) == NULL && errno == ENOMEM;
}

void use_old_pointer(long *word) {
    char *p = opaque(malloc(16));
    memset(p, 5, 16);
    char *q = opaque(realloc(p, 32));
    *word = ((volatile char *)p)[1] + q[1];
    free(q);
}

void strings(long *word) {
    char text[] = "a string of some length";
    char *p = strdup(text), *q = strndup(text, 8);
    *word = strcmp(p, text) == 0 && strcmp(q, "a string") == 0;
    free(opaque(p));
    free(opaque(q));
}

void zeroed(long *word) {
    long *p = calloc(100, sizeof *p);
    long sum = 0;
    for (int i = 0; i < 100; i++)
        sum |= p[i];
    free(opaque(p));
    *word = sum == 0 && calloc(SIZE_MAX / 2, 4) == NULL && errno == ENOMEM;
}

void aligned(long *word) {
    errno = 99;
    void *a = aligned_alloc(256, 512), *b = memalign(64, 3), *c = NULL, *d = valloc(10);
    int bad = posix_memalign(&c, 3, 8), good = posix_memalign(&c, 4096, 100);
    *word = (uintptr_t)a % 256 == 0 && (uintptr_t)b % 64 == 0 && (uintptr_t)c % 4096 == 0 &&
            (uintptr_t)d % 4096 == 0 && bad == EINVAL && good == 0 && errno == 99 &&
            malloc_usable_size(a) >= 512 && (uintptr_t)malloc(1) % 16 == 0;
    free(opaque(a)), free(opaque(b)), free(opaque(c)), free(opaque(d));
}

void none(long *word) {
    char *p = malloc(0), *q = malloc(0);
    *word = p != NULL && q != NULL && p != q;
    free(opaque(p)), free(opaque(q));
    free(opaque(NULL));
    *word += malloc((size_t)PTRDIFF_MAX) == NULL && errno == ENOMEM;
}

/* What libc allocates by itself, and what it takes over. */
void libcs_own(long *word) {
    char *p = NULL, *line = malloc(2);
    size_t size = 2;
    int len = asprintf(&p, "%d and %s", 42, "more");
    FILE *in = fmemopen("a line that is longer than two bytes\nanother\n", 45, "r");
    ssize_t read = getline(&line, &size, in), next = getline(&line, &size, in);
    fclose(in);
    p = realloc(p, 1000);
    *word = len == 11 && read == 37 && next == 8 && !strcmp(line, "another\n") && !strncmp(p, "42", 2);
    free(opaque(p)), free(opaque(line));
    free(opaque(realpath("/", NULL)));
}

static void *churn(void *data) {
    unsigned state = (unsigned)(uintptr_t)data;
    unsigned char *kept[16] = {0};
    long wrong = 0;
    for (int i = 0; i < 400; i++) {
        state = state * 1103515245u + 12345u;
        int slot = state >> 16 & 15;
        if (kept[slot])
            wrong += kept[slot][0] != (unsigned char)slot;
        free(kept[slot]);
        kept[slot] = malloc(1 + (state >> 20 & 63));
        kept[slot][0] = slot;
    }
    for (int i = 0; i < 16; i++)
        free(kept[i]);
    return (void *)wrong;
}

void threads(long *word) {
    pthread_t thread[4];
    long wrong = 0;
    for (long i = 0; i < 4; i++)
        wrong += pthread_create(&thread[i], NULL, churn, (void *)(i + 1)) != 0;
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        wrong += pthread_join(thread[i], &result) != 0;
        wrong += (long)result;
    }
    *word = wrong == 0;
}

void pairs(long *word) {
    for (long i = 0; i < *word; i++)
        free(opaque(malloc(i % 300)));
}

void leak(long *word) { *word = (long)opaque(strdup("kept")); }

void maps(long *word) {
    char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[4096] = 3;
    munmap(p, 4096);
    *word = (long)p;
}

void huge(long *word) {
    char *p = opaque(malloc((size_t)600 << 20));
    *word = p != NULL && malloc_usable_size(p) >= (size_t)600 << 20;
    p[0] = 1;
    p = realloc(p, 100);
    *word += p[0];
    free(opaque(p));
}

/* A child has a heap of its own, and nothing of the arena. */
void forks(long *word) {
    char *p = opaque(malloc(8));
    pid_t pid = fork();
    if (pid == 0) {
        char *q = opaque(malloc(100));
        memset(q, 1, 100);
        free(q);
        free(p);
        _exit(q ? 7 : 1);
    }
    int status = 0;
    *word = waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7;
    free(p);
}

static volatile long handled;
static void handler(int signal) {
    (void)signal;
    char *p = opaque(malloc(3));
    ((volatile char *)p)[2] = 1;
    free(p);
    handled++;
}

/* A handler that allocates, in the middle of allocations. */
void in_handler(long *word) {
    struct sigaction action = {.sa_handler = handler}, old;
    sigaction(SIGALRM, &action, &old);
    struct itimerval each = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &each, NULL);
    while (handled < 50)
        for (int i = 0; i < 10; i++)
            free(opaque(realloc(opaque(malloc(i)), 2 * i + 1)));
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    *word = handled >= 50;
    handled = 0;
}

void crash(long *word) {
    char *p = opaque(malloc(10));
    p[0] = 1;
    *word = 1;
    *(volatile int *)opaque(NULL) = 3;
}

static char *kept;
void keep(long *word) { *word = (kept = strdup("until the end")) != NULL; }
__attribute__((destructor)) static void leave(void) {
    if (kept) {
        kept[0] = 'U';
        fputs(kept, stderr);
        free(kept);
    }
}
