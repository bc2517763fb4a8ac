"""Cumulative sums and products, differences."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb

from .base import Op, shaped


def _begun(scan, first):
    def reference(x):
        pad = [(0, 0)] * (x.ndim - 1) + [(1, 0)]
        return np.pad(scan(x, -1), pad, constant_values=first)

    return reference


ZEROS = np.array([[1.5, 0.0, 2.0, -1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]])

SCANS = [
    *(
        shaped(
            f"cumulative_sum {axis}",
            lambda x, a=axis: gb.cumulative_sum(x, axis=a),
            lambda x, a=axis: np.cumsum(x, axis=a),
            [((2, 3, 2),), ((1, 4),), ((2, 0),)],
            autograd=lambda x, a=axis: anp.cumsum(x, axis=a),
        )
        for axis in (0, -1)
    ),
    shaped("cumulative_sum", gb.cumulative_sum, np.cumsum, [((5,),)], autograd=anp.cumsum),
    shaped(
        "cumulative_sum with 0",
        lambda x: gb.cumulative_sum(x, axis=-1, include_initial=True),
        _begun(np.cumsum, 0),
        [((2, 3),), ((4,),), ((2, 0),)],
    ),
    *(
        shaped(
            f"cumulative_prod {axis}",
            lambda x, a=axis: gb.cumulative_prod(x, axis=a),
            lambda x, a=axis: np.cumprod(x, axis=a),
            [((2, 3, 2),), ((1, 5),), ((2, 0),), ((7, 1),)],
            0.5,
            1.8,
        )
        for axis in (0, -1)
    ),
    shaped("cumulative_prod", gb.cumulative_prod, np.cumprod, [((6,),)], 0.5, 1.8),
    shaped(
        "cumulative_prod with 1",
        lambda x: gb.cumulative_prod(x, axis=-1, include_initial=True),
        _begun(np.cumprod, 1),
        [((2, 3),), ((4,),), ((2, 0),)],
    ),
    Op(
        "cumulative_prod with zeros",
        lambda x: gb.cumulative_prod(x, axis=1),
        lambda x: np.cumprod(x, axis=1),
        [(ZEROS,), (np.array([[0.0]]),)],
    ),
    shaped(
        "diff", gb.diff, np.diff, [((5,),), ((2, 3),), ((2, 0),), ((1,),)], autograd=lambda x: anp.diff(x), half=False
    ),
    shaped(
        "diff twice",
        lambda x: gb.diff(x, axis=0, n=2),
        lambda x: np.diff(x, axis=0, n=2),
        [((4, 2),), ((1, 2),)],
        half=False,
    ),
    shaped(
        "diff with ends",
        lambda x, a, b: gb.diff(x, axis=1, prepend=a, append=b),
        lambda x, a, b: np.diff(x, axis=1, prepend=a, append=b),
        [((2, 3), (2, 1), (2, 2)), ((2, 3), (), (2, 0))],
        half=False,
    ),
]
