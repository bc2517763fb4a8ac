"""The CPU backend: NumPy."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import generic, updates
from .base import Backend, Functions


def _plain_labels(x: np.ndarray, labels: np.ndarray, weight: Any, ignore_index: int, label_smoothing: float) -> bool:
    """The usual case of a cross-entropy: every row counts once, and every label is a class."""
    n, c = x.shape
    return (
        weight is None
        and not label_smoothing
        and n > 0
        and not 0 <= ignore_index < c
        and np.minimum.reduce(labels) >= 0
        and np.maximum.reduce(labels) < c
    )


def softmax_cross_entropy(x, labels, weight, reduction, ignore_index, label_smoothing):
    """Row losses log(sum(exp(x))) - x[label], reduced; what is unusual goes the general way."""
    if reduction == "none" or not _plain_labels(x, labels, weight, ignore_index, label_smoothing):
        return _generic["softmax_cross_entropy"](x, labels, weight, reduction, ignore_index, label_smoothing)
    n = len(x)
    top = np.maximum.reduce(x, axis=1, keepdims=True)
    shifted = x - top
    picked = shifted[np.arange(n), labels]
    np.exp(shifted, out=shifted)
    lse = np.log(np.add.reduce(shifted, axis=1))
    loss = np.add.reduce(lse - picked)
    lse += top[:, 0]
    return (loss / x.dtype.type(n) if reduction == "mean" else loss), lse, x.dtype.type(n)


def softmax_cross_entropy_backward(
    g, x, labels, weight, lse, total, reduction, ignore_index, label_smoothing, out=None
):
    """(softmax(x) - onehot(labels)) times the gradient of the loss, over n for a mean."""
    if reduction == "none" or not _plain_labels(x, labels, weight, ignore_index, label_smoothing):
        general = _generic["softmax_cross_entropy_backward"]
        return general(g, x, labels, weight, lse, total, reduction, ignore_index, label_smoothing, out=out)
    n = len(x)
    result = np.subtract(x, lse[:, None], out=out)
    np.exp(result, out=result)
    result[np.arange(n), labels] -= 1
    result *= g / x.dtype.type(n) if reduction == "mean" else g
    return result


_generic = generic.table(np)


class CpuBackend(Backend):
    """Arrays are NumPy's; every function runs when it is called."""

    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self.native = native = Functions(lambda name: generic.lookup(np, name))
        native.update(_generic)
        native["softmax_cross_entropy"] = softmax_cross_entropy
        native["softmax_cross_entropy_backward"] = softmax_cross_entropy_backward
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
