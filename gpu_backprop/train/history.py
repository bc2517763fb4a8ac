"""What happened in a training: a row a step and a row an epoch, gathered without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..array_api.manipulation_functions import stack
from ..core.tensor import Tensor
from .metrics import Metric

CHUNK = 256  # steps whose scalars are packed into one array on the device


@dataclass(repr=False)
class History:
    """Columns of numbers.

    epochs: "loss", a column a metric, "lr", "samples_per_second", "seconds", and with validation data "val_loss" and
        "val_" before each metric; `history["loss"]` is short for `history.epochs["loss"]`.
    steps: "loss", a column a metric, "lr" and "samples_per_second". A GPU works behind the program that hands it steps,
        so there only an epoch's samples a second are a measurement.
    device: where it ran. seconds: the training alone, without validation.
    stopped: why it ended before its last epoch, or None.
    """

    device: str
    epochs: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str | None = None

    def __getitem__(self, name: str) -> list[float]:
        return self.epochs[name]

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.epochs.get("loss", ()))

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.epochs.items() if values)
        return f"History({len(self)} epochs on {self.device}: {last})"

    def last(self) -> dict[str, float]:
        """The row of the last epoch."""
        return {name: values[-1] for name, values in self.epochs.items()}

    def add_epoch(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self.epochs.setdefault(name, []).append(value)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and numbers."""
        return {
            "device": self.device,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "epochs": {name: list(values) for name, values in self.epochs.items()},
            "steps": {name: list(values) for name, values in self.steps.items()},
        }


class Recorder:
    """Keeps the scalars of steps on the device until somebody asks.

    Each row is a loss and the parts of the metrics. Reading waits for the device; adding never does.
    skipping: a step whose loss is not finite changed nothing, and does not count beside others.
    """

    def __init__(self, metrics: Sequence[Metric], skipping: bool = False):
        self.metrics = metrics
        self.skipping = skipping
        self.width = 1 + sum(m.n_parts for m in metrics)
        self.sizes: list[int] = []
        self.rates: list[float] = []
        self.times: list[float] = []
        self._loose: list[Tensor] = []
        self._packed: list[Tensor] = []
        self._rows = np.empty((0, self.width))
        self.start = time.perf_counter()

    def add(self, scalars: Sequence[Tensor], size: int, rate: float) -> None:
        self._loose += scalars
        self.sizes.append(size)
        self.rates.append(rate)
        self.times.append(time.perf_counter())
        if len(self._loose) >= CHUNK * self.width:
            self._pack()

    def _pack(self) -> None:
        self._packed.append(stack(self._loose))
        self._loose = []

    def rows(self) -> np.ndarray:
        """The rows so far, (steps, width) in float64."""
        if self._loose:
            self._pack()
        if self._packed:
            read = [chunk.numpy().astype(np.float64).reshape(-1, self.width) for chunk in self._packed]
            self._rows = np.concatenate([self._rows, *read])
            self._packed = []
        return self._rows

    def summary(self, first: int = 0) -> dict[str, float]:
        """The loss and the metrics of all rows from `first` on, every sample weighing the same."""
        rows, sizes = self.rows()[first:], np.array(self.sizes[first:], float)
        counts = np.isfinite(rows[:, 0])
        if self.skipping and counts.any():
            rows, sizes = rows[counts], sizes[counts]
        return self._summary(rows, sizes)

    def _summary(self, rows: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
        result = {"loss": float(np.average(rows[:, 0], weights=sizes))}
        column = 1
        for metric in self.metrics:
            result[metric.name] = metric.value(rows[:, column : column + metric.n_parts], sizes)
            column += metric.n_parts
        return result

    def append_to(self, steps: dict[str, list[float]]) -> None:
        """Add every row as a step to a history."""
        rows, sizes = self.rows(), np.array(self.sizes, float)
        spent = np.diff([self.start, *self.times])
        for i in range(len(rows)):
            row = self._summary(rows[i : i + 1], sizes[i : i + 1])
            row["lr"] = self.rates[i]
            row["samples_per_second"] = sizes[i] / max(spent[i], 1e-9)
            for name, value in row.items():
                steps.setdefault(name, []).append(value)
