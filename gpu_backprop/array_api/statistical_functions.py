"""https://data-apis.org/array-api/latest/API_specification/statistical_functions.html

And NumPy's options of reductions: `where`, bools that broadcast to `x`, for the elements that count; and `initial`, a
number that a reduction begins with, which max and min need beside `where`. Gradients flow to what counts.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ShapeError
from ..core.tensor import Tensor, accumulating, asarray, in_floats
from ..ops import movement, reduction, scans
from ..ops.primitive import Primitive
from .creation_functions import full

__all__ = ["cumulative_prod", "cumulative_sum", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var"]


def _scan(primitive: Primitive, x: Any, axis: int | None, dtype: Any, initial: int | None) -> Tensor:
    x = accumulating(asarray(x), dtype)
    if axis is None and x.ndim != 1:
        raise ShapeError(
            f"{primitive.name}: axis is needed for an array of shape {list(x.shape)}; "
            f"{'pass axis=0, say' if x.ndim else 'use x.reshape(1)'}"
        )
    axis = reduction.one_axis(primitive.name, 0 if axis is None else axis, x.ndim)
    out = primitive(x, axis=axis)
    if initial is None:
        return out
    first = full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), initial, dtype=x.dtype, device=x.device)
    return movement.concat(first, out, axis=axis)


def cumulative_prod(
    x: Tensor, /, axis: int | None = None, dtype: Any = None, *, include_initial: bool = False
) -> Tensor:
    """Products of the elements up to each along `axis` (which a one-axis array may leave out), in the dtype of `prod`.

    include_initial: begin with a 1, so that the axis is longer by one.
    """
    return _scan(scans.cumulative_prod, x, axis, dtype, 1 if include_initial else None)


def cumulative_sum(
    x: Tensor, /, axis: int | None = None, dtype: Any = None, *, include_initial: bool = False
) -> Tensor:
    """Sums of the elements up to each along `axis` (which a one-axis array may leave out), in the dtype of `sum`.

    include_initial: begin with a 0, so that the axis is longer by one.
    """
    return _scan(scans.cumulative_sum, x, axis, dtype, 0 if include_initial else None)


def logsumexp(x: Tensor, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow. (Not in the standard; SciPy's name.)"""
    return reduction.reduce(reduction.logsumexp, asarray(x), axis, keepdims)


def max(x: Tensor, /, axis: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    """The largest value over `axis`; NaN if there is one."""
    return asarray(x).max(axis, keepdims, initial, where)


def mean(x: Tensor, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True) -> Tensor:
    """The arithmetic mean over `axis`, computed in `dtype` if one is given."""
    return in_floats("mean", x, dtype).mean(axis, keepdims, where)


def min(x: Tensor, /, axis: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    """The smallest value over `axis`; NaN if there is one."""
    return asarray(x).min(axis, keepdims, initial, where)


def prod(
    x: Tensor,
    /,
    axis: Any = None,
    dtype: Any = None,
    *,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Tensor:
    """The product over `axis`; small integers and bools multiply as int64 (unsigned as uint64)."""
    return asarray(x).prod(axis, dtype, keepdims, initial, where)


def std(
    x: Tensor,
    /,
    axis: Any = None,
    dtype: Any = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
    ddof: Any = None,
    where: Any = True,
) -> Tensor:
    """The standard deviation over `axis`, with n - correction in the denominator. ddof: NumPy's word for correction."""
    return in_floats("std", x, dtype).std(axis, correction, keepdims, ddof=ddof, where=where)


def sum(
    x: Tensor,
    /,
    axis: Any = None,
    dtype: Any = None,
    *,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Tensor:
    """The sum over `axis`; small integers and bools add up as int64 (unsigned as uint64)."""
    return asarray(x).sum(axis, dtype, keepdims, initial, where)


def var(
    x: Tensor,
    /,
    axis: Any = None,
    dtype: Any = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
    ddof: Any = None,
    where: Any = True,
) -> Tensor:
    """The variance over `axis`, with n - correction in the denominator. ddof: NumPy's word for correction."""
    return in_floats("var", x, dtype).var(axis, correction, keepdims, ddof=ddof, where=where)
