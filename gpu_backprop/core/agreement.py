"""How far two devices' results of one operation may lie apart, and how far they do.

The unit is the ulp, the distance between neighbouring numbers of the result's dtype; at which number, depends on what
an operation can promise:

    exact      moves, chooses, or rounds an exact value once: all devices give the same bits
    function   a library's exp, tanh, ...: 4 ulp off at most on either side (CUDA's and NumPy's own bounds), so 8 apart;
               ulps of the element itself
    sum        adds terms in an order of its own: ulps of the sum of the terms' absolute values, the quantity that any
               order's rounding is bounded by (Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 4)
    whole      all the rest, formulas in which terms may cancel: ulps of the largest element of the result

A sum of n terms is off by some sqrt(n) ulp (Higham and Mary, SIAM J. Sci. Comput. 41, 2019), so 32 is enough for rows
of a thousand; a wrong kernel is off by thousands. 16-bit floats are computed in float32 and rounded once or twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import dtypes

BOUNDS = {"exact": 0.0, "function": 8.0, "sum": 32.0, "whole": 32.0}  # ulp
HALF_BOUND = 2.0  # of 16-bit results that are not exact

_KINDS = {
    "exact": """
        abs add ceil clip copysign divide floor maximum minimum multiply negative nextafter reciprocal round sign sqrt
        square subtract trunc where relu relu_backward leaky_relu leaky_relu_backward dropout
        equal greater greater_equal isfinite isinf isnan less less_equal logical_and logical_not logical_or logical_xor
        not_equal signbit bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
        all any argmax argmin max min
        alias astype broadcast_to class_indices concat copy embedding flip getitem one_hot permute_dims reshape take
        argsort count_nonzero isin reorder roll searchsorted sort take_along_axis tril triu unique_values
        fmax fmin fmod heaviside
    """,
    "function": """
        exp expm1 log log10 log1p log2 pow acos acosh asin asinh atan atan2 atanh cos cosh erf hypot sin sinh tan tanh
        sigmoid cbrt exp2
    """,
    "sum": """
        matmul linear linear_relu linear_weight_gradient sum mean embedding_backward getitem_backward take_backward
        take_along_axis_backward
    """,
}
KIND = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def kind_of(name: str) -> str:
    """What an operation can promise: "exact", "function", "sum" or "whole"."""
    return KIND.get(name, "whole")


def bound_of(name: str, dtype: np.dtype) -> float:
    """The ulps that two devices' results of an operation may lie apart; 0 for integers and bools."""
    if not dtypes.is_floating(dtype):
        return 0.0
    bound = BOUNDS[kind_of(name)]
    return min(bound, HALF_BOUND) if dtypes.is_half(dtype) else bound


def ulp(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance from each value to the next larger number of a float dtype; below the normal ones, of these."""
    digits, lowest = _format(dtype)
    exponent = np.where(values == 0, lowest, np.frexp(values)[1] - 1)
    return np.ldexp(1.0, np.maximum(exponent, lowest) - digits)


def _format(dtype: np.dtype) -> tuple[int, int]:
    """Digits behind the point of the significand, and the lowest exponent of a normal number."""
    if dtypes.is_bfloat16(dtype):
        return 7, -126
    info = np.finfo(dtype)
    return info.nmant, int(info.minexp)


def distance(reference: np.ndarray, other: np.ndarray, kind: str = "whole", terms: Any = None) -> tuple[float, int]:
    """The largest error of `other` in ulps, and how many elements differ in their bits (any NaN is like another).

    terms: for a "sum", the sums of the absolute values of the terms. The error is inf where only one is NaN or
    infinite, where integers or bools differ, and where shapes or dtypes do.
    """
    if reference.shape != other.shape or reference.dtype != other.dtype:
        return np.inf, max(reference.size, other.size)
    same = _bits(reference) == _bits(other)
    if not dtypes.is_floating(reference.dtype):
        count = int(same.size - np.count_nonzero(same))
        return (np.inf if count else 0.0), count
    a, b = reference.astype(np.float64), other.astype(np.float64)
    same |= np.isnan(a) & np.isnan(b)
    count = int(same.size - np.count_nonzero(same))
    if not count:
        return 0.0, 0
    finite = np.isfinite(a) & np.isfinite(b)
    if not (finite | same).all():
        return np.inf, count
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    scale = np.abs(a)
    if kind == "sum" and terms is not None and terms.shape == a.shape:
        scale = np.maximum(scale, np.where(np.isfinite(terms), terms, 0.0))
    elif kind in ("sum", "whole"):
        scale = scale.max()
    with np.errstate(over="ignore"):
        return float((np.abs(a - b) / ulp(scale, reference.dtype)).max()), count


def _bits(values: np.ndarray) -> np.ndarray:
    """Floats as the integers that their bits make; others as they are."""
    if not dtypes.is_floating(values.dtype):
        return values
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").reshape(values.shape)


def sum_of_magnitudes(function: Callable[..., Any], operands: Sequence[Any], attrs: dict[str, Any]) -> np.ndarray:
    """The sums of the absolute values of the terms that `function` adds, in float64."""
    wide = [
        np.abs(x.astype(np.float64)) if isinstance(x, np.ndarray) and dtypes.is_floating(x.dtype) else x
        for x in operands
    ]
    return np.asarray(function(*wide, **attrs))
