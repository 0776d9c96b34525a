/* Fork handlers of the program that allocate, in prepare, parent and child, whatever the order in which they and those of
 * the allocator were registered: the first before the program's first malloc, the others behind it, and so many that libc
 * needs memory for them itself. They run while other threads allocate, and children fork again.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { LATE = 60, FORKS = 40, WORKERS = 2, BLOCKS = 120 };

static volatile int stop;
static int ran[3];

static void use(uint64_t seed)
{
    void *block[BLOCKS];
    uint64_t random = seed;
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = next_random(&random) % (i % 40 ? 3000 : 300000) + 1;
        REQUIRE(block[i] = malloc(size), "malloc(%zu) to give memory", size);
        pattern_fill(block[i], size < 3000 ? size : 3000, seed);
    }
    REQUIRE(block[0] = realloc(block[0], MIB), "realloc to give memory");
    for (int i = 0; i < BLOCKS; i++)
        free(block[i]);
}

static void prepare(void) { use(1), ran[0]++; }
static void parent(void) { use(2), ran[1]++; }
static void child(void) { use(3), ran[2]++; }

static void *worker(void *argument)
{
    for (uint64_t turn = 0; !stop; turn++)
        use((uint64_t)(uintptr_t)argument * 1000 + turn);
    return NULL;
}

static void wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK(status == 0, "the child to get along, wait status is 0x%x (0xe: it hung)", status);
}

static void forks(int handlers)
{
    for (int i = 0; i < FORKS; i++) {
        memset(ran, 0, sizeof ran);
        pid_t pid = fork();
        REQUIRE(pid >= 0, "fork to work, errno %d", errno);
        if (pid == 0) {
            alarm(40);
            use((uint64_t)i);
            CHECK(ran[2] == handlers, "%d handlers of the child's, %d ran", handlers, ran[2]);
            pid_t grandchild = i % 4 ? -1 : fork();
            if (grandchild == 0) {
                alarm(40);
                use((uint64_t)i + 1);
                _exit(check_failures ? 1 : 0);
            }
            if (grandchild > 0)
                wait_for(grandchild);
            _exit(check_failures ? 1 : 0);
        }
        CHECK(ran[0] == handlers && ran[1] == handlers, "%d handlers, %d and %d ran", handlers, ran[0], ran[1]);
        wait_for(pid);
    }
}

int main(void)
{
    pthread_t workers[WORKERS];
    REQUIRE(!pthread_atfork(prepare, parent, child), "a handler before the first malloc");
    alarm(150);
    forks(1);
    begin("atfork");
    use(4);
    for (int i = 0; i < LATE; i++)
        REQUIRE(!pthread_atfork(i % 10 ? NULL : prepare, i % 10 ? NULL : parent, i % 10 ? NULL : child), "a handler");
    forks(1 + LATE / 10);
    for (int i = 0; i < WORKERS; i++)
        REQUIRE(!pthread_create(&workers[i], NULL, worker, (void *)(uintptr_t)(i + 1)), "a thread");
    forks(1 + LATE / 10);
    stop = 1;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    return finish();
}
