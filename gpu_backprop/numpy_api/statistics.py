"""Sums, averages and covariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array_api import statistical_functions as standard
from ..array_api.creation_functions import ones_like
from ..core import dtypes
from ..core.errors import DataError, ShapeError
from ..core.tensor import Tensor, asarray, in_floats
from ..ops import elementwise as ew
from ..ops import reduction
from .operands import floats, tensors
from .shapes import concatenate

__all__ = ["amax", "amin", "average", "corrcoef", "cov", "cumprod", "cumsum", "ptp"]

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
    if not dtypes.is_inexact(dtypes.result_type(a, weights)):
        a = floats(a)  # products of small integers would overflow
    if weights.shape != a.shape:
        axis = axis if axis is None or isinstance(axis, tuple) else reduction.one_axis("average", axis, a.ndim)
        if not isinstance(axis, int) or weights.shape != (a.shape[axis],):
            raise ShapeError(
                f"average: weights of shape {list(weights.shape)} for an array of shape {list(a.shape)}; give its "
                "shape, or one weight for each element along an axis"
            )
        weights = weights.reshape((-1, *(1,) * (a.ndim - axis - 1))).broadcast_to(a.shape)
    total = weights.sum(axis=axis, keepdims=keepdims, dtype=dtypes.result_type(a, weights))
    out = (a * weights).sum(axis=axis, keepdims=keepdims) / total
    return (out, total.astype(out.dtype)) if returned else out


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
    if y is not None:
        m, y = tensors("cov", m, y)
    x = _variables("cov", m, rowvar, dtype)
    if y is not None:
        x = concatenate(tensors("cov", x, _variables("cov", y, rowvar, dtype)), axis=0)
    lost = reduction.as_real("cov", "ddof", ddof) if ddof is not None else 0.0 if bias else 1.0
    if not lost.is_integer():
        raise DataError(f"cov: ddof={ddof} is not a whole number; use one")
    given = [tensors("cov", x, w)[1] for w in (fweights, aweights) if w is not None]
    # sums of narrower weights would lose digits
    given = [w.astype(dtypes.real_of(dtypes.result_type(x, w)), copy=False) for w in given]
    if any(w.shape != x.shape[1:] for w in given):
        raise ShapeError(f"cov: weights of shapes {[list(w.shape) for w in given]} for {x.shape[1]} observations")
    if any(bool((w < 0).any()) for w in given):
        raise DataError("cov: weights are negative; use 0 or more")
    if not given:
        centred = x - x.mean(axis=1, keepdims=True)
        return (centred @ ew.conjugate(centred).T / _degrees(x.shape[1], lost)).squeeze()
    weights = given[0] if len(given) == 1 else given[0] * given[1]
    total = weights.sum()
    centred = x - (x * weights).sum(axis=1, keepdims=True) / total
    less = (weights * given[-1]).sum() / total * lost if aweights is not None else lost
    return ((centred * weights) @ ew.conjugate(centred).T / ew.maximum(total - less, 0)).squeeze()


def _degrees(n: int, ddof: float) -> float:
    return max(n - ddof, 0.0)


def _variables(name: str, m: Any, rowvar: bool, dtype: Any) -> Tensor:
    m = floats(in_floats(name, m, dtype))
    if m.ndim > 2:
        raise ShapeError(f"{name}: shape {list(m.shape)}; give a matrix of variables by observations")
    if m.ndim < 2:
        return m.reshape((1, -1))
    return m if rowvar else m.T


def corrcoef(x: Any, /, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Tensor:
    """The correlations of variables: their covariances divided by their standard deviations. See `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.size == 1:
        return c / c
    deviation = ew.sqrt(ew.real(c[np.arange(len(c)), np.arange(len(c))]))
    return c / deviation[:, None] / deviation
