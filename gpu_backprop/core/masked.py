"""Reductions of the elements where a mask holds (`where`), begun with a value (`initial`): NumPy's two options.

They are composed of `where` and of the whole reductions, so they differentiate to any order; what the mask leaves out
gets the gradient 0, whatever it is. Tensor's methods come here only if one of the two is given.
"""

from __future__ import annotations

import math
from typing import Any

from ..ops import elementwise as ew
from ..ops import movement, reduction
from ..ops.primitive import Primitive
from . import dtypes
from .errors import DataError, DTypeError, ShapeError
from .tensor import Tensor, asarray, operand

_NEUTRAL = {"sum": 0, "prod": 1, "any": False, "all": True, "max": -math.inf, "min": math.inf}
_JOINS = {"sum": ew.add, "prod": ew.multiply}


def reduced(
    primitive: Primitive, x: Tensor, axis: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Tensor:
    """`primitive` (sum, prod, max, min, any or all) of `initial` and the elements of `x` where `where` holds.

    initial: a number, or a Tensor without axes, which gets a gradient; cast to the dtype of `x`. where: bools that
    broadcast to `x`. Raises DataError for max and min with `where` alone, as there may be nothing to choose from.
    """
    name = primitive.name
    start = None if initial is None else _start(name, initial, x)
    if where is not True:
        if start is None and name in ("max", "min"):
            raise DataError(f"{name}: where may leave nothing to choose from; give initial, the value if it does")
        fill = _NEUTRAL[name]
        x = x.astype(dtypes.bool_, copy=False) if fill.__class__ is bool else x
        x = ew.where(mask_of(name, where, x), x, start if fill.__class__ is float and x.dtype.kind in "biu" else fill)
    if start is None:
        return reduction.reduce(primitive, x, axis, keepdims)
    if name in _JOINS:
        return _JOINS[name](start, reduction.reduce(primitive, x, axis, keepdims))
    # `initial` is one element more, so that it has the same share of a gradient as others that are equal to it.
    axes = reduction.normalize_axis(name, axis, x.ndim)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    lengths = tuple(x.shape[i] for i in rest)
    rows = x.permute_dims((*rest, *axes)).reshape((*lengths, math.prod(x.shape[i] for i in axes)))
    out = reduction.reduce(primitive, movement.concat(rows, start.broadcast_to((*lengths, 1)), axis=len(rest)), -1)
    return out.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else out


def mean(x: Tensor, axis: Any, keepdims: bool, where: Any) -> Tensor:
    """The mean of the elements where `where` holds; NaN where there are none."""
    wide = _wide(x)
    mask = mask_of("mean", where, x)
    total = ew.where(mask, wide, 0).sum(axis, keepdims=keepdims)
    return _as_result(total / _count(mask, axis, keepdims, wide), x)


def var(x: Tensor, axis: Any, correction: float, keepdims: bool, where: Any) -> Tensor:
    """The variance of the elements where `where` holds: squared deviations from their mean, over n - correction."""
    wide = _wide(x)
    mask = mask_of("var", where, x)
    count = _count(mask, axis, True, wide)
    rest = ew.where(mask, wide - ew.where(mask, wide, 0).sum(axis, keepdims=True) / count, 0)
    squares = ew.real(rest * ew.conjugate(rest)) if wide.dtype.kind == "c" else ew.square(rest)
    out = squares.sum(axis, keepdims=True) / ew.maximum(count - correction, 0)
    return _as_result(out if keepdims else out.squeeze(reduction.normalize_axis("var", axis, x.ndim)), x)


def mask_of(name: str, where: Any, x: Tensor) -> Tensor:
    """`where` as a mask of the shape of `x`."""
    mask = operand(where, x.device)
    if mask.dtype != dtypes.bool_:
        raise DTypeError(f"{name}: where of {mask.dtype} is no mask; give bools, such as where != 0")
    lead = x.ndim - mask.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(mask.shape, x.shape[lead:])):
        raise ShapeError(
            f"{name}: where of shape {list(mask.shape)} for an array of shape {list(x.shape)}; "
            "give one that broadcasts to it"
        )
    return mask.broadcast_to(x.shape)


def _start(name: str, initial: Any, x: Tensor) -> Tensor:
    start = asarray(initial, dtype=x.dtype, device=None if isinstance(initial, Tensor) else x.device)
    if start.ndim:
        raise ShapeError(f"{name}: initial of shape {list(start.shape)}; give one number")
    return start


def _wide(x: Tensor) -> Tensor:
    """In the dtype that a mean is computed in."""
    if not dtypes.is_inexact(x.dtype):
        return x.astype(dtypes.get_default_dtype())
    return x.astype(dtypes.float32) if dtypes.is_half(x.dtype) else x


def _count(mask: Tensor, axis: Any, keepdims: bool, wide: Tensor) -> Tensor:
    return mask.sum(axis, keepdims=keepdims).astype(dtypes.real_of(wide.dtype))


def _as_result(out: Tensor, x: Tensor) -> Tensor:
    return out.astype(x.dtype) if dtypes.is_half(x.dtype) else out
