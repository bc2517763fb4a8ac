"""Sorting and what rests on it: searching, sets. `axis` is one axis, counted from the front.

NaNs are larger than any number, as in NumPy: last in ascending order, first in descending. A gradient goes the way that
its value came; of equal values each keeps its own.
"""

from __future__ import annotations

from typing import Any

from .indexing import take_backward
from .primitive import Primitive


def _pull_sort(g: Any, x: Any, axis: int, descending: bool, stable: bool) -> Any:
    order = argsort(x, axis=axis, descending=descending, stable=stable)
    return reorder(g, argsort(order, axis=axis, descending=False, stable=False), order, axis=axis)


argsort = Primitive("argsort", "x")
sort = Primitive("sort", "x", _pull_sort)
# x along an axis in the order of a permutation, whose inverse the gradient takes: no sum over indices is needed
reorder = Primitive("reorder", "x order inverse", lambda g, order, inverse, axis: reorder(g, inverse, order, axis=axis))

searchsorted = Primitive("searchsorted", "x1 x2 sorter")
isin = Primitive("isin", "x1 x2", promotes="same")
nonzero = Primitive("nonzero", "x", gives="counted")

# of the unique values, in their order: where each is first in the flat x; which of them each element is; how often
unique = Primitive("unique", "x", gives="counted")
unique_values = Primitive(
    "unique_values", "x",
    lambda g, x: take_backward(g, unique(x)[0], axis=0, shape=(x.size,)).reshape(x.shape),
    gives="counted",
)  # fmt: skip
