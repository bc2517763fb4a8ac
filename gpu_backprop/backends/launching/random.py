"""Dropout: random bits drawn where they are used."""

from __future__ import annotations

import math

import numpy as np

from ...core.errors import DTypeError
from .. import table
from ..base import Array
from .shared import BLOCK, Function, Launch, accumulator, c_name, ceil_div, index_of


class RandomLaunches:
    """Functions that draw from Philox."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {"dropout": self.dropout}

    def dropout(self, x: Array, p: float, key: tuple[int, int], offset: int, out: Array | None = None) -> Array:
        dtype = c_name(x.dtype)
        if dtype is None:
            raise DTypeError(f"dropout: {x.dtype} is not a float type; convert the input with astype first")
        if out is None:
            out = self.launch.backend.empty(x.shape, x.dtype)
        if x.size == 0:
            return out
        index, kind = index_of(x.size)
        grid = (self.launch.blocks(ceil_div(x.size, BLOCK * max(4, 16 // x.dtype.itemsize))),)
        scale = accumulator(x.dtype)(1.0 / (1.0 - p) if p < 1 else 0.0)
        threshold = np.uint64(math.ceil(p * 2.0**53))  # exact: scaling by a power of 2
        words = (np.uint64(key[0]), np.uint64(key[1]), np.uint64(offset))
        arguments = (kind(x.size), out, self.launch.contiguous(x), scale, threshold, *words)
        self.launch.launcher.launch(table.rowwise("dropout", dtype, index), grid, (BLOCK,), arguments)
        return out
