// Layer norm and RMS norm along the rows of x (rows, n).
//
//   layer_norm   out = xhat weight + bias,  xhat = (x - mean) rstd,  rstd = 1 / sqrt(var + eps)     Ba et al., 2016
//   rms_norm     out = xhat weight,  xhat = x rstd,  rstd = 1 / sqrt(m(x^2) + eps)        Zhang and Sennrich, 2019
//
// and back, m() being the mean over the row (an RMS norm has no second term):
//
//   dx = rstd (g weight - m(g weight) - xhat m(g weight xhat))
//
// Fewest bytes: x in, out out; back g and x in, dx out. A row belongs to a warp, in blocks of (32, 8), or to a block of
// (256, 1) when it is long. Forward it stays in registers where it fits; else, and back, it is walked again out of the
// cache. The gradients of weight and bias are sums over columns: norm_sums in batch_norm.cu.

#include "rows.cuh"
#include "tiles.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// layer_norm (CENTRED), rms_norm: x (rows, n), weight (n,), bias (n,) in; out (rows, n), means (2, rows), rstds (rows,) out.
// A row of whole, aligned packs that fits into Part of each thread (Pair, or Row where Pair is too short) is read once; any
// other is walked for the mean, for the deviations, and to write.
// launcher: grid rows or fewer; weight and bias may be null

// How the threads of a row come by its packs, three times: each(f) calls f(pack, i, count) for those of this thread.
template <class T, class I> struct Walked {  // out of the cache again, from anywhere
    static constexpr int N = VECTOR<T>;
    const T* x;
    I n;

    template <class F> __device__ void each(F f) const {
        each_pack<N>(n, [&](I i, int count) { f(load<N>(x + i, count), i, count); });
    }
    __device__ static Pack<T, N> get(const T* from, int count) { return load<N>(from, count); }
    __device__ static void put(T* to, const Pack<T, N>& pack, int count) { store<N>(to, pack, count); }
};

template <class Part, class T> struct Held {  // in registers; packs are whole and aligned, of all operands
    static constexpr int N = VECTOR<T>;
    Part chunk;
    int n;

    __device__ Held(const T* x, int n) : n(n) {
        const int i = N * threadIdx.x;
        chunk.packs_of(i, n, [&](int u) { chunk.packs[u] = load<N>(x + i + u * chunk.template step<int>()); });
    }
    template <class F> __device__ void each(F f) const {
        const int i = N * threadIdx.x;
        chunk.packs_of(i, n, [&](int u) { f(chunk.packs[u], i + u * chunk.template step<int>(), N); });
    }
    __device__ static Pack<T, N> get(const T* from, int) { return load<N>(from); }
    __device__ static void put(T* to, const Pack<T, N>& pack, int) { store<N>(to, pack); }
};

template <bool CENTRED, class Values, class T, class I>
__device__ inline void layer_norm_row(
        const Values& x, I row, I rows, T* out, Acc<T>* means, Acc<T>* rstds, const T* weight, const T* bias, Acc<T> eps) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    using Index = decltype(x.n);
    constexpr bool FENCED = !CENTRED;  // the sum's barrier stands between two rows' moments, and theirs between two sums
    Centre<A> centre = {A(0), A(0)};
    if (CENTRED) {
        A sum = A(0);
        x.each([&](const Pack<T, N>& pack, Index, int count) {
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (k < count) sum += widen(pack.value[k]);
        });
        centre.high = row_reduce<Plus<A>, FENCED>(sum) / A(x.n);
    }
    Two<A> moments = {A(0), A(0)};
    x.each([&](const Pack<T, N>& pack, Index, int count) {
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < count) {
                const A d = widen(pack.value[k]) - centre.high;
                moments = {moments.first + d, fma(d, d, moments.second)};
            }
    });
    moments = row_reduce<AddTwo<A>, FENCED>(moments);
    if (CENTRED) centre.low = moments.first / A(x.n);
    const A var = moments.second / A(x.n) - centre.low * centre.low;  // low is tiny beside the deviations: no cancellation
    const A rstd = A(1) / sqrt((var < A(0) ? A(0) : var) + eps);
    x.each([&](const Pack<T, N>& pack, Index i, int count) {
        Pack<T, N> scale, shift, result;
        if (weight) scale = Values::get(weight + i, count);
        if (bias) shift = Values::get(bias + i, count);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            A y = centre(widen(pack.value[k])) * rstd;
            if (weight) y *= widen(scale.value[k]);
            if (bias) y += widen(shift.value[k]);
            result.value[k] = narrow<T>(y);
        }
        Values::put(out + i, result, count);
    });
    if (threadIdx.x == 0) {
        rstds[row] = rstd;
        if (CENTRED) {
            means[row] = centre.high;
            means[rows + row] = centre.low;
        }
    }
}

// Blocks that a multiprocessor must hold: 5 of Pairs, and fewer where registers would spill.
template <class Part, class T, class I>
constexpr int HOLDERS = sizeof(T) == 8 || sizeof(Part) > sizeof(Pair<T>) ? RESIDENT
                        : sizeof(T) == 2 && (TIGHT || sizeof(I) == 8)    ? RESIDENT
                                                                         : 5;

template <bool CENTRED, template <class> class Part, class T, class I>
__global__ void __launch_bounds__(BLOCK, HOLDERS<Part<T>, T, I>) layer_norm_rows(
        I rows, I n, T* out, Acc<T>* means, Acc<T>* rstds, const T* x, const T* weight, const T* bias, Acc<T> eps) {
    constexpr int N = VECTOR<T>;
    const bool held = n % N == 0 && Part<T>::is_whole(n) && aligned<T, N>(x) && aligned<T, N>(out) &&
                      aligned<T, N>(weight) && aligned<T, N>(bias);
    if (held)  // two loops: in one, what both take out of it would not fit into registers
        for (I row = first_row<I>(); row < rows; row += row_step<I>())
            layer_norm_row<CENTRED>(
                    Held<Part<T>, T>(x + row * n, int(n)), row, rows, out + row * n, means, rstds, weight, bias, eps);
    else
        for (I row = first_row<I>(); row < rows; row += row_step<I>())
            layer_norm_row<CENTRED>(
                    Walked<T, I>{x + row * n, n}, row, rows, out + row * n, means, rstds, weight, bias, eps);
}

// ---------------------------------------------------------------------------------------------------------------------
// their gradient: g, x (rows, n), weight (n,), means (2, rows), rstds (rows,) in; dx (rows, n) out
// launcher: as above

// f(g weight, xhat) of the elements of a pack; weight may be null (a lambda with an `auto` parameter in its place is one
// that NVRTC 13.0 takes for a host function)
template <int N, class T, class F>
__device__ inline Pack<T, N> of_gradients(
        const T* g, const T* x, const T* weight, Centre<Acc<T>> centre, Acc<T> rstd, int count, F f) {
    const Pack<T, N> values = load<N>(x, count);
    Pack<T, N> grads = load<N>(g, count), scale;
    if (weight) scale = load<N>(weight, count);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        Acc<T> d = widen(grads.value[k]);
        if (weight) d *= widen(scale.value[k]);
        grads.value[k] = narrow<T>(f(d, centre(widen(values.value[k])) * rstd));
    }
    return grads;
}

template <bool CENTRED, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) layer_norm_backward_rows(
        I rows, I n, T* dx, const T* g, const T* x, const T* weight, const Acc<T>* means, const Acc<T>* rstds) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    for (I row = first_row<I>(); row < rows; row += row_step<I>()) {
        const I at = row * n;
        const Centre<A> centre = CENTRED ? centre_at(means, means + rows, row) : Centre<A>{A(0), A(0)};
        const A rstd = rstds[row];
        Two<A> sums = {A(0), A(0)};
        each_pack<N>(n, [&](I i, int count) {
            const T* w = weight ? weight + i : nullptr;
            of_gradients<N>(g + at + i, x + at + i, w, centre, rstd, count, [&](A d, A xhat) {  // beyond count d is zero
                sums = {sums.first + d, fma(d, xhat, sums.second)};
                return d;
            });
        });
        sums = row_reduce<AddTwo<A>>(sums);
        const A shift = CENTRED ? sums.first / A(n) : A(0), slope = sums.second / A(n);
        each_pack<N>(n, [&](I i, int count) {
            const T* w = weight ? weight + i : nullptr;
            const Pack<T, N> pack = of_gradients<N>(
                    g + at + i, x + at + i, w, centre, rstd, count,
                    [&](A d, A xhat) { return rstd * (d - shift - xhat * slope); });
            store<N>(dx + at + i, pack, count);
        });
    }
}
