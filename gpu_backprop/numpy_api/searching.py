"""Where elements are, which there are, and in which order."""

from __future__ import annotations

import math
from typing import Any

from ..array_api.creation_functions import full
from ..array_api.indexing_functions import take, take_along_axis
from ..array_api.manipulation_functions import concat, stack
from ..array_api.searching_functions import nonzero
from ..array_api.set_functions import UniqueAll, isin, unique_all
from ..array_api.sorting_functions import argsort, sort
from ..core import dtypes
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops.elementwise import equal, floor_divide, greater_equal, isnan, less, logical_or, minimum, remainder
from ..ops.reduction import as_choice, as_integers, one_axis
from .operands import tensors
from .shapes import sequence

__all__ = [
    *("argpartition", "argwhere", "extract", "flatnonzero", "intersect1d", "lexsort", "partition", "setdiff1d"),
    *("union1d", "unique", "unravel_index"),
]


def flatnonzero(a: Any, /) -> Tensor:
    """The positions in the flattened array of what is not zero."""
    return nonzero(asarray(a).reshape(-1))[0]


def argwhere(a: Any, /) -> Tensor:
    """The indices of what is not zero, a row each."""
    a = asarray(a)
    if not a.ndim:
        return argwhere(a.reshape(1))[:, :0]
    return stack(nonzero(a), axis=1)


def extract(condition: Any, /, arr: Any) -> Tensor:
    """The elements of `arr` where the condition, of as many elements, holds."""
    return asarray(arr).reshape(-1)[asarray(condition).reshape(-1).astype("bool")]


def unique(
    ar: Any, /, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False, axis: Any = None,
    *, equal_nan: bool = True,
) -> Any:  # fmt: skip
    """The unique values in ascending order; and their first positions, the position among them of each element, and how
    often each occurs, if asked for.

    equal_nan: NaNs are one value, not each its own.
    """
    if axis is not None:
        raise DTypeError("unique: axis is not available; leave it out")
    found = unique_all(ar)
    missing = int(isnan(found.values).sum()) if equal_nan else 0
    if missing > 1:  # NaNs are the last of the values
        first = found.values.size - missing
        values, positions, counts = (part[: first + 1] for part in (found.values, found.indices, found.counts))
        counts = concat([counts[:-1], full((1,), missing, dtype=counts.dtype, device=counts.device)])
        found = UniqueAll(values, positions, minimum(found.inverse_indices, first), counts)
    chosen = [part for part, asked in zip(found[1:], (return_index, return_inverse, return_counts)) if asked]
    return (found.values, *chosen) if chosen else found.values


# ---------------------------------------------------------------------------------------------------------------------
# sets


def union1d(ar1: Any, /, ar2: Any) -> Tensor:
    """The unique values of both, in ascending order."""
    return unique(concat([t.reshape(-1) for t in tensors("union1d", ar1, ar2)]))


def intersect1d(ar1: Any, /, ar2: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    """The unique values that both have, in ascending order; the gradient goes to the first one.

    assume_unique: of `ar1`, and of `ar2`, no value occurs twice. return_indices: their first positions in both, too.
    """
    a, b = (t.reshape(-1) for t in tensors("intersect1d", ar1, ar2))
    places = None
    if not assume_unique:
        (a, *_), (b, *_) = places = unique(a, return_index=True), unique(b, return_index=True)
    both = concat([a, b])
    order = argsort(both, stable=True)
    ordered = take(both, order)
    twice = equal(ordered[1:], ordered[:-1])
    found = ordered[:-1][twice]
    if not return_indices:
        return found
    first, second = order[:-1][twice], order[1:][twice] - a.size
    return (found, first, second) if places is None else (found, places[0][1][first], places[1][1][second])


def setdiff1d(ar1: Any, /, ar2: Any, assume_unique: bool = False) -> Tensor:
    """The unique values of `ar1` that `ar2` has not, in ascending order (in theirs with `assume_unique`)."""
    a = asarray(ar1).reshape(-1) if assume_unique else unique(ar1)
    return a[isin(a, ar2, invert=True)]


# ---------------------------------------------------------------------------------------------------------------------
# order


def lexsort(keys: Any, /, axis: int = -1) -> Tensor:
    """The indices that sort by the last of `keys`, among equals by the one before, and so on."""
    made = sequence("lexsort", keys)
    if any(key.shape != made[0].shape for key in made):
        raise ShapeError(f"lexsort: keys of shapes {[list(key.shape) for key in made]}; give one or more of one shape")
    axis = one_axis("lexsort", axis, made[0].ndim)
    order = argsort(made[0], axis=axis, stable=True)
    for key in made[1:]:
        again = argsort(take_along_axis(key, order, axis=axis), axis=axis, stable=True)
        order = take_along_axis(order, again, axis=axis)
    return order


def partition(a: Any, /, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Tensor:
    """A copy with element number `kth` in its sorted place, none greater before, none less behind: here all sorted."""
    return sort(*_whole("partition", a, kth, axis, kind))


def argpartition(a: Any, /, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Tensor:
    """The indices that give `partition`."""
    return argsort(*_whole("argpartition", a, kth, axis, kind))


def _whole(name: str, a: Any, kth: Any, axis: int | None, kind: str) -> tuple[Tensor, int]:
    as_choice(name, "kind", kind, ["introselect", "stable"])
    places = as_integers(name, "kth", kth)
    a = asarray(a)
    a, axis = (a.reshape(-1), 0) if axis is None else (a, one_axis(name, axis, a.ndim))
    n = a.shape[axis]
    if not places or any(not -n <= k < n for k in places):
        raise DataError(f"{name}: kth={kth} of {n} elements; use -{n} to {n - 1}")
    return a, axis


def unravel_index(indices: Any, /, shape: Any, order: str = "C") -> tuple[Tensor, ...]:
    """Positions in a flattened array of `shape` as one index an axis. order: "C", the last axis fastest, or "F".

    They have to be looked at, for which a GPU is waited for, and which gb.capture refuses.
    """
    rest, lengths = asarray(indices), as_integers("unravel_index", "shape", shape)
    if rest.dtype.kind not in "iu":
        raise DTypeError(f"unravel_index: positions of {rest.dtype}; give integers")
    if any(length < 0 for length in lengths):
        raise ShapeError(f"unravel_index: shape {list(lengths)}; lengths are 0 or more")
    if rest.ndim and not lengths:
        raise ShapeError(f"unravel_index: {rest.size} positions in an array without axes; give shape=(1,)")
    rest = rest.astype(dtypes.int64, copy=False)
    n = math.prod(lengths)
    if bool(logical_or(less(rest, 0), greater_equal(rest, n)).any()):
        raise DataError(f"unravel_index: a position is not between 0 and {n - 1}, the last of shape {list(lengths)}")
    fastest_first = as_choice("unravel_index", "order", order, ["C", "F"]) == "F"
    found = []
    for length in lengths if fastest_first else reversed(lengths):
        found.append(remainder(rest, length))
        rest = floor_divide(rest, length)
    return tuple(found if fastest_first else reversed(found))
