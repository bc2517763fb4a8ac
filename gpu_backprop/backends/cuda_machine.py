"""One NVIDIA GPU through CuPy: is it there, how arrays get to it and back, what it is.

Pageable host memory is copied through a ring of page-locked buffers, so that a copy neither stops the host nor reads a
buffer that is being refilled. CuPy is imported when a CudaMachine is made, never before.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib.util
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..core.errors import DeviceError
from . import gemm
from .cuda_watch import Watch, out_of_memory
from .generic_linalg import FACTORIZATIONS, TRANSFORMS

PER_THREAD = 2  # the handle cudaStreamPerThread
PRODUCTS = frozenset(("matmul", "linear", "linear_relu", "linear_weight_gradient"))
SORTS = ("random_permutation", "argsort", "isin", "sort")
SORTING = (
    "{name} sorts through CuPy, whose sort waits for the GPU, which a CUDA graph cannot hold: replays are "
    "made call by call; sort (or draw the permutation) outside, and give the result as an argument"
)
SOLVING = (
    "{name} goes through cuSOLVER and waits for what it reports, which a CUDA graph cannot hold: replays are "
    "made call by call"
)
TRANSFORMING = "{name} works in memory of CuPy's plan, which a CUDA graph does not keep: replays are made call by call"
APART = (
    *((name, SORTING) for name in SORTS),
    *((name, SOLVING) for name in FACTORIZATIONS),
    *((name, TRANSFORMING) for name in TRANSFORMS),
)

# is there a GPU ------------------------------------------------------------------------------------------------------


@functools.cache
def driver_version() -> int:
    """The CUDA version that the driver speaks (13000 for 13.0), 0 without a driver. Needs no CuPy."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int(0)
        return version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def install_line() -> str:
    """The pip command that suits the driver found."""
    extra = "cuda12" if 0 < driver_version() < 13000 else "cuda13"
    return f'pip install "gpu-backprop[{extra}]"'


@functools.cache
def cuda_status() -> tuple[int, str]:
    """How many GPUs can be used; if none, whether driver, CuPy or device is missing, and the remedy. Never raises."""
    driver = driver_version()
    if not driver:
        remedy = f"install NVIDIA's driver, then `{install_line()}`"
        return 0, f"the NVIDIA driver is missing (libcuda is not there or does not start); {remedy}"
    if importlib.util.find_spec("cupy") is None:
        return 0, f"CuPy is missing (the driver speaks CUDA {driver // 1000}.{driver % 1000 // 10}); `{install_line()}`"
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # whatever a broken installation raises: the reason is what the user needs
        return 0, f"CuPy does not start ({error}); reinstall it: `{install_line()}`"
    if count == 0:
        return 0, "the driver finds no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    return count, ""


def product_status() -> tuple[bool, str]:
    """Do matrix products on CUDA go through cuBLASLt? And what serves them, with the remedy if it is CuPy."""
    works, reason = gemm.report()
    return works, reason if works else f"CuPy's matmul, nothing fused ({reason}; `{install_line()}` brings cuBLASLt)"


# copies --------------------------------------------------------------------------------------------------------------


class PinnedRing:
    """Page-locked buffers, each refilled only after the event that was recorded behind its last copy.

    allocate(bytes) gives one buffer; record() records an event, with .synchronize(), behind the work of this stream.
    """

    def __init__(
        self, allocate: Callable[[int], np.ndarray], record: Callable[[], Any], slots: int = 4, size: int = 1 << 22
    ):
        self.allocate, self.record, self.size = allocate, record, size
        self.slots: list[list[Any]] = [[None, None] for _ in range(slots)]  # buffer, event of its last copy
        self.next = 0
        self.lock = threading.Lock()

    def take(self, size: int) -> list[Any]:
        """The next slot, its buffer free to be written."""
        slot = self.slots[self.next]
        self.next = (self.next + 1) % len(self.slots)
        if slot[0] is None:
            slot[0] = self.allocate(self.size)
        if slot[1] is not None:
            slot[1].synchronize()
        return slot

    def upload(self, source: np.ndarray, copy: Callable[[int, np.ndarray], None]) -> None:
        """From pageable memory; copy(offset, buffer) starts the copy of one piece to the device."""
        data = source.reshape(-1).view(np.uint8)
        with self.lock:
            for offset in range(0, data.size, self.size):
                piece = data[offset : offset + self.size]
                slot = self.take(piece.size)
                slot[0][: piece.size] = piece
                copy(offset, slot[0][: piece.size])
                slot[1] = self.record()

    def download(self, target: np.ndarray, copy: Callable[[int, np.ndarray], None]) -> None:
        """Into pageable memory; while one piece is copied out of its buffer the next ones are on their way."""
        data = target.reshape(-1).view(np.uint8)
        waiting: list[tuple[np.ndarray, list[Any]]] = []

        def arrive() -> None:
            piece, slot = waiting.pop(0)
            slot[1].synchronize()
            piece[:] = slot[0][: piece.size]

        with self.lock:
            for offset in range(0, data.size, self.size):
                if len(waiting) == len(self.slots):
                    arrive()
                piece = data[offset : offset + self.size]
                slot = self.take(piece.size)
                copy(offset, slot[0][: piece.size])
                slot[1] = self.record()
                waiting.append((piece, slot))
            while waiting:
                arrive()


class CudaMachine:
    """The machine of a KernelBackend on CUDA: CuPy's current stream and memory pool on one device."""

    warned = False  # that Programs with products are no graphs here

    def __init__(self, index: int):
        count, reason = cuda_status()
        if not count:
            raise DeviceError(f'device "cuda": {reason}')
        if index >= count:
            raise DeviceError(f'device "cuda:{index}": there are {count} GPUs, the last is "cuda:{count - 1}"')
        import cupy

        self.xp = cupy
        self.index = index
        self.name = "cuda" if index == 0 else f"cuda:{index}"
        self.runtime = cupy.cuda.runtime
        self.alone = count == 1
        self.full = cupy.cuda.memory.OutOfMemoryError
        self.failures = (self.full, self.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self.ring = PinnedRing(self.pinned, self.record)

    def here(self) -> Any:
        """A context in which this device is CuPy's current one."""
        return self.xp.cuda.Device(self.index)

    # memory ----------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An uninitialised array on this device; DeviceError if there is no room after the pool has given back all."""
        try:
            if self.alone:
                return self.xp.empty(shape, dtype)
            with self.here():
                return self.xp.empty(shape, dtype)
        except self.full:
            pass
        with self.here():
            gc.collect()  # arrays in reference cycles
            self.xp.get_default_memory_pool().free_all_blocks()
            try:
                return self.xp.empty(shape, dtype)
            except self.full:
                pass  # and out of here, so that the new error does not keep this one's frames
            asked = math.prod(shape) * np.dtype(dtype).itemsize
            raise out_of_memory(f'device "{self.name}"', "making an array", asked, self.memory())

    def memory(self) -> tuple[int, int, int, int]:
        """Bytes used by arrays, held free by CuPy's pool, free on the GPU, and in all."""
        pool = self.xp.get_default_memory_pool()
        with self.here():
            return pool.used_bytes(), pool.free_bytes(), *self.runtime.memGetInfo()

    def pinned(self, size: int) -> np.ndarray:
        """Page-locked host memory."""
        return np.frombuffer(self.xp.cuda.alloc_pinned_memory(size), np.uint8, size)

    # streams ---------------------------------------------------------------------------------------------------------

    def stream(self) -> int:
        """What tells streams apart; the per-thread default streams of all threads are one number to CUDA."""
        stream = self.xp.cuda.get_current_stream().ptr
        return stream if stream != PER_THREAD else -threading.get_ident()

    def stream_handle(self) -> int:
        """CUDA's own number of the current stream."""
        return self.xp.cuda.get_current_stream().ptr

    def on_stream(self, stream: Any) -> Any:
        """A stream of CuPy's, or by CUDA's number (1 and 2: the default ones), as the current one; None: as it is."""
        if stream is None or hasattr(stream, "__enter__"):
            return nullcontext() if stream is None else stream
        default = {1: self.xp.cuda.Stream.null, PER_THREAD: self.xp.cuda.Stream.ptds}
        return default.get(stream) or self.xp.cuda.ExternalStream(stream, self.index)

    def capturing(self) -> bool:
        """Does the current stream record a CUDA graph?"""
        return self.xp.cuda.get_current_stream().is_capturing()

    def seconds(self, work: Callable[[], None]) -> float:
        """How long the GPU takes for what `work` puts on the current stream; waits for it."""
        begin, end = self.xp.cuda.Event(), self.xp.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return self.xp.cuda.get_elapsed_time(begin, end) / 1e3

    def record(self) -> Any:
        """An event behind the work given to the current stream."""
        event = self.xp.cuda.Event(disable_timing=True)
        event.record()
        return event

    def mark(self) -> Any:
        """The same, one that knows the time."""
        with nullcontext() if self.alone else self.here():
            event = self.xp.cuda.Event()
            event.record()
            return event

    def between(self, start: Any, stop: Any) -> float:
        """Seconds between two of them, to half a microsecond."""
        return self.xp.cuda.get_elapsed_time(start, stop) * 1e-3

    def wait(self, event: Any) -> None:
        """The current stream goes on only behind `event`."""
        self.xp.cuda.get_current_stream().wait_event(event)

    def synchronize(self) -> None:
        self.xp.cuda.Device(self.index).synchronize()

    def watch(self, backend: Any) -> None:
        """Everything that `backend` puts on a stream goes through one Watch from now on."""
        watch = Watch(self)
        guard = watch.guard
        self.record_graph = functools.partial(self._record_graph, watch, backend)
        self.copy = guard("copy", self.copy)  # type: ignore[method-assign]
        for name, what in (
            ("from_host", "copy from the host"), ("to_host", "copy to the host"), ("synchronize", "synchronize"),
            ("write", "write"), ("run", "a primitive of your own"), ("fuses", "the plan of a product"),
        ):  # fmt: skip
            setattr(backend, name, guard(what, getattr(backend, name)))
        functions, default = backend.functions, backend.functions._default
        functions.update({name: guard(name, function) for name, function in functions.items()})
        functions._default = lambda name: guard(name, default(name))

    def _record_graph(self, watch: Watch, backend: Any, run: Callable[[], Any]) -> Callable[[], Any]:
        """What launches, on the current stream, all that `run` gives to its stream."""
        with self.here():
            pool = self.xp.cuda.MemoryPool()
            stream = self.xp.cuda.Stream(non_blocking=True)
            with watch.suspended(), self.xp.cuda.using_allocator(pool.malloc), stream:
                stream.begin_capture()
                try:
                    try:
                        run()
                    finally:
                        graph = stream.end_capture()  # raises if something in `run` has spoilt the capture
                finally:  # a capture that failed has not even zeroed them
                    tickets = backend.forget_tickets()  # of this stream: the graph's own
        kept = pool, stream, tickets, run
        return watch.guard("program", lambda: kept and graph.launch())

    def cannot_record(self, names: Sequence[str]) -> str:
        """Why a CUDA graph cannot hold calls of these names, as far as that is known beforehand; else "".

        That all products are in the way is worth a warning, once.
        """
        if self.gemm is not None or PRODUCTS.isdisjoint(names):
            return next((reason.format(name=name) for name, reason in APART if name in names), "")
        reason = (
            f"matrix products go through {product_status()[1]}, and CuPy refuses them while a CUDA graph is recorded: "
            "replays are made call by call"
        )
        if not self.warned:
            self.warned = True
            warnings.warn(f'capture: on device "{self.name}" {reason}', stacklevel=7)  # who called what is captured
        return reason

    # matrix products -------------------------------------------------------------------------------------------------

    def address(self, array: Any) -> int:
        return array.data.ptr

    @functools.cached_property
    def gemm(self) -> gemm.Library | None:
        """cuBLASLt on this device, loaded at the first product; None where CuPy's matmul has to serve."""
        return gemm.Library(gemm.load(), self) if gemm.report()[0] else None

    # copies ----------------------------------------------------------------------------------------------------------

    def copy(self, to: Any, array: Any) -> Any:
        """Fill `to` with an array on this device that lies as it does, without gaps, in a third of a kernel's time."""
        stream = self.xp.cuda.get_current_stream().ptr
        self.runtime.memcpyAsync(to.data.ptr, array.data.ptr, to.nbytes, self.runtime.memcpyDeviceToDevice, stream)
        return to

    def from_host(self, array: np.ndarray, copy: bool) -> Any:
        native = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
        source = np.ascontiguousarray(array, dtype=native).reshape(array.shape)
        result = self.empty(array.shape, source.dtype)
        stream = self.xp.cuda.get_current_stream().ptr
        self.ring.upload(
            source,
            lambda offset, buffer: self.runtime.memcpyAsync(
                result.data.ptr + offset, buffer.ctypes.data, buffer.size, self.runtime.memcpyHostToDevice, stream
            ),
        )
        return result

    def to_host(self, array: Any) -> np.ndarray:
        source = self.xp.ascontiguousarray(array)
        result = np.empty(array.shape, array.dtype)
        stream = self.xp.cuda.get_current_stream().ptr
        self.ring.download(
            result,
            lambda offset, buffer: self.runtime.memcpyAsync(
                buffer.ctypes.data, source.data.ptr + offset, buffer.size, self.runtime.memcpyDeviceToHost, stream
            ),
        )
        return result

    # what it is ------------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        properties = self.runtime.getDeviceProperties(self.index)
        with self.xp.cuda.Device(self.index):
            free, total = self.runtime.memGetInfo()
        return {
            "name": properties["name"].decode(),
            "compute capability": f"{properties['major']}.{properties['minor']}",
            "memory": total,
            "memory free": free,
            "memory in CuPy's pool": self.xp.get_default_memory_pool().total_bytes(),
            "driver": driver_version(),
            "CUDA runtime": self.runtime.runtimeGetVersion(),
            "cupy": self.xp.__version__,
        }

    def refuse_after_fork(self, backend: Any) -> None:
        """In a forked child CUDA's state is broken: everything that would touch it raises from then on."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise DeviceError(
                f'device "{backend.name}": CUDA cannot be used in a process forked after its first use; '
                'start workers with multiprocessing.get_context("spawn"), or fork before the GPU is touched'
            )

        def after_fork() -> None:
            for name in ("from_host", "to_host", "empty", "write", "synchronize", "info"):
                setattr(backend, name, refuse)
            for name in list(backend.functions):
                backend.functions[name] = refuse
            backend.functions._default = lambda name: refuse

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=after_fork)
