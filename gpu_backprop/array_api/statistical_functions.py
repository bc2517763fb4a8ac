"""https://data-apis.org/array-api/latest/API_specification/statistical_functions.html"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, asarray
from ..ops import reduction

__all__ = ["logsumexp", "max", "mean", "min", "prod", "std", "sum", "var"]


def logsumexp(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow. (Not in the standard; SciPy's name.)"""
    return reduction.reduce(reduction.logsumexp, asarray(x), axis, keepdims)


def max(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest value over `axis`; NaN if there is one."""
    return asarray(x).max(axis, keepdims)


def mean(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over `axis`."""
    return asarray(x).mean(axis, keepdims)


def min(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest value over `axis`; NaN if there is one."""
    return asarray(x).min(axis, keepdims)


def prod(x: Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`; small integers and bools multiply as int64 (unsigned as uint64)."""
    return asarray(x).prod(axis, dtype, keepdims)


def std(x: Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation over `axis`, with n - correction in the denominator."""
    return asarray(x).std(axis, correction, keepdims)


def sum(x: Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`; small integers and bools add up as int64 (unsigned as uint64)."""
    return asarray(x).sum(axis, dtype, keepdims)


def var(x: Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`, with n - correction in the denominator."""
    return asarray(x).var(axis, correction, keepdims)
