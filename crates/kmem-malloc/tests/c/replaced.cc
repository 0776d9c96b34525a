/* A program with an operator new and delete of its own, which keep a header before each object: every other form has to
 * come to these two, or memory with a header is freed as memory without one. The forms that it does not define (array,
 * sized, nothrow) are the library's, or libstdc++'s.
 */
#include <cstddef>
#include <cstdlib>
#include <new>

#include "check.h"

static const std::size_t HEADER = 32;
static const std::size_t TAG = 0x4b4d454dul;
static long made, deleted;
static bool refuse;

void *operator new(std::size_t size)
{
    if (refuse)
        throw std::bad_alloc();
    char *memory = static_cast<char *>(std::malloc(size + HEADER));
    if (!memory)
        throw std::bad_alloc();
    *reinterpret_cast<std::size_t *>(memory) = TAG;
    made++;
    return memory + HEADER;
}

void operator delete(void *object) noexcept
{
    if (!object)
        return;
    char *memory = static_cast<char *>(object) - HEADER;
    CHECK(*reinterpret_cast<std::size_t *>(memory) == TAG, "operator delete to get what the program's own operator new gave");
    *reinterpret_cast<std::size_t *>(memory) = 0;
    deleted++;
    std::free(memory);
}

struct Thing {
    long words[9];
    ~Thing() { words[0] = 0; }
};

int main()
{
    begin("replaced");
    for (int turn = 0; turn < 1000; turn++) {
        Thing *volatile one = new Thing;
        Thing *volatile many = new Thing[5];
        int *volatile quiet = new (std::nothrow) int(3);
        int *volatile row = new (std::nothrow) int[100];
        delete one;
        delete[] many;
        delete quiet;
        delete[] row;
        operator delete(operator new(64), std::size_t(64));
        operator delete[](operator new[](64), std::size_t(64));
        operator delete(operator new(64), std::nothrow);
        operator delete[](operator new[](64), std::nothrow);
    }
    CHECK(made == 8000, "8000 calls of the program's operator new, got %ld", made);
    CHECK(deleted == made, "as many calls of its operator delete, got %ld", deleted);
    refuse = true;
    CHECK(!new (std::nothrow) char, "nothrow new to answer null where the program's operator new throws");
    CHECK(!new (std::nothrow) char[10], "nothrow new[] to answer null where the program's operator new throws");
    refuse = false;
    return finish();
}
