"""Quantiles.

R. J. Hyndman and Y. Fan, Sample quantiles in statistical packages, The American Statistician 50, 1996.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..array_api.creation_functions import full
from ..array_api.indexing_functions import take_along_axis
from ..array_api.sorting_functions import sort
from ..core import dtypes
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import indexing, reduction
from .operands import floats

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]

_PLOTTING = {  # alpha and beta of the position n q + alpha + q (1 - alpha - beta), counted from 1
    "interpolated_inverted_cdf": (0.0, 1.0), "hazen": (0.5, 0.5), "weibull": (0.0, 0.0), "linear": (1.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
}  # fmt: skip
_CHOOSING = {"lower": "floor", "higher": "ceil", "nearest": "round"}


def quantile(
    a: Any, /, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """The values below which the shares `q` (0 to 1) of the elements over `axis` lie.

    q: a number, or an array, whose axes come first in the result. method: NumPy's, of which "linear", "lower",
    "higher", "midpoint", "nearest", "hazen", "weibull", "median_unbiased", "normal_unbiased" and
    "interpolated_inverted_cdf" are here. NaN where there is a NaN. The gradient goes to the elements between which a
    quantile lies.
    """
    return _quantile("quantile", a, _shares("quantile", q, 1), axis, method, keepdims, unused)


def percentile(
    a: Any, /, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """`quantile` of the percentages `q` (0 to 100)."""
    return _quantile("percentile", a, _shares("percentile", q, 100), axis, method, keepdims, unused)


def median(a: Any, /, axis: Any = None, *, keepdims: bool = False, **unused: Any) -> Tensor:
    """The middle value over `axis`, or the mean of the middle two; NaN where there is a NaN."""
    return _quantile("median", a, np.asarray(0.5), axis, "linear", keepdims, unused)


def nanquantile(
    a: Any, /, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """`quantile` of what is not NaN; NaN where nothing is."""
    return _quantile("nanquantile", a, _shares("nanquantile", q, 1), axis, method, keepdims, unused)


def nanpercentile(
    a: Any, /, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """`percentile` of what is not NaN; NaN where nothing is."""
    return _quantile("nanpercentile", a, _shares("nanpercentile", q, 100), axis, method, keepdims, unused)


def nanmedian(a: Any, /, axis: Any = None, *, keepdims: bool = False, **unused: Any) -> Tensor:
    """`median` of what is not NaN; NaN where nothing is."""
    return _quantile("nanmedian", a, np.asarray(0.5), axis, "linear", keepdims, unused)


def _shares(name: str, q: Any, whole: int) -> np.ndarray:
    """`q` of `whole` as shares of 1."""
    given = reduction.as_constant(name, "a share", q if isinstance(q, Tensor) else asarray(q, device="cpu"))
    if given.dtype.kind == "c":
        raise DTypeError(f"{name}: shares of {given.dtype}; give real numbers")
    # Numbers, which a captured function may name, are read anew: Python's keep their digits in any default dtype.
    q = given.numpy() if given is q else asarray(q, dtype=dtypes.float64, device="cpu").array
    shares: np.ndarray = q.astype(np.float64) / whole
    return shares


def _quantile(name: str, a: Any, q: np.ndarray, axis: Any, method: str, keepdims: bool, unused: Any) -> Tensor:
    refused = [word for word, value in unused.items() if word != "overwrite_input" and value is not None]
    if refused:
        raise DTypeError(f"{name}: {', '.join(refused)} is not available; leave it out")
    if not ((q >= 0) & (q <= 1)).all():
        raise DataError(f"{name}: the share {q.ravel()[0] if q.size == 1 else q.tolist()} is not between 0 and all")
    a = floats(a)
    if a.dtype.kind == "c":
        raise DTypeError(f"{name}: {a.dtype} has no order; use gb.real, gb.imag or gb.abs")
    axes = reduction.normalize_axis(name, axis, a.ndim)
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    n = math.prod(a.shape[i] for i in axes)
    skipping = name.startswith("nan")
    if not n and not skipping:
        raise ShapeError(f"{name}: no element over axis {axis} of shape {list(a.shape)}; give at least one")
    reduction.as_choice(name, "method", method, sorted([*_PLOTTING, *_CHOOSING, "midpoint"]))
    kept = tuple(1 if i in axes else m for i, m in enumerate(a.shape) if keepdims or i not in axes)
    if not n:
        return full((*q.shape, *kept), math.nan, dtype=a.dtype, device=a.device)
    ordered = sort(a.permute_dims((*axes, *rest)).reshape((n, *(a.shape[i] for i in rest))), axis=0)
    out = (_among_numbers if skipping else _among_all)(ordered, q.ravel(), method)
    return out.reshape((*q.shape, *kept))


def _among_all(ordered: Tensor, q: np.ndarray, method: str) -> Tensor:
    """Quantiles along the first axis, which is sorted (NaN last): NaN where there is one."""
    low, high, share = _places(np, q, ordered.shape[0], method)
    lower, upper = (indexing.take(ordered, asarray(i, device=ordered.device), axis=0) for i in (low, high))
    if share.any():
        share = share.reshape((-1, *(1,) * (ordered.ndim - 1)))
        weight = asarray(share, dtype=dtypes.real_of(ordered.dtype), device=ordered.device)
        between = lower * (1 - weight) + upper * weight
        lower = between if share.all() else _unless_at_one(weight, lower, between)
    return ew.where(ew.isnan(ordered[-1]), math.nan, lower)


def _among_numbers(ordered: Tensor, q: np.ndarray, method: str) -> Tensor:
    """The same of what is not NaN, of which each slice has its own number, known on the device alone."""
    count = ew.logical_not(ew.isnan(ordered)).sum(axis=0).astype(dtypes.float64)
    shares = asarray(q.reshape((-1, *(1,) * count.ndim)), device=ordered.device)
    low, high, share = _places(ew, shares, ew.maximum(count, 1), method)
    lower, upper = (take_along_axis(ordered, i, axis=0) for i in (low, high))
    weight = share.astype(ordered.dtype)
    return _unless_at_one(weight, lower, lower * (1 - weight) + upper * weight)


def _unless_at_one(weight: Tensor, lower: Tensor, between: Tensor) -> Tensor:
    """`between`, but an element itself where a quantile lies at it, which may be infinite."""
    return ew.where(ew.equal(weight, 0), lower, between)


def _places(xp: Any, q: Any, n: Any, method: str) -> tuple[Any, Any, Any]:
    """For each quantile the sorted elements that it lies between, and how far behind the first.

    xp: np, or ops.elementwise where `q` and `n` are Tensors.
    """
    place = q * (n - 1)
    if method in _CHOOSING:
        low = high = getattr(xp, _CHOOSING[method])(place)
    elif method == "midpoint":
        low, high = xp.floor(place), xp.ceil(place)
        place = (low + high) * 0.5
    else:
        alpha, beta = _PLOTTING[method]
        place = xp.minimum(xp.maximum(n * q + (alpha + q * (1 - alpha - beta)) - 1, 0), n - 1)
        low, high = xp.floor(place), xp.ceil(place)
    share = place - low if high is not low else low * 0
    return low.astype(np.int64), high.astype(np.int64), share
