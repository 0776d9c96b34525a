/* The exhaustive one: four threads, each with a table of blocks whose size, alignment, origin and contents are known, call
 * every entry point at random, two million times each, and check each block against its table whenever it is touched. Blocks
 * change hands between the threads through a shared table, so most kinds of block are freed by a stranger.
 *
 *     stress [OPERATIONS [SEED]]   operations of one thread
 */
#include "check.h"

#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace {

/* Which entry point made a block decides who may resize and free it. */
enum class Origin { none, malloc_like, memalign_like, plain_new, array_new, aligned_new, aligned_array_new };

struct Block {
    unsigned char *p = nullptr;
    size_t size = 0, alignment = 16;
    uint64_t seed = 0;
    Origin origin = Origin::none;
};

struct Shared {
    std::mutex lock;
    Block block;
};

constexpr size_t own_blocks = 2048, shared_blocks = 512;
Shared shared[shared_blocks];

size_t random_size(uint64_t &random)
{
    uint64_t kind = next_random(&random) % 100000, r = next_random(&random);
    if (kind < 60000)
        return r % 128 + 1;
    if (kind < 85000)
        return r % 1024 + 1;
    if (kind < 98500)
        return r % (40 * KIB) + 1;
    if (kind < 99990) {
        size_t size = boundary_size(r % BOUNDARY_SIZES);
        return size <= MIB / 2 + 1 ? size : r % (300 * KIB) + 1;
    }
    return kind < 99999 ? r % (5 * MIB) + 1 : boundary_size(r % BOUNDARY_SIZES);
}

size_t random_alignment(uint64_t &random)
{
    uint64_t kind = next_random(&random) % 1000, r = next_random(&random);
    return size_t(1) << (kind < 900 ? 3 + r % 6 : kind < 995 ? 3 + r % 10 : 3 + r % 20);
}

void look_at(const Block &block, const char *when)
{
    REQUIRE(pattern_holds(block.p, block.size, block.size, block.seed),
            "a block of %zu bytes (origin %d, alignment %zu) as it was written, %s", block.size, int(block.origin),
            block.alignment, when);
}

Block make(uint64_t &random)
{
    Block block;
    size_t size = block.size = random_size(random);
    uint64_t way = next_random(&random) % 20;
    std::align_val_t over{};
    void *p = nullptr;
    if (way >= 9 && way <= 12)
        block.alignment = way == 12 ? 4096 : random_alignment(random);
    if (way >= 16)
        over = std::align_val_t(block.alignment = 2 * random_alignment(random));
    block.origin = way <= 8    ? Origin::malloc_like
                   : way <= 12 ? Origin::memalign_like
                   : way <= 15 ? (way == 14 ? Origin::array_new : Origin::plain_new)
                               : (way % 2 ? Origin::aligned_array_new : Origin::aligned_new);
    switch (way) {
    case 0:
    case 1:
    case 2:
    case 3:
        p = malloc(size);
        break;
    case 4:
    case 5:
        p = calloc(1, size);
        break;
    case 6:
        p = calloc(size / 8 + 1, 8);
        break;
    case 7:
        p = realloc(nullptr, size);
        break;
    case 8:
        p = reallocarray(nullptr, size / 24 + 1, 24);
        break;
    case 9:
        if (posix_memalign(&p, block.alignment, size))
            p = nullptr;
        break;
    case 10:
        p = aligned_alloc(block.alignment, size);
        break;
    case 11:
        p = memalign(block.alignment, size);
        break;
    case 12:
        p = size % 2 ? valloc(size) : pvalloc(size);
        break;
    case 13:
        p = ::operator new(size);
        break;
    case 14:
        p = size % 2 ? ::operator new[](size) : ::operator new[](size, std::nothrow);
        break;
    case 15:
        p = ::operator new(size, std::nothrow);
        break;
    case 16:
        p = ::operator new(size, over);
        break;
    case 17:
        p = ::operator new[](size, over);
        break;
    case 18:
        p = ::operator new(size, over, std::nothrow);
        break;
    case 19:
        p = ::operator new[](size, over, std::nothrow);
        break;
    }
    REQUIRE(p, "%zu bytes by way %d", size, int(way));
    REQUIRE(aligned_to(p, block.alignment < 16 ? 16 : block.alignment) || (block.alignment < 16 && aligned_to(p, 8)),
            "%zu bytes by way %d at a multiple of %zu, got %p", size, int(way), block.alignment, p);
    if (way >= 4 && way <= 6) {
        size_t upto = size <= 64 * KIB ? size : 64 * KIB;
        REQUIRE(first_nonzero(p, upto) == upto, "calloc of %zu bytes to be zero, byte %zu is not", size,
                first_nonzero(p, upto));
    }
    size_t usable = malloc_usable_size(p);
    REQUIRE(usable >= size, "%zu bytes by way %d to be usable, got %zu", size, int(way), usable);
    block.p = static_cast<unsigned char *>(p);
    block.seed = next_random(&random);
    pattern_fill(p, size, block.seed);
    return block;
}

void drop(Block &block, uint64_t &random)
{
    look_at(block, "when it is freed");
    bool sized = next_random(&random) % 2;
    std::align_val_t over{block.alignment};
    switch (block.origin) {
    case Origin::none:
        break;
    case Origin::malloc_like:
    case Origin::memalign_like:
        free(block.p);
        break;
    case Origin::plain_new:
        if (sized)
            ::operator delete(block.p, block.size);
        else
            ::operator delete(block.p);
        break;
    case Origin::array_new:
        if (sized)
            ::operator delete[](block.p, block.size);
        else
            ::operator delete[](block.p);
        break;
    case Origin::aligned_new:
        if (sized)
            ::operator delete(block.p, block.size, over);
        else
            ::operator delete(block.p, over);
        break;
    case Origin::aligned_array_new:
        if (sized)
            ::operator delete[](block.p, block.size, over);
        else
            ::operator delete[](block.p, over);
        break;
    }
    block = Block();
}

/* free_sized and free_aligned_sized want what was asked for exactly, so they have makers of their own. */
void sized_round_trip(uint64_t &random)
{
    if (!free_sized || !free_aligned_sized)
        return;
    size_t size = random_size(random);
    void *p = malloc(size);
    REQUIRE(p, "malloc(%zu) to give memory", size);
    pattern_fill(p, size, size);
    free_sized(p, size);
    size_t alignment = 8 * random_alignment(random);
    p = aligned_alloc(alignment, size);
    REQUIRE(p && aligned_to(p, alignment), "aligned_alloc(%zu, %zu) to give memory so aligned, got %p", alignment, size, p);
    pattern_fill(p, size, size);
    free_aligned_sized(p, alignment, size);
}

void resize(Block &block, uint64_t &random)
{
    if (block.origin != Origin::malloc_like && block.origin != Origin::memalign_like)
        return drop(block, random);
    size_t size = random_size(random);
    if (next_random(&random) % 4 == 0)
        size = block.size + next_random(&random) % 300 + 1;
    look_at(block, "before realloc");
    void *p = next_random(&random) % 4 ? realloc(block.p, size) : reallocarray(block.p, 1, size);
    REQUIRE(p, "realloc from %zu to %zu to give memory", block.size, size);
    REQUIRE(pattern_holds(p, block.size, block.size < size ? block.size : size, block.seed),
            "realloc from %zu to %zu to keep the contents", block.size, size);
    REQUIRE(malloc_usable_size(p) >= size, "realloc to %zu to make that usable", size);
    block.p = static_cast<unsigned char *>(p);
    block.size = size;
    block.alignment = 16;
    block.origin = Origin::malloc_like;
    pattern_fill(p, size, block.seed);
}

void swap_with_a_stranger(Block &block, uint64_t &random)
{
    Shared &other = shared[next_random(&random) % shared_blocks];
    std::lock_guard<std::mutex> guard(other.lock);
    std::swap(block, other.block);
}

void live(long operations, uint64_t seed)
{
    std::vector<Block> blocks(own_blocks);
    uint64_t random = seed;
    for (long i = 0; i < operations; i++) {
        Block &block = blocks[next_random(&random) % own_blocks];
        uint64_t what = next_random(&random) % 16;
        if (what < 4)
            swap_with_a_stranger(block, random);
        else if (what == 4)
            sized_round_trip(random);
        else if (!block.p)
            block = make(random);
        else if (what < 8)
            resize(block, random);
        else
            drop(block, random);
    }
    for (Block &block : blocks)
        if (block.p)
            drop(block, random);
}

} // namespace

int main(int argc, char **argv)
{
    begin("stress");
    long operations = argc > 1 ? atol(argv[1]) : 2000000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], nullptr, 0) : 20040525;
    dprintf(1, "stress: %ld operations a thread, seed %lu\n", operations, (unsigned long)seed);
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 4; i++)
        threads.emplace_back(live, operations, seed + i);
    for (std::thread &thread : threads)
        thread.join();
    for (Shared &slot : shared)
        if (slot.block.p)
            drop(slot.block, seed);
    return finish();
}
