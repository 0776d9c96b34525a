// Eighteen planted bugs, one a run: `planted N`. The line of each is marked. crates/kmem-cli/tests/planted.rs runs them
// under `kmem run --debug`, and looks for that line in the report; tests/debug/table.py runs them under others too.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>

static volatile int sink;
static char *volatile kept;

// Volatile, so that the compiler knows nothing of where memory comes from.
static void *(*volatile get)(size_t) = malloc;
static void (*volatile put)(void *) = free;

static char *make(size_t size) { return static_cast<char *>(get(size)); }

static void churn(size_t size) {
    for (int i = 0; i < 5000; i++) put(get(size));
}

static void double_free() {
    char *p = make(40);
    put(p);
    put(p); // planted 1
}

static void free_of_a_middle() {
    char *p = make(40);
    put(p + 16); // planted 2
}

static void free_of_the_stack() {
    alignas(16) char local[64] = "";
    put(local); // planted 3
}

static void overflow() {
    char *p = make(40); // planted 4
    volatile char *q = p;
    q[40] = 'x';
    put(p);
}

static void overflow_by_a_null() {
    char *p = make(8); // planted 5
    strcpy(p, "overflow");
    put(p);
}

static void underflow() {
    char *p = make(40); // planted 6
    volatile char *q = p;
    q[-1] = 'x';
    put(p);
}

static void write_after_free() {
    char *p = make(40);
    volatile char *q = p;
    put(p); // planted 7
    q[3] = 'x';
    churn(40);
}

static void read_after_free() {
    char *p = make(40);
    volatile char *q = p;
    put(p);
    sink = q[3]; // planted 8
}

static void uninitialised() {
    unsigned *p = reinterpret_cast<unsigned *>(make(40));
    if (*p != 0) printf("read %x\n", *p); // planted 9
    put(p);
}

static void wrong_size() {
    void *p = ::operator new(40);
    ::operator delete(p, size_t{48}); // planted 10
}

static void realloc_of_freed() {
    void *(*volatile again)(void *, size_t) = realloc;
    char *p = make(40);
    put(p);
    kept = static_cast<char *>(again(p, 80)); // planted 11
}

static void beyond_a_large_one() {
    volatile char *p = make(1 << 20);
    p[1 << 20] = 'x'; // planted 12
}

static void something_of_nothing() {
    volatile char *p = make(0);
    *p = 'x'; // planted 13
}

static void leak() {
    kept = make(40); // planted 14
    kept = nullptr;
}

static void new_freed_by_free() {
    void *p = ::operator new(40);
    put(p); // planted 15
}

static void new_freed_by_delete_of_arrays() {
    void *p = ::operator new(40);
    ::operator delete[](p); // planted 16
}

static void array_freed_by_delete() {
    void *p = ::operator new[](40);
    ::operator delete(p); // planted 17
}

static void malloc_freed_by_delete() {
    ::operator delete(make(40)); // planted 18
}

int main(int count, char **arguments) {
    static void (*const BUGS[])() = {
        double_free, free_of_a_middle, free_of_the_stack, overflow, overflow_by_a_null, underflow, write_after_free,
        read_after_free, uninitialised, wrong_size, realloc_of_freed, beyond_a_large_one, something_of_nothing, leak,
        new_freed_by_free, new_freed_by_delete_of_arrays, array_freed_by_delete, malloc_freed_by_delete,
    };
    int which = count > 1 ? atoi(arguments[1]) : 0;
    if (which < 1 || which > 18) return 2;
    BUGS[which - 1]();
    // What a call left on the stack would lead to what it leaked.
    volatile char over[4096];
    memset(const_cast<char *>(over), 0, sizeof over);
    return 0;
}
