// Checks that the compiler puts into a kernel's code, reported as errors of the launch: misaligned accesses, indices
// outside an array of known length (shared memory above all), integer division by zero. The compiler's -fsanitize
// options call these functions; having them here, a kernel's library needs no sanitizer's own library. The structures
// are those of the compilers' interface.
#pragma once

#include "runtime.h"

namespace gb::checks {

struct Place {
    const char* file;
    uint32_t line, column;
};
struct TypeName {
    uint16_t kind, info;
    char text[1];  // quoted, ends with 0
};
struct Access {
    Place place;
    const TypeName* type;
    unsigned char log2_alignment, how;
};
struct Index {
    Place place;
    const TypeName *array, *index;
};

}  // namespace gb::checks

#define GB_HANDLER extern "C" __attribute__((visibility("hidden"), used)) inline void

GB_HANDLER __ubsan_handle_type_mismatch_v1_abort(const gb::checks::Access* access, uintptr_t address) {
    gb::fail("misaligned access at %s:%u: address %#zx of a %s is no multiple of %d",
            gb::short_name(access->place.file), access->place.line, size_t(address), access->type->text,
            1 << access->log2_alignment);
}
GB_HANDLER __ubsan_handle_out_of_bounds_abort(const gb::checks::Index* index, uintptr_t value) {
    gb::fail("index %zd is outside the array of type %s at %s:%u", ssize_t(value), index->array->text,
            gb::short_name(index->place.file), index->place.line);
}
GB_HANDLER __ubsan_handle_divrem_overflow_abort(const gb::checks::Access* division, uintptr_t, uintptr_t) {
    gb::fail("integer division by zero at %s:%u", gb::short_name(division->place.file), division->place.line);
}

#undef GB_HANDLER
