// From a kernel to an entry point that the launcher can call: unpacks the arguments, describes their types.
#pragma once

#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#if !defined(GB_SANITIZERS)
#include "checks.h"
#endif
#include "runtime.h"

namespace gb {

// How the launcher sees a type: kind and size as NumPy names them ("f4", "i8", "u1", "b1"; "E2" is bfloat16, "V24" a
// structure).
struct TypeCode {
    char kind;
    bool pointer, constant;  // the pointer's target is const
    int size;
};

template <class T> constexpr TypeCode type_code() {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_pointer_v<U>) {
        constexpr TypeCode target = type_code<std::remove_pointer_t<U>>();
        return {target.kind, true, std::is_const_v<std::remove_pointer_t<U>>, target.size};
    } else if constexpr (std::is_void_v<U>) {
        return {'V', false, false, 1};
    } else if constexpr (std::is_same_v<U, bool>) {
        return {'b', false, false, 1};
    } else if constexpr (std::is_floating_point_v<U>) {
        return {'f', false, false, int(sizeof(U))};
    } else if constexpr (std::is_integral_v<U>) {
        return {std::is_signed_v<U> ? 'i' : 'u', false, false, int(sizeof(U))};
#ifdef __CUDA_FP16_TYPES_EXIST__
    } else if constexpr (std::is_same_v<U, __half>) {
        return {'f', false, false, 2};
#endif
#ifdef __CUDA_BF16_TYPES_EXIST__
    } else if constexpr (std::is_same_v<U, __nv_bfloat16>) {
        return {'E', false, false, 2};
#endif
    } else {
        return {'V', false, false, int(sizeof(U))};
    }
}

template <class T> T read_slot(const char*& slot) {
    std::remove_cv_t<T> value;
    static_assert(std::is_trivially_copyable_v<T>, "a kernel's parameters are copied as bytes");
    std::memcpy(&value, slot, sizeof(T));
    slot += (sizeof(T) + 15) / 16 * 16;
    return value;
}

template <auto kernel> struct Entry;

template <class... Parameters, void (*kernel)(Parameters...)> struct Entry<kernel> {
    using Arguments = std::tuple<std::remove_cv_t<Parameters>...>;

    static void body(const void* arguments) {
        while (next_thread()) std::apply(kernel, *static_cast<const Arguments*>(arguments));
    }

    static const char* launch(const Launch& launch, Shared shared) {
        auto slot = reinterpret_cast<const char*>(&launch + 1);
        const Arguments arguments{read_slot<Parameters>(slot)...};  // braces: from left to right
        return run(launch, body, &arguments, shared);
    }

    static constexpr TypeCode types[sizeof...(Parameters) + 1] = {type_code<Parameters>()..., {0, false, false, 0}};
};

}  // namespace gb

static thread_local char
        gb_shared_anchor;  // lies in the same block of memory as all __shared__ variables (see shims.h)

#define GB_ENTRY(name, ...)                                                                        \
    extern "C" __attribute__((visibility("default"))) const char* name(const gb::Launch* launch) { \
        return gb::Entry<&__VA_ARGS__>::launch(*launch, gb::shared_memory(&gb_shared_anchor));     \
    }                                                                                              \
    extern "C" __attribute__((visibility("default"))) const gb::TypeCode* name##_types() {         \
        return gb::Entry<&__VA_ARGS__>::types;                                                     \
    }
