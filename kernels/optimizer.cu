// One launch updates a contiguous run of a flat parameter buffer. Fewest bytes: parameters and state in and out, gradients
// in; each kernel says which. Formulas are those of torch.optim, computed in Acc<T>.
//
// Parameters and gradients are of type T, state of type S. S = T, or float beside 16-bit parameters with a master copy
// (n,) of type S: then the master is read and written in the parameters' place, and the parameters, its rounded copy,
// are written in the same pass. Without one, steps smaller than half the spacing of 16-bit numbers are lost.
//
// What can change between steps lies in device memory, so a captured launch follows it:
//   hyper (float64)   0 lr, 1 weight_decay, 2 grad_scale, 3 skip, then what each kernel says
//   steps (float64)   counts[0 .. count) of the run's parameters, all equal: the step is t = counts[0] + 1, and the block
//                     that finishes last, when all have read it, writes t back
// A thread or two a block turn them, in double, into the few coefficients that the others share.
//
// launcher (all kernels): grid-stride over packs of 16 bytes of T, blocks of 256, one zeroed ticket; no master if S = T.

#include "common.cuh"

// Blocks a multiprocessor must hold: with 64-bit offsets two, for sm_100 and sm_120 would spill registers at three
template <class I> constexpr int HELD = sizeof(I) > 4 ? 2 : RESIDENT;

enum Hyper { LR = 0, WEIGHT_DECAY = 1, GRAD_SCALE = 2, SKIP = 3, OWN = 4 };

__device__ inline void finish_step(double* counts, long long count, double t, u32* ticket) {
    if (!last_block(ticket, gridDim.x)) return;
    for (long long i = threadIdx.x; i < count; i += BLOCK) counts[i] = t;
}

// The gradient as the update sees it: scaled, negated to maximise, with weight decay (0 where decay is decoupled)
template <class A> struct Gradient {
    A scale, weight_decay;

    __device__ static Gradient make(const double* hyper, bool maximize, bool decoupled) {
        const double sign = maximize ? -1.0 : 1.0;
        return {A(sign * hyper[GRAD_SCALE]), A(decoupled ? 0.0 : hyper[WEIGHT_DECAY])};
    }
    __device__ A operator()(A g, A p) const { return fma(weight_decay, p, g * scale); }
};

// Parameters as the update sees them: those of the master copy, or (S = T) the only ones
template <int N, class T, class S, class I>
__device__ inline Pack<S, N> load_weights(const T*, const S* master, I i, int count) {
    return load<N>(master + i, count);
}
template <int N, class T, class I>
__device__ inline Pack<T, N> load_weights(const T* param, const T*, I i, int count) {
    return load<N>(param + i, count);
}

template <int N, class T, class S, class I>
__device__ inline void store_weights(T* param, S* master, I i, const Pack<S, N>& p, int count) {
    Pack<T, N> rounded;
#pragma unroll
    for (int k = 0; k < N; ++k) rounded.value[k] = narrow<T>(p.value[k]);
    store<N>(master + i, p, count);
    store<N>(param + i, rounded, count);
}
template <int N, class T, class I>
__device__ inline void store_weights(T* param, T*, I i, const Pack<T, N>& p, int count) {
    store<N>(param + i, p, count);
}

// ---------------------------------------------------------------------------------------------------------------------
// SGD. hyper: 4 momentum, 5 dampening
//   b = momentum b + (1 - dampening) g   (b = g when t = 1)
//   p -= lr (nesterov ? g + momentum b : b)        without buffer: p -= lr g
// p, g, b in; p, b out

template <class A> struct SgdStep {
    Gradient<A> gradient;
    A lr, momentum, fresh;
};

template <class T, class S, class I>
__global__ void __launch_bounds__(BLOCK, HELD<I>) sgd(
        I n, T* param, S* master, const T* grad, S* buffer, const double* hyper, double* counts, long long count,
        bool nesterov, bool maximize, u32* ticket) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    __shared__ SgdStep<A> shared;
    if (hyper[SKIP] != 0.0) return;
    const double t = counts[0] + 1.0;
    if (threadIdx.x == 0) {
        shared.gradient = Gradient<A>::make(hyper, maximize, false);
        shared.lr = A(hyper[LR]);
        shared.momentum = A(hyper[OWN]);
        shared.fresh = A(1.0 - hyper[OWN + 1]);
    }
    __syncthreads();
    const SgdStep<A> step = shared;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int left_over = left<N>(i, n);
        Pack<S, N> p = load_weights<N>(param, master, i, left_over), b;
        const Pack<T, N> g = load<N>(grad + i, left_over);
        if (buffer) b = load<N>(buffer + i, left_over);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            A d = step.gradient(widen(g.value[k]), widen(p.value[k]));
            if (buffer) {
                const A v = t == 1.0 ? d : fma(step.momentum, widen(b.value[k]), step.fresh * d);
                b.value[k] = narrow<S>(v);
                d = nesterov ? fma(step.momentum, v, d) : v;
            }
            p.value[k] = narrow<S>(fma(-step.lr, d, widen(p.value[k])));
        }
        store_weights<N>(param, master, i, p, left_over);
        if (buffer) store<N>(buffer + i, b, left_over);
    }
    finish_step(counts, count, t, ticket);
}

// ---------------------------------------------------------------------------------------------------------------------
// Adam (Kingma and Ba, 2015), AdamW (Loshchilov and Hutter, 2019: decoupled), AMSGrad (Reddi et al., 2018).
// hyper: 4 beta1, 5 beta2, 6 eps
//   p -= lr weight_decay p   (decoupled)
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  u = v, or max(u, v) with AMSGrad
//   p -= lr / (1 - beta1^t) * m / (sqrt(u) / sqrt(1 - beta2^t) + eps)
// p, g, m, v (and u) in; p, m, v (and u) out

template <class A> struct AdamStep {
    Gradient<A> gradient;
    A keep, beta1, fresh1, beta2, fresh2, eps, size, root;
};

template <class T, class S, class I>
__global__ void __launch_bounds__(BLOCK, HELD<I>) adam(
        I n, T* param, S* master, const T* grad, S* exp_avg, S* exp_avg_sq, S* max_exp_avg_sq, const double* hyper,
        double* counts, long long count, bool decoupled, bool maximize, u32* ticket) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    __shared__ AdamStep<A> shared;
    if (hyper[SKIP] != 0.0) return;
    const double t = counts[0] + 1.0;
    if (threadIdx.x == 0) {
        const double beta1 = hyper[OWN], beta2 = hyper[OWN + 1];
        shared.gradient = Gradient<A>::make(hyper, maximize, decoupled);
        shared.keep = A(decoupled ? 1.0 - hyper[LR] * hyper[WEIGHT_DECAY] : 1.0);
        shared.beta1 = A(beta1);
        shared.fresh1 = A(1.0 - beta1);
        shared.beta2 = A(beta2);
        shared.fresh2 = A(1.0 - beta2);
        shared.eps = A(hyper[OWN + 2]);
        shared.size = A(hyper[LR] / (1.0 - pow(beta1, t)));
    }
    if (threadIdx.x == WARP) shared.root = A(1.0 / sqrt(1.0 - pow(hyper[OWN + 1], t)));  // beside the other power
    __syncthreads();
    const AdamStep<A> step = shared;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int left_over = left<N>(i, n);
        Pack<S, N> p = load_weights<N>(param, master, i, left_over), m = load<N>(exp_avg + i, left_over);
        Pack<S, N> v = load<N>(exp_avg_sq + i, left_over), u;
        const Pack<T, N> g = load<N>(grad + i, left_over);
        if (max_exp_avg_sq) u = load<N>(max_exp_avg_sq + i, left_over);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const A d = step.gradient(widen(g.value[k]), widen(p.value[k]));
            const A first = fma(step.beta1, widen(m.value[k]), step.fresh1 * d);
            A second = fma(step.beta2, widen(v.value[k]), step.fresh2 * d * d);
            m.value[k] = narrow<S>(first);
            v.value[k] = narrow<S>(second);
            if (max_exp_avg_sq) {
                second = max_nan(widen(u.value[k]), second);
                u.value[k] = narrow<S>(second);
            }
            const A move = first / fma(sqrt(second), step.root, step.eps);
            p.value[k] = narrow<S>(fma(-step.size, move, step.keep * widen(p.value[k])));
        }
        store_weights<N>(param, master, i, p, left_over);
        store<N>(exp_avg + i, m, left_over);
        store<N>(exp_avg_sq + i, v, left_over);
        if (max_exp_avg_sq) store<N>(max_exp_avg_sq + i, u, left_over);
    }
    finish_step(counts, count, t, ticket);
}

// ---------------------------------------------------------------------------------------------------------------------
// RMSprop (Hinton, 2012; centred: Graves, 2013). hyper: 4 alpha, 5 eps, 6 momentum
//   v = alpha v + (1 - alpha) g^2;  centred: a = alpha a + (1 - alpha) g, r = v - a^2;  otherwise r = v
//   b = momentum b + g / (sqrt(r) + eps);  p -= lr b      without buffer: p -= lr g / (sqrt(r) + eps)
// p, g, v (a, b) in; p, v (a, b) out

template <class A> struct RmspropStep {
    Gradient<A> gradient;
    A lr, alpha, fresh, eps, momentum;
};

template <class T, class S, class I>
__global__ void __launch_bounds__(BLOCK, HELD<I>) rmsprop(
        I n, T* param, S* master, const T* grad, S* square_avg, S* grad_avg, S* buffer, const double* hyper,
        double* counts, long long count, bool maximize, u32* ticket) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    __shared__ RmspropStep<A> shared;
    if (hyper[SKIP] != 0.0) return;
    const double t = counts[0] + 1.0;
    if (threadIdx.x == 0) {
        shared.gradient = Gradient<A>::make(hyper, maximize, false);
        shared.lr = A(hyper[LR]);
        shared.alpha = A(hyper[OWN]);
        shared.fresh = A(1.0 - hyper[OWN]);
        shared.eps = A(hyper[OWN + 1]);
        shared.momentum = A(hyper[OWN + 2]);
    }
    __syncthreads();
    const RmspropStep<A> step = shared;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int left_over = left<N>(i, n);
        Pack<S, N> p = load_weights<N>(param, master, i, left_over), v = load<N>(square_avg + i, left_over), a, b;
        const Pack<T, N> g = load<N>(grad + i, left_over);
        if (grad_avg) a = load<N>(grad_avg + i, left_over);
        if (buffer) b = load<N>(buffer + i, left_over);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const A d = step.gradient(widen(g.value[k]), widen(p.value[k]));
            A r = fma(step.alpha, widen(v.value[k]), step.fresh * d * d);
            v.value[k] = narrow<S>(r);
            if (grad_avg) {
                const A mean = fma(step.alpha, widen(a.value[k]), step.fresh * d);
                a.value[k] = narrow<S>(mean);
                r = fma(-mean, mean, r);
                r = r < A(0) ? A(0) : r;  // rounding can take a variance of nothing below 0
            }
            A move = d / (sqrt(r) + step.eps);
            if (buffer) {
                move = fma(step.momentum, widen(b.value[k]), move);
                b.value[k] = narrow<S>(move);
            }
            p.value[k] = narrow<S>(fma(-step.lr, move, widen(p.value[k])));
        }
        store_weights<N>(param, master, i, p, left_over);
        store<N>(square_avg + i, v, left_over);
        if (grad_avg) store<N>(grad_avg + i, a, left_over);
        if (buffer) store<N>(buffer + i, b, left_over);
    }
    finish_step(counts, count, t, ticket);
}

// ---------------------------------------------------------------------------------------------------------------------
// Adagrad (Duchi, Hazan and Singer, 2011). hyper: 4 lr_decay, 5 eps
//   s = s + g^2;  p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
// p, g, s in; p, s out

template <class A> struct AdagradStep {
    Gradient<A> gradient;
    A lr, eps;
};

template <class T, class S, class I>
__global__ void __launch_bounds__(BLOCK, HELD<I>) adagrad(
        I n, T* param, S* master, const T* grad, S* state_sum, const double* hyper, double* counts, long long count,
        bool maximize, u32* ticket) {
    using A = Acc<T>;
    constexpr int N = VECTOR<T>;
    __shared__ AdagradStep<A> shared;
    if (hyper[SKIP] != 0.0) return;
    const double t = counts[0] + 1.0;
    if (threadIdx.x == 0) {
        shared.gradient = Gradient<A>::make(hyper, maximize, false);
        shared.lr = A(hyper[LR] / (1.0 + (t - 1.0) * hyper[OWN]));
        shared.eps = A(hyper[OWN + 1]);
    }
    __syncthreads();
    const AdagradStep<A> step = shared;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int left_over = left<N>(i, n);
        Pack<S, N> p = load_weights<N>(param, master, i, left_over), s = load<N>(state_sum + i, left_over);
        const Pack<T, N> g = load<N>(grad + i, left_over);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const A d = step.gradient(widen(g.value[k]), widen(p.value[k]));
            const A sum = fma(d, d, widen(s.value[k]));
            s.value[k] = narrow<S>(sum);
            p.value[k] = narrow<S>(fma(-step.lr, d / (sqrt(sum) + step.eps), widen(p.value[k])));
        }
        store_weights<N>(param, master, i, p, left_over);
        store<N>(state_sum + i, s, left_over);
    }
    finish_step(counts, count, t, ticket);
}
