"""Launches of CUDA kernels on the CPU, and the checks of their arguments and of the memory round them.

The runtime that plays out blocks and threads is kernels/host/runtime.cpp; the launcher packs a launch for it and says
what it found in terms of the arguments.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.errors import KernelError
from . import host_compiler
from .guards import Slab, guarded_copies, guarded_empty, slab_of
from .kernels import DeviceProperties, Kernel, check_shape

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
        self.call = getattr(library, host_compiler.entry_name(kernel))
        self.call.argtypes = (ctypes.c_char_p,)  # the launch
        self.call.restype = ctypes.c_char_p  # None, or the text of an error
        describe = getattr(library, host_compiler.entry_name(kernel) + "_types")
        describe.restype = ctypes.POINTER(TypeCode)
        descriptions = describe()
        self.parameters: list[Parameter] = []
        while descriptions[len(self.parameters)].size:
            self.parameters.append(Parameter(descriptions[len(self.parameters)]))
        self.slots = struct.Struct("=" + "".join(parameter.format for parameter in self.parameters))


# ------------------------------------------------------------------------------------------------------------ launching

ORDERS = ("forward", "reversed", "shuffled", "greedy")  # enum Order of kernels/host/runtime.h
HEADER = struct.Struct("=6IIiQII")  # struct Launch
REGION = struct.Struct("=QQ")  # struct Region


class EmulatedLauncher:
    """Runs kernels on the CPU, block after block, and checks what they do.

    order: in which order blocks and threads run. "forward", "reversed" or "shuffled" (by `seed`), a thread at a time up
    to its next wait; "greedy", a warp at a time up to its next __syncthreads, so that one warp is as far ahead of the
    others as the barriers allow. A kernel without races gives the same bits in all of them.
    """

    max_grid = 2**31 - 1
    properties = DeviceProperties(multiprocessors=2, shared_bytes_per_block=227 * 1024, architecture="host")

    def __init__(self, order: str = "forward", seed: int = 0):
        self.order, self.seed = order, seed
        self._bound: dict[Kernel, Bound] = {}
        self._shapes: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        """An unset array between guard zones (AddressSanitizer has its own)."""
        return np.empty(shape, dtype) if host_compiler.sanitizers() else guarded_empty(shape, dtype)

    def compile(self, kernels: Iterable[Kernel]) -> None:
        """Compiles and loads kernels ahead of their first launch, those of a file together."""
        kernels = list(kernels)
        host_compiler.build(kernels)
        for kernel in kernels:
            # PyDLL keeps the GIL: no other thread changes a launch's arrays meanwhile
            self._bound[kernel] = Bound(kernel, ctypes.PyDLL(str(host_compiler.library_path(kernel))))

    def is_bound(self, kernel: Kernel) -> bool:
        return kernel in self._bound

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
        if written and not host_compiler.sanitizers():
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
        check_shape(kernel, grid, block, self.max_grid)
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
