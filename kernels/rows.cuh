// Rows of a matrix in the registers of the threads that they belong to: a warp, in blocks of (32, 8), or a block of (256, 1).
#pragma once

#include "common.cuh"

// A thread takes PACKS packs of its row at a time: all loads are under way at once, and a row that is one chunk long stays
// in registers. Of floats that are rows of up to 1,024 for a warp, and of up to 8,192 for a block.
template <class T, int PACKS> struct Chunk {
    static constexpr int N = VECTOR<T>;
    Pack<T, N> packs[PACKS];

    template <class I> __device__ static I step() { return N * I(blockDim.x); }
    template <class I> __device__ static bool is_whole(I n) { return n <= PACKS * step<I>(); }

    // f(i) for the chunks of this thread in a row of n
    template <class I, class F> __device__ static void each(I n, F f) {
        for (I i = N * I(threadIdx.x); i < n; i += PACKS * step<I>()) f(i);
    }
    // whether a row is full: all chunks have all packs, which are whole and aligned
    template <class I> __device__ static bool is_full(const T* x, I n) {
        return n % (PACKS * step<I>()) == 0 && aligned<T, N>(x);
    }
    // f(u) for the packs that there are, of a FULL row all. To ask once a pack, not once an element, keeps exponentials free
    // of branches: the last pack is filled up with numbers that change nothing.
    template <bool FULL = false, class I, class F> __device__ static void packs_of(I i, I n, F f) {
#pragma unroll
        for (int u = 0; u < PACKS; ++u)
            if (FULL || n - i > u * step<I>()) f(u);
    }
    template <bool FULL = false, class I> __device__ void read(const T* x, I i, I n, T rest) {
        packs_of<FULL>(i, n, [&](int u) {
            const I at = i + u * step<I>();
            packs[u] = FULL ? load<N>(x + at) : load<N>(x + at, left<N>(at, n), rest);
        });
    }
    // f(x, u, k): what takes the place of element k of pack u
    template <class I, class F> __device__ void write(T* out, I i, I n, F f) {
        packs_of(i, n, [&](int u) {
#pragma unroll
            for (int k = 0; k < N; ++k) packs[u].value[k] = narrow<T>(f(widen(packs[u].value[k]), u, k));
            store<N>(out + i + u * step<I>(), packs[u], left<N>(i + u * step<I>(), n));
        });
    }
};

template <class T> using Row = Chunk<T, sizeof(T) == 4 ? 8 : 4>;  // of doubles more would spill
template <class T> using Pair = Chunk<T, sizeof(T) == 2 ? 2 : 4>;  // where two rows are read together
