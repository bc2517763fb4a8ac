"""Sorting, searching, sets."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb

from .base import Op, shaped


def _inserted(side):
    def reference(x, v):
        return np.searchsorted(x[np.argsort(x)], v, side=side)

    return reference


SORTING = [
    shaped("sort", gb.sort, np.sort, [((5,),), ((2, 4),), ((2, 0),), ((1,),)]),
    shaped("sort flat", lambda x: gb.sort(x), np.sort, [((6,),)], autograd=anp.sort),
    shaped(
        "sort descending",
        lambda x: gb.sort(x, axis=0, descending=True, stable=False),
        lambda x: -np.sort(-x, axis=0),
        [((4, 2),), ((3, 2, 2),)],
    ),
    shaped(
        "median by sort",
        lambda x: gb.sort(x, axis=1)[:, 1] * gb.sort(x, axis=1)[:, 0],
        lambda x: np.sort(x, 1)[:, 1] * np.sort(x, 1)[:, 0],
        [((3, 4),)],
        half=False,
    ),
    shaped("unique_values", gb.unique_values, np.unique, [((5,),), ((2, 3),), ((0,),)]),
    *(
        shaped(name, lambda x, n=name: getattr(gb, n)(x).values, np.unique, [((2, 3),)])
        for name in ("unique_all", "unique_counts", "unique_inverse")
    ),
    *(
        shaped(
            f"searchsorted {side}",
            lambda x, v, s=side: gb.searchsorted(x, v, side=s, sorter=gb.argsort(x)),
            _inserted(side),
            [((5,), (2, 3)), ((3,), ())],
            gradient=False,
        )
        for side in ("left", "right")
    ),
    shaped("argsort", gb.argsort, lambda x: np.argsort(x, kind="stable"), [((5,),), ((2, 4),)], gradient=False),
    shaped(
        "argsort descending",
        lambda x: gb.argsort(x, axis=0, descending=True),
        lambda x: np.argsort(-x, axis=0, kind="stable"),
        [((5,),), ((4, 2),)],
        gradient=False,
    ),
    shaped("unique_inverse positions", lambda x: gb.unique_inverse(x).inverse_indices,
           lambda x: np.unique(x, return_inverse=True)[1].reshape(x.shape), [((2, 3),)], gradient=False),
    shaped("unique_counts counts", lambda x: gb.unique_counts(x).counts, lambda x: np.unique(x, return_counts=True)[1],
           [((2, 3),)], gradient=False),
    shaped("isin", lambda x, y: gb.isin(x, y), np.isin, [((2, 3), (4,))], gradient=False),
    Op("nonzero", lambda x: gb.stack(gb.nonzero(x)), lambda x: np.stack(np.nonzero(x)),
       [(np.array([[0.0, 1.5], [-0.0, np.nan]]),)], gradient=False),
    Op("count_nonzero", lambda x: gb.count_nonzero(x, axis=1, keepdims=True),
       lambda x: np.count_nonzero(x, axis=1, keepdims=True), [(np.array([[0.0, 1.5], [-0.0, np.nan]]),)],
       gradient=False),
]  # fmt: skip
