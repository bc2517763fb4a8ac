// out = f(x, ...), element by element: a chain of functors in one pass, with the bits of the chain run one by one.
//
//   chain_contiguous, chain_rows, chain_strided   the patterns of elementwise.cu
//
// backends/launching/chain.py writes a file that includes this one and defines the chain, of operands v[0], v[1], ...:
//
//     struct Chain {
//         template <class T, class A, int N> __device__ static auto apply(const A (&v)[N]) {
//             const A v2 = kept<T>(Add::apply(v[0], v[1]));
//             return Relu::apply(v2);
//         }
//     };
//
// X are the operands' types: const T* or const bool* for an array, Acc<T> for a number. Fewest bytes: each array once in,
// the result once out. What is computed on the way stays in registers, rounded to T as if it had been stored.
#pragma once

#include "functors.cuh"
#include "patterns.cuh"

template <class T, class A> __device__ inline A kept(A x) { return widen(narrow<T>(x)); }
template <class T> __device__ inline Acc<T> kept(bool x) { return Acc<T>(x); }

template <class X> __device__ inline X ahead(X value, ...) { return value; }
template <class X, class I> __device__ inline const X* ahead(const X* pointer, I by) { return pointer + by; }

// an operand that is a number
template <int N, class A> __device__ inline void fetch(A (&to)[N], A value, bool, int) {
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = value;
}

template <class Chain, class T, class Out, int N, int INPUTS>
__device__ inline void apply_to(Out* out, const Acc<T> (&values)[INPUTS][N], int count) {
    Pack<Out, N> pack;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        Acc<T> v[INPUTS];
#pragma unroll
        for (int input = 0; input < INPUTS; ++input) v[input] = values[input][k];
        pack.value[k] = narrow<Out>(Chain::template apply<T>(v));
    }
    store<N>(out, pack, count);
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as map_contiguous

template <class Chain, class T, class Out, class I, class... X>
__global__ void __launch_bounds__(BLOCK, RESIDENT) chain_contiguous(I n, Out* out, X... x) {
    constexpr int N = VECTOR<T>, INPUTS = sizeof...(X);
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Acc<T> values[INPUTS][N];
        int input = 0;
        (fetch<N>(values[input++], ahead(x, i), true, count), ...);
        apply_to<Chain, T>(out + i, values, count);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as map_rows

template <class Chain, class T, class Out, class I, class... X>
__global__ void __launch_bounds__(BLOCK, RESIDENT) chain_rows(
        I rows, I columns, RowStrides<I, 1 + sizeof...(X)> strides, Out* out, X... x) {
    constexpr int N = VECTOR<T>, INPUTS = sizeof...(X);
    for (I r = I(blockIdx.y) * blockDim.y + threadIdx.y; r < rows; r += I(gridDim.y) * blockDim.y) {
        for (I c = N * grid_start<I>(); c < columns; c += N * grid_step<I>()) {
            const int count = left<N>(c, columns);
            Acc<T> values[INPUTS][N];
            int input = 0, slot = 1;
            ((fetch<N>(values[input++], ahead(x, r * strides.row[slot] + c * strides.column[slot]), strides.column[slot],
                       count), ++slot), ...);
            apply_to<Chain, T>(out + r * strides.row[0] + c, values, count);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as map_strided

template <class Chain, class T, class Out, class I, class... X>
__global__ void __launch_bounds__(BLOCK, RESIDENT) chain_strided(
        I n, Layout<I, 1 + sizeof...(X)> layout, Out* out, X... x) {
    constexpr int INPUTS = sizeof...(X);
    for (I i = grid_start<I>(); i < n; i += grid_step<I>()) {
        I at[1 + INPUTS];
        layout.locate(i, at);
        Acc<T> values[INPUTS][1];
        int input = 0, slot = 1;
        ((fetch<1>(values[input++], ahead(x, at[slot]), true, 1), ++slot), ...);
        apply_to<Chain, T>(out + at[0], values, 1);
    }
}
