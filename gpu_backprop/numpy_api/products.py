"""Products of vectors and matrices, by NumPy's names."""

from __future__ import annotations

from typing import Any

from ..array_api import linalg
from ..array_api.linear_algebra_functions import tensordot
from ..core.errors import ShapeError
from ..core.tensor import Tensor, asarray
from ..ops.elementwise import conjugate
from ..ops.reduction import one_axis
from .operands import tensors
from .shapes import moved_to_back

__all__ = ["cross", "diagonal", "dot", "inner", "kron", "outer", "trace", "vdot"]


def dot(a: Any, /, b: Any) -> Tensor:
    """The sums of products over the last axis of `a` and the second last (a vector's only) one of `b`.

    Vectors give their inner product, matrices the matrix product; a number multiplies.
    """
    a, b = tensors("dot", a, b)
    if not a.ndim or not b.ndim:
        return a * b
    _same_length("dot", a, a.ndim - 1, b, b.ndim - min(b.ndim, 2))
    if a.ndim <= 2 and b.ndim <= 2:
        return a @ b
    return tensordot(a, b, axes=((-1,), (-min(b.ndim, 2),)))


def inner(a: Any, /, b: Any) -> Tensor:
    """The sums of products over the last axes of both; a number multiplies."""
    a, b = tensors("inner", a, b)
    if not a.ndim or not b.ndim:
        return a * b
    _same_length("inner", a, a.ndim - 1, b, b.ndim - 1)
    return tensordot(a, b, axes=((-1,), (-1,)))


def _same_length(name: str, a: Tensor, i: int, b: Tensor, j: int) -> None:
    if a.shape[i] != b.shape[j]:
        raise ShapeError(
            f"{name}: axis {i} of {list(a.shape)} and axis {j} of {list(b.shape)} are multiplied and summed; "
            "make them equally long"
        )


def vdot(a: Any, /, b: Any) -> Tensor:
    """The inner product of all elements, those of `a` conjugated."""
    a, b = tensors("vdot", a, b)
    return dot(conjugate(a).reshape(-1), b.reshape(-1))


def outer(a: Any, /, b: Any) -> Tensor:
    """The products of each element of `a` with each one of `b`, both flattened."""
    a, b = tensors("outer", a, b)
    return a.reshape((-1, 1)) * b.reshape(-1)


def kron(a: Any, /, b: Any) -> Tensor:
    """The Kronecker product: `b` once for each element of `a`, multiplied by it, in blocks."""
    a, b = tensors("kron", a, b)
    n = max(a.ndim, b.ndim)
    left, right = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    blocks = a.reshape(sum(((i, 1) for i in left), ())) * b.reshape(sum(((1, j) for j in right), ()))
    return blocks.reshape(tuple(i * j for i, j in zip(left, right)))


def cross(a: Any, /, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """The cross products of vectors of 3 coordinates along axes `axisa` and `axisb`, laid along `axisc`.

    axis: all three in one.
    """
    a, b = tensors("cross", a, b)
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    out = linalg.cross(moved_to_back("cross", a, axisa), moved_to_back("cross", b, axisb))
    place = one_axis("cross", axisc, out.ndim)
    return out.permute_dims((*range(place), out.ndim - 1, *range(place, out.ndim - 1)))


def diagonal(a: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonals of the matrices in axes `axis1` and `axis2`, along a new last axis; see gb.linalg.diagonal."""
    return linalg.diagonal(_matrices("diagonal", a, axis1, axis2), offset=offset)


def trace(a: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """The sums of those diagonals."""
    return linalg.trace(_matrices("trace", a, axis1, axis2), offset=offset, dtype=dtype)


def _matrices(name: str, a: Any, axis1: int, axis2: int) -> Tensor:
    a = asarray(a)
    if a.ndim < 2:
        raise ShapeError(f"{name}: shape {list(a.shape)} is no matrix; give at least two axes")
    first, second = one_axis(name, axis1, a.ndim), one_axis(name, axis2, a.ndim)
    if first == second:
        raise ShapeError(f"{name}: axis1 and axis2 are both {axis1}; name two axes")
    return a.permute_dims((*(i for i in range(a.ndim) if i not in (first, second)), first, second))
