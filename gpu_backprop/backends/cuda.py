"""The backend that runs on kernels: over CuPy it is the device "cuda", over NumPy the device "emulated".

    KernelBackend("cuda", cupy, CudaLauncher(), CudaMachine(0))
    KernelBackend("emulated", np, EmulatedLauncher())

One class, one launch code; what differs is the array module, the launcher, and the machine: how arrays are made, how
they are copied from and to the host, what synchronising means (CudaMachine: cuda_machine.py).
"""

from __future__ import annotations

import functools
import platform
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..core import precision
from . import borrowed, generic
from .base import Array, Backend, Functions, host_memory
from .cuda_graph import GraphRun
from .cuda_machine import CudaMachine, cuda_status
from .faults import FAULTS, fault
from .launching import launch_functions
from .launching.products import APART, is_quicker, plan_of

__all__ = ["KernelBackend", "cuda_backend", "cuda_status"]

TICKETS = 4096  # counters for blocks that wait for the last one: so many rows or tiles are never split


class HostMachine:
    """The machine of the emulated backend: arrays are NumPy's, work is done when a launch returns."""

    gemm = None  # matrix products are NumPy's

    def __init__(self, launcher: Any):
        self.empty = launcher.empty  # between guard zones

    def memory(self) -> tuple[int, ...]:
        return (host_memory(),)

    def stream(self) -> int:
        return threading.get_ident()  # threads are to the emulator what streams are to a GPU

    def from_host(self, array: np.ndarray, copy: bool) -> np.ndarray:
        usable = array.flags.aligned and array.dtype.isnative
        if usable and not copy:
            return array
        result = self.empty(array.shape, array.dtype if usable else array.dtype.newbyteorder("="))
        result[...] = array
        return result

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def synchronize(self) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {"processor": platform.processor() or platform.machine(), "numpy": np.__version__}


class KernelBackend(Backend):
    """Every primitive that has a kernel runs it; the rest are the array module's (16-bit floats in float32)."""

    def __init__(self, name: str, xp: Any, launcher: Any, machine: Any = None):
        self.name = name
        self.xp = xp
        self.launcher = launcher
        self.machine = machine or HostMachine(launcher)
        self.empty = self.machine.empty  # type: ignore[method-assign]
        if machine is not None:
            self.dlpack_device = (2, machine.index)  # kDLCUDA
        self._tickets: dict[int, Array] = {}
        self._faults: Array | None = None  # a row an operation of FAULTS
        self._fault_words: dict[str, Array] = {}
        self._fault_pending = False

        native = Functions(lambda primitive: generic.lookup(xp, primitive))
        native.update(generic.table(xp))
        fallbacks = generic.aware(native, xp)
        self.functions = Functions(fallbacks.__getitem__)
        self.functions.update(launch_functions(self, fallbacks.__getitem__))

    # arrays ----------------------------------------------------------------------------------------------------------

    def from_host(self, array: np.ndarray, copy: bool = True) -> Array:
        return self.machine.from_host(array, copy)

    def to_host(self, array: Array) -> np.ndarray:
        result = self.machine.to_host(array)
        self.check_faults()
        return result

    @functools.cached_property
    def memory(self) -> int:
        return self.machine.memory()[-1]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        return self.machine.empty(shape, dtype)  # __init__ puts the machine's own function in this place

    def carve(
        self, memory: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]
    ) -> Array:
        if self.xp is np:
            return super().carve(memory, offset, shape, dtype, strides)
        return self.xp.ndarray(shape, dtype, memory.data + offset, strides)

    def executor(self, calls: Sequence[Callable[[], Any]], names: Sequence[str]) -> Callable[[], Any]:
        if not hasattr(self.machine, "record_graph"):
            return super().executor(calls, names)
        return GraphRun(self.machine, calls, self.expect_faults, self.machine.cannot_record(names))  # type: ignore[union-attr]

    def filler(
        self, place: Array, views: Sequence[Array], calls: Sequence[Callable[[], Any]]
    ) -> Callable[[Array], Any]:
        by_write = super().filler(place, views, calls)
        if not hasattr(self.machine, "copy") or not is_dense(place):
            return by_write
        copy, strides = self.machine.copy, place.strides
        return lambda array: copy(place, array) if array.strides == strides else by_write(array)

    def copier(self, array: Array) -> Callable[[], Array]:
        if not hasattr(self.machine, "copy") or not array.flags.c_contiguous:
            return super().copier(array)
        copy, empty, shape, dtype = self.machine.copy, self.empty, array.shape, array.dtype
        return lambda: copy(empty(shape, dtype), array)

    def fuses(self, first: Any, second: Any, out: Any, epilogue: str, address: Any, **more: Any) -> bool:
        library = self.machine.gemm
        if library is None or not library.takes(plan_of(first, second, out, epilogue, address, **more)):
            return False
        return epilogue not in APART or self.prefers(first, second, out, epilogue)

    def prefers(self, first: Any, second: Any, out: Any, epilogue: str) -> bool:
        """Is an epilogue that cuBLASLt may run apart quicker than our kernels? They are timed, or it is not."""
        return precision.is_tuning_matmul() and is_quicker(self, first.shape, second.shape, out.dtype, epilogue)

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        return self.machine.on_stream(stream) if hasattr(self.machine, "on_stream") else super().on_stream(stream)

    def lane(self) -> int:
        return self.machine.stream()

    def mark(self) -> Any:
        return self.machine.mark() if hasattr(self.machine, "mark") else super().mark()

    def between(self, start: Any, stop: Any) -> float:
        return self.machine.between(start, stop) if hasattr(self.machine, "between") else super().between(start, stop)

    def expect_faults(self) -> None:
        """Kernels are under way that may report a fault: somebody has to look."""
        self._fault_pending = True

    def is_writable(self, array: Array) -> bool:
        return borrowed.is_writable(array)

    def write(self, array: Array, index: Any, value: Any) -> None:
        if self.xp is not np:
            if isinstance(value, np.generic):
                value = value.item()  # CuPy takes no NumPy scalars
            elif isinstance(value, self.xp.ndarray) and self.xp.may_share_memory(array, value):
                value = value.copy()  # NumPy reads all before it writes; CuPy does not
        array[index] = value

    def synchronize(self) -> None:
        self.machine.synchronize()
        self.check_faults()

    def info(self) -> dict[str, Any]:
        return {"device": self.name, **self.machine.info()}

    # what kernels leave behind ---------------------------------------------------------------------------------------

    def tickets(self) -> Array:
        """The zeroed counters of this stream; every launch leaves them at zero."""
        stream = self.machine.stream()
        found = self._tickets.get(stream)
        if found is None:
            found = self._tickets[stream] = self.zeros(TICKETS, np.uint32)
        return found

    def forget_tickets(self) -> Array | None:
        """Take the counters of this stream away from it."""
        return self._tickets.pop(self.machine.stream(), None)

    def zeros(self, count: int, dtype: type) -> Array:
        array = self.empty((count,), np.dtype(dtype))
        array.fill(0)
        return array

    def launch_counted(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        """A launch that counts its blocks on tickets; one that fails half-way must not leave its count behind."""
        try:
            self.launcher.launch(kernel, grid, block, args)
        except Exception:
            self._tickets.clear()
            raise

    def fault_word(self, operation: str) -> Array:
        """Where kernels of an operation report an index out of range: (1, index, place, limit), or zeros."""
        if self._faults is None:
            self._faults = self.zeros(4 * len(FAULTS), np.uint64).reshape(-1, 4)
            self._fault_words = dict(zip(FAULTS, self._faults, strict=True))
        return self._fault_words[operation]

    def launched_faultable(self) -> None:
        """A kernel that may report a fault is under way; where launches have ended when they return, look at once."""
        self.expect_faults()
        if self.xp is np:
            self.check_faults()

    def check_faults(self) -> None:
        """Raises what FAULTS says if a kernel met an index out of range since the last look."""
        if not self._fault_pending or self._faults is None:
            return
        self._fault_pending = False
        rows = self.machine.to_host(self._faults).astype(np.int64)
        if not rows[:, 0].any():
            return
        self._faults.fill(0)
        operation, row = next((name, row) for name, row in zip(FAULTS, rows, strict=True) if row[0])
        raise fault(operation, *map(int, row[1:]))


def is_dense(array: Array) -> bool:
    """Does it fill its memory without a gap?"""
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def cuda_backend(index: int = 0) -> KernelBackend:
    """The backend of one NVIDIA GPU; DeviceError says what is missing where there is none."""
    machine = CudaMachine(index)  # checks that CuPy, driver and device are there
    from .kernels import CudaLauncher

    backend = KernelBackend(machine.name, machine.xp, CudaLauncher(), machine)
    machine.watch(backend)
    machine.refuse_after_fork(backend)
    return backend
