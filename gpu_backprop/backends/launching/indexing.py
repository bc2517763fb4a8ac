"""Rows by index and their gradient, one-hot rows, accuracy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops.indexing import Hole, fill
from .. import table
from ..base import Array
from ..faults import fault
from ..generic_indexing import along_axis
from .shared import (
    BLOCK,
    PARTIALS,
    WARP,
    Function,
    Launch,
    accumulator,
    c_name,
    ceil_div,
    element_strides,
    index_of,
    packs,
)

WARPS = BLOCK // WARP
TILE_BYTES = 4096  # of sums that a warp of add_rows holds


def axes_by(part: Any, arrays: tuple[Array, ...]) -> int:
    """How many axes one part of an index walks over; an Ellipsis takes what the others leave."""
    if isinstance(part, Hole) and arrays[part.n].dtype.kind == "b":
        return arrays[part.n].ndim
    return 0 if part is None or part is Ellipsis else 1


class IndexingLaunches:
    """Functions of indexing.cu."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {
            name: getattr(self, name) for name in (*table.INDEXING, *table.INDEX_CHECKS, "take_along_axis_backward")
        }

    # rows by index ---------------------------------------------------------------------------------------------------

    def getitem(self, x: Array, *arrays: Array, index: tuple[Any, ...]) -> Array:
        if arrays:
            self.check_index(x, arrays, index)
        return self.launch.fallback("getitem")(x, *arrays, index=index)

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        out = self.rows("take", x, indices) if axis == 0 else None
        if out is None:
            self.check("take", indices, axis, x.shape[axis])
            out = self.launch.fallback("take")(x, indices, axis=axis)
        return out

    def take_along_axis(self, x: Array, indices: Array, axis: int) -> Array:
        self.check("take_along_axis", indices, axis, x.shape[axis])
        return self.launch.fallback("take_along_axis")(x, indices, axis=axis)

    def embedding(self, weight: Array, indices: Array, padding_idx: int | None) -> Array:
        out = self.rows("embedding", weight, indices)
        if out is None:
            self.check("embedding", indices, 0, len(weight))
            out = self.launch.fallback("embedding")(weight, indices, padding_idx=padding_idx)
        return out

    def rows(self, name: str, x: Array, indices: Array) -> Array | None:
        """x[indices], or None where the kernel does not fit: rows must be dense, while they may lie anyhow apart."""
        dtype, width, strides = c_name(x.dtype), math.prod(x.shape[1:]), element_strides(x)
        if dtype is None or strides is None or not (x.size and indices.size and x[:1].flags.c_contiguous):
            return None
        backend = self.launch.backend
        out = backend.empty((*indices.shape, *x.shape[1:]), x.dtype)
        index, kind = index_of(max(out.size, len(x) * max(width, abs(strides[0]))))
        sizes = tuple(map(kind, (indices.size, width, len(x), strides[0])))
        items = indices.size * packs(width, x.dtype)
        self.launch.launcher.launch(
            table.indexing(name, dtype, index), (self.launch.blocks(ceil_div(items, BLOCK)),), (BLOCK,),
            (*sizes, out, x, self.launch.as_labels(indices), np.bool_(name == "take"), backend.fault_word(name)),
        )  # fmt: skip
        backend.launched_faultable()
        return out

    # indices for the array module ------------------------------------------------------------------------------------

    def check_index(self, x: Array, arrays: tuple[Array, ...], index: tuple[Any, ...]) -> None:
        """Looks at the integer arrays of an index, each along the axis that it walks over."""
        hidden = x.ndim - sum(axes_by(part, arrays) for part in index)  # axes behind an Ellipsis
        axis = 0
        for part in index if hidden >= 0 else ():  # the array module says that there are too many
            if isinstance(part, Hole) and arrays[part.n].dtype.kind in "iu":
                self.check("getitem", arrays[part.n], axis, x.shape[axis])
            axis += hidden if part is Ellipsis else axes_by(part, arrays)

    def check(self, name: str, indices: Array, axis: int, limit: int) -> None:
        """Reports an index out of range, at which NumPy would raise at once, and CuPy never."""
        if not indices.size:
            return
        backend = self.launch.backend
        if not limit:  # there is nothing to wrap round
            raise fault(name, int(backend.to_host(indices).flat[0]), axis, limit)
        index, kind = index_of(indices.size)
        self.launch.launcher.launch(
            table.index_check(index), (self.launch.blocks(ceil_div(packs(indices.size, np.dtype(np.int64)), BLOCK)),),
            (BLOCK,), (kind(indices.size), self.launch.as_labels(indices), np.int64(axis), np.int64(limit),
                       np.bool_(name != "embedding"), backend.fault_word(name)),
        )  # fmt: skip
        backend.launched_faultable()

    # their gradient --------------------------------------------------------------------------------------------------

    def take_backward(self, g: Array, indices: Array, axis: int, shape: tuple[int, ...]) -> Array:
        if axis == 0:
            out = self.add_rows("take_backward", g, indices, shape, None)
        else:  # along the first axis of what is seen with that axis first
            first = (axis, *(i for i in range(len(shape)) if i != axis))
            places = range(axis, axis + indices.ndim)
            seen = g.transpose(*places, *(i for i in range(g.ndim) if i not in places))
            out = self.add_rows("take_backward", seen, indices, tuple(shape[i] for i in first), None)
            out = None if out is None else out.transpose(*map(first.index, range(len(shape))))
        return self.launch.fallback("take_backward")(g, indices, axis=axis, shape=shape) if out is None else out

    def getitem_backward(self, g: Array, *arrays: Array, index: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
        out = None
        if index == (Hole(0),) and arrays[0].dtype.kind in "iu":
            out = self.add_rows("getitem_backward", g, arrays[0], shape, None)
        elif any(a.dtype.kind in "iu" for a in arrays):  # a mask alone names each element once: the array module's
            # axes behind those that the index names come out whole, last of all
            depth = len(shape) if Ellipsis in index else sum(axes_by(part, arrays) for part in index)
            count = math.prod(shape[:depth])
            places = self.launch.xp.arange(count).reshape(shape[:depth])[fill(index, arrays)]
            out = self.add_rows("getitem_backward", g, places, (count, *shape[depth:]), None)
            out = None if out is None else out.reshape(shape)
        return self.launch.fallback("getitem_backward")(g, *arrays, index=index, shape=shape) if out is None else out

    def take_along_axis_backward(self, g: Array, indices: Array, axis: int, shape: tuple[int, ...]) -> Array:
        index = along_axis(self.launch.xp, indices, axis, shape)
        return self.getitem_backward(g, *index, index=tuple(map(Hole, range(len(shape)))), shape=shape)

    def embedding_backward(self, g: Array, indices: Array, shape: tuple[int, ...], padding_idx: int | None) -> Array:
        out = self.add_rows("embedding_backward", g, indices, shape, padding_idx)
        if out is None:
            return self.launch.fallback("embedding_backward")(g, indices, shape=shape, padding_idx=padding_idx)
        return out

    def add_rows(
        self, name: str, g: Array, indices: Array, shape: tuple[int, ...], padding_idx: int | None
    ) -> Array | None:
        """Zeros of `shape` with the rows of g added at `indices`, or None where the kernel does not fit."""
        if g.dtype.kind == "c":
            parts = [self.add_rows(name, part, indices, shape, padding_idx) for part in (g.real, g.imag)]
            if parts[0] is None:
                return None
            whole = self.launch.backend.empty(shape, g.dtype)
            whole.real, whole.imag = parts
            return whole
        dtype, width = c_name(g.dtype), math.prod(shape[1:])
        if dtype is None or not (shape[0] and g.size):
            return None
        out = self.launch.backend.empty(shape, g.dtype)
        # a tile of sums: as wide as the rows are, up to 16 bytes a lane, and as high as its memory allows
        pack = 16 // g.dtype.itemsize
        span = min(WARP * pack, max(pack, 1 << (width - 1).bit_length()))
        height = TILE_BYTES // (np.dtype(accumulator(g.dtype)).itemsize * span)
        tiles = ceil_div(shape[0], height) * ceil_div(width, span)
        index, kind = index_of(max(out.size, g.size, tiles))
        sizes = tuple(map(kind, (indices.size, width, shape[0], span)))
        grid = (min(ceil_div(tiles, WARPS), self.launch.launcher.max_grid),)
        padding = np.int64(np.iinfo(np.int64).min if padding_idx is None else padding_idx)
        self.launch.launcher.launch(
            table.indexing(name, dtype, index), grid, (WARP, WARPS),
            (*sizes, out, self.launch.contiguous(g), self.launch.as_labels(indices), padding,
             np.bool_(name != "embedding_backward")),
        )  # fmt: skip
        return out

    # labels ----------------------------------------------------------------------------------------------------------

    def one_hot(self, labels: Array, num_classes: int, dtype: np.dtype) -> Array:
        name = "long long" if dtype == np.int64 else c_name(dtype)
        if not labels.size:
            return self.launch.fallback("one_hot")(labels, num_classes=num_classes, dtype=dtype)
        if name is None:  # by way of a dtype of the kernel, which looks at the labels
            return self.one_hot(labels, num_classes, np.dtype(np.int64)).astype(dtype)
        backend = self.launch.backend
        out = backend.empty((*labels.shape, num_classes), dtype)
        index, kind = index_of(out.size)
        grid = (self.launch.blocks(ceil_div(packs(out.size, dtype), BLOCK)),)
        self.launch.launcher.launch(
            table.indexing("one_hot", name, index), grid, (BLOCK,),
            (kind(out.size), kind(num_classes), out, self.launch.as_labels(labels), backend.fault_word("one_hot")),
        )  # fmt: skip
        backend.launched_faultable()
        return out

    def accuracy(self, scores: Array, labels: Array) -> Array:
        dtype = c_name(scores.dtype)
        if dtype is None or not scores.size:
            return self.launch.fallback("accuracy")(scores, labels)
        rows, n = scores.shape
        backend = self.launch.backend
        index, kind = index_of(scores.size)
        grid, block = self.launch.row_geometry(rows, n, PARTIALS)
        out, partial = backend.empty((), np.dtype(np.float32)), backend.empty(grid, np.dtype(np.int64))
        backend.launch_counted(
            table.indexing("accuracy", dtype, index), grid, block,
            (kind(rows), kind(n), out, self.launch.contiguous(scores), self.launch.as_labels(labels), partial,
             backend.tickets()),
        )  # fmt: skip
        return out
