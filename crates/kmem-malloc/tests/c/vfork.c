/* Children that run on a thread of their parent's, by vfork and by clone with CLONE_VM, allocate and free as they like while
 * other threads of the parent do. Each object is checked by its owner. Afterwards the parent is what it was: it goes on
 * with its own objects, frees what a child left it, has a CPU number where it had one, and may do it again. A child that
 * makes a child of its own, one that executes a program, one that is killed, and a call that fails are tried beside it.
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { WORKERS = 3, CHILDREN = 200, HELD = 32, STACK = 64 * 1024 };

extern char **environ;
static volatile int stop;

/* Objects of a few sizes, checked and replaced in turn. */
static void churn(uint64_t seed, int turns)
{
    void *block[HELD] = {0};
    size_t size[HELD] = {0};
    uint64_t random = seed;
    for (int turn = 0; turn < turns; turn++) {
        int at = (int)(next_random(&random) % HELD);
        if (block[at]) {
            CHECK(pattern_holds(block[at], size[at], size[at], seed + (uint64_t)at), "a block kept by its owner");
            free(block[at]);
        }
        size[at] = 40 + next_random(&random) % 3 * 8;
        block[at] = malloc(size[at]);
        if (!block[at])
            _exit(99);
        pattern_fill(block[at], size[at], seed + (uint64_t)at);
    }
    for (int i = 0; i < HELD; i++)
        free(block[i]);
}

static void *worker(void *argument)
{
    while (!stop)
        churn((uint64_t)(uintptr_t)argument, 500);
    return NULL;
}

static void ended_well(pid_t child)
{
    int status = 0;
    REQUIRE(child > 0, "a child: error %d", errno);
    REQUIRE(waitpid(child, &status, 0) == child, "waitpid to give the child back");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child to end by itself: status %#x", (unsigned)status);
}

/* The CPU number that libc's area says, if libc registered one. */
extern __attribute__((weak)) const ptrdiff_t __rseq_offset;
extern __attribute__((weak)) const unsigned __rseq_size;

static int has_cpu_number(void)
{
    if (!&__rseq_size || !__rseq_size)
        return 0;
    return *(volatile int *)((char *)__builtin_thread_pointer() + __rseq_offset + 4) >= 0;
}

static void *volatile left[HELD];

/* What a child does before it ends: also keeps some objects for its parent, and frees some of its. */
static void child(uint64_t seed)
{
    if (kmem_expected())
        CHECK(!has_cpu_number(), "a child without the CPU number of its parent, which would not be its own");
    churn(seed, 500);
    for (int i = 0; i < HELD; i++) {
        free(left[i]);
        left[i] = malloc(48);
        if (left[i])
            pattern_fill(left[i], 48, seed + (uint64_t)i);
    }
}

static void by_vfork(uint64_t seed)
{
    pid_t pid = vfork();
    if (pid == 0) {
        child(seed);
        _exit(0);
    }
    ended_well(pid);
    for (int i = 0; i < HELD; i++)
        CHECK(left[i] && pattern_holds(left[i], 48, 48, seed + (uint64_t)i), "what the child left its parent");
}

static int begin_child(void *seed)
{
    child((uint64_t)(uintptr_t)seed);
    return 0;
}

static void by_clone(uint64_t seed)
{
    static char stack[STACK] __attribute__((aligned(64)));
    ended_well(clone(begin_child, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)(uintptr_t)seed));
}

static int tasks(void)
{
    DIR *folder = opendir("/proc/self/task");
    int entries = 0;
    while (folder && readdir(folder))
        entries++;
    if (folder)
        closedir(folder);
    return entries - 2; /* '.' and '..' */
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *waits(void *argument)
{
    while (!stop)
        usleep(1000);
    return argument;
}

/* One that lives long and allocates, while the threads of its parent do not: a thread that it made would be its own, and
 * end with it wherever it is. */
static void by_a_busy_child(void)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, waits, NULL) == 0, "a thread");
    pid_t pid = vfork();
    if (pid == 0) {
        double end = seconds() + 0.6;
        while (seconds() < end) {
            churn(1, 50);
            if (tasks() != 1)
                _exit(1);
        }
        _exit(0);
    }
    ended_well(pid);
    stop = 1;
    pthread_join(thread, NULL);
    stop = 0;
}

/* The caller does not wait for this one, but for its end. */
static void by_clone_side_by_side(uint64_t seed)
{
    static char stack[STACK] __attribute__((aligned(64)));
    pid_t pid = clone(begin_child, stack + STACK, CLONE_VM | SIGCHLD, (void *)(uintptr_t)seed);
    ended_well(pid);
}

static void *side_by_side(void *seed)
{
    by_clone_side_by_side((uint64_t)(uintptr_t)seed);
    churn((uint64_t)(uintptr_t)seed, 500);
    return NULL;
}

static void by_a_child_of_a_child(uint64_t seed)
{
    pid_t pid = vfork();
    if (pid == 0) {
        pid_t grandchild = vfork();
        if (grandchild == 0) {
            churn(seed, 500);
            _exit(0);
        }
        churn(seed + 1, 500);
        int status = 1;
        waitpid(grandchild, &status, 0);
        _exit(status != 0);
    }
    ended_well(pid);
}

static void by_execution(uint64_t seed)
{
    static char *arguments[] = {(char *)"true", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        churn(seed, 200);
        execve("/bin/true", arguments, environ);
        _exit(1);
    }
    ended_well(pid);
}

static void by_a_child_that_is_killed(uint64_t seed)
{
    pid_t pid = vfork();
    if (pid == 0) {
        churn(seed, 200);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "a child that was killed");
}

/* In a process of its own, which is another user's, who may have no more processes: root may have any number. */
static void by_a_call_that_fails(void)
{
    int had_number = has_cpu_number();
    pid_t other = fork();
    if (other == 0) {
        struct rlimit none = {0, 0};
        int may = (getuid() != 0 || setresuid(54321, 54321, 54321) == 0) && setrlimit(RLIMIT_NPROC, &none) == 0;
        pid_t pid = may ? vfork() : -1;
        if (pid == 0)
            _exit(0);
        _exit(may && (pid != -1 || errno != EAGAIN || has_cpu_number() != had_number));
    }
    ended_well(other);
}

int main(void)
{
    begin("vfork");
    int had_number = has_cpu_number();
    by_a_busy_child();
    pthread_t workers[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        REQUIRE(pthread_create(&workers[i], NULL, worker, (void *)(i + 1)) == 0, "a thread");
    for (uint64_t i = 0; i < CHILDREN; i++) {
        by_vfork(1000 + i);
        by_clone(2000 + i);
        CHECK(has_cpu_number() == had_number, "a parent with a CPU number, as before");
        churn(3000 + i, 100);
        if (i % 20 == 0) {
            by_a_child_of_a_child(4000 + i);
            by_execution(5000 + i);
            by_a_child_that_is_killed(6000 + i);
            CHECK(has_cpu_number() == had_number, "a parent with a CPU number, as before");
            pthread_t thread;
            REQUIRE(pthread_create(&thread, NULL, side_by_side, (void *)(uintptr_t)(7000 + i)) == 0, "a thread");
            pthread_join(thread, NULL);
        }
    }
    int null = 0;
    CHECK(clone(NULL, &null, CLONE_VM | SIGCHLD, NULL) == -1 && errno == EINVAL, "clone without a function to be refused");
    CHECK(has_cpu_number() == had_number, "a parent with a CPU number, as before");
    by_a_call_that_fails();
    CHECK(has_cpu_number() == had_number, "a parent with a CPU number, as before");
    stop = 1;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    return finish();
}
