"""Activation functions."""

from __future__ import annotations

import math

import autograd.numpy as anp
import autograd.scipy.special as asp
import numpy as np
from scipy import special

from gpu_backprop.ops import elementwise as ew

from .base import unary


def np_where_positive(x, positive, negative):
    return np.where(x > 0, positive, negative)


def _np_gelu(x, tanh):
    if tanh:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def _anp_gelu(x):
    return 0.5 * x * (1 + asp.erf(x / math.sqrt(2)))


ACTIVATIONS = [
    unary("relu", lambda x: np.maximum(x, 0), autograd=lambda x: anp.maximum(x, 0), f=ew.relu),
    unary(
        "leaky_relu",
        lambda x: np_where_positive(x, x, 0.1 * x),
        autograd=lambda x: anp.where(x > 0, x, 0.1 * x),
        f=lambda x: ew.leaky_relu(x, negative_slope=0.1),
    ),
    unary(
        "elu",
        lambda x: np_where_positive(x, x, 1.3 * np.expm1(x)),
        autograd=lambda x: anp.where(x > 0, x, 1.3 * anp.expm1(x)),
        f=lambda x: ew.elu(x, alpha=1.3),
    ),
    unary("gelu", lambda x: _np_gelu(x, False), -4, 4, _anp_gelu, f=lambda x: ew.gelu(x, approximate="none")),
    unary(
        "gelu tanh",
        lambda x: _np_gelu(x, True),
        -4,
        4,
        lambda x: 0.5 * x * (1 + anp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        f=lambda x: ew.gelu(x, approximate="tanh"),
    ),
    unary("silu", lambda x: x * special.expit(x), -4, 4, lambda x: x * asp.expit(x), f=ew.silu),
    unary("sigmoid", special.expit, -6, 6, asp.expit, f=ew.sigmoid),
    unary(
        "softplus",
        lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2),
        -4,
        4,
        lambda x: anp.where(2 * x > 3, x, anp.log1p(anp.exp(2 * x)) / 2),
        f=lambda x: ew.softplus(x, beta=2.0, threshold=3.0),
    ),
    unary("erf", special.erf, -6, 6, asp.erf, f=ew.erf),
]
