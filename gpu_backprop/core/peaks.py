"""What a device reaches on this machine: bytes a second in a large copy, operations a second in a matrix product.

Measured when first asked for, in some tenths of a second, and kept while the process lives.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import precision
from .costs import Cost
from .devices import Device, device
from .dtypes import float32, is_floating
from .errors import DeviceError

COPIED = (1 << 24, 1 << 26)  # elements: more than caches hold
ROWS = (1024, 2048, 4096)  # of square matrices
ENOUGH = 0.003  # seconds: a measurement that takes so long is long enough
ROUNDS = 3


def best_seconds(place: Device, cost: Cost) -> float:
    """The least time for these bytes, or for these operations, whichever is longer."""
    moving = cost.nbytes / bandwidth(place)
    if not cost.flops or not is_floating(cost.product):  # integers have no fast product
        return moving
    return max(moving, cost.flops / product(place, cost.product))


def words(place: Device, dtypes: Iterable[Any]) -> str:
    """The peaks that operations were compared with, `dtypes` being those of products (None: of none)."""
    found = [f"a large copy moves {bandwidth(place) / 1e9:,.1f} GB/s"]
    for dtype in sorted((d for d in dtypes if d is not None and is_floating(d)), key=str):
        found.append(f"a large {dtype} product computes {product(place, dtype) / 1e9:,.0f} GFLOP/s")
    return ", ".join(found)


def bandwidth(place: Device) -> float:
    """Bytes a second, read and written, in a large copy."""
    return _bandwidth(_measured(place))


def product(place: Device, dtype: Any) -> float:
    """Floating-point operations a second in a large matrix product, at the precision that is set."""
    return _product(_measured(place), np.dtype(dtype), precision.get_matmul_precision())


def _measured(place: Device) -> Device:
    """The emulated device's launches say nothing about a machine's speed: it is compared with the CPU that it is."""
    return device("cpu") if place.name == "emulated" else place


@functools.cache
def _bandwidth(place: Device) -> float:
    backend = place.plain.backend

    def copy(n: int) -> tuple[Callable[[], Any], float]:
        source, target = _numbers(place, (n,), float32), backend.empty((n,), float32)
        return lambda: backend.write(target, ..., source), 2.0 * source.nbytes

    return _rate(place, copy, COPIED)


@functools.cache
def _product(place: Device, dtype: np.dtype, _: str) -> float:
    matmul = place.plain.functions["matmul"]

    def multiply(n: int) -> tuple[Callable[[], Any], float]:
        x, out = _numbers(place, (n, n), dtype), place.plain.backend.empty((n, n), dtype)
        return lambda: matmul(x, x, out=out), 2.0 * n**3

    return _rate(place, multiply, ROWS)


def _rate(place: Device, make: Callable[[int], tuple[Callable[[], Any], float]], sizes: tuple[int, ...]) -> float:
    """Amount a second of the work that `make` gives, on the largest size that is needed for a good measurement."""
    rate = 0.0
    for n in sizes:
        try:
            work, amount = make(n)
            seconds = _least(place, work)
        except (DeviceError, MemoryError):
            if not rate:
                raise
            break  # no room for more
        rate = amount / seconds
        if seconds > ENOUGH:
            break
    return rate


def _least(place: Device, work: Callable[[], Any]) -> float:
    backend = place.plain.backend
    work()  # compiles, loads, chooses
    marks = [backend.mark()]
    for _ in range(ROUNDS):
        work()
        marks.append(backend.mark())
    backend.synchronize()
    return min(backend.between(*pair) for pair in itertools.pairwise(marks))


def _numbers(place: Device, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of various numbers: with equal ones a GPU needs less power and runs faster than it does on data."""
    backend = place.plain.backend
    block = backend.from_host((np.arange(1 << 18) * 0.618034 % 1 - 0.5).astype(dtype))
    array = backend.empty(shape, dtype)
    flat = array.reshape(-1)
    for start in range(0, flat.size, block.size):
        backend.write(flat, slice(start, start + block.size), block)
    return array
