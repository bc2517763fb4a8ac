"""Indexing and its adjoint.

An index travels as the attribute `index`, a tuple of integers, slices, None and Ellipsis in which each integer array or
mask is a Hole; the arrays themselves are inputs of the primitive, in the order of the holes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
