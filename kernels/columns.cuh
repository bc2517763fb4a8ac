// Reductions along columns of (outer, n, columns): what kernels that reduce an axis other than the last share.
//
// A tile is 32 neighbouring columns, a warp of a (32, 8) block takes every 8th row of it. Too few tiles to fill the GPU:
// each is split over gridDim.y blocks, and the block that finishes last combines their states in order of the split.
#pragma once

#include "reducers.cuh"

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

// `lane(batch, column, inside)` gives a thread what it needs of its column (inside: there is one): .load(i) reads row i,
// .element(loaded, i) makes it a state. finish(batch, column, state) takes the result.
// launcher: grid (outer * tiles or fewer, splits), block (32, 8); with splits a workspace for (outer * tiles, splits, 32)
// states and a zeroed ticket a tile.
template <class R, class I, class Lane, class Finish>
__device__ inline void reduce_tiles(I outer, I n, I columns, void* workspace, u32* tickets, Lane lane, Finish finish) {
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
        auto mine = lane(batch, column, inside);
        State state = R::identity();
        for (I i = begin + I(threadIdx.y); i < end && inside; i += UNROLL * WARPS) {
            decltype(mine.load(i)) values[UNROLL];
#pragma unroll
            for (int k = 0; k < UNROLL; ++k)
                if (end - i > k * WARPS) values[k] = mine.load(i + k * WARPS);
#pragma unroll
            for (int k = 0; k < UNROLL; ++k)
                if (end - i > k * WARPS) state = R::combine(state, mine.element(values[k], i + k * WARPS));
        }
        state = column_reduce<R>(state);

        if (splits > 1) {
            State* all = partial + tile * splits * WARP + threadIdx.x;
            if (threadIdx.y == 0) all[split * WARP] = state;
            if (!last_block(tickets + tile, u32(splits))) continue;
            state = R::identity();
            for (I s = threadIdx.y; s < splits; s += WARPS) state = R::combine(state, all[s * WARP]);
            state = column_reduce<R>(state);
        }
        if (threadIdx.y == 0 && inside) finish(batch, column, state);
    }
}
