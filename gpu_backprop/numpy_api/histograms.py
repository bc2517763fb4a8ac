"""Counting by value, and by ranges of values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..array_api.creation_functions import ones_like, zeros
from ..array_api.searching_functions import searchsorted
from ..core import dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import indexing, reduction
from .operands import floats, tensors

__all__ = ["bincount", "digitize", "histogram", "histogram_bin_edges"]


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
    if weights is not None:
        x, weights = tensors("bincount", x, weights)
        if weights.shape != x.shape:
            raise ShapeError(f"bincount: weights of shape {list(weights.shape)} for {x.size} integers; give one each")
        if weights.dtype.kind == "c":
            raise DTypeError(f"bincount: weights of {weights.dtype}; give their real and imaginary parts one by one")
        weights = floats(weights)
    if not x.size:
        return zeros(minlength, dtype=dtypes.int64 if weights is None else weights.dtype, device=x.device)
    least, most = int(x.min()), int(x.max())
    if least < 0:
        raise DataError(f"bincount: {least} is negative; use integers of at least 0")
    n = max(most + 1, minlength)
    check_size("bincount", (n,), 8, x.device)
    return _binned(x.astype(dtypes.int64, copy=False), weights, n)


def digitize(x: Any, /, bins: Any, right: bool = False) -> Tensor:
    """The bin of each value, by edges that ascend or descend: of ascending ones bins[i - 1] <= x < bins[i].

    right: the right edge belongs to a bin, and not the left one.
    """
    x, bins = tensors("digitize", x, bins)
    if x.dtype.kind == "c":
        raise DTypeError(f"digitize: {x.dtype} has no order; use gb.real, gb.imag or gb.abs")
    if bins.ndim != 1:
        raise ShapeError(f"digitize: bins of shape {list(bins.shape)}; give a vector of edges")
    descend = bins.size > 1 and bool(bins[0] > bins[-1])
    edges = bins[::-1] if descend else bins
    if bins.size > 1 and not bool(ew.logical_or(edges[1:] >= edges[:-1], ew.isnan(edges[1:])).all()):
        raise DataError("digitize: bins neither ascend nor descend; sort them")
    place = searchsorted(edges, x, side="left" if right else "right")
    return bins.size - place if descend else place


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
        _, edges = tensors("histogram", a, bins)
        if edges.ndim != 1 or (edges.size > 1 and bool((edges[1:] < edges[:-1]).any())):
            raise DataError("histogram: the edges of bins must be one ascending vector; sort them")
        return edges
    n = reduction.as_integer("histogram", "bins", bins)
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
        _, weights = tensors("histogram", a, weights)
        weights = weights.reshape(-1)
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
