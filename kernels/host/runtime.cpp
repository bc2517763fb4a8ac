// The runtime of the emulator: threads on fibres, barriers of a block, meetings of a warp, deadlocks told by name.
//
// One block runs at a time. Its threads are started in the launch's order; a thread runs until it ends or has to wait,
// then the next that can run goes on: one that was released, else one not yet started. A block barrier opens when every
// live thread of the block has come; a warp operation when every live lane of its mask has come with the same mask. If
// nobody can run and not everybody has ended, the launch fails and says who waits where.

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fibres.h"
#include "memory.h"
#include "runtime.h"

namespace gb {

Position position;

namespace {

constexpr int warp_size = 32, max_threads = 1024;

struct Thread {
    Fibre* fibre;
    bool waits_for_block;
    WarpOperation operation;
    uint32_t mask;
    uint64_t value, result;
    int source;
    Site site;
};

struct Warp {
    uint32_t present, exited, arrived;  // lanes
};

struct Grid {
    Launch launch;
    void (*body)(const void*);
    const void* arguments;
    Shared shared;
    uint64_t blocks, next_block, random;
    uint64_t block_step, block_offset;  // shuffled blocks: (i * step + offset) mod blocks
    int threads, live, started;
    int at_barrier, votes, vote_result;
    Thread* first_at_barrier;
    unsigned generation = 0;
    int order[max_threads];
    Thread thread[max_threads];
    Warp warp[max_threads / warp_size];
    int ready[max_threads], ready_head, ready_count;
    std::vector<char> dynamic_shared;
} grid;

Fibres fibres;
std::string error;
std::mutex one_launch;

// ---------------------------------------------------------------------------------------------------------------------
// scheduling

uint64_t random_below(uint64_t n) {  // xorshift64*, of the launch's seed
    grid.random ^= grid.random >> 12;
    grid.random ^= grid.random << 25;
    grid.random ^= grid.random >> 27;
    return (grid.random * 0x2545F4914F6CDD1Dull >> 16) % n;
}

bool ordered(Order order) { return grid.launch.order == int(order); }
bool shuffled() { return ordered(Order::shuffled); }

void set_position(int thread) {
    const uint32_t x = grid.launch.block[0], y = grid.launch.block[1];
    const auto t = uint32_t(thread);
    position.linear_thread = thread;
    position.thread = y == 1 && grid.launch.block[2] == 1 ? uint3{t, 0, 0} : uint3{t % x, t / x % y, t / x / y};
}

void make_ready(int thread) { grid.ready[(grid.ready_head + grid.ready_count++) % max_threads] = thread; }

void make_ready_first(int thread) {
    grid.ready_head = (grid.ready_head + max_threads - 1) % max_threads;
    grid.ready[grid.ready_head] = thread;
    ++grid.ready_count;
}

int take_ready() {
    int* head = &grid.ready[grid.ready_head];
    if (shuffled()) std::swap(*head, grid.ready[(grid.ready_head + random_below(grid.ready_count)) % max_threads]);
    grid.ready_head = (grid.ready_head + 1) % max_threads;
    --grid.ready_count;
    return *head;
}

bool start_rather_than_resume() {
    if (grid.started == grid.threads) return false;
    return grid.ready_count == 0 || (shuffled() && random_below(2));
}

bool begin_block() {
    if (grid.next_block == grid.blocks) return false;
    uint64_t index = grid.next_block++;
    if (ordered(Order::reversed)) index = grid.blocks - 1 - index;
    if (shuffled()) {
        index = uint64_t((__uint128_t(index) * grid.block_step + grid.block_offset) % grid.blocks);
        for (int i = grid.threads - 1; i > 0; --i) std::swap(grid.order[i], grid.order[random_below(i + 1)]);
    }
    const uint32_t* sizes = grid.launch.grid;
    position.block = {
            uint32_t(index % sizes[0]), uint32_t(index / sizes[0] % sizes[1]), uint32_t(index / sizes[0] / sizes[1])};

    fill_with_poison(grid.shared.begin, grid.shared.bytes);
    fill_with_poison(position.dynamic_shared, grid.launch.dynamic_shared);

    grid.live = grid.threads;
    grid.started = grid.at_barrier = grid.votes = grid.ready_head = grid.ready_count = 0;
    for (int first = 0; first < grid.threads; first += warp_size) {
        const int lanes = std::min(warp_size, grid.threads - first);
        grid.warp[first / warp_size] = {lanes == warp_size ? ~0u : (1u << lanes) - 1, 0, 0};
    }
    return true;
}

[[noreturn]] void fail_deadlocked();

// Gives the processor away until this fibre's thread is released.
void suspend() {
    if (start_rather_than_resume()) {
        Fibre* fibre = fibres.take_idle();
        if (!fibre) fail("no memory for the stacks of the block's threads");
        fibre->thread = grid.order[grid.started++];
        fibre->assigned = true;
        set_position(fibre->thread);
        fibres.switch_to(fibre);
    } else if (grid.ready_count > 0) {
        const int thread = take_ready();
        if (grid.thread[thread].fibre == fibres.current) return;
        set_position(thread);
        fibres.switch_to(grid.thread[thread].fibre);
    } else {
        fail_deadlocked();
    }
}

// From the first lane or the last, so that released lanes run in the launch's order.
template <class F> void for_lanes(uint32_t lanes, F f) {
    const bool reversed = ordered(Order::reversed) || ordered(Order::greedy);  // the last one put first runs first
    while (lanes) {
        const int lane = reversed ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
        lanes &= ~(1u << lane);
        f(lane);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// waiting

bool open_barrier() {
    if (grid.live == 0 || grid.at_barrier < grid.live) return false;
    grid.vote_result = grid.votes;
    grid.at_barrier = grid.votes = 0;
    for (int i = 0; i < grid.started; ++i) {
        Thread& thread = grid.thread[grid.order[i]];
        if (!thread.waits_for_block) continue;
        thread.waits_for_block = false;
        make_ready(grid.order[i]);
    }
    return true;
}

std::string describe(uint3 at) {
    return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

std::string describe(const Site& site) {
    return std::string(site.name) + " (" + short_name(site.file) + ":" + std::to_string(site.line) + ")";
}

bool same_place(const Site& a, const Site& b) {
    return a.line == b.line && !std::strcmp(a.file, b.file) && !std::strcmp(a.name, b.name);
}

// Lets the lanes of a mask go on if all of them have come; the thread `except` runs already.
bool complete(int warp_index, uint32_t mask, int except) {
    Warp& warp = grid.warp[warp_index];
    Thread* lane = grid.thread + warp_index * warp_size;
    const uint32_t participants = mask & warp.present & ~warp.exited;
    if (!participants || (warp.arrived & participants) != participants) return false;
    const Thread& leader = lane[__builtin_ctz(participants)];
    for (uint32_t rest = participants; rest; rest &= rest - 1) {
        const Thread& other = lane[__builtin_ctz(rest)];
        if (other.mask != mask) return false;
        if (!same_place(other.site, leader.site))
            fail("lanes of warp %d with mask 0x%08x meet at different operations: %s and %s", warp_index, mask,
                    describe(leader.site).c_str(), describe(other.site).c_str());
    }
    warp.arrived &= ~participants;
    const auto lanes_where = [&](auto holds) {
        uint32_t lanes = 0;
        for (uint32_t rest = participants; rest; rest &= rest - 1)
            if (holds(lane[__builtin_ctz(rest)].value)) lanes |= rest & -rest;
        return lanes;
    };
    const uint32_t ballot =
            leader.operation == WarpOperation::ballot ? lanes_where([](uint64_t v) { return v != 0; }) : 0;
    for_lanes(participants, [&](int index) {
        Thread& self = lane[index];
        switch (self.operation) {
            case WarpOperation::sync: break;
            case WarpOperation::shuffle:
                self.result = participants >> self.source & 1 ? lane[self.source].value : poison;
                break;
            case WarpOperation::ballot: self.result = ballot; break;
            case WarpOperation::match: self.result = lanes_where([&](uint64_t v) { return v == self.value; });
        }
        const int thread = warp_index * warp_size + index;
        if (thread != except) ordered(Order::greedy) ? make_ready_first(thread) : make_ready(thread);
    });
    return true;
}

void thread_ends(int thread) {
    const int warp_index = thread / warp_size;
    Warp& warp = grid.warp[warp_index];
    warp.exited |= 1u << thread % warp_size;
    --grid.live;
    if (grid.at_barrier) open_barrier();
    uint32_t rest = warp.arrived;  // lanes that waited for this one among others
    while (rest) {
        const uint32_t mask = grid.thread[warp_index * warp_size + __builtin_ctz(rest)].mask;
        complete(warp_index, mask, -1);
        rest &= warp.arrived & ~mask;
    }
}

// What a fibre runs: the body of one launch after another.
void fibre_main() {
    asan::arrived(nullptr, fibres.main.asan);
    for (;;) grid.body(grid.arguments);
}

// ---------------------------------------------------------------------------------------------------------------------
// errors

std::string lanes_text(uint32_t lanes) {
    char text[32];
    if (lanes == ~0u) return "all lanes";
    std::snprintf(text, sizeof text, "lanes 0x%08x", lanes);
    return text;
}

std::string describe_warp(int index) {
    const Warp& warp = grid.warp[index];
    std::string text;
    uint32_t rest = warp.present & ~warp.exited;
    while (rest) {
        const Thread& leader = grid.thread[index * warp_size + __builtin_ctz(rest)];
        uint32_t group = 0;
        for (uint32_t others = rest; others; others &= others - 1) {
            const Thread& other = grid.thread[index * warp_size + __builtin_ctz(others)];
            const bool together = leader.waits_for_block || other.mask == leader.mask;
            if (together && other.waits_for_block == leader.waits_for_block && same_place(other.site, leader.site))
                group |= others & -others;
        }
        text += (text.empty() ? "" : ", ") + lanes_text(group) + " at " + describe(leader.site);
        if (!leader.waits_for_block) text += " for " + lanes_text(leader.mask);
        rest &= ~group;
    }
    if (warp.exited) text += (text.empty() ? "" : ", ") + lanes_text(warp.exited) + " ended";
    return text;
}

[[noreturn]] void give_up() {
    for (Thread& thread : grid.thread) thread.waits_for_block = false;
    fibres.abandon();
}

void fail_deadlocked() {
    const int warps = (grid.threads + warp_size - 1) / warp_size;
    error = "block " + describe(position.block) + ": no thread can go on, each waits for others";
    for (int first = 0; first < warps;) {
        const std::string what = describe_warp(first);
        int last = first;
        while (last + 1 < warps && describe_warp(last + 1) == what) ++last;
        error += "; warp" + (first == last ? " " : "s " + std::to_string(first) + "-") + std::to_string(last) + ": " +
                 what;
        first = last + 1;
    }
    give_up();
}

// A kernel that runs off its memory is an error of the launch, not the end of the process.
void on_fault(int signal, char* address) {
    if (fibres.current == &fibres.main) std::abort();  // not the kernel's doing
    if (signal == SIGFPE) fail("an integer is divided by zero");
    if (fibres.overflown(address)) fail("a thread needs more than %zu bytes of stack", stack_bytes);
    fail("a thread reads or writes address %p, which is no memory", static_cast<void*>(address));
}

}  // namespace

void fail(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error = "block " + describe(position.block) + ", thread " + describe(position.thread) + ": " + text;
    give_up();
}

bool next_thread() {
    Fibre* self = fibres.current;
    if (self->assigned) return self->assigned = false, true;
    if (self->thread >= 0) thread_ends(self->thread);
    self->thread = -1;
    const unsigned generation = grid.generation;
    for (;;) {
        if (start_rather_than_resume()) {
            self->thread = grid.order[grid.started++];
            set_position(self->thread);
            return true;
        }
        if (grid.ready_count == 0 && grid.live > 0) fail_deadlocked();
        if (grid.ready_count == 0 && begin_block()) continue;
        fibres.idle.push_back(self);
        if (grid.ready_count > 0) {
            const int thread = take_ready();
            set_position(thread);
            fibres.switch_to(grid.thread[thread].fibre);
        } else {
            fibres.switch_to(&fibres.main);
        }
        if (generation != grid.generation) return false;  // woken for another launch: leave this kernel first
        if (self->assigned) return self->assigned = false, true;
    }
}

int count_in_block(bool predicate, Site site) {
    const int index = position.linear_thread;
    Thread& self = grid.thread[index];
    self.fibre = fibres.current;
    self.site = site;
    self.waits_for_block = true;
    if (grid.at_barrier == 0) {
        grid.first_at_barrier = &self;
    } else if (!same_place(grid.first_at_barrier->site, site)) {
        const std::string other = describe(grid.first_at_barrier->site);
        fail("threads of the block meet at different barriers: %s and %s", other.c_str(), describe(site).c_str());
    }
    ++grid.at_barrier;
    grid.votes += predicate;
    open_barrier();  // if it opens, everyone is ready, this thread too, and goes on in the launch's order
    suspend();
    return grid.vote_result;
}

void wait_for_block(Site site) { count_in_block(false, site); }

uint64_t wait_for_warp(WarpOperation operation, uint32_t mask, uint64_t value, int source, Site site) {
    const int index = position.linear_thread, lane = index % warp_size, warp = index / warp_size;
    Thread& self = grid.thread[index];
    if (!(mask >> lane & 1))
        fail("lane %d calls %s with mask 0x%08x, which does not name it", lane, describe(site).c_str(), mask);
    self.fibre = fibres.current;
    self.waits_for_block = false;
    self.operation = operation;
    self.mask = mask;
    self.value = value;
    self.source = source;
    self.site = site;
    grid.warp[warp].arrived |= 1u << lane;
    if (!complete(warp, mask, index)) suspend();
    return self.result;
}

Shared shared_memory(const void* variable) { return find_shared_memory(variable); }

const char* run(const Launch& launch, void (*body)(const void*), const void* arguments, Shared shared) {
    const std::lock_guard<std::mutex> lock(one_launch);
    grid.launch = launch;
    grid.body = body;
    grid.arguments = arguments;
    grid.shared = shared;
    grid.threads = int(launch.block[0] * launch.block[1] * launch.block[2]);
    grid.blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    grid.next_block = 0;
    grid.started = grid.threads;
    grid.live = grid.ready_count = 0;
    ++grid.generation;
    position.block_size = dim3{launch.block[0], launch.block[1], launch.block[2]};
    position.grid_size = dim3{launch.grid[0], launch.grid[1], launch.grid[2]};
    if (grid.dynamic_shared.size() < launch.dynamic_shared + 16) grid.dynamic_shared.resize(launch.dynamic_shared + 16);
    position.dynamic_shared =
            reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(grid.dynamic_shared.data()) + 15) / 16 * 16);
    const bool reversed = ordered(Order::reversed);
    for (int i = 0; i < grid.threads; ++i) grid.order[i] = reversed ? grid.threads - 1 - i : i;
    if (shuffled()) {
        grid.random = launch.seed * 0x9E3779B97F4A7C15ull | 1;
        grid.block_offset = random_below(grid.blocks);
        do grid.block_step = 1 + random_below(grid.blocks);
        while (std::gcd(grid.block_step, grid.blocks) != 1);
    }
    error.clear();
    fibres.start = fibre_main;
    const FaultHandler fault_handler(on_fault);
    Fibre* first = fibres.take_idle();
    if (!first) return "no memory for a stack";
    fibres.switch_to(first);
    const std::string damage = check_guards(launch);
    if (error.empty()) error = damage;
    return error.empty() ? nullptr : error.c_str();
}

}  // namespace gb
