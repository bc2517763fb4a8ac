"""Matrix products."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb
from gpu_backprop.ops import linalg

from .base import shaped


def _np_linear(x, weight, bias=None):
    out = x @ np.swapaxes(weight, 0, 1)
    return out if bias is None else out + bias


PRODUCTS = [
    shaped(
        "matmul",
        gb.matmul,
        np.matmul,
        [
            ((2, 3), (3, 2)),
            ((2, 3), (3,)),
            ((3,), (3, 2)),
            ((3,), (3,)),
            ((2, 2, 3), (3, 2)),
            ((2, 1, 1, 3), (2, 3, 2)),
            ((2, 0), (0, 3)),
            ((0, 2), (2, 3)),
            ((3,), (2, 3, 2)),
            ((2, 2, 3), (3,)),
        ],
        autograd=anp.matmul,
        half=False,
    ),
    shaped(
        "linear",
        lambda x, w, b: linalg.linear(x, w, b),
        _np_linear,
        [((2, 3), (4, 3), (4,)), ((2, 2, 3), (2, 3), (2,)), ((3,), (2, 3), (2,)), ((0, 3), (2, 3), (2,))],
        autograd=lambda x, w, b: anp.dot(x, w.T) + b,
        half=False,
    ),
    shaped(
        "linear without bias",
        lambda x, w: linalg.linear(x, w, None),
        _np_linear,
        [((2, 3), (4, 3)), ((1, 2, 3), (2, 3))],
        half=False,
    ),
    shaped(
        "linear and relu",
        lambda x, w, b: linalg.linear_relu(x, w, b),
        lambda x, w, b: np.maximum(_np_linear(x, w, b), 0),
        [((2, 3), (4, 3), (4,)), ((2, 2, 3), (2, 3), (2,)), ((0, 3), (2, 3), (2,))],
        autograd=lambda x, w, b: anp.maximum(anp.dot(x, w.T) + b, 0),
        half=False,
    ),
    shaped(
        "tensordot",
        lambda x, y: gb.tensordot(x, y, axes=((0, 2), (1, 0))),
        lambda x, y: np.tensordot(x, y, axes=((0, 2), (1, 0))),
        [((2, 3, 2), (2, 2, 2))],
        autograd=lambda x, y: anp.tensordot(x, y, axes=((0, 2), (1, 0))),
        half=False,
    ),
    shaped(
        "tensordot n",
        lambda x, y: gb.tensordot(x, y, axes=1),
        lambda x, y: np.tensordot(x, y, axes=1),
        [((2, 3), (3, 2)), ((3,), (3,))],
        half=False,
    ),
    shaped(
        "vecdot",
        gb.vecdot,
        lambda x, y: np.sum(x * y, -1),
        [((2, 3), (3,)), ((3,), (3,)), ((2, 1, 2), (3, 2))],
        half=False,
    ),
    shaped("outer", lambda x, y: x.reshape(-1, 1) @ y.reshape(1, -1), np.outer, [((3,), (2,))]),
]
