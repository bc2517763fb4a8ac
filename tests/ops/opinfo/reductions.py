"""Reductions."""

from __future__ import annotations

import functools
from typing import Any

import autograd.numpy as anp
import autograd.scipy.special as asp
import numpy as np
from scipy import special

import gpu_backprop as gb
from gpu_backprop.ops import reduction

from .base import Op, shaped

AXES: list[tuple[str, Any, bool]] = [
    ("all", None, False),
    ("first", 0, False),
    ("last kept", -1, True),
    ("two", (0, 2), False),
    ("two from the back", (-1, 0), True),
]


def _reductions(name: str, reference: Any, autograd: Any, f: Any = None, lo=-2.0, hi=2.0, zero_size=True) -> list[Op]:
    ops = []
    for label, axis, keepdims in AXES:
        options = {"axis": axis, "keepdims": keepdims}
        shapes: list[Any] = [((2, 3, 2),), ((3, 1, 2),)]
        if axis is None:
            shapes += [((),), ((5,),)]
        if zero_size:
            shapes += [((2, 0, 2),)]
        ops.append(
            shaped(
                f"{name} {label}",
                functools.partial(f or getattr(gb, name), **options),
                functools.partial(reference, **options),
                shapes,
                lo,
                hi,
                None if autograd is None else functools.partial(autograd, **options),
            )
        )
    return ops


def _var1(xp):
    return lambda x, axis, keepdims: xp.var(x, axis=axis, keepdims=keepdims, ddof=1)


def _take_abs_max(x, axis, keepdims):
    return np.max(np.abs(x), axis=axis, keepdims=keepdims)


REDUCTIONS = [
    *_reductions("sum", np.sum, anp.sum),
    *_reductions("mean", np.mean, anp.mean, zero_size=False),
    *_reductions("prod", np.prod, anp.prod, lo=0.5, hi=1.8),
    *_reductions("max", np.max, anp.max, zero_size=False),
    *_reductions("min", np.min, anp.min, zero_size=False),
    *_reductions("var", np.var, anp.var, zero_size=False),
    *_reductions("logsumexp", special.logsumexp, asp.logsumexp, zero_size=False),
    shaped(
        "std",
        lambda x: gb.std(x, axis=1, correction=1),
        lambda x: np.std(x, axis=1, ddof=1),
        [((2, 4),), ((3, 2),)],
        autograd=lambda x: anp.std(x, axis=1, ddof=1),
    ),
    shaped("var correction", lambda x: gb.var(x, correction=1), lambda x: np.var(x, ddof=1), [((2, 4),), ((3,),)]),
    Op(
        "prod with zeros",
        lambda x: gb.prod(x, axis=1),
        lambda x: np.prod(x, axis=1),
        [
            (np.array([[1.5, 0.0, 2.0, -1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]]),),
            (np.array([[0.0]]),),
        ],
    ),
    Op(
        "prod with zeros over two axes",
        lambda x: gb.prod(x, axis=(-1, 0)),
        lambda x: np.prod(x, axis=(-1, 0)),
        [(np.array([[[1.5, 0.0], [2.0, -1.0]], [[0.0, 3.0], [0.5, 1.0]]]),)],
    ),
    shaped(
        "prod_of_others",
        lambda x: reduction.prod_of_others(x, axis=(0, 2)),
        lambda x: np.prod(x, axis=(0, 2), keepdims=True) / x,
        [((2, 3, 2),)],
        0.5,
        1.8,
    ),
    shaped(
        "max of abs",
        lambda x: gb.max(gb.abs(x), axis=0, keepdims=True),
        functools.partial(_take_abs_max, axis=0, keepdims=True),
        [((3, 2),)],
        0.1,
        2,
    ),
]
