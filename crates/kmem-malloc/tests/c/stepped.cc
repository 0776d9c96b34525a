/* Every function of the library, one instruction at a time, as a debugger executes them (`stepi`, `record full`, a software
 * watchpoint): the processor's trap flag makes a signal of each instruction. A restartable sequence is aborted at each of
 * them, and must end all the same. And at each of them the unwinder must find the way to the caller, as it must for a
 * profiler, whose signals come anywhere.
 */
#include "check.h"

#include <execinfo.h>
#include <new>
#include <signal.h>
#include <ucontext.h>

/* More than any of them takes; a sequence that begins anew for ever takes all there are. */
enum { STEPS = 50000, FRAMES = 64 };

static volatile long steps, lost;
static void *volatile where_lost;
static void *caller;

/* The program's own instructions are not looked at: some stand where the flag is set and cleared. */
extern "C" char __executable_start, etext;

static int finds_caller(void)
{
    void *frames[FRAMES];
    int depth = backtrace(frames, FRAMES), found = 0;
    for (int i = 0; i < depth; i++)
        found |= frames[i] == caller;
    return found;
}

static void on_step(int, siginfo_t *, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    char *at = (char *)registers[REG_RIP];
    if ((at < &__executable_start || at >= &etext) && !finds_caller()) {
        where_lost = at;
        lost = lost + 1;
    }
    steps = steps + 1;
    if (steps == STEPS)
        registers[REG_EFL] &= ~0x100; /* Without the trap flag whatever it is ends. */
}

/* Both are exact: what stands between them is stepped through. They leave the red zone alone. */
#define BEGIN_STEPS __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc")
#define END_STEPS __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc")

template <typename Work> __attribute__((noinline)) static void stepped(const char *name, Work work)
{
    caller = __builtin_return_address(0);
    steps = lost = 0;
    BEGIN_STEPS;
    work();
    END_STEPS;
    CHECK(steps > 2, "%s to take steps: %ld", name, steps);
    CHECK(steps < STEPS, "%s to end: it took %d steps", name, STEPS);
    CHECK(lost == 0, "%s to have its caller found at each of %ld steps: lost at %ld, e.g. at %p", name, steps, lost, where_lost);
}

/* The general sizes are looked up by 16 bytes to 1 KiB and by 128 above. What is copied or cleared takes a step a word. */
enum { SMALL = 40, MIDDLING = 1500 };
/* One that is general, and one that has pages of its own. */
static const size_t large_sizes[] = {30000, 300000};

static void c_functions(size_t size)
{
    void *p = NULL;
    stepped("malloc", [&] { p = malloc(size); });
    REQUIRE(p, "malloc(%zu) to give memory", size);
    memset(p, 1, size);
    stepped("malloc_usable_size", [&] { CHECK(malloc_usable_size(p) >= size, "room"); });
    stepped("realloc", [&] { p = realloc(p, size * 2); });
    REQUIRE(p && ((char *)p)[size - 1] == 1, "realloc to keep %zu bytes", size);
    stepped("free", [&] { free(p); });
    stepped("calloc", [&] { p = calloc(size, 1); });
    REQUIRE(p, "calloc(%zu) to give memory", size);
    CHECK(first_nonzero(p, size) == size, "zeroes");
    stepped("free", [&] { free(p); });
    stepped("aligned_alloc", [&] { p = aligned_alloc(64, size); });
    stepped("free", [&] { free(p); });
    stepped("posix_memalign", [&] { CHECK(posix_memalign(&p, 256, size) == 0, "no error"); });
    stepped("free", [&] { free(p); });
    stepped("reallocarray", [&] { p = reallocarray(NULL, size, 2); });
    stepped("free", [&] { free(p); });
}

static void operators(size_t size)
{
    char *p = NULL;
    stepped("new", [&] { p = (char *)operator new(size); });
    stepped("delete", [&] { operator delete(p); });
    stepped("new[]", [&] { p = (char *)operator new[](size); });
    stepped("delete[]", [&] { operator delete[](p); });
    stepped("new, sized", [&] { p = (char *)operator new(size); });
    stepped("delete, sized", [&] { operator delete(p, size); });
    stepped("new, nothrow", [&] { p = (char *)operator new(size, std::nothrow); });
    stepped("delete, nothrow", [&] { operator delete(p, std::nothrow); });
    stepped("new, aligned", [&] { p = (char *)operator new(size, std::align_val_t(64)); });
    stepped("delete, aligned", [&] { operator delete(p, std::align_val_t(64)); });
    stepped("new[], aligned, nothrow", [&] { p = (char *)operator new[](size, std::align_val_t(64), std::nothrow); });
    stepped("delete[], aligned, sized", [&] { operator delete[](p, size, std::align_val_t(64)); });
}

static void large(size_t size)
{
    void *p = NULL;
    stepped("malloc of much", [&] { p = malloc(size); });
    REQUIRE(p, "malloc(%zu) to give memory", size);
    stepped("free of much", [&] { free(p); });
    stepped("aligned_alloc of much", [&] { p = aligned_alloc(4096, size); });
    stepped("free of much", [&] { free(p); });
}

/* More than a magazine holds, so that its batches move one step at a time too. */
static void many(void)
{
    enum { MANY = 40 };
    static void *objects[MANY];
    for (int i = 0; i < MANY; i++)
        stepped("one of many mallocs", [&] { objects[i] = malloc(500); });
    for (int i = 0; i < MANY; i++)
        stepped("one of many frees", [&] { free(objects[i]); });
}

int main(void)
{
    begin("stepped");
    /* The linker has found all names, and the unwinder has loaded what it needs. */
    void *frames[4];
    backtrace(frames, 4);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, NULL);
    c_functions(SMALL);
    operators(SMALL);
    c_functions(MIDDLING);
    for (size_t size : large_sizes)
        large(size);
    many();
    return finish();
}
