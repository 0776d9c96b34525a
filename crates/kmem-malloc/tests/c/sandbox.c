/* A program that puts itself into a sandbox goes on allocating there. Each trial is a process of its own, with one
 * thread: it is in use for longer than it takes to be thought worth looking after, then puts in a filter that kills for
 * one system call that no allocator is expected to make, or for all that are not on a list as OpenSSH's servers have it
 * before a login, and then allocates and frees small and large blocks for several periods of upkeep. Whoever makes such
 * a call for it in there is its death.
 */
#include "check.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
/* Rules of a list; the number of the call is loaded before each. */
#define ALLOW(call) IF(SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)
#define REFUSE(call, error) IF(SYS_##call, 0, 1), RETURN(SECCOMP_RET_ERRNO | (error))
#define ALLOW_WITH(call, number, value)                                                                                \
    IF(SYS_##call, 0, 4), LOAD(args[number]), IF(value, 0, 1), RETURN(SECCOMP_RET_ALLOW), LOAD(nr)
#define ALLOW_UNLESS_SET(call, number, bits)                                                                           \
    IF(SYS_##call, 0, 4), LOAD(args[number]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0),                        \
        RETURN(SECCOMP_RET_ALLOW), LOAD(nr)

/* What a server may do that listens to somebody it does not know yet. */
static struct sock_filter before_login[] = {
    LOAD(arch), IF(AUDIT_ARCH_X86_64, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(nr),
    REFUSE(open, EACCES), REFUSE(openat, EACCES), REFUSE(stat, EACCES), REFUSE(fstat, EACCES), REFUSE(lstat, EACCES),
    REFUSE(newfstatat, EACCES), REFUSE(statx, EACCES), REFUSE(shmget, EACCES), REFUSE(shmat, EACCES),
    REFUSE(shmdt, EACCES),
    ALLOW(brk), ALLOW(clock_gettime), ALLOW(close), ALLOW(exit), ALLOW(exit_group), ALLOW(futex), ALLOW(geteuid),
    ALLOW(getpgid), ALLOW(getpid), ALLOW(getrandom), ALLOW(gettid), ALLOW(gettimeofday), ALLOW(getuid),
    ALLOW_WITH(madvise, 2, MADV_NORMAL), ALLOW_WITH(madvise, 2, MADV_FREE), ALLOW_WITH(madvise, 2, MADV_DONTNEED),
    ALLOW_WITH(madvise, 2, MADV_DONTFORK), ALLOW_WITH(madvise, 2, MADV_DONTDUMP),
    ALLOW_WITH(madvise, 2, MADV_WIPEONFORK), REFUSE(madvise, EINVAL),
    ALLOW_UNLESS_SET(mmap, 2, PROT_EXEC), ALLOW_UNLESS_SET(mprotect, 2, PROT_EXEC), ALLOW(mremap), ALLOW(munmap),
    ALLOW(nanosleep), ALLOW(clock_nanosleep), ALLOW(poll), ALLOW(ppoll), ALLOW(pselect6), ALLOW(read),
    ALLOW(rt_sigprocmask), ALLOW(select), ALLOW_WITH(shutdown, 1, 2), ALLOW(time), ALLOW(write), ALLOW(writev),
    RETURN(SECCOMP_RET_KILL_PROCESS),
};

static const struct {
    const char *name;
    unsigned call;
} calls[] = {
    {"sched_getaffinity", SYS_sched_getaffinity}, {"open", SYS_open},
    {"openat", SYS_openat},                       {"getpid", SYS_getpid},
    {"socket", SYS_socket},                       {"getdents64", SYS_getdents64},
    {"clock_gettime", SYS_clock_gettime},         {"memfd_create", SYS_memfd_create},
    {"membarrier", SYS_membarrier},               {"prctl", SYS_prctl},
    {"prlimit64", SYS_prlimit64},                 {"clone", SYS_clone},
    {"clone3", SYS_clone3},                       {"rt_sigaction", SYS_rt_sigaction},
};
enum { CALLS = sizeof calls / sizeof *calls, TRIALS = CALLS + 1 };

static void enter(struct sock_filter *rules, size_t count)
{
    struct sock_fprog filter = {(unsigned short)count, rules};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "to give up new rights, errno %d", errno);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0, "to put the filter in, errno %d", errno);
}

static void use_memory(int seed)
{
    enum { HELD = 4000 };
    static void *held[HELD];
    for (int i = 0; i < HELD; i++) {
        size_t size = i % 500 == 0 ? 300 * KIB : (size_t)(i * 7 + seed) % 5000 + 1;
        REQUIRE(held[i] = malloc(size), "memory");
        memset(held[i], seed, size < 64 ? size : 64);
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    void *large = malloc(3 * MIB);
    REQUIRE(large, "memory");
    REQUIRE(large = realloc(large, 9 * MIB), "more of it");
    free(large);
}

static void nap(long milliseconds)
{
    struct timespec time = {0, milliseconds * 1000000};
    nanosleep(&time, NULL);
}

static int trial(int number)
{
    use_memory(number);
    nap(120);
    use_memory(number);
    if (number < CALLS) {
        struct sock_filter rules[] = {LOAD(nr), IF(calls[number].call, 0, 1), RETURN(SECCOMP_RET_KILL_PROCESS),
                                      RETURN(SECCOMP_RET_ALLOW)};
        enter(rules, sizeof rules / sizeof *rules);
    } else {
        enter(before_login, sizeof before_login / sizeof *before_login);
    }
    for (int turn = 0; turn < 8; turn++) {
        use_memory(turn);
        nap(100);
    }
    _exit(0);
}

int main(int count, char **arguments)
{
    if (count > 1)
        return trial(atoi(arguments[1]));
    begin("sandbox");
    pid_t children[TRIALS];
    for (int number = 0; number < TRIALS; number++) {
        char text[16];
        snprintf(text, sizeof text, "%d", number);
        children[number] = fork();
        REQUIRE(children[number] >= 0, "to fork");
        if (children[number] == 0) {
            execl("/proc/self/exe", arguments[0], text, (char *)NULL);
            _exit(9);
        }
    }
    for (int number = 0; number < TRIALS; number++) {
        const char *name = number < CALLS ? calls[number].name : "all that is not on the list";
        int status = 0;
        REQUIRE(waitpid(children[number], &status, 0) == children[number], "to wait");
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS), "to live in a filter that kills for %s", name);
        CHECK(status == 0 || WIFSIGNALED(status), "the trial of %s to end well, wait status is 0x%x", name, status);
    }
    return finish();
}
