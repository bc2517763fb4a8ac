"""https://data-apis.org/array-api/latest/API_specification/searching_functions.html"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, as_operands, asarray
from ..ops import elementwise as ew

__all__ = ["argmax", "argmin", "where"]


def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest value along `axis` (in C order over all when None)."""
    return asarray(x).argmax(axis, keepdims)


def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest value along `axis` (in C order over all when None)."""
    return asarray(x).argmin(axis, keepdims)


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, else x2; all three broadcast."""
    condition, x1, x2 = as_operands("where", (condition, x1, x2))
    if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
        x1 = asarray(x1, device=condition.device)
    return ew.where(condition, x1, x2)
