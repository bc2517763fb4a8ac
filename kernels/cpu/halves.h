// 16-bit floats as the host knows them without any header: their bits, made wide and rounded (to nearest, ties to even)
// without branches, so that loops over them become vector code.
#pragma once

#include <cstdint>
#include <cstring>

namespace gb {

struct Half {
    uint16_t bits;
};
struct Bfloat {
    uint16_t bits;
};

template <class To, class From> inline To as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits, seen as another type");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(Bfloat x) { return as<float>(uint32_t(x.bits) << 16); }
inline float widen(Half x) {
    // the exponent moved by multiplication, which makes subnormal numbers normal; infinity and NaN keep all ones
    const uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13, sign = uint32_t(x.bits & 0x8000) << 16;
    const uint32_t special = (x.bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
    return as<float>(as<uint32_t>(as<float>(magnitude) * 0x1p112f) | special | sign);
}

template <class T> struct Narrow {
    static T from(T x) { return x; }
};
template <> struct Narrow<Bfloat> {
    static Bfloat from(float x) {
        const uint32_t bits = as<uint32_t>(x);
        const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        return {uint16_t(x == x ? rounded : (bits >> 16 | 0x40))};
    }
};
template <> struct Narrow<Half> {
    static Half from(float x) {
        const uint32_t bits = as<uint32_t>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
        // normal: rounded where the last bit of ten lies, the exponent moved; it may round up to infinity
        const uint32_t normal = (magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13;
        // below 2^-14: added to 0.5, whose last digit is worth the smallest half, the sum holds the rounded digits
        const uint32_t small = as<uint32_t>(as<float>(magnitude) + 0.5f) - 0x3f000000u;
        const uint32_t infinite = magnitude > 0x7f800000u ? 0x7e00 : 0x7c00;
        return {uint16_t(sign | (magnitude >= 0x47800000u ? infinite : magnitude < 0x38800000u ? small : normal))};
    }
};

}  // namespace gb
