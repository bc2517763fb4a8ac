"""Losses of prediction and target: one launch forward, reduced or not, and one backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table
from ..base import Array
from .shared import BLOCK, PARTIALS, Function, Launch, accumulator, c_name, ceil_div, index_of, packs


class LossLaunches:
    """Functions of losses.cu."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {}
        for name in table.LOSSES:
            self.functions[name] = self.forward(name)
            self.functions[f"{name}_backward"] = self.backward(name)

    def forward(self, name: str) -> Function:
        launch, backend, fallback = self.launch, self.launch.backend, self.launch.fallback(name)

        def run(x: Array, y: Array, *weights: Array | None, reduction: str, **attrs: Any) -> Array:
            operands = self.operands(x, y, weights, **attrs)
            if operands is None:
                return fallback(x, y, *weights, reduction=reduction, **attrs)
            each = reduction == "none"
            dtype, index, kind, head = operands
            # from the shape alone where it reduces, so that results have the same bits on every machine
            wanted = ceil_div(packs(x.size, x.dtype), BLOCK)
            grid = launch.blocks(wanted) if each else min(wanted, PARTIALS, launch.launcher.max_grid)
            out = backend.empty(x.shape if each else (), x.dtype)
            partial = None if each else backend.empty((grid,), np.dtype(accumulator(x.dtype)))
            backend.launch_counted(
                table.loss("loss_flat", name, dtype, index), (grid,), (BLOCK,),
                (kind(x.size), out, *head, np.bool_(each), divisor(x, reduction), partial, backend.tickets()),
            )  # fmt: skip
            return out

        return run

    def backward(self, name: str) -> Function:
        launch, fallback = self.launch, self.launch.fallback(f"{name}_backward")

        def run(
            g: Array, x: Array, y: Array, *weights: Array | None, reduction: str, out: Array | None = None, **attrs: Any
        ) -> Array:
            operands = self.operands(x, y, weights, **attrs)
            if operands is None:
                result = fallback(g, x, y, *weights, reduction=reduction, **attrs)
                return result if out is None else launch.copy_to(result, out=out)
            dtype, index, kind, head = operands
            if out is None:
                out = launch.backend.empty(x.shape, x.dtype)
            grid = (launch.blocks(ceil_div(packs(x.size, x.dtype), BLOCK)),)
            launch.launcher.launch(
                table.loss("loss_backward_flat", name, dtype, index), grid, (BLOCK,),
                (kind(x.size), out, launch.contiguous(g), *head, np.bool_(reduction == "none"), divisor(x, reduction)),
            )  # fmt: skip
            return out

        return run

    def operands(
        self, x: Array, y: Array, weights: tuple[Array | None, ...], delta: float = 1.0
    ) -> tuple[str, str, type, tuple[Any, ...]] | None:
        """(C++ type, index type, its NumPy type, what both kernels take alike), or None where they do not fit."""
        dtype = c_name(x.dtype)
        periods = [0 if w is None else period(w.shape, x.shape) for w in weights or (None, None)]
        if dtype is None or x.size == 0 or None in periods:
            return None
        index, kind = index_of(x.size)
        head: list[Any] = [self.launch.contiguous(x), self.launch.contiguous(y)]
        for w, n in zip(weights or (None, None), periods, strict=True):
            head += [None if w is None else self.launch.contiguous(w), kind(n)]
        return dtype, index, kind, (*head, accumulator(x.dtype)(delta))


def period(shape: tuple[int, ...], to: tuple[int, ...]) -> int | None:
    """How many elements of `to` an operand of `shape` that broadcasts to it takes to repeat; None where it does not."""
    n = 1
    for have, want in zip(reversed(shape), reversed(to)):
        if have != want:
            break
        n *= have
    return n if n == np.prod(shape, dtype=np.int64) else None


def divisor(x: Array, reduction: str) -> Any:
    return accumulator(x.dtype)(x.size if reduction == "mean" else 1)
