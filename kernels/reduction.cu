// out = reduction of x over one axis of (outer, n, inner): sum, mean, prod, max, min, argmax, argmin, logsumexp, var.
//
//   reduce_rows      inner = 1: the last axis, and with one row all elements. A warp or a block a row, 16-byte loads
//   reduce_columns   inner > 1: the first axis (the bias gradient) or one between. A warp reads 32 neighbouring columns
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

template <class R, class T, class I> struct Column {
    const T* from;
    I pitch;
    Acc<T> pivot;

    __device__ T load(I i) const { return from[i * pitch]; }
    __device__ typename R::State element(T x, I i) const { return R::element(centred<R>(widen(x), pivot), i); }
};

// ---------------------------------------------------------------------------------------------------------------------
// launcher: as reduce_tiles says; x is (outer, n, columns) with these pitches

template <template <class, class> class Op, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) reduce_columns(
        I outer, I n, I columns, I outer_pitch, I pitch, Out<Op, T, I>* out, const T* x, Acc<T> divisor,
        void* workspace, u32* tickets) {
    using R = Op<Acc<T>, I>;
    reduce_tiles<R>(
            outer, n, columns, workspace, tickets,
            [=](I batch, I column, bool inside) {
                const T* from = x + batch * outer_pitch + column;
                return Column<R, T, I>{from, pitch, pivot_of<R>(from, inside ? n : I(0))};
            },
            [=](I batch, I column, typename R::State state) {
                out[batch * columns + column] = narrow<Out<Op, T, I>>(R::result(state, divisor));
            });
}
