// What a compiled kernel and the runtime know of each other.
//
// A kernel is compiled against shims.h into a shared library with one entry point for each instantiation (entry.h). The
// runtime (runtime.cpp, compiled once) runs its threads on fibres: a fibre takes one CUDA thread after another, for as
// long as they run to their end; a thread that must wait keeps its fibre, and another fibre goes on. So a kernel
// without barriers is a plain loop.
#pragma once

#include <cstddef>
#include <cstdint>

#include <vector_types.h>

#pragma GCC visibility push(default)

namespace gb {

// Unset memory: a NaN as float16, bfloat16, float32 and float64, and a large number as an integer.
constexpr uint64_t poison = 0x7FFA7FFA7FFA7FFA;

// Greedy: as forward, but a warp whose lanes have met goes on at once, as far as it can, before any other does.
enum class Order : int { forward, reversed, shuffled, greedy };

// One launch, filled in by the launcher (gpu_backprop/backends/emulated.py has the same structure).
struct Launch {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t dynamic_shared;  // bytes
    int32_t order;
    uint64_t seed;
    uint32_t slot_bytes, regions;
    // behind it: every argument in a slot that starts at a multiple of 16 bytes; then the regions
};

// An array's memory, with a guard zone on either side that is filled with poison and must stay so.
struct Region {
    char *low, *high;
};
constexpr size_t guard_bytes = 256;

// Where the running thread is; the shims' threadIdx and its kin read it.
struct Position {
    uint3 thread, block;
    dim3 block_size, grid_size;
    int linear_thread;
    char* dynamic_shared;
};
extern Position position;

// What a warp does together; each of these waits for the other lanes of its mask.
enum class WarpOperation : int { sync, shuffle, ballot, match };

struct Site {
    const char* name;  // "__shfl_xor_sync"
    const char* file;
    int line;
};

void wait_for_block(Site site);
// Waits for all live threads of the block and tells how many of them gave true.
int count_in_block(bool predicate, Site site);
// Waits for the live lanes of the mask. shuffle: the value that lane `source` gave, or poison if it takes no part;
// ballot: the lanes that gave a value other than 0; match: the lanes that gave the same value.
uint64_t wait_for_warp(WarpOperation operation, uint32_t mask, uint64_t value, int source, Site site);
// The last part of a path, for messages.
constexpr const char* short_name(const char* path) {
    const char* name = path;
    for (; *path; ++path)
        if (*path == '/') name = path + 1;
    return name;
}

// Ends the launch with an error.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Takes the next thread (of the next block, too), until the grid is done.
bool next_thread();

// The static shared memory of a kernel's library, for the calling OS thread.
struct Shared {
    char* begin;
    uint64_t bytes;
};
Shared shared_memory(const void* variable_of_the_library);

// Runs `body`, which loops over next_thread(), for a whole grid; null, or the text of the error (until the next
// launch).
const char* run(const Launch& launch, void (*body)(const void*), const void* arguments, Shared shared);

}  // namespace gb

#pragma GCC visibility pop
