"""https://data-apis.org/array-api/latest/API_specification/indexing_functions.html"""

from __future__ import annotations

from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands
from ..ops import indexing
from ..ops.reduction import normalize_axis

__all__ = ["take"]


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The slices of `x` that `indices` (integers) name along `axis` (which only a one-axis array may leave out)."""
    x, indices = as_operands("take", (x, indices))
    if axis is None and x.ndim != 1:
        raise ShapeError(f"take: axis is needed for an array of shape {list(x.shape)}; pass axis=0, say")
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        raise DTypeError("take: indices must be an integer array; use t.astype(gb.int64)")
    (axis,) = normalize_axis("take", 0 if axis is None else axis, x.ndim)
    return indexing.take(x, indices, axis=axis)
