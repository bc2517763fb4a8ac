"""Random numbers on NumPy arrays: what kernels/random.cu draws, word for word.

Every function takes a place in a stream, `key` and `offset`, and gives an array of `shape` whose element i (in C order)
is made of word i of `numpy.random.Philox(key=key, counter=offset)`. u is a word's upper 53 bits times 2^-53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .generic import _erf

Shape = tuple[int, ...]
Key = tuple[int, int]


def random_words(key: Key, offset: int, shape: Shape) -> np.ndarray:
    """The words themselves, uint64."""
    words = np.random.Philox(key=np.array(key, np.uint64), counter=offset).random_raw(math.prod(shape))
    return words.reshape(shape)


def random_uniform(key: Key, offset: int, shape: Shape, low: float, high: float, dtype: np.dtype) -> np.ndarray:
    """u (high - low) + low in float64, rounded, but never up to `high`."""
    values = np.asarray(_unit(key, offset, shape) * (high - low) + low).astype(dtype)
    return np.minimum(values, np.asarray(last_below(low, high, dtype), dtype), out=values)


def random_normal(key: Key, offset: int, shape: Shape, mean: float, std: float, dtype: np.dtype) -> np.ndarray:
    """std x + mean in float64, rounded; x is the inverse normal distribution function of u + 2^-54."""
    u = np.minimum(_unit(key, offset, shape) + 2.0**-54, 1 - 2.0**-53)  # in (0, 1)
    return np.asarray(inverse_normal(u) * std + mean).astype(dtype)


def random_integers(key: Key, offset: int, shape: Shape, low: int, high: int) -> np.ndarray:
    """low + (upper 32 bits of the word) (high - low) / 2^32, rounded down, int64; high - low is at most 2^32."""
    half = random_words(key, offset, shape) >> np.uint64(32)
    return np.asarray((half * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64) + low


def random_permutation(key: Key, offset: int, n: int) -> np.ndarray:
    """0 ... n - 1, int64, in the order that sorts n words (stably)."""
    return np.argsort(random_words(key, offset, (n,)), kind="stable")


def last_below(low: float, high: float, dtype: np.dtype) -> float:
    """The largest number of `dtype` below `high`, where uniforms end; infinity for an interval that is empty."""
    if not high > low:
        return math.inf
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.asarray(high).astype(dtype), np.asarray(-math.inf, dtype)))


def _unit(key: Key, offset: int, shape: Shape) -> np.ndarray:
    return (random_words(key, offset, shape) >> np.uint64(11)) * 2.0**-53


# P. J. Acklam's approximation of the inverse distribution function: numerators and denominators, centre and tails
_A = (
    -3.969683028665376e01,
    2.209460984245205e02,
    -2.759285104469687e02,
    1.383577518672690e02,
    -3.066479806614716e01,
    2.506628277459239e00,
)
_B = (
    -5.447609879822406e01,
    1.615858368580409e02,
    -1.556989798598866e02,
    6.680131188771972e01,
    -1.328068155288572e01,
    1.0,
)
_C = (
    -7.784894002430293e-03,
    -3.223964580411365e-01,
    -2.400758277161838e00,
    -2.549732539343734e00,
    4.374664141464968e00,
    2.938163982698783e00,
)
_D = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)


def inverse_normal(u: np.ndarray) -> np.ndarray:
    """The inverse of the standard normal distribution function on (0, 1)."""
    q = u - 0.5
    tail = np.minimum(u, 1 - u)
    centre = np.abs(q) <= 0.5 - 0.02425
    r = q * q
    x = q * np.polyval(_A, r) / np.polyval(_B, r)
    s = np.sqrt(-2 * np.log(np.where(centre, 0.25, tail)))
    x = np.where(centre, x, -np.copysign(np.polyval(_C, s) / np.polyval(_D, s), q))
    # Halley's step on Phi(x) - u; in the lower tail of either side, so that nothing cancels
    low = -np.abs(x)
    error = 0.5 * (1 + _erf(np, low * math.sqrt(0.5))) - tail
    step = error * math.sqrt(2 * math.pi) * np.exp(low * low / 2)
    refined = low - step / (1 + low * step / 2)
    return np.copysign(np.where(centre | (tail > 1e-12), refined, low), q)


TABLE: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (random_words, random_uniform, random_normal, random_integers, random_permutation)
}
