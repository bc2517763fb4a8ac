// CUDA's arithmetic that C++ lacks: bits, integers, rounding, and the fast functions (here as exact as the plain ones).
#pragma once

#include "shims.h"

// ---------------------------------------------------------------------------------------------------------------------
// bits

namespace gb {
template <class To, class From> To as(From value) {
    static_assert(sizeof(To) == sizeof(From), "the same bits need the same size");
    To result;
    std::memcpy(&result, &value, sizeof(To));
    return result;
}
}  // namespace gb

inline int __float_as_int(float x) { return gb::as<int>(x); }
inline unsigned __float_as_uint(float x) { return gb::as<unsigned>(x); }
inline float __int_as_float(int x) { return gb::as<float>(x); }
inline float __uint_as_float(unsigned x) { return gb::as<float>(x); }
inline long long __double_as_longlong(double x) { return gb::as<long long>(x); }
inline double __longlong_as_double(long long x) { return gb::as<double>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
    return __builtin_bswap32(x);
}

// ---------------------------------------------------------------------------------------------------------------------
// integers

inline int __mulhi(int x, int y) { return int((long long)(x)*y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned((unsigned long long)(x)*y >> 32); }
inline long long __mul64hi(long long x, long long y) { return (long long)(__int128(x) * y >> 64); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)(x)*y >> 64);
}

template <class A, class B>
auto min(A x, B y) -> std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>> {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return std::fmin(T(x), T(y));
    else
        return T(y) < T(x) ? T(y) : T(x);
}
template <class A, class B>
auto max(A x, B y) -> std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>> {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return std::fmax(T(x), T(y));
    else
        return T(x) < T(y) ? T(y) : T(x);
}

// ---------------------------------------------------------------------------------------------------------------------
// rounding

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __dsqrt_rn(double x) { return sqrt(x); }

inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline int __float2int_ru(float x) { return int(ceilf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline long long __double2ll_rn(double x) { return (long long)nearbyint(x); }

// ---------------------------------------------------------------------------------------------------------------------
// functions

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __frsqrt_rn(float x) { return float(1.0 / std::sqrt(double(x))); }

// Macros, because newer C libraries declare functions of some of these names.
namespace gb {
inline float reciprocal_sqrt(float x) { return 1.0f / sqrtf(x); }
inline double reciprocal_sqrt(double x) { return 1.0 / sqrt(x); }
}  // namespace gb
#define rsqrtf(x) gb::reciprocal_sqrt(float(x))
#define rsqrt(x) gb::reciprocal_sqrt(x)
