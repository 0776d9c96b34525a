/* The C++ operators: every form of new gives memory as malloc does, every form of delete takes it, a size that nobody has
 * runs the new_handler and then throws std::bad_alloc (through frames whose destructors run) or, where nothrow was said,
 * gives nullptr. The sized and aligned forms must meet the same objects as the plain ones.
 */
#include "check.h"

#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

const std::align_val_t alignments[] = {std::align_val_t(16), std::align_val_t(64), std::align_val_t(4096),
                                       std::align_val_t(2 * MIB)};

void good(void *p, size_t size, size_t alignment, const char *form)
{
    REQUIRE(p, "%s of %zu bytes to give memory", form, size);
    CHECK(aligned_to(p, alignment), "%s of %zu bytes at a multiple of %zu, got %p", form, size, alignment, p);
    CHECK(malloc_usable_size(p) >= size, "%s of %zu bytes to have them, got %zu", form, size, malloc_usable_size(p));
    pattern_fill(p, size, size);
    CHECK(pattern_holds(p, size, size, size), "%s of %zu bytes to keep its contents", form, size);
}

void every_form(size_t size)
{
    void *p;
    good(p = ::operator new(size), size, 16, "new");
    ::operator delete(p);
    good(p = ::operator new(size), size, 16, "new");
    ::operator delete(p, size);
    good(p = ::operator new(size), size, 16, "new");
    ::operator delete(p, std::nothrow);
    good(p = ::operator new[](size), size, 16, "new[]");
    ::operator delete[](p);
    good(p = ::operator new[](size), size, 16, "new[]");
    ::operator delete[](p, size);
    good(p = ::operator new[](size), size, 16, "new[]");
    ::operator delete[](p, std::nothrow);
    good(p = ::operator new(size, std::nothrow), size, 16, "new (nothrow)");
    ::operator delete(p);
    good(p = ::operator new[](size, std::nothrow), size, 16, "new[] (nothrow)");
    ::operator delete[](p);
    for (std::align_val_t a : alignments) {
        size_t alignment = static_cast<size_t>(a);
        good(p = ::operator new(size, a), size, alignment, "aligned new");
        ::operator delete(p, a);
        good(p = ::operator new(size, a), size, alignment, "aligned new");
        ::operator delete(p, size, a);
        good(p = ::operator new(size, a), size, alignment, "aligned new");
        ::operator delete(p, a, std::nothrow);
        good(p = ::operator new[](size, a), size, alignment, "aligned new[]");
        ::operator delete[](p, a);
        good(p = ::operator new[](size, a), size, alignment, "aligned new[]");
        ::operator delete[](p, size, a);
        good(p = ::operator new[](size, a), size, alignment, "aligned new[]");
        ::operator delete[](p, a, std::nothrow);
        good(p = ::operator new(size, a, std::nothrow), size, alignment, "aligned new (nothrow)");
        ::operator delete(p, a);
        good(p = ::operator new[](size, a, std::nothrow), size, alignment, "aligned new[] (nothrow)");
        ::operator delete[](p, a);
    }
}

void nothing_and_null()
{
    void *a = ::operator new(opaque(0)), *b = ::operator new(opaque(0)), *c = ::operator new[](opaque(0));
    CHECK(a && b && c && a != b && b != c && a != c, "new of size 0 to give distinct pointers, got %p %p %p", a, b, c);
    ::operator delete(a);
    ::operator delete(b);
    ::operator delete[](c);
    ::operator delete(opaque_pointer(nullptr));
    ::operator delete(opaque_pointer(nullptr), size_t(10));
    ::operator delete(opaque_pointer(nullptr), std::nothrow);
    ::operator delete(opaque_pointer(nullptr), std::align_val_t(64));
    ::operator delete(opaque_pointer(nullptr), size_t(10), std::align_val_t(64));
    ::operator delete[](opaque_pointer(nullptr));
    ::operator delete[](opaque_pointer(nullptr), size_t(10));
    ::operator delete[](opaque_pointer(nullptr), std::nothrow);
    ::operator delete[](opaque_pointer(nullptr), std::align_val_t(64));
    ::operator delete[](opaque_pointer(nullptr), size_t(10), std::align_val_t(64));
}

int handler_calls;
int guards_gone;

struct Guard {
    ~Guard() { guards_gone++; }
};

/* A handler that is of no help twice, and then gives up by taking itself away. */
void third_time_gives_up()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

void throws_itself()
{
    handler_calls++;
    throw std::bad_alloc();
}

template <class Call> void must_throw(const char *form, Call call)
{
    int guards_before = guards_gone;
    bool thrown = false;
    void *p = nullptr;
    try {
        Guard guard;
        p = call();
    } catch (const std::bad_alloc &e) {
        thrown = e.what() && *e.what();
    }
    CHECK(thrown && !p, "%s of a huge size to throw std::bad_alloc, got %p", form, p);
    CHECK(guards_gone == guards_before + 1, "the destructors between %s and the catch to run once, ran %d times", form,
          guards_gone - guards_before);
}

template <class Call> void throwing_form(const char *form, Call call)
{
    must_throw(form, call);
    handler_calls = 0;
    std::set_new_handler(third_time_gives_up);
    must_throw(form, call);
    CHECK(handler_calls == 3, "%s to call the new_handler until it is gone (3 times), called %d times", form,
          handler_calls);
    handler_calls = 0;
    std::set_new_handler(throws_itself);
    must_throw(form, call);
    CHECK(handler_calls == 1, "%s to let the new_handler's exception through, handler called %d times", form,
          handler_calls);
    std::set_new_handler(nullptr);
}

template <class Call> void nothrow_form(const char *form, Call call)
{
    void *p = call();
    CHECK(!p, "%s of a huge size to give nullptr, got %p", form, p);
    handler_calls = 0;
    std::set_new_handler(third_time_gives_up);
    p = call();
    CHECK(!p && handler_calls == 3, "%s to call the new_handler 3 times and give nullptr, got %p after %d calls", form, p,
          handler_calls);
    /* [new.delete.single]: a handler that leaves by an exception makes the nothrow forms return a null pointer. */
    handler_calls = 0;
    std::set_new_handler(throws_itself);
    p = call();
    CHECK(!p && handler_calls == 1, "%s whose new_handler throws to give nullptr, got %p after %d calls", form, p,
          handler_calls);
    std::set_new_handler(nullptr);
}

void refusals()
{
    for (size_t huge : {SIZE_MAX, SIZE_MAX - 4096, SIZE_MAX / 2, SIZE_MAX / 2 + 1, size_t(1) << 48}) {
        size_t size = opaque(huge);
        throwing_form("new", [=] { return ::operator new(size); });
        throwing_form("new[]", [=] { return ::operator new[](size); });
        nothrow_form("new (nothrow)", [=] { return ::operator new(size, std::nothrow); });
        nothrow_form("new[] (nothrow)", [=] { return ::operator new[](size, std::nothrow); });
        /* libstdc++'s own aligned forms round SIZE_MAX up to a small size; a control run must not trip over that. */
        if (size > SIZE_MAX - 4096 && !kmem_expected())
            continue;
        throwing_form("aligned new", [=] { return ::operator new(size, std::align_val_t(64)); });
        throwing_form("aligned new[]", [=] { return ::operator new[](size, std::align_val_t(64)); });
        nothrow_form("aligned new (nothrow)", [=] { return ::operator new(size, std::align_val_t(64), std::nothrow); });
        nothrow_form("aligned new[] (nothrow)",
                     [=] { return ::operator new[](size, std::align_val_t(64), std::nothrow); });
    }
}

/* What a compiler makes of it: objects with destructors, over-aligned types, containers, a string that grows. */
struct alignas(256) Wide {
    char bytes[300];
};
struct Node {
    std::string name;
    std::unique_ptr<Node> next;
};

void as_compiled()
{
    auto wide = std::make_unique<Wide[]>(10);
    CHECK(aligned_to(wide.get(), 256), "an over-aligned array at a multiple of 256, got %p", (void *)wide.get());
    std::unique_ptr<Node> list;
    for (int i = 0; i < 1000; i++) {
        auto node = std::make_unique<Node>();
        node->name = std::string(static_cast<size_t>(i), 'x');
        node->next = std::move(list);
        list = std::move(node);
    }
    size_t total = 0;
    while (list) {
        total += list->name.size();
        auto next = std::move(list->next);
        list = std::move(next);
    }
    CHECK(total == 999 * 1000 / 2, "the strings of a list to add up to %d bytes, got %zu", 999 * 1000 / 2, total);
    std::vector<std::vector<int>> rows(500);
    for (int turn = 0; turn < 200; turn++)
        for (auto &row : rows)
            row.push_back(turn);
    long sum = 0;
    for (auto &row : rows)
        for (int value : row)
            sum += value;
    CHECK(sum == 500L * 199 * 200 / 2, "the vectors to add up to %ld, got %ld", 500L * 199 * 200 / 2, sum);
}

} // namespace

int main()
{
    begin("operators");
    for (size_t i = 0; i < BOUNDARY_SIZES; i++)
        if (boundary_size(i) <= 4 * MIB)
            every_form(boundary_size(i));
    every_form(128 * MIB);
    nothing_and_null();
    as_compiled();
    refusals();
    return finish();
}
