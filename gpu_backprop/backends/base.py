"""The contract of a backend: where arrays live and what runs on them.

A backend holds raw arrays (NumPy's or CuPy's) and a table `functions`: primitive name -> function over raw arrays.
Every function is called as `function(*arrays, **attributes)`; an operand is an array, a Python scalar (weakly typed) or
None, and the engine has already brought all floating operands to one dtype. Functions of primitives that give their
result by `out` also take `out=` (an array of the result's shape and dtype, C-contiguous; a tuple of them for several
results) and return it. A name that a
backend has nothing better for is the array module's function of that name.
"""

from __future__ import annotations

import functools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..core.errors import DeviceError

Array = Any  # a NumPy or CuPy array


class Functions(dict[str, Callable[..., Any]]):
    """The backend's table of functions; an absent name is made once by `default(name)` and kept."""

    def __init__(self, default: Callable[[str], Callable[..., Any]]):
        super().__init__()
        self._default = default

    def __missing__(self, name: str) -> Callable[..., Any]:
        function = self[name] = self._default(name)
        return function


def host_memory() -> int:
    """Bytes of this computer's memory; 2^47, more than any has, where the system does not tell."""
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 1 << 47


def in_turn(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """Calls, one after the other, as one."""

    def run() -> None:
        for call in calls:
            call()

    return run


class Backend(ABC):
    """One machine that arrays live on."""

    name: str
    xp: Any  # the array module
    functions: Functions
    dlpack_device: tuple[int, int] = (1, 0)  # DLPack's type and number of the device: kDLCPU, as host memory always is
    native: Functions | None = None  # the same for dtypes but 16-bit floats, where that saves a check a call

    @abstractmethod
    def from_host(self, array: np.ndarray, copy: bool = True) -> Array:
        """An array of this backend with the values of a host array; `copy=False` may share memory."""

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """A host array with the values; shares memory where this backend's arrays are host arrays."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """An uninitialised C-contiguous array."""

    def prepare(self) -> None:  # noqa: B027
        """Do what the first operations would have to wait for, as long as it does not depend on them."""

    def run(self, forward: Callable[..., Any], arrays: Sequence[Any], attrs: dict[str, Any]) -> Any:
        """A function of the user's own, over this backend's arrays."""
        return forward(*arrays, **attrs)

    def write(self, array: Array, index: Any, value: Any) -> None:
        """array[index] = value; the one way in which the rest of the package writes into an array."""
        array[index] = value

    def is_writable(self, array: Array) -> bool:
        """May an array be written into? What is lent for reading, or repeats elements, may not."""
        return bool(array.flags.writeable)

    def carve(
        self, memory: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]
    ) -> Array:
        """An array in the memory of a contiguous one, `offset` bytes behind its beginning."""
        whole = np.asarray(memory).ravel(order="K").view(np.uint8)
        return np.ndarray(shape, dtype, whole, offset, strides)

    def bind(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], attrs: dict[str, Any],
        results: tuple[Array | None, ...], takes_out: bool,
    ) -> Callable[[], Any]:  # fmt: skip
        """A recorded call on arrays that stay where they are, as a call without arguments."""
        if takes_out:
            return functools.partial(function, *args, **attrs, out=results[0] if len(results) == 1 else results)
        if not results:
            return functools.partial(function, *args, **attrs)

        def run() -> None:
            made = function(*args, **attrs)
            for place, result in zip(results, made if isinstance(made, tuple) else (made,), strict=True):
                if place is not None:
                    place[...] = result

        return run

    def filler(
        self, place: Array, views: Sequence[Array], calls: Sequence[Callable[[], Any]]
    ) -> Callable[[Array], Any]:
        """What has bound calls find an array, laid out alike, in one that stays where it is: by a copy.

        views: all arrays in that memory that something reads. calls: what `bind` has made.
        """
        write = self.write
        return lambda array: write(place, ..., array)

    def copier(self, array: Array) -> Callable[[], Array]:
        """What copies an array that stays where it is."""
        return functools.partial(self.functions["copy"], array)

    def executor(self, calls: Sequence[Callable[[], Any]], names: Sequence[str]) -> Callable[[], Any]:
        """What makes bound calls, of functions of these names, in their order."""
        return in_turn(calls)

    def fuses(self, first: Any, second: Any, out: Any, epilogue: str, address: Any, **more: Any) -> bool:
        """Would first @ second and this epilogue (of gemm.EPILOGUES) be one product here? See products.plan_of."""
        return False

    @functools.cached_property
    def memory(self) -> int:
        """Bytes of memory that the device has."""
        return host_memory()

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all work; errors of asynchronous work surface here."""

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """A context in which work is put on a stream of the caller's; None is the current one."""
        if stream is not None:
            raise DeviceError(f"{self.name} has no streams; pass stream=None, not {stream!r}")
        return nullcontext()

    def lane(self) -> int:
        """What tells apart the queues in which work is done in order: streams of a GPU."""
        return 0

    def mark(self) -> Any:
        """A place in time, behind the work given so far."""
        return time.perf_counter_ns()

    def between(self, start: Any, stop: Any) -> float:
        """Seconds from one mark to another, once the work is done."""
        return (stop - start) * 1e-9

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """What `gpu-backprop info` prints of this device."""
