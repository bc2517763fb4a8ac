"""NumPy functions of the CPU backend as calls on arrays that stay where they are: less Python, no temporaries.

Each maker takes what the function of its name (cpu.py) takes, places for the results included, and gives the same bits
by the same NumPy calls, the memory between them taken once. None: a form that the function itself had better do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .base import in_turn

Array = Any
Bound = Callable[[], Any]


def _plain(*arrays: Array) -> bool:
    """Are these matrices of one dtype, float32 or float64?"""
    return len({a.dtype for a in arrays}) == 1 and arrays[0].dtype in (np.float32, np.float64)


def linear(x: Array, weight: Array, bias: Array | None, out: Array) -> Bound | None:
    if x.ndim != 2 or not _plain(x, weight, out):
        return None
    product = partial(np.dot, x, weight.T, out)
    return product if bias is None else in_turn([product, partial(np.add, out, bias, out)])


def linear_relu(x: Array, weight: Array, bias: Array | None, out: Array) -> Bound | None:
    product = linear(x, weight, bias, out)
    return None if product is None else in_turn([product, partial(np.maximum, out, np.zeros((), out.dtype), out=out)])


def relu_backward(g: Array, y: Array, out: Array) -> Bound | None:
    if not _plain(g, y, out) or g.shape != y.shape:
        return None
    mask = np.empty(y.shape, bool)
    return in_turn([partial(np.greater, y, np.zeros((), y.dtype), mask), partial(np.multiply, g, mask, out)])


def relu_bias_backward(g: Array, y: Array, out: tuple[Array, Array]) -> Bound | None:
    dx, db = out
    first = relu_backward(g, y, dx)
    if first is None or dx.ndim != 2:
        return None
    return in_turn([first, partial(np.ones(len(dx), dx.dtype).dot, dx, db)])


def softmax_cross_entropy(
    x: Array, labels: Array, weight: Array | None, reduction: str, ignore_index: int, label_smoothing: float,
    out: tuple[Array, Array, Array, Array],
) -> Bound | None:  # fmt: skip
    loss, top, mass, total = out
    n, c = x.shape
    plain = weight is None and not label_smoothing and reduction != "none" and n > 0 and not 0 <= ignore_index < c
    if not plain or labels.dtype != np.int64 or not _plain(x, loss):
        return None
    from .cpu import softmax_cross_entropy as general

    unsigned = labels.view(np.uint64)  # so a negative label is too large
    starts = np.arange(0, n * c, c)
    places, shifted = np.empty(n, np.int64), np.empty_like(x, order="C")
    picked, rows, ones = np.empty(n, x.dtype), np.empty(n, x.dtype), np.ones(c, x.dtype)
    total[...] = n
    largest = np.empty((), np.uint64)
    divide = partial(np.divide, loss, total, loss) if reduction == "mean" else lambda: None

    def run() -> None:
        if np.maximum.reduce(unsigned, out=largest) >= c:
            general(x, labels, weight, reduction, ignore_index, label_smoothing, out=out)
            return
        np.maximum.reduce(x, 1, out=top, keepdims=True)
        np.subtract(x, top, shifted)
        np.add(starts, labels, places)
        shifted.take(places, None, picked, "clip")  # they are in range; "raise" would copy first
        np.exp(shifted, shifted)
        shifted.dot(ones, mass)
        np.log(mass, rows)
        np.subtract(rows, picked, rows)
        np.add.reduce(rows, 0, None, loss)
        total[...] = n
        divide()

    return run


MAKERS: dict[str, Callable[..., Bound | None]] = {
    f.__name__: f for f in (linear, linear_relu, relu_backward, relu_bias_backward, softmax_cross_entropy)
}
