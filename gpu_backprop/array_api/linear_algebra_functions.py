"""https://data-apis.org/array-api/latest/API_specification/linear_algebra_functions.html"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core import tensor
from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops.elementwise import conjugate
from ..ops.reduction import as_integer, as_integers, one_axis

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot"]


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The products of matrices, the last two axes of each; the axes before them are batches, which broadcast.

    A vector stands for a matrix of one row on the left, of one column on the right, without that axis in the result.
    """
    return tensor.matmul(x1, x2)


def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two axes exchanged."""
    return asarray(x).mT


def tensordot(x1: Tensor, x2: Tensor, /, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sums of products over pairs of axes: the last `axes` of x1 with the first of x2, or the two lists given."""
    x1, x2 = (asarray(x) for x in as_operands("tensordot", (x1, x2)))
    if isinstance(axes, int):
        if not 0 <= axes <= min(x1.ndim, x2.ndim):
            raise ShapeError(
                f"tensordot: axes={axes} for shapes {list(x1.shape)} and {list(x2.shape)}; "
                f"use 0 to {min(x1.ndim, x2.ndim)}"
            )
        left, right = tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes))
    else:
        if not isinstance(axes, (tuple, list)) or len(axes) != 2:
            raise DTypeError(f"tensordot: axes {axes!r} is no integer and no pair of axes; use ((0, 1), (1, 0)), say")
        left, right = (
            tuple(one_axis("tensordot", a, x.ndim) for a in as_integers("tensordot", "axes", side))
            for side, x in zip(axes, (x1, x2))
        )
    if [x1.shape[i] for i in left] != [x2.shape[i] for i in right]:
        raise ShapeError(
            f"tensordot: axes {left} of {list(x1.shape)} and {right} of {list(x2.shape)} differ in length; "
            "pair axes of equal length"
        )
    free1 = tuple(i for i in range(x1.ndim) if i not in left)
    free2 = tuple(i for i in range(x2.ndim) if i not in right)
    k = math.prod(x1.shape[i] for i in left)
    a = x1.permute_dims(free1 + left).reshape((math.prod(x1.shape[i] for i in free1), k))
    b = x2.permute_dims(right + free2).reshape((k, math.prod(x2.shape[i] for i in free2)))
    return matmul(a, b).reshape((*(x1.shape[i] for i in free1), *(x2.shape[i] for i in free2)))


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The sum of products along `axis`, counted from the back, which both must have; the other axes broadcast.

    Complex numbers of x1 are conjugated.
    """
    x1, x2 = (asarray(x) for x in as_operands("vecdot", (x1, x2)))
    n, axis = min(x1.ndim, x2.ndim), as_integer("vecdot", "axis", axis)
    if not -n <= axis < 0:
        raise ShapeError(
            f"vecdot: axis {axis} for shapes {list(x1.shape)} and {list(x2.shape)}; "
            f"{f'use {-n} to -1' if n else 'a scalar has no axis, use *'}"
        )
    if x1.shape[axis] != x2.shape[axis]:
        raise ShapeError(
            f"vecdot: axis {axis} of {list(x1.shape)} and {list(x2.shape)} differ in length; make them equal"
        )
    row, column = (_to_back(x, axis) for x in (conjugate(x1), x2))
    return matmul(row[..., None, :], column[..., None])[..., 0, 0]


def _to_back(x: Tensor, axis: int) -> Tensor:
    """The axis, counted from the back, made the last one."""
    if axis == -1:
        return x
    axes = list(range(x.ndim))
    axes.append(axes.pop(axis))
    return x.permute_dims(tuple(axes))
