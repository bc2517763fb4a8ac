"""Losses of prediction and target: gradients to both, and to the weights of a binary cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb

from .base import Op, draw

F = gb.nn.functional
REDUCTIONS = ("none", "mean", "sum")


def _reduced(xp: Any, loss: Any, reduction: str) -> Any:
    return loss if reduction == "none" else getattr(xp, reduction)(loss)


# name -> the function, the loss of each element over an array module, and its samples' shapes
FORMULAS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mse_loss": (F.mse_loss, lambda xp, x, y: (x - y) ** 2),
    "l1_loss": (F.l1_loss, lambda xp, x, y: xp.abs(x - y)),
    "huber_loss": (F.huber_loss, lambda xp, x, y: _huber(xp, x - y, 1.0)),
    "huber_loss 0.3": (
        lambda x, y, reduction: F.huber_loss(x, y, reduction=reduction, delta=0.3),
        lambda xp, x, y: _huber(xp, x - y, 0.3),
    ),
}


def _huber(xp: Any, d: Any, delta: float) -> Any:
    return xp.where(xp.abs(d) <= delta, d * d / 2, delta * (xp.abs(d) - delta / 2))


def _apart(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets whose differences keep away from 0, 0.3 and 1, where slopes or their slopes jump."""
    random = np.random.default_rng(sum(shape) + 1)
    y = draw(random, shape, -1.0, 1.0)
    size = random.choice([0.1, 0.2, 0.6, 1.5, 2.5], shape) + random.uniform(0, 0.05, shape)
    return y + size * random.choice([-1.0, 1.0], shape), y


def _differences() -> list[Op]:
    return [
        Op(
            f"{name} {reduction}",
            lambda x, y, f=f, r=reduction: f(x, y, reduction=r),
            lambda x, y, v=value, r=reduction: _reduced(np, v(np, x, y), r),
            [_apart((3, 5)), _apart((7,)), _apart(())],
            lambda x, y, v=value, r=reduction: _reduced(anp, v(anp, x, y), r),
            half=False,
            wide=True,
        )
        for name, (f, value) in FORMULAS.items()
        for reduction in REDUCTIONS
    ]


def _logistic(xp: Any, x: Any, y: Any, weight: Any = 1.0, pos_weight: Any = 1.0) -> Any:
    """From the definition; logits of samples are small enough for it."""
    s = 1 / (1 + xp.exp(-x))
    return -(pos_weight * y * xp.log(s) + (1 - y) * xp.log(1 - s)) * weight


# which of weight and pos_weight there are, and their shapes beside (3, 5)
WEIGHTS: dict[str, dict[str, tuple[int, ...]]] = {
    "plain": {},
    "weight": {"weight": (5,)},
    "pos_weight": {"pos_weight": (1, 5)},
    "both": {"weight": (3, 5), "pos_weight": ()},
    "columns": {"weight": (3, 1), "pos_weight": (5,)},
}


def _logistics() -> list[Op]:
    ops = []
    for label, shapes in WEIGHTS.items():
        names, random = list(shapes), np.random.default_rng(len(label))
        sample = (
            draw(random, (3, 5), -2.0, 2.0),
            draw(random, (3, 5), 0.1, 0.9),
            *(draw(random, shape, 0.5, 2.0) for shape in shapes.values()),
        )
        for reduction in REDUCTIONS:

            def f(x, y, *weights, names=names, r=reduction):
                return F.binary_cross_entropy_with_logits(x, y, reduction=r, **dict(zip(names, weights)))

            def over(xp, x, y, *weights, names=names, r=reduction):
                return _reduced(xp, _logistic(xp, x, y, **dict(zip(names, weights))), r)

            ops.append(
                Op(
                    f"binary_cross_entropy_with_logits {label} {reduction}",
                    f,
                    lambda *xs, over=over: over(np, *xs),
                    [sample],
                    lambda *xs, over=over: over(anp, *xs),
                    half=False,
                    wide=True,
                )
            )
    return ops


LOSSES = [*_differences(), *_logistics()]
