// A few threads that take pieces of one piece of work after the other.
//
// The caller takes pieces too, and waits only for pieces that somebody has begun: on a machine that is busy otherwise it
// does them all. (The workers of a BLAS have their share fixed beforehand, so every product waits for the slowest: beside
// one other program that computes, ten to a hundred times as long.) A worker looks out for new work for about a
// millisecond, longer than what lies between the parts of a training step, and then sleeps: waking it takes 50 microseconds
// and more. The system often wakes it on the caller's processor and leaves it there, so it moves away itself. Nobody waits
// with the processor's pause instruction: in a virtual machine many of them hand the processor to others.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

namespace gb {

// Leaves processor `other`, if that is where this thread is; it may come back.
inline void move_away_from(int other) {
    cpu_set_t all;
    if (sched_getcpu() != other || pthread_getaffinity_np(pthread_self(), sizeof all, &all)) return;
    cpu_set_t rest = all;
    CPU_CLR(other, &rest);
    if (CPU_COUNT(&rest) && !pthread_setaffinity_np(pthread_self(), sizeof rest, &rest))
        pthread_setaffinity_np(pthread_self(), sizeof all, &all);
}

class Pool {
    typedef void (*Piece)(const void* what, int number);
    static constexpr uint64_t CLOSED = 0xffffffff;  // in the lower half of `ticket`: nothing is handed out
    static constexpr int LOOKS = 3000;

    std::mutex busy, sleeping;
    std::condition_variable wake;
    std::atomic<Piece> piece{nullptr};  // this and the next two are written only while `ticket` is closed
    std::atomic<const void*> what{nullptr};
    std::atomic<int> count{0}, home{-1};  // home: the caller's processor
    std::atomic<uint64_t> ticket{CLOSED};  // number of the work, and of its next piece
    std::atomic<int> done{0}, sleepers{0};
    int workers = 0;

    bool take_one(uint64_t& seen) {
        uint64_t now = ticket.load(std::memory_order_acquire);
        seen = now >> 32;
        const Piece mine = piece.load(std::memory_order_relaxed);  // of `now`, if that is still the ticket below
        const void* const of = what.load(std::memory_order_relaxed);
        const uint64_t number = now & CLOSED, end = uint64_t(count.load(std::memory_order_relaxed));
        std::atomic_thread_fence(std::memory_order_acquire);
        if (number >= end) return false;
        if (!ticket.compare_exchange_strong(now, now + 1, std::memory_order_acq_rel)) return true;
        mine(of, int(number));
        done.fetch_add(1, std::memory_order_release);
        return true;
    }

    void serve() {
        for (uint64_t seen = 0;;) {
            while (take_one(seen)) {}
            for (int looks = 0; ticket.load(std::memory_order_acquire) >> 32 == seen; sched_yield())
                if (++looks == LOOKS) {
                    std::unique_lock<std::mutex> lock(sleeping);
                    sleepers.fetch_add(1);
                    wake.wait(lock, [&] { return ticket.load() >> 32 != seen; });
                    sleepers.fetch_sub(1);
                }
            move_away_from(home.load(std::memory_order_relaxed));
        }
    }

public:
    // f(i) for all i below `pieces`, each once, on up to `threads` threads; returns when all are done
    template <class F> void run(int pieces, int threads, const F& f) {
        std::unique_lock<std::mutex> mine(busy, std::defer_lock);
        if (pieces < 2 || threads < 2 || !mine.try_lock()) {  // or another thread has the workers: then without them
            for (int i = 0; i < pieces; ++i) f(i);
            return;
        }
        try {
            for (; workers < threads - 1; ++workers) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {}  // no more to be had here: then with those there are
        const uint64_t number = (ticket.load(std::memory_order_relaxed) >> 32) + 1;
        ticket.store((number - 1) << 32 | CLOSED, std::memory_order_seq_cst);
        std::atomic_thread_fence(std::memory_order_release);
        piece.store([](const void* f, int i) { (*static_cast<const F*>(f))(i); }, std::memory_order_relaxed);
        what.store(&f, std::memory_order_relaxed);
        count.store(pieces, std::memory_order_relaxed);
        home.store(sched_getcpu(), std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
        ticket.store(number << 32, std::memory_order_seq_cst);
        if (sleepers.load()) {
            { std::lock_guard<std::mutex> lock(sleeping); }
            wake.notify_all();
        }
        uint64_t seen;
        while (take_one(seen)) {}
        while (done.load(std::memory_order_acquire) < pieces) sched_yield();  // to whoever has a piece and waits
    }

    // Never destroyed: its threads end with the process. A forked child has none of them, and begins anew (`forget`).
    static Pool& the() {
        Pool* found = pool.load();
        if (!found) {
            Pool* made = new Pool;
            if (pool.compare_exchange_strong(found, made)) return *made;
            delete made;
        }
        return *found;
    }
    static void forget() { pool.store(nullptr); }

private:
    static inline std::atomic<Pool*> pool{nullptr};
};

}  // namespace gb
