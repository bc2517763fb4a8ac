// What the runtime knows of memory: poison, guard zones, where a library keeps its shared memory, and accesses to no
// memory at all. Part of runtime.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include <link.h>

#include "runtime.h"

namespace gb {

inline void fill_with_poison(char* memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i += sizeof poison)
        std::memcpy(memory + i, &poison, std::min(sizeof poison, bytes - i));
}

// Whether the guard zones of a launch are as they were. If not, the text is "damaged", the region's number and the
// offsets of the first and last changed byte from the array's start; the launcher makes a sentence of it. The zones are
// mended for the next launch.
inline std::string check_guards(const Launch& launch) {
    static const auto pattern = [] {
        std::array<uint64_t, guard_bytes / 8 + 1> words;
        words.fill(poison);
        return words;
    }();
    std::string text;
    auto regions = reinterpret_cast<const char*>(&launch + 1) + launch.slot_bytes;
    for (uint32_t i = 0; i < launch.regions; ++i) {
        Region region;
        std::memcpy(&region, regions + i * sizeof region, sizeof region);
        for (char* zone : {region.low - guard_bytes, region.high}) {
            auto whole = reinterpret_cast<const char*>(pattern.data()) + reinterpret_cast<uintptr_t>(zone) % 8;
            if (std::memcmp(zone, whole, guard_bytes) == 0) continue;
            size_t first = 0, last = guard_bytes - 1;
            while (zone[first] == whole[first]) ++first;
            while (zone[last] == whole[last]) --last;
            std::memcpy(zone, whole, guard_bytes);
            const auto from = std::to_string(zone + first - region.low), to = std::to_string(zone + last - region.low);
            if (text.empty()) text = "damaged " + std::to_string(i) + " " + from + " " + to;
        }
    }
    return text;
}

// The thread-local memory of the library that holds `variable`, for the calling OS thread: see __shared__ in shims.h.
inline Shared find_shared_memory(const void* variable) {
    struct Search {
        uintptr_t address;
        Shared found;
    } search{reinterpret_cast<uintptr_t>(variable), {nullptr, 0}};
    const auto visit = [](dl_phdr_info* info, size_t, void* data) {
        auto search = static_cast<Search*>(data);
        const auto begin = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
        for (int i = 0; begin && i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_TLS || search->address < begin || search->address >= begin + header.p_memsz)
                continue;
            search->found = {reinterpret_cast<char*>(begin), header.p_memsz};
            return 1;
        }
        return 0;
    };
    dl_iterate_phdr(visit, &search);
    return search.found;
}

// While one lives, an access to no memory calls `on_fault` with its address (null for a division by zero), on a stack
// of its own.
class FaultHandler {
public:
    using OnFault = void (*)(int signal, char* address);

    explicit FaultHandler(OnFault on_fault) {
        call = on_fault;
        static thread_local char* stack = nullptr;
        stack_t old;
        if (!stack && sigaltstack(nullptr, &old) == 0 && (old.ss_flags & SS_DISABLE)) {
            constexpr size_t bytes = 64 * 1024;
            stack = new char[bytes];
            const stack_t mine{stack, 0, bytes};
            sigaltstack(&mine, nullptr);
        }
        struct sigaction action{};
        action.sa_sigaction = handle;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before[i]);
    }
    ~FaultHandler() {
        for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    }
    FaultHandler(const FaultHandler&) = delete;

private:
    static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
    static inline OnFault call = nullptr;
    struct sigaction before[3];

    static void handle(int signal, siginfo_t* info, void*) { call(signal, static_cast<char*>(info->si_addr)); }
};

}  // namespace gb
