"""Layer norm, RMS norm and batch norm over any array module, in as few passes as whole-array operations allow.

Formulas in ops/normalization.py. As in kernels/tiles.cuh a mean is two numbers, (2, ...): the second is the mean of
what is left after the first is taken away, so that a large mean costs no digits. `t` below is x less the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _wide(x: Any) -> Any:
    """16-bit floats as float32, which functions that write in place or keep float32 sums see to themselves."""
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def _less(x: Any, y: Any) -> Any:
    """x - y, where y may be left out; always new memory."""
    return x.copy() if y is None else x - y


def _across(x: Any, value: Any) -> Any:
    """Numbers of the channels, ready to broadcast along x (outer, channels) or (outer, channels, inner)."""
    return value if value is None or x.ndim == 2 else value[:, None]


def _two(mean: Any) -> tuple[Any, Any]:
    """The two numbers of a mean; a mean that was given is one number."""
    return (mean, None) if mean is None or mean.ndim == 1 else (mean[0], mean[1])


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    def rows(x):
        """The sums of the rows, by a product."""
        return x.dot(xp.ones(x.shape[1], x.dtype))

    def channels(x):
        """The sums of the channels."""
        return xp.ones(len(x), x.dtype).dot(x) if x.ndim == 2 else xp.sum(x, axis=(0, 2))

    def moments(t, total, n):
        """Mean and mean square of what `total` sums."""
        n = max(n, 1)
        return total(t) / n, total(xp.square(t)) / n

    def affine(t, weight, bias):
        if weight is not None:
            t *= weight
        if bias is not None:
            t += bias
        return t

    # layer norm and RMS norm: x (rows, n) -----------------------------------------------------------------------------

    def layer_norm(x, weight, bias, eps):
        high = rows(x) / max(x.shape[1], 1)
        t = x - high[:, None]
        low, square = moments(t, rows, x.shape[1])
        rstd = 1 / xp.sqrt(xp.maximum(square - low * low, 0) + eps)
        t -= low[:, None]
        t *= rstd[:, None]
        return affine(t, weight, bias), xp.stack([high, low]), rstd

    def rms_norm(x, weight, eps):
        rstd = 1 / xp.sqrt(rows(xp.square(x)) / max(x.shape[1], 1) + eps)
        return affine(x * rstd[:, None], weight, None), rstd

    def layer_norm_backward(g, x, weight, mean, rstd, eps, out=None):
        n = max(x.shape[1], 1)
        high, low = (None, None) if mean is None else (mean[0][:, None], mean[1][:, None])
        t = _less(x, high)
        if low is not None:
            t -= low
        result = xp.multiply(g, 1 if weight is None else weight, out=out)
        slope = rows(result * t) / n * rstd * rstd  # m(g weight xhat) rstd
        shift = 0 if mean is None else (rows(result) / n)[:, None]
        t *= slope[:, None]
        t += shift
        result -= t
        result *= rstd[:, None]
        return result

    def layer_norm_sums(g, x, mean, rstd, eps):
        g, x = _wide(g), _wide(x)
        high, low = _two(mean)
        t = _less(x, None if high is None else high[:, None])
        t *= g
        first = rstd.dot(t)
        if low is not None:
            first -= (low * rstd).dot(g)
        return xp.stack([first, channels(g)])

    # batch norm: x (outer, channels) or (outer, channels, inner) --------------------------------------------------------

    def batch_norm_training(x, weight, bias, running_mean, running_var, momentum, eps):
        dtype, x = x.dtype, _wide(x)
        n = x.size // max(x.shape[1], 1)
        high = channels(x) / n
        t = x - _across(x, high)
        low, square = moments(t, channels, n)
        var = xp.maximum(square - low * low, 0)
        if running_mean is not None:
            for old, new in ((running_mean, high + low), (running_var, var * (n / (n - 1)))):
                old[...] = _wide(old) * (1 - momentum) + new * momentum
        scale = 1 / xp.sqrt(var + eps)
        if weight is not None:
            scale = scale * _wide(weight)
        shift = -low * scale if bias is None else _wide(bias) - low * scale
        out = affine(t, _across(x, scale), _across(x, shift))
        return out.astype(dtype, copy=False), xp.stack([high, low]), var

    def batch_norm_inference(x, weight, bias, mean, var, eps, out=None):
        scale = 1 / xp.sqrt(var + eps)
        if weight is not None:
            scale = scale * weight
        t = xp.multiply(x, _across(x, scale), out=out) if mean is None else xp.subtract(x, _across(x, mean), out=out)
        return affine(t, None if mean is None else _across(x, scale), _across(x, bias))

    def batch_norm_sums(g, x, mean, var, eps, training):
        g, x, var = _wide(g), _wide(x), _wide(var)
        high, low = _two(_wide(mean))
        total = channels(g)
        t = _less(x, _across(x, high))
        t *= g
        first = channels(t)
        if low is not None:
            first -= low * total
        return xp.stack([first / xp.sqrt(var + eps), total])

    def batch_norm_backward(g, x, weight, mean, var, sums, eps, out=None):
        n = max(x.size // max(x.shape[1], 1), 1)
        rstd = 1 / xp.sqrt(var + eps)
        slope = sums[0] / n * rstd
        t = xp.subtract(x, _across(x, mean[0]), out=out)
        t *= _across(x, -slope)
        t += g
        t -= _across(x, sums[1] / n - slope * mean[1])
        t *= _across(x, rstd if weight is None else rstd * weight)
        return t

    functions = (
        layer_norm, rms_norm, layer_norm_backward, layer_norm_sums,
        batch_norm_training, batch_norm_inference, batch_norm_sums, batch_norm_backward,
    )  # fmt: skip
    return {f.__name__: f for f in functions}
