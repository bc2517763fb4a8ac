"""Random numbers: Philox 4x64-10, counter-based, the same on every device for the same seed.

The words are the stream of `numpy.random.Philox(seed)`. Each draw owns whole blocks of four words, and element i uses
word i of its draw, so a draw can be made again from its place in the stream (dropout does). The device draws:
kernels/random.cu, or backends/draws.py on the CPU. Normals are the inverse distribution function of uniforms (M. J.
Wichura's algorithm AS 241).
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from .core import devices, dtypes
from .core.errors import DataError, DTypeError, ShapeError
from .core.modes import modes
from .core.tensor import Tensor
from .ops.reduction import as_integer, as_integers, as_real

__all__ = ["Generator", "default_generator", "integers", "manual_seed", "normal", "permutation", "uniform"]


class Generator:
    """A stream of random words with a place in it. Not shared between threads."""

    def __init__(self, seed: int | None = None):
        self._begin(int.from_bytes(os.urandom(8), "little") if seed is None else seed)

    def seed(self, seed: int) -> None:
        """Start the stream of `numpy.random.Philox(seed)` from its beginning."""
        if modes.recorder is not None:
            modes.recorder.refuse("manual_seed: a captured function would draw the same at every call; seed it outside")
        self._begin(seed)

    def _begin(self, seed: int) -> None:
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
        if modes.recorder is not None:
            modes.recorder.goes_to(self, ((int(state[0][0]), int(state[0][1])), int(state[1])))
        self.key, self.offset = (int(state[0][0]), int(state[0][1])), int(state[1])

    def reserve(self, n: int) -> tuple[tuple[int, int], int]:
        """Take `n` words out of the stream: the key and the block they start at."""
        place = self.key, self.offset
        if modes.recorder is not None:
            modes.recorder.draws(self)
        self.offset += -(-n // 4)
        return place

    def words(self, n: int) -> np.ndarray:
        """The next `n` words, a uint64 array on the host."""
        return self._draw("random_words", "cpu", (n,)).array

    def uniform(
        self, shape: Any = (), low: float = 0.0, high: float = 1.0, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Uniform floats in [low, high), or `low` if both are equal; narrow dtypes, too, never round up to `high`."""
        scaled = "write low + (high - low) * gb.random.uniform(shape)"
        low, high = as_real("uniform", "low", low, scaled), as_real("uniform", "high", high, scaled)
        if not 0 <= high - low < math.inf:  # NaN and infinite bounds, too
            raise DataError(f"uniform: [{low:g}, {high:g}) is no interval of finite length; use finite low <= high")
        dtype = _float_dtype("uniform", dtype)
        return self._draw("random_uniform", device, _shape(shape), low=low, high=high, dtype=dtype)

    def normal(
        self, shape: Any = (), mean: float = 0.0, std: float = 1.0, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Normal floats with the given mean and standard deviation."""
        scaled = "write mean + std * gb.random.normal(shape)"
        mean, std = as_real("normal", "mean", mean, scaled), as_real("normal", "std", std, scaled)
        if not (math.isfinite(mean) and 0 <= std < math.inf):
            raise DataError(f"normal: mean={mean:g} and std={std:g} are out of range; use finite ones, std at least 0")
        dtype = _float_dtype("normal", dtype)
        return self._draw("random_normal", device, _shape(shape), mean=mean, std=std, dtype=dtype)

    def integers(self, low: int, high: int, shape: Any = (), dtype: Any = "int64", device: Any = None) -> Tensor:
        """Integers in [low, high), by multiplying the words' upper 32 bits (spans up to 2**32)."""
        low, high = as_integers("integers", "range", (low, high))
        if not 0 < high - low <= 2**32:
            raise DataError(f"integers: [{low}, {high}) spans {high - low} values; use high > low, at most 2**32 apart")
        return self._draw("random_integers", device, _shape(shape), low=low, high=high).astype(dtype, copy=False)

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """0 ... n - 1 in random order: the order that sorts n raw words (stably)."""
        n = as_integer("permutation", "n", n)
        if n < 0:
            raise DataError(f"permutation: n={n} is negative; use at least 0")
        key, offset = self.reserve(n)
        place = devices.resolve(device)
        return Tensor(place.functions["random_permutation"](key, offset, n), place)

    def _draw(self, name: str, device: Any, shape: tuple[int, ...], **parameters: Any) -> Tensor:
        """What the device's function `name` makes of the next words, one for each element."""
        place = devices.resolve(device)
        key, offset = self.reserve(math.prod(shape))
        return Tensor(place.functions[name](key, offset, shape, **parameters), place)


def _shape(shape: Any) -> tuple[int, ...]:
    lengths = as_integers("random", "shape", shape)
    if any(n < 0 for n in lengths):
        raise ShapeError(f"random: shape {list(lengths)} has a negative length; use lengths of at least 0")
    return lengths


def _float_dtype(name: str, dtype: Any) -> np.dtype:
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if not dtypes.is_floating(target):
        raise DTypeError(f"{name}: {target.name} holds no fractions; use a float dtype, or gb.random.integers")
    return target


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
