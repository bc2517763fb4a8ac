"""The one list of operations that drives every check of operations, as PyTorch's OpInfo does.

An `Op` is a function over Tensors, samples of its inputs inside its domain, the same function over NumPy float64
arrays, and, where HIPS autograd has it, over autograd's arrays. test_ops.py checks from this list: values in float64
and rounded dtypes, gradients and double gradients against central differences and against autograd.
test_every_primitive_is_listed fails when a primitive with a gradient is missing here.

Samples keep away from kinks and ties (a central difference across one is no derivative); ties have their own test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import autograd.scipy.special as asp
import numpy as np
from scipy import special

import gpu_backprop as gb
from gpu_backprop.ops import elementwise as ew
from gpu_backprop.ops import linalg, movement, neural, reduction

Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Op:
    """An operation. `half`: float16 and bfloat16 values are within an ulp or so of the rounded reference."""

    name: str
    f: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Sequence[Arrays]
    autograd: Callable[..., Any] | None = None
    gradient: bool = True  # False: values only
    half: bool = True

    def __str__(self) -> str:
        return self.name


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, name)))


def draw(random: np.random.Generator, shape: tuple[int, ...], lo: float, hi: float) -> np.ndarray:
    """Distinct values in [lo, hi], none nearer to 0, 1 or another value than a central difference can see."""
    n = math.prod(shape)
    values = lo + (hi - lo) * (np.arange(n) + random.uniform(0.3, 0.7, n)) / max(n, 1)
    values = np.where(np.abs(values) < 0.02, 0.05, values)
    return random.permutation(values).reshape(shape)


UNARY_SHAPES = ((2, 3), (), (4,), (0, 3))
BINARY_SHAPES = (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (4,)), ((3,), ()), ((0, 3), (3,)), ((), ()))


def unary(name, reference, lo=-2.0, hi=2.0, autograd=None, f=None, **options: Any) -> Op:
    random = _random(name)
    samples = [(draw(random, shape, lo, hi),) for shape in UNARY_SHAPES]
    return Op(name, f or getattr(gb, name), reference, samples, autograd, **options)


def binary(name, reference, lo=-2.0, hi=2.0, autograd=None, f=None, shapes=BINARY_SHAPES, **options: Any) -> Op:
    random = _random(name)
    samples = [(draw(random, a, lo, hi), draw(random, b, lo, hi)) for a, b in shapes]
    return Op(name, f or getattr(gb, name), reference, samples, autograd, **options)


def shaped(name, f, reference, shapes, lo=-2.0, hi=2.0, autograd=None, **options: Any) -> Op:
    """An operation on float inputs of given shapes: one tuple of shapes a sample."""
    random = _random(name)
    samples = [tuple(draw(random, s, lo, hi) for s in sample) for sample in shapes]
    return Op(name, f, reference, samples, autograd, **options)


def np_erf(x):
    return special.erf(x)


def np_where_positive(x, positive, negative):
    return np.where(x > 0, positive, negative)


# elementwise ---------------------------------------------------------------------------------------------------------

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
    unary("maximum scalar", lambda x: np.maximum(x, 0.3), autograd=lambda x: anp.maximum(x, 0.3), f=lambda x: gb.maximum(x, 0.3)),
    unary("scalar minimum", lambda x: np.minimum(0.3, x), autograd=lambda x: anp.minimum(0.3, x), f=lambda x: gb.minimum(0.3, x)),
    unary("remainder scalar", lambda x: np.remainder(x, 0.7), f=lambda x: x % 0.7),
    unary("scalar atan2", lambda x: np.arctan2(1.0, x), autograd=lambda x: anp.arctan2(1.0, x), f=lambda x: gb.atan2(1.0, x)),
    unary("clip scalars", lambda x: np.clip(x, -0.7, 0.9), autograd=lambda x: anp.clip(x, -0.7, 0.9), f=lambda x: gb.clip(x, -0.7, 0.9)),
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
    unary("cos", np.cos, -4, 4, anp.cos),
    unary("cosh", np.cosh, autograd=anp.cosh),
    unary("exp", np.exp, autograd=anp.exp),
    unary("expm1", np.expm1, autograd=anp.expm1),
    unary("floor", np.floor),
    unary("log", np.log, 0.2, 4.0, anp.log),
    unary("log10", np.log10, 0.2, 4.0, anp.log10),
    unary("log1p", np.log1p, -0.6, 3.0, anp.log1p),
    unary("log2", np.log2, 0.2, 4.0, anp.log2),
    unary("negative", np.negative, autograd=anp.negative),
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
]

BINARY = [
    binary("add", np.add, autograd=anp.add),
    binary("atan2", np.arctan2, 0.3, 2.0, anp.arctan2),
    binary("copysign", np.copysign),
    binary("divide", np.divide, 0.3, 3.0, anp.divide),
    binary("hypot", np.hypot, 0.3, 3.0, lambda x, y: anp.sqrt(x * x + y * y)),
    binary("logaddexp", np.logaddexp, autograd=anp.logaddexp),
    binary("maximum", np.maximum, autograd=anp.maximum),
    binary("minimum", np.minimum, autograd=anp.minimum),
    binary("multiply", np.multiply, autograd=anp.multiply),
    binary("pow", np.power, 0.3, 2.5, anp.power),
    binary("subtract", np.subtract, autograd=anp.subtract),
    Op(
        "remainder", gb.remainder, np.remainder,
        [(np.array([5.3, -4.1, 0.6]), np.array([2.0, 1.5, -0.4])), (np.array([[5.3], [-2.2]]), np.array([0.9, 1.7]))],
        half=False,
    ),
    Op(
        "pow of negative bases", lambda x: x ** gb.tensor([2.0, 3.0, 0.0], dtype=x.dtype),
        lambda x: x ** np.array([2.0, 3.0, 0.0]), [(np.array([-1.5, -0.5, 2.0]),)],
    ),
    shaped(
        "clip tensors", gb.clip, lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
        [((3, 4), (), (4,)), ((2, 2), (2, 2), (2, 1))],
    ),
    Op(
        "where", gb.where, np.where,
        [
            (np.array([True, False, True]), np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])),
            (np.array([[True], [False]]), np.array([1.0, 2.0, 3.0]), np.array(4.0)),
            (np.array(True), np.array([1.0, 2.0]), np.array([[4.0], [5.0]])),
            (np.zeros((0, 2), bool), np.array([1.0, 2.0]), np.array(3.0)),
        ],
    ),
    unary("where scalar", lambda x: np.where(x > 0.3, x, 0.0), f=lambda x: gb.where(x > 0.3, x, 0.0)),
]  # fmt: skip

# activations ---------------------------------------------------------------------------------------------------------


def _np_gelu(x, tanh):
    if tanh:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def _anp_gelu(x):
    return 0.5 * x * (1 + asp.erf(x / math.sqrt(2)))


ACTIVATIONS = [
    unary("relu", lambda x: np.maximum(x, 0), autograd=lambda x: anp.maximum(x, 0), f=ew.relu),
    unary(
        "leaky_relu", lambda x: np_where_positive(x, x, 0.1 * x), autograd=lambda x: anp.where(x > 0, x, 0.1 * x),
        f=lambda x: ew.leaky_relu(x, negative_slope=0.1),
    ),
    unary(
        "elu", lambda x: np_where_positive(x, x, 1.3 * np.expm1(x)), autograd=lambda x: anp.where(x > 0, x, 1.3 * anp.expm1(x)),
        f=lambda x: ew.elu(x, alpha=1.3),
    ),
    unary("gelu", lambda x: _np_gelu(x, False), -4, 4, _anp_gelu, f=lambda x: ew.gelu(x, approximate="none")),
    unary(
        "gelu tanh", lambda x: _np_gelu(x, True), -4, 4,
        lambda x: 0.5 * x * (1 + anp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        f=lambda x: ew.gelu(x, approximate="tanh"),
    ),
    unary("silu", lambda x: x * special.expit(x), -4, 4, lambda x: x * asp.expit(x), f=ew.silu),
    unary("sigmoid", special.expit, -6, 6, asp.expit, f=ew.sigmoid),
    unary(
        "softplus", lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2), -4, 4,
        lambda x: anp.where(2 * x > 3, x, anp.log1p(anp.exp(2 * x)) / 2),
        f=lambda x: ew.softplus(x, beta=2.0, threshold=3.0),
    ),
    unary("erf", np_erf, -6, 6, asp.erf, f=ew.erf),
]  # fmt: skip

# reductions ----------------------------------------------------------------------------------------------------------

AXES: list[tuple[str, Any, bool]] = [("all", None, False), ("first", 0, False), ("last kept", -1, True), ("two", (0, 2), False)]


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
                f"{name} {label}", functools.partial(f or getattr(gb, name), **options), functools.partial(reference, **options),
                shapes, lo, hi, None if autograd is None else functools.partial(autograd, **options),
            )
        )  # fmt: skip
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
        "std", lambda x: gb.std(x, axis=1, correction=1), lambda x: np.std(x, axis=1, ddof=1), [((2, 4),), ((3, 2),)],
        autograd=lambda x: anp.std(x, axis=1, ddof=1),
    ),
    shaped("var correction", lambda x: gb.var(x, correction=1), lambda x: np.var(x, ddof=1), [((2, 4),), ((3,),)]),
    Op(
        "prod with zeros", lambda x: gb.prod(x, axis=1), lambda x: np.prod(x, axis=1),
        [(np.array([[1.5, 0.0, 2.0, -1.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]]),),
         (np.array([[0.0]]),)],
    ),
    shaped("prod_of_others", lambda x: reduction.prod_of_others(x, axis=(0, 2)), lambda x: np.prod(x, axis=(0, 2), keepdims=True) / x,
           [((2, 3, 2),)], 0.5, 1.8),
    shaped("max of abs", lambda x: gb.max(gb.abs(x), axis=0, keepdims=True), functools.partial(_take_abs_max, axis=0, keepdims=True), [((3, 2),)], 0.1, 2),
]  # fmt: skip

# products ------------------------------------------------------------------------------------------------------------


def _np_linear(x, weight, bias=None):
    out = x @ np.swapaxes(weight, 0, 1)
    return out if bias is None else out + bias


PRODUCTS = [
    shaped(
        "matmul", gb.matmul, np.matmul,
        [((2, 3), (3, 2)), ((2, 3), (3,)), ((3,), (3, 2)), ((3,), (3,)), ((2, 2, 3), (3, 2)), ((2, 1, 1, 3), (2, 3, 2)),
         ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,))],
        autograd=anp.matmul, half=False,
    ),
    shaped(
        "linear", lambda x, w, b: linalg.linear(x, w, b), _np_linear,
        [((2, 3), (4, 3), (4,)), ((2, 2, 3), (2, 3), (2,)), ((3,), (2, 3), (2,)), ((0, 3), (2, 3), (2,))],
        autograd=lambda x, w, b: anp.dot(x, w.T) + b, half=False,
    ),
    shaped("linear without bias", lambda x, w: linalg.linear(x, w, None), _np_linear, [((2, 3), (4, 3)), ((1, 2, 3), (2, 3))], half=False),
    shaped("tensordot", lambda x, y: gb.tensordot(x, y, axes=((0, 2), (1, 0))), lambda x, y: np.tensordot(x, y, axes=((0, 2), (1, 0))),
           [((2, 3, 2), (2, 2, 2))], autograd=lambda x, y: anp.tensordot(x, y, axes=((0, 2), (1, 0))), half=False),
    shaped("tensordot n", lambda x, y: gb.tensordot(x, y, axes=1), lambda x, y: np.tensordot(x, y, axes=1), [((2, 3), (3, 2)), ((3,), (3,))], half=False),
    shaped("vecdot", gb.vecdot, lambda x, y: np.sum(x * y, -1), [((2, 3), (3,)), ((3,), (3,)), ((2, 1, 2), (3, 2))], half=False),
    shaped("outer", lambda x, y: x.reshape(-1, 1) @ y.reshape(1, -1), np.outer, [((3,), (2,))]),
]  # fmt: skip

# neural --------------------------------------------------------------------------------------------------------------


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
                    x, gb.asarray(y, device=x.device), None if w is None else gb.tensor(w, dtype=x.dtype, device=x.device), **attrs
                )

            plain = label == "plain"
            ops.append(
                shaped(
                    f"cross_entropy {kind} {label}", f, functools.partial(np_cross_entropy, labels=y, weight=w, **attrs),
                    [((5, 4),)], -3, 3, anp_cross_entropy(y, kind) if plain else None, half=False,
                )
            )  # fmt: skip
    return ops


def _np_dropout(x, p, key, offset):
    words = np.random.Philox(key=np.array(key, np.uint64), counter=offset).random_raw(x.size)
    keep = ((words >> np.uint64(11)) * 2.0**-53 >= p).reshape(x.shape)
    return np.where(keep, x / (1 - p) if p < 1 else 0.0, 0.0)


def _dropout(p: float) -> Op:
    attrs = {"p": p, "key": (5, 7), "offset": 3}
    return shaped(f"dropout {p}", lambda x: neural.dropout(x, **attrs), lambda x: _np_dropout(x, **attrs), [((3, 5),), ((),), ((0, 2),)])


NEURAL = [
    *(
        shaped(
            f"softmax {axis}", lambda x, axis=axis: neural.softmax(x, axis=axis), functools.partial(special.softmax, axis=axis),
            [((3, 4),), ((1, 3),)], -3, 3, lambda x, axis=axis: anp.exp(x - asp.logsumexp(x, axis=axis, keepdims=True)),
        )
        for axis in (0, 1)
    ),
    *(
        shaped(
            f"log_softmax {axis}", lambda x, axis=axis: neural.log_softmax(x, axis=axis), functools.partial(special.log_softmax, axis=axis),
            [((3, 4),), ((1, 3),)], -3, 3, lambda x, axis=axis: x - asp.logsumexp(x, axis=axis, keepdims=True), half=False,
        )
        for axis in (0, 1)
    ),
    shaped("softmax of 3 axes", lambda x: neural.softmax(x, axis=1), functools.partial(special.softmax, axis=1), [((2, 3, 2),), ((0, 3, 2),)]),
    *_cross_entropies(),
    *(_dropout(p) for p in (0.0, 0.4, 1.0)),
]  # fmt: skip

# movement ------------------------------------------------------------------------------------------------------------

MOVEMENT = [
    shaped("alias", lambda x: movement.alias(x), np.positive, [((2, 3),), ((),)]),
    shaped("astype", lambda x: x.astype(x.dtype), np.positive, [((2, 3),), ((),)]),
    shaped("copy", lambda x: x.copy(), np.copy, [((2, 3),), ((),)]),
    shaped("transfer", lambda x: gb.core.tape.transfer(x, x.device) * 2, lambda x: x * 2, [((2, 3),)]),
    shaped("broadcast_to", lambda x: gb.broadcast_to(x, (2, 3, 2)), lambda x: np.broadcast_to(x, (2, 3, 2)), [((3, 1),), ((),), ((2, 1, 2),)]),
    shaped("concat", lambda *xs: gb.concat(xs, axis=-1), lambda *xs: np.concatenate(xs, -1), [((2, 1), (2, 3), (2, 0)), ((3,), (1,))],
           autograd=lambda *xs: anp.concatenate(xs, axis=-1)),
    shaped("concat flat", lambda *xs: gb.concat(xs, axis=None), lambda *xs: np.concatenate(xs, None), [((2, 1), (3,))]),
    shaped("stack", lambda *xs: gb.stack(xs, axis=1), lambda *xs: np.stack(xs, 1), [((2, 2), (2, 2)), ((3,), (3,))],
           autograd=lambda *xs: anp.stack(xs, axis=1)),
    shaped("expand_dims", lambda x: gb.expand_dims(x, axis=(0, -1)), lambda x: np.expand_dims(x, (0, -1)), [((2, 3),), ((),)]),
    shaped("squeeze", lambda x: gb.squeeze(x, axis=1), lambda x: np.squeeze(x, 1), [((2, 1, 3),)]),
    shaped("flip", lambda x: gb.flip(x, axis=(0, -1)), lambda x: np.flip(x, (0, -1)), [((2, 3),), ((2, 0, 2),)]),
    shaped("flip all", lambda x: gb.flip(x), np.flip, [((2, 3),)]),
    shaped("permute_dims", lambda x: gb.permute_dims(x, (2, 0, 1)), lambda x: np.transpose(x, (2, 0, 1)), [((2, 3, 1),)],
           autograd=lambda x: anp.transpose(x, (2, 0, 1))),
    shaped("T", lambda x: x.T * x.T, lambda x: x.T * x.T, [((2, 3),), ((2, 3, 2),)]),
    shaped("mT", lambda x: gb.matrix_transpose(x), lambda x: np.swapaxes(x, -1, -2), [((2, 3),), ((2, 3, 2),)]),
    shaped("reshape", lambda x: gb.reshape(x, (3, -1)), lambda x: np.reshape(x, (3, -1)), [((2, 3),), ((3, 4),)],
           autograd=lambda x: anp.reshape(x, (3, -1))),
    shaped("reshape of a transpose", lambda x: x.T.reshape(-1), lambda x: x.T.reshape(-1), [((2, 3),)]),
    shaped("reused input", lambda x: x * x + x, lambda x: x * x + x, [((2, 3),)], autograd=lambda x: x * x + x, half=False),
]  # fmt: skip

# indexing ------------------------------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, False, True]])
INDICES: list[tuple[str, Any]] = [
    ("integer", 1),
    ("negative", (-1, -2)),
    ("slice", (slice(None), slice(None, None, 2))),
    ("reversed", slice(None, None, -1)),
    ("new axis", (None, Ellipsis, 0)),
    ("empty slice", slice(2, 2)),
    ("mask", MASK),
    ("row mask", np.array([False, True])),
    ("no rows", np.array([False, False])),
    ("repeated", np.array([0, 1, 1, 0, 1])),
    ("list", [1, 0]),
    ("empty list", []),
    ("two arrays", (np.array([0, 1, 1]), np.array([2, 0, 0]))),
    ("two broadcast", (np.array([[0], [1]]), np.array([2, 0]))),
    ("columns", (slice(None), np.array([0, -1, 0]))),
    ("integer and array", (1, np.array([0, 2, 2]))),
    ("apart", (np.array([0, 1]), None, np.array([0, 2]))),
    ("0-d array", np.array(1)),
    ("True", True),
]


def _indexing() -> list[Op]:
    ops = [
        shaped(
            f"getitem {label}", lambda x, i=index: x[i], lambda x, i=index: x[i], [((2, 3),)], autograd=lambda x, i=index: x[i]
        )
        for label, index in INDICES
    ]
    for label, axis, indices in (
        ("rows", 0, np.array([2, 0, 2])),
        ("columns", -1, np.array([[1, 0], [1, -1]])),
        ("nothing", 1, np.zeros(0, int)),
    ):
        ops.append(
            shaped(
                f"take {label}", lambda x, i=indices, a=axis: gb.take(x, gb.asarray(i, device=x.device), axis=a),
                lambda x, i=indices, a=axis: np.take(x, i, axis=a), [((3, 2),)],
            )
        )  # fmt: skip
    return ops


# without a gradient --------------------------------------------------------------------------------------------------

VALUES_ONLY = [
    *(
        binary(name, getattr(np, name), gradient=False)
        for name in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "logical_and", "logical_or")
    ),
    binary("floor_divide", np.floor_divide, 0.3, 3.0, gradient=False, half=False),
    binary("logical_xor", np.logical_xor, gradient=False),
    *(unary(name, getattr(np, name), gradient=False) for name in ("isfinite", "isinf", "isnan", "signbit", "logical_not")),
    *(
        shaped(f"{name} {axis}", lambda x, n=name, a=axis: getattr(gb, n)(x, axis=a), lambda x, n=name, a=axis: getattr(np, n)(x, axis=a),
               [((2, 3),), ((4, 1),)], gradient=False)
        for name in ("argmax", "argmin", "any", "all") for axis in (None, 1)
    ),
]  # fmt: skip

OPS: list[Op] = [
    *SCALARS, *UNARY, *BINARY, *ACTIVATIONS, *REDUCTIONS, *PRODUCTS, *NEURAL, *MOVEMENT, *_indexing(), *VALUES_ONLY,
]  # fmt: skip

# A primitive that is not in a graph of any Op because another path is taken on purpose.
UNREACHED: set[str] = set()
