/* fork in a signal handler that interrupted fork itself, or malloc, on any of several threads that fork as well. For musl,
 * whose fork holds a lock of its own while it runs fork handlers: the library serves such a fork by _Fork. (glibc has locks
 * in its fork that a handler must not find taken.) A child that hangs is ended by its alarm; a parent, by that of main.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { FORKERS = 3, FORKS = 300, CHILD_LASTS = 40, ALL_LASTS = 200 };

static volatile int bad, in_handlers, prepared;

static void ended(pid_t pid)
{
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid < 0 || status != 0)
        bad = pid < 0 ? errno : status;
}

static void handler(int number)
{
    int before = errno;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHILD_LASTS);
        _exit(0);
    }
    ended(pid);
    __atomic_fetch_add(&in_handlers, 1, __ATOMIC_RELAXED);
    errno = before;
    (void)number;
}

/* Fork handlers of the program that take a while, so that signals come in the middle of them. They may not allocate, because
 * they run in signal handlers that interrupted malloc. */
static void before(void)
{
    prepared++;
    for (volatile int i = 0; i < 30000; i++) {
    }
}

static void after(void)
{
    for (volatile int i = 0; i < 30000; i++) {
    }
}

static void churn(int turns)
{
    void *block[64] = {0};
    for (int turn = 0; turn < turns; turn++) {
        void **at = &block[turn % 64];
        free(*at);
        REQUIRE(*at = malloc((size_t)(turn % 97) * (turn % 7 ? 8 : 900) + 1), "memory");
    }
    for (int i = 0; i < 64; i++)
        free(block[i]);
}

static void *forker(void *argument)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(CHILD_LASTS);
            _exit(0);
        }
        ended(pid);
        churn(2000);
    }
    return argument;
}

int main(void)
{
    pthread_t forkers[FORKERS];
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    begin("fork_in_fork");
    alarm(ALL_LASTS);
    REQUIRE(!pthread_atfork(before, after, after), "fork handlers");
    REQUIRE(!sigaction(SIGPROF, &action, NULL), "a handler");
    REQUIRE(!setitimer(ITIMER_PROF, &every, NULL), "a timer");
    for (int i = 0; i < FORKERS; i++)
        REQUIRE(!pthread_create(&forkers[i], NULL, forker, NULL), "a thread");
    for (int i = 0; i < FORKERS; i++)
        pthread_join(forkers[i], NULL);
    setitimer(ITIMER_PROF, &never, NULL);
    CHECK(bad == 0, "every child to end well, one had wait status 0x%x (0xe: it hung)", (unsigned)bad);
    CHECK(prepared >= FORKERS * FORKS, "the program's own fork handlers to run for each fork, %d did", prepared);
    CHECK(in_handlers > 0, "a signal to come");
    return finish();
}
