// CUDA C++ for a host compiler: the qualifiers, built-in variables, barriers, warp operations, atomics and intrinsics
// that kernels use. Included before the kernel's own source, in place of what nvcc and NVRTC have built in.
#pragma once

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>

#include <math.h>
#include <vector_functions.h>
#include <vector_types.h>

#include "runtime.h"

#define GB_EMULATED 1

// ---------------------------------------------------------------------------------------------------------------------
// qualifiers

// Shared memory is thread-local memory of the kernel's library: one block runs at a time on one OS thread, and all of
// it lies together, so that the runtime can find it and fill it with NaN. AddressSanitizer watches plain statics
// better.
#undef __shared__
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(gb::position.dynamic_shared)

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __managed__
#undef __grid_constant__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

// ---------------------------------------------------------------------------------------------------------------------
// built-in variables

static const uint3& threadIdx = gb::position.thread;
static const uint3& blockIdx = gb::position.block;
static const dim3& blockDim = gb::position.block_size;
static const dim3& gridDim = gb::position.grid_size;
constexpr int warpSize = 32;

// ---------------------------------------------------------------------------------------------------------------------
// barriers, warp operations

#define GB_SITE(name) \
    gb::Site { name, file, line }
#define GB_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(GB_CALLER) { gb::wait_for_block(GB_SITE("__syncthreads")); }
inline int __syncthreads_count(int predicate, GB_CALLER) {
    return gb::count_in_block(predicate, GB_SITE("__syncthreads_count"));
}
inline int __syncthreads_or(int predicate, GB_CALLER) {
    return gb::count_in_block(predicate, GB_SITE("__syncthreads_or")) != 0;
}
inline int __syncthreads_and(int predicate, GB_CALLER) {
    return gb::count_in_block(!predicate, GB_SITE("__syncthreads_and")) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, GB_CALLER) {
    gb::wait_for_warp(gb::WarpOperation::sync, mask, 0, 0, GB_SITE("__syncwarp"));
}

// The lanes that run together are a matter of luck on a GPU; the one answer that every schedule allows is "this one".
inline unsigned __activemask() { return 1u << (gb::position.linear_thread & 31); }

inline unsigned __ballot_sync(unsigned mask, int predicate, GB_CALLER) {
    return unsigned(gb::wait_for_warp(gb::WarpOperation::ballot, mask, predicate != 0, 0, GB_SITE("__ballot_sync")));
}
inline int __any_sync(unsigned mask, int predicate, GB_CALLER) {
    return gb::wait_for_warp(gb::WarpOperation::ballot, mask, predicate != 0, 0, GB_SITE("__any_sync")) != 0;
}
inline int __all_sync(unsigned mask, int predicate, GB_CALLER) {
    return gb::wait_for_warp(gb::WarpOperation::ballot, mask, predicate == 0, 0, GB_SITE("__all_sync")) == 0;
}

namespace gb {

template <class T> uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "warp operations take values of up to 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T> T shuffle(unsigned mask, T value, int source, Site site) {
    const uint64_t bits = wait_for_warp(WarpOperation::shuffle, mask, to_bits(value), source & 31, site);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int lane() { return position.linear_thread & 31; }

}  // namespace gb

template <class T> unsigned __match_any_sync(unsigned mask, T value, GB_CALLER) {
    return unsigned(
            gb::wait_for_warp(gb::WarpOperation::match, mask, gb::to_bits(value), 0, GB_SITE("__match_any_sync")));
}
// A lane whose source lies outside its group of `width` lanes gets its own value.
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, GB_CALLER) {
    return gb::shuffle(mask, value, (gb::lane() & -width) | (source & (width - 1)), GB_SITE("__shfl_sync"));
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GB_CALLER) {
    const int source = gb::lane() - int(delta);
    return gb::shuffle(mask, value, source < (gb::lane() & -width) ? gb::lane() : source, GB_SITE("__shfl_up_sync"));
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GB_CALLER) {
    const int source = gb::lane() + int(delta);
    return gb::shuffle(
            mask, value, source > (gb::lane() | (width - 1)) ? gb::lane() : source, GB_SITE("__shfl_down_sync"));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, GB_CALLER) {
    const int source = gb::lane() ^ flip;
    return gb::shuffle(
            mask, value, source > (gb::lane() | (width - 1)) ? gb::lane() : source, GB_SITE("__shfl_xor_sync"));
}

#undef GB_SITE
#undef GB_CALLER

#undef assert
#define assert(condition) \
    ((condition) ? void() : gb::fail("assertion failed at %s:%d: %s", gb::short_name(__FILE__), __LINE__, #condition))
inline void __trap() { gb::fail("__trap() was called"); }

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---------------------------------------------------------------------------------------------------------------------
// memory

template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldca(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> T __ldcs(const T* address) { return *address; }
template <class T> void __stcg(T* address, T value) { *address = value; }
template <class T> void __stcs(T* address, T value) { *address = value; }

// Threads change places only where they wait, so plain code is atomic here.
namespace gb {
template <class T> struct Plain {
    using type = T;
};
template <class T> using plain = typename Plain<T>::type;  // the first argument alone decides T

template <class T> T exchange(T* address, T value) {
    const T old = *address;
    *address = value;
    return old;
}
}  // namespace gb

template <class T> T atomicAdd(T* address, gb::plain<T> value) { return gb::exchange(address, T(*address + value)); }
template <class T> T atomicSub(T* address, gb::plain<T> value) { return gb::exchange(address, T(*address - value)); }
template <class T> T atomicExch(T* address, gb::plain<T> value) { return gb::exchange(address, value); }
template <class T> T atomicMin(T* address, gb::plain<T> value) {
    return gb::exchange(address, value < *address ? value : *address);
}
template <class T> T atomicMax(T* address, gb::plain<T> value) {
    return gb::exchange(address, value > *address ? value : *address);
}
template <class T> T atomicAnd(T* address, gb::plain<T> value) { return gb::exchange(address, T(*address & value)); }
template <class T> T atomicOr(T* address, gb::plain<T> value) { return gb::exchange(address, T(*address | value)); }
template <class T> T atomicXor(T* address, gb::plain<T> value) { return gb::exchange(address, T(*address ^ value)); }
template <class T> T atomicCAS(T* address, gb::plain<T> compare, gb::plain<T> value) {
    return gb::exchange(address, *address == compare ? value : *address);
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
    return gb::exchange(address, *address >= limit ? 0 : *address + 1);
}
inline unsigned atomicDec(unsigned* address, unsigned limit) {
    return gb::exchange(address, *address == 0 || *address > limit ? limit : *address - 1);
}

#include "intrinsics.h"

#if defined(GB_HALF)
#include <cuda_fp16.h>
#endif
#if defined(GB_BFLOAT16)
#include <cuda_bf16.h>
#endif
