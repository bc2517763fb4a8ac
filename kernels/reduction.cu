// out = reduction of x over one axis of (outer, n, inner): sum, mean, prod, max, min, argmax, argmin, logsumexp, var.
//
//   reduce_rows      inner = 1: the last axis, and with one row all elements. A warp or a block a row, 16-byte loads
//   reduce_columns   inner > 1: the first axis (the bias gradient) or one between. A lane reads a pack of columns
//
// Fewest bytes: x once in, outer * inner results out. Too few rows or columns to fill the GPU: each is split over
// gridDim.y blocks that leave partial states, and the block that finishes last combines them in order of the split.
// The split depends on the shape alone, never on the GPU: the same bits on every machine, run after run.

#include "columns.cuh"

template <class Result, class T> struct Output { using type = Result; };
template <class T> struct Output<void, T> { using type = T; };

template <template <class, class> class Op, class T, class I>
using Out = typename Output<typename Op<Acc<T>, I>::Result, T>::type;

// The variance is that of x - pivot, pivot the first element: a mean of 1e6 would eat the digits of the deviations.
template <class R, class A> __device__ inline A centred(A x, A pivot) { return R::CENTRED ? x - pivot : x; }

// row_reduce for thread 0 alone: the other warps of a block do not repeat what the first one combines. Seven combinations
// in every thread would cost more than a row of a few thousand elements.
template <class R> __device__ inline typename R::State row_result(typename R::State state) {
    __shared__ typename R::State warps[WARPS];
    state = warp_reduce<R>(state);
    if (blockDim.x == WARP) return state;
    __syncthreads();  // somebody may still be reading `warps` from the call before
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = state;
    __syncthreads();
    if (threadIdx.x < WARP) {
        state = warps[threadIdx.x % WARPS];
#pragma unroll
        for (int distance = WARPS / 2; distance > 0; distance /= 2)
            state = R::combine(state, shuffle(state, distance, true));
    }
    return state;
}

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
    constexpr int N = VECTOR<T>, UNROLL = 4;  // packs in flight
    constexpr int RUN = N > 4 ? 2 : UNROLL;  // packs in one run: 32 numbers would spill
    const I splits = gridDim.y, split = blockIdx.y, step = N * I(blockDim.x);
    const I chunk = (n + splits * N - 1) / (splits * N) * N;  // whole packs, so that aligned rows stay aligned
    const I begin = split * chunk, end = n - begin < chunk ? n : begin + chunk;

    for (I row = I(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += I(gridDim.x) * blockDim.y) {
        const T* from = x + row * pitch;
        const Acc<T> pivot = R::CENTRED ? widen(*from) : Acc<T>(0);
        State state = R::identity();
        for (I i = begin + N * I(threadIdx.x); i < end; i += UNROLL * step) {
            Pack<T, N> packs[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u)
                if (end - i > u * step) packs[u] = load<N>(from + i + u * step, left<N>(i + u * step, end));
            if constexpr (R::RUNS)
                if (end - i >= (UNROLL - 1) * step + N) {  // all are there: long runs
#pragma unroll
                    for (int u = 0; u < UNROLL; u += RUN) {
                        Acc<T> values[RUN * N];
#pragma unroll
                        for (int k = 0; k < RUN * N; ++k)
                            values[k] = centred<R>(widen(packs[u + k / N].value[k % N]), pivot);
                        state = R::combine(state, R::run(values, RUN * N));
                    }
                    continue;
                }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u)
                if (end - i > u * step) {
                    Acc<T> values[N];
#pragma unroll
                    for (int k = 0; k < N; ++k) values[k] = centred<R>(widen(packs[u].value[k]), pivot);
                    const I at = i + u * step;
                    state = R::combine(state, run_of<R>(values, left<N>(at, end), at, I(1)));
                }
        }
        state = row_result<R>(state);

        if (splits > 1) {
            if (threadIdx.x == 0) partial[row * splits + split] = state;
            if (!last_block(tickets + row, u32(splits))) continue;
            state = R::identity();
            for (I s = threadIdx.x; s < splits; s += BLOCK) state = R::combine(state, partial[row * splits + s]);
            state = row_result<R>(state);
        }
        if (threadIdx.x == 0) out[row] = narrow<Out<Op, T, I>>(R::result(state, divisor));
    }
}

template <class R, class T, class I> struct Columns {
    static constexpr int N = Tile<true, T, I>::N;
    static constexpr int ROWS = R::RUNS && sizeof(Acc<T>) > 4 ? 2 : 4;  // more would spill
    const T* from;
    I pitch;
    int count;
    Pack<T, N> pivots;

    __device__ Pack<T, N> load(I i) const { return ::load<N>(from + i * pitch, count); }
    __device__ void values(const Pack<T, N>& pack, I, Acc<T> (&to)[N]) const {
#pragma unroll
        for (int k = 0; k < N; ++k) to[k] = centred<R>(widen(pack.value[k]), widen(pivots.value[k]));
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as reduce_tiles says; x is (outer, n, columns) with these pitches

template <template <class, class> class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) reduce_columns(
        I outer, I n, I columns, I outer_pitch, I pitch, Out<Op, T, I>* out, const T* x, Acc<T> divisor,
        void* workspace, u32* tickets) {
    using R = Op<Acc<T>, I>;
    using Lane = Columns<R, T, I>;
    reduce_tiles<R, T>(
            outer, n, columns, workspace, tickets,
            [=](I batch, I column, int count) {
                const T* from = x + batch * outer_pitch + column;
                return Lane{from, pitch, count, load<Lane::N>(from, R::CENTRED ? count : 0)};
            },
            [=](I batch, I column, typename R::State state) {
                out[batch * columns + column] = narrow<Out<Op, T, I>>(R::result(state, divisor));
            });
}
