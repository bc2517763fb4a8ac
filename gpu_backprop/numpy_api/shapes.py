"""Other shapes for the same elements: axes moved, added, split and joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array_api.manipulation_functions import concat, expand_dims, flip
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops.reduction import as_choice, as_integer, as_integers, one_axis
from .operands import tensors

__all__ = [
    *("append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "block", "column_stack", "concatenate"),
    *("dsplit", "dstack", "fliplr", "flipud", "hsplit", "hstack", "ndim", "ravel", "rollaxis", "rot90", "row_stack"),
    *("shape", "size", "split", "swapaxes", "transpose", "vsplit", "vstack"),
]

concatenate = concat


def moved_to_back(name: str, x: Tensor, axis: int) -> Tensor:
    """A view with one axis made the last."""
    axis = one_axis(name, axis, x.ndim)
    return x.permute_dims((*(i for i in range(x.ndim) if i != axis), axis))


# ---------------------------------------------------------------------------------------------------------------------
# questions


def shape(a: Any, /) -> tuple[int, ...]:
    """The lengths of the axes."""
    return asarray(a).shape


def ndim(a: Any, /) -> int:
    """The number of axes."""
    return asarray(a).ndim


def size(a: Any, /, axis: int | None = None) -> int:
    """The number of elements, or of those along one axis."""
    a = asarray(a)
    return a.size if axis is None else a.shape[one_axis("size", axis, a.ndim)]


# ---------------------------------------------------------------------------------------------------------------------
# axes


def ravel(a: Any, /, order: str = "C") -> Tensor:
    """All elements in one axis, a view where possible. order: "C", the last axis fastest, or "F", the first."""
    return _in_order("ravel", asarray(a), order).reshape(-1)


def flatten(a: Any, /, order: str = "C") -> Tensor:
    """A copy of all elements in one axis; see `ravel`."""
    return ravel(a, order).copy()


def _in_order(name: str, a: Tensor, order: str) -> Tensor:
    as_choice(name, "order", order, ("C", "F"))
    return a if order == "C" else a.T


def transpose(a: Any, /, axes: Any = None) -> Tensor:
    """A view with the axes reversed, or in the order of `axes`."""
    return asarray(a).transpose() if axes is None else asarray(a).permute_dims(axes)


def swapaxes(a: Any, /, axis1: int, axis2: int) -> Tensor:
    """A view with two axes exchanged."""
    a = asarray(a)
    order = list(range(a.ndim))
    i, j = one_axis("swapaxes", axis1, a.ndim), one_axis("swapaxes", axis2, a.ndim)
    order[i], order[j] = j, i
    return a.permute_dims(tuple(order))


def rollaxis(a: Any, /, axis: int, start: int = 0) -> Tensor:
    """A view with one axis moved before the axis `start`."""
    a = asarray(a)
    axis = one_axis("rollaxis", axis, a.ndim)
    start = as_integer("rollaxis", "start", start)
    start = start if start == a.ndim else one_axis("rollaxis", start, a.ndim)
    rest = [i for i in range(a.ndim) if i != axis]
    rest.insert(start - (axis < start), axis)
    return a.permute_dims(tuple(rest))


def _atleast(n: int, place: Callable[[Tensor], tuple[int, ...]]) -> Callable[..., Any]:
    def function(*arrays: Any) -> Any:
        made = [x if x.ndim >= n else x.reshape(place(x)) for x in map(asarray, arrays)]
        return made[0] if len(made) == 1 else tuple(made)

    function.__name__ = function.__qualname__ = f"atleast_{n}d"
    function.__doc__ = f"The arrays with at least {n} axes, those that are new of length 1; a tuple of several."
    return function


atleast_1d = _atleast(1, lambda x: (1,))
atleast_2d = _atleast(2, lambda x: (1, x.size))
atleast_3d = _atleast(3, lambda x: (*x.shape, 1) if x.ndim == 2 else (1, x.size, 1))


def flipud(m: Any, /) -> Tensor:
    """The first axis reversed."""
    return flip(m, axis=0)


def fliplr(m: Any, /) -> Tensor:
    """The second axis reversed."""
    return flip(m, axis=1)


def rot90(m: Any, /, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned by `k` times 90 degrees, from the first towards the second of two axes."""
    m, k = asarray(m), as_integer("rot90", "k", k)
    pair = as_integers("rot90", "axes", axes)
    if len(pair) != 2:
        raise ShapeError(f"rot90: axes {axes} are not two; name two")
    first, second = (one_axis("rot90", a, m.ndim) for a in pair)
    if first == second:
        raise ShapeError(f"rot90: axes {axes} are one; name two")
    match k % 4:
        case 0:
            return m.copy()
        case 1:
            return swapaxes(flip(m, axis=second), first, second)
        case 2:
            return flip(m, axis=(first, second))
    return flip(swapaxes(m, first, second), axis=second)


# ---------------------------------------------------------------------------------------------------------------------
# joining


def sequence(name: str, arrays: Any) -> list[Tensor]:
    """The arrays of a list, at least one."""
    if not hasattr(arrays, "__iter__") or isinstance(arrays, (set, frozenset, dict)):
        raise DTypeError(f"{name}: {arrays!r} is not a sequence of arrays; give a list of them")
    made = list(arrays)
    if not made:
        raise ShapeError(f"{name}: no arrays given; give at least one")
    return tensors(name, *made)


def vstack(tup: Sequence[Any], /) -> Tensor:
    """The arrays below each other: along the first axis, vectors as rows."""
    return concat([atleast_2d(x) for x in sequence("vstack", tup)], axis=0)


row_stack = vstack


def hstack(tup: Sequence[Any], /) -> Tensor:
    """The arrays beside each other: along the second axis, vectors one after the other."""
    made = [atleast_1d(x) for x in sequence("hstack", tup)]
    return concat(made, axis=0 if made[0].ndim == 1 else 1)


def dstack(tup: Sequence[Any], /) -> Tensor:
    """The arrays behind each other: along the third axis."""
    return concat([atleast_3d(x) for x in sequence("dstack", tup)], axis=2)


def column_stack(tup: Sequence[Any], /) -> Tensor:
    """Vectors as the columns of a matrix, beside matrices."""
    return concat([x if x.ndim > 1 else x.reshape((-1, 1)) for x in sequence("column_stack", tup)], axis=1)


def append(arr: Any, /, values: Any, axis: int | None = None) -> Tensor:
    """`arr` with `values` behind it along `axis` (both flattened when None)."""
    return concat(tensors("append", arr, values), axis=axis)


def block(arrays: Any, /) -> Tensor:
    """One array of nested lists of blocks: the innermost lists are joined along the last axis, and so on outwards."""

    def depth(part: Any) -> int:
        if not isinstance(part, list):
            return 0
        depths = {depth(p) for p in part}
        if len(depths) != 1:
            raise ShapeError("block: lists that are empty or unequally deep; nest all blocks equally")
        return 1 + depths.pop()

    def leaves(part: Any) -> list[Any]:
        return [leaf for p in part for leaf in leaves(p)] if isinstance(part, list) else [part]

    deepest = depth(arrays)
    found = tensors("block", *leaves(arrays)) if leaves(arrays) else []
    if not found:
        raise ShapeError("block: no arrays given; give at least one")
    n = max(deepest, *(x.ndim for x in found))
    made = iter([expand_dims(x, axis=tuple(range(n - x.ndim))) if x.ndim < n else x for x in found])

    def joined(part: Any, level: int) -> Tensor:
        if not isinstance(part, list):
            return next(made)
        return concat([joined(p, level + 1) for p in part], axis=level - deepest)

    return joined(arrays, 0)


# ---------------------------------------------------------------------------------------------------------------------
# splitting


def array_split(ary: Any, /, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Views of `ary` cut along `axis` before the indices given, or into a number of parts as equal as can be."""
    return _split("array_split", ary, indices_or_sections, axis, even=False)


def split(ary: Any, /, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Views of `ary` cut along `axis` before the indices given, or into a number of equal parts."""
    return _split("split", ary, indices_or_sections, axis, even=True)


_MOST_PARTS = 1_000_000  # each is a Tensor, be it empty


def _split(name: str, ary: Any, where: Any, axis: int, even: bool) -> list[Tensor]:
    ary = asarray(ary)
    axis = one_axis(name, axis, ary.ndim)
    n = ary.shape[axis]
    if isinstance(where, (list, tuple)) or (isinstance(where, (Tensor, np.ndarray)) and where.ndim):
        cuts = list(as_integers(name, "index", where))
    else:
        parts = as_integer(name, "number of parts", where)
        if not 1 <= parts <= max(n, _MOST_PARTS):
            raise DataError(f"{name}: {parts} parts; use 1 to {max(n, _MOST_PARTS)}")
        each, more = divmod(n, parts)
        if even and more:
            raise ShapeError(f"{name}: {n} elements do not divide into {parts} equal parts; use gb.array_split")
        cuts = [i * each + min(i, more) for i in range(1, parts)]
    lead = (slice(None),) * axis
    return [ary[(*lead, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n])]


def hsplit(ary: Any, /, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the second axis (a vector's only one)."""
    ary = _with_axes("hsplit", ary, 1)
    return split(ary, indices_or_sections, axis=min(1, ary.ndim - 1))


def vsplit(ary: Any, /, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the first axis of an array of two or more."""
    return split(_with_axes("vsplit", ary, 2), indices_or_sections, axis=0)


def dsplit(ary: Any, /, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the third axis."""
    return split(_with_axes("dsplit", ary, 3), indices_or_sections, axis=2)


def _with_axes(name: str, ary: Any, n: int) -> Tensor:
    ary = asarray(ary)
    if ary.ndim < n:
        raise ShapeError(f"{name}: shape {list(ary.shape)} has fewer than {n} axes; use gb.split")
    return ary
