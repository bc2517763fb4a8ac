// Sixteen floats or eight doubles at a time, in as many registers as that takes on the machine at hand: a sum over lanes,
// and then across them, has one order of additions everywhere, so a result does not depend on the machine or on an
// address. The registers are spelt out, for a compiler takes vectors wider than its own apart, number by number.
#pragma once

#include <cstdint>
#include <cstring>

namespace gb {

#if defined(__AVX512F__)
constexpr int REGISTER_BYTES = 64;
#elif defined(__AVX2__)
constexpr int REGISTER_BYTES = 32;
#else
constexpr int REGISTER_BYTES = 16;
#endif
constexpr int LANE_BYTES = 64, PARTS = LANE_BYTES / REGISTER_BYTES;
template <class A> constexpr int LANES = LANE_BYTES / int(sizeof(A));

template <class A> struct RegisterOf {
    typedef A Values __attribute__((vector_size(REGISTER_BYTES)));
};
template <class A> using Register = typename RegisterOf<A>::Values;

template <class A> struct Lanes {
    Register<A> part[PARTS];
};

// f of each register, and of those of a second one beside them
template <class A, class F> inline Lanes<A> each(const Lanes<A>& x, F f) {
    Lanes<A> result;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; ++i) result.part[i] = f(x.part[i]);
    return result;
}
template <class A, class F> inline Lanes<A> each(const Lanes<A>& x, const Lanes<A>& y, F f) {
    Lanes<A> result;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; ++i) result.part[i] = f(x.part[i], y.part[i]);
    return result;
}

// The first `count` elements at `from` (all lanes, if there are as many), and `rest` in the other lanes. Memory is read
// and written register by register: in smaller pieces, the processor would wait for one to come back as a whole.
template <class A> inline Lanes<A> load(const A* from, intptr_t count, A rest) {
    A values[LANES<A>];
    if (count < LANES<A>) {
        for (int k = 0; k < LANES<A>; ++k) values[k] = k < count ? from[k] : rest;
        from = values;
    }
    Lanes<A> lanes;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; ++i) std::memcpy(&lanes.part[i], from + i * LANES<A> / PARTS, REGISTER_BYTES);
    return lanes;
}

template <class A> inline void store(A* to, const Lanes<A>& lanes, intptr_t count) {
    A values[LANES<A>];
    A* const place = count < LANES<A> ? values : to;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; ++i) std::memcpy(place + i * LANES<A> / PARTS, &lanes.part[i], REGISTER_BYTES);
    if (count >= LANES<A>) return;
    for (int k = 0; k < LANES<A>; ++k)
        if (k < count) to[k] = values[k];
}

template <class A> inline Lanes<A> add(const Lanes<A>& x, const Lanes<A>& y) {
    return each(x, y, [](Register<A> a, Register<A> b) { return a + b; });
}

template <class A> inline Lanes<A> larger(const Lanes<A>& x, const Lanes<A>& y) {  // x where one is NaN
    return each(x, y, [](Register<A> a, Register<A> b) { return b > a ? b : a; });
}

template <class A> inline A sum_across(const Lanes<A>& lanes) {
    A values[LANES<A>];
    std::memcpy(values, &lanes, sizeof(lanes));
    for (int half = LANES<A> / 2; half; half /= 2)
        for (int k = 0; k < half; ++k) values[k] += values[k + half];
    return values[0];
}

template <class A> inline A max_across(const Lanes<A>& lanes) {
    A values[LANES<A>];
    std::memcpy(values, &lanes, sizeof(lanes));
    for (int half = LANES<A> / 2; half; half /= 2)
        for (int k = 0; k < half; ++k) values[k] = values[k] > values[k + half] ? values[k] : values[k + half];
    return values[0];
}

// ---------------------------------------------------------------------------------------------------------------------
// exp, within 2 units in the last place of the true value; NaN, infinities, overflow and subnormal results as they should
//
//   x = n ln2 + r, |r| <= ln2 / 2;  exp(x) = 2^n exp(r);  exp(r) by its Taylor series, whose rest is below half a unit
//
// ln2 comes in two parts; n times the first is exact. Adding and taking off a number whose last digit is worth 1 rounds
// to an integer, which then stands in the last bits. 2^n is two factors, for it may lie outside what one can be.

template <class A> struct ExpOf;
template <> struct ExpOf<float> {
    typedef int32_t Bits;
    static constexpr float HIGHEST = 90.0f, LOWEST = -106.0f;  // infinity and zero come out
    static constexpr float INTEGER = 12582912.0f;              // 1.5 * 2^23
    static constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
    static constexpr int MANTISSA = 23, BIAS = 127, TERMS = 7;
};
template <> struct ExpOf<double> {
    typedef int64_t Bits;
    static constexpr double HIGHEST = 710.0, LOWEST = -747.0;
    static constexpr double INTEGER = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double LN2_HIGH = 6.93145751953125e-1, LN2_LOW = 1.42860682030941723212e-6;
    static constexpr int MANTISSA = 52, BIAS = 1023, TERMS = 13;
};

template <class A> constexpr A reciprocal_factorial(int n) {
    double product = 1.0;
    for (int i = 2; i <= n; ++i) product *= i;
    return A(1.0 / product);
}

template <class A> inline Register<A> exp(Register<A> x) {
    using E = ExpOf<A>;
    typedef typename E::Bits Bits __attribute__((vector_size(REGISTER_BYTES)));
    const Register<A> zero = {};
    x = x > E::HIGHEST + zero ? E::HIGHEST + zero : x;  // NaN stays
    x = x < E::LOWEST + zero ? E::LOWEST + zero : x;
    const Register<A> raised = x * A(1.44269504088896340736) + E::INTEGER, n = raised - E::INTEGER;
    const Register<A> r = (x - n * E::LN2_HIGH) - n * E::LN2_LOW;
    Register<A> sum = zero + reciprocal_factorial<A>(E::TERMS);
#pragma GCC unroll 16
    for (int k = E::TERMS - 1; k >= 0; --k) sum = sum * r + reciprocal_factorial<A>(k);
    const Register<A> start = zero + E::INTEGER;
    const Bits power = (Bits)raised - (Bits)start, half = power >> 1;
    const Bits first = (half + E::BIAS) << E::MANTISSA, second = (power - half + E::BIAS) << E::MANTISSA;
    return sum * (Register<A>)first * (Register<A>)second;
}

template <class A> inline Lanes<A> exp(const Lanes<A>& x) {
    return each(x, [](Register<A> a) { return exp<A>(a); });
}

}  // namespace gb
