"""Launches of the fused kernels: softmax and its kin, cross-entropy, dropout, linear, the optimiser updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.errors import DTypeError, ShapeError
from . import layouts, table
from .base import Array
from .launches import BLOCK, WARP, Launches, accumulator, c_name, ceil_div, packs

REDUCTION = {"none": 0, "mean": 1, "sum": 2}  # enum Reduction of neural.cu
SMOOTHING = np.dtype([("hit", np.float64), ("every", np.float64)])  # struct Smoothing of neural.cu


def index_of(size: int) -> tuple[str, type]:
    """The index type for contiguous arrays of `size` elements: its name in C++, its NumPy type."""
    return ("int", np.int32) if size < layouts.INT_LIMIT else ("long long", np.int64)


class Fused:
    """The fused launch functions of one backend, by primitive in `functions`."""

    def __init__(self, backend: Any, launches: Launches, fallbacks: Callable[[str], Callable[..., Any]]):
        self.backend = backend
        self.xp = backend.xp
        self.launcher = backend.launcher
        self.launches = launches
        self.fallback = fallbacks
        self.functions: dict[str, Callable[..., Any]] = {
            "softmax": self.row_function("softmax"),
            "log_softmax": self.row_function("log_softmax"),
            "softmax_backward": self.row_function("softmax_backward"),
            "log_softmax_backward": self.row_function("log_softmax_backward"),
            "softmax_cross_entropy": self.cross_entropy,
            "softmax_cross_entropy_backward": self.cross_entropy_backward,
            "dropout": self.dropout,
            "linear": self.linear,
            "linear_relu": self.linear_relu,
            "sgd_update": self.sgd_update,
            "adam_update": self.adam_update,
            "rmsprop_update": self.rmsprop_update,
            "adagrad_update": self.adagrad_update,
        }

    def row_geometry(self, rows: int, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A warp a row, or a block where rows are long; from the shape alone, as reductions over rows depend on it."""
        height = 1 if n > 1024 else BLOCK // WARP
        return (min(ceil_div(rows, height), 1024, self.launcher.max_grid),), (BLOCK // height, height)

    # softmax and its kin ---------------------------------------------------------------------------------------------

    def row_function(self, name: str) -> Callable[..., Any]:
        fallback, launches = self.fallback(name), self.launches

        def run(*operands: Array, axis: int, out: Array | None = None) -> Array:
            x = operands[0]
            dtype = c_name(x.dtype)
            if dtype is None or x.size == 0 or x.ndim == 0:
                return fallback(*operands, axis=axis, **({} if out is None else {"out": out}))
            axis %= x.ndim
            if axis != x.ndim - 1:  # the axis to the end, and back
                moved = run(*(self.xp.moveaxis(a, axis, -1) for a in operands), axis=x.ndim - 1)
                result = self.xp.moveaxis(moved, -1, axis)
                return result if out is None else launches.copy_to(result, out=out)
            if out is None:
                out = self.backend.empty(x.shape, x.dtype)
            n = x.shape[-1]
            rows = x.size // n
            index, kind = index_of(x.size)
            grid, block = self.row_geometry(rows, n)
            kernel = table.rowwise(name, dtype, index)
            self.launcher.launch(kernel, grid, block, (kind(rows), kind(n), out, *map(launches.contiguous, operands)))
            return out

        return run

    # cross-entropy ---------------------------------------------------------------------------------------------------

    def cross_entropy(
        self, x: Array, labels: Array, weight: Array | None, reduction: str, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array, Array]:
        name = "softmax_cross_entropy"
        dtype = c_name(x.dtype)
        if dtype is None or x.size == 0:
            attrs = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
            return self.fallback(name)(x, labels, weight, **attrs)
        (rows, n), number = x.shape, accumulator(x.dtype)
        empty, contiguous = self.backend.empty, self.launches.contiguous
        index, kind = index_of(x.size)
        grid, block = self.row_geometry(rows, n)
        wide = np.dtype(number)
        out = empty((rows,) if reduction == "none" else (), x.dtype)
        top, mass, total = empty((rows, 1), wide), empty((rows,), wide), empty((), wide)
        partial = empty((2 * grid[0],), wide)
        kernel = table.rowwise(name, dtype, index)
        backend = self.backend
        backend.launch_counted(
            kernel, grid, block,
            (kind(rows), kind(n), contiguous(x), self.as_labels(labels), None if weight is None else contiguous(weight),
             out, top, mass, total, np.int64(ignore_index), smoothing(label_smoothing, n),
             np.int32(REDUCTION[reduction]), partial, backend.tickets(), backend.fault_word(n)),
        )  # fmt: skip
        backend.launched_faultable()
        return out, top, mass, total

    def cross_entropy_backward(
        self, g: Array, x: Array, labels: Array, weight: Array | None, top: Array, mass: Array, total: Array,
        reduction: str, ignore_index: int, label_smoothing: float, out: Array | None = None,
    ) -> Array:  # fmt: skip
        name = "softmax_cross_entropy_backward"
        dtype = c_name(x.dtype)
        if dtype is None or x.size == 0:
            attrs = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
            result = self.fallback(name)(g, x, labels, weight, top, mass, total, **attrs)
            return result if out is None else self.launches.copy_to(result, out=out)
        rows, n = x.shape
        contiguous = self.launches.contiguous
        index, kind = index_of(x.size)
        grid, block = self.row_geometry(rows, n)
        if out is None:
            out = self.backend.empty(x.shape, x.dtype)
        self.launcher.launch(
            table.rowwise(name, dtype, index), grid, block,
            (kind(rows), kind(n), contiguous(g), contiguous(x), self.as_labels(labels),
             None if weight is None else contiguous(weight), contiguous(top), contiguous(mass), contiguous(total), out,
             np.int64(ignore_index), smoothing(label_smoothing, n), np.int32(REDUCTION[reduction]),
             self.backend.fault_word(n)),
        )  # fmt: skip
        self.backend.launched_faultable()
        return out

    def as_labels(self, labels: Array) -> Array:
        return self.xp.ascontiguousarray(labels, dtype=np.int64)

    # dropout ---------------------------------------------------------------------------------------------------------

    def dropout(self, x: Array, p: float, key: tuple[int, int], offset: int, out: Array | None = None) -> Array:
        dtype = c_name(x.dtype)
        if dtype is None:
            raise DTypeError(f"dropout: {x.dtype} is not a float type; convert the input with astype first")
        if out is None:
            out = self.backend.empty(x.shape, x.dtype)
        if x.size == 0:
            return out
        index, kind = index_of(x.size)
        grid = (self.launches.blocks(ceil_div(x.size, BLOCK * max(4, 16 // x.dtype.itemsize))),)
        scale = accumulator(x.dtype)(1.0 / (1.0 - p) if p < 1 else 0.0)
        threshold = np.uint64(math.ceil(p * 2.0**53))  # exact: scaling by a power of 2
        words = (np.uint64(key[0]), np.uint64(key[1]), np.uint64(offset))
        arguments = (kind(x.size), out, self.launches.contiguous(x), scale, threshold, *words)
        self.launcher.launch(table.rowwise("dropout", dtype, index), grid, (BLOCK,), arguments)
        return out

    # products --------------------------------------------------------------------------------------------------------

    def linear(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        if dtypes.is_half(x.dtype) or c_name(x.dtype) is None:  # float32 inside, rounded once
            return self.fallback("linear")(x, weight, bias, **({} if out is None else {"out": out}))
        shape = (*x.shape[:-1], weight.shape[0])
        if out is None:
            out = self.backend.empty(shape, x.dtype)
        if x.ndim > 2 and x.flags.c_contiguous and out.flags.c_contiguous:  # one product instead of a batch of them
            self.xp.matmul(x.reshape(-1, x.shape[-1]), weight.T, out=out.reshape(-1, shape[-1]))
        else:
            self.xp.matmul(x, weight.T, out=out)
        return out if bias is None else self.launches.functions["add"](out, bias, out=out)

    def linear_relu(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        out = self.linear(x, weight, bias, out)
        return self.launches.functions["relu"](out, out=out)

    # optimiser updates -----------------------------------------------------------------------------------------------

    def update(
        self, name: str, param: Array, arrays: tuple[Array | None, ...], hyper: Array, steps: Array, first: int,
        count: int, flags: tuple[bool, ...],
    ) -> None:  # fmt: skip
        dtype = c_name(param.dtype)
        if dtype is None:
            raise DTypeError(f"{name}: parameters of {param.dtype} cannot be optimised; use a float type")
        for x in arrays:
            if x is not None and (x.shape != param.shape or x.dtype != param.dtype or not x.flags.c_contiguous):
                raise ShapeError(
                    f"{name}: every buffer must be a contiguous run of {param.size} {param.dtype} like the parameters, "
                    f"not {x.shape} {x.dtype}; slice all flat buffers alike"
                )
        if param.size == 0:
            return
        index, kind = index_of(param.size)
        grid = (self.launches.blocks(ceil_div(packs(param.size, param.dtype), BLOCK)),)
        self.backend.launch_counted(
            table.update(name, dtype, index), grid, (BLOCK,),
            (kind(param.size), param, *arrays, hyper, steps[first : first + count], np.int64(count),
             *map(np.bool_, flags), self.backend.tickets()),
        )  # fmt: skip

    def sgd_update(self, param, grad, momentum_buffer, hyper, steps, first, count, nesterov=False, maximize=False):
        self.update("sgd_update", param, (grad, momentum_buffer), hyper, steps, first, count, (nesterov, maximize))

    def adam_update(
        self, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper, steps, first, count, decoupled=False,
        maximize=False,
    ):  # fmt: skip
        state = (grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
        self.update("adam_update", param, state, hyper, steps, first, count, (decoupled, maximize))

    def rmsprop_update(
        self, param, grad, square_avg, grad_avg, momentum_buffer, hyper, steps, first, count, maximize=False
    ):
        state = (grad, square_avg, grad_avg, momentum_buffer)
        self.update("rmsprop_update", param, state, hyper, steps, first, count, (maximize,))

    def adagrad_update(self, param, grad, state_sum, hyper, steps, first, count, maximize=False):
        self.update("adagrad_update", param, (grad, state_sum), hyper, steps, first, count, (maximize,))


def smoothing(amount: float, classes: int) -> Any:
    return np.array((1.0 - amount, amount / classes), SMOOTHING)[()]
