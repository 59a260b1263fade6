/* Native code that tries what only a privileged process may do, and tells how it went.
 *
 * System calls are made by hand: the C library's own would have all threads of the process change
 * their ids. What would change the process for good is tried in a child. */
#include "fx.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The names and the order are those of `attempts.rs`. */
enum {
    REAL_UID, EFFECTIVE_UID, SAVED_UID, REAL_GID, EFFECTIVE_GID, SAVED_GID, GROUPS,
    NO_NEW_PRIVS, DUMPABLE, SECUREBITS, BOUNDING, OWN_STATUS,
    OPEN_OF_ROOT, OPEN_OF_OTHERS, BPF_MAP, BPF_PROGRAM,
    SETUID_ROOT, SETRESUID_ROOT, SETUID_OTHER, SETGID_ROOT, SETGROUPS,
    CAPSET, AMBIENT, UNSHARE, CHROOT, PTRACE_KEEPER, KILL_KEEPER, MEMORY_OF_KEEPER,
    SETUID_PROGRAM, CAPABILITIES_BY_EXEC, SESSION_KEYRING,
    ATTEMPTS
};

/* 0 or errno. */
static int told(long result)
{
    return result < 0 ? errno : 0;
}

/* What `attempt` returns, or its child was ended by (negative). */
static int in_child(int (*attempt)(void))
{
    pid_t child = fork();
    if (child < 0)
        return -1000;
    if (child == 0)
        _exit(attempt());
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int bpf(int command, union bpf_attr *attr)
{
    long fd = syscall(SYS_bpf, command, attr, sizeof *attr);
    if (fd < 0)
        return errno;
    close((int)fd);
    return 0;
}

/* Of a kind that no setting lets everybody have. */
static int bpf_map(void)
{
    union bpf_attr attr = {0};
    attr.map_type = BPF_MAP_TYPE_LRU_HASH;
    attr.key_size = 4;
    attr.value_size = 4;
    attr.max_entries = 1;
    return bpf(BPF_MAP_CREATE, &attr);
}

static int bpf_program(void)
{
    struct bpf_insn code[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr = {0};
    attr.prog_type = BPF_PROG_TYPE_TRACEPOINT;
    attr.insns = (uintptr_t)code;
    attr.insn_cnt = 2;
    attr.license = (uintptr_t) "GPL";
    return bpf(BPF_PROG_LOAD, &attr);
}

static int setuid_root(void) { return told(syscall(SYS_setuid, 0)); }
static int setresuid_root(void) { return told(syscall(SYS_setresuid, 0, 0, 0)); }
static int setuid_other(void) { return told(syscall(SYS_setuid, 54321)); }
static int setgid_root(void) { return told(syscall(SYS_setgid, 0)); }
static int setgroups_root(void)
{
    gid_t group = 0;
    return told(syscall(SYS_setgroups, 1, &group));
}
static int unshared(void) { return told(syscall(SYS_unshare, CLONE_NEWNS)); }
static int chrooted(void) { return told(syscall(SYS_chroot, "/")); }

/* Whether this one capability can be had in these sets. */
static int capset_to(int capability, int inheritable)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    data[capability / 32].effective = 1u << capability % 32;
    data[capability / 32].permitted = 1u << capability % 32;
    data[capability / 32].inheritable = inheritable ? 1u << capability % 32 : 0;
    return syscall(SYS_capset, &header, data) == 0;
}

static int capability;
static int one_by_capset(void) { return capset_to(capability, 0); }
static int one_by_ambient(void)
{
    capset_to(capability, 1);
    return syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0;
}

/* How many capabilities can be had. Each in a child: to have one is to have lost the others. */
static int each_capability(int (*attempt)(void))
{
    int had = 0;
    for (capability = 0; capability <= CAP_LAST_CAP; capability++)
        had += in_child(attempt);
    return had;
}

static int bounding(void)
{
    int found = 0;
    for (int i = 0; i <= CAP_LAST_CAP; i++)
        found += prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1;
    return found;
}

/* The parent of the process that watches this one. */
static pid_t keeper(void)
{
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/status", getppid());
    FILE *file = fopen(path, "re");
    int parent = -1;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "PPid: %d", &parent) == 1)
            break;
    if (file)
        fclose(file);
    return parent;
}

static pid_t kept;

/* In a child, whose end lets go of it. */
static int seize_keeper(void) { return told(syscall(SYS_ptrace, PTRACE_SEIZE, kept, 0, 0)); }

/* The first line that the program prints that contains `text`, as a number of this base. */
static long printed(char *const arguments[], const char *text, int base)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execv(arguments[0], arguments);
        _exit(1);
    }
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    char line[256];
    long found = -1;
    while (file && fgets(line, sizeof line, file))
        if (found < 0 && strncmp(line, text, strlen(text)) == 0)
            found = strtol(line + strlen(text), NULL, base);
    if (file)
        fclose(file);
    waitpid(child, NULL, 0);
    return found;
}

/* All of it; `program` prints the effective user id that it is run with. */
EXPORT int priv_attempts(int *results, const char *of_root, const char *of_others,
                         const char *program)
{
    char path[256];
    snprintf(path, sizeof path, "%s", program);
    uid_t real, effective, saved;
    syscall(SYS_getresuid, &real, &effective, &saved);
    results[REAL_UID] = (int)real;
    results[EFFECTIVE_UID] = (int)effective;
    results[SAVED_UID] = (int)saved;
    syscall(SYS_getresgid, &real, &effective, &saved);
    results[REAL_GID] = (int)real;
    results[EFFECTIVE_GID] = (int)effective;
    results[SAVED_GID] = (int)saved;
    results[GROUPS] = getgroups(0, NULL);
    results[NO_NEW_PRIVS] = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    results[DUMPABLE] = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    results[SECUREBITS] = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
    results[BOUNDING] = bounding();
    results[OWN_STATUS] = opened("/proc/self/maps", O_RDONLY);

    results[OPEN_OF_ROOT] = opened(of_root, O_RDWR);
    results[OPEN_OF_OTHERS] = opened(of_others, O_RDWR);
    results[BPF_MAP] = bpf_map();
    results[BPF_PROGRAM] = bpf_program();
    results[SETUID_ROOT] = in_child(setuid_root);
    results[SETRESUID_ROOT] = in_child(setresuid_root);
    results[SETUID_OTHER] = in_child(setuid_other);
    results[SETGID_ROOT] = in_child(setgid_root);
    results[SETGROUPS] = in_child(setgroups_root);
    results[CAPSET] = each_capability(one_by_capset);
    results[AMBIENT] = each_capability(one_by_ambient);
    results[UNSHARE] = in_child(unshared);
    results[CHROOT] = in_child(chrooted);

    kept = keeper();
    results[PTRACE_KEEPER] = in_child(seize_keeper);
    results[KILL_KEEPER] = told(kill(kept, 0));
    char memory[64];
    snprintf(memory, sizeof memory, "/proc/%d/mem", kept);
    results[MEMORY_OF_KEEPER] = opened(memory, O_RDWR);

    char *id[] = {path, "-u", NULL};
    results[SETUID_PROGRAM] = (int)printed(id, "", 10);
    char *status[] = {"/bin/cat", "/proc/self/status", NULL};
    results[CAPABILITIES_BY_EXEC] = printed(status, "CapPrm:", 16) != 0;
    results[SESSION_KEYRING] =
        (int)syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    return ATTEMPTS;
}

/* Whether HOME, USER and LOGNAME are these; 4, 2 and 1 for those that are not. */
EXPORT int priv_environment(const char *home, const char *name)
{
    const char *found[3] = {getenv("HOME"), getenv("USER"), getenv("LOGNAME")};
    int wrong = !found[0] || strcmp(found[0], home) != 0;
    for (int i = 1; i < 3; i++)
        wrong = wrong * 2 + (!found[i] ? name[0] != 0 : strcmp(found[i], name) != 0);
    return wrong;
}

/* Says that it runs, and stays. */
EXPORT void priv_stay(int *p)
{
    p[0] = 1;
    puts("staying");
    fflush(stdout);
    for (;;)
        pause();
}

/* Leaves a process behind that has all of this one's descriptors. */
EXPORT int priv_leave_behind(int *p, int seconds)
{
    p[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        sleep((unsigned)seconds);
        _exit(0);
    }
    return child > 0;
}
