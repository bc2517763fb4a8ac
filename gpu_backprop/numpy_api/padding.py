"""Arrays made larger round their edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array_api.creation_functions import full
from ..core.devices import check_size
from ..core.errors import DataError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import indexing, movement
from ..ops.reduction import as_choice, as_constant, as_integers, one_axis

__all__ = ["pad"]

_MODES = ("edge", "reflect", "symmetric", "wrap")


def pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Tensor:
    """`array` with `pad_width` elements more before and after each axis.

    pad_width: one integer for all, a pair (before, after) for all axes, a pair for each, or a dict of them by axis.
    mode: "constant" (with `constant_values`, 0 if not given, in the same forms), "edge" (the last element again),
    "reflect" and "symmetric" (the array mirrored at its last element, or behind it) or "wrap" (the array again).
    """
    x = asarray(array)
    constant = as_choice("pad", "mode", mode, ("constant", *_MODES)) == "constant"
    widths = _pairs("pad_width", pad_width, x.ndim)
    values = _pairs("constant_values", options.pop("constant_values", 0), x.ndim) if constant else None
    if options and options != {"reflect_type": "even"}:
        raise DataError(f"pad: {', '.join(map(repr, options))} is not available with mode={mode!r}")
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths))
    check_size("pad", shape, x.dtype.itemsize, x.device)
    if values is not None:
        return _constant(x, widths, values)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            n = x.shape[axis]
            if not n:
                raise ShapeError(f"pad: axis {axis} of shape {list(x.shape)} is empty; mode={mode!r} needs elements")
            places = np.pad(np.arange(n), (before, after), mode=mode)  # type: ignore[call-overload]
            x = indexing.take(x, asarray(places, device=x.device), axis=axis)
    return x if any(map(any, widths)) else x.copy()


def _constant(x: Tensor, widths: list[tuple[int, int]], values: list[tuple[Any, Any]]) -> Tensor:
    if all(value.__class__ is int and value == 0 for pair in values for value in pair):
        inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths))
        shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths))
        return indexing.scatter_view(x, index=inner, shape=shape)
    for axis, (width, ends) in enumerate(zip(widths, values)):
        blocks = [
            full((*x.shape[:axis], w, *x.shape[axis + 1 :]), value, dtype=x.dtype, device=x.device)
            for w, value in zip(width, ends)
        ]
        x = movement.concat(blocks[0], x, blocks[1], axis=axis)
    return x


def _pairs(what: str, given: Any, ndim: int) -> list[tuple[Any, Any]]:
    """One value, a pair, or a pair an axis, as a pair an axis."""
    if isinstance(given, dict):
        found = [(0, 0)] * ndim
        for axis, pair in given.items():
            pairs = _pairs(what, pair, 1)
            found[one_axis("pad", axis, ndim)] = pairs[0]
        return found
    try:
        host = as_constant("pad", what, given).numpy() if isinstance(given, Tensor) else np.asarray(given)
    except ValueError:
        raise ShapeError(f"pad: {what} {given} is ragged; give one value, a pair, or a pair for each axis") from None
    if what == "pad_width" and host.size and host.dtype.kind not in "iu":
        as_integers("pad", what, given)
    if what == "pad_width" and (host < 0).any():
        raise DataError(f"pad: pad_width {given} is negative; cut with a slice instead")
    try:
        return [(a, b) for a, b in np.broadcast_to(host, (ndim, 2)).tolist()]
    except ValueError:
        raise ShapeError(
            f"pad: {what} {given} for {ndim} axes; give one value, a pair, or a pair for each axis"
        ) from None
