/* What a program sees of upkeep: nothing. A program that never made a thread has one thread, however large it is, and
 * what it freed is released all the same, by the last free. A program with threads has none of ours at rest. With
 * KMEM_UPKEEP=always, for which this program runs itself again, there is a thread named 'kmem' from the start on, which
 * takes no signal, is in nobody's way when the user changes, has no capabilities, keeps none of the program's descriptors
 * open and has none among them, and does not keep the process alive.
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static int count(const char *directory)
{
    int entries = 0;
    DIR *open = opendir(directory);
    REQUIRE(open, "to list %s", directory);
    while (readdir(open))
        entries++;
    closedir(open);
    return entries - 2;
}

/* The number of the thread of that name, or 0. */
static pid_t thread_named(const char *name)
{
    DIR *open = opendir("/proc/self/task");
    REQUIRE(open, "to list the threads");
    pid_t found = 0;
    for (struct dirent *entry; (entry = readdir(open));) {
        char path[300], line[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        int file = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        if (read(file, line, sizeof line - 1) > 0 && strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == '\n')
            found = atoi(entry->d_name);
        close(file);
    }
    closedir(open);
    return found;
}

static void churn(void)
{
    enum { OBJECTS = 3000 };
    static __thread void *objects[OBJECTS];
    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = malloc((size_t)i % 500 + 1);
        REQUIRE(objects[i], "memory");
    }
    for (int i = 0; i < OBJECTS; i++)
        free(objects[i]);
}

static void nap(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *on_cpu(void *cpu)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((int)(intptr_t)cpu, &here);
    sched_setaffinity(0, sizeof here, &here);
    churn();
    return NULL;
}

static int on_all_cpus(void)
{
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        pthread_t thread;
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        REQUIRE(pthread_create(&thread, NULL, on_cpu, (void *)(intptr_t)cpu) == 0, "a thread");
        pthread_join(thread, NULL);
    }
    return CPU_COUNT(&allowed);
}

static volatile sig_atomic_t handled_by;

static void handler(int signal)
{
    (void)signal;
    handled_by = (sig_atomic_t)syscall(SYS_gettid);
}

/* Main ends, and then the process: nobody but upkeep is left. Answers after how many milliseconds. */
static int last_thread(void)
{
    int ends[2];
    char byte = 0;
    REQUIRE(pipe(ends) == 0, "a pipe");
    pid_t child = fork();
    if (child == 0) {
        churn();
        int found = 0;
        for (int i = 0; i < 500 && !found; i++) {
            found = thread_named("kmem") != 0;
            churn();
            nap(10);
        }
        if (write(ends[1], &byte, 1) != 1 || !found)
            _exit(1);
        pthread_exit(NULL);
    }
    REQUIRE(read(ends[0], &byte, 1) == 1, "a word from the child");
    close(ends[0]);
    close(ends[1]);
    int status = -1, waited = 0;
    while (waitpid(child, &status, WNOHANG) == 0 && waited++ < 10000)
        nap(1);
    if (waited >= 10000)
        kill(child, SIGKILL);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it to end as if main had returned 0, got %#x", status);
    return waited;
}

/* Upkeep looks four times a second; that there is nothing left to do for it shows after more than a second. */
static void check_last_thread(void)
{
    int best = 10000;
    for (int try = 0; try < 3 && best > 700; try++) {
        int waited = last_thread();
        best = waited < best ? waited : best;
    }
    CHECK(best <= 700, "a process to end soon after its last thread, not after %d ms", best);
}

static void check_signals(pid_t upkeep)
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 50; i++) {
        handled_by = 0;
        kill(getpid(), SIGUSR1);
        for (int j = 0; j < 500 && !handled_by; j++)
            nap(1);
        CHECK(handled_by == getpid(), "the main thread to take the signal, not %d (upkeep is %d)", (int)handled_by,
              (int)upkeep);
    }
    /* Blocked by all threads of the program: it waits, and upkeep does not take it either. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    handled_by = 0;
    kill(getpid(), SIGUSR1);
    nap(50);
    CHECK(handled_by == 0, "a blocked signal to wait, not to be taken by %d", (int)handled_by);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* A pipe whose writing end the program closes ends, whoever else there is. */
static void check_descriptors(void)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0, "a pipe");
    close(ends[1]);
    char byte;
    CHECK(read(ends[0], &byte, 1) == 0, "the pipe to end");
    close(ends[0]);
}

/* Resident memory in MiB. */
static long resident(void)
{
    char text[100] = "";
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0, "to read how large the process is");
    close(file);
    return atol(strchr(text, ' ')) * sysconf(_SC_PAGESIZE) / (long)MIB;
}

enum { OBJECTS = 600000, ONE_IN = 1000 };
static void *objects[OBJECTS];

static void build(void)
{
    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = malloc(128);
        REQUIRE(objects[i], "memory");
        *(char *)objects[i] = 1;
    }
}

static void free_all_but_survivors(void)
{
    for (int i = 0; i < OBJECTS; i++)
        if (i % ONE_IN)
            free(objects[i]);
}

/* A program allocates 73 MiB, rests, and frees all but a little of it, spread evenly. It never calls again, and what it
 * freed is released at once; and it has one thread all the time. */
static void check_sparse_heap(long rest)
{
    pid_t child = fork();
    if (child == 0) {
        build();
        CHECK(count("/proc/self/task") == 1, "a program with one thread to have no other");
        nap(rest);
        free_all_but_survivors();
        long left = resident();
        CHECK(left < 16, "less than 16 MiB to be left at the last free, not %ld", left);
        CHECK(count("/proc/self/task") == 1, "a program with one thread to have no other");
        _exit(check_failures != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "73 MiB to be released after a rest of %ld ms, got %#x", rest, status);
}

/* With threads: none of ours at rest, whatever happened before. */
static void check_threads(void)
{
    int before = count("/proc/self/task");
    for (int i = 0; i < 30; i++) {
        on_all_cpus();
        nap(10);
    }
    nap(50);
    CHECK(count("/proc/self/task") == before, "no thread but the program's at rest");
    nap(600);
    CHECK(count("/proc/self/task") == before, "none later on");
}

/* The line of /proc/self/task/THREAD/status that begins so, as a number in base 16. */
static unsigned long of_status(pid_t thread, const char *name)
{
    char path[100], text[4096] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0, "to read %s", path);
    close(file);
    char *line = strstr(text, name);
    REQUIRE(line, "%s in %s", name, path);
    return strtoul(line + strlen(name), NULL, 16);
}

static void check_thread_that_stays(void)
{
    CHECK(count("/proc/self/task") == 2, "a thread of upkeep from the start on");
    pid_t upkeep = 0;
    for (int i = 0; i < 100 && !(upkeep = thread_named("kmem")); i++)
        nap(10);
    CHECK(upkeep, "a thread named kmem");
    if (!upkeep)
        return;
    for (int i = 0; i < 100 && !of_status(upkeep, "NoNewPrivs:"); i++)
        nap(10);
    CHECK(of_status(upkeep, "NoNewPrivs:") == 1 && of_status(upkeep, "CapPrm:") == 0 && of_status(upkeep, "CapEff:") == 0,
          "a thread without rights");
    check_signals(upkeep);
    CHECK(setuid(getuid()) == 0 && setgid(getgid()) == 0, "the user to change on all threads");
    check_descriptors();
    check_last_thread();
}

int main(int count_of_arguments, char **arguments)
{
    begin("upkeep");
    int descriptors = count("/proc/self/fd");
    if (count_of_arguments > 1) {
        check_thread_that_stays();
    } else {
        if (kmem_expected()) {
            check_sparse_heap(0);
            check_sparse_heap(3000);
        }
        for (int i = 0; i < 100; i++) {
            churn();
            nap(2);
        }
        CHECK(count("/proc/self/task") == 1, "a program with one thread to have no other");
        check_threads();
    }
    CHECK(count("/proc/self/fd") == descriptors, "no descriptor but the program's own");
    if (count_of_arguments == 1 && kmem_expected() && !check_failures) {
        setenv("KMEM_UPKEEP", "always", 1);
        execl("/proc/self/exe", arguments[0], "stays", NULL);
        CHECK(0, "to run again");
    }
    return finish();
}
