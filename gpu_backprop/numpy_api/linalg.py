"""`gpu_backprop.linalg`: the standard's extension, and the names that NumPy's module has beside it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..array_api import linalg as standard
from ..array_api.linalg import *  # noqa: F403
from ..core import dtypes
from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor
from ..ops import elementwise as ew
from ..ops.reduction import as_integers, normalize_axis, one_axis
from .einsum import einsum
from .operands import floats, tensors

__all__ = [*standard.__all__, "cond", "lstsq", "multi_dot", "norm"]


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors along one axis, or of matrices in two (of all elements as one vector when both are None).

    ord: of vectors 2 (when None), inf, -inf, 0 or any other number; of matrices "fro" (when None), "nuc", 1, -1, 2, -2,
    inf or -inf. See vector_norm and matrix_norm.
    """
    x = floats(x)
    if not isinstance(ord, (str, int, float, type(None))):
        raise DTypeError(f"norm: ord {ord!r} is neither a number nor a name")
    if axis is None and (ord is None or (x.ndim == 2 and ord == "fro") or (x.ndim == 1 and ord == 2)):
        out = standard.vector_norm(x.reshape(-1))
        return out.reshape((1,) * x.ndim) if keepdims else out
    axes = normalize_axis("norm", axis, x.ndim)
    if len(axes) == 1:
        return standard.vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ShapeError(f"norm: axis={axis} of shape {list(x.shape)} and ord={ord!r}; name one axis or two")
    if axis is not None:  # in their order: ord=1 sums along the first
        axes = tuple(one_axis("norm", a, x.ndim) for a in as_integers("norm", "axis", axis))
    moved = x.permute_dims((*(i for i in range(x.ndim) if i not in axes), *axes))
    out = standard.matrix_norm(moved, ord="fro" if ord is None else ord)
    return out.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else out


def cond(x: Any, /, p: Any = None) -> Tensor:
    """The condition number of matrices: norm(x, p) norm(inv(x), p); of the singular values when p is None, 2 or -2."""
    x = floats(x)
    if p is None or (isinstance(p, (int, float)) and p in (2, -2)):
        s = standard.svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return standard.matrix_norm(x, ord=p) * standard.matrix_norm(standard.inv(x), ord=p)


def lstsq(a: Any, /, b: Any, rcond: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The shortest `x` that makes |a x - b| smallest; the squares of that length (empty if `a` has not full rank, or
    no more rows than columns), the rank of `a`, and its singular values.

    rcond: singular values below this share of the largest one count as 0; see pinv.
    """
    a, b = tensors("lstsq", floats(a), floats(b))
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"lstsq: shapes {list(a.shape)} and {list(b.shape)}; give a matrix, and a vector or matrix of as many rows"
        )
    a, b = (t.astype(dtypes.result_type(a, b), copy=False) for t in (a, b))
    x = standard.pinv(a, rtol=rcond) @ b
    rank, (m, n) = standard.matrix_rank(a, rtol=rcond), a.shape
    rest = a @ x - b
    squares = ew.real(rest * ew.conjugate(rest)).sum(axis=0)
    full = m > n and int(rank) == n
    squares = squares.reshape(-1) if full else squares.reshape(-1)[:0]
    return x, squares, rank, standard.svdvals(a)


def multi_dot(arrays: Sequence[Any], /) -> Tensor:
    """The product of two or more matrices in the cheapest order; the first and the last may be vectors."""
    if not hasattr(arrays, "__iter__"):
        raise DTypeError(f"multi_dot: {arrays!r} is not a sequence of arrays; give a list of them")
    made = tensors("multi_dot", *arrays)
    if len(made) < 2 or any(x.ndim != 2 for x in made[1:-1]) or any(x.ndim not in (1, 2) for x in made):
        raise ShapeError(f"multi_dot: shapes {[list(x.shape) for x in made]}; give two or more matrices")
    if any(a.shape[-1] != b.shape[0] for a, b in pairwise(made)):
        raise ShapeError(f"multi_dot: shapes {[list(x.shape) for x in made]}; make inner lengths equal")
    letters = string.ascii_letters
    terms = [letters[i : i + 2] for i in range(len(made))]
    terms[0], terms[-1] = terms[0][-made[0].ndim :], terms[-1][: made[-1].ndim]
    output = ("" if made[0].ndim == 1 else terms[0][0]) + ("" if made[-1].ndim == 1 else terms[-1][-1])
    return einsum(f"{','.join(terms)}->{output}", *made, optimize="optimal" if len(made) < 9 else "greedy")


def svd(x: Any, /, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """The singular value decomposition: U, S and Vh, or S alone without `compute_uv`."""
    return standard.svd(x, full_matrices=full_matrices) if compute_uv else standard.svdvals(x)
