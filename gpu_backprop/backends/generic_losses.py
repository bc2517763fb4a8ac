"""Losses over any array module, in as few passes as it allows. Formulas in nn/functional.py and kernels/losses.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`, for every primitive of ops/losses.py."""

    def reduced(loss, reduction):
        if reduction == "none":
            return loss
        total = xp.add.reduce(loss, axis=None)
        return total / loss.size if reduction == "mean" else total

    def times(g, slope, reduction, out):
        """slope * g, which is the gradient of what `reduced` gave. `slope` is the caller's own, and is overwritten."""
        if reduction == "mean":
            g = g / slope.size
        if out is not None:
            return xp.multiply(slope, g, out=out)
        slope *= g
        return slope

    def mse_loss(x, y, reduction):
        d = x - y
        d *= d
        return reduced(d, reduction)

    def mse_loss_backward(g, x, y, reduction, out=None):
        return times(g * 2, xp.subtract(x, y, out=out), reduction, out)

    def l1_loss(x, y, reduction):
        return reduced(xp.abs(x - y), reduction)

    def l1_loss_backward(g, x, y, reduction, out=None):
        return times(g, xp.sign(x - y), reduction, out)

    def huber_loss(x, y, reduction, delta):
        # with h = min(|d|, delta): d^2 / 2 = h (|d| - h / 2) = delta (|d| - delta / 2), each where it holds
        size = xp.abs(x - y)
        held = xp.minimum(size, delta)
        return reduced(held * (size - held * 0.5), reduction)

    def huber_loss_backward(g, x, y, reduction, delta, out=None):
        return times(g, xp.clip(x - y, -delta, delta), reduction, out)

    def binary_cross_entropy_with_logits(x, y, weight, pos_weight, reduction):
        rest = xp.log1p(xp.exp(-xp.abs(x)))
        if pos_weight is None:  # y softplus(-x) + (1 - y) softplus(x), the common part of both once
            loss = xp.where(x >= 0, (1 - y) * x, -y * x) + rest
        else:
            loss = pos_weight * y * (xp.maximum(-x, 0) + rest) + (1 - y) * (xp.maximum(x, 0) + rest)
        return reduced(loss if weight is None else loss * weight, reduction)

    def binary_cross_entropy_with_logits_backward(g, x, y, weight, pos_weight, reduction, out=None):
        e = xp.exp(-xp.abs(x))  # s(|x|) = 1 / (1 + e), s(-|x|) = e / (1 + e)
        positive, negative = y if pos_weight is None else pos_weight * y, 1 - y
        slope = xp.where(x >= 0, negative - positive * e, negative * e - positive)
        slope /= 1 + e
        if weight is not None:
            slope *= weight
        return times(g, slope, reduction, out)

    functions = (
        mse_loss, mse_loss_backward, l1_loss, l1_loss_backward, huber_loss, huber_loss_backward,
        binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_backward,
    )  # fmt: skip
    return {f.__name__: f for f in functions}
