"""Callbacks: what else happens while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import DataError
from .history import History, Recorder


@dataclass
class Run:
    """A training under way, as callbacks see it. Set `stop` to a reason, and no further epoch begins."""

    model: Any
    optimizer: Any
    epochs: int
    steps_per_epoch: int
    history: History
    epoch: int = 0  # counted from 1
    step: int = 0  # of all epochs, counted from 1
    samples: int = 0  # seen so far, of all epochs
    stop: str | None = None
    recorder: Recorder = field(default_factory=lambda: Recorder(()))

    def so_far(self) -> dict[str, float]:
        """Loss and metrics of this epoch's steps until now. Waits for the device."""
        return self.recorder.summary()


class Callback:
    """Override what you need; each method receives the Run."""

    def on_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_step(self, run: Run) -> None:
        """After a step. Its loss is still on the device."""

    def on_epoch(self, run: Run) -> None:
        """After an epoch; its row is the last of `run.history`."""

    def on_end(self, run: Run) -> None:
        """After the last epoch, also when an error ended the training."""


class _EveryEpoch(Callback):
    """A plain function as a callback: called after every epoch."""

    def __init__(self, function: Callable[[Run], Any]):
        self.function = function

    def on_epoch(self, run: Run) -> None:
        self.function(run)


def as_callback(spec: Any) -> Callback:
    if isinstance(spec, Callback):
        return spec
    if callable(spec):
        return _EveryEpoch(spec)
    raise DataError(
        f"fit: a {type(spec).__name__} is not a callback; give a gb.train.Callback, or a function of the run"
    )


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    Losses and mae are to fall, every other metric is to rise; `mode="min"` or `"max"` says otherwise. With
    `restore_best` the model gets back the weights of its best epoch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ):
        if patience < 1:
            raise DataError(f"EarlyStopping: patience={patience} leaves no epoch to wait for; use at least 1")
        if mode not in (None, "min", "max"):
            raise DataError(f'EarlyStopping: mode={mode!r} is not known; use "min" or "max"')
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        falls = monitor.endswith(("loss", "mae")) if mode is None else mode == "min"
        self.sign = -1.0 if falls else 1.0
        self.restore_best = restore_best

    def on_begin(self, run: Run) -> None:
        self.best = -np.inf
        self.best_epoch = 0
        self.weights: dict[str, Any] | None = None

    def on_epoch(self, run: Run) -> None:
        row = run.history.last()
        if self.monitor not in row:
            raise DataError(f"EarlyStopping: there is no {self.monitor!r} to watch; use one of {', '.join(row)}")
        score = self.sign * row[self.monitor]
        if score > self.best + self.min_delta:
            self.best, self.best_epoch = score, run.epoch
            if self.restore_best:
                self.weights = {name: value.copy() for name, value in run.model.state_dict().items()}
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = f"{self.monitor} has not improved since epoch {self.best_epoch}"

    def on_end(self, run: Run) -> None:
        if self.weights is not None and self.best_epoch != run.epoch:
            run.model.load_state_dict(self.weights)
