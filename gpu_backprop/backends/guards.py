"""Arrays between guard zones, so that a kernel's write outside an array is noticed.

Fresh memory is filled with poison, a bit pattern that is NaN in all four float types: what a kernel forgot to fill
shows. The zones are checked in kernels/host/runtime.cpp after each launch.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

POISON = 0x7FFA7FFA7FFA7FFA  # both as in kernels/host/runtime.h
GUARD_BYTES = 256


class Slab(np.ndarray):
    """Memory with a guard zone on either side."""

    low: int  # address of the first byte between the zones
    high: int  # address behind the last one


def guarded_empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An unset (all NaN) C-contiguous array between guard zones, its memory aligned to 256 bytes."""
    dtype = np.dtype(dtype)
    size = (math.prod(shape) if isinstance(shape, tuple) else shape) * dtype.itemsize
    slab = np.ndarray.__new__(Slab, (size + 7) // 8 + 3 * GUARD_BYTES // 8, np.uint64)
    slab.fill(POISON)
    start = slab.__array_interface__["data"][0]
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


def guarded_copies(arrays: Sequence[np.ndarray]) -> tuple[list[int], list[Slab], Callable[[], None]]:
    """Copies of unguarded arrays: the address of each array's copy, its slab, and what copies all of them back.

    Arrays that overlap go into one slab, so that a kernel sees them overlap.
    """
    bounds = [np.lib.array_utils.byte_bounds(array) for array in arrays]
    spans: list[tuple[int, int]] = []
    for low, high in sorted(bounds):
        if spans and low < spans[-1][1]:
            spans[-1] = spans[-1][0], max(high, spans[-1][1])
        else:
            spans.append((low, high))
    copies: dict[tuple[int, int], Slab] = {}
    for low, high in spans:
        slab = guarded_empty(high - low, np.uint8).base
        assert isinstance(slab, Slab)
        ctypes.memmove(slab.low, low, high - low)
        copies[low, high] = slab
    homes = [next(span for span in reversed(spans) if span[0] <= low) for low, _ in bounds]
    written = {home for home, array in zip(homes, arrays) if array.flags.writeable}

    def copy_back() -> None:
        for low, high in written:
            ctypes.memmove(low, copies[low, high].low, high - low)

    addresses = [copies[home].low + array.ctypes.data - home[0] for home, array in zip(homes, arrays)]
    return addresses, [copies[home] for home in homes], copy_back
