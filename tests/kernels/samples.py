"""Arguments for every primitive that has a kernel, and how far two devices may be apart on them.

Rows of table.ELEMENTWISE and table.REDUCTIONS get theirs here by themselves. Any other primitive needs a function below
that is listed in FAMILIES: test_devices_agree.py fails for a kernel that no sample launches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gpu_backprop.backends import table
from gpu_backprop.backends.launching.chain import Chain
from gpu_backprop.ops.indexing import Hole

from .conftest import draw


class Bound(NamedTuple):
    """How far results may be apart: `ulps` of the accumulation type, relative to the larger of result and `scale`."""

    ulps: float
    scale: float = 0.0


EXACT = Bound(0)


class Sample(NamedTuple):
    """One call: arrays among the operands (seen through `view`) and the attributes are brought to the device first."""

    name: str
    operands: tuple[Any, ...]
    attrs: dict[str, Any] = {}  # noqa: RUF012  (never written to)
    view: Callable[[Any], Any] = lambda x: x
    bound: Bound | None = None  # where that of its name does not do


# A name that is not here is made of exactly rounded operations only, in a fixed order: the same bits everywhere.
# The bound of a function is the error of CUDA's (CUDA C++ Programming Guide, "Mathematical Functions", the worse of
# float and double), and an ulp or two of the host's; `scale` stands where terms cancel.
BOUNDS = {
    "exp": Bound(3), "expm1": Bound(3), "log": Bound(3), "log10": Bound(4), "log1p": Bound(3), "log2": Bound(3),
    "pow": Bound(9), "logaddexp": Bound(5, 3), "erf": Bound(4), "hypot": Bound(4),
    "sin": Bound(3), "cos": Bound(3), "tan": Bound(5), "sinh": Bound(5), "cosh": Bound(4), "tanh": Bound(4),
    "asin": Bound(4), "acos": Bound(4), "atan": Bound(4), "atan2": Bound(5),
    "asinh": Bound(5), "acosh": Bound(6), "atanh": Bound(5),
    "sigmoid": Bound(5), "silu": Bound(6), "gelu_none": Bound(9), "gelu_tanh": Bound(8, 3), "elu": Bound(4),
    "softplus": Bound(8), "silu_backward": Bound(8, 9), "gelu_backward_none": Bound(9, 9),
    "gelu_backward_tanh": Bound(9, 9), "elu_backward": Bound(5), "softplus_backward": Bound(6),
    "logsumexp": Bound(6, 8),
    "softmax": Bound(8), "log_softmax": Bound(6, 8), "log_softmax_backward": Bound(4, 100),
    "softmax_cross_entropy": Bound(8, 8), "softmax_cross_entropy_backward": Bound(8, 4),
    "binary_cross_entropy_with_logits": Bound(8, 4), "binary_cross_entropy_with_logits_backward": Bound(8, 4),
    "random_normal": Bound(2, 1),
    "adam_update": Bound(4, 3),  # beta to the power t
}  # fmt: skip

NUMBERS = {"negative_slope": 0.1, "alpha": 1.5, "beta": 2.0, "threshold": 1.0}
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-40, -1e-7, 0.5)


def values(shape: tuple[int, ...], dtype: np.dtype, seed: int) -> np.ndarray:
    """Ordinary numbers, the special ones among them at places that depend on `seed`."""
    x = draw(shape, dtype, seed)
    places = np.random.default_rng(seed).choice(x.size, len(SPECIAL), replace=False)
    with np.errstate(all="ignore"):
        x.reshape(-1)[places] = np.array(SPECIAL).astype(dtype)
    return x


# the families --------------------------------------------------------------------------------------------------------

# Shapes of the operands, and what is seen of them: one after the other, rows with gaps, every other element.
LAYOUTS: tuple[tuple[tuple[int, ...], Callable[[Any], Any]], ...] = (
    ((1037,), lambda x: x),
    ((9, 40), lambda x: x[:, :37]),
    ((9, 74), lambda x: x[:, ::2]),
)


def elementwise(dtype: np.dtype) -> Iterator[Sample]:
    for shape, view in LAYOUTS:
        for name, row in table.ELEMENTWISE.items():
            operands = [values(shape, dtype, seed) for seed in range(row.arrays)]
            if row.condition:
                operands[0] = draw(shape, np.dtype(np.float32)) > 0
            yield Sample(name, tuple(operands), {number: NUMBERS[number] for number in row.numbers}, view)
        yield Sample("copy", (values(shape, dtype, 0),), view=view)
        for target in map(table.dtype_of, table.FLOATS):
            if target != dtype:
                yield Sample("astype", (values(shape, dtype, 0),), {"dtype": target}, view)
    yield Sample("copy", (values((37, 40), dtype, 0),), {"out": np.zeros((40, 37), dtype)}, lambda x: x.T)


# short and long rows and columns (long ones are split), an axis in the middle, everything
REDUCED = (((33, 70), 0), ((33, 70), 1), ((700, 40), 0), ((3, 9001), 1), ((5, 6, 7), 1), ((4099,), None))


def reductions(dtype: np.dtype) -> Iterator[Sample]:
    for name in table.REDUCTIONS:
        attrs: dict[str, Any] = {"keepdims": False, **({"correction": 1} if name == "var" else {})}
        low, high = (0.9, 1.1) if name == "prod" else (-3.0, 3.0)
        for shape, axis in (
            ((33, 70), 0),
            ((33, 70), 1),
            ((700, 40), 0),
            ((3, 9001), 1),
            ((5, 6, 7), 1),
            ((4099,), None),
        ):
            axes = axis if name.startswith("arg") else None if axis is None else (axis,)
            yield Sample(name, (draw(shape, dtype, 1, low, high),), {"axis": axes, **attrs})


CHAIN = Chain(3, (("multiply", 0, 1), ("add", 3, 2), ("relu", 4)))


def fused(dtype: np.dtype) -> Iterator[Sample]:
    """Chains, and gradients of an activation with that of the bias before it."""
    for shape, view in LAYOUTS:
        yield Sample("chain", (values(shape, dtype, 0), values(shape, dtype, 1), 0.25), {"chain": CHAIN}, view)
    rows = 33
    g, y = draw((rows, 70), dtype, 1), draw((rows, 70), dtype, 2, 0.1, 0.9)
    for name in table.BIAS_BACKWARD:
        attrs = {"gradient": name} | {number: NUMBERS[number] for number in table.ELEMENTWISE[name].numbers}
        one = BOUNDS.get(name, EXACT)
        whole = EXACT if one == EXACT else Bound(one.ulps, rows * max(one.scale, 3.0))  # of a column's sum
        yield Sample("activation_bias_backward", (g, y), attrs, bound=whole)


def rowwise(dtype: np.dtype) -> Iterator[Sample]:
    wide = wide_of(dtype)
    for rows, n in ((9, 33), (3, 1025)):
        x, g = draw((rows, n), dtype, 1), draw((rows, n), dtype, 2)
        y = np.exp(x.astype(np.float64))
        y /= y.sum(axis=1, keepdims=True)
        for name, operands in (
            ("softmax", (x,)), ("log_softmax", (x,)), ("softmax_backward", (g, y.astype(dtype))),
            ("log_softmax_backward", (g, np.log(y).astype(dtype))),
        ):  # fmt: skip
            yield Sample(name, operands, {"axis": 1})
        labels, weight = np.arange(rows) % n, draw((n,), dtype, 3, 0.5, 2.0)
        labels[1] = -100
        top = x.max(axis=1, keepdims=True).astype(wide)
        mass = np.exp(x.astype(np.float64) - top).sum(axis=1).astype(wide)
        total = weight[labels[labels >= 0]].astype(np.float64).sum().astype(wide)
        attrs = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.1}
        yield Sample("softmax_cross_entropy", (x, labels, weight), attrs)
        residuals = (top, mass, np.array(total))
        gradient = np.array(1.5, dtype)
        yield Sample("softmax_cross_entropy_backward", (gradient, x, labels, weight, *residuals), attrs)


def wide_of(dtype: np.dtype) -> np.dtype:
    """The accumulation type."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def losses(dtype: np.dtype) -> Iterator[Sample]:
    x, y = draw((9, 37), dtype, 1), draw((9, 37), dtype, 2, 0.0, 1.0)
    for name in table.LOSSES:
        bce = name == "binary_cross_entropy_with_logits"
        weights = (None, draw((37,), dtype, 3, 0.5, 2.0)) if bce else ()
        for reduction, g in (("mean", np.array(1.5, dtype)), ("none", draw((9, 37), dtype, 4))):
            attrs = {"reduction": reduction, **({"delta": 0.75} if name == "huber_loss" else {})}
            yield Sample(name, (x, y, *weights), attrs)
            yield Sample(f"{name}_backward", (g, x, y, *weights), attrs)


def indexing(dtype: np.dtype) -> Iterator[Sample]:
    indices = np.random.default_rng(1).integers(0, 20, 300)
    yield Sample("take", (draw((20, 33), dtype), indices), {"axis": 0})
    yield Sample("take_backward", (draw((300, 33), dtype), indices), {"axis": 0, "shape": (20, 33)})
    one, two, pair = indices % 4, indices % 7, (Hole(0), Hole(1))
    yield Sample("take", (draw((5, 20, 3), dtype), indices - 20), {"axis": 1})
    yield Sample("take_backward", (draw((5, 300, 3), dtype), indices - 20), {"axis": 1, "shape": (5, 20, 3)})
    yield Sample("getitem", (draw((4, 7, 3), dtype), one, two), {"index": pair})
    yield Sample("getitem_backward", (draw((300, 3), dtype), one, two), {"index": pair, "shape": (4, 7, 3)})
    yield Sample("accuracy", (draw((300, 20), dtype), indices))
    for target in (dtype, np.dtype(np.int64)):
        yield Sample("one_hot", (indices,), {"num_classes": 20, "dtype": target})


def norms(dtype: np.dtype) -> Iterator[Sample]:
    wide, eps = wide_of(dtype), {"eps": 1e-5}
    for rows, n in ((9, 33), (5, 768), (3, 1025)):  # the second one stays in registers
        x, g, weight, bias = (draw(shape, dtype, i) for i, shape in enumerate(((rows, n), (rows, n), (n,), (n,))))
        mean, rstd = draw((2, rows), wide, 5, -1e-3, 1e-3), draw((rows,), wide, 6, 0.5, 2.0)
        yield Sample("layer_norm", (x, weight, bias), eps)
        yield Sample("rms_norm", (x, weight), eps)
        for m in (mean, None):
            yield Sample("layer_norm_backward", (g, x, weight, m, rstd), eps)
        yield Sample("layer_norm_sums", (g, x, mean, rstd), eps)
    for shape in ((33, 70), (700, 9), (5, 7, 12)):  # columns, and channels of images
        channels = (shape[1],)
        x, g = draw(shape, dtype, 1), draw(shape, dtype, 2)
        weight, bias, *running = (draw(channels, dtype, i, 0.5, 2.0) for i in range(3, 7))
        mean, var = draw((2, *channels), wide, 7, -1e-3, 1e-3), draw(channels, wide, 8, 0.5, 2.0)
        sums = draw((2, *channels), wide, 9)
        yield Sample("batch_norm_training", (x, weight, bias, *running), {"momentum": 0.1, **eps})
        yield Sample("batch_norm_inference", (x, weight, bias, *running), eps)
        yield Sample("batch_norm_sums", (g, x, mean, var), {"training": True, **eps})
        yield Sample("batch_norm_backward", (g, x, weight, mean, var, sums), eps)


def random(dtype: np.dtype) -> Iterator[Sample]:
    place = ((1, 2), 5, (1037,))  # key, offset, shape
    yield Sample("random_words", place)
    yield Sample("start_draws", (np.zeros(3, np.uint64), (1, 2), 5))
    start = np.array([1, 2, 3], np.uint64)
    yield Sample("random_words", (start, 2, (1037,)))
    yield Sample("dropout", (draw((1037,), dtype),), {"p": 0.3, "key": start, "offset": 2})
    yield Sample("random_integers", place, {"low": -3, "high": 1000})
    yield Sample("random_uniform", place, {"low": -1.0, "high": 2.0, "dtype": dtype})
    yield Sample("random_normal", place, {"mean": 0.5, "std": 2.0, "dtype": dtype})
    yield Sample("dropout", (draw((1037,), dtype),), {"p": 0.3, "key": (1, 2), "offset": 5})


def updates(dtype: np.dtype) -> Iterator[Sample]:
    """With all their state, from the tenth step on, and with a master copy where there can be one; their reductions."""
    cases: dict[str, tuple[int, tuple[float, ...], dict[str, bool]]] = {  # states, hyper from place 4 on, flags
        "sgd_update": (1, (0.9, 0.1), {"nesterov": True}),
        "adam_update": (3, (0.9, 0.999, 1e-8), {"decoupled": True}),
        "rmsprop_update": (3, (0.99, 1e-8, 0.9), {}),
        "adagrad_update": (1, (0.1, 1e-10), {}),
    }
    for name, (states, numbers, flags) in cases.items():
        n = 1037
        hyper, counts = np.array([0.01, 0.1, 1.0, 0.0, *numbers]), np.full(3, 9.0)
        param, grad = draw((n,), dtype, 1), draw((n,), dtype, 2)
        for kept in dict.fromkeys((dtype, wide_of(dtype))):
            state = [draw((n,), kept, 3 + i, 0.5, 1.0) for i in range(states)]
            if name == "rmsprop_update":
                state[1] = (state[1].astype(np.float64) * 0.3).astype(kept)  # grad_avg, below the root of square_avg
            attrs = {"first": 0, "count": 3, "maximize": False, **flags}
            if kept != dtype:
                attrs["master"] = param.astype(kept)
            yield Sample(name, (param, grad, *state, hyper, counts), attrs)
    for name in table.FLAT_REDUCTIONS:
        yield Sample(name, (draw((20_001,), dtype),))


FAMILIES = (elementwise, fused, reductions, rowwise, losses, indexing, norms, random, updates)


def samples(dtype: np.dtype) -> list[Sample]:
    return [sample for family in FAMILIES for sample in family(dtype)]
