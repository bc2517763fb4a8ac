"""Reductions that pass over NaN."""

from __future__ import annotations

import math
from typing import Any

from ..array_api import statistical_functions as standard
from ..core import dtypes
from ..core.errors import DataError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from .operands import floats
from .statistics import cumprod, cumsum

__all__ = [
    *("nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean"),
    *("nanmin", "nanprod", "nanstd", "nansum", "nanvar"),
]


def _without(a: Any, value: Any) -> tuple[Tensor, Tensor | None]:
    """An array with another number in the place of NaN, and where it was."""
    a = asarray(a)
    if not dtypes.is_inexact(a.dtype):
        return a, None
    missing = ew.isnan(a)
    return ew.where(missing, value, a), missing


def nansum(a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    """The sum over `axis` of what is not NaN."""
    return _without(a, 0)[0].sum(axis, dtype, keepdims)


def nanprod(a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    """The product over `axis` of what is not NaN."""
    return _without(a, 1)[0].prod(axis, dtype, keepdims)


def nancumsum(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumsum` with NaN taken as 0."""
    return cumsum(_without(a, 0)[0], axis, dtype)


def nancumprod(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumprod` with NaN taken as 1."""
    return cumprod(_without(a, 1)[0], axis, dtype)


def _nan_extremum(name: str, a: Any, axis: Any, keepdims: bool) -> Tensor:
    filled, missing = _without(a, -math.inf if name == "max" else math.inf)
    out = getattr(filled, name)(axis=axis, keepdims=keepdims)
    return out if missing is None else ew.where(missing.all(axis=axis, keepdims=keepdims), math.nan, out)


def nanmax(a: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The largest value over `axis` that is not NaN; NaN where all are."""
    return _nan_extremum("max", a, axis, keepdims)


def nanmin(a: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The smallest value over `axis` that is not NaN; NaN where all are."""
    return _nan_extremum("min", a, axis, keepdims)


def _nan_place(name: str, a: Any, axis: int | None, keepdims: bool) -> Tensor:
    filled, missing = _without(a, -math.inf if name == "argmax" else math.inf)
    if missing is not None and bool(missing.all(axis=axis).any()):
        raise DataError(f"nan{name}: nothing but NaN in a slice; leave it out")
    return getattr(filled, name)(axis=axis, keepdims=keepdims)


def nanargmax(a: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first largest value along `axis` that is not NaN."""
    return _nan_place("argmax", a, axis, keepdims)


def nanargmin(a: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first smallest value along `axis` that is not NaN."""
    return _nan_place("argmin", a, axis, keepdims)


def nanmean(a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    """The mean over `axis` of what is not NaN; NaN where nothing is."""
    filled, missing = _without(floats(standard.in_floats("nanmean", a, dtype)), 0)
    return filled.sum(axis, keepdims=keepdims) / _count(missing, axis, keepdims, filled.dtype)


def _count(missing: Tensor | None, axis: Any, keepdims: bool, dtype: Any) -> Tensor:
    assert missing is not None
    return ew.logical_not(missing).sum(axis, keepdims=keepdims).astype(dtypes.real_of(dtype))


def nanvar(
    a: Any, /, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False, correction: Any = None
) -> Tensor:
    """The variance over `axis` of what is not NaN, n - ddof in the denominator; NaN where that is not positive."""
    a = floats(asarray(a, dtype=dtype))
    filled, missing = _without(a, 0)
    assert missing is not None
    centred = ew.where(missing, 0, filled - nanmean(a, axis, keepdims=True))
    squares = ew.real(centred * ew.conjugate(centred)) if a.dtype.kind == "c" else centred * centred
    freedom = _count(missing, axis, keepdims, a.dtype) - (ddof if correction is None else correction)
    return squares.sum(axis, keepdims=keepdims) / ew.where(ew.greater(freedom, 0), freedom, math.nan)


def nanstd(
    a: Any, /, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False, correction: Any = None
) -> Tensor:
    """The square root of `nanvar`."""
    return ew.sqrt_of_variance(nanvar(a, axis, dtype, ddof=ddof, keepdims=keepdims, correction=correction))
