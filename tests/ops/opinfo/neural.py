"""Softmax, losses, dropout."""

from __future__ import annotations

import functools

import autograd.numpy as anp
import autograd.scipy.special as asp
import numpy as np
from scipy import special

import gpu_backprop as gb
from gpu_backprop.ops import neural

from .base import Op, shaped


def np_cross_entropy(x, labels, weight=None, *, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    """The formula of torch.nn.functional.cross_entropy, written out row by row."""
    n, c = x.shape
    log_p = x - special.logsumexp(x, axis=1, keepdims=True)
    w = np.ones(c) if weight is None else weight
    losses, total = np.zeros(n), 0.0
    for i, label in enumerate(labels):
        if label == ignore_index:
            continue
        smooth = -sum(w[k] * log_p[i, k] for k in range(c)) / c
        losses[i] = -(1 - label_smoothing) * w[label] * log_p[i, label] + label_smoothing * smooth
        total += w[label]
    return losses if reduction == "none" else np.sum(losses) / total if reduction == "mean" else np.sum(losses)


def anp_cross_entropy(labels, reduction):
    def loss(x):
        log_p = x - asp.logsumexp(x, axis=1, keepdims=True)
        losses = -log_p[np.arange(len(labels)), labels]
        return losses if reduction == "none" else anp.mean(losses) if reduction == "mean" else anp.sum(losses)

    return loss


def _cross_entropies() -> list[Op]:
    labels = np.array([0, 3, 2, 3, 1])
    weight = np.array([0.5, 2.0, 1.0, 0.25])
    ops = []
    for kind in ("none", "mean", "sum"):
        for label, w, smoothing, ignore in (
            ("plain", None, 0.0, -100),
            ("weights", weight, 0.0, -100),
            ("smoothing", None, 0.2, -100),
            ("weights, smoothing, ignore_index", weight, 0.2, 3),
            ("ignore_index", None, 0.0, -1),
        ):
            y = np.where(labels == 3, -1, labels) if ignore == -1 else labels
            attrs = {"reduction": kind, "ignore_index": ignore, "label_smoothing": smoothing}

            def f(x, y=y, w=w, attrs=attrs):
                return neural.softmax_cross_entropy(
                    x,
                    gb.asarray(y, device=x.device),
                    None if w is None else gb.tensor(w, dtype=x.dtype, device=x.device),
                    **attrs,
                )

            plain = label == "plain"
            ops.append(
                shaped(
                    f"cross_entropy {kind} {label}",
                    f,
                    functools.partial(np_cross_entropy, labels=y, weight=w, **attrs),
                    [((5, 4),)],
                    -3,
                    3,
                    anp_cross_entropy(y, kind) if plain else None,
                    half=False,
                )
            )
    return ops


def _np_dropout(x, p, key, offset):
    words = np.random.Philox(key=np.array(key, np.uint64), counter=offset).random_raw(x.size)
    keep = ((words >> np.uint64(11)) * 2.0**-53 >= p).reshape(x.shape)
    return np.where(keep, x / (1 - p) if p < 1 else 0.0, 0.0)


def _dropout(p: float) -> Op:
    attrs = {"p": p, "key": (5, 7), "offset": 3}
    return shaped(
        f"dropout {p}",
        lambda x: neural.dropout(x, **attrs),
        lambda x: _np_dropout(x, **attrs),
        [((3, 5),), ((),), ((0, 2),)],
    )


NEURAL = [
    *(
        shaped(
            f"softmax {axis}",
            lambda x, axis=axis: neural.softmax(x, axis=axis),
            functools.partial(special.softmax, axis=axis),
            [((3, 4),), ((1, 3),)],
            -3,
            3,
            lambda x, axis=axis: anp.exp(x - asp.logsumexp(x, axis=axis, keepdims=True)),
        )
        for axis in (0, 1)
    ),
    *(
        shaped(
            f"log_softmax {axis}",
            lambda x, axis=axis: neural.log_softmax(x, axis=axis),
            functools.partial(special.log_softmax, axis=axis),
            [((3, 4),), ((1, 3),)],
            -3,
            3,
            lambda x, axis=axis: x - asp.logsumexp(x, axis=axis, keepdims=True),
            half=False,
        )
        for axis in (0, 1)
    ),
    shaped(
        "softmax of 3 axes",
        lambda x: neural.softmax(x, axis=1),
        functools.partial(special.softmax, axis=1),
        [((2, 3, 2),), ((0, 3, 2),)],
    ),
    *_cross_entropies(),
    *(_dropout(p) for p in (0.0, 0.4, 1.0)),
]
