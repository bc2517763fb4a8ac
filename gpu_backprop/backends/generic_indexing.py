"""Elements along an axis, embeddings, one-hot rows and accuracy over any array module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops.indexing import Hole
from .faults import fault


def along_axis(xp: Any, indices: Any, axis: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """`indices` along an axis of an array of `shape` as an index of one array an axis; all of them broadcast."""
    ndim = len(shape)
    return tuple(
        indices if i == axis else xp.arange(n).reshape((1,) * i + (n,) + (1,) * (ndim - i - 1))
        for i, n in enumerate(shape)
    )


def table(xp: Any, own: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    def take_along_axis(x, indices, axis):
        return x[along_axis(xp, indices, axis, x.shape)]

    def take_along_axis_backward(g, indices, axis, shape):
        holes = tuple(map(Hole, range(len(shape))))
        return own["getitem_backward"](g, *along_axis(xp, indices, axis, shape), index=holes, shape=shape)

    def unstack(x, axis):
        return tuple(x[(slice(None),) * axis + (i, ...)] for i in range(x.shape[axis]))

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
        return own["take_backward"](g, indices, 0, shape)

    def one_hot(labels, num_classes, dtype):
        check("one_hot", labels, num_classes)
        return (labels[..., None] == xp.arange(num_classes)).astype(dtype)

    def accuracy(scores, labels):
        hits = xp.count_nonzero(xp.argmax(scores, axis=1) == labels)
        with np.errstate(invalid="ignore"):  # of no rows, NaN
            return xp.asarray(hits / np.float64(len(scores)), dtype=np.float32)

    functions = (
        *(take_along_axis, take_along_axis_backward, unstack),
        *(embedding, embedding_backward, one_hot, accuracy),
    )
    return {f.__name__: f for f in functions}
