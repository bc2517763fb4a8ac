"""Layers and losses as functions, by PyTorch's names, argument orders and defaults."""

from __future__ import annotations

import math
from typing import Any

from .. import random
from ..core import dtypes, tape
from ..core.errors import DataError, DTypeError, ShapeError, TapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import indexing, linalg, losses, neural, normalization, reduction
from ..ops.reduction import as_real  # by name: `reduction` is also a parameter of losses

__all__ = [
    "batch_norm", "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "elu", "embedding", "gelu",
    "huber_loss", "l1_loss", "layer_norm", "leaky_relu", "linear", "log_softmax", "mse_loss", "one_hot", "relu",
    "rms_norm", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip


def _tensor(x: Any, like: Tensor | None = None) -> Tensor:
    return x if isinstance(x, Tensor) else asarray(x, device=None if like is None else like.device)


_REDUCTIONS = ("mean", "sum", "none")


def _floating(name: str, x: Any) -> Tensor:
    x = _tensor(x)
    if not dtypes.is_floating(x.dtype):
        raise DTypeError(f"{name}: an input of {x.dtype} is not floating; cast it with x.astype(gb.float32)")
    return x


# linear and embedding ------------------------------------------------------------------------------------------------


def linear(input: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input (..., in) @ weight (out, in)^T + bias (out,)."""
    x = _tensor(input, weight)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: an input of shape {list(x.shape)} for a weight (out, in) of shape {list(weight.shape)}; "
            "the last axis of the input must be as long as in"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: a bias of shape {list(bias.shape)} for {weight.shape[0]} outputs; give one for each")
    if x.ndim == 1:
        return linalg.linear(x.reshape((1, -1)), weight, bias).reshape(-1)
    return linalg.linear(x, weight, bias)


def embedding(input: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of weight (n, width) by index. The row `padding_idx`, from -n to n - 1, gets no gradient."""
    index = _tensor(input, weight)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"embedding: indices of {index.dtype} are not integers; cast them with x.astype(gb.int64)")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: a weight of shape {list(weight.shape)} is not a table; give (rows, width)")
    if padding_idx is not None:
        padding_idx = padding_row("embedding", padding_idx, weight.shape[0])
    return indexing.embedding(weight, index, padding_idx=padding_idx)


def padding_row(name: str, padding_idx: Any, rows: int) -> int:
    """`padding_idx`, which may count from the back, as a row of a table of `rows`."""
    (row,) = reduction.as_integers(name, "padding_idx", padding_idx)
    if not rows:
        raise DataError(f"{name}: padding_idx={row} for a table without rows; leave it out")
    if not -rows <= row < rows:
        raise DataError(f"{name}: padding_idx={row} is not one of the {rows} rows; use {-rows} to {rows - 1}")
    return row % rows


def one_hot(labels: Any, num_classes: int = -1, *, dtype: Any = None) -> Tensor:
    """Integer labels (...) as (..., num_classes): 1 at the label, 0 elsewhere. No gradient.

    num_classes=-1 is the largest label plus 1, for which the device must be waited for. dtype=None is int64.
    """
    y = _tensor(labels)
    if y.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: labels of {y.dtype} are not integers; cast them with x.astype(gb.int64)")
    (num_classes,) = reduction.as_integers("one_hot", "num_classes", num_classes)
    if num_classes == -1:
        if not y.size:
            raise DataError("one_hot: without labels num_classes cannot be found out; pass it")
        num_classes = int(y.max().item()) + 1
        if num_classes < 1:
            raise DataError(f"one_hot: label {y.min().item()} is negative; classes are counted from 0")
    if num_classes < 1:
        raise DataError(f"one_hot: num_classes={num_classes} leaves no class; use 1 or more, or -1 to find it out")
    return indexing.one_hot(y, num_classes=num_classes, dtype=dtypes.int64 if dtype is None else dtypes.as_dtype(dtype))


# activations ---------------------------------------------------------------------------------------------------------


def relu(input: Any) -> Tensor:
    """max(x, 0)."""
    return ew.relu(_tensor(input))


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope x."""
    return ew.leaky_relu(
        _tensor(input),
        negative_slope=as_real("leaky_relu", "negative_slope", negative_slope, "write gb.where(x > 0, x, slope * x)"),
    )


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1)."""
    return ew.elu(
        _tensor(input),
        alpha=as_real("elu", "alpha", alpha, "write gb.maximum(x, 0) + alpha * gb.expm1(gb.minimum(x, 0))"),
    )


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the normal distribution function; approximate="tanh" for the form with tanh."""
    if approximate not in ("none", "tanh"):
        raise DataError(f'gelu: approximate={approximate!r} is unknown; use "none" or "tanh"')
    return ew.gelu(_tensor(input), approximate=approximate)


def silu(input: Any) -> Tensor:
    """x sigmoid(x)."""
    return ew.silu(_tensor(input))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    beta = as_real("softplus", "beta", beta, "write gb.logaddexp(beta * x, 0) / beta")
    return ew.softplus(_tensor(input), beta=beta, threshold=as_real("softplus", "threshold", threshold))


def tanh(input: Any) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return ew.tanh(_tensor(input))


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ew.sigmoid(_tensor(input))


def softmax(input: Any, dim: int | None = None) -> Tensor:
    """exp(x) over its sum along `dim`; None stands for axis 0 of arrays with 0, 1 or 3 axes and axis 1 of others."""
    x = _tensor(input)
    return neural.softmax(x, axis=_axis("softmax", x, dim))


def log_softmax(input: Any, dim: int | None = None) -> Tensor:
    """log(softmax(x)), without overflow."""
    x = _tensor(input)
    return neural.log_softmax(x, axis=_axis("log_softmax", x, dim))


def _axis(name: str, x: Tensor, dim: int | None) -> int:
    if not x.ndim:
        raise ShapeError(f"{name}: a scalar has no axis to sum over; give an array")
    if dim is None:
        return 0 if x.ndim in (1, 3) else 1
    return reduction.normalize_axis(name, dim, x.ndim)[0]


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, zero with probability p, else x / (1 - p); drawn from this thread's generator."""
    p = as_real("dropout", "p", p)
    if not 0 <= p <= 1:
        raise DataError(f"dropout: p={p} is not a probability; use 0 to 1")
    x = _floating("dropout", input)
    if not training or p == 0:
        return x
    key, offset = random.default_generator().reserve(x.size)
    return neural.dropout(x, p=p, key=key, offset=offset)


# norms ---------------------------------------------------------------------------------------------------------------


def _rows(name: str, x: Tensor, normalized_shape: Any, *parameters: Tensor | None) -> tuple[Any, ...]:
    """x as (rows, n), n the elements of its last axes, and the parameters as (n,)."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{name}: an input of shape {list(x.shape)} does not end in normalized_shape {list(shape)}; make them agree"
        )
    for what, t in zip(("weight", "bias"), parameters):
        if t is not None and t.shape != shape:
            raise ShapeError(
                f"{name}: a {what} of shape {list(t.shape)} for normalized_shape {list(shape)}; make them equal"
            )
    if len(shape) > 1:
        parameters = tuple(None if t is None else t.reshape(-1) for t in parameters)
    rows = math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape)
    return x if x.shape == rows else x.reshape(rows), *parameters


def layer_norm(
    input: Any, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, which are of shape `normalized_shape`."""
    x = _floating("layer_norm", input)
    eps = as_real("layer_norm", "eps", eps)
    out = normalization.layer_norm(*_rows("layer_norm", x, normalized_shape, weight, bias), eps=eps)
    return _like(out, x)


def rms_norm(input: Any, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes, which are of shape `normalized_shape`.

    eps=None is the machine epsilon of the dtype that it computes in: float64's for float64, else float32's.
    """
    x = _floating("rms_norm", input)
    if eps is None:
        eps = dtypes.epsilon(dtypes.float32 if dtypes.is_half(x.dtype) else x.dtype)
    eps = as_real("rms_norm", "eps", eps)
    return _like(normalization.rms_norm(*_rows("rms_norm", x, normalized_shape, weight), eps=eps), x)


def _like(out: Tensor, x: Tensor) -> Tensor:
    """A result in the shape and dtype of the input that it was made of."""
    return (out if out.shape == x.shape else out.reshape(x.shape)).astype(x.dtype, copy=False)


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel (axis 1) over all other axes.

    In training with the statistics of the batch, which move the running ones, if given, by `momentum` (the running
    variance by the unbiased estimate); otherwise with the running ones, which get no gradient.
    """
    source = _floating("batch_norm", input)
    if source.ndim < 2:
        raise ShapeError(f"batch_norm: an input of shape {list(source.shape)} has no channels; give (batch, channels)")
    channels = source.shape[1]
    for what, t in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if t is not None and t.shape != (channels,):
            raise ShapeError(
                f"batch_norm: {what} of shape {list(t.shape)} for {channels} channels; give one number each"
            )
    eps = as_real("batch_norm", "eps", eps)
    running = running_mean, running_var
    x = source if source.ndim < 4 else source.reshape((*source.shape[:2], math.prod(source.shape[2:])))
    if not training:
        if running_mean is None or running_var is None:
            raise DataError("batch_norm: running statistics are needed outside training; pass them, or training=True")
        return _like(normalization.batch_norm_inference(x, weight, bias, *running, eps=eps), source)
    check_batch(x)
    if (running_mean is None) != (running_var is None):
        given, missing = ("running_var", "running_mean") if running_mean is None else ("running_mean", "running_var")
        raise DataError(f"batch_norm: {given} without {missing}; pass both, or neither")
    for what, t in (("running_mean", running_mean), ("running_var", running_var)):
        if t is not None and not t.device.backend.is_writable(t.array):
            raise DataError(f"batch_norm: {what} may only be read, and training moves it; give t.copy()")
    # the running statistics keep their dtype: they are written in place
    dtype = dtypes.result_type(*(t for t in (x, weight, bias) if t is not None))
    operands = (t if t is None else t.astype(dtype, copy=False) for t in (x, weight, bias))
    momentum = as_real("batch_norm", "momentum", momentum)
    out = normalization.batch_norm_training(*operands, *running, momentum=momentum, eps=eps)
    return _like(out, source)


def check_batch(x: Tensor) -> None:
    """Raise if a batch (n, channels, ...) is too small to have a variance."""
    values = x.shape[0] * math.prod(x.shape[2:])
    if values < 2:
        raise DataError(
            f"batch_norm: training on shape {list(x.shape)} has {values} values a channel, and a variance needs two; "
            "use a larger batch (drop_last=True leaves out a short last one), or model.eval()"
        )


# losses --------------------------------------------------------------------------------------------------------------


# A prediction of 16 bits is compared in float32, and the loss is float32: a mean of 16 bits has lost the digits that
# training curves are read by, and in float16 a loss times its scale would be infinite.


def _prediction(name: str, input: Any) -> Tensor:
    x = _floating(name, input)
    return x.astype(dtypes.float32) if dtypes.is_half(x.dtype) else x


def _pair(name: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Prediction and target of equal shape, in the dtype of the prediction (float32 if it has 16 bits)."""
    x = _prediction(name, input)
    y = _tensor(target, x)
    if x.shape != y.shape:
        raise ShapeError(
            f"{name}: prediction of shape {list(x.shape)} and target of shape {list(y.shape)} must be equal; "
            "reshape one of them (broadcasting them would compare everything with everything)"
        )
    return x, y.astype(x.dtype, copy=False)


def _reduced(primitive: Any, input: Any, target: Any, how: str, *weights: Any, **attrs: Any) -> Tensor:
    """A loss of prediction and target, each checked."""
    x, y = _pair(primitive.name, input, target)
    if how not in _REDUCTIONS:
        raise _unknown_reduction(primitive.name, how)
    if how == "mean" and not x.size:
        raise DataError(f"{primitive.name}: an empty batch has no mean; leave it out, or use reduction='sum'")
    return primitive(x, y, *(_weight(primitive.name, w, x) for w in weights), reduction=how, **attrs)


def _weight(name: str, weight: Any, x: Tensor) -> Tensor | None:
    """A weight of the elements of x, in the dtype of x."""
    if weight is None:
        return None
    weight = _tensor(weight, x)
    lead = x.ndim - weight.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(weight.shape, x.shape[lead:])):
        raise ShapeError(
            f"{name}: a weight of shape {list(weight.shape)} for a prediction of shape {list(x.shape)}; "
            "give one that broadcasts to it"
        )
    return weight.astype(x.dtype, copy=False)


def _unknown_reduction(name: str, value: Any) -> DataError:
    return DataError(f'{name}: reduction={value!r} is unknown; use "mean", "sum" or "none"')


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """(x - y)^2."""
    return _reduced(losses.mse_loss, input, target, reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """|x - y|."""
    return _reduced(losses.l1_loss, input, target, reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """(x - y)^2 / 2 where |x - y| <= delta, else delta (|x - y| - delta / 2)."""
    delta = as_real("huber_loss", "delta", delta)
    if not delta > 0:
        raise DataError(f"huber_loss: delta={delta} is out of range; it must be above zero")
    return _reduced(losses.huber_loss, input, target, reduction, delta=delta)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-(pos_weight y log s + (1 - y) log(1 - s)) weight, s = sigmoid(x); the weights broadcast to x.

    Computed as pos_weight y softplus(-x) + (1 - y) softplus(x): no overflow, no cancellation, and derivatives of every
    order right, also at x = 0.
    """
    return _reduced(losses.binary_cross_entropy_with_logits, input, target, reduction, weight, pos_weight)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(x)[label], for logits (n, classes), (n, classes, ...) or (classes,).

    target: integer labels (n, ...), or class probabilities of the shape of input. weight: one number a class, which
    gets a gradient beside probabilities only; beside labels one that requires grad is a TapeError.
    ignore_index: a label whose rows do not count. label_smoothing: share of the target spread over all classes.
    reduction "mean" divides by the weights of the labels that count.
    """
    label_smoothing = as_real(
        "cross_entropy", "label_smoothing", label_smoothing, "give the target as probabilities that it made"
    )
    if weight is None and _rows_and_labels(input, target) and reduction in _REDUCTIONS and 0 <= label_smoothing <= 1:
        return neural.softmax_cross_entropy(
            input, target, None,
            reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing,
        )  # fmt: skip
    x = _prediction("cross_entropy", input)
    y = _tensor(target, x)
    if reduction not in _REDUCTIONS:
        raise _unknown_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise DataError(f"cross_entropy: label_smoothing={label_smoothing} is out of range; use 0 to 1")
    if not x.ndim:
        raise ShapeError("cross_entropy: a scalar has no classes; give logits of shape (n, classes)")
    classes = x.shape[0] if x.ndim == 1 else x.shape[1]
    if weight is not None:
        weight = _tensor(weight, x).astype(x.dtype, copy=False)
        if weight.shape != (classes,):
            raise ShapeError(
                f"cross_entropy: weight of shape {list(weight.shape)} for {classes} classes; give one each"
            )
    if dtypes.is_floating(y.dtype):
        return _soft_cross_entropy(x, y, weight, reduction, label_smoothing)
    shape = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if y.shape != shape:
        raise ShapeError(
            f"cross_entropy: labels of shape {list(y.shape)} for logits of shape {list(x.shape)}; "
            f"give integer labels of shape {list(shape)}, or probabilities of the shape of the logits"
        )
    if y.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: labels of {y.dtype} are not integers; cast them with y.astype(gb.int64)")
    if reduction == "mean" and not x.size:
        raise DataError("cross_entropy: an empty batch has no mean; leave it out, or use reduction='sum'")
    if weight is not None and weight.requires_grad and tape.is_grad_enabled():
        raise TapeError(
            "cross_entropy: a weight that requires grad gets no gradient beside integer labels; "
            "pass weight.detach(), or the target as probabilities, such as one_hot(y, n, dtype=x.dtype)"
        )
    if y.dtype != dtypes.int64:
        y = y.astype(dtypes.int64)
    if x.ndim != 2:
        x = x.reshape((1, -1)) if x.ndim == 1 else _channels_last(x)
    out = neural.softmax_cross_entropy(
        x, y if y.ndim == 1 else y.reshape(-1), weight,
        reduction=reduction, ignore_index=int(ignore_index), label_smoothing=label_smoothing,
    )  # fmt: skip
    return out.reshape(shape) if reduction == "none" else out


def _rows_and_labels(x: Any, y: Any) -> bool:
    """The usual operands of a cross-entropy, which need no further look: floats (n, classes) and int64 labels (n,)."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return False
    x, y = x.array, y.array
    wide = x.dtype.kind == "f" and x.dtype.itemsize > 2
    return wide and x.ndim == 2 and y.dtype == dtypes.int64 and y.shape == x.shape[:1] and x.size > 0


def _channels_last(x: Tensor) -> Tensor:
    """(n, classes, ...) as rows of classes."""
    return x.permute_dims((0, *range(2, x.ndim), 1)).reshape((-1, x.shape[1]))


def _soft_cross_entropy(x: Tensor, y: Tensor, weight: Tensor | None, how: str, smoothing: float) -> Tensor:
    """-sum over classes of target log softmax(x), the target being probabilities; the mean is over rows."""
    if x.shape != y.shape:
        raise ShapeError(
            f"cross_entropy: probabilities of shape {list(y.shape)} for logits of shape {list(x.shape)}; "
            "make them equal, or give integer labels"
        )
    axis = 0 if x.ndim == 1 else 1
    if how == "mean" and not x.size:
        raise DataError("cross_entropy: an empty batch has no mean; leave it out, or use reduction='sum'")
    y = y.astype(x.dtype, copy=False)
    if smoothing:
        y = y * (1 - smoothing) + smoothing / x.shape[axis]
    terms = neural.log_softmax(x, axis=axis) * y
    if weight is not None:
        terms = terms * weight.reshape(tuple(-1 if i == axis else 1 for i in range(x.ndim)))
    if how == "none":
        return -reduction.reduce(reduction.sum, terms, axis)
    total = -reduction.reduce(reduction.sum, terms)
    return total if how == "sum" else total / math.prod(n for i, n in enumerate(x.shape) if i != axis)
