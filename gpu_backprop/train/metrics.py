"""Metrics: numbers that say how good predictions are, gathered batch by batch without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor
from ..ops import indexing


@dataclass(frozen=True)
class Metric:
    """A metric over many batches.

    parts(prediction, target) gives, for one batch, `n_parts` scalar Tensors on the device. value(rows, sizes) makes the
    metric of all batches together: rows are the parts as an array (batches, n_parts), sizes the samples of each batch.
    """

    name: str
    parts: Callable[[Tensor, Tensor], Sequence[Tensor]]
    value: Callable[[np.ndarray, np.ndarray], float]
    n_parts: int = 1


def mean_of(name: str, function: Callable[[Tensor, Tensor], Any]) -> Metric:
    """The metric of a function of (prediction, target): its mean over the batches, each weighing its samples."""

    def parts(prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        value = function(prediction, target)
        if not isinstance(value, Tensor):
            value = Tensor(prediction.device.backend.from_host(np.asarray(value, np.float64)), prediction.device)
        if value.size != 1:
            raise ShapeError(f"metric {name!r}: it gave shape {list(value.shape)}; return one number, such as its mean")
        return (value.reshape(()),)

    return Metric(name, parts, lambda rows, sizes: float(np.average(rows[:, 0], weights=sizes)))


def accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    """The share of rows whose largest score is at the label; of single scores, whose sign says what the target says."""
    if target.dtype.kind in "iu" and prediction.ndim == 2 and target.shape == prediction.shape[:1]:
        return indexing.accuracy(prediction, target)
    if prediction.shape == target.shape:
        return ((prediction > 0) == (target > 0.5)).astype(dtypes.float32).mean()
    raise ShapeError(
        f"accuracy: prediction {list(prediction.shape)} and target {target.dtype}{list(target.shape)}; "
        "give scores (n, classes) and integer labels (n,), or two equal shapes"
    )


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error."""
    _same("mae", prediction, target)
    return abs(prediction - target).mean()


def _r2_parts(prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
    _same("r2", prediction, target)
    target = target if dtypes.is_floating(target.dtype) else target.astype(prediction.dtype)
    mean = target.mean()
    return ((prediction - target) ** 2).mean(), mean, ((target - mean) ** 2).mean()


def _r2_value(rows: np.ndarray, sizes: np.ndarray) -> float:
    """1 - (squared residuals) / (squared deviations from the mean): batch variances about the mean of all."""
    residual, means, variances = rows.T
    overall = np.average(means, weights=sizes)
    total = np.average(variances + (means - overall) ** 2, weights=sizes)
    unexplained = np.average(residual, weights=sizes)
    return float(1 - unexplained / total) if total else float("nan")


def _same(name: str, prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{name}: prediction {list(prediction.shape)} and target {list(target.shape)} must have equal shapes; "
            "reshape the target"
        )


METRICS = {
    "accuracy": mean_of("accuracy", accuracy),
    "mae": mean_of("mae", mae),
    "r2": Metric("r2", _r2_parts, _r2_value, 3),
}


def as_metric(spec: Any, lookup: Callable[[str], Metric]) -> Metric:
    """A metric from its name, a Metric, or a function of (prediction, target)."""
    if isinstance(spec, Metric):
        return spec
    if isinstance(spec, str):
        return lookup(spec)
    if callable(spec):
        return mean_of(getattr(spec, "__name__", type(spec).__name__), spec)
    raise DTypeError(f"fit: a {type(spec).__name__} is not a metric; use {', '.join(METRICS)}, or a function")
