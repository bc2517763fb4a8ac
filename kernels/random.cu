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
// launcher (all that draw): grid-stride over packs of whole blocks of 4 words, blocks of 256.
//
// A launch says by value where in the stream it begins. One that a CUDA graph repeats has the same arguments every time:
// it says how far behind `start`, three words on the device that start_draws fills before each launch of the graph.

#include "common.cuh"

struct Place {  // in a stream
    u64 key0, key1, offset;
    const u64* start;

    // The words of a block of the draw. `start` is read each time, from cache: kept, it would take six registers.
    __device__ Words words(u64 block) const {
        return start ? philox(key0 + start[0], key1 + start[1], offset + start[2], block)
                     : philox(key0, key1, offset, block);
    }
};

// launcher: one thread
__global__ void start_draws(u64* start, u64 key0, u64 key1, u64 offset) {
    start[0] = key0;
    start[1] = key1;
    start[2] = offset;
}

template <class T> constexpr int DRAWN = VECTOR<T> > 4 ? VECTOR<T> : 4;  // elements a thread makes in one go

// out[i] = value(word i), for the elements of this thread
template <class T, class I, class F>
__device__ inline void draw(I n, T* out, Place place, F value) {
    constexpr int N = DRAWN<T>;
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            const Words words = place.words(u64(i + k) / 4);
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
__global__ void __launch_bounds__(BLOCK, RESIDENT) words(
        I n, u64* out, u64 key0, u64 key1, u64 offset, const u64* start) {
    draw(n, out, Place{key0, key1, offset, start}, [](u64 word) { return word; });
}

template <class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) integers(
        I n, long long* out, long long low, u64 span, u64 key0, u64 key1, u64 offset, const u64* start) {
    draw(n, out, Place{key0, key1, offset, start}, [=](u64 word) {
        return low + static_cast<long long>((word >> 32) * span >> 32);
    });
}

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) uniform(
        I n, T* out, double low, double span, Acc<T> limit, u64 key0, u64 key1, u64 offset, const u64* start) {
    draw(n, out, Place{key0, key1, offset, start}, [=](u64 word) {
        return narrow<T>(min_nan(widen(round_as_host<T>(unit(word) * span + low)), limit));
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// normal: the inverse distribution function by M. J. Wichura's PPND16 (AS 241, Applied Statistics 37, 1988), as
// backends/draws.py has it: the same coefficients and order of operations, so that only log may differ in its last bit.

// ((a x + b) x + c) ...
__device__ inline double horner(double, double y) { return y; }
template <class... Rest> __device__ inline double horner(double x, double y, double next, Rest... rest) {
    return horner(x, y * x + next, rest...);
}

__device__ inline double inverse_normal(double u) {
    const double q = u - 0.5;
    if (fabs(q) <= 0.425) {
        const double x = 0.180625 - q * q;
        return q * (horner(x, 2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                    4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                    1.3314166789178437745e2, 3.3871328727963666080e0)
            / horner(x, 5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
                    2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
                    4.2313330701600911252e1, 1.0));
    }
    const double r = sqrt(-log(u < 1 - u ? u : 1 - u));
    double size;
    if (r <= 5) {
        const double x = r - 1.6;
        size = horner(x, 7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                    1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
                    4.63033784615654529590e0, 1.42343711074968357734e0)
            / horner(x, 1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                    1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
                    2.05319162663775882187e0, 1.0);
    } else {
        const double x = r - 5;
        size = horner(x, 2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                    2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
                    5.46378491116411436990e0, 6.65790464350110377720e0)
            / horner(x, 2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
                    7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
                    5.99832206555887937690e-1, 1.0);
    }
    return copysign(size, q);
}

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) normal(
        I n, T* out, double mean, double std, u64 key0, u64 key1, u64 offset, const u64* start) {
    draw(n, out, Place{key0, key1, offset, start}, [=](u64 word) {
        const double u = unit(word) + 0x1p-54;
        return round_as_host<T>(inverse_normal(u < 1 - 0x1p-53 ? u : 1 - 0x1p-53) * std + mean);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// dropout. No mask is stored: the backward pass draws it again and applies it to the gradient. u >= p is word >> 11 >=
// ceil(p 2^53) = threshold: the comparison of doubles without doubles.

template <class T, class I>
__global__ void __launch_bounds__(BLOCK, RESIDENT) dropout(
        I n, T* out, const T* x, Acc<T> scale, u64 threshold, u64 key0, u64 key1, u64 offset, const u64* start) {
    using A = Acc<T>;
    constexpr int N = DRAWN<T>;
    const Place place = {key0, key1, offset, start};
    for (I i = N * grid_start<I>(); i < n; i += N * grid_step<I>()) {
        const int count = left<N>(i, n);
        Pack<T, N> pack = load<N>(x + i, count);
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            const Words words = place.words(u64(i + k) / 4);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool keep = words.word[j] >> 11 >= threshold;
                pack.value[k + j] = narrow<T>(keep ? widen(pack.value[k + j]) * scale : A(0));
            }
        }
        store<N>(out + i, pack, count);
    }
}
