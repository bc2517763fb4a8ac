"""Indexing and its adjoint.

An index travels as the attribute `index`, a tuple of integers, slices, None and Ellipsis in which each integer array or
mask is a Hole; the arrays themselves are inputs of the primitive, in the order of the holes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .elementwise import equal, where
from .primitive import Primitive


class Hole(NamedTuple):
    """The place of index array number `n`."""

    n: int


def fill(index: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index with its holes filled again."""
    return tuple(arrays[i.n] if isinstance(i, Hole) else i for i in index)


view = Primitive(
    "getitem", "x",
    lambda g, x_spec, index: scatter_view(g, index=index, shape=x_spec.shape),
    gives="view",
)  # fmt: skip
# zeros of `shape` with g written at a basic index
scatter_view = Primitive("getitem_backward", "g_", lambda g, index: view(g, index=index))


# x[index] with index arrays: a copy
gather = Primitive(
    "getitem", "x *arrays",
    lambda g, x_spec, arrays, index: scatter(g, *arrays, index=index, shape=x_spec.shape),
)  # fmt: skip
# zeros of `shape` with g added at index arrays, repeated indices adding up in order
scatter = Primitive("getitem_backward", "g_ *arrays", lambda g, arrays, index: gather(g, *arrays, index=index))
take = Primitive(
    "take", "x indices",
    lambda g, indices, x_spec, axis: take_backward(g, indices, axis=axis, shape=x_spec.shape),
    None,
)  # fmt: skip
# zeros of `shape` with the slices of g added at `indices` along `axis`
take_backward = Primitive("take_backward", "g_ indices", lambda g, indices, axis: take(g, indices, axis=axis), None)

take_along_axis = Primitive(
    "take_along_axis", "x indices",
    lambda g, indices, x_spec, axis: take_along_axis_backward(g, indices, axis=axis, shape=x_spec.shape),
    None,
)  # fmt: skip
# zeros of `shape` with g added at `indices` along `axis`, repeated indices adding up in order
take_along_axis_backward = Primitive(
    "take_along_axis_backward", "g_ indices", lambda g, indices, axis: take_along_axis(g, indices, axis=axis), None
)

# rows of weight (n, width) by index 0 to n - 1; those of `padding_idx` get no gradient
embedding = Primitive(
    "embedding", "weight indices",
    lambda g, indices, weight_spec, padding_idx: embedding_backward(
        g, indices, shape=weight_spec.shape, padding_idx=padding_idx
    ),
    None,
)  # fmt: skip
embedding_backward = Primitive(
    "embedding_backward", "g_ indices",
    lambda g, indices, padding_idx: _without(padding_idx, embedding(g, indices, padding_idx=padding_idx), indices),
    None,
)  # fmt: skip


def _without(padding_idx: int | None, rows: Any, indices: Any) -> Any:
    """Zeros in place of the rows of `padding_idx`."""
    if padding_idx is None:
        return rows
    return where(equal(indices, padding_idx).reshape((*indices.shape, 1)), 0, rows)


# a last axis of `num_classes` with a 1 at the label, in `dtype`
one_hot = Primitive("one_hot", "labels")
# the share of rows of scores (n, classes) whose first largest one is at the label, float32
accuracy = Primitive("accuracy", "scores labels")
