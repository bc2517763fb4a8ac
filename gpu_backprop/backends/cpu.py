"""The CPU backend: NumPy, and compiled passes (compiled.py) where they are to be had and one pass beats several.

The functions of this file are what NumPy does in their place: the same results, the bits of exponentials and of long
sums apart.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from . import bound, compiled, draws, generic, updates
from .base import Backend, Functions

# 0-d arrays, which NumPy's functions take faster than Python numbers
_ZERO: dict[Any, Any] = {np.dtype(t): np.zeros((), t) for t in ("float32", "float64")}


@functools.lru_cache(maxsize=64)
def _row_starts(rows: int, columns: int) -> np.ndarray:
    """Where each row of a (rows, columns) array begins among its elements."""
    return np.arange(0, rows * columns, columns)


@functools.lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    """A vector whose product with a matrix is the sum of its columns or rows, by BLAS and so faster than by a ufunc."""
    return np.ones(n, dtype)


def softmax_cross_entropy(x, labels, weight, reduction, ignore_index, label_smoothing, out=None):
    """Row losses log(sum(exp(x))) - x[label], reduced; the general way unless every row counts once."""
    n, c = x.shape
    plain = (
        weight is None
        and not label_smoothing
        and reduction != "none"
        and n > 0
        and not 0 <= ignore_index < c
        and labels.dtype == np.int64
        and np.maximum.reduce(labels.view(np.uint64)) < c  # seen as unsigned, a negative label is too large
    )
    if not plain:
        general = _generic["softmax_cross_entropy"]
        return general(x, labels, weight, reduction, ignore_index, label_smoothing, out=out)
    top = np.maximum.reduce(x, axis=1, keepdims=True)
    shifted = x - top
    picked = shifted.take(_row_starts(n, c) + labels)
    np.exp(shifted, shifted)
    mass = shifted.dot(_ones(c, x.dtype))
    loss = np.add.reduce(np.log(mass) - picked)
    total = x.dtype.type(n)
    return generic.put_all((loss / total if reduction == "mean" else loss, top, mass, total), out)


def softmax_cross_entropy_backward(
    g, x, labels, weight, top, mass, total, reduction, ignore_index, label_smoothing, out=None
):
    """(softmax(x) - onehot(labels)) g / n; the general way unless every row counts once (in a mean, total = n)."""
    n, c = x.shape
    if weight is not None or label_smoothing or reduction != "mean" or total != n:
        general = _generic["softmax_cross_entropy_backward"]
        return general(g, x, labels, weight, top, mass, total, reduction, ignore_index, label_smoothing, out=out)
    result = np.subtract(x, top, out)
    np.exp(result, result)
    scale = g / total
    result *= (scale / mass).reshape(n, 1)
    hit = _row_starts(n, c) + labels
    result.put(hit, result.take(hit) - scale)
    return result


def _reduction(ufunc):
    """A reduction without NumPy's Python wrapper, which costs as much as a small array's."""

    def reduce(x, axis, keepdims, out=None):
        return ufunc.reduce(x, axis, None, out, keepdims)

    return reduce


_sum = _reduction(np.add)


def sum(x, axis, keepdims, out=None):
    """The sum over rows, which is the gradient of a bias, as a product; other sums as NumPy has them."""
    if axis == (0,) and x.ndim == 2 and not keepdims and x.dtype in _ZERO:
        return _ones(len(x), x.dtype).dot(x, out)
    return _sum(x, axis, keepdims, out)


def relu(x, out=None):
    zero = _ZERO.get(x.dtype)
    return _generic["relu"](x, out=out) if zero is None else np.maximum(x, zero, out=out)


def relu_backward(g, y, out=None):
    return np.multiply(g, np.greater(y, _ZERO.get(y.dtype, 0)), out=out)


def relu_bias_backward(g, y, out=None):
    if g.dtype not in _ZERO:
        return _generic["relu_bias_backward"](g, y, out=out)
    dx, db = (None, None) if out is None else out
    dx = relu_backward(g, y, dx)
    return dx, sum(dx if dx.ndim == 2 else dx.reshape(-1, dx.shape[-1]), (0,), False, db)


def matmul(x, y, out=None):
    """np.dot costs less than np.matmul beside a small product of two matrices."""
    return np.dot(x, y, out=out) if x.ndim == 2 and y.ndim == 2 else np.matmul(x, y, out=out)


def linear(x, weight, bias, out=None):
    out = matmul(x, weight.T, out=out)
    return out if bias is None else np.add(out, bias, out=out)


def linear_relu(x, weight, bias, out=None):
    out = linear(x, weight, bias, out)
    return np.maximum(out, _ZERO.get(out.dtype, 0), out=out)


def _chain(functions, *operands, chain, out=None):
    """Imported when first wanted: chains come from captured programs, and with them half the package."""
    from . import blocks

    return blocks.chain(functions, *operands, chain=chain, out=out)


_LEAN = (
    *(softmax_cross_entropy, softmax_cross_entropy_backward, sum),
    *(relu, relu_backward, relu_bias_backward, matmul, linear, linear_relu),
)
_REDUCTIONS = {"prod": np.multiply, "max": np.maximum, "min": np.minimum}
_generic = generic.table(np)
NUMPY: dict[str, Any] = {
    **_generic,
    **{function.__name__: function for function in _LEAN},
    **{name: _reduction(ufunc) for name, ufunc in _REDUCTIONS.items()},
}


def _with_passes(functions: dict[str, Any], others: Functions) -> Functions:
    """These functions over the others; a compiled pass takes the place of its own at the first look-up of it."""
    lazy = {name: function for name, function in functions.items() if name in compiled.PASSES}
    table = Functions(lambda name: compiled.instead_of(lazy[name], name) if name in lazy else others[name])
    table.update({name: function for name, function in functions.items() if name not in lazy})
    return table


class CpuBackend(Backend):
    """Arrays are NumPy's; every function runs when it is called."""

    name = "cpu"
    xp = np
    native: Functions

    def __init__(self) -> None:
        self.native = _with_passes(NUMPY, Functions(lambda name: generic.lookup(np, name)))
        aware = generic.aware(self.native, np)
        self.functions = _with_passes(updates.TABLE | draws.TABLE, aware)
        for functions in (self.native, self.functions):
            functions["chain"] = functools.partial(_chain, functions)

    def prepare(self) -> None:
        compiled.status()  # compiles the passes, if the cache lacks them

    def from_host(self, array: np.ndarray, copy: bool = True) -> np.ndarray:
        return array.copy() if copy else array

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.empty(shape, dtype)

    def filler(self, place, views, calls):  # type: ignore[no-untyped-def]
        without_copy = compiled.filler(place, views, calls)
        if without_copy is not None:
            return without_copy

        def fill(array: np.ndarray) -> None:
            place[...] = array

        return fill

    def copier(self, array: np.ndarray) -> Callable[[], np.ndarray]:
        return array.copy

    def bind(self, name, function, args, attrs, results, takes_out):  # type: ignore[no-untyped-def]
        if name == "chain":
            from . import blocks

            half = any(hasattr(x, "dtype") and dtypes.is_half(x.dtype) for x in args)
            return blocks.bind(attrs["chain"], args, results[0], self.functions if half else self.native)
        place = results[0] if len(results) == 1 else results
        if (takes_out or not results) and hasattr(function, "bind"):  # a compiled pass
            return function.bind(*args, **attrs, out=place) if takes_out else function.bind(*args, **attrs)
        if takes_out and name in bound.MAKERS and function is self.native[name]:
            made = bound.MAKERS[name](*args, **attrs, out=place)
            if made is not None:
                return made
        if name == "write":
            array, index, value = args
            parts = index if isinstance(index, tuple) else (index,)
            if all(part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
                view = array[parts if Ellipsis in parts else (*parts, ...)]
                return functools.partial(np.copyto, view, value, casting="unsafe")
        return super().bind(name, function, args, attrs, results, takes_out)

    def executor(self, calls, names):  # type: ignore[no-untyped-def]
        return compiled.in_turn(calls)

    def synchronize(self) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {
            "device": "cpu",
            "processor": platform.processor() or platform.machine(),
            "numpy": np.__version__,
            "passes": compiled.status(),
        }
