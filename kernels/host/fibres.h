// Fibres: stacks of their own that give the processor to each other. Started by ucontext, then switched by _setjmp and
// _longjmp, which make no system call (swapcontext makes one at each switch). Part of runtime.cpp.
#pragma once

#include <csetjmp>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#include "asan.h"
#include "runtime.h"

namespace gb {

constexpr size_t stack_bytes = 128 * 1024;  // of address space; memory is taken page by page as a thread needs it
constexpr size_t gap_bytes = 64 * 1024;     // below it, that fault: wider than one function's variables can step over

struct Fibre {
    jmp_buf context;
    ucontext_t beginning;   // not a local of enter(): that never returns, and AddressSanitizer would hold its frame for
                            // alive
    char* stack = nullptr;  // its lowest address; below it lies a gap that faults
    bool started = false;
    int thread = -1;        // the CUDA thread that it carries
    bool assigned = false;  // a thread was given to it by the fibre that woke it
    asan::Stack asan;
};

struct Fibres {
    Fibre main;  // the caller's own stack
    Fibre* current = &main;
    std::vector<Fibre*> all, idle;
    void (*start)() = nullptr;  // what a new fibre runs; never returns

    Fibre* take_idle() {  // null if there is no memory for one more
        if (idle.empty()) return make();
        Fibre* fibre = idle.back();
        idle.pop_back();
        return fibre;
    }

    void switch_to(Fibre* to) {
        Fibre* self = current;
        if (_setjmp(self->context) == 0) {
            current = to;
            asan::leave(self->asan, to->asan);
            enter(to);
        }
        asan::arrived(&self->asan, main.asan);
    }

    // Gives up whatever the fibres are doing, for good: they start afresh.
    [[noreturn]] void abandon() {
        idle = all;
        for (Fibre* fibre : all) {
            fibre->started = fibre->assigned = false;
            fibre->thread = -1;
        }
        current = &main;
        asan::leave_for_good(main.asan);
        _longjmp(main.context, 1);
    }

    bool overflown(const char* address) const {
        return address < current->stack && address >= current->stack - gap_bytes;
    }

private:
    Fibre* make() {
        const int protection = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, gap_bytes + stack_bytes, protection, kind, -1, 0);
        if (memory == MAP_FAILED) return nullptr;
        mprotect(memory, gap_bytes, PROT_NONE);
        auto fibre = new Fibre;
        fibre->stack = static_cast<char*>(memory) + gap_bytes;
        fibre->asan.bottom = fibre->stack;
        fibre->asan.bytes = stack_bytes;
        all.push_back(fibre);
        return fibre;
    }

    [[noreturn]] void enter(Fibre* to) {
        if (to->started || to == &main) _longjmp(to->context, 1);
        to->started = true;
        getcontext(&to->beginning);
        to->beginning.uc_stack.ss_sp = to->stack;
        to->beginning.uc_stack.ss_size = stack_bytes;
        to->beginning.uc_link = nullptr;
        makecontext(&to->beginning, start, 0);
        setcontext(&to->beginning);
        __builtin_unreachable();
    }
};

}  // namespace gb
