"""Norms: layer norm and RMS norm of the rows of (rows, n), batch norm of the channels of (outer, channels[, inner]).

    xhat = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = xhat weight + bias

mean and var are those of the row or channel (of an RMS norm: 0 and the mean of x^2), weight and bias (either may be
None) one number for each column or channel. A mean that is kept has two parts, mean[0] + mean[1]: the second is what
rounding took from the first. One pass over g and x gives the gradients of weight and bias together, as `sums` (2, ...).
"""

from __future__ import annotations

from typing import Any

from ..core import dtypes
from . import reduction
from .elementwise import sqrt, square
from .movement import concat
from .primitive import Primitive


def _mean(x: Any, axes: tuple[int, ...]) -> Any:
    return reduction.mean(x, axis=axes, keepdims=True)


def _over(x: Any) -> tuple[int, ...]:
    """The axes that the statistics of a batch are over."""
    return (0,) if x.ndim == 2 else (0, 2)


def _across(x: Any, value: Any) -> Any:
    """Numbers of the channels, ready to broadcast along x."""
    return value if x.ndim == 2 else value.reshape((-1, 1))


# gradients as compositions, which have gradients themselves -----------------------------------------------------------


def _wide(*tensors: Any) -> tuple[Any, ...]:
    """16-bit floats as float32: a composition computes there and is rounded once."""
    return tuple(t.astype(dtypes.float32) if t is not None and dtypes.is_half(t.dtype) else t for t in tensors)


def _standardize(x: Any, axes: tuple[int, ...], eps: float, centred: bool = True) -> tuple[Any, Any]:
    """xhat and rstd as functions of x."""
    t = x - _mean(x, axes) if centred else x
    rstd = 1 / sqrt(_mean(square(t), axes) + eps)
    return t * rstd, rstd


def _sums(g: Any, xhat: Any) -> Any:
    axes = _over(g)
    return concat(*(reduction.sum(t, axis=axes, keepdims=False).reshape((1, -1)) for t in (g * xhat, g)), axis=0)


def _slope(g: Any, x: Any, weight: Any, axes: tuple[int, ...], eps: float, centred: bool = True) -> Any:
    """dx = rstd (g weight - m(g weight) - xhat m(g weight xhat)), m() being the mean over `axes`."""
    xhat, rstd = _standardize(x, axes, eps, centred)
    g = g if weight is None else g * weight
    dx = g - xhat * _mean(g * xhat, axes)
    return (dx - _mean(g, axes) if centred else dx) * rstd


def _layer_norm_slope(g_, x, weight, mean, rstd, eps):
    dtype = x.dtype
    g_, x, weight = _wide(g_, x, weight)
    return _slope(g_, x, weight, (1,), eps, centred=mean is not None).astype(dtype, copy=False)


def _layer_norm_sums(g_, x, mean, rstd, eps):
    g_, x = _wide(g_, x)
    return _sums(g_, _standardize(x, (1,), eps, centred=mean is not None)[0])


def _batch_norm_slope(g_, x, weight, mean, var, sums, eps):
    dtype = x.dtype
    g_, x, weight = _wide(g_, x, weight)
    return _slope(g_, x, None if weight is None else _across(x, weight), _over(x), eps).astype(dtype, copy=False)


def _batch_norm_sums(g_, x, mean, var, eps, training):
    g_, x, mean, var = _wide(g_, x, mean, var)
    if training:  # mean and var are functions of x
        return _sums(g_, _standardize(x, _over(x), eps)[0])
    t = x if mean is None else x - _across(x, mean)
    return _sums(g_, t / _across(x, sqrt(var + eps)))


# layer norm and RMS norm ----------------------------------------------------------------------------------------------


def _with_sums(g, x, mean, rstd, eps, mask):
    """g, and the gradients of weight and bias where one of them is wanted."""
    return g, layer_norm_sums(g, x, mean, rstd, eps=eps) if mask & 0b110 else None


layer_norm = Primitive(
    "layer_norm", "x weight bias",
    lambda g, x, weight, mean, rstd, eps: layer_norm_backward(g[0], x, weight, mean, rstd, eps=eps),
    lambda g: g[1][0],
    lambda g: g[1][1],
    before=_with_sums, residuals="mean rstd", promotes="same",
)  # fmt: skip
rms_norm = Primitive(
    "rms_norm", "x weight",
    lambda g, x, weight, rstd, eps: layer_norm_backward(g, x, weight, None, rstd, eps=eps),
    lambda g, x, rstd, eps: layer_norm_sums(g, x, None, rstd, eps=eps)[0],
    residuals="rstd", promotes="same",
)  # fmt: skip
# mean None: of an RMS norm. mean and rstd are functions of x, but constants here
layer_norm_backward = Primitive("layer_norm_backward", "g_ x weight mean rstd", gives="out", unfused=_layer_norm_slope)
layer_norm_sums = Primitive("layer_norm_sums", "g_ x mean rstd", unfused=_layer_norm_sums)

# batch norm -----------------------------------------------------------------------------------------------------------

# Moves running_mean and running_var (both or neither None), each in its own dtype.
batch_norm_training = Primitive(
    "batch_norm_training", "x weight bias running_mean running_var",
    lambda g, x, weight, mean, var, eps: batch_norm_backward(g[0], x, weight, mean, var, g[1], eps=eps),
    lambda g: g[1][0],
    lambda g: g[1][1],
    None,
    None,
    before=lambda g, x, mean, var, eps: (g, batch_norm_sums(g, x, mean, var, eps=eps, training=True)),
    residuals="mean var", writes="running_mean running_var",
)  # fmt: skip
# With mean and var given, which get no gradient. mean None: zero; so dx is such a norm of g.
batch_norm_inference = Primitive(
    "batch_norm_inference", "x weight bias mean var",
    lambda g, weight, var, eps: batch_norm_inference(g, weight, None, None, var, eps=eps),
    lambda g, x, mean, var, eps: batch_norm_sums(g, x, mean, var, eps=eps, training=False)[0],
    lambda g: reduction.sum(g, axis=_over(g), keepdims=False),
    None,
    None,
    promotes="same", gives="out",
)  # fmt: skip
batch_norm_backward = Primitive(
    "batch_norm_backward", "g_ x weight mean var sums", gives="out", unfused=_batch_norm_slope
)
batch_norm_sums = Primitive("batch_norm_sums", "g_ x mean var", unfused=_batch_norm_sums)
