"""The host's C++ compiler: it makes libraries of kernels, for the emulated device, and of the cpu backend's passes.

A library lies in the cache under the digest of its source and of the compiler; kernels of a file that are wanted
together are compiled together. What a kernel is compiled against: kernels/host/; the passes: kernels/cpu/.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import DeviceError, KernelError
from . import kernels as source
from .kernels import Kernel


@functools.cache
def compiler(user: str = "the emulated device") -> tuple[str, ...]:
    """The host's C++ compiler: CXX, else g++, clang++ or c++. An error names who needs it."""
    if not sys.platform.startswith("linux"):
        raise DeviceError(f"{user} runs on Linux only, not on {sys.platform}; use device='cpu'")
    chosen = os.environ.get("CXX")
    for candidate in [shlex.split(chosen)] if chosen else [["g++"], ["clang++"], ["c++"]]:
        path = shutil.which(candidate[0])
        if path:
            return path, *candidate[1:]
    missing = chosen or "g++ or clang++"
    raise DeviceError(f"{user} needs a C++ compiler, and {missing} is not there: install g++ or set CXX")


@functools.cache
def sanitizers() -> str:
    """Sanitizers to build with ("address", "address,undefined"); the process must have preloaded their libraries."""
    return os.environ.get("GPU_BACKPROP_EMULATED_SANITIZE", "")


@functools.cache
def compile_flags() -> tuple[str, ...]:
    """Options of every compilation, the include folders among them."""
    folders = [source.kernels_folder() / "host", source.kernels_folder(), *source.require_cuda_headers()]
    # -O2 runs a tenth faster, but compiles a third longer, and most kernels run for less time than they compile
    flags = ["-std=c++17", "-O0" if sanitizers() else "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-w"]
    flags += ["-ffp-contract=off", "-fno-strict-aliasing"]  # the GPU's bits; type punning as nvcc allows it
    flags += ["-U_FORTIFY_SOURCE"]  # a fortified longjmp takes a switch between fibres for an attack
    if sanitizers():
        # checks by calls: hundreds of kernels compile five times as fast as with the checks written out in each
        flags += [f"-fsanitize={sanitizers()}", "-fno-sanitize=null,object-size,pointer-overflow,return", "-g1"]
        flags += ["-DGB_SANITIZERS", "--param=asan-instrumentation-with-call-threshold=0"]
    return *flags, *(f"-I{folder}" for folder in folders)


# Of kernels, not of the runtime: checks that report through kernels/host/checks.h instead of a sanitizer's library
CHECKS = ("-fsanitize=alignment,bounds,integer-divide-by-zero", "-fno-sanitize-recover=all")
LIBRARIES = ("-nodefaultlibs", "-lm", "-lc", "-lgcc")


@functools.cache
def runtime() -> Path:
    """The library that runs threads on fibres, which every kernel's library is linked to."""
    host = source.kernels_folder() / "host"
    files = sorted(path for path in host.rglob("*") if path.is_file())
    key = source.digest(_identity(*compiler()), compile_flags(), CHECKS, _contents(files))
    path = library_folder() / f"runtime-{key}.so"
    if not path.exists():
        with source.workshop(library_folder()) as place:
            made = place / "lib"
            flags = *compile_flags(), f"-Wl,-soname,{path.name}"
            _run_compiler("the emulator's runtime", flags, host / "runtime.cpp", "-o", made)
            os.replace(made, path)
    return path


# The passes are vector code for the machine at hand. No contraction: their bits are those of NumPy's passes. -O3 makes
# them hardly faster, and takes a third longer.
PASSES_FLAGS = (
    *("-std=c++17", "-O2", "-ftree-loop-vectorize", "-fvect-cost-model=dynamic", "-fno-tree-slp-vectorize"),
    *("-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    *("-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-w"),
)


def passes() -> Path:
    """The library of the cpu backend's passes. The processor is part of its name, for a cache may be on a network."""
    folder = source.kernels_folder()
    program = compiler("the compiled path of the cpu device")
    files = [*sorted((folder / "cpu").iterdir()), folder / "common.cuh", folder / "functors.cuh"]
    key = source.digest(_identity(*program), PASSES_FLAGS, _processor(), _contents(files))
    path = source.cache_folder() / "cpu" / f"passes-{key}.so"
    if not path.exists():
        source.announce(program[0])
        with source.workshop(path.parent) as place:
            _run_compiler("passes.cpp", PASSES_FLAGS, folder / "cpu" / "passes.cpp", "-o", place / "lib")
            os.replace(place / "lib", path)
    return path


def _processor() -> list[bytes]:
    """The model and the instruction sets of the first processor, which `-march=native` compiles for."""
    with open("/proc/cpuinfo", "rb") as file:
        first = file.read(8192).split(b"\n\n")[0]
    wanted = (b"model", b"vendor_id", b"cpu family", b"flags", b"Features", b"CPU ", b"isa")  # x86, Arm, RISC-V
    return [line for line in first.splitlines() if line.startswith(wanted)]


def library_folder() -> Path:
    return source.cache_folder() / "emulated"


def library_path(kernel: Kernel) -> Path:
    """Where a kernel's library is, or will be."""
    return (
        library_folder() / f"{source.digest(source.source_digest(kernel.file), kernel.expression, runtime().name)}.so"
    )


def entry_name(kernel: Kernel) -> str:
    return "gb_" + source.digest(kernel.expression)


def build(kernels: Iterable[Kernel]) -> None:
    """Compiles the kernels that the cache lacks, those of a file in one library, published under each one's name."""
    files: dict[str, list[Kernel]] = {}
    for kernel in dict.fromkeys(kernels):
        if not library_path(kernel).exists():
            files.setdefault(kernel.file, []).append(kernel)
    for file, members in files.items():
        source.announce(compiler()[0])
        lines = [f"#define {macro} 1" for macro in source.type_macros(kernel.expression for kernel in members)]
        lines += ['#include "shims.h"', f'#include "{source.kernels_folder() / file}"', '#include "entry.h"']
        lines += [f"GB_ENTRY({entry_name(kernel)}, {kernel.expression})" for kernel in members]
        what = str(members[0]) if len(members) == 1 else f"{Path(file).name} ({len(members)} kernels)"
        with source.workshop(library_folder()) as place:
            (place / "kernels.cpp").write_text("\n".join(lines) + "\n")
            options = () if sanitizers() else (*CHECKS, *LIBRARIES)
            flags = *compile_flags(), "-Wl,-rpath,$ORIGIN"
            _run_compiler(what, flags, place / "kernels.cpp", runtime(), *options, "-o", place / "lib")
            for kernel in members:
                os.link(place / "lib", place / "link")
                os.replace(place / "link", library_path(kernel))


def _identity(program: str, *options: str) -> tuple[object, ...]:
    """What tells one compiler from another."""
    path = Path(program).resolve()
    return path, path.stat().st_size, path.stat().st_mtime_ns, options


def _contents(files: Iterable[Path]) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in files]


def _run_compiler(what: str, flags: Iterable[str], *arguments: str | Path) -> None:
    import subprocess  # here, for a library that lies in the cache is loaded without it

    result = subprocess.run([*compiler(), *flags, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        raise KernelError(f"{what} does not compile: {source.first_errors(result.stderr)}")


def available() -> tuple[bool, str]:
    """Whether kernels can run on this machine's CPU, and with what, or why not."""
    try:
        compile_flags()
        return True, f"{compiler()[0]}, CUDA's headers in {source.require_cuda_headers()[0]}"
    except (DeviceError, KernelError) as error:
        return False, str(error)
