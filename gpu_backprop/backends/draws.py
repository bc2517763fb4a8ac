"""Random numbers on NumPy arrays: what kernels/random.cu draws, word for word.

Every function takes a place in a stream, `key` and `offset`, and gives an array of `shape` whose element i (in C order)
is made of word i of `numpy.random.Philox(key=key, counter=offset)`. u is a word's upper 53 bits times 2^-53.

In place of the key may stand an array that `start_draws` filled: the key, and where the offset counts from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Key = tuple[int, int] | Any  # two words, or an array of three


def start_draws(start: np.ndarray, key: tuple[int, int], offset: int) -> None:
    """Fill an array that stands for a place in later draws."""
    start[:] = (*key, offset)


def random_words(key: Key, offset: int, shape: Shape) -> np.ndarray:
    """The words themselves, uint64."""
    if not isinstance(key, tuple):
        key, offset = key[:2], offset + int(key[2])
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


def dropout_mask(key: Key, offset: int, shape: Shape, p: float) -> np.ndarray:
    """Where dropout keeps an element: u is at least p."""
    return _unit(key, offset, shape) >= p


def last_below(low: float, high: float, dtype: np.dtype) -> float:
    """The largest number of `dtype` below `high`, where uniforms end; infinity for an interval that is empty."""
    if not high > low:
        return math.inf
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.asarray(high).astype(dtype), np.asarray(-math.inf, dtype)))


def _unit(key: Key, offset: int, shape: Shape) -> np.ndarray:
    return (random_words(key, offset, shape) >> np.uint64(11)) * 2.0**-53


# Numerators and denominators of AS 241, highest power first: the middle, the tails, far out
_RATIOS = (
    (
        (
            2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
            1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
        ),
        (
            5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
            5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
        ),
    ),
    (
        (
            7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
            1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0,
            1.42343711074968357734e0,
        ),
        (
            1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
            1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0,
            1.0,
        ),
    ),
    (
        (
            2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
            2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0,
            6.65790464350110377720e0,
        ),
        (
            2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
            7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
            5.99832206555887937690e-1, 1.0,
        ),
    ),
)  # fmt: skip


def inverse_normal(u: np.ndarray) -> np.ndarray:
    """The inverse of the standard normal distribution function on (0, 1): M. J. Wichura's PPND16.

    Algorithm AS 241, Applied Statistics 37 (1988). Good to about 1e-16 everywhere, and made of one logarithm, one root
    and quotients of polynomials, so that machines differ by the last digit at most.
    """
    q = u - 0.5
    r = np.sqrt(-np.log(np.minimum(u, 1 - u)))
    middle, tails, far = (
        np.polyval(above, x) / np.polyval(below, x)
        for (above, below), x in zip(_RATIOS, (0.180625 - q * q, r - 1.6, r - 5))
    )
    return np.where(np.abs(q) <= 0.425, q * middle, np.copysign(np.where(r <= 5, tails, far), q))


TABLE: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (start_draws, random_words, random_uniform, random_normal, random_integers, random_permutation)
}
