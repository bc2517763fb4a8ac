// out = reduction of x over one axis of (outer, n, inner): sum, mean, prod, max, min, argmax, argmin, logsumexp, var.
//
//   reduce_rows      inner = 1: the last axis, and with one row all elements. A warp or a block a row, 16-byte loads
//   reduce_columns   inner > 1: the first axis (the bias gradient) or one between. A warp reads 32 neighbouring columns
//
// Fewest bytes: x once in, outer * inner results out. Too few rows or columns to fill the GPU: each is split over
// gridDim.y blocks that leave partial states, and the block that finishes last combines them in order of the split.
// The split depends on the shape alone, never on the GPU: the same bits on every machine, run after run.

#include "reducers.cuh"

template <class Result, class T> struct Output { using type = Result; };
template <class T> struct Output<void, T> { using type = T; };

template <template <class, class> class Op, class T, class I>
using Out = typename Output<typename Op<Acc<T>, I>::Result, T>::type;

// The variance is that of x - pivot, pivot the first element: a mean of 1e6 would eat the digits of the deviations.
template <class R, class T, class I> __device__ inline Acc<T> pivot_of(const T* from, I n) {
    return R::CENTRED && n > 0 ? widen(*from) : Acc<T>(0);
}
template <class R, class A> __device__ inline A centred(A x, A pivot) { return R::CENTRED ? x - pivot : x; }

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid (rows or fewer, splits), block (32, 8): a warp a row, or (256, 1): a block a row; splits need (256, 1),
// a workspace for (rows, splits) states and a zeroed ticket a row

template <template <class, class> class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) reduce_rows(
        I rows, I n, I pitch, Out<Op, T, I>* out, const T* x, Acc<T> divisor,
        void* workspace, u32* tickets) {
    using R = Op<Acc<T>, I>;
    using State = typename R::State;
    State* partial = static_cast<State*>(workspace);
    constexpr int N = VECTOR<T>;
    const I splits = gridDim.y, split = blockIdx.y;
    const I chunk = (n + splits * N - 1) / (splits * N) * N;  // whole packs, so that aligned rows stay aligned
    const I begin = split * chunk, end = n - begin < chunk ? n : begin + chunk;

    for (I row = I(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += I(gridDim.x) * blockDim.y) {
        const T* from = x + row * pitch;
        const Acc<T> pivot = pivot_of<R>(from, n);
        State states[N];  // one a lane of the pack: N independent chains instead of one long one
#pragma unroll
        for (int k = 0; k < N; ++k) states[k] = R::identity();
        for (I i = begin + N * I(threadIdx.x); i < end; i += N * I(blockDim.x)) {
            const int count = left<N>(i, end);
            const Pack<T, N> pack = load<N>(from + i, count);
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (k < count) states[k] = R::combine(states[k], R::element(centred<R>(widen(pack.value[k]), pivot), i + k));
        }
#pragma unroll
        for (int k = 1; k < N; ++k) states[0] = R::combine(states[0], states[k]);
        State state = row_reduce<R>(states[0]);

        if (splits > 1) {
            if (threadIdx.x == 0) partial[row * splits + split] = state;
            if (!last_block(tickets + row, u32(splits))) continue;
            state = R::identity();
            for (I s = threadIdx.x; s < splits; s += BLOCK) state = R::combine(state, partial[row * splits + s]);
            state = row_reduce<R>(state);
        }
        if (threadIdx.x == 0) out[row] = narrow<Out<Op, T, I>>(R::result(state, divisor));
    }
}

// The result of a column for its 8 threads of a (32, 8) block; right in the threads of the first warp.
template <class R> __device__ inline typename R::State column_reduce(typename R::State state) {
    __shared__ typename R::State warps[WARPS][WARP];
    __syncthreads();  // what the call before left may still be read
    warps[threadIdx.y][threadIdx.x] = state;
    __syncthreads();
    if (threadIdx.y == 0)
        for (int warp = 1; warp < WARPS; ++warp) state = R::combine(state, warps[warp][threadIdx.x]);
    return state;
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid (outer * tiles or fewer, splits), block (32, 8): a tile is 32 columns, a warp takes every 8th row of it;
// a workspace for (outer * tiles, splits, 32) states and a zeroed ticket a tile. x is (outer, n, columns) with these pitches.

template <template <class, class> class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) reduce_columns(
        I outer, I n, I columns, I outer_pitch, I pitch, Out<Op, T, I>* out, const T* x, Acc<T> divisor,
        void* workspace, u32* tickets) {
    using R = Op<Acc<T>, I>;
    using State = typename R::State;
    State* partial = static_cast<State*>(workspace);
    constexpr int UNROLL = 4;  // loads in flight
    const I splits = gridDim.y, split = blockIdx.y;
    const I chunk = (n + splits - 1) / splits;
    const I begin = split * chunk, end = n - begin < chunk ? n : begin + chunk;
    const I tiles = (columns + WARP - 1) / WARP;

    for (I tile = blockIdx.x; tile < outer * tiles; tile += gridDim.x) {
        const I batch = tile / tiles, column = (tile - batch * tiles) * WARP + threadIdx.x;
        const bool inside = column < columns;
        const T* from = x + batch * outer_pitch + column;
        const Acc<T> pivot = pivot_of<R>(from, inside ? n : I(0));
        State state = R::identity();
        for (I i = begin + I(threadIdx.y); i < end && inside; i += UNROLL * WARPS) {
            T values[UNROLL];
#pragma unroll
            for (int k = 0; k < UNROLL; ++k)
                if (end - i > k * WARPS) values[k] = from[(i + k * WARPS) * pitch];
#pragma unroll
            for (int k = 0; k < UNROLL; ++k)
                if (end - i > k * WARPS) state = R::combine(state, R::element(centred<R>(widen(values[k]), pivot), i + k * WARPS));
        }
        state = column_reduce<R>(state);

        if (splits > 1) {
            State* mine = partial + tile * splits * WARP + threadIdx.x;
            if (threadIdx.y == 0) mine[split * WARP] = state;
            if (!last_block(tickets + tile, u32(splits))) continue;
            state = R::identity();
            for (I s = threadIdx.y; s < splits; s += WARPS) state = R::combine(state, mine[s * WARP]);
            state = column_reduce<R>(state);
        }
        if (threadIdx.y == 0 && inside)
            out[batch * columns + column] = narrow<Out<Op, T, I>>(R::result(state, divisor));
    }
}
