"""Functions that array modules lack, written once over any of them (NumPy or CuPy).

`table(xp)` is where every backend starts; a backend puts something better over an entry. `EXACT` names the functions
that 16-bit floats may use as they are; the others go through `in_float32`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..ops import indexing
from . import draws, generic_complex, generic_indexing, generic_linalg, generic_losses, generic_norms, generic_sorting
from .base import Functions
from .faults import fault

EXACT = frozenset(
    (
        "accuracy",
        "alias",
        "astype",
        "batch_norm_sums",
        "batch_norm_training",
        "broadcast_to",
        "class_indices",
        "concat",
        "copy",
        "embedding",
        "flip",
        "getitem",
        "nextafter",
        "permute_dims",
        "relu_bias_backward",
        "reorder",
        "reshape",
        "roll",
        "take",
        "take_along_axis",
        "unstack",
    )
)

# primitives that array modules know by another name
ALIASES = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan", "atan2": "arctan2",
    "atanh": "arctanh", "pow": "power", "concat": "concatenate", "permute_dims": "transpose",
    "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
}  # fmt: skip


def lookup(xp: Any, name: str) -> Callable[..., Any]:
    """The array module's function for a primitive that the table does not hold."""
    return getattr(xp, ALIASES.get(name, name))


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with 16-bit floats computed in float32 and rounded once at the end."""

    @functools.wraps(function)
    def run(*arrays: Any, out: Any = None, **attrs: Any) -> Any:
        half = next((a.dtype for a in arrays if hasattr(a, "dtype") and dtypes.is_half(a.dtype)), None)
        if half is None:
            return function(*arrays, **attrs) if out is None else function(*arrays, out=out, **attrs)
        wide = [a.astype(np.float32) if hasattr(a, "dtype") and dtypes.is_half(a.dtype) else a for a in arrays]
        result = function(*wide, **attrs)
        if isinstance(result, tuple):  # an output and its residuals, which stay float32
            return put_all((_narrow(result[0], half), *result[1:]), out)
        result = _narrow(result, half)
        if out is not None:
            out[...] = result
            return out
        return result

    return run


def aware(native: Functions, xp: Any) -> Functions:
    """The functions of `native`, right for 16-bit floats and the special values of complex numbers too."""
    of_complex = generic_complex.table(xp)

    def make(name: str) -> Callable[..., Any]:
        function = native[name] if name in EXACT else in_float32(native[name])
        return generic_complex.either(function, of_complex[name]) if name in of_complex else function

    return Functions(make)


def _narrow(result: Any, half: np.dtype) -> Any:
    return result.astype(half) if result.dtype == np.float32 else result


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    # activations ----------------------------------------------------------------------------------------------------

    def relu(x, out=None):
        if x.dtype.kind == "c":
            raise TypeError("not defined for complex numbers")
        return xp.maximum(x, 0, out=out)

    def relu_backward(g, y, out=None):
        return xp.multiply(g, y > 0, out=out)

    def sigmoid(x, out=None):
        # 1 / (1 + e^-x), or e^x / (1 + e^x) below 0: no overflow, and small values keep all their digits
        e = xp.exp(-xp.abs(x))
        return xp.divide(xp.where(x >= 0, e.dtype.type(1), e), e + 1, out=out)

    def sigmoid_backward(g, y, out=None):
        return xp.multiply(g, y * (1 - y), out=out)

    def tanh_backward(g, y, out=None):
        return xp.multiply(g, 1 - y * y, out=out)

    def leaky_relu(x, negative_slope, out=None):
        return _put(xp.where(x > 0, x, x * negative_slope), out)

    def leaky_relu_backward(g, x, negative_slope, out=None):
        return _put(xp.where(x > 0, g, g * negative_slope), out)

    def elu(x, alpha, out=None):
        return _put(xp.where(x > 0, x, xp.expm1(xp.minimum(x, 0)) * alpha), out)

    def elu_backward(g, x, alpha, out=None):
        return _put(xp.where(x > 0, g, g * xp.exp(xp.minimum(x, 0)) * alpha), out)

    def silu(x, out=None):
        return xp.multiply(x, sigmoid(x), out=out)

    def silu_backward(g, x, out=None):
        s = sigmoid(x)
        return xp.multiply(g, s * (1 + x * (1 - s)), out=out)

    def softplus(x, beta, threshold, out=None):
        scaled = x * beta
        smooth = (xp.maximum(scaled, 0) + xp.log1p(xp.exp(-xp.abs(scaled)))) / beta
        return _put(xp.where(scaled > threshold, x, smooth), out)

    def softplus_backward(g, x, beta, threshold, out=None):
        scaled = x * beta
        return _put(xp.where(scaled > threshold, g, g * sigmoid(scaled)), out)

    def gelu(x, approximate, out=None):
        if approximate == "tanh":
            u = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return xp.multiply(x * 0.5, 1 + xp.tanh(u), out=out)
        return xp.multiply(x * 0.5, 1 + erf(x * math.sqrt(0.5)), out=out)

    def gelu_backward(g, x, approximate, out=None):
        if approximate == "tanh":
            c = math.sqrt(2 / math.pi)
            t = xp.tanh(c * (x + 0.044715 * x * x * x))
            slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
        else:
            density = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
            slope = 0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density
        return xp.multiply(g, slope, out=out)

    def erf(x, out=None):
        return _put(_erf(xp, x), out)

    def clip(x, lo, hi, out=None):
        return xp.minimum(xp.maximum(x, lo), hi, out=out)

    def where(condition, x, y, out=None):
        dtype = x.dtype if hasattr(x, "dtype") else y.dtype if hasattr(y, "dtype") else None
        return _put(xp.where(condition, xp.asarray(x, dtype=dtype), xp.asarray(y, dtype=dtype)), out)

    def floor_divide(x, y, out=None):
        # Of infinities array modules have NaN or -1, the standard the limits: those of the quotient. `out` may be x or
        # y, which then have to be looked at beforehand.
        if out is None:
            result = xp.floor_divide(x, y)
            if result.dtype.kind != "f" or (xp is np and _is_finite(result - y)):
                return result
        elif out.dtype.kind != "f" or (xp is np and _is_finite(x) and _is_finite(y)):
            return xp.floor_divide(x, y, out=out)
        with np.errstate(invalid="ignore", divide="ignore"):
            return _put(xp.where(xp.isinf(x) | xp.isinf(y), xp.true_divide(x, y), xp.floor_divide(x, y)), out)

    # reductions -----------------------------------------------------------------------------------------------------

    def var(x, axis, correction, keepdims):
        return xp.var(x, axis=axis, ddof=correction, keepdims=keepdims)

    def count_nonzero(x, axis, keepdims):
        return xp.sum(x != 0, axis=axis, dtype=np.int64, keepdims=keepdims)

    def logsumexp(x, axis, keepdims, out=None):
        top = xp.max(x, axis=axis, keepdims=True) if x.size else xp.full((1,) * x.ndim, -xp.inf, x.dtype)
        top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        with np.errstate(divide="ignore"):
            result = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
        return _put(result if keepdims else xp.squeeze(result, axis=axis), out)

    def prod_of_others(x, axis):
        rest = tuple(i for i in range(x.ndim) if i not in axis)
        moved = xp.transpose(x, rest + axis)
        flat = moved.reshape(*moved.shape[: len(rest)], math.prod(x.shape[i] for i in axis))
        ones = xp.ones_like(flat[..., :1])
        before = xp.cumprod(xp.concatenate([ones, flat[..., :-1]], axis=-1), axis=-1)
        after = xp.cumprod(xp.concatenate([ones, flat[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        return xp.transpose((before * after).reshape(moved.shape), [(rest + axis).index(i) for i in range(x.ndim)])

    # products, softmax, losses --------------------------------------------------------------------------------------

    def linear(x, weight, bias, out=None):
        out = xp.matmul(x, weight.T, out=out) if out is not None else xp.matmul(x, weight.T)
        if bias is not None:
            xp.add(out, bias, out=out)
        return out

    def linear_relu(x, weight, bias, out=None):
        out = linear(x, weight, bias, out)
        return xp.maximum(out, 0, out=out)

    def relu_bias_backward(g, y, out=None):
        dx = relu_backward(g, y)
        wide = dx.astype(np.float32) if dtypes.is_half(dx.dtype) else dx  # two results: each rounded once
        return put_all((dx, xp.sum(wide, axis=tuple(range(dx.ndim - 1))).astype(dx.dtype, copy=False)), out)

    def linear_weight_gradient(g, x, out=None):
        if g.ndim != 2:
            g, x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        return xp.dot(g.T, x, out=out)

    def softmax(x, axis, out=None):
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True)) if x.size else x.copy()
        return xp.divide(e, xp.sum(e, axis=axis, keepdims=True), out=out)

    def softmax_backward(g, y, axis, out=None):
        return xp.multiply(y, g - xp.sum(g * y, axis=axis, keepdims=True), out=out)

    def log_softmax(x, axis, out=None):
        return xp.subtract(x, logsumexp(x, (axis,), True) if x.size else x, out=out)

    def log_softmax_backward(g, y, axis, out=None):
        return xp.subtract(g, xp.exp(y) * xp.sum(g, axis=axis, keepdims=True), out=out)

    def softmax_cross_entropy(x, labels, weight, reduction, ignore_index, label_smoothing, out=None):
        n, c = x.shape
        counts = labels != ignore_index
        bad = counts & ((labels < 0) | (labels >= c))
        if xp is np and bad.any():
            row = int(np.argmax(bad))
            raise fault("cross_entropy", int(labels[row]), row, c)
        safe = xp.where(counts & ~bad, labels, 0)
        top = xp.max(x, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # an infinite maximum gives NaN
            mass = xp.sum(xp.exp(x - top), axis=1)
        log_mass = xp.log(mass)
        w = xp.ones_like(mass) if weight is None else weight[safe]
        w = xp.where(counts, w, xp.zeros_like(w))
        # An ignored row may hold anything, NaN included: it is left out, not multiplied by zero.
        none = xp.zeros_like(mass)
        loss = xp.where(counts, (top[:, 0] - x[xp.arange(n), safe]) + log_mass, none) * w * (1 - label_smoothing)
        if label_smoothing:
            every = (top - x) + log_mass[:, None]
            every = xp.where(counts, xp.sum(every if weight is None else every * weight, axis=1), none)
            loss = loss + every * (label_smoothing / c)
        total = xp.sum(w)
        if reduction == "none":
            return put_all((loss, top, mass, total), out)
        loss = xp.sum(loss)
        with np.errstate(invalid="ignore"):
            return put_all((loss / total if reduction == "mean" else loss, top, mass, total), out)

    def softmax_cross_entropy_backward(
        g, x, labels, weight, top, mass, total, reduction, ignore_index, label_smoothing, out=None
    ):
        n, c = x.shape
        counts = labels != ignore_index
        safe = xp.where(counts, labels, 0)
        rows = xp.arange(n)
        w = counts.astype(x.dtype) if weight is None else weight[safe] * counts
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = g if reduction != "mean" else g / total
            row_scale = scale * w * (1 - label_smoothing)
        result = xp.exp(x - top)
        if label_smoothing:
            each = xp.ones(c, x.dtype) if weight is None else weight
            share = (scale * counts) * (label_smoothing / c)
            result *= ((row_scale + share * xp.sum(each)) / mass)[:, None]
            result -= share[:, None] * each
        else:
            result *= (row_scale / mass)[:, None]
        result[rows, safe] -= row_scale
        return _put(xp.where(counts[:, None], result, xp.zeros_like(result)), out)

    def class_indices(x):
        return xp.arange(x.shape[1])

    # movement and indexing ------------------------------------------------------------------------------------------

    def astype(x, dtype, out=None):
        if out is None:
            return x.astype(dtype)
        out[...] = x
        return out

    def copy(x):
        return x.copy()

    def reshape(x, shape):
        return x.reshape(shape)

    def concat(*xs, axis):
        return xp.concatenate(xs, axis=axis)

    def getitem(x, *arrays, index):
        return x[indexing.fill(index, arrays)]

    def getitem_backward(g, *arrays, index, shape):
        result = xp.zeros(shape, g.dtype)
        if not arrays:
            result[index] = g
        elif any(a.dtype.kind == "b" for a in arrays) and len(index) == 1:
            result[arrays[0]] = g  # a mask names each element once
        else:
            _add_at(xp, result, indexing.fill(index, arrays), g)
        return result

    def take(x, indices, axis):
        n = x.shape[axis]
        if xp is np and indices.size and (indices.min() < -n or indices.max() >= n):
            bad = indices[(indices < -n) | (indices >= n)].flat[0]
            raise IndexError(f"index {bad} is out of bounds for axis {axis} of length {n}")
        return xp.take(x, indices, axis=axis)

    def take_backward(g, indices, axis, shape):
        result = xp.zeros(shape, g.dtype)
        _add_at(xp, result, (slice(None),) * axis + (indices,), g)
        return result

    def dropout(x, p, key, offset, out=None):
        keep = xp.asarray(draws.dropout_mask(key, offset, x.shape, p))
        scale = 1.0 / (1.0 - p) if p < 1 else 0.0
        return _put(xp.where(keep, x * scale, xp.zeros_like(x)), out)

    def pow(x, y, out=None):
        if y.__class__ is not float or y != 0.5 or x.dtype.kind != "f":
            return np.power(x, y) if out is None else np.power(x, y, out=out)
        # NumPy takes the root, which of -inf is NaN and of -0 is -0; the powers are inf and 0
        return _put(np.where(x == -math.inf, x.dtype.type(math.inf), np.sqrt(x + x.dtype.type(0))), out)

    def sign(x, out=None):
        if x.dtype.kind == "b":  # CuPy's is 1
            raise TypeError("not defined for bools")
        return xp.sign(x, out=out)

    def sinc(x, out=None):
        return _put(xp.where(xp.isnan(x), x, xp.sinc(x)), out)  # CuPy's of NaN is 1

    functions = (
        astype, copy, reshape, concat, getitem, take, class_indices, floor_divide,
        relu, relu_backward, sigmoid, sigmoid_backward, tanh_backward, leaky_relu, leaky_relu_backward, elu,
        elu_backward, silu, silu_backward, softplus, softplus_backward, gelu, gelu_backward, erf, clip, where, var,
        count_nonzero, logsumexp, prod_of_others, linear, linear_relu, linear_weight_gradient, relu_bias_backward,
        softmax, softmax_backward, log_softmax, log_softmax_backward,
        softmax_cross_entropy, softmax_cross_entropy_backward, getitem_backward, take_backward, dropout,
    )  # fmt: skip
    own = {f.__name__: f for f in functions + ((pow,) if xp is np else (sign, sinc))}
    for family in (generic_losses, generic_norms, generic_sorting, generic_linalg):
        own |= family.table(xp)
    return own | generic_indexing.table(xp, own)


def _is_finite(x: Any) -> bool:
    """Is a number finite, are all of a NumPy array?"""
    return np.count_nonzero(np.isfinite(x)) == x.size if isinstance(x, np.ndarray) else x - x == 0


def _put(result: Any, out: Any) -> Any:
    if out is None:
        return result
    out[...] = result
    return out


def put_all(results: tuple[Any, ...], out: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """The results of a function that has several, written into `out` if it is given."""
    if out is None:
        return results
    for place, result in zip(out, results):
        place[...] = result
    return out


def _add_at(xp: Any, target: Any, index: Any, values: Any) -> None:
    """target[index] += values, repeated indices adding up in order (no atomics: a run repeats bit for bit)."""
    if xp is np:
        np.add.at(target, index, values)
        return
    # CuPy's scatter_add uses atomics: sort the flat positions (stably) and add up the runs instead. Its reduceat takes
    # differences of running sums: exact for integers, and for them alone; floats have a kernel (launching/indexing.py).
    if not target.size or not values.size:
        return
    places = xp.arange(target.size).reshape(target.shape)[index].ravel()
    values = xp.broadcast_to(values, xp.arange(target.size).reshape(target.shape)[index].shape).ravel()
    order = xp.argsort(places, kind="stable")
    places, values = places[order], values[order]
    starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), places[1:] != places[:-1]]))
    target.ravel()[places[starts]] = xp.add.reduceat(values, starts)


def _erf(xp: Any, x: Any) -> Any:
    """erf by W. J. Cody's rational approximations (Math. Comp. 23, 1969), to double precision."""
    if xp is not np:
        from cupyx.scipy.special import erf

        return erf(x)
    a = np.abs(x).astype(np.float64)
    inner, middle, outer = a <= 0.46875, (a > 0.46875) & (a <= 4.0), a > 4.0
    result = np.empty_like(a)
    z = a[inner] ** 2
    result[inner] = a[inner] * _ratio(z, _ERF_P, _ERF_Q)
    m = a[middle]
    result[middle] = 1 - np.exp(-m * m) * _ratio(m, _ERFC_P, _ERFC_Q)
    o = np.minimum(a[outer], 30.0)
    z = 1 / (o * o)
    tail = (1 / math.sqrt(math.pi) - z * _ratio(z, _TAIL_P, _TAIL_Q)) / o
    result[outer] = 1 - np.exp(-o * o) * tail
    result[np.isnan(a)] = np.nan
    return np.copysign(result, x).astype(x.dtype)


def _ratio(z: Any, p: tuple[float, ...], q: tuple[float, ...]) -> Any:
    return np.polyval(p, z) / np.polyval(q, z)


_ERF_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_ERFC_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_ERFC_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
_TAIL_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_TAIL_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip
