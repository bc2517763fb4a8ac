// What every kernel of this folder shares: dtypes, 16-byte accesses, reductions in a fixed order, the last block, Philox.
//
// The same text is compiled by NVRTC (GPU) and by the host compiler against host/ (emulated backend), with contraction off:
// an fma happens where the source says fma(), so both give the same bits.
#pragma once

#ifdef GB_HALF  // the compiler defines these where a kernel is instantiated with the type: the headers are long
#include <cuda_fp16.h>
#endif
#ifdef GB_BFLOAT16
#include <cuda_bf16.h>
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int BLOCK = 256;  // threads in every block of every kernel, as (256, 1) or (32, 8)
constexpr int RESIDENT = 3;  // blocks a multiprocessor must be able to hold: at most 80 registers a thread
#if __CUDA_ARCH__ >= 1000
constexpr bool TIGHT = true;  // compilers spill some kernels that must leave room for more blocks than that
#else
constexpr bool TIGHT = false;
#endif
constexpr int WARP = 32;
constexpr int WARPS = BLOCK / WARP;
constexpr u32 ALL_LANES = 0xffffffffu;

// ---------------------------------------------------------------------------------------------------------------------
// dtypes: a kernel stores T and computes in Acc<T>; 16-bit floats compute in float and are rounded once, when stored

template <class T> struct Accumulator { using type = T; };
template <class T> struct Narrow {
    template <class A> __device__ static T from(A x) { return T(x); }
};

__device__ inline bool widen(bool x) { return x; }
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }

#ifdef GB_HALF
template <> struct Accumulator<__half> { using type = float; };
template <> struct Narrow<__half> {
    __device__ static __half from(float x) { return __float2half_rn(x); }
    __device__ static __half from(double x) { return __double2half(x); }
};
__device__ inline float widen(__half x) { return __half2float(x); }
#endif

#ifdef GB_BFLOAT16
template <> struct Accumulator<__nv_bfloat16> { using type = float; };
template <> struct Narrow<__nv_bfloat16> {
    __device__ static __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
    __device__ static __nv_bfloat16 from(double x) { return __double2bfloat16(x); }
};
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
#endif

template <class T> using Acc = typename Accumulator<T>::type;

// narrow<T>(x): x rounded once to T, straight from double too (double -> float -> half would round twice)
template <class T, class A> __device__ inline T narrow(A x) { return Narrow<T>::from(x); }

// the unsigned integer of T's size
template <int SIZE> struct Bits;
template <> struct Bits<2> { using type = unsigned short; };
template <> struct Bits<4> { using type = u32; };
template <> struct Bits<8> { using type = u64; };
template <class T> using BitsOf = typename Bits<sizeof(T)>::type;

template <class A> __device__ inline A infinity();
template <> __device__ inline float infinity<float>() { return __int_as_float(0x7f800000); }
template <> __device__ inline double infinity<double>() { return __longlong_as_double(0x7ff0000000000000ll); }

// NaN in either operand comes out, as NumPy's maximum and minimum have it
template <class A> __device__ inline A max_nan(A a, A b) { return (a >= b || a != a) ? a : b; }
template <class A> __device__ inline A min_nan(A a, A b) { return (a <= b || a != a) ? a : b; }

// ---------------------------------------------------------------------------------------------------------------------
// 16-byte accesses at any alignment

template <class T> constexpr int VECTOR = 16 / int(sizeof(T));  // elements in one 16-byte access

template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T value[N];
};

template <class T, int N> __device__ inline bool aligned(const T* pointer) {
    return reinterpret_cast<u64>(pointer) % alignof(Pack<T, N>) == 0;
}

// A pack that is known to be full and aligned.
template <int N, class T> __device__ inline Pack<T, N> load(const T* pointer) {
    return *reinterpret_cast<const Pack<T, N>*>(pointer);
}
template <int N, class T> __device__ inline void store(T* pointer, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(pointer) = pack;
}

// The first `count` (<= N) elements at `pointer`. Full and aligned: one vector access; otherwise element by element,
// which serves tails and views that start anywhere, with `rest` beyond. All threads of a warp nearly always agree on the
// branch.
template <int N, class T> __device__ inline Pack<T, N> load(const T* pointer, int count, T rest = T(0.0f)) {
    if (count == N && aligned<T, N>(pointer)) return load<N>(pointer);
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; ++k) pack.value[k] = k < count ? pointer[k] : rest;
    return pack;
}

template <int N, class T> __device__ inline void store(T* pointer, const Pack<T, N>& pack, int count) {
    if (count == N && aligned<T, N>(pointer)) return store<N>(pointer, pack);
#pragma unroll
    for (int k = 0; k < N; ++k)
        if (k < count) pointer[k] = pack.value[k];
}

template <int N, class I> __device__ inline int left(I i, I n) { return n - i < I(N) ? int(n - i) : N; }

// grid-stride loops: the first index of this thread, and the number of threads of the grid
template <class I> __device__ inline I grid_start() { return I(blockIdx.x) * I(blockDim.x) + I(threadIdx.x); }
template <class I> __device__ inline I grid_step() { return I(gridDim.x) * I(blockDim.x); }

// rows: a row belongs to blockDim.x threads, and each_pack calls f(i, count) for the packs of this thread's share of it
template <int N, class I, class F> __device__ inline void each_pack(I n, F f) {
    for (I i = N * I(threadIdx.x); i < n; i += N * I(blockDim.x)) f(i, left<N>(i, n));
}

template <class I> __device__ inline I first_row() { return I(blockIdx.x) * blockDim.y + threadIdx.y; }
template <class I> __device__ inline I row_step() { return I(gridDim.x) * blockDim.y; }

// ---------------------------------------------------------------------------------------------------------------------
// reductions in a fixed order: Op::State, Op::identity(), Op::combine(a, b)

template <class State> __device__ inline State shuffle(State state, int lane, bool down) {
    static_assert(sizeof(State) % 4 == 0, "a state is shuffled word by word");
    u32 words[sizeof(State) / 4];
    memcpy(words, &state, sizeof(State));
#pragma unroll
    for (u32& word : words)
        word = down ? __shfl_down_sync(ALL_LANES, word, lane) : __shfl_sync(ALL_LANES, word, lane);
    memcpy(&state, words, sizeof(State));
    return state;
}

// Every lane gets the warp's result. Lane 0 decides and tells the others, so combine need not commute bit for bit.
template <class Op> __device__ inline typename Op::State warp_reduce(typename Op::State state) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        state = Op::combine(state, shuffle(state, distance, true));
    return shuffle(state, 0, false);
}

// Every thread of a (256, 1) block gets the block's result. Not FENCED: one barrier less, where all threads pass another
// barrier between two calls with the same Op.
template <class Op, bool FENCED = true> __device__ inline typename Op::State block_reduce(typename Op::State state) {
    __shared__ typename Op::State warps[WARPS];
    state = warp_reduce<Op>(state);
    if (FENCED) __syncthreads();  // somebody may still be reading `warps` from the call before
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = state;
    __syncthreads();
    state = warps[0];
#pragma unroll
    for (int warp = 1; warp < WARPS; ++warp) state = Op::combine(state, warps[warp]);
    return state;
}

// A row belongs to blockDim.x threads: a warp, in blocks of (32, 8), or a whole block of (256, 1).
template <class Op, bool FENCED = true> __device__ inline typename Op::State row_reduce(typename Op::State state) {
    return blockDim.x == WARP ? warp_reduce<Op>(state) : block_reduce<Op, FENCED>(state);
}

template <class A> struct Plus {
    using State = A;
    __device__ static A identity() { return A(0); }
    __device__ static A combine(A a, A b) { return a + b; }
};

// ---------------------------------------------------------------------------------------------------------------------
// the last block: true in all threads of the block that finishes last of `blocks`; what the others wrote before is then
// visible. The ticket counts up and wraps to 0 by itself, ready for the next launch.

__device__ inline bool last_block(u32* ticket, u32 blocks) {
    __shared__ bool last;
    __threadfence();  // my writes are out before my block takes its number
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) last = atomicInc(ticket, blocks - 1) == blocks - 1;
    __syncthreads();
    __threadfence();  // and I read nothing older than the number
    return last;
}

// ---------------------------------------------------------------------------------------------------------------------
// faults: an index that is not one of `limit` is never followed; fault = {1, index, place, limit} tells the backend, for
// one of them, whoever is first.

__device__ inline void report(u64* fault, long long index, long long place, long long limit) {
    if (atomicCAS(fault, 0ull, 1ull) != 0) return;
    fault[1] = u64(index);
    fault[2] = u64(place);
    fault[3] = u64(limit);
}

// ---------------------------------------------------------------------------------------------------------------------
// Philox4x64-10 (Salmon et al., 2011) as numpy.random.Philox numbers it: NumPy steps the counter before it draws, so
// word i of Philox(key=key, counter=offset) is word i % 4 of block offset + 1 + i / 4.

struct Words {
    u64 word[4];
};

__device__ inline Words philox(u64 key0, u64 key1, u64 offset, u64 block) {
    const u64 low = offset + 1 + block;
    u64 c0 = low, c1 = low <= offset ? 1 : 0, c2 = 0, c3 = 0;  // the carry into the counter's second word
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 a = 0xD2E7470EE14C6C93ull, b = 0xCA5A826395121157ull;
        const u64 high_a = __umul64hi(a, c0), high_b = __umul64hi(b, c2);
        const u64 low_a = a * c0, low_b = b * c2;
        c0 = high_b ^ c1 ^ key0;
        c1 = low_b;
        c2 = high_a ^ c3 ^ key1;
        c3 = low_a;
        key0 += 0x9E3779B97F4A7C15ull;
        key1 += 0xBB67AE8584CAA73Bull;
    }
    return {{c0, c1, c2, c3}};
}
