"""Primitives of neural networks that are one pass on every backend: softmax, cross-entropy, dropout."""

from __future__ import annotations

from typing import Any

from .elementwise import equal, exp, not_equal
from .primitive import Primitive
from .reduction import sum


def _along(x: Any, axis: int) -> Any:
    return sum(x, axis=(axis,), keepdims=True)


softmax = Primitive(
    "softmax", "x",
    lambda g, out, axis: softmax_backward(g, out, axis=axis),
    promotes="real", gives="out",
)  # fmt: skip
softmax_backward = Primitive(
    "softmax_backward", "g_ out_", gives="out",
    unfused=lambda g_, out_, axis: out_ * (g_ - _along(g_ * out_, axis)),
)  # fmt: skip
log_softmax = Primitive(
    "log_softmax", "x",
    lambda g, out, axis: log_softmax_backward(g, out, axis=axis),
    promotes="real", gives="out",
)  # fmt: skip
log_softmax_backward = Primitive(
    "log_softmax_backward", "g_ out_", gives="out",
    unfused=lambda g_, out_, axis: g_ - exp(out_) * _along(g_, axis),
)  # fmt: skip


def _cross_entropy_slope(g_, x, labels, weight, classes, total, *, reduction, ignore_index, label_smoothing):
    """d(loss)/dx times g, row by row: (W softmax(x) - T), where T holds what each class weighs and W is its row sum.

    total is a function of the other inputs, but a constant here.
    """
    n_classes = x.shape[1]
    rows = labels.reshape((-1, 1))
    counts = not_equal(rows, ignore_index).astype(x.dtype)
    hit = equal(rows, classes).astype(x.dtype) * (1 - label_smoothing) + label_smoothing / n_classes
    target = hit * counts
    if weight is not None:
        # a smoothed label weighs each class with its own weight, a plain one the class it names
        target = target * weight
    scale = g_.reshape((-1, 1)) if reduction == "none" else g_ / total if reduction == "mean" else g_
    return (softmax(x, axis=1) * _along(target, 1) - target) * scale


softmax_cross_entropy = Primitive(
    "softmax_cross_entropy", "x labels weight",
    lambda g, x, labels, weight, top, mass, total, reduction, ignore_index, label_smoothing: (
        softmax_cross_entropy_backward(
            g, x, labels, weight, top, mass, total,
            reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing,
        )
    ),
    None,
    None,
    residuals="top mass total", gives="out",  # max(x) (n, 1), sum(exp(x - top)) (n,), and what a mean divides by
)  # fmt: skip
softmax_cross_entropy_backward = Primitive(
    "softmax_cross_entropy_backward", "g_ x labels weight top mass total", gives="out",
    unfused=lambda g_, x, labels, weight, top, mass, total, **attrs: _cross_entropy_slope(
        g_, x, labels, weight, _classes(x, labels), total, **attrs
    ),
)  # fmt: skip
class_indices = Primitive("class_indices", "x", None)


def _classes(x: Any, labels: Any) -> Any:
    """0, 1, ... number of classes - 1, beside the labels."""
    return class_indices(x).astype(labels.dtype)


# Element i (in C order) is kept if word i of the Philox stream (key, offset), as a uniform number, is at least p.
# The mask is drawn again where the gradient needs it, not stored; so dropout is its own gradient.
dropout = Primitive(
    "dropout", "x",
    lambda g, p, key, offset: dropout(g, p=p, key=key, offset=offset),
    gives="out",
)  # fmt: skip
