"""Softmax and its kin, cross-entropy: a warp or a block a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table
from ..base import Array
from .shared import Function, Launch, accumulator, c_name, index_of

REDUCTION = {"none": 0, "mean": 1, "sum": 2}  # enum Reduction of neural.cu
PARTIALS = 1024  # blocks, each with a partial result of its rows: so many on every GPU, for the same bits everywhere
MANY = 4096  # rows, so that warps alone fill a GPU
SMOOTHING = np.dtype([("hit", np.float64), ("every", np.float64)])  # struct Smoothing of neural.cu


class NeuralLaunches:
    """Functions of neural.cu."""

    def __init__(self, launch: Launch):
        self.launch = launch
        names = ("softmax", "log_softmax", "softmax_backward", "log_softmax_backward")
        self.functions: dict[str, Function] = {
            **{name: self.row_function(name) for name in names},
            "softmax_cross_entropy": self.cross_entropy,
            "softmax_cross_entropy_backward": self.cross_entropy_backward,
        }

    # softmax and its kin ---------------------------------------------------------------------------------------------

    def row_function(self, name: str) -> Function:
        fallback, launch = self.launch.fallback(name), self.launch

        def run(*operands: Array, axis: int, out: Array | None = None) -> Array:
            x = operands[0]
            dtype = c_name(x.dtype)
            if dtype is None or x.size == 0 or x.ndim == 0:
                return fallback(*operands, axis=axis, **({} if out is None else {"out": out}))
            axis %= x.ndim
            if axis != x.ndim - 1:  # the axis to the end, and back
                moved = run(*(self.launch.xp.moveaxis(a, axis, -1) for a in operands), axis=x.ndim - 1)
                result = self.launch.xp.moveaxis(moved, -1, axis)
                return result if out is None else launch.copy_to(result, out=out)
            if out is None:
                out = self.launch.backend.empty(x.shape, x.dtype)
            n = x.shape[-1]
            rows = x.size // n
            index, kind = index_of(x.size)
            grid, block = self.launch.row_geometry(rows, n)
            kernel = table.rowwise(name, dtype, index)
            self.launch.launcher.launch(
                kernel, grid, block, (kind(rows), kind(n), out, *map(launch.contiguous, operands))
            )
            return out

        return run

    # cross-entropy ---------------------------------------------------------------------------------------------------

    def cross_entropy(
        self, x: Array, labels: Array, weight: Array | None, reduction: str, ignore_index: int, label_smoothing: float,
        out: tuple[Array, Array, Array, Array] | None = None,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        name = "softmax_cross_entropy"
        dtype = c_name(x.dtype)
        if dtype is None or x.size == 0:
            attrs = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
            return self.launch.fallback(name)(x, labels, weight, **attrs, out=out)
        (rows, n), number = x.shape, accumulator(x.dtype)
        empty, contiguous = self.launch.backend.empty, self.launch.contiguous
        index, kind = index_of(x.size)
        grid, block = self.launch.row_geometry(rows, n, PARTIALS, MANY)
        wide = np.dtype(number)
        if out is None:
            loss = empty((rows,) if reduction == "none" else (), x.dtype)
            out = loss, empty((rows, 1), wide), empty((rows,), wide), empty((), wide)
        partial = empty((2 * grid[0],), wide)
        kernel = table.rowwise(name, dtype, index)
        backend = self.launch.backend
        backend.launch_counted(
            kernel, grid, block,
            (kind(rows), kind(n), contiguous(x), self.launch.as_labels(labels),
             None if weight is None else contiguous(weight), *out, np.int64(ignore_index),
             smoothing(label_smoothing, n), np.int32(REDUCTION[reduction]), partial, backend.tickets(),
             backend.fault_word("cross_entropy")),
        )  # fmt: skip
        backend.launched_faultable()
        return out

    def cross_entropy_backward(
        self, g: Array, x: Array, labels: Array, weight: Array | None, top: Array, mass: Array, total: Array,
        reduction: str, ignore_index: int, label_smoothing: float, out: Array | None = None,
    ) -> Array:  # fmt: skip
        name = "softmax_cross_entropy_backward"
        dtype = c_name(x.dtype)
        if dtype is None or x.size == 0:
            attrs = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
            result = self.launch.fallback(name)(g, x, labels, weight, top, mass, total, **attrs)
            return result if out is None else self.launch.copy_to(result, out=out)
        rows, n = x.shape
        contiguous = self.launch.contiguous
        index, kind = index_of(x.size)
        grid, block = self.launch.row_geometry(rows, n)
        if out is None:
            out = self.launch.backend.empty(x.shape, x.dtype)
        self.launch.launcher.launch(
            table.rowwise(name, dtype, index), grid, block,
            (kind(rows), kind(n), contiguous(g), contiguous(x), self.launch.as_labels(labels),
             None if weight is None else contiguous(weight), contiguous(top), contiguous(mass), contiguous(total), out,
             np.int64(ignore_index), smoothing(label_smoothing, n), np.int32(REDUCTION[reduction]),
             self.launch.backend.fault_word("cross_entropy")),
        )  # fmt: skip
        self.launch.backend.launched_faultable()
        return out


def smoothing(amount: float, classes: int) -> Any:
    return np.array((1.0 - amount, amount / classes), SMOOTHING)[()]
