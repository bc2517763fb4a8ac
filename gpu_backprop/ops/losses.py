"""Losses of a prediction x and a target y, in one pass each on every backend, reduced or not.

An attribute `reduction` says how: "none" gives the loss of each element, "sum" and "mean" one number. The gradient to x
is a primitive of its own, one pass too; it differentiates through its unfused form. Losses of x - y pull back to y what
they pull back to x, with the other sign. Formulas in nn/functional.py.
"""

from __future__ import annotations

from typing import Any

from .elementwise import clip, sigmoid, sign, softplus
from .primitive import Primitive, Rule

# above this softplus(x) = x to the last bit of a double, and exp(x) is far from overflow in float32
_SOFTPLUS_EXACT = 40.0


def _times(g: Any, slope: Any, x: Any, reduction: str) -> Any:
    """The slope of each element times what reaches it of the gradient g of the reduced loss."""
    return slope * (g * (1.0 / x.size) if reduction == "mean" and x.size else g)


def _of_difference(name: str, slope: Rule) -> tuple[Primitive, Primitive]:
    """A loss of x - y and its gradient to x, by its slope."""
    backward = Primitive(
        f"{name}_backward", "g_ x y", gives="out",
        unfused=lambda g_, x, y, reduction: _times(g_, slope(x - y), x, reduction),
    )  # fmt: skip
    return Primitive(
        name, "x y",
        lambda g, x, y, reduction: backward(g, x, y, reduction=reduction),
        lambda g, x, y, reduction: -backward(g, x, y, reduction=reduction),
    ), backward  # fmt: skip


l1_loss, l1_loss_backward = _of_difference("l1_loss", sign)
mse_loss, mse_loss_backward = _of_difference("mse_loss", lambda d: d * 2)

huber_loss = Primitive(
    "huber_loss", "x y",
    lambda g, x, y, reduction, delta: huber_loss_backward(g, x, y, reduction=reduction, delta=delta),
    lambda g, x, y, reduction, delta: -huber_loss_backward(g, x, y, reduction=reduction, delta=delta),
)  # fmt: skip
huber_loss_backward = Primitive(
    "huber_loss_backward", "g_ x y", gives="out",
    unfused=lambda g_, x, y, reduction, delta: _times(g_, clip(x - y, -delta, delta), x, reduction),
)  # fmt: skip

# The gradients to target and weights, which are rarely wanted, are compositions.
binary_cross_entropy_with_logits = Primitive(
    "binary_cross_entropy_with_logits", "x y weight pos_weight",
    lambda g, x, y, weight, pos_weight, reduction: binary_cross_entropy_with_logits_backward(
        g, x, y, weight, pos_weight, reduction=reduction
    ),
    lambda g, x, weight, pos_weight, reduction: _times(
        g, _weighed(_weighed(_softplus(-x), pos_weight) - _softplus(x), weight), x, reduction
    ),
    lambda g, x, y, pos_weight, reduction: _times(
        g, _weighed(y * _softplus(-x), pos_weight) + (1 - y) * _softplus(x), x, reduction
    ),
    lambda g, x, y, weight, reduction: _times(g, _weighed(y * _softplus(-x), weight), x, reduction),
)  # fmt: skip
binary_cross_entropy_with_logits_backward = Primitive(
    "binary_cross_entropy_with_logits_backward", "g_ x y weight pos_weight", gives="out",
    unfused=lambda g_, x, y, weight, pos_weight, reduction: _times(
        g_, _weighed((1 - y) * sigmoid(x) - _weighed(y * sigmoid(-x), pos_weight), weight), x, reduction
    ),
)  # fmt: skip


def _weighed(x: Any, weight: Any) -> Any:
    return x if weight is None else x * weight


def _softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return softplus(x, beta=1.0, threshold=_SOFTPLUS_EXACT)
