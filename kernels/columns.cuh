// Reductions along columns of (outer, n, columns): what kernels that reduce an axis other than the last share.
//
// The tiles are those of tiles.cuh: a thread takes a pack of neighbouring columns, and every blockDim.y-th row of them.
// Too few tiles to fill the GPU: each is split over gridDim.y blocks, and the block that finishes last combines their
// states in order of the split.
#pragma once

#include "tiles.cuh"

// `lane(batch, column, count)` gives a thread what it needs of its pack, `count` columns from `column` on: .load(i) reads
// row i, .values(loaded, i, to) makes it the N values to reduce, and ROWS rows are in flight. finish(batch, column, state)
// takes a result. Where the reducer has no runs, ROWS changes no bits.
// launcher: grid (outer * tiles or fewer, splits), block (packs, rows); with splits a workspace for (outer * tiles, splits,
// blockDim.x, N) states and a zeroed ticket a tile
template <class R, class T, class I, class Lane, class Finish>
__device__ inline void reduce_tiles(I outer, I n, I columns, void* workspace, u32* tickets, Lane lane, Finish finish) {
    using Walk = Tile<true, T, I>;
    constexpr int N = Walk::N;
    const I tiles = Walk::number(columns), height = I(blockDim.y);

    for (I tile = blockIdx.x; tile < outer * tiles; tile += gridDim.x) {
        const I batch = tile / tiles;
        const Walk walk(tile - batch * tiles, n, columns, I(1));
        auto mine = lane(batch, walk.channel, walk.count);
        constexpr int ROWS = decltype(mine)::ROWS;
        typename R::State states[N];
#pragma unroll
        for (int k = 0; k < N; ++k) states[k] = R::identity();
        for (I i = walk.begin; i < walk.end; i += ROWS * height) {
            decltype(mine.load(i)) loaded[ROWS];
            Acc<T> row[N], runs[N][ROWS];
            int count = 0;
#pragma unroll
            for (int u = 0; u < ROWS; ++u)
                if (walk.end - i > u * height) loaded[u] = mine.load(i + u * height);
#pragma unroll
            for (int u = 0; u < ROWS; ++u)
                if (walk.end - i > u * height) {
                    mine.values(loaded[u], i + u * height, row);
#pragma unroll
                    for (int k = 0; k < N; ++k) {
                        if constexpr (R::RUNS)
                            runs[k][u] = row[k];
                        else
                            states[k] = append<R>(states[k], row[k], i + u * height);
                    }
                    ++count;
                }
            if constexpr (R::RUNS)
#pragma unroll
                for (int k = 0; k < N; ++k)
                    states[k] = R::combine(states[k], count == ROWS ? R::run(runs[k], ROWS) : R::run(runs[k], count));
        }
        if (!combine_tile<R>(states, tile, workspace, tickets)) continue;
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < walk.count) finish(batch, walk.channel + k, states[k]);
    }
}
