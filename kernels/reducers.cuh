// What a reduction computes, apart from the memory it walks: a state, its identity, the state of one element, how two
// states combine, and the result. Kernels combine in an order that is fixed but is not that of the indices, so combine
// must be associative and commutative up to rounding. `divisor` is n for mean, n - correction for var. A is the
// accumulation type, I the index type. Where combining costs a division or an exponential, a reducer has a cheaper way to
// the state of a few elements at once, run(x, count), and sets RUNS.
#pragma once

#include "common.cuh"

struct Plain {
    static constexpr bool CENTRED = false;  // true: elements are given as x - (the first element)
    static constexpr bool RUNS = false;  // true: run() in place of element()
    static constexpr bool APPENDS = false;  // true: append(), cheaper than combine where indices only grow
};

// `state` and one element more, whose index is beyond all of the state's.
template <class R, class A, class I>
__device__ inline typename R::State append(typename R::State state, A x, I index) {
    if constexpr (R::APPENDS)
        return R::append(state, x, index);
    else
        return R::combine(state, R::element(x, index));
}

// The state of the first `count` of N elements; their indices are index, index + step, ...
template <class R, int N, class A, class I>
__device__ inline typename R::State run_of(const A (&x)[N], int count, I index, I step) {
    if constexpr (R::RUNS) {
        return R::run(x, count);
    } else {
        typename R::State state = R::identity();
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < count) state = append<R>(state, x[k], index + I(k) * step);
        return state;
    }
}

template <class A, class I> struct Sum : Plain, Plus<A> {
    using Result = void;  // void: the dtype of the input
    __device__ static A element(A x, I) { return x; }
    __device__ static A result(A sum, A) { return sum; }
};

template <class A, class I> struct Mean : Sum<A, I> {
    __device__ static A result(A sum, A divisor) { return sum / divisor; }
};

// of a flat buffer, for its norm; the result stays as wide as the sum, for squares of 16-bit floats overflow
template <class A, class I> struct SquareSum : Sum<A, I> {
    using Result = A;
    __device__ static A element(A x, I) { return x * x; }
};

// is any element infinite or NaN?
template <class A, class I> struct AnyNonfinite : Plain {
    using State = u32;
    using Result = bool;
    __device__ static u32 identity() { return 0; }
    __device__ static u32 element(A x, I) { return x - x == A(0) ? 0 : 1; }
    __device__ static u32 combine(u32 a, u32 b) { return a | b; }
    __device__ static bool result(u32 found, A) { return found != 0; }
};

template <class A, class I> struct Prod : Plain {
    using State = A;
    using Result = void;
    __device__ static A identity() { return A(1); }
    __device__ static A element(A x, I) { return x; }
    __device__ static A combine(A a, A b) { return a * b; }
    __device__ static A result(A product, A) { return product; }
};

template <class A, class I> struct Max : Plain {
    using State = A;
    using Result = void;
    __device__ static A identity() { return -infinity<A>(); }
    __device__ static A element(A x, I) { return x; }
    __device__ static A combine(A a, A b) { return max_nan(a, b); }
    __device__ static A result(A x, A) { return x; }
};

template <class A, class I> struct Min : Max<A, I> {
    __device__ static A identity() { return infinity<A>(); }
    __device__ static A combine(A a, A b) { return min_nan(a, b); }
};

// The first of equal values, or the first NaN: what np.argmax gives. The identity may claim that element 0 is the worst
// value there is: where nothing beats it, all elements are that value, and the first of them is element 0.
template <class A, class I, int SIGN> struct ArgExtremum : Plain {
    static constexpr bool APPENDS = true;
    struct State {
        A value;
        I index;
    };
    using Result = long long;
    __device__ static State identity() { return {A(-SIGN) * infinity<A>(), I(0)}; }
    __device__ static State element(A x, I index) { return {x, index}; }
    __device__ static bool beats(A a, A b) { return SIGN > 0 ? !(a <= b) : !(a >= b); }  // or either is NaN
    __device__ static State append(State state, A x, I index) {
        const bool replaces = beats(x, state.value) && state.value == state.value;
        return {replaces ? x : state.value, replaces ? index : state.index};
    }
    __device__ static State combine(State a, State b) {
        const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        const bool same = a.value == b.value || (a_nan && b_nan);
        const bool first = same ? a.index < b.index : a_nan || (!b_nan && beats(a.value, b.value));
        return {first ? a.value : b.value, first ? a.index : b.index};
    }
    __device__ static long long result(State state, A) { return state.index; }
};
template <class A, class I> struct ArgMax : ArgExtremum<A, I, 1> {};
template <class A, class I> struct ArgMin : ArgExtremum<A, I, -1> {};

// log(sum(exp(x))) in one pass: the maximum so far, and the sum of exp(x - maximum), rescaled when the maximum grows
// (Milakov and Gimelshein, 2018). The maximum passes over NaN: the sum has it, and so have all results.
template <class A> struct LogSum {
    struct State {
        A maximum, sum;
    };
    // exp(from - to), and 1 for equal infinities
    __device__ static A scale(A from, A to) {
        if constexpr (sizeof(A) == 4)
            return exp(from == to ? A(0) : from - to);  // no branch: several run at once
        else
            return from == to ? A(1) : exp(from - to);  // several at once would spill
    }
    __device__ static State identity() { return {-infinity<A>(), A(0)}; }
    __device__ static State combine(State a, State b) {
        const A maximum = fmax(a.maximum, b.maximum), rescaled = scale(fmin(a.maximum, b.maximum), maximum);
        return {maximum, a.maximum < b.maximum ? fma(a.sum, rescaled, b.sum) : fma(b.sum, rescaled, a.sum)};
    }
    template <int N> __device__ static State run(const A (&x)[N], int count) {  // the maximum first: nothing is rescaled
        State state = identity();
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < count) state.maximum = fmax(state.maximum, x[k]);
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (k < count) state.sum += scale(x[k], state.maximum);
        return state;
    }
    __device__ static A value(State state) { return state.maximum + log(state.sum); }
};
template <class A, class I> struct LogSumExp : Plain, LogSum<A> {
    static constexpr bool RUNS = true;
    using Result = void;
    using State = typename LogSum<A>::State;
    __device__ static A result(State state, A) { return LogSum<A>::value(state); }
};

// Mean and sum of squared deviations of two parts give those of the whole (Chan, Golub and LeVeque, 1979): no
// cancellation when the mean is large
template <class A, class I> struct Var {
    static constexpr bool CENTRED = true, RUNS = true;
    struct State {
        A count, mean, squares;
    };
    using Result = void;
    __device__ static State identity() { return {A(0), A(0), A(0)}; }
    template <int N> __device__ static State run(const A (&x)[N], int count) {  // count > 0
        A sum = A(0), squares = A(0);
#pragma unroll
        for (int k = 0; k < N; ++k) sum += k < count ? x[k] : A(0);
        const A mean = count == N ? sum * A(1.0 / N) : sum / A(count);  // N is a power of two: the same, and no division
#pragma unroll
        for (int k = 0; k < N; ++k) squares = k < count ? fma(x[k] - mean, x[k] - mean, squares) : squares;
        return {A(count), mean, squares};
    }
    __device__ static State combine(State a, State b) {
        if (b.count == A(0)) return a;
        const A count = a.count + b.count, share = b.count / count, difference = b.mean - a.mean;
        return {count, fma(difference, share, a.mean), a.squares + b.squares + difference * difference * a.count * share};
    }
    __device__ static A result(State state, A divisor) { return state.squares / divisor; }
};
