// Losses of a prediction x and a target y, element by element, and their slopes d loss / d x.
//
//   loss[i] = w[i] value(x[i], y[i], c[i])         w: weight, 1 where there is none;   c: what the loss asks for
//   out     = loss, or sum(loss) / divisor         divisor: n for a mean, 1 for a sum
//   dx[i]   = w[i] slope(x[i], y[i], c[i]) g       g: g[i], or one number / divisor
//
//   SquaredError    d^2                                          2 d                           d = x - y
//   AbsoluteError   |d|                                          sign(d), 0 at 0
//   Huber           d^2 / 2 if |d| <= c, else c (|d| - c / 2)    d held in [-c, c]             c: delta (Huber, 1964)
//   LogisticError   c y log(1 + e^-x) + (1 - y) log(1 + e^x)     (1 - y) s(x) - c y s(-x)      c: pos_weight, s: sigmoid
//
// x, y, dx are (n,); w and c repeat every `period` elements: n, the length of a row, or 1. Fewest bytes: forward x and y
// in (and n results out, unreduced), backward x and y in, dx out (and g in, unreduced).

#include "functors.cuh"

struct SquaredError {
    template <class A> __device__ static A value(A x, A y, A) { return (x - y) * (x - y); }
    template <class A> __device__ static A slope(A x, A y, A) { return A(2) * (x - y); }
};

struct AbsoluteError {
    template <class A> __device__ static A value(A x, A y, A) { return fabs(x - y); }
    template <class A> __device__ static A slope(A x, A y, A) { return Sign::apply(x - y); }
};

struct Huber {
    template <class A> __device__ static A value(A x, A y, A delta) {
        const A d = x - y, size = fabs(d);
        return size <= delta ? A(0.5) * (d * d) : delta * (size - A(0.5) * delta);
    }
    template <class A> __device__ static A slope(A x, A y, A delta) { return Clip::apply(x - y, -delta, delta); }
};

struct LogisticError {  // e^-|x| only: nothing overflows, and small losses keep all their digits
    template <class A> __device__ static A value(A x, A y, A positive) {
        const A rest = log1p(exp(-fabs(x)));
        return positive * y * (max_nan(-x, A(0)) + rest) + (A(1) - y) * (max_nan(x, A(0)) + rest);
    }
    template <class A> __device__ static A slope(A x, A y, A positive) {
        return (A(1) - y) * logistic(x) - positive * y * logistic(-x);
    }
};

// Elements i to i + N - 1 of what repeats every `period` elements; `otherwise` where there is nothing. Never reads
// beyond one round, so the last pack may ask for more than there is.
template <int N, class T, class I>
__device__ inline void repeated(Acc<T> (&result)[N], const T* values, I period, I i, Acc<T> otherwise) {
    I at = values ? i % period : I(0);
    if (values && period - at >= N) {
        const Pack<T, N> pack = load<N>(values + at, N);
#pragma unroll
        for (int k = 0; k < N; ++k) result[k] = widen(pack.value[k]);
        return;
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
        result[k] = values ? widen(values[at]) : otherwise;
        if (++at >= period) at = I(0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// launcher: grid packs or fewer, a function of the shape alone where it reduces; `partial` (blocks,) and one ticket for
// that. out is (n,) where `each` element's loss is wanted, else one number.

template <class Loss, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) loss_flat(
        I n, T* out, const T* x, const T* y, const T* weight, I weight_period, const T* factor, I factor_period,
        Acc<T> constant, bool each, Acc<T> divisor, Acc<T>* partial, u32* ticket) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    A sums[N];  // one a lane of the pack: N independent chains instead of one long one
#pragma unroll
    for (int k = 0; k < N; ++k) sums[k] = A(0);
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Pack<T, N> pack = load<N>(x + i, count);
        const Pack<T, N> targets = load<N>(y + i, count);
        A w[N], c[N];
        repeated<N>(w, weight, weight_period, i, A(1));
        repeated<N>(c, factor, factor_period, i, constant);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const A loss = w[k] * Loss::value(widen(pack.value[k]), widen(targets.value[k]), c[k]);
            if (k < count) sums[k] += loss;
            pack.value[k] = narrow<T>(loss);
        }
        if (each) store<N>(out + i, pack, count);
    }
    if (each) return;
    // threads -> the block's sum -> partial -> the last block adds all partials, every step in a fixed order
#pragma unroll
    for (int k = 1; k < N; ++k) sums[0] += sums[k];
    A sum = block_reduce<Plus<A>>(sums[0]);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
    if (!last_block(ticket, gridDim.x)) return;
    sum = A(0);
    for (u32 block = threadIdx.x; block < gridDim.x; block += BLOCK) sum += partial[block];
    sum = block_reduce<Plus<A>>(sum);
    if (threadIdx.x == 0) *out = narrow<T>(sum / divisor);
}

// launcher: grid packs or fewer; g is (n,) for `each`, else one number

template <class Loss, class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) loss_backward_flat(
        I n, T* dx, const T* g, const T* x, const T* y, const T* weight, I weight_period, const T* factor, I factor_period,
        Acc<T> constant, bool each, Acc<T> divisor) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    const A whole = each ? A(1) : widen(*g) / divisor;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Pack<T, N> pack = load<N>(x + i, count);
        const Pack<T, N> targets = load<N>(y + i, count), grad = load<N>(g + (each ? i : I(0)), each ? count : 0);
        A w[N], c[N];
        repeated<N>(w, weight, weight_period, i, A(1));
        repeated<N>(c, factor, factor_period, i, constant);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const A scale = each ? widen(grad.value[k]) : whole;
            pack.value[k] = narrow<T>(scale * (w[k] * Loss::slope(widen(pack.value[k]), widen(targets.value[k]), c[k])));
        }
        store<N>(dx + i, pack, count);
    }
}
