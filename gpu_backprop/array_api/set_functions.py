"""https://data-apis.org/array-api/latest/API_specification/set_functions.html

Values are unique as `==` has it: NaNs are distinct, zeros of either sign are not. They come in ascending order, and a
gradient reaches the first occurrence of each. How many there are depends on the values: not inside gb.capture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core import dtypes
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import indexing, sorting
from .creation_functions import full
from .data_type_functions import iinfo
from .searching_functions import as_comparable

__all__ = ["isin", "unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAll(NamedTuple):
    """What unique_all returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What unique_counts returns."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What unique_inverse returns."""

    values: Tensor
    inverse_indices: Tensor


def _fits(number: int, dtype: Any) -> bool:
    info = iinfo(dtype)
    return int(info.min) <= number <= int(info.max)


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """For each element of `x1`, is it one of `x2`? With `invert`, is it none?"""
    x1, x2 = as_operands("isin", (x1, x2))
    array, number = (x1, x2) if isinstance(x1, Tensor) else (x2, x1)
    if isinstance(number, int) and array.dtype.kind in "iu" and not _fits(number, array.dtype):
        return full(x1.shape if array is x1 else (), invert, dtype=dtypes.bool_, device=array.device)
    x1, x2 = as_comparable("isin", x1, x2)
    return sorting.isin(x1, x2, invert=bool(invert))


def unique_all(x: Tensor, /) -> UniqueAll:
    """Unique values (n), the positions of their first occurrences in the flattened `x` (n), of each element of `x` the
    position among the values (the shape of `x`), and how often each value occurs (n)."""
    x = asarray(x)
    first, inverse, counts = sorting.unique(x)
    return UniqueAll(indexing.take(x.reshape(-1), first, axis=0), first, inverse, counts)


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """Unique values (n) and how often each occurs (n)."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """Unique values (n) and, of each element of `x`, the position among them."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """Unique values (n)."""
    return sorting.unique_values(asarray(x))
