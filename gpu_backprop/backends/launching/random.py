"""Random numbers: drawn where they are used, each from its own word of the stream (key, offset).

A key is two words, given by value. In its place may stand an array on the device that `start_draws` filled: the key,
and where the offset counts from. So a launch with the same arguments, as in a CUDA graph, draws new numbers every time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.errors import DTypeError
from .. import draws, table
from ..base import Array
from .shared import BLOCK, Function, Launch, accumulator, c_name, ceil_div, index_of

Shape = draws.Shape
Key = draws.Key


class RandomLaunches:
    """Functions of random.cu: those of backends/draws.py, and dropout."""

    def __init__(self, launch: Launch):
        self.launch = launch
        names = ("dropout", *draws.TABLE)
        self.functions: dict[str, Function] = {name: getattr(self, name) for name in names}

    def draw(self, name: str, key: Key, offset: int, out: Array, arguments: tuple[Any, ...]) -> Array:
        """Fill `out`; the arguments are the kernel's own, between `out` and the stream."""
        if out.size == 0:
            return out
        index, kind = index_of(out.size)
        grid = (self.launch.blocks(ceil_div(out.size, BLOCK * max(4, 16 // out.dtype.itemsize))),)
        (first, second), start = (key, None) if isinstance(key, tuple) else ((0, 0), key)
        place = (np.uint64(first), np.uint64(second), np.uint64(offset), start)
        kernel = table.random(name, index, c_name(out.dtype) if name in table.RANDOM else None)
        self.launch.launcher.launch(kernel, grid, (BLOCK,), (kind(out.size), out, *arguments, *place))
        return out

    def start_draws(self, start: Array, key: tuple[int, int], offset: int) -> None:
        arguments = (start, np.uint64(key[0]), np.uint64(key[1]), np.uint64(offset))
        self.launch.launcher.launch(table.start_draws(), (1,), (1,), arguments)

    def random_words(self, key: Key, offset: int, shape: Shape) -> Array:
        out = self.launch.backend.empty(shape, np.dtype(np.uint64))
        return self.draw("random_words", key, offset, out, ())

    def random_integers(self, key: Key, offset: int, shape: Shape, low: int, high: int) -> Array:
        out = self.launch.backend.empty(shape, np.dtype(np.int64))
        arguments = (np.int64(low), np.uint64(high - low))
        return self.draw("random_integers", key, offset, out, arguments)

    def random_uniform(self, key: Key, offset: int, shape: Shape, low: float, high: float, dtype: np.dtype) -> Array:
        limit = accumulator(dtype)(draws.last_below(low, high, dtype))
        arguments = (np.float64(low), np.float64(high - low), limit)
        return self.draw("random_uniform", key, offset, self.launch.backend.empty(shape, dtype), arguments)

    def random_normal(self, key: Key, offset: int, shape: Shape, mean: float, std: float, dtype: np.dtype) -> Array:
        arguments = (np.float64(mean), np.float64(std))
        return self.draw("random_normal", key, offset, self.launch.backend.empty(shape, dtype), arguments)

    def random_permutation(self, key: Key, offset: int, n: int) -> Array:
        return self.launch.xp.argsort(self.random_words(key, offset, (n,)), kind="stable")

    def dropout(self, x: Array, p: float, key: Key, offset: int, out: Array | None = None) -> Array:
        if c_name(x.dtype) is None:
            raise DTypeError(f"dropout: {x.dtype} is not a float type; convert the input with astype first")
        if out is None:
            out = self.launch.backend.empty(x.shape, x.dtype)
        scale = accumulator(x.dtype)(1.0 / (1.0 - p) if p < 1 else 0.0)
        threshold = np.uint64(math.ceil(p * 2.0**53))  # exact: scaling by a power of 2
        return self.draw("dropout", key, offset, out, (self.launch.contiguous(x), scale, threshold))
