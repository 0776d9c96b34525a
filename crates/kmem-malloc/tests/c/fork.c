/* fork in a process whose other threads are in the middle of malloc and free: whatever locks they held, the child can
 * allocate, free (also what the parent allocated), start a thread, fork again and leave by exit(). Two threads fork at
 * the same time, 100 times each, while four allocate as fast as they can. A child that hangs is ended by its
 * alarm and reported. posix_spawn, which forks without telling the allocator, is tried beside it.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

enum { WORKERS = 4, FORKERS = 2, FORKS = 100, INHERITED = 300, GRANDCHILD_CODE = 3 };

extern char **environ;
static volatile int stop;

static size_t any_size(uint64_t *random)
{
    uint64_t r = next_random(random), which = next_random(random) % 100;
    return which < 80 ? r % 512 + 1 : which < 97 ? r % 20000 + 1 : which < 99 ? r % 200000 + 1 : r % (3 * MIB) + 1;
}

static void churn(uint64_t seed, int turns)
{
    enum { HELD = 200 };
    void *block[HELD] = {0};
    size_t size[HELD] = {0};
    uint64_t random = seed;
    for (int turn = 0; turn < turns || turns < 0; turn++) {
        int at = (int)(next_random(&random) % HELD);
        if (block[at]) {
            CHECK(pattern_holds(block[at], size[at], size[at], seed), "a block kept by its owner");
            free(block[at]);
        }
        size[at] = any_size(&random);
        REQUIRE(block[at] = malloc(size[at]), "malloc(%zu) to give memory", size[at]);
        pattern_fill(block[at], size[at], seed);
        if (turns < 0 && stop)
            break;
    }
    for (int i = 0; i < HELD; i++)
        free(block[i]);
}

static void *worker(void *argument)
{
    churn((uint64_t)(uintptr_t)argument, -1);
    return NULL;
}

static void *child_thread(void *argument)
{
    churn((uint64_t)(uintptr_t)argument, 500);
    return NULL;
}

static int wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static void at_exit_of_child(void)
{
    void *p = calloc(100, 100);
    if (!p || first_nonzero(p, 10000) != 10000)
        _exit(9);
    free(p);
}

static void child_life(int number, void **inherited)
{
    alarm(40);
    for (int i = 0; i < INHERITED; i++) {
        CHECK(pattern_holds(inherited[i], (size_t)i + 1, (size_t)i + 1, (uint64_t)i), "a block inherited over fork intact");
        if (i % 3 == 0)
            REQUIRE(inherited[i] = realloc(inherited[i], 5000), "realloc of an inherited block to give memory");
        free(inherited[i]);
    }
    churn((uint64_t)number, 300);
    if (number % 8 == 0) {
        pthread_t thread;
        REQUIRE(!pthread_create(&thread, NULL, child_thread, (void *)(uintptr_t)number), "a thread in the child");
        churn((uint64_t)number, 500);
        pthread_join(thread, NULL);
    }
    pid_t grandchild = fork();
    REQUIRE(grandchild >= 0, "the child to fork");
    if (grandchild == 0) {
        alarm(40);
        churn((uint64_t)number + 1, 100);
        exit(check_failures ? 1 : GRANDCHILD_CODE);
    }
    int status = wait_for(grandchild);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == GRANDCHILD_CODE,
          "the grandchild to leave by exit(%d), wait status is 0x%x", GRANDCHILD_CODE, status);
    churn((uint64_t)number + 2, 50);
    atexit(at_exit_of_child);
    exit(check_failures ? 1 : 0);
}

static void *forker(void *argument)
{
    int first = (int)(uintptr_t)argument * FORKS;
    for (int i = 0; i < FORKS; i++) {
        void *inherited[INHERITED];
        for (int k = 0; k < INHERITED; k++) {
            REQUIRE(inherited[k] = malloc((size_t)k + 1), "memory");
            pattern_fill(inherited[k], (size_t)k + 1, (uint64_t)k);
        }
        pid_t child = fork();
        REQUIRE(child >= 0, "fork to work, errno %d", errno);
        if (child == 0)
            child_life(first + i, inherited);
        for (int k = 0; k < INHERITED; k++)
            free(inherited[k]);
        int status = wait_for(child);
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM),
              "child %d to get along with the allocator it inherited: it hung and its alarm ended it", first + i);
        CHECK(status == 0, "child %d to leave by exit(0), wait status is 0x%x", first + i, status);
    }
    return NULL;
}

static void spawns(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = 0;
        char *const arguments[] = {(char *)"true", NULL};
        int error = posix_spawnp(&child, "true", NULL, NULL, arguments, environ);
        REQUIRE(error == 0, "posix_spawnp of true to work, got error %d", error);
        int status = wait_for(child);
        CHECK(status == 0, "true to succeed, wait status is 0x%x", status);
    }
}

int main(void)
{
    pthread_t workers[WORKERS], forkers[FORKERS];
    begin("fork");
    for (int i = 0; i < WORKERS; i++)
        REQUIRE(!pthread_create(&workers[i], NULL, worker, (void *)(uintptr_t)(i + 1)), "a thread");
    for (int i = 0; i < FORKERS; i++)
        REQUIRE(!pthread_create(&forkers[i], NULL, forker, (void *)(uintptr_t)i), "a thread");
    for (int i = 0; i < FORKERS; i++)
        pthread_join(forkers[i], NULL);
    spawns();
    stop = 1;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    return finish();
}
