"""Order, averages, histograms, and sums that pass over NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..array_api import statistical_functions as standard
from ..array_api.creation_functions import ones_like, zeros
from ..array_api.searching_functions import searchsorted
from ..array_api.sorting_functions import sort
from ..core import dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import indexing, reduction
from .operands import floats, tensors
from .shapes import concatenate

__all__ = [
    *("amax", "amin", "average", "bincount", "corrcoef", "cov", "cumprod", "cumsum", "digitize", "histogram"),
    *("histogram_bin_edges", "median", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean"),
    *("nanmin", "nanprod", "nanstd", "nansum", "nanvar", "percentile", "ptp", "quantile"),
]

amax, amin = standard.max, standard.min


def _scan(function: Callable[..., Tensor], a: Any, axis: int | None, dtype: Any) -> Tensor:
    a = asarray(a)
    return function(a.reshape(-1) if axis is None else a, axis=0 if axis is None else axis, dtype=dtype)


def cumsum(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Sums of the elements up to each along `axis` (of the flattened array when None)."""
    return _scan(standard.cumulative_sum, a, axis, dtype)


def cumprod(a: Any, /, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Products of the elements up to each along `axis` (of the flattened array when None)."""
    return _scan(standard.cumulative_prod, a, axis, dtype)


def ptp(a: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The largest value less the smallest."""
    return standard.max(a, axis, keepdims=keepdims) - standard.min(a, axis, keepdims=keepdims)


def average(a: Any, /, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    """The mean over `axis`, weighted by `weights` of the shape of `a` (or of the one axis).

    returned: also the sum of the weights, in the shape of the average.
    """
    if weights is None:
        a = floats(a)
        out = standard.mean(a, axis, keepdims=keepdims)
        return (out, ones_like(out) * (a.size // max(out.size, 1))) if returned else out
    a, weights = tensors("average", a, weights)
    if weights.shape != a.shape:
        axis = axis if axis is None or isinstance(axis, tuple) else reduction.one_axis("average", axis, a.ndim)
        if not isinstance(axis, int) or weights.shape != (a.shape[axis],):
            raise ShapeError(
                f"average: weights of shape {list(weights.shape)} for an array of shape {list(a.shape)}; give its "
                "shape, or one weight for each element along an axis"
            )
        weights = weights.reshape((-1, *(1,) * (a.ndim - axis - 1))).broadcast_to(a.shape)
    total = weights.sum(axis=axis, keepdims=keepdims)
    out = (a * weights).sum(axis=axis, keepdims=keepdims) / total
    return (out, total.astype(out.dtype)) if returned else out


# ---------------------------------------------------------------------------------------------------------------------
# quantiles (R. J. Hyndman and Y. Fan, Sample quantiles in statistical packages, The American Statistician 50, 1996)

_PLOTTING = {  # alpha and beta of the position n q + alpha + q (1 - alpha - beta), counted from 1
    "interpolated_inverted_cdf": (0.0, 1.0), "hazen": (0.5, 0.5), "weibull": (0.0, 0.0), "linear": (1.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
}  # fmt: skip
_CHOOSING = {"lower": np.floor, "higher": np.ceil, "nearest": np.rint}


def quantile(
    a: Any, q: Any, /, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """The values below which the shares `q` (0 to 1) of the elements over `axis` lie.

    q: a number, or an array, whose axes come first in the result. method: NumPy's, of which "linear", "lower",
    "higher", "midpoint", "nearest", "hazen", "weibull", "median_unbiased", "normal_unbiased" and
    "interpolated_inverted_cdf" are here. NaN where there is a NaN. The gradient goes to the elements between which a
    quantile lies.
    """
    return _quantile("quantile", a, _shares("quantile", q, 1), axis, method, keepdims, unused)


def percentile(
    a: Any, q: Any, /, axis: Any = None, method: str = "linear", keepdims: bool = False, **unused: Any
) -> Tensor:
    """`quantile` of the percentages `q` (0 to 100)."""
    return _quantile("percentile", a, _shares("percentile", q, 100), axis, method, keepdims, unused)


def median(a: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The middle value over `axis`, or the mean of the middle two; NaN where there is a NaN."""
    return _quantile("median", a, np.asarray(0.5), axis, "linear", keepdims, {})


def _shares(name: str, q: Any, whole: int) -> np.ndarray:
    """`q` of `whole` as shares of 1."""
    q = asarray(q, device=None if isinstance(q, Tensor) else "cpu").numpy()
    if q.dtype.kind == "c":
        raise DTypeError(f"{name}: shares of {q.dtype}; give real numbers")
    shares: np.ndarray = q.astype(np.float64) / whole
    return shares


def _quantile(name: str, a: Any, q: np.ndarray, axis: Any, method: str, keepdims: bool, unused: Any) -> Tensor:
    if any(value is not None and value is not False for value in unused.values()):
        raise DTypeError(f"{name}: {', '.join(unused)} is not available; leave it out")
    if not ((q >= 0) & (q <= 1)).all():
        raise DataError(f"{name}: the share {q.ravel()[0] if q.size == 1 else q.tolist()} is not between 0 and all")
    a = floats(a)
    if a.dtype.kind == "c":
        raise DTypeError(f"{name}: {a.dtype} has no order; use gb.real, gb.imag or gb.abs")
    axes = reduction.normalize_axis(name, axis, a.ndim)
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    n = math.prod(a.shape[i] for i in axes)
    if not n:
        raise ShapeError(f"{name}: no element over axis {axis} of shape {list(a.shape)}; give at least one")
    ordered = sort(a.permute_dims((*axes, *rest)).reshape((n, *(a.shape[i] for i in rest))), axis=0)
    low, high, share = _places(name, q.ravel(), n, method)
    share = share.reshape((-1, *(1,) * len(rest)))
    lower, upper = (indexing.take(ordered, asarray(i, device=a.device), axis=0) for i in (low, high))
    if share.any():
        weight = asarray(share, dtype=dtypes.real_of(a.dtype), device=a.device)
        lower = lower * (1 - weight) + upper * weight
    out = ew.where(ew.isnan(ordered[-1]), math.nan, lower)  # which sorting puts last
    kept = tuple(1 if i in axes else m for i, m in enumerate(a.shape)) if keepdims else out.shape[1:]
    return out.reshape((*q.shape, *kept))


def _places(name: str, q: np.ndarray, n: int, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each quantile the sorted elements that it lies between, and how far behind the first."""
    reduction.as_choice(name, "method", method, sorted([*_PLOTTING, *_CHOOSING, "midpoint"]))
    if method in _CHOOSING:
        low = high = _CHOOSING[method](q * (n - 1)).astype(np.int64)
        return low, high, np.zeros(len(q))
    if method == "midpoint":
        place = q * (n - 1)
        low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
        return low, high, np.where(low == high, 0.0, 0.5)
    alpha, beta = _PLOTTING[method]
    place = np.clip(n * q + (alpha + q * (1 - alpha - beta)) - 1, 0, n - 1)
    low = np.floor(place).astype(np.int64)
    return low, np.ceil(place).astype(np.int64), place - low


# ---------------------------------------------------------------------------------------------------------------------
# counting


def _binned(places: Tensor, weights: Any, n: int) -> Tensor:
    """Sums of weights (or counts) by place."""
    if weights is None:
        weights = ones_like(places, dtype=dtypes.int64)
    return indexing.take_backward(weights, places, axis=0, shape=(n,))


def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each integer from 0 occurs in a vector (or the sums of `weights` there, which have a gradient).

    The largest integer has to be looked at, for which a GPU is waited for, and which gb.capture refuses.
    """
    x = asarray(x)
    if x.ndim != 1 or (x.size and x.dtype.kind not in "biu"):
        raise DTypeError(f"bincount: {x.dtype}{list(x.shape)}; give a vector of integers")
    minlength = reduction.as_integer("bincount", "minlength", minlength)
    if minlength < 0:
        raise DataError(f"bincount: minlength={minlength} is negative; use 0 or more")
    if not x.size:
        return zeros(minlength, dtype=dtypes.int64 if weights is None else None, device=x.device)
    least, most = int(x.min()), int(x.max())
    if least < 0:
        raise DataError(f"bincount: {least} is negative; use integers of at least 0")
    if weights is not None:
        x, weights = tensors("bincount", x, weights)
        if weights.shape != x.shape:
            raise ShapeError(f"bincount: weights of shape {list(weights.shape)} for {x.size} integers; give one each")
        weights = floats(weights)
    n = max(most + 1, minlength)
    check_size("bincount", (n,), 8, x.device)
    return _binned(x.astype(dtypes.int64, copy=False), weights, n)


def digitize(x: Any, bins: Any, /, right: bool = False) -> Tensor:
    """The bin of each value, by edges that ascend or descend: of ascending ones bins[i - 1] <= x < bins[i].

    right: the right edge belongs to a bin, and not the left one.
    """
    x, bins = tensors("digitize", x, bins)
    if bins.ndim != 1:
        raise ShapeError(f"digitize: bins of shape {list(bins.shape)}; give a vector of edges")
    if bins.size > 1 and bool(bins[0] > bins[-1]):
        return bins.size - searchsorted(bins[::-1], x, side="left" if right else "right")
    return searchsorted(bins, x, side="left" if right else "right")


def histogram_bin_edges(a: Any, /, bins: Any = 10, range: Any = None, weights: Any = None) -> Tensor:
    """The edges of so many equal bins over `range` (from the least to the largest element when None), or those given.

    The elements have to be looked at, for which a GPU is waited for, and which gb.capture refuses.
    """
    a = asarray(a)
    if weights is not None and asarray(weights).shape != a.shape:
        raise ShapeError(f"histogram: weights of another shape than {list(a.shape)}; give one for each element")
    if isinstance(bins, str):
        raise DataError(f"histogram: bins={bins!r}; give a number of bins, or their edges")
    if isinstance(bins, (Tensor, np.ndarray, list, tuple)):
        edges = asarray(bins, device=a.device)
        if edges.ndim != 1 or (edges.size > 1 and bool((edges[1:] < edges[:-1]).any())):
            raise DataError("histogram: the edges of bins must be one ascending vector; sort them")
        return edges
    (n,) = reduction.as_integers("histogram", "bins", bins)
    if n < 1:
        raise DataError(f"histogram: bins={n}; use at least 1")
    if a.dtype.kind == "c":
        raise DTypeError(f"histogram: {a.dtype} has no order; use gb.real, gb.imag or gb.abs")
    check_size("histogram", (n,), 8, a.device)
    if range is not None and not (isinstance(range, (tuple, list)) and len(range) == 2):
        raise DTypeError(f"histogram: range {range!r} is no pair; give (low, high)")
    first, last = range if range is not None else (a.min().item(), a.max().item()) if a.size else (0.0, 1.0)
    first, last = (reduction.as_real("histogram", "range", v) for v in (first, last))
    if not (math.isfinite(first) and math.isfinite(last)) or first > last:
        raise DataError(f"histogram: a range from {first} to {last}; give range=(low, high), finite and ascending")
    if first == last:
        first, last = first - 0.5, last + 0.5
    dtype = a.dtype if dtypes.is_floating(a.dtype) else dtypes.float64
    return asarray(np.linspace(first, last, n + 1), dtype=dtype, device=a.device)


def histogram(
    a: Any, /, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None
) -> tuple[Tensor, Tensor]:
    """How many elements lie in each bin (or the sums of their `weights`, which have a gradient), and the bins' edges.

    See `histogram_bin_edges`. The last bin has its right edge too. density: divided by the whole and by the widths.
    """
    edges = histogram_bin_edges(a, bins, range, weights)
    a = asarray(a).reshape(-1)
    n = edges.size - 1
    if weights is not None:
        weights = asarray(weights, device=a.device).reshape(-1)
        if weights.shape != a.shape:
            raise ShapeError(f"histogram: {weights.size} weights for {a.size} elements; give one each")
    values, limits = tensors("histogram", a, edges)
    places = searchsorted(limits, values, side="right") - 1
    places = ew.where(ew.equal(values, limits[-1]), n - 1, places)
    inside = ew.logical_and(ew.greater_equal(places, 0), ew.less(places, n))
    counts = _binned(ew.where(inside, places, n), weights, n + 1)[:n]
    if density:
        widths = edges[1:] - edges[:-1]
        counts = floats(counts) / (widths * counts.sum())
    return counts, edges


# ---------------------------------------------------------------------------------------------------------------------
# covariance


def cov(
    m: Any, /, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
    fweights: Any = None, aweights: Any = None, *, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The covariances of variables, which are the rows of `m` (its columns with rowvar=False), and those of `y`.

    Divided by n - ddof, where ddof is 0 with `bias`, else 1. fweights: how often each observation occurred, integers;
    aweights: how much each one counts.
    """
    x = _variables("cov", m, rowvar, dtype)
    if y is not None:
        x = concatenate(tensors("cov", x, _variables("cov", y, rowvar, dtype)), axis=0)
    lost = reduction.as_real("cov", "ddof", ddof) if ddof is not None else 0.0 if bias else 1.0
    given = [asarray(w, device=x.device) for w in (fweights, aweights) if w is not None]
    if any(w.shape != x.shape[1:] for w in given):
        raise ShapeError(f"cov: weights of shapes {[list(w.shape) for w in given]} for {x.shape[1]} observations")
    if any(bool((w < 0).any()) for w in given):
        raise DataError("cov: weights are negative; use 0 or more")
    if not given:
        centred = x - x.mean(axis=1, keepdims=True)
        return (centred @ ew.conjugate(centred).T / _degrees(x.shape[1], lost)).squeeze()
    weights = floats(given[0] if len(given) == 1 else given[0] * given[1])
    total = weights.sum()
    centred = x - (x * weights).sum(axis=1, keepdims=True) / total
    less = (weights * given[-1]).sum() / total * lost if aweights is not None else lost
    return ((centred * weights) @ ew.conjugate(centred).T / (total - less)).squeeze()


def _degrees(n: int, ddof: float) -> float:
    return max(n - ddof, 0.0)


def _variables(name: str, m: Any, rowvar: bool, dtype: Any) -> Tensor:
    m = floats(asarray(m, dtype=dtype))
    if m.ndim > 2:
        raise ShapeError(f"{name}: shape {list(m.shape)}; give a matrix of variables by observations")
    if m.ndim < 2:
        return m.reshape((1, -1))
    return m if rowvar or m.shape[0] == 1 else m.T


def corrcoef(x: Any, /, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Tensor:
    """The correlations of variables: their covariances divided by their standard deviations. See `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.size == 1:
        return c / c
    deviation = ew.sqrt(ew.real(c[np.arange(len(c)), np.arange(len(c))]))
    return c / deviation[:, None] / deviation


# ---------------------------------------------------------------------------------------------------------------------
# without NaNs


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
