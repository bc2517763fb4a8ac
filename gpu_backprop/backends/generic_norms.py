"""Layer norm, RMS norm and batch norm over any array module, part by part, so that a part stays in the cache.

Formulas in ops/normalization.py. As in kernels/tiles.cuh a mean is two numbers, (2, ...): the second is the mean of
what is left after the first is taken away, so that a large mean costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PART = 32768  # elements


def _parts(x: Any) -> list[slice]:
    """Slices of the first axis."""
    if x.size <= PART:
        return [slice(None)]
    step = max(1, PART * len(x) // x.size)
    return [slice(i, i + step) for i in range(0, len(x), step)]


def _wide(x: Any) -> Any:
    """16-bit floats as float32, which functions that write in place or keep float32 sums see to themselves."""
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def _across(x: Any, value: Any) -> Any:
    """Numbers of the channels, ready to broadcast along x (outer, channels) or (outer, channels, inner)."""
    return value if value is None or x.ndim == 2 else value[:, None]


def _deviations(x: Any, mean: Any, part: slice) -> Any:
    """x less the means of its rows, in new memory."""
    if mean is None:
        return x.copy()
    t = x - mean[0, part, None]
    t -= mean[1, part, None]
    return t


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    # CuPy has no vecdot
    dots = getattr(xp, "vecdot", None) or (lambda x, y: (x * y).sum(axis=-1))

    def row_means(x):
        return dots(x, xp.ones(x.shape[1], x.dtype)) / max(x.shape[1], 1)

    def channel_sums(x):
        return xp.sum(x, axis=(0, 2)[: x.ndim - 1])

    def channel_dots(x, y):
        return xp.einsum("ij,ij->j" if x.ndim == 2 else "ijk,ijk->j", x, y)

    def affine(t, weight, bias):
        if weight is not None:
            t *= weight
        if bias is not None:
            t += bias
        return t

    # layer norm and RMS norm: x (rows, n) -----------------------------------------------------------------------------

    def layer_norm(x, weight, bias, eps):
        n = max(x.shape[1], 1)
        out, rstd = xp.empty(x.shape, x.dtype), xp.empty(len(x), x.dtype)
        mean = xp.empty((2, len(x)), x.dtype)
        for p in _parts(x):
            mean[0, p] = high = row_means(x[p])
            t = xp.subtract(x[p], high[:, None], out=out[p])
            mean[1, p] = low = row_means(t)
            rstd[p] = spread = 1 / xp.sqrt(xp.maximum(dots(t, t) / n - low * low, 0) + eps)
            t -= low[:, None]
            t *= spread[:, None]
            affine(t, weight, bias)
        return out, mean, rstd

    def rms_norm(x, weight, eps):
        out, rstd = xp.empty(x.shape, x.dtype), xp.empty(len(x), x.dtype)
        for p in _parts(x):
            rstd[p] = spread = 1 / xp.sqrt(dots(x[p], x[p]) / max(x.shape[1], 1) + eps)
            affine(xp.multiply(x[p], spread[:, None], out=out[p]), weight, None)
        return out, rstd

    def layer_norm_backward(g, x, weight, mean, rstd, eps, out=None):
        out = xp.empty(x.shape, x.dtype) if out is None else out
        for p in _parts(x):
            t, spread = _deviations(x[p], mean, p), rstd[p]
            dx = xp.multiply(g[p], 1 if weight is None else weight, out=out[p])
            t *= (dots(dx, t) / max(x.shape[1], 1) * spread * spread)[:, None]
            if mean is not None:
                t += row_means(dx)[:, None]
            dx -= t
            dx *= spread[:, None]
        return out

    def layer_norm_sums(g, x, mean, rstd, eps):
        result = xp.zeros((2, x.shape[1]), rstd.dtype)
        for p in _parts(x):
            d, t = _wide(g[p]), _deviations(_wide(x[p]), mean, p)
            t *= rstd[p, None]
            result[0] += channel_dots(d, t)
            result[1] += channel_sums(d)
        return result

    # batch norm: x (outer, channels) or (outer, channels, inner) ------------------------------------------------------

    def normalize(x, mean, scale, shift, out):
        out = xp.empty(x.shape, x.dtype) if out is None else out
        mean, scale, shift = (_across(x, value) for value in (mean, scale, shift))
        for p in _parts(x):
            if mean is None:
                affine(xp.multiply(x[p], scale, out=out[p]), None, shift)
            else:
                affine(xp.subtract(x[p], mean, out=out[p]), scale, shift)
        return out

    def batch_norm_training(x, weight, bias, running_mean, running_var, momentum, eps):
        dtype, x, weight, bias = x.dtype, _wide(x), _wide(weight), _wide(bias)
        n = x.size // max(x.shape[1], 1)
        high = channel_sums(x) / n
        low = square = 0
        for p in _parts(x):
            t = x[p] - _across(x, high)
            low, square = low + channel_sums(t), square + channel_dots(t, t)
        low /= n
        var = xp.maximum(square / n - low * low, 0)
        if running_mean is not None:
            for old, new in ((running_mean, high + low), (running_var, var * (n / (n - 1)))):
                old[...] = _wide(old) * (1 - momentum) + new * momentum
        scale = 1 / xp.sqrt(var + eps)
        if weight is not None:
            scale *= weight
        shift = -low * scale
        out = normalize(x, high, scale, shift if bias is None else shift + bias, None)
        return out.astype(dtype, copy=False), xp.stack([high, low]), var

    def batch_norm_inference(x, weight, bias, mean, var, eps, out=None):
        scale = 1 / xp.sqrt(var + eps)
        if weight is not None:
            scale *= weight
        return normalize(x, mean, scale, bias, out)

    def batch_norm_sums(g, x, mean, var, eps, training):
        mean, var = _wide(mean), _wide(var)
        high, low = mean if training else (mean, None)
        first = total = xp.zeros(x.shape[1], var.dtype)
        for p in _parts(x):
            d, t = _wide(g[p]), _wide(x[p])
            first = first + channel_dots(d, t if high is None else t - _across(x, high))
            total = total + channel_sums(d)
        if low is not None:
            first -= low * total
        return xp.stack([first / xp.sqrt(var + eps), total])

    def batch_norm_backward(g, x, weight, mean, var, sums, eps, out=None):
        out = xp.empty(x.shape, x.dtype) if out is None else out
        n = max(x.size // max(x.shape[1], 1), 1)
        rstd = 1 / xp.sqrt(var + eps)
        slope = sums[0] / n * rstd
        shift = sums[1] / n - slope * mean[1]
        scale = rstd if weight is None else rstd * weight
        high, slope, shift, scale = (_across(x, value) for value in (mean[0], slope, shift, scale))
        for p in _parts(x):
            t = xp.subtract(high, x[p], out=out[p])  # then g - shift - slope (x - high)
            t *= slope
            t += g[p]
            t -= shift
            t *= scale
        return out

    functions = (
        layer_norm, rms_norm, layer_norm_backward, layer_norm_sums,
        batch_norm_training, batch_norm_inference, batch_norm_sums, batch_norm_backward,
    )  # fmt: skip
    return {f.__name__: f for f in functions}
