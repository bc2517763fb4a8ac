"""What the kernels cover: one row an operation, and the list of everything that can be compiled.

The launch code (launching/) and the tests read the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core import dtypes
from .kernels import Kernel

FLOATS = ("float", "double", "__half", "__nv_bfloat16")  # the kernels' names of the four float types
HALVES = FLOATS[2:]
INDICES = ("int", "long long")


def dtype_of(c_name: str) -> np.dtype:
    """The dtype of a float type that the kernels name."""
    if c_name == "__nv_bfloat16":
        return dtypes.bfloat16()
    return {"float": dtypes.float32, "double": dtypes.float64, "__half": dtypes.float16}[c_name]


class Elementwise(NamedTuple):
    """A primitive that functors.cuh computes: `arrays` operands, then attributes given as numbers."""

    functor: str  # {dtype} stands for the dtype
    arrays: int
    numbers: tuple[str, ...] = ()
    truth: bool = False  # the result is bool
    condition: bool = False  # the first operand is bool


ELEMENTWISE = {
    # arithmetic
    "abs": Elementwise("Abs", 1),
    "negative": Elementwise("Negative", 1),
    "reciprocal": Elementwise("Reciprocal", 1),
    "sign": Elementwise("Sign", 1),
    "sqrt": Elementwise("Sqrt", 1),
    "square": Elementwise("Square", 1),
    "add": Elementwise("Add", 2),
    "copysign": Elementwise("CopySign", 2),
    "divide": Elementwise("Divide", 2),
    "floor_divide": Elementwise("FloorDivide", 2),
    "hypot": Elementwise("Hypot", 2),
    "maximum": Elementwise("Maximum", 2),
    "minimum": Elementwise("Minimum", 2),
    "multiply": Elementwise("Multiply", 2),
    "nextafter": Elementwise("NextAfter<{dtype}>", 2),
    "pow": Elementwise("Pow", 2),
    "remainder": Elementwise("Remainder", 2),
    "subtract": Elementwise("Subtract", 2),
    # exponentials, logarithms, trigonometry, rounding
    "erf": Elementwise("Erf", 1),
    "exp": Elementwise("Exp", 1),
    "expm1": Elementwise("Expm1", 1),
    "log": Elementwise("Log", 1),
    "log10": Elementwise("Log10", 1),
    "log1p": Elementwise("Log1p", 1),
    "log2": Elementwise("Log2", 1),
    "logaddexp": Elementwise("LogAddExp", 2),
    "acos": Elementwise("Acos", 1),
    "acosh": Elementwise("Acosh", 1),
    "asin": Elementwise("Asin", 1),
    "asinh": Elementwise("Asinh", 1),
    "atan": Elementwise("Atan", 1),
    "atan2": Elementwise("Atan2", 2),
    "atanh": Elementwise("Atanh", 1),
    "cos": Elementwise("Cos", 1),
    "cosh": Elementwise("Cosh", 1),
    "sin": Elementwise("Sin", 1),
    "sinh": Elementwise("Sinh", 1),
    "tan": Elementwise("Tan", 1),
    "tanh": Elementwise("Tanh", 1),
    "ceil": Elementwise("Ceil", 1),
    "floor": Elementwise("Floor", 1),
    "round": Elementwise("Round", 1),
    "trunc": Elementwise("Trunc", 1),
    # comparisons, questions and choices
    "equal": Elementwise("Equal", 2, truth=True),
    "greater": Elementwise("Greater", 2, truth=True),
    "greater_equal": Elementwise("GreaterEqual", 2, truth=True),
    "less": Elementwise("Less", 2, truth=True),
    "less_equal": Elementwise("LessEqual", 2, truth=True),
    "not_equal": Elementwise("NotEqual", 2, truth=True),
    "logical_and": Elementwise("LogicalAnd", 2, truth=True),
    "logical_or": Elementwise("LogicalOr", 2, truth=True),
    "logical_xor": Elementwise("LogicalXor", 2, truth=True),
    "isfinite": Elementwise("IsFinite", 1, truth=True),
    "isinf": Elementwise("IsInf", 1, truth=True),
    "isnan": Elementwise("IsNan", 1, truth=True),
    "logical_not": Elementwise("LogicalNot", 1, truth=True),
    "signbit": Elementwise("SignBit", 1, truth=True),
    "clip": Elementwise("Clip", 3),
    "where": Elementwise("Where", 3, condition=True),
    # activations and their gradients
    "relu": Elementwise("Relu", 1),
    "sigmoid": Elementwise("Sigmoid", 1),
    "silu": Elementwise("Silu", 1),
    "gelu_none": Elementwise("Gelu", 1),
    "gelu_tanh": Elementwise("GeluTanh", 1),
    "leaky_relu": Elementwise("LeakyRelu", 1, ("negative_slope",)),
    "elu": Elementwise("Elu", 1, ("alpha",)),
    "softplus": Elementwise("Softplus", 1, ("beta", "threshold")),
    "relu_backward": Elementwise("ReluBackward", 2),
    "tanh_backward": Elementwise("TanhBackward", 2),
    "sigmoid_backward": Elementwise("SigmoidBackward", 2),
    "silu_backward": Elementwise("SiluBackward", 2),
    "gelu_backward_none": Elementwise("GeluBackward", 2),
    "gelu_backward_tanh": Elementwise("GeluTanhBackward", 2),
    "leaky_relu_backward": Elementwise("LeakyReluBackward", 2, ("negative_slope",)),
    "elu_backward": Elementwise("EluBackward", 2, ("alpha",)),
    "softplus_backward": Elementwise("SoftplusBackward", 2, ("beta", "threshold")),
}
VARIANTS = ("gelu", "gelu_backward")  # primitives whose attribute `approximate` is part of the row's name
PATTERNS = ("contiguous", "rows", "strided")

# primitive -> reducer of reducers.cuh, and how many accumulators and indices its state has (for the workspace)
REDUCTIONS = {
    "sum": ("Sum", 1, 0),
    "mean": ("Mean", 1, 0),
    "prod": ("Prod", 1, 0),
    "max": ("Max", 1, 0),
    "min": ("Min", 1, 0),
    "argmax": ("ArgMax", 1, 1),
    "argmin": ("ArgMin", 1, 1),
    "logsumexp": ("LogSumExp", 2, 0),
    "var": ("Var", 3, 0),
}

# gradients of activations that a column sum, the gradient of the bias, follows in one pass
BIAS_BACKWARD = tuple(name for name in ELEMENTWISE if "_backward" in name)

FLAT_REDUCTIONS = {"square_sum": "SquareSum", "any_nonfinite": "AnyNonfinite"}  # of optimisers' buffers, rows only

ROWWISE = {  # primitive -> kernel of neural.cu, without its types
    "softmax": "softmax_rows<false, ",
    "log_softmax": "softmax_rows<true, ",
    "softmax_backward": "softmax_backward_rows<false, ",
    "log_softmax_backward": "softmax_backward_rows<true, ",
    "softmax_cross_entropy": "cross_entropy_rows<",
    "softmax_cross_entropy_backward": "cross_entropy_backward_rows<",
}

LOSSES = {  # primitive -> functor of losses.cu
    "mse_loss": "SquaredError",
    "l1_loss": "AbsoluteError",
    "huber_loss": "Huber",
    "binary_cross_entropy_with_logits": "LogisticError",
}

INDEXING = {  # primitive -> kernel of indexing.cu
    "take": "take_rows",
    "take_backward": "add_rows",
    "getitem_backward": "add_rows",
    "embedding": "take_rows",
    "embedding_backward": "add_rows",
    "one_hot": "one_hot_flat",
    "accuracy": "accuracy_rows",
}

# primitives whose indices are looked at before the array module uses them
INDEX_CHECKS = ("getitem", "take", "take_along_axis")

NORMS = {  # what is launched -> file and kernel, without its types
    **{  # of short rows, and of longer ones
        f"{name} {part}": ("norms.cu", f"layer_norm_rows<{centred}, {part}, ")
        for name, centred in (("layer_norm", "true"), ("rms_norm", "false"))
        for part in ("Pair", "Row")
    },
    "layer_norm_backward": ("norms.cu", "layer_norm_backward_rows<true, "),
    "rms_norm_backward": ("norms.cu", "layer_norm_backward_rows<false, "),
    "layer_norm_sums columns": ("batch_norm.cu", "norm_sums<true, true, "),
    "batch_norm_sums columns": ("batch_norm.cu", "norm_sums<true, false, "),
    "batch_norm_sums channels": ("batch_norm.cu", "norm_sums<false, false, "),
    **{
        f"{name} {layout}": ("batch_norm.cu", f"{name}<{columns}, ")
        for name in ("batch_norm_statistics", "batch_norm_apply", "batch_norm_backward")
        for layout, columns in (("columns", "true"), ("channels", "false"))
    },
}

RANDOM = ("dropout", "random_normal", "random_uniform")  # kernels of random.cu that have a dtype
RANDOM_INTEGERS = ("random_integers", "random_words")  # and those that have one type of results

UPDATES = {"sgd_update": "sgd", "adam_update": "adam", "rmsprop_update": "rmsprop", "adagrad_update": "adagrad"}


def elementwise(pattern: str, functor: str, dtype: str, index: str) -> Kernel:
    return Kernel("elementwise.cu", f"map_{pattern}<{functor.format(dtype=dtype)}, {dtype}, {index}>")


def transpose(dtype: str, index: str) -> Kernel:
    return Kernel("transpose.cu", f"transpose_tiles<{dtype}, {index}>")


def reduction(pattern: str, reducer: str, dtype: str, index: str) -> Kernel:
    return Kernel("reduction.cu", f"{pattern}<{reducer}, {dtype}, {index}>")


def bias_backward(activation: str, dtype: str, index: str) -> Kernel:
    return Kernel("bias.cu", f"activation_bias_backward<{ELEMENTWISE[activation].functor}, {dtype}, {index}>")


def rowwise(primitive: str, dtype: str, index: str) -> Kernel:
    return Kernel("neural.cu", f"{ROWWISE[primitive]}{dtype}, {index}>")


def loss(pattern: str, primitive: str, dtype: str, index: str) -> Kernel:
    return Kernel("losses.cu", f"{pattern}<{LOSSES[primitive]}, {dtype}, {index}>")


def indexing(primitive: str, dtype: str, index: str) -> Kernel:
    return Kernel("indexing.cu", f"{INDEXING[primitive]}<{dtype}, {index}>")


def index_check(index: str) -> Kernel:
    return Kernel("indexing.cu", f"check_indices<{index}>")


def norm(name: str, dtype: str, index: str) -> Kernel:
    file, kernel = NORMS[name]
    return Kernel(file, f"{kernel}{dtype}, {index}>")


def random(primitive: str, index: str, dtype: str | None = None) -> Kernel:
    types = index if dtype is None else f"{dtype}, {index}"
    return Kernel("random.cu", f"{primitive.removeprefix('random_')}<{types}>")


def start_draws() -> Kernel:
    return Kernel("random.cu", "start_draws")


def update(primitive: str, dtype: str, state: str, index: str) -> Kernel:
    return Kernel("optimizer.cu", f"{UPDATES[primitive]}<{dtype}, {state}, {index}>")


def operations(floats: tuple[str, ...] = FLOATS, indices: tuple[str, ...] = INDICES) -> Iterator[tuple[str, Kernel]]:
    """Every kernel that the launch code can ask for, for these types, and the primitive or update that it serves."""
    yield "random_words", start_draws()  # before any draw in a Program
    functors = [("copy", "Copy"), *((name, row.functor) for name, row in ELEMENTWISE.items())]
    for index in indices:
        for primitive in RANDOM_INTEGERS:
            yield primitive, random(primitive, index)
        for primitive in INDEX_CHECKS:
            yield primitive, index_check(index)
        for dtype in floats:
            casts = [("astype", f"Cast<{target}>") for target in FLOATS if target != dtype]
            for name, functor in functors + casts:
                for pattern in PATTERNS:
                    yield name, elementwise(pattern, functor, dtype, index)
            yield "copy", transpose(dtype, index)
            for name, (reducer, _, _) in REDUCTIONS.items():
                for pattern in ("reduce_rows", "reduce_columns"):
                    yield name, reduction(pattern, reducer, dtype, index)
            for name, reducer in FLAT_REDUCTIONS.items():
                yield name, reduction("reduce_rows", reducer, dtype, index)
            for activation in BIAS_BACKWARD:
                yield f"{activation} and sum", bias_backward(activation, dtype, index)
            for primitive in ROWWISE:
                yield primitive, rowwise(primitive, dtype, index)
            for primitive in LOSSES:
                yield primitive, loss("loss_flat", primitive, dtype, index)
                yield f"{primitive}_backward", loss("loss_backward_flat", primitive, dtype, index)
            for primitive in INDEXING:
                yield primitive, indexing(primitive, dtype, index)
            for name in NORMS:
                if name.endswith(" Row") and dtype == "double":
                    continue  # holds no more than Pair
                yield name, norm(name, dtype, index)
            for primitive in RANDOM:
                yield primitive, random(primitive, index, dtype)
            for primitive in UPDATES:
                yield primitive, update(primitive, dtype, dtype, index)
                if dtype in HALVES:
                    yield f"{primitive} with master weights", update(primitive, dtype, "float", index)
        yield "one_hot", indexing("one_hot", "long long", index)  # PyTorch's default dtype of one-hot rows


def instantiations(floats: tuple[str, ...] = FLOATS, indices: tuple[str, ...] = INDICES) -> Iterator[Kernel]:
    """Every kernel that the launch code can ask for, for these types, once."""
    return iter(dict.fromkeys(kernel for _, kernel in operations(floats, indices)))


def batches(indices: tuple[str, ...] = INDICES) -> Iterator[list[Kernel]]:
    """The same, in lists of one file, float type and index type, which are best compiled together."""
    for index in indices:
        for dtype in FLOATS:
            files: dict[str, list[Kernel]] = {}
            for kernel in instantiations((dtype,), (index,)):
                files.setdefault(kernel.file, []).append(kernel)
            yield from files.values()
