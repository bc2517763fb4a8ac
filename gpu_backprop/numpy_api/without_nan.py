"""Reductions that pass over NaN: those of what is not, where `where` holds (see core/masked.py)."""

from __future__ import annotations

import math
from typing import Any

from ..array_api import statistical_functions as standard
from ..core import dtypes
from ..core.errors import DataError
from ..core.masked import mask_of
from ..core.tensor import Tensor, asarray, in_floats
from ..ops import elementwise as ew
from ..ops import reduction
from .operands import floats
from .statistics import cumprod, cumsum

__all__ = [
    *("nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean"),
    *("nanmin", "nanprod", "nanstd", "nansum", "nanvar"),
]


def _there(name: str, a: Any, where: Any) -> tuple[Tensor, Any]:
    """An array, and where it counts: where it is not NaN, and `where` holds."""
    a = asarray(a)
    if not dtypes.is_inexact(a.dtype):
        return a, where
    there = ew.logical_not(ew.isnan(a))
    return a, there if where is True else ew.logical_and(there, mask_of(name, where, a))


def _without(a: Any, value: Any) -> tuple[Tensor, Tensor | None]:
    """An array with another number in the place of NaN, and where it was."""
    a = asarray(a)
    if not dtypes.is_inexact(a.dtype):
        return a, None
    missing = ew.isnan(a)
    return ew.where(missing, value, a), missing


def nansum(
    a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Tensor:
    """The sum over `axis` of what is not NaN."""
    a, there = _there("nansum", a, where)
    return a.sum(axis, dtype, keepdims, initial, there)


def nanprod(
    a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Tensor:
    """The product over `axis` of what is not NaN."""
    a, there = _there("nanprod", a, where)
    return a.prod(axis, dtype, keepdims, initial, there)


def nancumsum(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumsum` with NaN taken as 0."""
    return cumsum(_without(a, 0)[0], axis, dtype)


def nancumprod(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """`cumprod` with NaN taken as 1."""
    return cumprod(_without(a, 1)[0], axis, dtype)


def _nan_extremum(name: str, a: Any, axis: Any, keepdims: bool, initial: Any, where: Any) -> Tensor:
    if initial is not None or where is not True:
        a, there = _there(f"nan{name}", a, where)
        return getattr(a, name)(axis, keepdims, initial, there)
    filled, missing = _without(a, -math.inf if name == "max" else math.inf)
    out = getattr(filled, name)(axis=axis, keepdims=keepdims)
    return out if missing is None else ew.where(missing.all(axis=axis, keepdims=keepdims), math.nan, out)


def nanmax(a: Any, /, axis: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    """The largest value over `axis` that is not NaN; NaN where all are, or `initial`."""
    return _nan_extremum("max", a, axis, keepdims, initial, where)


def nanmin(a: Any, /, axis: Any = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
    """The smallest value over `axis` that is not NaN; NaN where all are, or `initial`."""
    return _nan_extremum("min", a, axis, keepdims, initial, where)


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


def nanmean(a: Any, /, axis: Any = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True) -> Tensor:
    """The mean over `axis` of what is not NaN; NaN where nothing is."""
    a, there = _there("nanmean", floats(in_floats("nanmean", a, dtype)), where)
    return a.mean(axis, keepdims, there)


def nanvar(
    a: Any, /, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: Any = None, where: Any = True,
) -> Tensor:  # fmt: skip
    """The variance over `axis` of what is not NaN, n - ddof in the denominator; NaN where that is not positive."""
    a = asarray(a)
    lost = reduction.as_real("nanvar", "ddof", ddof)
    if correction is not None:
        if lost:
            raise DataError(f"nanvar: correction={correction} and ddof={ddof} are one thing; give one of them")
        lost = reduction.as_real("nanvar", "correction", correction)
    if not dtypes.is_inexact(a.dtype):
        return standard.var(a, axis, dtype, ddof=lost, keepdims=keepdims, where=where)
    a, there = _there("nanvar", in_floats("nanvar", a, dtype), where)
    out = a.var(axis, keepdims=keepdims, ddof=lost, where=there)
    return ew.where(ew.greater(there.sum(axis, keepdims=keepdims), lost), out, math.nan)


def nanstd(
    a: Any, /, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: Any = None, where: Any = True,
) -> Tensor:  # fmt: skip
    """The square root of `nanvar`."""
    out = nanvar(a, axis, dtype, ddof=ddof, keepdims=keepdims, correction=correction, where=where)
    return ew.sqrt_of_variance(out)
