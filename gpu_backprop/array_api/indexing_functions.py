"""https://data-apis.org/array-api/latest/API_specification/indexing_functions.html"""

from __future__ import annotations

from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import indexing
from ..ops.reduction import one_axis

__all__ = ["take", "take_along_axis"]


def _integers(name: str, x: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    x, indices = as_operands(name, (x, indices))
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        raise DTypeError(f"{name}: indices must be an integer array; use t.astype(gb.int64)")
    return x if isinstance(x, Tensor) else asarray(x, device=indices.device), indices


def take(x: Tensor, /, indices: Tensor, axis: int | None = None) -> Tensor:
    """The slices of `x` that `indices` (integers) name along `axis`; elements of the flattened `x` when None."""
    x, indices = _integers("take", x, indices)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return indexing.take(x, indices, axis=one_axis("take", axis, x.ndim))


def take_along_axis(x: Tensor, /, indices: Tensor, axis: int = -1) -> Tensor:
    """The elements of `x` that `indices` (integers, as many axes) name along `axis`; the other axes broadcast."""
    x, indices = _integers("take_along_axis", x, indices)
    axis = one_axis("take_along_axis", axis, x.ndim)
    if x.ndim != indices.ndim:
        raise ShapeError(
            f"take_along_axis: indices of shape {list(indices.shape)} for an array of shape {list(x.shape)}; "
            "give both the same number of axes"
        )
    return indexing.take_along_axis(x, indices, axis=axis)
