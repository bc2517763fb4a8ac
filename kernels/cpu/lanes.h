// Sixteen floats or eight doubles at a time, whatever the width of the machine's registers: a sum over lanes, and then
// across them, has one order of additions everywhere, so a result does not depend on the machine or on an address.
#pragma once

#include <cstdint>
#include <cstring>

namespace gb {

constexpr int LANE_BYTES = 64;
template <class A> struct LanesOf {
    typedef A Values __attribute__((vector_size(LANE_BYTES)));
};
template <class A> using Lanes = typename LanesOf<A>::Values;
template <class A> constexpr int LANES = LANE_BYTES / int(sizeof(A));

// The first `count` elements at `from` (all lanes, if there are as many), and `rest` in the other lanes
template <class A> inline Lanes<A> load(const A* from, intptr_t count, A rest) {
    Lanes<A> lanes;
    if (count >= LANES<A>) {
        std::memcpy(&lanes, from, sizeof(lanes));
        return lanes;
    }
    A values[LANES<A>];
    for (int k = 0; k < LANES<A>; ++k) values[k] = rest;
    for (int k = 0; k < count; ++k) values[k] = from[k];
    std::memcpy(&lanes, values, sizeof(lanes));
    return lanes;
}

template <class A> inline void store(A* to, const Lanes<A>& lanes, intptr_t count) {
    if (count >= LANES<A>) {
        std::memcpy(to, &lanes, sizeof(lanes));
        return;
    }
    for (int k = 0; k < count; ++k) to[k] = lanes[k];
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

template <class A> inline Lanes<A> exp(Lanes<A> x) {
    using E = ExpOf<A>;
    typedef typename E::Bits Bits __attribute__((vector_size(LANE_BYTES)));
    const Lanes<A> zero = {};
    x = x > E::HIGHEST + zero ? E::HIGHEST + zero : x;  // NaN stays
    x = x < E::LOWEST + zero ? E::LOWEST + zero : x;
    const Lanes<A> raised = x * A(1.44269504088896340736) + E::INTEGER, n = raised - E::INTEGER;
    const Lanes<A> r = (x - n * E::LN2_HIGH) - n * E::LN2_LOW;
    Lanes<A> sum = zero + reciprocal_factorial<A>(E::TERMS);
#pragma GCC unroll 16
    for (int k = E::TERMS - 1; k >= 0; --k) sum = sum * r + reciprocal_factorial<A>(k);
    const Lanes<A> start = zero + E::INTEGER;
    const Bits power = (Bits)raised - (Bits)start, half = power >> 1;
    const Bits first = (half + E::BIAS) << E::MANTISSA, second = (power - half + E::BIAS) << E::MANTISSA;
    return sum * (Lanes<A>)first * (Lanes<A>)second;
}

}  // namespace gb
