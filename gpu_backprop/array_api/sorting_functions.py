"""https://data-apis.org/array-api/latest/API_specification/sorting_functions.html"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, asarray
from ..ops import sorting
from ..ops.primitive import Primitive
from ..ops.reduction import as_choice, one_axis

__all__ = ["argsort", "sort"]


def _sorted(primitive: Primitive, x: Any, axis: int | None, kind: Any, descending: bool, stable: bool) -> Tensor:
    x = asarray(x)
    if kind is not None:
        as_choice(primitive.name, "kind", kind, ("stable", "quicksort", "mergesort", "heapsort"))
    if axis is None:  # as NumPy has it
        x, axis = x.reshape(-1), 0
    axis = one_axis(primitive.name, axis, x.ndim)
    return primitive(x, axis=axis, descending=bool(descending), stable=bool(stable))


def argsort(
    x: Tensor, /, axis: int | None = -1, kind: Any = None, *, descending: bool = False, stable: bool = True
) -> Tensor:
    """The positions (int64) along `axis` that sort `x` (the flattened array when None).

    NaNs are larger than any number, as in NumPy. kind: NumPy's word for an algorithm; the order is the stable one's.
    """
    return _sorted(sorting.argsort, x, axis, kind, descending, stable)


def sort(
    x: Tensor, /, axis: int | None = -1, kind: Any = None, *, descending: bool = False, stable: bool = True
) -> Tensor:
    """A sorted copy along `axis` (of the flattened array when None). The gradient goes back unsorted.

    NaNs are larger than any number, as in NumPy. kind: NumPy's word for an algorithm; the order is the stable one's.
    """
    return _sorted(sorting.sort, x, axis, kind, descending, stable)
