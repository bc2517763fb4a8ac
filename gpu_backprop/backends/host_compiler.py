"""The host's C++ compiler: it makes a library of a kernel's own source, for the emulated device.

A library lies in the cache under the digest of its source and of the compiler; kernels of a file that are wanted
together are compiled together. What a kernel is compiled against: kernels/host/.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import DeviceError, KernelError
from . import kernels as source
from .kernels import Kernel


@functools.cache
def compiler() -> tuple[str, ...]:
    """The host's C++ compiler: CXX, else g++, clang++ or c++."""
    if not sys.platform.startswith("linux"):
        raise DeviceError(f"the emulated device runs on Linux only, not on {sys.platform}; use device='cpu'")
    chosen = os.environ.get("CXX")
    for candidate in [shlex.split(chosen)] if chosen else [["g++"], ["clang++"], ["c++"]]:
        path = shutil.which(candidate[0])
        if path:
            return path, *candidate[1:]
    missing = chosen or "g++ or clang++"
    raise DeviceError(f"the emulated device needs a C++ compiler, and {missing} is not there: install g++ or set CXX")


@functools.cache
def sanitizers() -> str:
    """Sanitizers to build with ("address", "address,undefined"); the process must have preloaded their libraries."""
    return os.environ.get("GPU_BACKPROP_EMULATED_SANITIZE", "")


@functools.cache
def compile_flags() -> tuple[str, ...]:
    """Options of every compilation, the include folders among them."""
    folders = [source.kernels_folder() / "host", source.kernels_folder(), *source.require_cuda_headers()]
    flags = ["-std=c++17", "-O0" if sanitizers() else "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-w"]
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
    program = Path(compiler()[0]).resolve()
    identity = program, program.stat().st_size, program.stat().st_mtime_ns, compiler()[1:]
    key = source.digest(identity, compile_flags(), CHECKS, [(path.name, path.read_bytes()) for path in files])
    path = library_folder() / f"runtime-{key}.so"
    if not path.exists():
        with source.workshop(library_folder()) as place:
            made = place / "lib"
            _run_compiler("the emulator's runtime", f"-Wl,-soname,{path.name}", host / "runtime.cpp", "-o", made)
            os.replace(made, path)
    return path


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
            _run_compiler(what, place / "kernels.cpp", runtime(), "-Wl,-rpath,$ORIGIN", *options, "-o", place / "lib")
            for kernel in members:
                os.link(place / "lib", place / "link")
                os.replace(place / "link", library_path(kernel))


def _run_compiler(what: str, *arguments: str | Path) -> None:
    result = subprocess.run([*compiler(), *compile_flags(), *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        raise KernelError(f"{what} does not compile: {source.first_errors(result.stderr)}")


def available() -> tuple[bool, str]:
    """Whether kernels can run on this machine's CPU, and with what, or why not."""
    try:
        compile_flags()
        return True, f"{compiler()[0]}, CUDA's headers in {source.require_cuda_headers()[0]}"
    except (DeviceError, KernelError) as error:
        return False, str(error)
