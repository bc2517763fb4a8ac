"""What launches of all families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core import dtypes
from .. import layouts
from ..base import Array

BLOCK = 256
WARP = 32
LINE = 128  # bytes of a cache line: what a warp's row of loads should cover
PER_PROCESSOR = 32  # blocks of grid-stride work: several waves, so that the last one, half empty, weighs little
PARTIALS = 4096  # partial results, one a block, that add up to one: so many on every GPU, for the same bits everywhere
TILE_BLOCKS = 2048  # blocks wanted of a reduction in tiles, split where there are fewer tiles; likewise on every GPU
NUMBERS = (float, int, bool, complex, type(None))  # operands given by value

Function = Callable[..., Any]


def c_name(dtype: np.dtype) -> str | None:
    """The kernels' name of a dtype, or None where they do not cover it."""
    if not dtype.isnative:
        return None
    if dtype.kind == "f":
        return {2: "__half", 4: "float", 8: "double"}.get(dtype.itemsize)
    return "__nv_bfloat16" if dtypes.is_bfloat16(dtype) else None


def accumulator(dtype: np.dtype) -> type:
    return np.float64 if dtype.itemsize == 8 else np.float32


def element_strides(x: Array) -> tuple[int, ...] | None:
    """Strides in elements; None where an array's strides are no whole number of elements."""
    size = x.dtype.itemsize
    return None if any(s % size for s in x.strides) else tuple(s // size for s in x.strides)


def numpy_address(x: Array) -> int:
    return x.__array_interface__["data"][0]


def cupy_address(x: Array) -> int:
    return x.data.ptr


def cupy_overlap(x: Array, y: Array) -> bool:
    """What cupy.may_share_memory tells, in a fraction of its time: it is asked before every launch into a buffer."""
    if x.flags.c_contiguous and y.flags.c_contiguous:
        x_begin, y_begin = x.data.ptr, y.data.ptr
        return x_begin < y_begin + y.nbytes and y_begin < x_begin + x.nbytes
    (x_begin, x_end), (y_begin, y_end) = cupy_span(x), cupy_span(y)
    return x_begin < y_end and y_begin < x_end


def cupy_span(x: Array) -> tuple[int, int]:
    """The address of an array's first byte in memory, and the one behind its last."""
    begin = x.data.ptr
    if not x.size:
        return begin, begin
    reach = [(n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)]
    return begin + sum(r for r in reach if r < 0), begin + sum(r for r in reach if r > 0) + x.itemsize


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def packs(n: int, dtype: np.dtype) -> int:
    """How many 16-byte packs n elements make."""
    return ceil_div(n, 16 // dtype.itemsize)


def column_tiles(rows: int, columns: int, dtype: np.dtype) -> tuple[int, int, tuple[int, int]]:
    """Tile<COLUMNS> of tiles.cuh for a matrix: columns a thread, how many tiles, and their block (packs, rows).

    A line of memory wide, so that many rows are in flight and few are left to combine; wider where there are few rows.
    """
    pack = min(16 // dtype.itemsize, 4)
    across = ceil_div(columns, pack)
    height = min(rows, BLOCK // min(across, LINE // (pack * dtype.itemsize)))
    width = min(across, BLOCK // height)
    return pack, ceil_div(across, width), (width, height)


def index_of(size: int) -> tuple[str, type]:
    """The index type for contiguous arrays of `size` elements: its name in C++, its NumPy type."""
    return ("int", np.int32) if size < layouts.INT_LIMIT else ("long long", np.int64)


class Launch:
    """One backend as launch code sees it: array module, launcher, and what to call where no kernel fits."""

    def __init__(self, backend: Any, fallback: Callable[[str], Function]):
        self.backend = backend
        self.xp = backend.xp
        self.launcher = backend.launcher
        self.fallback = fallback
        host = self.xp is np
        self.overlap: Function = np.may_share_memory if host else cupy_overlap
        self.address: Function = numpy_address if host else cupy_address
        self.copy_to: Function  # copy(x, out=None), by a kernel; the elementwise family puts it here

    def blocks(self, wanted: int, each: int = PER_PROCESSOR) -> int:
        """Blocks for grid-stride work: enough to fill the GPU, never more than the work or the launcher takes."""
        enough = each * self.launcher.properties.multiprocessors
        return max(1, min(wanted, enough, self.launcher.max_grid))

    def row_geometry(
        self, rows: int, n: int, most: int | None = None, many: int | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Grid and block for a warp a row, or a block a row where rows are long.

        `most` blocks where each leaves a partial result of its rows to add up. From `many` rows on a warp
        has a row however long it is, and never waits for others.
        """
        height = 1 if n > 1024 and (many is None or rows < many) else BLOCK // WARP
        blocks = min(ceil_div(rows, height), self.launcher.max_grid)
        return (blocks if most is None else min(blocks, most),), (BLOCK // height, height)

    def as_labels(self, labels: Array) -> Array:
        """Labels or indices as kernels read them: 64-bit, in C order."""
        return self.xp.ascontiguousarray(labels, dtype=np.int64)

    def apart(self, out: Array, operands: Sequence[Any]) -> list[Any]:
        """The operands, with those copied that a thread could still read after another wrote `out` over them.

        An operand may be `out` itself, element for element: then each thread reads what it overwrites.
        """

        overlap, address, kind = self.overlap, self.address, out.__class__

        def layout(x: Any) -> Any:
            return x.shape, x.strides, address(x)

        return [
            self.copy_to(x)
            if x is not out and x.__class__ is kind and overlap(x, out) and layout(x) != layout(out)
            else x
            for x in operands
        ]

    def contiguous(self, x: Array) -> Array:
        """x in C order, copied by a kernel where it is not."""
        return x if x.flags.c_contiguous else self.copy_to(x, out=self.backend.empty(x.shape, x.dtype))
