// What AddressSanitizer must be told of fibres: which stack is about to run. Empty in a build without it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace gb::asan {

struct Stack {
    const void* bottom = nullptr;
    size_t bytes = 0;
    void* fake = nullptr;  // AddressSanitizer's own record while the stack rests
};

#if defined(__SANITIZE_ADDRESS__)
inline void leave(Stack& from, const Stack& to) { __sanitizer_start_switch_fiber(&from.fake, to.bottom, to.bytes); }
inline void leave_for_good(const Stack& to) { __sanitizer_start_switch_fiber(nullptr, to.bottom, to.bytes); }
// `main_stack` learns its own bounds when a fibre is entered from it for the first time.
inline void arrived(Stack* self, Stack& main_stack) {
    const void* bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self ? self->fake : nullptr, &bottom, &bytes);
    if (!main_stack.bottom) main_stack.bottom = bottom, main_stack.bytes = bytes;
}
#else
inline void leave(Stack&, const Stack&) {}
inline void leave_for_good(const Stack&) {}
inline void arrived(Stack*, Stack&) {}
#endif

}  // namespace gb::asan
