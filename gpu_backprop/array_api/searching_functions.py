"""https://data-apis.org/array-api/latest/API_specification/searching_functions.html"""

from __future__ import annotations

from typing import Any, Literal

from ..core import dtypes
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import elementwise as ew
from ..ops import reduction, sorting
from ..ops.reduction import as_choice
from .creation_functions import full

__all__ = ["argmax", "argmin", "count_nonzero", "nonzero", "searchsorted", "where"]

_ABSENT: Any = object()


def argmax(x: Tensor, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first largest value along `axis` (in C order over all when None)."""
    return asarray(x).argmax(axis, keepdims)


def argmin(x: Tensor, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first smallest value along `axis` (in C order over all when None)."""
    return asarray(x).argmin(axis, keepdims)


def as_comparable(name: str, x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Two arrays, of which one may be a Python number, as Tensors of one dtype that keeps different values apart."""
    x1, x2 = as_operands(name, (x1, x2))
    array, other = (x1, x2) if isinstance(x1, Tensor) else (x2, x1)
    dtype = dtypes.result_type(x1, x2)
    if isinstance(other, float) and array.dtype.kind in "iu":
        dtype = dtypes.float64
    if not isinstance(other, Tensor):
        try:
            other = full((), other, dtype=dtype, device=array.device)
        except DataError:
            raise DataError(
                f"{name}: {other} does not fit into {dtype}; cast the array to a wider dtype first"
            ) from None
    x1, x2 = (array, other) if isinstance(x1, Tensor) else (other, array)
    return x1.astype(dtype, copy=False), x2.astype(dtype, copy=False)


def count_nonzero(x: Tensor, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """How many values over `axis` are not zero (int64)."""
    return reduction.reduce(reduction.count_nonzero, asarray(x), axis, keepdims)


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """For each axis the positions (int64) of the values that are not zero, in C order; not inside gb.capture."""
    x = asarray(x)
    if not x.ndim:
        raise ShapeError("nonzero: a scalar array has no positions; use x != 0")
    return sorting.nonzero(x)


def searchsorted(
    x1: Tensor, x2: Any, /, side: Literal["left", "right"] = "left", sorter: Tensor | None = None
) -> Tensor:
    """Where the values of `x2` (an array or a number) would be inserted in `x1` to keep its order: positions (int64).

    x1: one axis, ascending, or put in ascending order by the positions in `sorter`. side: "left" of equal values or
    "right". NaNs are larger than any number.
    """
    as_choice("searchsorted", "side", side, ("left", "right"))
    x1, x2 = as_comparable("searchsorted", x1, x2)
    if x1.ndim != 1:
        raise ShapeError(f"searchsorted: x1 of shape {list(x1.shape)} must have one axis; use x1.reshape(-1)")
    if sorter is not None:
        _, sorter = as_operands("searchsorted", (x1, sorter))
        sorter = asarray(sorter, device=None if isinstance(sorter, Tensor) else x1.device)
        if sorter.dtype.kind not in "iu" or sorter.shape != x1.shape:
            raise DTypeError(
                f"searchsorted: sorter is {sorter.dtype}{list(sorter.shape)} for {list(x1.shape)} values; "
                "give integers of that shape (gb.argsort(x1))"
            )
    return sorting.searchsorted(x1, x2, sorter, side=side)


def where(condition: Any, x1: Any = _ABSENT, x2: Any = _ABSENT, /) -> Any:
    """x1 where the condition holds, else x2; all three broadcast. With the condition alone, its `nonzero`."""
    if x1 is _ABSENT or x2 is _ABSENT:
        if x1 is not x2:
            raise DTypeError("where: a condition and one array; give both x1 and x2, or neither")
        return nonzero(condition)
    if condition is None or x1 is None or x2 is None:
        raise DTypeError("where: None is no operand; give an array or a number")
    condition, x1, x2 = as_operands("where", (condition, x1, x2))
    if isinstance(condition, Tensor):  # whose dtype would have a say in the result's
        condition = condition.astype(dtypes.bool_, copy=False)
    if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
        x1 = asarray(x1, device=condition.device)
    return ew.where(condition, x1, x2)
