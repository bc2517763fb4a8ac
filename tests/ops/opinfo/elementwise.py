"""Elementwise operations."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb

from .base import Op, binary, shaped, unary

SCALARS = [
    unary("add scalar", lambda x: x + 1.5, autograd=lambda x: x + 1.5, f=lambda x: x + 1.5),
    unary("scalar minus", lambda x: 2 - x, autograd=lambda x: 2 - x, f=lambda x: 2 - x),
    unary("times scalar", lambda x: x * -3, autograd=lambda x: x * -3, f=lambda x: x * -3),
    unary("scalar over", lambda x: 2 / x, 0.4, 2.0, lambda x: 2 / x, f=lambda x: 2 / x),
    unary("over scalar", lambda x: x / 4, autograd=lambda x: x / 4, f=lambda x: x / 4),
    unary("square by **", lambda x: x**2, autograd=lambda x: x**2, f=lambda x: x**2),
    unary("cube by **", lambda x: x**3, autograd=lambda x: x**3, f=lambda x: x**3),
    unary("inverse root by **", lambda x: x**-0.5, 0.3, 3.0, lambda x: x**-0.5, f=lambda x: x**-0.5),
    unary("first power", lambda x: x**1.0, autograd=lambda x: x**1.0, f=lambda x: x**1.0),
    unary("zeroth power", lambda x: x**0, f=lambda x: x**0),
    unary("scalar to the power", lambda x: 2.0**x, autograd=lambda x: 2.0**x, f=lambda x: 2.0**x),
    unary("zero to the power", lambda x: 0.0**x, 0.5, 2.0, f=lambda x: 0.0**x),
    unary(
        "maximum scalar",
        lambda x: np.maximum(x, 0.3),
        autograd=lambda x: anp.maximum(x, 0.3),
        f=lambda x: gb.maximum(x, 0.3),
    ),
    unary(
        "scalar minimum",
        lambda x: np.minimum(0.3, x),
        autograd=lambda x: anp.minimum(0.3, x),
        f=lambda x: gb.minimum(0.3, x),
    ),
    unary("remainder scalar", lambda x: np.remainder(x, 0.7), f=lambda x: x % 0.7),
    unary(
        "scalar atan2",
        lambda x: np.arctan2(1.0, x),
        autograd=lambda x: anp.arctan2(1.0, x),
        f=lambda x: gb.atan2(1.0, x),
    ),
    unary(
        "clip scalars",
        lambda x: np.clip(x, -0.7, 0.9),
        autograd=lambda x: anp.clip(x, -0.7, 0.9),
        f=lambda x: gb.clip(x, -0.7, 0.9),
    ),
    unary("clip below", lambda x: np.clip(x, -0.7, None), f=lambda x: gb.clip(x, min=-0.7)),
]

UNARY = [
    unary("abs", np.abs, autograd=anp.abs),
    unary("acos", np.arccos, -0.9, 0.9, anp.arccos),
    unary("acosh", np.arccosh, 1.2, 4.0, anp.arccosh),
    unary("asin", np.arcsin, -0.9, 0.9, anp.arcsin),
    unary("asinh", np.arcsinh, -3, 3, anp.arcsinh),
    unary("atan", np.arctan, -3, 3, anp.arctan),
    unary("atanh", np.arctanh, -0.9, 0.9, anp.arctanh),
    unary("ceil", np.ceil),
    unary("conj", np.conj, autograd=anp.conj),
    unary("cos", np.cos, -4, 4, anp.cos),
    unary("cosh", np.cosh, autograd=anp.cosh),
    unary("exp", np.exp, autograd=anp.exp),
    unary("expm1", np.expm1, autograd=anp.expm1),
    unary("floor", np.floor),
    unary("imag", np.imag, autograd=anp.imag),
    unary("log", np.log, 0.2, 4.0, anp.log),
    unary("log10", np.log10, 0.2, 4.0, anp.log10),
    unary("log1p", np.log1p, -0.6, 3.0, anp.log1p),
    unary("log2", np.log2, 0.2, 4.0, anp.log2),
    unary("negative", np.negative, autograd=anp.negative),
    unary("real", np.real, autograd=anp.real),
    unary("reciprocal", np.reciprocal, 0.3, 3.0, anp.reciprocal),
    unary("round", np.round),
    unary("sign", np.sign),
    unary("sin", np.sin, -4, 4, anp.sin),
    unary("sinh", np.sinh, autograd=anp.sinh),
    unary("sqrt", np.sqrt, 0.2, 4.0, anp.sqrt),
    unary("square", np.square, autograd=anp.square),
    unary("tan", np.tan, -1.2, 1.2, anp.tan),
    unary("tanh", np.tanh, autograd=anp.tanh),
    unary("trunc", np.trunc),
    unary("positive", np.positive),
    unary("cbrt", np.cbrt, 0.2, 4.0),
    unary("exp2", np.exp2, autograd=anp.exp2),
    unary("sinc", np.sinc, -1.5, 1.5, half=False),
]

BINARY = [
    binary("add", np.add, autograd=anp.add),
    binary("atan2", np.arctan2, 0.3, 2.0, anp.arctan2),
    binary("copysign", np.copysign),
    binary("divide", np.divide, 0.3, 3.0, anp.divide),
    binary("fmax", np.fmax, autograd=anp.fmax),
    binary("fmin", np.fmin, autograd=anp.fmin),
    binary("heaviside", np.heaviside),
    binary("hypot", np.hypot, 0.3, 3.0, lambda x, y: anp.sqrt(x * x + y * y)),
    binary("logaddexp", np.logaddexp, autograd=anp.logaddexp),
    binary("logaddexp2", np.logaddexp2, autograd=anp.logaddexp2),
    binary("maximum", np.maximum, autograd=anp.maximum),
    binary("minimum", np.minimum, autograd=anp.minimum),
    binary("nextafter", np.nextafter, half=False),
    binary("multiply", np.multiply, autograd=anp.multiply),
    binary("pow", np.power, 0.3, 2.5, anp.power),
    binary("subtract", np.subtract, autograd=anp.subtract),
    Op(
        "floor_divide",
        gb.floor_divide,
        np.floor_divide,
        [(np.array([5.3, -4.1, 0.6]), np.array([2.0, 1.5, -0.4])), (np.array([[5.3], [-2.2]]), np.array([0.9, 1.7]))],
        half=False,
    ),
    Op(
        "remainder",
        gb.remainder,
        np.remainder,
        [(np.array([5.3, -4.1, 0.6]), np.array([2.0, 1.5, -0.4])), (np.array([[5.3], [-2.2]]), np.array([0.9, 1.7]))],
        half=False,
    ),
    Op(
        "fmod",
        gb.fmod,
        np.fmod,
        [(np.array([5.3, -4.1, 0.6]), np.array([2.0, 1.5, -0.4])), (np.array([[5.3], [-2.2]]), np.array([0.9, 1.7]))],
        half=False,
    ),
    Op(
        "pow of negative bases",
        lambda x: x ** gb.tensor([2.0, 3.0, 0.0], dtype=x.dtype),
        lambda x: x ** np.array([2.0, 3.0, 0.0]),
        [(np.array([-1.5, -0.5, 2.0]),)],
    ),
    shaped(
        "clip tensors",
        gb.clip,
        lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
        [((3, 4), (), (4,)), ((2, 2), (2, 2), (2, 1))],
    ),
    Op(
        "where",
        gb.where,
        np.where,
        [
            (np.array([True, False, True]), np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])),
            (np.array([[True], [False]]), np.array([1.0, 2.0, 3.0]), np.array(4.0)),
            (np.array(True), np.array([1.0, 2.0]), np.array([[4.0], [5.0]])),
            (np.zeros((0, 2), bool), np.array([1.0, 2.0]), np.array(3.0)),
        ],
    ),
    unary("where scalar", lambda x: np.where(x > 0.3, x, 0.0), f=lambda x: gb.where(x > 0.3, x, 0.0)),
]


ELEMENTWISE = [*SCALARS, *UNARY, *BINARY]
