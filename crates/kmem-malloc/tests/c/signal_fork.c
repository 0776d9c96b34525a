/* fork in a signal handler that interrupted malloc, free or realloc anywhere: it is async-signal-safe. The parent waits for
 * nobody it keeps waiting itself; the child leaves at once, or returns from the handler and goes on where it was
 * interrupted, allocates, frees and ends.
 *
 * First in a process with one thread, with children of fork and of the raw system call, of which no fork handler knows;
 * then while other threads allocate; then in handlers of several threads at the same time, whose children leave at once, as
 * POSIX wants it of them.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { HELD = 503, WORKERS = 3, AFTERWARDS = 400, CHILD_LASTS = 40 };

static volatile sig_atomic_t forks, bad, in_child;
static volatile int stop, goes_on, raw;

static void handler(int number)
{
    int before = errno;
    pid_t pid = raw && forks % 2 ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
    if (pid == 0) {
        /* An alarm that nobody handles: it ends a child that hangs. */
        alarm(CHILD_LASTS);
        if (!goes_on || forks % 3 == 0)
            _exit(0);
        in_child = 1;
        return;
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid < 0 || status != 0)
        bad = pid < 0 ? errno : status;
    __atomic_fetch_add(&forks, 1, __ATOMIC_RELAXED);
    errno = before;
    (void)number;
}

/* A few large blocks, which are moved and resized, and many small ones. */
static size_t any_size(uint64_t *random)
{
    uint64_t which = next_random(random) % 100;
    return next_random(random) % (which < 70 ? 600 : which < 96 ? 40000 : 500000) + 1;
}

static void churn(uint64_t seed, int until)
{
    char *block[HELD] = {0};
    size_t size[HELD] = {0};
    uint64_t random = seed;
    int left = AFTERWARDS;
    while (in_child ? left-- > 0 : until ? forks < until : !stop) {
        int at = (int)(next_random(&random) % HELD);
        if (block[at] && (block[at][0] != (char)at || block[at][size[at] - 1] != (char)at))
            bad = -1;
        if (block[at] && next_random(&random) % 3 == 0) {
            size[at] = any_size(&random);
            REQUIRE(block[at] = realloc(block[at], size[at]), "realloc(%zu) to give memory", size[at]);
        } else {
            free(block[at]);
            size[at] = any_size(&random);
            REQUIRE(block[at] = malloc(size[at]), "malloc(%zu) to give memory", size[at]);
        }
        block[at][0] = block[at][size[at] - 1] = (char)at;
    }
    for (int i = 0; i < HELD; i++)
        free(block[i]);
    if (in_child)
        _exit(bad ? 1 : 0);
}

static void *worker(void *argument)
{
    churn((uint64_t)(uintptr_t)argument, 0);
    return NULL;
}

static void tick(long microseconds)
{
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    REQUIRE(!setitimer(ITIMER_VIRTUAL, &every, NULL), "a timer");
}

static void phase(const char *what, int count)
{
    forks = 0;
    tick(1000);
    churn((uint64_t)count, count);
    tick(0);
    CHECK(bad == 0, "%s: every child to end well, one had wait status 0x%x (0xe: it hung)", what, (unsigned)bad);
}

int main(void)
{
    pthread_t workers[WORKERS];
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigset_t ticks;
    begin("signal_fork");
    REQUIRE(!sigaction(SIGVTALRM, &action, NULL), "a handler");

    phase("one thread, children leave at once", 80);
    goes_on = raw = 1;
    phase("one thread, children go on", 120);
    raw = 0;

    sigemptyset(&ticks);
    sigaddset(&ticks, SIGVTALRM);
    for (int round = 0; round < 2; round++) {
        /* Threads inherit what is blocked: in the first round only this one has the handler. */
        pthread_sigmask(round ? SIG_UNBLOCK : SIG_BLOCK, &ticks, NULL);
        stop = 0;
        goes_on = !round;
        for (int i = 0; i < WORKERS; i++)
            REQUIRE(!pthread_create(&workers[i], NULL, worker, (void *)(uintptr_t)(i + 1)), "a thread");
        pthread_sigmask(SIG_UNBLOCK, &ticks, NULL);
        phase(round ? "several threads fork" : "one of several threads forks", 120);
        stop = 1;
        for (int i = 0; i < WORKERS; i++)
            pthread_join(workers[i], NULL);
    }
    return finish();
}
