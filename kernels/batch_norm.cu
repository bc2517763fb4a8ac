// Batch norm of the channels of x (outer, channels, inner), and the gradients of weight and bias of every norm.
//
//   out = xhat weight + bias,  xhat = (x - mean) rstd,  rstd = 1 / sqrt(var + eps)                Ioffe and Szegedy, 2015
//
// mean and var of a channel over outer and inner, or given; weight and bias (channels,). Back, m() being that mean:
//
//   d weight = sum(g xhat),  d bias = sum(g),  dx = rstd weight (g - m(g) - xhat m(g xhat))
//
// With given statistics dx = rstd weight g, itself such a norm with mean 0.
//
// Fewest bytes: statistics x in; out x in, out out; the two sums g and x in; dx g and x in, dx out.

#include "tiles.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// the statistics of a batch: x (outer, channels, inner) in; means (2, channels), vars (channels,) out, and
//
//   running_mean = (1 - momentum) running_mean + momentum mean,   running_var likewise with var n / (n - 1)
//
// By Welford's recurrence, of x - (the channel's first element): a large mean costs no digits.
// launcher: grid (tiles or fewer, splits), a workspace for (tiles, splits, blockDim.x, LANES) states, a zeroed ticket a
// tile; running_mean and running_var both null, or neither

template <bool COLUMNS, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) batch_norm_statistics(
        I outer, I channels, I inner, Acc<T>* means, Acc<T>* vars, T* running_mean, T* running_var, const T* x,
        Acc<T> momentum, void* workspace, u32* tickets) {
    using A = Acc<T>;
    using Op = Var<A, I>;
    using Walk = Tile<COLUMNS, T, I>;
    constexpr int N = Walk::N, LANES = Walk::LANES;
    for (I tile = blockIdx.x; tile < Walk::number(channels); tile += gridDim.x) {
        const Walk walk(tile, outer, channels, inner);
        const Pack<T, LANES> pivot = load<LANES>(x + walk.start(), walk.count);
        typename Op::State states[LANES];
#pragma unroll
        for (int k = 0; k < LANES; ++k) states[k] = Op::identity();
        walk.template each<4>(
            [&](I offset, I, int n) { return load<N>(x + offset, n); },
            [&](const Pack<T, N>& pack, I, int n) {
                A values[N];
#pragma unroll
                for (int k = 0; k < N; ++k) values[k] = widen(pack.value[k]) - widen(pivot.value[Walk::lane(k)]);
                if (COLUMNS) {  // one more element for each channel: one division for all of them
                    const A count = states[0].count + A(1), share = A(1) / count;
#pragma unroll
                    for (int k = 0; k < LANES; ++k) {
                        const A d = values[k] - states[k].mean, mean = fma(d, share, states[k].mean);
                        states[k] = {count, mean, fma(d, values[k] - mean, states[k].squares)};
                    }
                } else {
                    states[0] = Op::combine(states[0], Op::run(values, n));
                }
            });
        if (!combine_tile<Op>(states, tile, workspace, tickets)) continue;
#pragma unroll
        for (int k = 0; k < LANES; ++k)
            if (k < walk.count) {
                const I c = walk.channel + k;
                const A base = widen(pivot.value[k]), mean = base + states[k].mean;
                const A var = states[k].squares / states[k].count;
                const A back = mean - base;  // what the sum rounded away (Knuth's two-sum)
                means[c] = mean;
                means[channels + c] = (base - (mean - back)) + (states[k].mean - back);
                vars[c] = var;
                if (running_mean) {
                    const A keep = A(1) - momentum, unbiased = states[k].squares / (states[k].count - A(1));
                    running_mean[c] = narrow<T>(keep * widen(running_mean[c]) + momentum * mean);
                    running_var[c] = narrow<T>(keep * widen(running_var[c]) + momentum * unbiased);
                }
            }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// batch_norm with the statistics at hand: x in, out out, both (outer, channels, inner)
// launcher: grid (tiles or fewer, splits), any; high, low, weight and bias may be null

template <bool COLUMNS, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) batch_norm_apply(
        I outer, I channels, I inner, T* out, const T* x, const Acc<T>* high, const Acc<T>* low, const Acc<T>* vars,
        const T* weight, const T* bias, Acc<T> eps) {
    using A = Acc<T>;
    using Walk = Tile<COLUMNS, T, I>;
    constexpr int N = Walk::N, LANES = Walk::LANES;
    for (I tile = blockIdx.x; tile < Walk::number(channels); tile += gridDim.x) {
        const Walk walk(tile, outer, channels, inner);
        Centre<A> centre[LANES];
        A scale[LANES], shift[LANES];
#pragma unroll
        for (int k = 0; k < LANES; ++k)
            if (k < walk.count) {
                const I c = walk.channel + k;
                centre[k] = centre_at(high, low, c);
                scale[k] = A(1) / sqrt(vars[c] + eps);
                if (weight) scale[k] *= widen(weight[c]);
                shift[k] = bias ? widen(bias[c]) : A(0);
            }
        walk.template each<4>(
            [&](I offset, I, int n) { return load<N>(x + offset, n); },
            [&](Pack<T, N> pack, I offset, int n) {
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const int lane = Walk::lane(k);
                    pack.value[k] = narrow<T>(fma(centre[lane](widen(pack.value[k])), scale[lane], shift[lane]));
                }
                store<N>(out + offset, pack, n);
            });
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// sums (2, channels) of g xhat and of g over outer and inner: the gradients of weight and bias, and what dx is made of.
// BY_ROW: the statistics are those of the rows (layer norm: channels = n, inner = 1, spread holds rstd), else those of
// the channels (spread holds var).
// launcher: as batch_norm_statistics; high and low may be null

template <class T, int N> struct Both {
    Pack<T, N> g, x;
    Acc<T> rstd;
    Centre<Acc<T>> centre;
};

template <bool COLUMNS, bool BY_ROW, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) norm_sums(
        I outer, I channels, I inner, Acc<T>* sums, const T* g, const T* x, const Acc<T>* high, const Acc<T>* low,
        const Acc<T>* spread, Acc<T> eps, void* workspace, u32* tickets) {
    using A = Acc<T>;
    using Op = AddTwo<A>;
    using Walk = Tile<COLUMNS, T, I>;
    constexpr int N = Walk::N, LANES = Walk::LANES;
    for (I tile = blockIdx.x; tile < Walk::number(channels); tile += gridDim.x) {
        const Walk walk(tile, outer, channels, inner);
        typename Op::State states[LANES];
        A base[LANES];
#pragma unroll
        for (int k = 0; k < LANES; ++k) {
            states[k] = Op::identity();
            base[k] = !BY_ROW && high && k < walk.count ? high[walk.channel + k] : A(0);
        }
        walk.template each<2>(
            [&](I offset, I row, int n) {
                Both<T, N> both;
                both.g = load<N>(g + offset, n);
                both.x = load<N>(x + offset, n);
                if (BY_ROW) {
                    both.rstd = spread[row];
                    both.centre = centre_at(high, low, row);
                }
                return both;
            },
            [&](const Both<T, N>& both, I, int n) {
#pragma unroll
                for (int k = 0; k < N; ++k)
                    if (k < n) {
                        typename Op::State& state = states[Walk::lane(k)];
                        const A d = widen(both.g.value[k]), v = widen(both.x.value[k]);
                        const A deviation = BY_ROW ? both.centre(v) * both.rstd : v - base[Walk::lane(k)];
                        state = {fma(d, deviation, state.first), state.second + d};
                    }
            });
        if (!combine_tile<Op>(states, tile, workspace, tickets)) continue;
#pragma unroll
        for (int k = 0; k < LANES; ++k)
            if (k < walk.count) {
                const I c = walk.channel + k;
                A first = states[k].first;
                if (!BY_ROW) first = (first - (low ? low[c] * states[k].second : A(0))) / sqrt(spread[c] + eps);
                sums[c] = first;
                sums[channels + c] = states[k].second;
            }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// the gradient of a batch norm in training: g, x in, dx out, all (outer, channels, inner); sums as above.
// launcher: grid (tiles or fewer, splits), any; weight may be null

template <bool COLUMNS, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) batch_norm_backward(
        I outer, I channels, I inner, T* dx, const T* g, const T* x, const T* weight, const Acc<T>* means,
        const Acc<T>* vars, const Acc<T>* sums, Acc<T> eps) {
    using A = Acc<T>;
    using Walk = Tile<COLUMNS, T, I>;
    constexpr int N = Walk::N, LANES = Walk::LANES;
    const A n = A(outer) * A(inner);
    for (I tile = blockIdx.x; tile < Walk::number(channels); tile += gridDim.x) {
        const Walk walk(tile, outer, channels, inner);
        A base[LANES], scale[LANES], slope[LANES], shift[LANES];  // dx = scale (g - shift - slope (x - base))
#pragma unroll
        for (int k = 0; k < LANES; ++k)
            if (k < walk.count) {
                const I c = walk.channel + k;
                const A rstd = A(1) / sqrt(vars[c] + eps);
                base[k] = means[c];
                scale[k] = weight ? rstd * widen(weight[c]) : rstd;
                slope[k] = rstd * (sums[c] / n);
                shift[k] = sums[channels + c] / n - slope[k] * means[channels + c];
            }
        walk.template each<2>(
            [&](I offset, I, int count) {
                Both<T, N> both;
                both.g = load<N>(g + offset, count);
                both.x = load<N>(x + offset, count);
                return both;
            },
            [&](Both<T, N> both, I offset, int count) {
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const int j = Walk::lane(k);
                    const A d = widen(both.g.value[k]) - shift[j] - slope[j] * (widen(both.x.value[k]) - base[j]);
                    both.g.value[k] = narrow<T>(scale[j] * d);
                }
                store<N>(dx + offset, both.g, count);
            });
    }
}
