// How elementwise kernels walk memory: the descriptions of layouts that launch code hands over, and how neighbouring
// elements of an operand are fetched. An operand is an array (a pointer) or a number (a value).
#pragma once

#include "common.cuh"

// N neighbouring elements of an array, widened; step 0 repeats one element
template <int N, class T, class A> __device__ inline void fetch(A (&to)[N], const T* pointer, bool step, int count) {
    if (step) {
        const Pack<T, N> pack = load<N>(pointer, count);
#pragma unroll
        for (int k = 0; k < N; ++k) to[k] = widen(pack.value[k]);
    } else {
        const A same = widen(*pointer);
#pragma unroll
        for (int k = 0; k < N; ++k) to[k] = same;
    }
}

// Rows of a matrix: strides in elements of each array, the result first; `column` is 0 or 1 (of the result: 1).
template <class I, int ARRAYS> struct RowStrides {
    I row[ARRAYS], column[ARRAYS];
};

// Up to 8 dimensions in C order of `shape`: strides in elements, 0 repeats, negative ones run backwards.
constexpr int DIMENSIONS = 8;

template <class I, int ARRAYS> struct Layout {
    I dimensions;
    I shape[DIMENSIONS];
    I stride[ARRAYS][DIMENSIONS];

    // where element i of the result and of each operand lies
    __device__ void locate(I i, I (&at)[ARRAYS]) const {
#pragma unroll
        for (int array = 0; array < ARRAYS; ++array) at[array] = 0;
        for (int d = int(dimensions) - 1; d >= 0; --d) {
            const I next = i / shape[d], index = i - next * shape[d];
            i = next;
#pragma unroll
            for (int array = 0; array < ARRAYS; ++array) at[array] += index * stride[array][d];
        }
    }
};
