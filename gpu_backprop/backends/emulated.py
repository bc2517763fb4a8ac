"""CUDA kernels on the CPU: their own source, compiled by the host's C++ compiler, every CUDA thread on a fibre.

`backend()` is the device "emulated": the launch code of cuda.py over NumPy arrays and the EmulatedLauncher. `RawKernel`
runs a kernel of the user's own with CuPy's arguments. The launcher checks what a GPU would not: argument types, writes
outside an array, misaligned accesses, barriers that some threads never reach, wrong warp masks, and memory that nobody
filled (it reads as NaN). How threads run: kernels/host/runtime.cpp. Linux only.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DeviceError, KernelError
from . import kernels as source
from .guards import Slab, guarded_copies, guarded_empty, slab_of
from .kernels import DeviceProperties, Kernel

# ---------------------------------------------------------------------------------------------------------- compilation


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
    flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-w"]
    flags += ["-ffp-contract=off", "-fno-strict-aliasing"]  # the GPU's bits; type punning as nvcc allows it
    flags += ["-U_FORTIFY_SOURCE"]  # a fortified longjmp takes a switch between fibres for an attack
    if sanitizers():
        flags += [f"-fsanitize={sanitizers()}", "-g", "-DGB_SANITIZERS"]
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


# ------------------------------------------------------------------------------------------------------------ arguments


class TypeCode(ctypes.Structure):
    """A kernel's parameter, as kernels/host/entry.h describes it."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("pointer", ctypes.c_bool),
        ("constant", ctypes.c_bool),
        ("size", ctypes.c_int),
    )


FORMATS = {"f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I"}
FORMATS["u8"] = "Q"


@functools.lru_cache(256)
def code_of(dtype: np.dtype) -> str:
    """A dtype as TypeCode names types: bfloat16 is E2, a structure of 24 bytes V24."""
    return f"E{dtype.itemsize}" if dtype.name == "bfloat16" else f"{dtype.kind}{dtype.itemsize}"


class Parameter:
    """One parameter of a kernel: what may be passed for it, and how its slot of the argument buffer is packed."""

    def __init__(self, description: TypeCode):
        self.pointer: bool = description.pointer
        self.constant: bool = description.constant  # a pointer through which the kernel does not write
        self.code = f"{description.kind.decode()}{description.size}"
        used = 8 if self.pointer else description.size
        form = "Q" if self.pointer else FORMATS.get(self.code, f"{used}s")
        self.format = f"{form}{-used % 16}x"
        self.packed_as_bytes = form.endswith("s")
        self._accepted: set[np.dtype] = set()  # of arrays

    def address(self, array: Any) -> int:
        """The address to pass for an array; raises KernelError if the array does not suit."""
        if not isinstance(array, np.ndarray):
            raise KernelError(f"is a pointer and takes an array or None, not {type(array).__name__}")
        if array.dtype not in self._accepted:
            if not self._may_point_to(array.dtype):
                raise KernelError(f"points to {self.code}, not to {array.dtype}")
            self._accepted.add(array.dtype)
        if not self.constant and not array.flags.writeable:
            raise KernelError("is a read-only array, and the kernel's pointer to it is not const")
        return array.__array_interface__["data"][0]

    def _may_point_to(self, dtype: np.dtype) -> bool:
        given = code_of(dtype)
        if dtype.hasobject or not dtype.isnative:
            return False
        if self.code == given or self.code[0] == "V":  # void*, and vectors or structures laid over an array
            return True
        integers = "iub" if given[1:] == "1" else "iu"
        return self.code[1:] == given[1:] and self.code[0] in integers and given[0] in integers

    def value(self, given: Any) -> Any:
        """What struct packs for an argument by value; raises KernelError unless it is of the parameter's own type."""
        if isinstance(given, np.generic) and (code_of(given.dtype) == self.code):
            return given.tobytes() if self.packed_as_bytes else given
        if (
            self.code[0] == "V"
            and isinstance(given, (ctypes.Structure, bytes))
            and len(bytes(given)) == int(self.code[1:])
        ):
            return bytes(given)
        raise KernelError(f"is of type {self.code}, not {getattr(given, 'dtype', type(given).__name__)}")


class Bound:
    """A kernel in its loaded library."""

    def __init__(self, kernel: Kernel, library: ctypes.PyDLL):
        self.call = getattr(library, entry_name(kernel))
        self.call.argtypes = (ctypes.c_char_p,)  # the launch
        self.call.restype = ctypes.c_char_p  # None, or the text of an error
        describe = getattr(library, entry_name(kernel) + "_types")
        describe.restype = ctypes.POINTER(TypeCode)
        descriptions = describe()
        self.parameters: list[Parameter] = []
        while descriptions[len(self.parameters)].size:
            self.parameters.append(Parameter(descriptions[len(self.parameters)]))
        self.slots = struct.Struct("=" + "".join(parameter.format for parameter in self.parameters))


# ------------------------------------------------------------------------------------------------------------ launching

ORDERS = ("forward", "reversed", "shuffled")  # enum Order of kernels/host/runtime.h
HEADER = struct.Struct("=6IIiQII")  # struct Launch
REGION = struct.Struct("=QQ")  # struct Region


class EmulatedLauncher:
    """Runs kernels on the CPU, block after block, and checks what they do.

    order: in which order blocks and threads run, "forward", "reversed" or "shuffled" (by `seed`). A kernel without
    races gives the same bits in all of them.
    """

    max_grid = 2**31 - 1
    properties = DeviceProperties(multiprocessors=2, shared_bytes_per_block=227 * 1024, architecture="host")

    def __init__(self, order: str = "forward", seed: int = 0):
        self.order, self.seed = order, seed
        self._bound: dict[Kernel, Bound] = {}
        self._shapes: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        """An unset array between guard zones (AddressSanitizer has its own)."""
        return np.empty(shape, dtype) if sanitizers() else guarded_empty(shape, dtype)

    def compile(self, kernels: Iterable[Kernel]) -> None:
        """Compiles and loads kernels ahead of their first launch, those of a file together."""
        kernels = list(kernels)
        build(kernels)
        for kernel in kernels:
            # PyDLL keeps the GIL: no other thread changes a launch's arrays meanwhile
            self._bound[kernel] = Bound(kernel, ctypes.PyDLL(str(library_path(kernel))))

    def bind(self, kernel: Kernel) -> Bound:
        """The loaded kernel; compiles it if need be."""
        if kernel not in self._bound:
            self.compile([kernel])
        return self._bound[kernel]

    def launch(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared: int = 0
    ) -> None:
        """Runs one launch to its end."""
        shape = self._shapes.get((grid, block, shared, self.max_grid)) or self._shape(kernel, grid, block, shared)
        bound = self._bound.get(kernel) or self.bind(kernel)
        if len(args) != len(bound.parameters):
            raise KernelError(f"{kernel} takes {len(bound.parameters)} arguments, not {len(args)}")
        values: list[Any] = []
        guarded: list[tuple[int, Slab]] = []  # number of the argument, its memory
        unguarded: list[int] = []
        written = False  # by the kernel, into unguarded arrays
        for parameter, value in zip(bound.parameters, args):
            try:
                if not parameter.pointer:
                    values.append(parameter.value(value))
                elif value is None:
                    values.append(0)
                else:
                    slab = slab_of(value) if isinstance(value, np.ndarray) else None
                    if slab is not None:
                        guarded.append((len(values), slab))
                    else:
                        unguarded.append(len(values))
                        written = written or not parameter.constant
                    values.append(parameter.address(value))
            except KernelError as error:
                raise KernelError(f"{kernel}: argument {len(values)} {error}") from None
        copy_back = None
        if written and not sanitizers():
            addresses, slabs, copy_back = guarded_copies([args[i] for i in unguarded])
            for i, address, slab in zip(unguarded, addresses, slabs):
                values[i] = address
                guarded.append((i, slab))
        slots = bound.slots.pack(*values)
        header = HEADER.pack(*shape, self._order, self.seed, len(slots), len(guarded))
        regions = b"".join([REGION.pack(slab.low, slab.high) for _, slab in guarded])
        problem = bound.call(header + slots + regions)
        if problem is not None:
            raise KernelError(f"{kernel}: {sentence(problem.decode(), args, guarded)}")
        if copy_back is not None:
            copy_back()

    @property
    def order(self) -> str:
        return ORDERS[self._order]

    @order.setter
    def order(self, order: str) -> None:
        if order not in ORDERS:
            raise KernelError(f"the thread order {order!r} is none of {', '.join(ORDERS)}")
        self._order = ORDERS.index(order)

    def _shape(self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], shared: int) -> tuple[int, ...]:
        """Grid, block and shared bytes as the runtime takes them, checked."""
        source.check_shape(kernel, grid, block, self.max_grid)
        limit = self.properties.shared_bytes_per_block
        if not 0 <= shared <= limit:
            raise KernelError(f"{kernel}: {shared} bytes of dynamic shared memory are outside 0 to {limit}")
        shape = (*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3], shared)
        self._shapes[grid, block, shared, self.max_grid] = shape
        return shape


def sentence(text: str, args: Sequence[Any], guarded: list[tuple[int, Slab]]) -> str:
    """The runtime's error text; a damaged guard zone told in terms of the argument."""
    if not text.startswith("damaged "):
        return text
    region, first, last = map(int, text.split()[1:])
    number, slab = guarded[region]
    size, array = slab.high - slab.low, args[number]
    where = f"{-first} bytes before its memory begins" if first < 0 else f"{first - size} bytes past its memory's end"
    return (
        f"wrote outside argument {number} ({array.dtype} array of shape {array.shape}): {last - first + 1} bytes, "
        f"the first {where} (offset {first} of {size})"
    )


# ---------------------------------------------------------------------------------------------------------------- users


@functools.cache
def backend() -> Any:
    """The device "emulated"."""
    usable, reason = available()
    if not usable:
        raise DeviceError(reason)
    from .cuda import KernelBackend

    return KernelBackend("emulated", np, EmulatedLauncher())


class RawKernel:
    """A CUDA kernel of the user's own, run on the CPU with the emulator's checks; called as cupy.RawKernel is.

        kernel = gb.emulated.RawKernel(source, "saxpy", order="shuffled", seed=1)
        kernel((grid,), (block,), (x, y, out, np.int32(n)))

    Arguments are NumPy arrays and scalars; a Python int fits any integer parameter, a Python float a double. `options`
    are definitions, "-DNAME=value". Three orders and some seeds find most races: a sound kernel gives the same result.
    """

    def __init__(
        self, code: str, name: str, options: Sequence[str] = (), *, order: str = "forward", seed: int = 0
    ) -> None:
        self.name = name
        self.launcher = EmulatedLauncher(order, seed)
        lines = []
        for option in options:
            definition = re.fullmatch(r"-D\s*(\w+)(?:=(.*))?", option)
            if definition:
                lines.append(f"#define {definition[1]} {1 if definition[2] is None else definition[2]}")
            elif not re.match(r"--?std=", option):
                raise KernelError(f"RawKernel {name}: the option {option!r} is not understood; only -DNAME=value is")
        # the one declaration that a host compiler cannot read
        code = re.sub(
            r"extern\s+__shared__\s+((?:__align__\(\d+\)\s*)?)([\w:<>, ]+?)\s*\b(\w+)\s*\[\s*\]\s*;",
            r"DYNAMIC_SHARED(\2, \3);",
            code,
        )
        text = "\n".join([*lines, "#line 1", code])
        path = library_folder() / "sources" / source.digest(text) / (re.sub(r"\W+", "_", name).strip("_") + ".cu")
        if not path.exists():
            with source.workshop(path.parent) as place:
                (place / "source").write_text(text)
                os.replace(place / "source", path)
        self.kernel = Kernel(str(path), name)

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        parameters = self.launcher.bind(self.kernel).parameters
        converted = [as_declared(parameter, value) for parameter, value in zip(parameters, args)]
        self.launcher.launch(self.kernel, tuple(grid), tuple(block), (*converted, *args[len(converted) :]), shared_mem)


def as_declared(parameter: Parameter, value: Any) -> Any:
    """A Python number as the NumPy scalar that the parameter wants, where that loses nothing."""
    kind = parameter.code[0]
    if parameter.pointer or isinstance(value, np.generic):
        return value
    if isinstance(value, (bool, int)) and kind in "iub":
        dtype = np.dtype(bool if kind == "b" else parameter.code)
        if kind == "b" or np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return dtype.type(value)
    if isinstance(value, float) and parameter.code == "f8":
        return np.float64(value)
    return value
