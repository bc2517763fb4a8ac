"""Embeddings, one-hot rows and accuracy over any array module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .faults import fault


def table(xp: Any, take: Callable[..., Any], take_backward: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    def check(operation, indices, limit):
        if xp is not np or not indices.size:  # elsewhere it would wait for the device
            return
        if indices.min() < 0 or indices.max() >= limit:
            place = int(np.argmax((indices < 0) | (indices >= limit)))
            raise fault(operation, int(indices.flat[place]), place, limit)

    def embedding(weight, indices, padding_idx):
        check("embedding", indices, len(weight))
        return xp.take(weight, indices, axis=0)

    def embedding_backward(g, indices, shape, padding_idx):
        if padding_idx is not None:
            g = xp.where((indices == padding_idx)[..., None], xp.zeros((), g.dtype), g)
        return take_backward(g, indices, 0, shape)

    def one_hot(labels, num_classes, dtype):
        check("one_hot", labels, num_classes)
        return (labels[..., None] == xp.arange(num_classes)).astype(dtype)

    def accuracy(scores, labels):
        hits = xp.count_nonzero(xp.argmax(scores, axis=1) == labels)
        with np.errstate(invalid="ignore"):  # of no rows, NaN
            return xp.asarray(hits / np.float64(len(scores)), dtype=np.float32)

    return {f.__name__: f for f in (embedding, embedding_backward, one_hot, accuracy)}
