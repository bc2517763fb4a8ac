"""Elements put in, left out and chosen, and functions of slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array_api.manipulation_functions import broadcast_arrays, concat, moveaxis, stack
from ..core.errors import DataError, DTypeError, ShapeError, ShapeIndexError
from ..core.tensor import Tensor, asarray
from ..ops import indexing
from ..ops.elementwise import where
from ..ops.reduction import one_axis
from .operands import tensors
from .shapes import sequence

__all__ = ["apply_along_axis", "delete", "insert", "select"]


def insert(arr: Any, /, obj: Any, values: Any, axis: int | None = None) -> Tensor:
    """`arr` (flattened when axis is None) with `values` before the places `obj` along `axis`.

    obj: an integer, a slice, integers, or a mask. values: of the dtype of `arr`; they broadcast.
    """
    arr, axis = _along("insert", arr, axis)
    n = arr.shape[axis]
    places = _places("insert", n, obj, n)
    values = asarray(values, dtype=arr.dtype, device=None if isinstance(values, Tensor) else arr.device)
    if places.size == 1:  # all of `values` at one place
        values = values.reshape((1,) * (arr.ndim - values.ndim) + values.shape)
        values = values if places.ndim else moveaxis(values, 0, axis)
        places = np.repeat(places, values.shape[axis])
    values = values.broadcast_to((*arr.shape[:axis], places.size, *arr.shape[axis + 1 :]))
    order = np.insert(np.arange(n), places, np.arange(n, n + places.size))
    return indexing.take(concat([arr, values], axis=axis), asarray(order, device=arr.device), axis=axis)


def delete(arr: Any, /, obj: Any, axis: int | None = None) -> Tensor:
    """`arr` (flat when axis is None) without the places `obj` along `axis`: an integer, a slice, several, a mask."""
    arr, axis = _along("delete", arr, axis)
    n = arr.shape[axis]
    kept = np.delete(np.arange(n), _places("delete", n, obj, n - 1))
    return indexing.take(arr, asarray(kept, device=arr.device), axis=axis)


def _along(name: str, arr: Any, axis: int | None) -> tuple[Tensor, int]:
    arr = asarray(arr)
    return (arr.reshape(-1), 0) if axis is None else (arr, one_axis(name, axis, arr.ndim))


def _places(name: str, n: int, obj: Any, last: int) -> np.ndarray:
    """The integers that are meant, on the host: the shape of the result hangs on how many there are."""
    host = obj.tolist() if isinstance(obj, Tensor) else obj
    try:
        places = np.arange(n)[host] if isinstance(host, slice) else np.asarray(host)
    except (TypeError, ValueError) as error:  # a step of 0, lists of unequal lengths
        raise DataError(f"{name}: places {obj!r}: {error}; give integers, a slice, or a mask") from None
    if not places.size:
        places = places.astype(np.int64)
    if places.dtype.kind == "b" and places.shape == (n,):
        return np.flatnonzero(places)
    if places.dtype.kind not in "iu" or places.ndim > 1:
        raise DTypeError(
            f"{name}: places {obj!r} along an axis of {n}; give integers, a slice, or a mask as long as it"
        )
    outside = places[(places < -n) | (places > last)]
    if outside.size:
        raise ShapeIndexError(f"{name}: index {outside[0]} is out of bounds along an axis of {n}; use -{n} to {last}")
    return places.astype(np.int64)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    """For each element that of the first choice whose condition holds, `default` where none does."""
    conditions, choices = sequence("select", condlist), sequence("select", choicelist)
    if len(conditions) != len(choices):
        raise ShapeError(f"select: {len(conditions)} conditions for {len(choices)} choices; give one each")
    if any(condition.dtype.kind != "b" for condition in conditions):
        raise DTypeError(f"select: conditions of {', '.join(str(c.dtype) for c in conditions)}; give bools")
    *choices, out = tensors("select", *choices, default)
    *choices, out = broadcast_arrays(*choices, out)
    for condition, choice in zip(reversed(conditions), reversed(choices)):
        out = where(condition, choice, out)
    return out


def apply_along_axis(func1d: Callable[..., Any], /, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Tensor:
    """`func1d(vector, ...)` of every vector along `axis`, one call each; its results lie along where the axis was."""
    arr = asarray(arr)
    axis = one_axis("apply_along_axis", axis, arr.ndim)
    lead = arr.shape[:axis] + arr.shape[axis + 1 :]
    rows = moveaxis(arr, axis, -1).reshape((-1, arr.shape[axis])) if arr.size else ()
    if not len(rows):
        raise ShapeError(
            f"apply_along_axis: no vectors along axis {axis} of shape {list(arr.shape)}; give at least one"
        )
    made = stack([asarray(func1d(row, *args, **kwargs)) for row in rows])
    made, n = made.reshape(lead + made.shape[1:]), len(lead)
    return made.permute_dims((*range(axis), *range(n, made.ndim), *range(axis, n)))
