// Random numbers from Philox, drawn where they are wanted: element i is made of word i of Philox(key, counter=offset), so
// one seed gives the same numbers on every machine, in any order and on any grid. u is a word's upper 53 bits times 2^-53.
//
//   words      out = word
//   integers   out = low + ((word >> 32) * span >> 32)
//   uniform    out = u * span + low, rounded to T, at most `limit` (the last T below the interval's upper end)
//   normal     out = inverse_normal(u + 2^-54) * std + mean, rounded to T
//   dropout    out = x * scale where u >= p, else 0; scale = 1 / (1 - p)
//
// out (n,), and for dropout x (n,) in. Fewest bytes: these, once. Everything but dropout's product is computed in double,
// as backends/draws.py does it on the CPU.
// launcher (all kernels): grid-stride over packs of whole blocks of 4 words, blocks of 256.

#include "common.cuh"

template <class T> constexpr int DRAWN = VECTOR<T> > 4 ? VECTOR<T> : 4;  // elements a thread makes in one go

// out[i] = value(word i), for the elements of this thread
template <class T, class I, class F>
__device__ inline void draw(I n, T* out, u64 key0, u64 key1, u64 offset, F value) {
    constexpr int N = DRAWN<T>;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            const Words words = philox(key0, key1, offset, u64(i + k) / 4);
#pragma unroll
            for (int j = 0; j < 4; ++j) pack.value[k + j] = value(words.word[j]);
        }
        store<N>(out + i, pack, left<N>(i, n));
    }
}

__device__ inline double unit(u64 word) { return double(word >> 11) * 0x1p-53; }

// A double as ml_dtypes and NumPy round it: once, but to bfloat16 by way of float
template <class T> __device__ inline T round_as_host(double x) { return narrow<T>(x); }
#ifdef GB_BFLOAT16
template <> __device__ inline __nv_bfloat16 round_as_host(double x) { return narrow<__nv_bfloat16>(float(x)); }
#endif

// ---------------------------------------------------------------------------------------------------------------------
// words, integers, uniform

template <class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) words(I n, u64* out, u64 key0, u64 key1, u64 offset) {
    draw(n, out, key0, key1, offset, [](u64 word) { return word; });
}

template <class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) integers(
        I n, long long* out, long long low, u64 span, u64 key0, u64 key1, u64 offset) {
    draw(n, out, key0, key1, offset, [=](u64 word) { return low + static_cast<long long>((word >> 32) * span >> 32); });
}

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) uniform(
        I n, T* out, double low, double span, Acc<T> limit, u64 key0, u64 key1, u64 offset) {
    draw(n, out, key0, key1, offset, [=](u64 word) {
        return narrow<T>(min_nan(widen(round_as_host<T>(unit(word) * span + low)), limit));
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// normal: P. J. Acklam's rational approximation of the inverse distribution function, then one step of Halley's method on
// Phi(x) - u, with Phi by W. J. Cody's erf (Math. Comp. 23, 1969). The CPU's formulas, coefficients and order of operations:
// only exp and log may differ by their last bit.

// ((a x + b) x + c) ...
__device__ inline double horner(double, double y) { return y; }
template <class... Rest> __device__ inline double horner(double x, double y, double next, Rest... rest) {
    return horner(x, y * x + next, rest...);
}

__device__ inline double erf_of(double a) {  // for a >= 0
    if (a <= 0.46875) {
        const double z = a * a;
        return a * (horner(z, 1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
                           3.20937758913846947e3)
                    / horner(z, 1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
                             2.84423683343917062e3));
    }
    if (a <= 4.0)
        return 1 - exp(-a * a)
            * (horner(a, 2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
                      2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
                      1.23033935479799725e3)
               / horner(a, 1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
                        1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
                        1.23033935480374942e3));
    const double z = 1 / (a * a);
    const double series =
        horner(z, 1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
               1.60837851487422766e-2, 6.58749161529837803e-4)
        / horner(z, 1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
                 2.33520497626869185e-3);
    return 1 - exp(-a * a) * ((0.5641895835477563 - z * series) / a);  // 1 / sqrt(pi)
}

__device__ inline double inverse_normal(double u) {
    const double q = u - 0.5, tail = u < 1 - u ? u : 1 - u;
    const bool centre = fabs(q) <= 0.5 - 0.02425;
    double low;  // the quantile of the lower tail: <= 0
    if (centre) {
        const double r = q * q;
        low = -fabs(q * horner(r, -3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02, 1.383577518672690e02,
                               -3.066479806614716e01, 2.506628277459239e00)
                    / horner(r, -5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01,
                             -1.328068155288572e01, 1.0));
    } else {
        const double s = sqrt(-2 * log(tail));
        low = -fabs(horner(s, -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00,
                           -2.549732539343734e00, 4.374664141464968e00, 2.938163982698783e00)
                    / horner(s, 7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00,
                             1.0));
    }
    if (centre || tail > 1e-12) {
        const double error = 0.5 * (1 - erf_of(-(low * 0.7071067811865476))) - tail;  // sqrt(1 / 2)
        const double step = error * 2.5066282746310002 * exp(low * low / 2);  // sqrt(2 pi)
        low = low - step / (1 + low * step / 2);
    }
    return copysign(low, q);
}

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) normal(
        I n, T* out, double mean, double std, u64 key0, u64 key1, u64 offset) {
    draw(n, out, key0, key1, offset, [=](u64 word) {
        const double u = unit(word) + 0x1p-54;
        return round_as_host<T>(inverse_normal(u < 1 - 0x1p-53 ? u : 1 - 0x1p-53) * std + mean);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// dropout. No mask is stored: the backward pass draws it again and applies it to the gradient. u >= p is word >> 11 >=
// ceil(p 2^53) = threshold: the comparison of doubles without doubles.

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) dropout(
        I n, T* out, const T* x, Acc<T> scale, u64 threshold, u64 key0, u64 key1, u64 offset) {
    using A = Acc<T>;
    constexpr int N = DRAWN<T>;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Pack<T, N> pack = load<N>(x + i, count);
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            const Words words = philox(key0, key1, offset, u64(i + k) / 4);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool keep = words.word[j] >> 11 >= threshold;
                pack.value[k + j] = narrow<T>(keep ? widen(pack.value[k + j]) * scale : A(0));
            }
        }
        store<N>(out + i, pack, count);
    }
}
