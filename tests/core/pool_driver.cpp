// Two callers share pieces of work out among the pool's threads, again and again, each with sleeps in between that let the
// threads fall asleep; every piece must be done once, and be seen by the caller. Built with ThreadSanitizer by test_pool.py.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "pool.h"

static bool right = true;

static void call(gb::Pool& pool, int threads, unsigned seed) {
    for (int round = 0; round < 3000; ++round) {
        seed = seed * 1664525u + 1013904223u;
        const int pieces = int(seed >> 24) % 9;
        std::vector<int> seen(size_t(pieces), 0);
        pool.run(pieces, threads, [&](int i) { seen[size_t(i)] += 1 + i * round; });
        for (int i = 0; i < pieces; ++i)
            if (seen[size_t(i)] != 1 + i * round) right = false;
        if (seed >> 8 & 1 && round % 100 == 0) usleep(2000);
    }
}

int main(int count, char**) {
    gb::Pool& pool = gb::Pool::the();
    if (count > 1) {  // with any argument: no thread can be started, for lack of room
        const rlimit none = {1 << 20, 1 << 20};
        setrlimit(RLIMIT_AS, &none);
        call(pool, 4, 1u);
    } else {
        std::thread second(call, std::ref(pool), 3, 7u);
        call(pool, 4, 1u);
        second.join();
    }
    std::puts(right ? "every piece once" : "a piece is missing");
    std::fflush(stdout);
    _exit(0);  // as at the end of Python: threads still look out for work
}
