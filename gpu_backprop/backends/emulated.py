"""CUDA kernels on the CPU: their own source, compiled by the host's C++ compiler, every CUDA thread on a fibre.

`backend()` is the device "emulated": the launch code of cuda.py over NumPy arrays and the EmulatedLauncher. `RawKernel`
runs a kernel of the user's own with CuPy's arguments. The launcher checks what a GPU would not: argument types, writes
outside an array (guard zones), barriers that some threads never reach, wrong warp masks, memory that was never filled (it
reads as NaN). How threads run: kernels/host/runtime.cpp. Linux only.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DeviceError, KernelError
from . import kernels as source
from .kernels import DeviceProperties, Kernel

ORDERS = ("forward", "reversed", "shuffled")


# ---------------------------------------------------------------------------------------------------------- compilation


@functools.cache
def compiler() -> tuple[str, ...]:
    """The host's C++ compiler: CXX, else g++, else clang++."""
    if not sys.platform.startswith("linux"):
        raise DeviceError(f"the emulated device runs on Linux only, not on {sys.platform}; use device='cpu'")
    chosen = os.environ.get("CXX")
    for candidate in [shlex.split(chosen)] if chosen else [["g++"], ["clang++"]]:
        path = candidate and shutil.which(candidate[0])
        if path:
            return path, *candidate[1:]
    raise DeviceError(
        f"the emulated device needs a C++ compiler, and {chosen or 'g++ or clang++'} is not there; install g++ or set CXX"
    )


@functools.cache
def sanitizers() -> tuple[str, ...]:
    """Sanitizers to build with: "address", "undefined" (the process must have preloaded their libraries)."""
    chosen = os.environ.get("GPU_BACKPROP_EMULATED_SANITIZE", "")
    return tuple(name for name in chosen.split(",") if name)


@functools.cache
def compile_flags() -> tuple[str, ...]:
    host = str(source.kernels_folder() / "host")
    include = [f"-I{folder}" for folder in (host, str(source.kernels_folder()), *source.require_cuda_headers())]
    flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-w"]
    flags += ["-ffp-contract=off", "-fno-strict-aliasing"]  # the GPU's bits; type punning as nvcc allows it
    flags += ["-U_FORTIFY_SOURCE"]  # a fortified longjmp takes a switch between fibres for an attack
    flags += [f"-fsanitize={name}" for name in sanitizers()]
    return *flags, *include


@functools.cache
def compiler_identity() -> tuple[object, ...]:
    path = Path(compiler()[0]).resolve()
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns, compiler()[1:], compile_flags()


def available() -> tuple[bool, str]:
    """Whether kernels can run on this machine's CPU, and with what, or why not."""
    try:
        compile_flags()
        return True, f"{compiler()[0]}, CUDA headers in {source.cuda_include_folders()[0]}"
    except (DeviceError, KernelError) as error:
        return False, str(error)


def library_folder() -> Path:
    return source.cache_folder() / "emulated"


def run_compiler(arguments: Sequence[str | Path], what: str) -> None:
    command = [*compiler(), *compile_flags(), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise KernelError(f"{what} does not compile: {source._first_errors(result.stderr)}")


@functools.cache
def runtime() -> Path:
    """The library that runs threads on fibres, which every kernel's library is linked to."""
    host = source.kernels_folder() / "host"
    key = source.digest(_host_digest(), compiler_identity())
    path = library_folder() / f"runtime-{key}.so"
    if not path.exists():
        with source.workshop(library_folder()) as place:
            run_compiler(
                [f"-Wl,-soname,{path.name}", host / "runtime.cpp", "-o", place / "lib"], "the emulator's runtime"
            )
            os.replace(place / "lib", path)
    return path


def _host_digest() -> str:
    host = source.kernels_folder() / "host"
    return source.digest(*((path.name, path.read_bytes()) for path in sorted(host.rglob("*")) if path.is_file()))


def entry_name(kernel: Kernel) -> str:
    return "gb_" + source.digest(kernel.expression)


def library_path(kernel: Kernel) -> Path:
    key = source.digest(source.source_digest(kernel.file), kernel.expression, runtime().name)
    return library_folder() / f"{key}.so"


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
        with source.workshop(library_folder()) as place:
            (place / "kernels.cpp").write_text("\n".join(lines) + "\n")
            what = str(members[0]) if len(members) == 1 else f"{file}, {len(members)} kernels,"
            run_compiler([place / "kernels.cpp", runtime(), "-Wl,-rpath,$ORIGIN", "-o", place / "lib"], what)
            for kernel in members:
                os.link(place / "lib", place / "link")
                os.replace(place / "link", library_path(kernel))


# ------------------------------------------------------------------------------------------------------- guarded memory

POISON = 0x7FFA7FFA7FFA7FFA  # of kernels/host/runtime.h: a NaN in all four float types
GUARD_BYTES = 256


class Slab(np.ndarray):
    """Memory with a guard zone on either side; arrays made by `guarded_empty` are views of one."""

    low: int  # address of the first byte between the guard zones
    high: int  # address behind the last one


def guarded_empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An unset (all NaN) C-contiguous array, its memory aligned to 256 bytes, between guard zones."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape)) if isinstance(shape, tuple) else shape
    size = count * dtype.itemsize
    words = (size + 7) // 8 + 3 * GUARD_BYTES // 8
    slab = np.ndarray.__new__(Slab, words, np.uint64)
    slab.fill(POISON)
    start = slab.ctypes.data
    offset = GUARD_BYTES + -start % GUARD_BYTES
    slab.low, slab.high = start + offset, start + offset + size
    return np.ndarray(shape, dtype, buffer=slab, offset=offset)


def slab_of(array: np.ndarray) -> Slab | None:
    """The guarded memory that an array views, if it does."""
    base = array.base
    while base is not None:
        if type(base) is Slab:
            return base
        base = getattr(base, "base", None)
    return None


def guard_copies(arrays: Sequence[np.ndarray]) -> tuple[list[int], list[Slab], Callable[[], None]]:
    """Copies of unguarded arrays between guard zones: their addresses, the slabs, and what copies them back.

    Arrays that overlap go into one copy, so that a kernel sees them overlap.
    """
    bounds = [np.lib.array_utils.byte_bounds(array) for array in arrays]
    spans: list[tuple[int, int]] = []
    for low, high in sorted(bounds):
        if spans and low < spans[-1][1]:
            spans[-1] = spans[-1][0], max(high, spans[-1][1])
        else:
            spans.append((low, high))
    slabs = []
    for low, high in spans:
        slab = slab_of(guarded_empty(high - low, np.uint8))
        assert slab is not None
        ctypes.memmove(slab.low, low, high - low)
        slabs.append(slab)

    def moved(address: int) -> int:
        index = max(i for i, (low, _) in enumerate(spans) if low <= address)
        return slabs[index].low + address - spans[index][0]

    def copy_back() -> None:
        for (low, high), slab in zip(spans, slabs):
            inside = [array for array, bound in zip(arrays, bounds) if low <= bound[0] < max(high, low + 1)]
            if any(array.flags.writeable for array in inside):
                ctypes.memmove(low, slab.low, high - low)

    return [moved(array.ctypes.data) for array in arrays], slabs, copy_back


# ------------------------------------------------------------------------------------------------------------ launching


class TypeCode(ctypes.Structure):
    """A kernel's parameter, as kernels/host/entry.h describes it."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("pointer", ctypes.c_bool),
        ("constant", ctypes.c_bool),
        ("size", ctypes.c_int),
    )


@dataclass(frozen=True)
class Parameter:
    """What the launcher must know to pass one argument."""

    pointer: bool
    constant: bool  # a pointer through which the kernel does not write
    code: str  # "f4", "i8", "u1", "b1", "E2" (bfloat16), "V24" (a structure, or any pointer's target)
    format: str  # of struct.pack: a slot of a multiple of 16 bytes

    @staticmethod
    def of(type_code: TypeCode) -> Parameter:
        kind, size, pointer = type_code.kind.decode(), type_code.size, type_code.pointer
        forms = {"f4": "f", "f8": "d", "b1": "?"} | {f"i{n}": "bhxixxxq"[n - 1] for n in (1, 2, 4, 8)}
        forms |= {f"u{n}": "BHxIxxxQ"[n - 1] for n in (1, 2, 4, 8)}
        form = "Q" if pointer else forms.get(f"{kind}{size}", f"{size}s")
        used = 8 if pointer else size
        return Parameter(pointer, type_code.constant, f"{kind}{size}", f"{form}{-used % 16}x")


def dtype_code(dtype: np.dtype) -> str:
    kind = "E" if dtype.name == "bfloat16" else dtype.kind
    return f"{kind}{dtype.itemsize}"


def same_memory(code: str, dtype: np.dtype) -> bool:
    """Whether a pointer to `code` may read an array of this dtype: the same size and kind, signed or not."""
    given = dtype_code(dtype)
    if code == given or code[0] == "V":
        return not dtype.hasobject
    integers = "iub" if code[1:] == "1" else "iu"
    return code[1:] == given[1:] and code[0] in integers and given[0] in integers


class Bound:
    """A kernel in its loaded library."""

    def __init__(self, kernel: Kernel, library: ctypes.PyDLL):
        self.call = getattr(library, entry_name(kernel))
        self.call.argtypes = (ctypes.c_char_p,)
        types = getattr(library, entry_name(kernel) + "_types")
        types.restype = ctypes.POINTER(TypeCode)
        found, self.parameters = types(), []
        while found[len(self.parameters)].size:
            self.parameters.append(Parameter.of(found[len(self.parameters)]))
        self.slots = struct.Struct("=" + "".join(parameter.format for parameter in self.parameters))


HEADER = struct.Struct("=6IIiQII")  # struct Launch of kernels/host/runtime.h
REGION = struct.Struct("=QQ")


class EmulatedLauncher:
    """Runs kernels on the CPU, block after block, in the thread order `order`, and checks what they do.

    order: "forward", "reversed" or "shuffled" by `seed`; a kernel without races gives the same bits in all of them.
    """

    max_grid = 2**31 - 1
    properties = DeviceProperties(multiprocessors=2, shared_bytes_per_block=227 * 1024, architecture="host")

    def __init__(self, order: str = "forward", seed: int = 0):
        self.order, self.seed = order, seed
        self._bound: dict[Kernel, Bound] = {}
        self._runtime: Any = None

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        """An unset array between guard zones."""
        return np.empty(shape, dtype) if "address" in sanitizers() else guarded_empty(shape, dtype)

    def compile(self, kernels: Iterable[Kernel]) -> None:
        """Compiles and loads kernels ahead of their first launch, those of a file together."""
        kernels = list(kernels)
        build(kernels)
        if self._runtime is None:
            self._runtime = ctypes.PyDLL(str(runtime()))
            self._runtime.gb_error.restype = ctypes.c_char_p
        for kernel in kernels:
            self._bound[kernel] = Bound(kernel, ctypes.PyDLL(str(library_path(kernel))))

    def launch(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared: int = 0
    ) -> None:
        """Runs one launch to its end."""
        source.check_shape(kernel, grid, block, self.max_grid)
        if not 0 <= shared <= self.properties.shared_bytes_per_block:
            limit = self.properties.shared_bytes_per_block
            raise KernelError(f"{kernel}: {shared} bytes of dynamic shared memory are outside 0 to {limit}")
        if self.order not in ORDERS:
            raise KernelError(f"the thread order {self.order!r} is none of {', '.join(ORDERS)}")
        bound = self._bound.get(kernel)
        if bound is None:
            self.compile([kernel])
            bound = self._bound[kernel]
        parameters = bound.parameters
        if len(args) != len(parameters):
            raise KernelError(f"{kernel} takes {len(parameters)} arguments, not {len(args)}")

        values: list[Any] = []
        slabs: list[Slab] = []
        owners: list[int] = []  # the argument that each slab belongs to
        unguarded: list[int] = []
        for i, (parameter, value) in enumerate(zip(parameters, args)):
            if not parameter.pointer:
                values.append(scalar(kernel, i, parameter, value))
            elif value is None:
                values.append(0)
            else:
                check_array(kernel, i, parameter, value)
                values.append(value.__array_interface__["data"][0])
                slab = slab_of(value)
                if slab is None:
                    unguarded.append(i)
                else:
                    slabs.append(slab)
                    owners.append(i)
        copy_back = None
        if any(not parameters[i].constant for i in unguarded) and "address" not in sanitizers():
            addresses, copies, copy_back = guard_copies([args[i] for i in unguarded])
            for i, address in zip(unguarded, addresses):
                values[i] = address
            slabs += copies
            owners += unguarded[: len(copies)]

        gx, gy, gz = (*grid, 1, 1)[:3]
        bx, by, bz = (*block, 1, 1)[:3]
        slots = bound.slots.pack(*values)
        order = ORDERS.index(self.order)
        header = HEADER.pack(gx, gy, gz, bx, by, bz, shared, order, self.seed, len(slots), len(slabs))
        regions = b"".join([REGION.pack(slab.low, slab.high) for slab in slabs])
        if bound.call(header + slots + regions):
            raise KernelError(f"{kernel}: {self._error(args, slabs, owners)}")
        if copy_back:
            copy_back()

    def _error(self, args: Sequence[Any], slabs: list[Slab], owners: list[int]) -> str:
        text = self._runtime.gb_error().decode()
        if not text.startswith("damaged "):
            return text
        region, first, last = map(int, text.split()[1:])
        size = slabs[region].high - slabs[region].low
        where = f"{-first} bytes before its start" if first < 0 else f"{first - size} bytes past its end"
        array = args[owners[region]]
        return (
            f"writes outside argument {owners[region]} ({array.dtype} array of shape {array.shape}): "
            f"{last - first + 1} bytes from {where} on, offset {first} of {size} bytes"
        )


def check_array(kernel: Kernel, index: int, parameter: Parameter, value: Any) -> None:
    """Refuses an argument that a pointer parameter must not be given."""
    if not isinstance(value, np.ndarray):
        raise KernelError(
            f"{kernel}: argument {index} is a pointer and takes an array or None, not {type(value).__name__}"
        )
    if not same_memory(parameter.code, value.dtype) or not value.dtype.isnative:
        raise KernelError(f"{kernel}: argument {index} points to {parameter.code}, not to {value.dtype}")
    if not parameter.constant and not value.flags.writeable:
        raise KernelError(f"{kernel}: argument {index} is a read-only array, and the kernel's pointer is not const")


def scalar(kernel: Kernel, index: int, parameter: Parameter, value: Any) -> Any:
    """What struct.pack takes for an argument by value, after a check of its type."""
    if parameter.code[0] in "VE" or parameter.code == "f2":
        raw = b"" if isinstance(value, (np.ndarray, int, float)) else source.struct_bytes(value)
        if str(len(raw)) == parameter.code[1:] and (
            parameter.code[0] == "V" or dtype_code(value.dtype) == parameter.code
        ):
            return raw
    elif isinstance(value, np.generic) and dtype_code(value.dtype) == parameter.code:
        return value
    raise KernelError(f"{kernel}: argument {index} is of type {parameter.code}, not {type(value).__name__}")


# ---------------------------------------------------------------------------------------------------- device, RawKernel


@functools.cache
def backend() -> Any:
    """The device "emulated"."""
    usable, reason = available()
    if not usable:
        raise DeviceError(reason)
    from .cuda import KernelBackend

    return KernelBackend("emulated", np, EmulatedLauncher())
