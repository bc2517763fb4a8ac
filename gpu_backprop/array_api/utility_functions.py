"""https://data-apis.org/array-api/latest/API_specification/utility_functions.html"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, asarray

__all__ = ["all", "any"]


def all(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where no value over `axis` is zero."""
    return asarray(x).all(axis, keepdims)


def any(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where some value over `axis` is not zero."""
    return asarray(x).any(axis, keepdims)
