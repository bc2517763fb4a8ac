"""Losses, optimisers, schedules and metrics by the names that `fit` and the command line know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import nn, optim
from ..core.errors import DataError
from .metrics import METRICS

LOSSES: dict[str, Callable[[], Any]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
}
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


def _one_cycle(optimizer: Any, steps: int) -> Any:
    peak = [group["lr"] for group in optimizer.param_groups]
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=steps, cycle_momentum=False)


# How the learning rate goes over a training of so many steps; None stays where it is.
SCHEDULES: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda optimizer, steps: None,
    "cosine": lambda optimizer, steps: optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
    "onecycle": _one_cycle,
    "step": lambda optimizer, steps: optim.lr_scheduler.StepLR(optimizer, step_size=-(-steps // 3)),
    "warmup": lambda optimizer, steps: optim.lr_scheduler.LinearWarmup(optimizer, -(-steps // 10)),
    "plateau": lambda optimizer, steps: optim.lr_scheduler.ReduceLROnPlateau(optimizer),
}


def look_up(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise DataError(f"{kind} {name!r} is not known; use one of {', '.join(table)}")
    return table[name]


__all__ = ["LOSSES", "METRICS", "OPTIMIZERS", "SCHEDULES", "look_up"]
