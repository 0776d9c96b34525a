/* What a program gives up it has given up: no thread of ours keeps capabilities, a user or a way around a seccomp filter,
 * and none is in the way of the calls that change them, for one thread or for all. Programs with one thread and with some
 * that allocate all the time.
 */
#include "check.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static volatile int stop;

static void nap(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void churn(void)
{
    enum { OBJECTS = 2000 };
    static __thread void *objects[OBJECTS];
    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = malloc((size_t)i % 700 * 7 + 1);
        REQUIRE(objects[i], "memory");
    }
    for (int i = 0; i < OBJECTS; i++)
        free(objects[i]);
}

static void *allocates(void *nothing)
{
    (void)nothing;
    while (!stop)
        churn();
    return NULL;
}

/* Some hundred milliseconds of work, with 40 MiB of heap: turns are due. */
static void work(void)
{
    for (int i = 0; i < 600; i++) {
        char *block = malloc(70000);
        REQUIRE(block, "memory");
        memset(block, 1, 70000);
    }
    for (int i = 0; i < 40; i++) {
        churn();
        nap(10);
    }
}

static int set_capabilities(unsigned long mask)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(unsigned)mask, (unsigned)mask, 0},
                                             {(unsigned)(mask >> 32), (unsigned)(mask >> 32), 0}};
    return (int)syscall(SYS_capset, &header, data);
}

static long filter(unsigned flags)
{
    struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                                 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 0, 1),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {4, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* Whether a thread that is not one of the program's has rights that the calling one gave up. */
static int rights_are_kept(void)
{
    int kept = 0;
    DIR *open_directory = opendir("/proc/self/task");
    REQUIRE(open_directory, "to list the threads");
    for (struct dirent *entry; (entry = readdir(open_directory));) {
        char path[300], text[4096] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        int file = entry->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        ssize_t length = read(file, text, sizeof text - 1);
        close(file);
        if (length <= 0 || strncmp(text, "Name:\tkmem\n", 11) != 0)
            continue;
        char *effective = strstr(text, "CapEff:"), *seccomp = strstr(text, "Seccomp:");
        kept += !effective || strtoul(effective + 7, NULL, 16) != 0 || !seccomp || atoi(seccomp + 8) != 2;
    }
    closedir(open_directory);
    return kept;
}

static void in_child(const char *what, void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(check_failures != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s, got %#x", what, status);
}

/* A daemon of old: keep capabilities over the change of user, give up all but one, then change the group. */
static void daemon_of_old(void)
{
    work();
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && setresuid(4242, 4242, 4242) == 0, "to change the user");
    CHECK(set_capabilities(1ul << CAP_SETGID) == 0, "to give capabilities up");
    CHECK(setresgid(4242, 4242, 4242) == 0, "to change the group");
}

/* Each thread for itself, by bare calls. */
static void one_thread_gives_up(void)
{
    work();
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_capabilities(0) == 0, "to give rights up");
    CHECK(filter(0) == 0, "a filter");
    /* A turn that was under way at that moment is over. */
    nap(20);
    for (int i = 0; i < 50; i++) {
        CHECK(!rights_are_kept(), "that nobody keeps what was given up");
        churn();
        nap(10);
    }
}

static pthread_t workers[3];

static void start_workers(void)
{
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&workers[i], NULL, allocates, NULL) == 0, "a thread");
}

/* glibc ends the process where a change of user has not the same result on all threads. */
static void threads_change_user(void)
{
    start_workers();
    work();
    for (int i = 0; i < 100; i++)
        CHECK(seteuid(4242) == 0 && seteuid(0) == 0 && setegid(4242) == 0 && setegid(0) == 0, "to change user and group");
    CHECK(setresgid(4242, 4242, 4242) == 0 && setresuid(4242, 4242, 4242) == 0, "to change for good");
    for (int i = 0; i < 20; i++)
        churn();
}

/* A filter that is put on all threads at once wants each of theirs to be an ancestor of its own. */
static void threads_get_a_filter(void)
{
    start_workers();
    work();
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new rights");
    for (int i = 0; i < 20; i++) {
        long answer = filter(SECCOMP_FILTER_FLAG_TSYNC);
        CHECK(answer == 0, "a filter on all threads, not %ld", answer);
        nap(15);
    }
}

static void threads_one_gives_up(void)
{
    start_workers();
    work();
    /* The workers first, which make threads of ours too. */
    stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(workers[i], NULL);
    one_thread_gives_up();
}

static void new_user_namespace(void)
{
    work();
    CHECK(unshare(CLONE_NEWUSER) == 0 || errno == ENOSPC || errno == EPERM, "a user namespace, got %m");
}

int main(void)
{
    begin("privileges");
    in_child("a user namespace of one's own", new_user_namespace);
    if (geteuid() != 0)
        return finish();
    in_child("capabilities kept over a change of user", daemon_of_old);
    in_child("a thread that gives its rights up", one_thread_gives_up);
    in_child("a user that changes on all threads", threads_change_user);
    in_child("a filter on all threads", threads_get_a_filter);
    in_child("a thread that gives its rights up among others", threads_one_gives_up);
    return finish();
}
