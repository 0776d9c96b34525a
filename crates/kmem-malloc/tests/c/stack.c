/* How much of its caller's stack each entry point takes: at most 2 KiB, the first call of a process, growth, large
 * memory, memory that ends, a fork and turns of upkeep included. A coroutine has a stack of 4 KiB, and so has a handler
 * of signals.
 *
 * Each entry point has a stack of its own here, painted once, and is called on that and no other. How far the paint is
 * gone at the end is the most that it ever took, and is told by name. Beside that a coroutine of 4 KiB with a guard page
 * behind it, and threads of PTHREAD_STACK_MIN, do what programs do.
 *
 * `stack`            measures, and prints the figures; more than 2,048 bytes are a failure
 * `stack unlimited`  measures and prints only, and has no coroutine (debug builds of the library, other libraries)
 * `stack first NAME` is what the others start: the entry point's call is the first of the process, before any
 *                    constructor; exits, having printed the bytes */
#include "check.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#define LIMIT 2048
#define STACK (64 * KIB)
#define PAINT 0xa5

/* ---- Calls on another stack --------------------------------------------------------------------------------------*/

/* Calls function(a, b, c) with the stack pointer at `top`, a multiple of 16. */
long call_on(void *top, void *function, long a, long b, long c);
__asm__(".text\n"
        ".globl call_on\n"
        ".type call_on, @function\n"
        "call_on:\n"
        "    .cfi_startproc\n"
        "    push %rbp\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset %rbp, -16\n"
        "    mov %rsp, %rbp\n"
        "    .cfi_def_cfa_register %rbp\n"
        "    mov %rdi, %rsp\n"
        "    mov %rsi, %rax\n"
        "    mov %rdx, %rdi\n"
        "    mov %rcx, %rsi\n"
        "    mov %r8, %rdx\n"
        "    call *%rax\n"
        "    mov %rbp, %rsp\n"
        "    pop %rbp\n"
        "    .cfi_def_cfa %rsp, 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size call_on, .-call_on\n");

/* Bytes at the top of a painted stack that something was written to. */
static size_t taken(const unsigned char *stack, size_t size)
{
    size_t painted = 0;
    while (painted < size && stack[painted] == PAINT)
        painted++;
    return size - painted;
}

/* ---- Entry points ------------------------------------------------------------------------------------------------*/

enum {
    MALLOC, FREE, CALLOC, REALLOC, REALLOCARRAY, POSIX_MEMALIGN, ALIGNED_ALLOC, MEMALIGN, VALLOC, PVALLOC, USABLE_SIZE,
    FREE_SIZED, FREE_ALIGNED_SIZED, NEW, NEW_ALIGNED, NEW_NOTHROW, DELETE, DELETE_SIZED, DELETE_ALIGNED,
    LIBC_MALLOC, LIBC_FREE, CFREE, MALLOC_TRIM, MALLOPT, MALLINFO, MALLINFO2, MALLOC_STATS, MALLOC_INFO,
    EXPORTED, FORK = EXPORTED, FORK_CHILD, THREAD_EXIT, ENTRIES
};

static struct {
    const char *name;
    void *function;
    unsigned char *stack;
    const char *deepest_in;
    size_t deepest;
} entries[ENTRIES] = {
    [MALLOC] = {.name = "malloc"}, [FREE] = {.name = "free"}, [CALLOC] = {.name = "calloc"},
    [REALLOC] = {.name = "realloc"}, [REALLOCARRAY] = {.name = "reallocarray"},
    [POSIX_MEMALIGN] = {.name = "posix_memalign"}, [ALIGNED_ALLOC] = {.name = "aligned_alloc"},
    [MEMALIGN] = {.name = "memalign"}, [VALLOC] = {.name = "valloc"}, [PVALLOC] = {.name = "pvalloc"},
    [USABLE_SIZE] = {.name = "malloc_usable_size"}, [FREE_SIZED] = {.name = "free_sized"},
    [FREE_ALIGNED_SIZED] = {.name = "free_aligned_sized"}, [NEW] = {.name = "_Znwm"},
    [NEW_ALIGNED] = {.name = "_ZnwmSt11align_val_t"}, [NEW_NOTHROW] = {.name = "_ZnwmRKSt9nothrow_t"},
    [DELETE] = {.name = "_ZdlPv"}, [DELETE_SIZED] = {.name = "_ZdlPvm"},
    [DELETE_ALIGNED] = {.name = "_ZdlPvSt11align_val_t"}, [LIBC_MALLOC] = {.name = "__libc_malloc"},
    [LIBC_FREE] = {.name = "__libc_free"}, [CFREE] = {.name = "cfree"}, [MALLOC_TRIM] = {.name = "malloc_trim"},
    [MALLOPT] = {.name = "mallopt"}, [MALLINFO] = {.name = "mallinfo"}, [MALLINFO2] = {.name = "mallinfo2"},
    [MALLOC_STATS] = {.name = "malloc_stats"}, [MALLOC_INFO] = {.name = "malloc_info"}, [FORK] = {.name = "fork"},
    [FORK_CHILD] = {.name = "fork, in the child"}, [THREAD_EXIT] = {.name = "end of a thread"},
};

static const char *phase = "?";

/* Finds the functions that are the library's; the rest of the C library's own are its own affair. */
static void find_entries(void)
{
    Dl_info malloc_is_in, is_in;
    REQUIRE(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &malloc_is_in), "malloc to be somewhere");
    for (int i = 0; i < EXPORTED; i++) {
        void *function = dlsym(RTLD_DEFAULT, entries[i].name);
        if (function && dladdr(function, &is_in) && is_in.dli_fbase == malloc_is_in.dli_fbase)
            entries[i].function = function;
    }
    entries[FORK].function = (void *)fork;
    for (int i = 0; i < ENTRIES; i++) {
        entries[i].stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(entries[i].stack != MAP_FAILED, "a stack");
        memset(entries[i].stack, PAINT, STACK);
    }
}

/* Calls an entry point on its stack. */
static long call(int entry, long a, long b, long c)
{
    return call_on(entries[entry].stack + STACK, entries[entry].function, a, b, c);
}

static void *get(int entry, long a, long b)
{
    return (void *)call(entry, a, b, 0);
}

static void give(void *p)
{
    call(FREE, (long)p, 0, 0);
}

static void note_depth(int entry, size_t depth)
{
    if (depth > entries[entry].deepest) {
        entries[entry].deepest = depth;
        entries[entry].deepest_in = phase;
    }
}

/* Looks how deep they were in the phase that ends here. */
static void look(void)
{
    for (int i = 0; i < ENTRIES; i++)
        note_depth(i, taken(entries[i].stack, STACK));
}

/* ---- Phases ------------------------------------------------------------------------------------------------------*/

#define HELD 2000
static void *held[HELD];

static void nap(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* By each function that there is, in turn. */
static void *get_somehow(unsigned how, size_t size)
{
    void *p = NULL;
    static const int plain[] = {MALLOC, VALLOC, PVALLOC, NEW, LIBC_MALLOC};
    switch (how % 9) {
    case 0: return get(CALLOC, 1, (long)size);
    case 1: return get(REALLOC, 0, (long)size);
    case 2: return call(POSIX_MEMALIGN, (long)&p, 64, (long)size) ? NULL : p;
    case 3: return get(ALIGNED_ALLOC, 32, (long)size);
    case 4: return get(MEMALIGN, 128, (long)size);
    case 5: return (void *)call(REALLOCARRAY, 0, 1, (long)size);
    case 6: return entries[NEW_NOTHROW].function ? get(NEW_NOTHROW, (long)size, (long)&p) : get(MALLOC, (long)size, 0);
    case 7: return entries[NEW_ALIGNED].function ? get(NEW_ALIGNED, (long)size, 64) : get(MALLOC, (long)size, 0);
    default: {
        int entry = plain[how / 9 % 5];
        return get(entries[entry].function ? entry : MALLOC, (long)size, 0);
    }
    }
}

static void give_somehow(unsigned how, void *p, size_t size)
{
    static const int ways[] = {FREE, FREE_SIZED, FREE_ALIGNED_SIZED, DELETE, DELETE_SIZED, DELETE_ALIGNED, LIBC_FREE, CFREE};
    int entry = ways[how % 8];
    if (!entries[entry].function)
        entry = FREE;
    call(USABLE_SIZE, (long)p, 0, 0);
    if (entry == FREE_ALIGNED_SIZED)
        call(entry, (long)p, 16, (long)size);
    else if (entry == DELETE_ALIGNED)
        call(entry, (long)p, 16, 0);
    else
        call(entry, (long)p, (long)size, 0);
}

/* Every size class, from slabs and back to them: misses, refills, slots that are full, slabs that come and go. */
static void misses(void)
{
    for (size_t size = 1; size <= 40 * KIB; size += size / 8 + 1) {
        for (unsigned i = 0; i < HELD / 4; i++) {
            held[i] = get_somehow(i, size);
            REQUIRE(held[i], "memory");
        }
        for (unsigned i = 0; i < HELD / 4; i++)
            give_somehow(i, held[i], size);
    }
}

/* Overflow and underflow by turns, until magazines are as large as they get. */
static void growth(void)
{
    for (int turn = 0; turn < 200; turn++) {
        for (int i = 0; i < HELD; i++)
            REQUIRE((held[i] = get(MALLOC, 48 + turn % 3 * 100, 0)), "memory");
        for (int i = 0; i < HELD; i++)
            give(held[i]);
    }
}

static void large(void)
{
    for (size_t size = 32 * KIB; size <= 256 * MIB; size *= 2) {
        char *p = get(MALLOC, (long)size, 0), *other = get(CALLOC, 1, (long)size);
        REQUIRE(p && other, "memory");
        p[0] = p[size - 1] = 1;
        p = (char *)call(REALLOC, (long)p, (long)(size + MIB), 0);
        give(other);
        p = (char *)call(REALLOC, (long)p, (long)(3 * size), 0);
        REQUIRE(p, "memory");
        p = (char *)call(REALLOC, (long)p, (long)(size / 3), 0);
        give(p);
        p = get(ALIGNED_ALLOC, (long)(2 * MIB), (long)size);
        REQUIRE(p, "memory");
        give(p);
    }
    /* What cannot be had. */
    CHECK(!get(MALLOC, LONG_MAX, 0) && !get(CALLOC, LONG_MAX, 2) && !get(MALLOC, 1L << 50, 0), "no such memory");
}

/* On each CPU that there is: the area and slots of one after the other come up. */
static void other_cpus(void)
{
    cpu_set_t all, one;
    REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0, "to know the CPUs");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0, "to run on CPU %d", cpu);
        for (int i = 0; i < 500; i++)
            REQUIRE((held[i] = get(MALLOC, 16 << i % 12, 0)), "memory");
        for (int i = 0; i < 500; i++)
            give(held[i]);
    }
    REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0, "to run everywhere again");
}

/* What a program may ask of the whole. */
static void whole(void)
{
    static char answer[4096];
    for (int i = 0; i < HELD; i++)
        REQUIRE((held[i] = get(MALLOC, 16 + i * 37 % 3000, 0)), "memory");
    for (int i = 0; i < HELD; i++)
        if (i % 10)
            give(held[i]);
    call(MALLOC_TRIM, 0, 0, 0);
    int errors = dup(2), nowhere = open("/dev/null", O_WRONLY);
    FILE *file = fopen("/dev/null", "w");
    /* Else libc makes the stream's buffer at its first use, by malloc, on top of its own frames and ours. */
    static char buffer[4096];
    if (file)
        setvbuf(file, buffer, _IOFBF, sizeof buffer);
    REQUIRE(errors >= 0 && nowhere >= 0 && file, "descriptors");
    dup2(nowhere, 2);
    if (entries[MALLOPT].function)
        call(MALLOPT, M_TRIM_THRESHOLD, 1 << 20, 0);
    if (entries[MALLINFO].function)
        call(MALLINFO, (long)answer, 0, 0);
    if (entries[MALLINFO2].function)
        call(MALLINFO2, (long)answer, 0, 0);
    if (entries[MALLOC_STATS].function)
        call(MALLOC_STATS, 0, 0, 0);
    if (entries[MALLOC_INFO].function)
        call(MALLOC_INFO, 0, (long)file, 0);
    dup2(errors, 2);
    close(errors);
    close(nowhere);
    fclose(file);
    for (int i = 0; i < HELD; i += 10)
        give(held[i]);
}

/* So many milliseconds of a program that is busy with all sizes, and then rests, and goes on. */
static void turns(void)
{
    static const long rests[] = {60, 300, 60, 300};
    for (int turn = 0; turn < 4; turn++) {
        long end = now() + 300;
        for (unsigned round = 0; now() < end; round++) {
            for (unsigned i = 0; i < 300; i++)
                REQUIRE((held[i] = get_somehow(i + round, 16 + (i * 7 + round) % 500 * 64)), "memory");
            for (unsigned i = 0; i < 300; i++)
                give(held[i]);
        }
        nap(rests[turn]);
    }
}

/* More heap than a small program has. */
static void turns_of_a_large_program(void)
{
    enum { OBJECTS = 60000 };
    static void *objects[OBJECTS];
    for (int i = 0; i < OBJECTS; i++)
        REQUIRE((objects[i] = get(MALLOC, 1000, 0)), "memory");
    turns();
    for (int i = 0; i < OBJECTS; i++)
        if (i % 50)
            give(objects[i]);
    turns();
    for (int i = 0; i < OBJECTS; i += 50)
        give(objects[i]);
}

/* ---- Processes ---------------------------------------------------------------------------------------------------*/

/* What a child of a phase leaves to its parent. */
static size_t *of_child;

/* Runs `work` in a child, whose figures count here. */
static void in_child(const char *name, void (*work)(void))
{
    phase = name;
    memset(of_child, 0, ENTRIES * sizeof *of_child);
    pid_t child = fork();
    REQUIRE(child >= 0, "a child");
    if (child == 0) {
        work();
        look();
        for (int i = 0; i < ENTRIES; i++)
            of_child[i] = taken(entries[i].stack, STACK);
        _exit(check_failures ? 1 : 0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0, "%s to end well, and not with %#x", name, status);
    for (int i = 0; i < ENTRIES; i++)
        note_depth(i, of_child[i]);
}

/* Under a limit of address space that leaves some room: small and large, until there is none, again and again. */
static void memory_ends(void)
{
    struct rlimit limit = {process_bytes(ADDRESS_SPACE) + 24 * MIB, RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0, "a limit");
    static const size_t sizes[] = {64, 3000, 30000, 100 * KIB, 4 * MIB};
    for (unsigned way = 0; way < 18; way++) {
        void *last = NULL, **p;
        size_t size = sizes[way % 5];
        /* Not by the operators: they throw, and there is nobody to catch it. */
        unsigned how = way % 9 < 6 ? way : 8;
        while ((p = get_somehow(how, size))) {
            *p = last;
            last = p;
        }
        CHECK(!last || !call(REALLOC, (long)last, (long)(64 * MIB), 0), "no more memory");
        while ((p = last)) {
            last = *p;
            give(p);
        }
    }
}

/* No more address space at all. */
static void there_is_no_memory(void)
{
    struct rlimit limit = {1, RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0, "a limit");
    for (size_t size = 16; size < 16 * MIB; size += size / 4)
        for (int i = 0; i < 100; i++)
            get(MALLOC, (long)size, 0);
}

static void fork_handlers(void)
{
    for (int i = 0; i < 3; i++) {
        memset(entries[FORK].stack, PAINT, STACK);
        pid_t child = (pid_t)call(FORK, 0, 0, 0);
        if (child == 0) {
            of_child[FORK_CHILD] = taken(entries[FORK].stack, STACK);
            misses();
            _exit(0);
        }
        int status;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child to end well, and not with %#x",
                status);
        note_depth(FORK, taken(entries[FORK].stack, STACK));
        note_depth(FORK_CHILD, of_child[FORK_CHILD]);
    }
}

/* ---- Coroutines and threads --------------------------------------------------------------------------------------*/

static ucontext_t main_context, coroutine;

static void run_coroutine(void)
{
    static void *objects[300];
    long begun = now(), rested = 0;
    for (unsigned round = 0; now() - begun < 1000; round++) {
        for (unsigned i = 0; i < 300; i++)
            objects[i] = malloc(16 + (i * 7 + round) % 500 * 64);
        for (unsigned i = 0; i < 300; i++)
            free(objects[i]);
        if (now() - begun > 500 && !rested++)
            nap(300);
    }
    malloc_trim(0);
}

/* 4 KiB and a guard page. */
static void coroutines(void)
{
    char *place = mmap(NULL, 12 * KIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(place != MAP_FAILED && mprotect(place + 4 * KIB, 4 * KIB, PROT_READ | PROT_WRITE) == 0, "a stack");
    REQUIRE(getcontext(&coroutine) == 0, "a context");
    coroutine.uc_stack.ss_sp = place + 4 * KIB;
    coroutine.uc_stack.ss_size = 4 * KIB;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, run_coroutine, 0);
    REQUIRE(swapcontext(&main_context, &coroutine) == 0, "to come back");
}

static pthread_key_t last_words;

/* The destructors of a thread run one after the other from one place of libc's, and again for those that set their value
 * again. So the stack below this one, painted in one round, shows in the next what the others took of it. (The own
 * frame is taken for a part of theirs.) */
__attribute__((noinline)) static void paint_below(unsigned char *volatile frame)
{
    memset(frame - 16 * KIB + 512, PAINT, 16 * KIB - 1024);
}

static void at_thread_end(void *round)
{
    unsigned char *frame = __builtin_frame_address(0);
    if ((long)round > 1)
        note_depth(THREAD_EXIT, taken(frame - 16 * KIB + 512, 16 * KIB - 512));
    paint_below(frame);
    if ((long)round < 4)
        pthread_setspecific(last_words, (void *)((long)round + 1));
}

static void *rest(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static void *run_thread(void *argument)
{
    void *volatile objects[200];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 200; i++)
            objects[i] = malloc(16 + i * 40);
        for (int i = 0; i < 200; i++)
            free(objects[i]);
    }
    if (argument)
        pthread_setspecific(last_words, (void *)1);
    return NULL;
}

static void threads(void)
{
    pthread_attr_t attributes;
    REQUIRE(pthread_key_create(&last_words, at_thread_end) == 0 && pthread_attr_init(&attributes) == 0, "a key");
    /* A stack that is large enough to be painted, then the smallest that there is. */
    static const size_t sizes[] = {256 * KIB, 0, 0, 0, 0};
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        REQUIRE(pthread_attr_setstacksize(&attributes, sizes[i] ? sizes[i] : (size_t)PTHREAD_STACK_MIN) == 0, "a size");
        REQUIRE(pthread_create(&thread, &attributes, run_thread, (void *)(long)(sizes[i] > 0)) == 0, "a thread");
        pthread_join(thread, NULL);
    }
    /* With a thread beside it this one finds out what there is to do for upkeep. */
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, rest, NULL) == 0, "a thread");
    other_cpus();
    turns();
}

/* ---- The first call ----------------------------------------------------------------------------------------------*/

/* Before any constructor has run, nothing of the C library's is used here but what needs no memory. */
static void before_constructors(int count, char **arguments, char **environment)
{
    static unsigned char stack[STACK] __attribute__((aligned(16)));
    static const struct { const char *name; void *function; long a, b, c; } calls[] = {
        {"malloc", (void *)malloc, 100, 0, 0},        {"malloc, large", (void *)malloc, 1 << 20, 0, 0},
        {"calloc", (void *)calloc, 10, 10, 0},        {"realloc", (void *)realloc, 0, 100, 0},
        {"free", (void *)free, 0, 0, 0},              {"aligned_alloc", (void *)aligned_alloc, 64, 100, 0},
        {"malloc_usable_size", (void *)malloc_usable_size, 0, 0, 0}, {"malloc_trim", (void *)malloc_trim, 0, 0, 0},
        {"fork", (void *)fork, 0, 0, 0},
    };
    (void)environment;
    if (count < 3 || strcmp(arguments[1], "first") != 0)
        return;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(arguments[2], calls[i].name) != 0)
            continue;
        for (size_t at = 0; at < STACK; at++)
            ((volatile unsigned char *)stack)[at] = PAINT;
        long answer = call_on(stack + STACK, calls[i].function, calls[i].a, calls[i].b, calls[i].c);
        if (calls[i].function == (void *)fork && answer == 0)
            _exit(0);
        size_t depth = taken(stack, STACK);
        char digits[24], *digit = digits + sizeof digits;
        do
            *--digit = (char)('0' + depth % 10);
        while (depth /= 10);
        _exit(write(1, digit, (size_t)(digits + sizeof digits - digit)) > 0 ? 0 : 1);
    }
    _exit(2);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = before_constructors;

static size_t depth_of_first(const char *program, const char *name)
{
    int ends[2], status;
    char text[24] = "";
    REQUIRE(pipe(ends) == 0, "a pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execl(program, program, "first", name, (char *)NULL);
        _exit(3);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    REQUIRE(waitpid(child, &status, 0) == child && status == 0 && got > 0, "%s as the first call, and not %#x", name, status);
    return (size_t)atol(text);
}

int main(int count, char **arguments)
{
    static const char *const first[] = {"malloc", "malloc, large", "calloc", "realloc", "free", "aligned_alloc",
                                        "malloc_usable_size", "malloc_trim", "fork"};
    size_t limit = count > 1 && strcmp(arguments[1], "unlimited") == 0 ? STACK : LIMIT;
    begin("stack");
    find_entries();
    of_child = mmap(NULL, ENTRIES * sizeof *of_child, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(of_child != MAP_FAILED, "memory that a child shares");

    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        size_t depth = depth_of_first("/proc/self/exe", first[i]);
        dprintf(1, "%6zu  %s, the first call of the process\n", depth, first[i]);
        CHECK(depth <= limit, "the first call, of %s, to take at most %zu bytes, not %zu", first[i], limit, depth);
    }
    in_child("memory ends", memory_ends);
    in_child("there is no memory", there_is_no_memory);
    static const struct { const char *name; void (*run)(void); } phases[] = {
        {"misses", misses}, {"growth", growth}, {"memory ends, late", NULL}, {"large memory", large},
        {"other CPUs", other_cpus}, {"the whole", whole}, {"turns", turns},
        {"turns of a large program", turns_of_a_large_program}, {"fork", fork_handlers}, {"threads", threads},
        {"fork beside a thread", fork_handlers},
    };
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        phase = phases[i].name;
        if (phases[i].run)
            phases[i].run();
        else
            in_child(phase, memory_ends);
        look();
    }
    if (limit == LIMIT)
        coroutines();
    for (int i = 0; i < ENTRIES; i++) {
        if (!entries[i].deepest)
            continue;
        dprintf(1, "%6zu  %s (%s)\n", entries[i].deepest, entries[i].name, entries[i].deepest_in);
        CHECK(entries[i].deepest <= limit, "%s to take at most %zu bytes of stack, not %zu (%s)", entries[i].name, limit,
              entries[i].deepest, entries[i].deepest_in);
    }
    return finish();
}
