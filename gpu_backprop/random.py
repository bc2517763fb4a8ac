"""Random numbers: Philox 4x64-10, counter-based, the same on every device for the same seed.

The words are the stream of `numpy.random.Philox(seed)`. Each draw owns whole blocks of four words, and element i uses
word i of its draw, so a draw can be made again from its place in the stream (dropout does). Normals are the inverse
distribution function of uniforms (P. J. Acklam's approximation, refined once by Halley's method).
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from .core import devices, dtypes
from .core.errors import DataError, ShapeError
from .core.tape import modes
from .core.tensor import Tensor
from .ops.reduction import as_integers

__all__ = ["Generator", "default_generator", "integers", "manual_seed", "normal", "permutation", "uniform"]


class Generator:
    """A stream of random words with a place in it. Not shared between threads."""

    def __init__(self, seed: int | None = None):
        self.seed(int.from_bytes(os.urandom(8), "little") if seed is None else seed)

    def seed(self, seed: int) -> None:
        """Start the stream of `numpy.random.Philox(seed)` from its beginning."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise DataError(f"manual_seed: {seed!r} is not a seed; use an integer of at least 0")
        key = np.random.Philox(int(seed)).state["state"]["key"]
        self.key = (int(key[0]), int(key[1]))
        self.offset = 0

    def get_state(self) -> tuple[tuple[int, int], int]:
        """The key and how many blocks are used; hand it to `set_state` to draw the same again."""
        return self.key, self.offset

    def set_state(self, state: tuple[tuple[int, int], int]) -> None:
        """Go to a place that `get_state` returned."""
        self.key, self.offset = (int(state[0][0]), int(state[0][1])), int(state[1])

    def reserve(self, n: int) -> tuple[tuple[int, int], int]:
        """Take `n` words out of the stream: the key and the block they start at."""
        place = self.key, self.offset
        self.offset += -(-n // 4)
        return place

    def words(self, n: int) -> np.ndarray:
        """The next `n` words, uint64."""
        key, offset = self.reserve(n)
        return np.random.Philox(key=np.array(key, np.uint64), counter=offset).random_raw(n)

    def _unit(self, n: int) -> np.ndarray:
        return (self.words(n) >> np.uint64(11)) * 2.0**-53

    def uniform(
        self, shape: Any = (), low: float = 0.0, high: float = 1.0, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Uniform floats in [low, high); narrow dtypes, too, never round up to `high`."""
        shape = _shape(shape)
        values = self._unit(math.prod(shape)).reshape(shape) * (high - low) + low
        return _finish(values, dtype, device, below=high if high > low else None)

    def normal(
        self, shape: Any = (), mean: float = 0.0, std: float = 1.0, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Normal floats with the given mean and standard deviation."""
        if std < 0:
            raise DataError(f"normal: std={std} is negative; use at least 0")
        shape = _shape(shape)
        u = self._unit(math.prod(shape)) + 2.0**-54  # in (0, 1)
        return _finish(_inverse_normal(u).reshape(shape) * std + mean, dtype, device)

    def integers(self, low: int, high: int, shape: Any = (), dtype: Any = "int64", device: Any = None) -> Tensor:
        """Integers in [low, high), by multiplying the words' upper 32 bits (spans up to 2**32)."""
        low, high = as_integers("integers", "range", (low, high))
        span = high - low
        if not 0 < span <= 2**32:
            raise DataError(f"integers: [{low}, {high}) spans {span} values; use high > low, at most 2**32 apart")
        shape = _shape(shape)
        drawn = ((self.words(math.prod(shape)) >> np.uint64(32)) * np.uint64(span)) >> np.uint64(32)
        return _finish((drawn.astype(np.int64) + low).reshape(shape), dtype, device)

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """0 ... n - 1 in random order: the order that sorts n raw words (stably)."""
        (n,) = as_integers("permutation", "n", n)
        if n < 0:
            raise DataError(f"permutation: n={n} is negative; use at least 0")
        return _finish(np.argsort(self.words(n), kind="stable"), "int64", device)


def _shape(shape: Any) -> tuple[int, ...]:
    lengths = as_integers("random", "shape", shape)
    if any(n < 0 for n in lengths):
        raise ShapeError(f"random: shape {list(lengths)} has a negative length; use lengths of at least 0")
    return lengths


def _finish(values: np.ndarray, dtype: Any, device: Any, below: float | None = None) -> Tensor:
    place = devices.resolve(device)
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    host = np.asarray(values.astype(target), order="C")
    if below is not None:
        end = np.asarray(below, target)
        host = np.minimum(host, np.nextafter(end, np.asarray(-np.inf, target)), out=host)
    return Tensor(place.backend.from_host(host, copy=False), place)


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


def _inverse_normal(u: np.ndarray) -> np.ndarray:
    """The inverse of the standard normal distribution function on (0, 1)."""
    from .backends.generic import _erf

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


def default_generator() -> Generator:
    """The generator of this thread, which draws where none is named."""
    if modes.generator is None:
        modes.generator = Generator()
    return modes.generator


def manual_seed(seed: int) -> Generator:
    """Start this thread's generator at `seed`; returns it."""
    generator = default_generator()
    generator.seed(seed)
    return generator


def uniform(shape: Any = (), low: float = 0.0, high: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """Uniform floats in [low, high) from this thread's generator."""
    return default_generator().uniform(shape, low, high, dtype, device)


def normal(shape: Any = (), mean: float = 0.0, std: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """Normal floats from this thread's generator."""
    return default_generator().normal(shape, mean, std, dtype, device)


def integers(low: int, high: int, shape: Any = (), dtype: Any = "int64", device: Any = None) -> Tensor:
    """Integers in [low, high) from this thread's generator."""
    return default_generator().integers(low, high, shape, dtype, device)


def permutation(n: int, device: Any = None) -> Tensor:
    """0 ... n - 1 in random order from this thread's generator."""
    return default_generator().permutation(n, device)
