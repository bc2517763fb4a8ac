"""The CPU backend: NumPy."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import generic, updates
from .base import Backend, Functions


class CpuBackend(Backend):
    """Arrays are NumPy's; every function runs when it is called."""

    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self.native = native = Functions(lambda name: generic.lookup(np, name))
        native.update(generic.table(np))
        self.functions = Functions(
            lambda name: native[name] if name in generic.EXACT else generic.in_float32(native[name])
        )
        self.functions.update(updates.TABLE)

    def from_host(self, array: np.ndarray, copy: bool = True) -> np.ndarray:
        return array.copy() if copy else array

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.empty(shape, dtype)

    def synchronize(self) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {"device": "cpu", "processor": platform.processor() or platform.machine(), "numpy": np.__version__}
