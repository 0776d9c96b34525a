/* An ordinary C++ program: containers that grow, shrink and are passed between threads, strings, shared
 * ownership, exceptions thrown through frames and between threads, thread_local objects, streams and regular expressions.
 * One of the programs of .ci/programs: its output must depend neither on the allocator nor on the order of threads.
 */
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Number = std::uint64_t;

struct Random {
    Number state;
    Number operator()(Number below)
    {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % below;
    }
};

Number mix(Number digest, Number value)
{
    return (digest ^ value) * 1099511628211u;
}

Number mix(Number digest, const std::string &text)
{
    for (unsigned char c : text)
        digest = mix(digest, c);
    return digest;
}

std::string word(Random &random)
{
    std::string text;
    for (Number n = random(40) + 1; n > 0; n--)
        text.push_back(static_cast<char>('a' + random(26)));
    return text;
}

Number containers(Number seed)
{
    Random random{seed};
    std::map<std::string, std::vector<std::string>> sorted;
    std::unordered_map<Number, std::list<Number>> hashed;
    std::deque<std::unique_ptr<std::string>> line;
    std::multiset<Number> bag;
    for (int i = 0; i < 60000; i++) {
        sorted[word(random).substr(0, 3)].push_back(word(random));
        hashed[random(5000)].push_front(random(1000000));
        line.push_back(std::make_unique<std::string>(word(random)));
        bag.insert(random(100000));
        if (line.size() > 1000)
            line.pop_front();
        if (i % 3 == 0) {
            hashed.erase(random(5000));
            auto at = bag.lower_bound(random(100000));
            if (at != bag.end())
                bag.erase(at);
        }
        if (i % 1000 == 0 && !sorted.empty())
            sorted.erase(sorted.begin());
    }
    Number digest = seed;
    for (const auto &[key, words] : sorted)
        for (const auto &text : words)
            digest = mix(mix(digest, key), text);
    std::vector<Number> keys;
    for (const auto &[key, values] : hashed)
        keys.push_back(mix(key, std::accumulate(values.begin(), values.end(), Number(0))));
    std::sort(keys.begin(), keys.end());
    for (Number key : keys)
        digest = mix(digest, key);
    for (const auto &text : line)
        digest = mix(digest, *text);
    return mix(digest, std::accumulate(bag.begin(), bag.end(), Number(bag.size())));
}

Number strings()
{
    Random random{7};
    std::string all;
    std::ostringstream stream;
    for (int i = 0; i < 30000; i++) {
        all += word(random) + ' ' + std::to_string(i) + ';';
        stream << i << ':' << i * 0.5 << ' ';
        if (all.size() > 200000)
            all.erase(0, 150000);
    }
    std::istringstream back(stream.str());
    std::string token;
    Number count = 0;
    while (back >> token)
        count += token.size();
    static const std::regex pattern("([a-e]+)([0-9 ]+);");
    const std::string part = all.substr(0, 20000);
    Number matches = static_cast<Number>(
        std::distance(std::sregex_iterator(part.begin(), part.end(), pattern), std::sregex_iterator()));
    return mix(mix(mix(1, all), count), matches);
}

struct Failure : std::runtime_error {
    std::vector<std::string> notes;
    using std::runtime_error::runtime_error;
};

int dive(int depth, Random &random)
{
    std::vector<std::string> ballast(3, word(random));
    if (depth == 0) {
        Failure failure("at the bottom, with " + ballast.front());
        failure.notes = ballast;
        throw failure;
    }
    try {
        return dive(depth - 1, random) + 1;
    } catch (Failure &failure) {
        failure.notes.push_back(ballast.back());
        if (depth % 5 == 0)
            std::throw_with_nested(std::logic_error("passed " + std::to_string(depth)));
        throw;
    } catch (std::logic_error &) {
        if (depth % 7 == 0)
            throw Failure("again at " + std::to_string(depth));
        throw;
    }
}

Number exceptions()
{
    Random random{11};
    Number digest = 3;
    for (int i = 0; i < 3000; i++) {
        try {
            dive(static_cast<int>(random(20)), random);
        } catch (const std::exception &e) {
            digest = mix(digest, e.what());
        }
    }
    try {
        std::vector<char> never(static_cast<std::size_t>(-1) / 4);
        digest = mix(digest, never.size());
    } catch (const std::bad_alloc &) {
        digest = mix(digest, "no such memory");
    }
    return digest;
}

std::atomic<Number> at_thread_end{0};

struct PerThread {
    std::map<Number, std::string> notes;
    ~PerThread()
    {
        std::vector<std::string> last;
        for (auto &[key, text] : notes)
            last.push_back(text + text);
        at_thread_end += last.size();
    }
};

thread_local PerThread per_thread;

/* Consumers rearrange and drop strings that producers create. */
Number threads()
{
    std::mutex lock;
    std::condition_variable changed;
    std::deque<std::shared_ptr<std::vector<std::string>>> waiting;
    int producing = 3;
    std::atomic<Number> sum{0};
    std::vector<std::thread> all;
    for (Number seed = 0; seed < 3; seed++) {
        all.emplace_back([&, seed] {
            Random random{seed};
            for (int i = 0; i < 1500; i++) {
                auto batch = std::make_shared<std::vector<std::string>>();
                for (int k = 0; k < 60; k++)
                    batch->push_back(word(random));
                per_thread.notes[random(500)] = batch->front();
                std::unique_lock<std::mutex> hold(lock);
                changed.wait(hold, [&] { return waiting.size() < 100; });
                waiting.push_back(std::move(batch));
                changed.notify_all();
            }
            std::lock_guard<std::mutex> hold(lock);
            producing--;
            changed.notify_all();
        });
        all.emplace_back([&] {
            for (;;) {
                std::unique_lock<std::mutex> hold(lock);
                changed.wait(hold, [&] { return !waiting.empty() || producing == 0; });
                if (waiting.empty())
                    return;
                auto batch = std::move(waiting.front());
                waiting.pop_front();
                changed.notify_all();
                hold.unlock();
                std::sort(batch->begin(), batch->end());
                Number digest = 5;
                for (auto &text : *batch)
                    digest = mix(digest, text + text);
                sum += digest;
            }
        });
    }
    for (auto &thread : all)
        thread.join();

    std::vector<std::future<Number>> futures;
    for (Number i = 0; i < 8; i++)
        futures.push_back(std::async(std::launch::async, [i]() -> Number {
            if (i % 3 == 2)
                throw Failure("thrown in thread " + std::to_string(i));
            return containers(i) >> 8;
        }));
    Number digest = mix(sum.load(), at_thread_end.load());
    for (auto &future : futures) {
        try {
            digest = mix(digest, future.get());
        } catch (const Failure &failure) {
            digest = mix(digest, failure.what());
        }
    }
    return digest;
}

} // namespace

int main()
{
    std::printf("containers %016lx\n", static_cast<unsigned long>(containers(2004)));
    std::printf("strings    %016lx\n", static_cast<unsigned long>(strings()));
    std::printf("exceptions %016lx\n", static_cast<unsigned long>(exceptions()));
    std::printf("threads    %016lx\n", static_cast<unsigned long>(threads()));
    return 0;
}
