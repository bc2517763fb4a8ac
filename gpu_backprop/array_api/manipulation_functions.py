"""https://data-apis.org/array-api/latest/API_specification/manipulation_functions.html"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import movement
from ..ops.reduction import as_integers, normalize_axis

__all__ = ["broadcast_to", "concat", "expand_dims", "flip", "permute_dims", "reshape", "squeeze", "stack"]


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """A read-only view with axes of length 1 (and new leading axes) repeated."""
    return asarray(x).broadcast_to(as_integers("broadcast_to", "shape", shape))


def _sequence(name: str, arrays: Any) -> tuple[Any, ...]:
    if not hasattr(arrays, "__iter__"):
        raise DTypeError(f"{name}: {arrays!r} is not a sequence of arrays; give a list of them")
    return tuple(arrays)


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along an axis that exists (all flattened first when axis is None)."""
    tensors = as_operands("concat", _sequence("concat", arrays))
    if not tensors:
        raise ShapeError("concat: no arrays given; give at least one")
    if axis is None:
        tensors, axis = tuple(t.reshape(-1) for t in tensors), 0
    (axis,) = normalize_axis("concat", axis, tensors[0].ndim)
    return movement.concat(*tensors, axis=axis)


def expand_dims(x: Tensor, /, *, axis: int | tuple[int, ...] = 0) -> Tensor:
    """`x` with a new axis of length 1 at each position in `axis`, counted in the result."""
    x = asarray(x)
    n = x.ndim + (len(axis) if isinstance(axis, tuple) else 1)
    new = normalize_axis("expand_dims", axis, n)
    rest = iter(x.shape)
    return x.reshape(tuple(1 if i in new else next(rest) for i in range(n)))


def flip(x: Tensor, /, *, axis: Any = None) -> Tensor:
    """The order of elements reversed along `axis` (all axes when None)."""
    x = asarray(x)
    return movement.flip(x, axis=normalize_axis("flip", axis, x.ndim))


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """A view with the axes in another order."""
    return asarray(x).permute_dims(axes)


def reshape(x: Tensor, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """The same elements in C order in another shape; one length may be -1."""
    x = asarray(x)
    return x.copy().reshape(shape) if copy else x.reshape(shape)


def squeeze(x: Tensor, /, axis: int | tuple[int, ...]) -> Tensor:
    """Without the named axes, which must be of length 1."""
    return asarray(x).squeeze(axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The arrays, all of one shape, along a new axis."""
    tensors = as_operands("stack", _sequence("stack", arrays))
    if not tensors:
        raise ShapeError("stack: no arrays given; give at least one")
    if any(t.shape != tensors[0].shape for t in tensors):
        raise ShapeError(f"stack: shapes {[list(t.shape) for t in tensors]} differ; all must be equal")
    (axis,) = normalize_axis("stack", axis, tensors[0].ndim + 1)
    return movement.concat(*(expand_dims(t, axis=axis) for t in tensors), axis=axis)
