"""The table of what benchmarks/kernels.py measures: a row a case, with the calls of CuPy and PyTorch beside ours.

A row is (name, primitive, bytes, goal, ours, CuPy's, PyTorch's, launches). The calls are functions of the arrays: `b`
as our backend and CuPy see them (kernel_cases.Bench), `t` as PyTorch does (Theirs); ours is also given the primitive's
function `f`. None stands for a peer that has no such function: a chain of a peer's functions is none.

Bytes are the fewest that the call must move, for each element of a (rows, columns) array: s is the size of the dtype, o
that of the other dtype of a cast; operands that are a row, a column or a number count for nothing. The goal is a share
of what a copy moves in a second. `launches` names the operations of backends/table.operations() whose kernels are run,
where it is not the primitive itself. LIKE says which operations have no row of their own, and by what row they go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gpu_backprop.backends.launching.chain import Chain
from gpu_backprop.ops.indexing import Hole

Call = Callable[..., Any]

ELEMENTWISE, ROWS, COLUMNS = 0.85, 0.75, 0.75  # ROWS: softmax, losses, norms; reductions of rows go by ELEMENTWISE
EPS = 1e-5
CE = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}
STREAM = {"key": (1, 2), "offset": 0}
ADD_RELU = Chain(2, (("add", 0, 1), ("relu", 2)))

# Operations of one cost: the one that has a row, and those that it stands for.
LIKE = {
    "add": ("subtract", "multiply", "maximum", "minimum", "copysign", "nextafter"),
    "abs": ("negative", "sign", "square", "ceil", "floor", "round", "trunc"),
    "divide": ("reciprocal", "sqrt"),
    "remainder": ("floor_divide",),
    "pow": ("logaddexp", "hypot"),
    "exp": ("expm1", "log", "log10", "log1p", "log2"),
    "sin": ("cos", "tan"),
    "tanh": ("cosh", "sinh", "acosh", "asinh", "atanh", "acos", "asin", "atan"),
    "greater": (
        *("equal", "greater_equal", "less", "less_equal", "not_equal"),
        *("logical_and", "logical_or", "logical_xor"),
    ),
    "isnan": ("isfinite", "isinf", "logical_not", "signbit"),
    "relu": ("leaky_relu",),
    "sigmoid": ("silu", "elu", "softplus"),
    "relu_backward": ("leaky_relu_backward", "tanh_backward", "sigmoid_backward"),
    "gelu_backward_none": ("gelu_backward_tanh", "silu_backward", "elu_backward", "softplus_backward"),
}
LIKE |= {f"{name} Pair": (f"{name} Row",) for name in ("layer_norm", "rms_norm")}  # of longer rows
LIKE["getitem"] = ("take_along_axis",)  # one kernel looks at the indices of both
LIKE |= {f"{row} and sum": tuple(f"{name} and sum" for name in LIKE[row]) for row in LIKE if "_backward" in row}


class Row(NamedTuple):
    """One case: see above."""

    name: str
    primitive: str
    bytes: str
    goal: float
    ours: Call
    cupy: Call | None = None
    torch: Call | None = None
    launches: tuple[str, ...] = ()
    images: bool = False  # of the arrays (outer, channels, inner)


def mapped(
    primitive: str, operands: str, bytes_: str, name: str = "", cupy: str = "", torch: str = "", out: str = "out"
) -> Row:
    """Function(operands, out=out) in all three libraries, by the names that CuPy and PyTorch have for it."""
    names = operands.split()

    def call(function: Call, arrays: Any) -> Any:
        return function(*(getattr(arrays, n) for n in names), out=getattr(arrays, out))

    return Row(
        name or primitive, primitive, bytes_, ELEMENTWISE,
        lambda b, f: call(f, b),
        lambda b: call(getattr(b.xp, cupy or primitive), b),
        lambda t: call(getattr(t.torch, torch or primitive), t),
    )  # fmt: skip


def reduced(primitive: str, torch: str, axis: int, **correction: int) -> Row:
    """A reduction of each row (axis 1) or each column (axis 0)."""
    axes = axis if primitive.startswith("arg") else (axis,)
    x = "ratios" if primitive == "prod" else "x"
    return Row(
        f"{primitive} of {'rows' if axis else 'columns'}", primitive, "s", ELEMENTWISE if axis else COLUMNS,
        lambda b, f: f(getattr(b, x), axis=axes, keepdims=False, **correction),
        lambda b: getattr(b.special if primitive == "logsumexp" else b.xp, primitive)(getattr(b, x), axis=axis),
        lambda t: getattr(t.torch, torch)(getattr(t, x), dim=axis, **correction),
    )  # fmt: skip


def gradient(loss: Call, *variables: str) -> Call:
    """PyTorch's backward pass alone, through what `loss(t)` computes: the gradient for the first of the variables."""

    def build(t: Any) -> tuple[Any, ...]:
        leaves = {name: getattr(t, name).detach().requires_grad_() for name in variables or ("x",)}
        result = loss(t.replace(**leaves))
        return result, tuple(leaves.values()), t.y if result.shape == t.y.shape else t.one

    def step(t: Any) -> Any:
        result, leaves, g = t.bench.once(step, lambda: build(t))
        return t.torch.autograd.grad(result, leaves, g, retain_graph=True)[0]

    return step


def losses(primitive: str, torch: str, weights: int = 0, **attrs: float) -> tuple[Row, Row]:
    """The mean of a loss of x and y, and its gradient for x."""
    loss, none, given = lambda t: getattr(t.F, torch)(t.x, t.y), (None,) * weights, {"reduction": "mean", **attrs}
    return (
        Row(primitive, primitive, "2s", ROWS, lambda b, f: f(b.x, b.y, *none, **given), None, loss),
        Row(f"{primitive} backward", f"{primitive}_backward", "3s", ROWS,
            lambda b, f: f(b.one, b.x, b.y, *none, **given, out=b.out), None, gradient(loss)),
    )  # fmt: skip


def batch_norms(layout: str) -> tuple[Row, ...]:
    """Batch norm of "columns", x (outer, channels), or of "channels", x (outer, channels, inner)."""
    apply, sums, backward = (f"batch_norm_{part} {layout}" for part in ("apply", "sums", "backward"))
    training = {"momentum": 0.1, "eps": EPS}

    def moments(b: Any) -> tuple[Any, Any]:
        return b.saved("batch_norm_training", b.x, b.weight, b.row, None, None, **training)

    def train(t: Any) -> Any:
        return t.F.batch_norm(t.x, None, None, t.weight, t.row, True, eps=EPS)

    def evaluate(t: Any) -> Any:
        return t.F.batch_norm(t.x, t.mean, t.var, t.weight, t.row, eps=EPS)

    def both_passes(b: Any, f: Call) -> Any:
        taken = b.functions["batch_norm_sums"](b.y, b.x, *moments(b), eps=EPS, training=True)
        return f(b.y, b.x, b.weight, *moments(b), taken, eps=EPS, out=b.out)

    rows = (
        ("training", "batch_norm_training", "3s", (f"batch_norm_statistics {layout}", apply),
         lambda b, f: f(b.x, b.weight, b.row, None, None, **training)[0], train),
        ("evaluation", "batch_norm_inference", "2s", (apply,),
         lambda b, f: f(b.x, b.weight, b.row, b.mean, b.var, eps=EPS, out=b.out), evaluate),
        ("backward in training", "batch_norm_backward", "5s", (sums, backward), both_passes, gradient(train)),
        ("backward in evaluation", "batch_norm_inference", "2s", (apply,),
         lambda b, f: f(b.y, b.weight, None, None, b.var, eps=EPS, out=b.out), gradient(evaluate)),
        ("sums in training", "batch_norm_sums", "2s", (sums,),
         lambda b, f: f(b.y, b.x, *moments(b), eps=EPS, training=True)[0], gradient(train, "weight", "row")),
        ("sums in evaluation", "batch_norm_sums", "2s", (sums,),
         lambda b, f: f(b.y, b.x, b.mean, b.var, eps=EPS, training=False)[0], gradient(evaluate, "weight", "row")),
    )  # fmt: skip
    images = layout == "channels"
    return tuple(
        Row(f"batch_norm of {layout}, {name}", primitive, moved, ROWS, ours, None, torch, launches, images)
        for name, primitive, moved, launches, ours, torch in rows
    )


def layer_norm(t: Any) -> Any:
    return t.F.layer_norm(t.x, (t.x.shape[1],), t.weight, t.row, EPS)


def rms_norm(t: Any) -> Any:
    return t.F.rms_norm(t.x, (t.x.shape[1],), t.weight, EPS)


def cross_entropy(t: Any) -> Any:
    return t.F.cross_entropy(t.x, t.labels)


TABLE: tuple[Row, ...] = (
    # elementwise: access patterns
    Row("copy", "copy", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out),
        lambda b: b.xp.copyto(b.out, b.x) or b.out, lambda t: t.out.copy_(t.x)),
    Row("copy of a transposed array", "copy", "2s", ELEMENTWISE, lambda b, f: f(b.turned, out=b.out),
        lambda b: b.xp.copyto(b.out, b.turned) or b.out, lambda t: t.out.copy_(t.turned)),
    mapped("add", "x y", "3s"),
    mapped("add", "x row", "2s", "add a row"),
    mapped("add", "x column", "2s", "add a column"),
    mapped("add", "x turned", "3s", "add a transposed array"),
    Row("cast to another dtype", "astype", "s + o", ELEMENTWISE, lambda b, f: f(b.x, dtype=b.other),
        lambda b: b.x.astype(b.other), lambda t: t.x.to(t.others.dtype)),
    Row("cast from another dtype", "astype", "s + o", ELEMENTWISE, lambda b, f: f(b.others, dtype=b.dtype),
        lambda b: b.others.astype(b.dtype), lambda t: t.others.to(t.x.dtype)),
    # elementwise: functors
    mapped("abs", "x", "2s"),
    mapped("divide", "x positive", "3s"),
    mapped("remainder", "x positive", "3s"),
    mapped("pow", "positive y", "3s", cupy="power"),
    mapped("exp", "x", "2s"),
    mapped("sin", "x", "2s"),
    mapped("tanh", "x", "2s"),
    mapped("atan2", "x y", "3s", cupy="arctan2"),
    Row("erf", "erf", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out),
        lambda b: b.special.erf(b.x, out=b.out), lambda t: t.torch.erf(t.x, out=t.out)),
    mapped("greater", "x y", "2s + 1", out="truth"),
    Row("isnan", "isnan", "s + 1", ELEMENTWISE, lambda b, f: f(b.x, out=b.truth),
        lambda b: b.xp.isnan(b.x, out=b.truth), lambda t: t.torch.isnan(t.x)),
    Row("clip", "clip", "2s", ELEMENTWISE, lambda b, f: f(b.x, -1.0, 1.0, out=b.out),
        lambda b: b.xp.clip(b.x, -1, 1, out=b.out), lambda t: t.torch.clip(t.x, -1, 1, out=t.out)),
    Row("where", "where", "3s + 1", ELEMENTWISE, lambda b, f: f(b.mask, b.x, b.y, out=b.out),
        lambda b: b.xp.where(b.mask, b.x, b.y), lambda t: t.torch.where(t.mask, t.x, t.y)),
    Row("relu", "relu", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out),
        lambda b: b.xp.maximum(b.x, 0, out=b.out), lambda t: t.F.relu(t.x)),
    Row("sigmoid", "sigmoid", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out),
        lambda b: b.special.expit(b.x, out=b.out), lambda t: t.torch.sigmoid(t.x, out=t.out)),
    Row("gelu", "gelu_none", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out), None, lambda t: t.F.gelu(t.x)),
    Row("gelu by tanh", "gelu_tanh", "2s", ELEMENTWISE, lambda b, f: f(b.x, out=b.out),
        None, lambda t: t.F.gelu(t.x, approximate="tanh")),
    Row("relu backward", "relu_backward", "3s", ELEMENTWISE, lambda b, f: f(b.y, b.x, out=b.out),
        None, lambda t: t.aten.threshold_backward(t.y, t.x, 0)),
    Row("gelu backward", "gelu_backward_none", "3s", ELEMENTWISE, lambda b, f: f(b.y, b.x, out=b.out),
        None, lambda t: t.aten.gelu_backward(t.y, t.x)),
    Row("chain of add and relu", "chain", "3s", ELEMENTWISE,
        lambda b, f: f(b.x, b.y, chain=ADD_RELU, out=b.out)),
    Row("relu backward and sum", "activation_bias_backward", "3s", COLUMNS,
        lambda b, f: f(b.y, b.x, gradient="relu_backward")[1], launches=("relu_backward and sum",)),
    Row("gelu backward and sum", "activation_bias_backward", "3s", COLUMNS,
        lambda b, f: f(b.y, b.x, gradient="gelu_backward_none")[1], launches=("gelu_backward_none and sum",)),
    # reductions
    Row("sum of all", "sum", "s", ELEMENTWISE, lambda b, f: f(b.x, axis=None, keepdims=False),
        lambda b: b.xp.sum(b.x), lambda t: t.torch.sum(t.x)),
    *(
        reduced(primitive, torch, axis, **({"correction": 0} if primitive == "var" else {}))
        for primitive, torch in (
            *(("sum", "sum"), ("mean", "mean"), ("prod", "prod"), ("max", "amax"), ("min", "amin")),
            *(("argmax", "argmax"), ("argmin", "argmin"), ("var", "var"), ("logsumexp", "logsumexp")),
        )
        for axis in (1, 0)
    ),
    Row("square_sum", "square_sum", "s", ELEMENTWISE, lambda b, f: f(b.flat)),
    Row("any_nonfinite", "any_nonfinite", "s", ELEMENTWISE, lambda b, f: f(b.flat)),
    # softmax, losses
    Row("softmax", "softmax", "2s", ROWS, lambda b, f: f(b.x, axis=1, out=b.out),
        lambda b: b.special.softmax(b.x, axis=1), lambda t: t.F.softmax(t.x, 1)),
    Row("softmax backward", "softmax_backward", "3s", ROWS, lambda b, f: f(b.y, b.x, axis=1, out=b.out),
        None, lambda t: t.aten._softmax_backward_data(t.y, t.x, 1, t.x.dtype)),
    Row("log_softmax", "log_softmax", "2s", ROWS, lambda b, f: f(b.x, axis=1, out=b.out),
        lambda b: b.special.log_softmax(b.x, axis=1), lambda t: t.F.log_softmax(t.x, 1)),
    Row("log_softmax backward", "log_softmax_backward", "3s", ROWS, lambda b, f: f(b.y, b.x, axis=1, out=b.out),
        None, lambda t: t.aten._log_softmax_backward_data(t.y, t.x, 1, t.x.dtype)),
    Row("cross-entropy", "softmax_cross_entropy", "s", ROWS, lambda b, f: f(b.x, b.labels, None, **CE)[0],
        None, cross_entropy),
    Row("cross-entropy backward", "softmax_cross_entropy_backward", "2s", ROWS,
        lambda b, f: f(b.one, b.x, b.labels, None, *b.saved("softmax_cross_entropy", b.x, b.labels, None, **CE),
                       **CE, out=b.out),
        None, gradient(cross_entropy)),
    *losses("mse_loss", "mse_loss"),
    *losses("l1_loss", "l1_loss"),
    *losses("huber_loss", "huber_loss", delta=1.0),
    *losses("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits", weights=2),
    # norms
    Row("layer_norm", "layer_norm", "2s", ROWS, lambda b, f: f(b.x, b.weight, b.row, eps=EPS)[0], None, layer_norm,
        ("layer_norm Pair",)),
    Row("layer_norm backward", "layer_norm_backward", "3s", ROWS,
        lambda b, f: f(b.y, b.x, b.weight, *b.saved("layer_norm", b.x, b.weight, b.row, eps=EPS), eps=EPS, out=b.out),
        None, gradient(layer_norm)),
    Row("layer_norm sums", "layer_norm_sums", "2s", COLUMNS,
        lambda b, f: f(b.y, b.x, *b.saved("layer_norm", b.x, b.weight, b.row, eps=EPS), eps=EPS)[0],
        None, gradient(layer_norm, "weight", "row"), ("layer_norm_sums columns",)),
    Row("rms_norm", "rms_norm", "2s", ROWS, lambda b, f: f(b.x, b.weight, eps=EPS)[0], None, rms_norm,
        ("rms_norm Pair",)),
    Row("rms_norm backward", "layer_norm_backward", "3s", ROWS,
        lambda b, f: f(b.y, b.x, b.weight, None, *b.saved("rms_norm", b.x, b.weight, eps=EPS), eps=EPS, out=b.out),
        None, gradient(rms_norm), ("rms_norm_backward",)),
    Row("rms_norm sums", "layer_norm_sums", "2s", COLUMNS,
        lambda b, f: f(b.y, b.x, None, *b.saved("rms_norm", b.x, b.weight, eps=EPS), eps=EPS)[0],
        None, gradient(rms_norm, "weight"), ("layer_norm_sums columns",)),
    *batch_norms("columns"),
    *batch_norms("channels"),
    # rows by index, labels
    Row("take", "take", "2s", ROWS, lambda b, f: f(b.x, b.indices, axis=0),
        lambda b: b.xp.take(b.x, b.indices, axis=0), lambda t: t.torch.index_select(t.x, 0, t.indices)),
    Row("take backward", "take_backward", "2s", ROWS, lambda b, f: f(b.y, b.indices, axis=0, shape=b.x.shape),
        None, gradient(lambda t: t.torch.index_select(t.x, 0, t.indices))),
    Row("getitem", "getitem", "2s", ROWS, lambda b, f: f(b.x, b.indices, index=(Hole(0),)),
        lambda b: b.x[b.indices], lambda t: t.x[t.indices]),
    Row("getitem backward", "getitem_backward", "2s", ROWS,
        lambda b, f: f(b.y, b.indices, index=(Hole(0),), shape=b.x.shape), None, gradient(lambda t: t.x[t.indices])),
    Row("embedding", "embedding", "2s", ROWS, lambda b, f: f(b.x, b.indices, padding_idx=None),
        None, lambda t: t.F.embedding(t.indices, t.x)),
    Row("embedding backward", "embedding_backward", "2s", ROWS,
        lambda b, f: f(b.y, b.indices, shape=b.x.shape, padding_idx=None),
        None, gradient(lambda t: t.F.embedding(t.indices, t.x))),
    Row("one_hot", "one_hot", "s", ELEMENTWISE, lambda b, f: f(b.labels, num_classes=b.shape[1], dtype=b.dtype)),
    Row("one_hot of int64", "one_hot", "8", ELEMENTWISE,
        lambda b, f: f(b.labels, num_classes=b.shape[1], dtype=b.labels.dtype),
        None, lambda t: t.F.one_hot(t.labels, t.x.shape[1])),
    Row("accuracy", "accuracy", "s", ROWS, lambda b, f: f(b.x, b.labels)),
    # random numbers: not compared, for everybody draws others
    Row("dropout", "dropout", "2s", ELEMENTWISE, lambda b, f: f(b.x, p=0.5, **STREAM, out=b.out),
        None, lambda t: t.F.dropout(t.x, 0.5, True)),
    Row("random words", "random_words", "8", ELEMENTWISE, lambda b, f: f(**STREAM, shape=b.shape)),
    Row("random integers", "random_integers", "8", ELEMENTWISE,
        lambda b, f: f(**STREAM, shape=b.shape, low=0, high=1000),
        lambda b: b.generator.integers(0, 1000, b.shape), lambda t: t.integers.random_(0, 1000)),
    Row("random uniform", "random_uniform", "s", ELEMENTWISE,
        lambda b, f: f(**STREAM, shape=b.shape, low=0.0, high=1.0, dtype=b.dtype),
        lambda b: b.generator.random(b.shape, b.dtype), lambda t: t.out.uniform_()),
    Row("random normal", "random_normal", "s", ELEMENTWISE,
        lambda b, f: f(**STREAM, shape=b.shape, mean=0.0, std=1.0, dtype=b.dtype),
        lambda b: b.generator.standard_normal(b.shape, b.dtype), lambda t: t.out.normal_()),
)  # fmt: skip
