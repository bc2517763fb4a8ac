// What norms share: a mean in two numbers, and the walk over (outer, channels, inner) with a result for each channel.
#pragma once

#include "reducers.cuh"

// A mean is kept as two numbers, high + low: low is what rounding took from high. x - high is exact near high, so
// (x - high) - low has all its digits however large the mean is.
template <class A> struct Centre {
    A high, low;
    __device__ A operator()(A x) const { return (x - high) - low; }
};

// number i of the means: high[i] + low[i]; no high: zero, no low: high is all there is
template <class A, class I> __device__ inline Centre<A> centre_at(const A* high, const A* low, I i) {
    return {high ? high[i] : A(0), low ? low[i] : A(0)};
}

template <class A> struct Two {
    A first, second;
};
template <class A> struct AddTwo {
    using State = Two<A>;
    __device__ static State identity() { return {A(0), A(0)}; }
    __device__ static State combine(State a, State b) { return {a.first + b.first, a.second + b.second}; }
};

// ---------------------------------------------------------------------------------------------------------------------
// How a block walks x (outer, channels, inner), tile by tile; gridDim.y blocks share one tile's items.
//
//   COLUMNS (inner = 1)   a tile is blockDim.x packs of neighbouring channels, an item one row of them
//   else                  a tile is one channel, an item one pack of a row of length inner; blockDim.x = 1
//
// The threads of a column of the block, one for each threadIdx.y, take the items in turn.

template <bool COLUMNS, class T, class I> struct Tile {
    static constexpr int N = COLUMNS && VECTOR<T> > 4 ? 4 : VECTOR<T>;  // 8 columns a thread would spill registers
    static constexpr int LANES = COLUMNS ? N : 1;  // channels of a thread; element k of a pack is of channel lane(k)

    I channels, inner, packs, channel, begin, end;
    int count;  // how many of the channels there are

    __device__ static int lane(int k) { return COLUMNS ? k : 0; }
    __device__ static I number(I channels) {
        return COLUMNS ? (channels + N * I(blockDim.x) - 1) / (N * I(blockDim.x)) : channels;
    }
    __device__ Tile(I tile, I outer, I channels, I inner) : channels(channels), inner(inner) {
        packs = COLUMNS ? I(1) : (inner + N - 1) / N;
        channel = COLUMNS ? N * (tile * I(blockDim.x) + I(threadIdx.x)) : tile;
        count = channel >= channels ? 0 : COLUMNS ? left<N>(channel, channels) : 1;
        const I items = outer * packs, chunk = (items + I(gridDim.y) - 1) / I(gridDim.y), first = I(blockIdx.y) * chunk;
        begin = first + I(threadIdx.y);
        end = items - first < chunk ? items : first + chunk;
        if (count == 0) end = begin;
    }
    // where the channels begin in the first row, to load `count` from
    __device__ I start() const { return COLUMNS ? channel : channel * inner; }

    // use(fetch(offset, row, n), offset, n) for the packs of n <= N elements of this thread, UNROLL of them in flight
    template <int UNROLL, class Fetch, class Use> __device__ void each(Fetch fetch, Use use) const {
        for (I item = begin; item < end; item += UNROLL * I(blockDim.y)) {
            decltype(fetch(item, item, 0)) fetched[UNROLL];
            I offset[UNROLL];
            int n[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const I at = item + u * I(blockDim.y), row = COLUMNS ? at : at / packs, i = N * (at - row * packs);
                n[u] = at >= end ? 0 : COLUMNS ? count : left<N>(i, inner);
                offset[u] = COLUMNS ? at * channels + channel : (row * channels + channel) * inner + i;
                if (n[u] > 0) fetched[u] = fetch(offset[u], row, n[u]);
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u)
                if (n[u] > 0) use(fetched[u], offset[u], n[u]);
        }
    }
};

// The states of the threads of each column of the block, combined in a fixed order: right where threadIdx.y is 0.
template <class Op, int LANES> __device__ inline void combine_column(typename Op::State (&states)[LANES]) {
    __shared__ typename Op::State moved[LANES][BLOCK / 2];
    for (int height = int(blockDim.y), half; height > 1; height = half) {
        half = (height + 1) / 2;
        const int y = int(threadIdx.y), place = y % half * int(blockDim.x) + int(threadIdx.x);
        __syncthreads();  // what was moved before has been read
        if (y >= half && y < height)
            for (int k = 0; k < LANES; ++k) moved[k][place] = states[k];
        __syncthreads();
        if (y + half < height)
            for (int k = 0; k < LANES; ++k) states[k] = Op::combine(states[k], moved[k][place]);
    }
}

// The same over all blocks that share a tile: true in the threads that hold its states then.
template <class Op, int LANES, class I>
__device__ inline bool combine_tile(typename Op::State (&states)[LANES], I tile, void* workspace, u32* tickets) {
    combine_column<Op>(states);
    if (gridDim.y > 1) {  // workspace: (tiles, splits, blockDim.x, LANES)
        typename Op::State* partial = static_cast<typename Op::State*>(workspace);
        auto place = [&](u32 split) {
            return partial + ((u64(tile) * gridDim.y + split) * blockDim.x + threadIdx.x) * LANES;
        };
        if (threadIdx.y == 0)
            for (int k = 0; k < LANES; ++k) place(blockIdx.y)[k] = states[k];
        if (!last_block(tickets + tile, gridDim.y)) return false;
        for (int k = 0; k < LANES; ++k) states[k] = Op::identity();
#pragma unroll 2
        for (u32 split = threadIdx.y; split < gridDim.y; split += blockDim.y)  // the loads of two splits at once
            for (int k = 0; k < LANES; ++k) states[k] = Op::combine(states[k], place(split)[k]);
        combine_column<Op>(states);
    }
    return threadIdx.y == 0;
}
