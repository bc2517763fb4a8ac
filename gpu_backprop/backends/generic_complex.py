"""Functions of complex numbers for which array modules have other special values than the array API standard."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over complex arrays of `xp`."""

    def expm1(z):
        with np.errstate(all="ignore"):
            e = xp.exp(z)
            a, b = z.real, z.imag
            # e^z - 1 loses digits where the real part of e^z is near 1
            near = xp.isfinite(e.real) & xp.isfinite(a) & (xp.abs(e.real) < 2)
            exact = xp.expm1(a) * xp.cos(b) - 2 * xp.sin(b / 2) ** 2 + 0.0  # + 0: never -0
            return _complex(xp.where(near, exact, e.real - 1), e.imag)

    def log1p(z):
        a, b = z.real, z.imag
        with np.errstate(all="ignore"):
            near = (xp.abs(a) < 0.5) & (xp.abs(b) < 0.5)  # where log |1 + z| loses the digits of z
            real, imag = polar(_complex(a + 1, b))
            return _complex(xp.where(near, xp.log1p(a * (a + 2) + b * b) / 2, real), imag)

    def tanh(z):
        with np.errstate(all="ignore"):
            result = xp.tanh(z)
            ends = xp.isinf(z.real) & xp.isfinite(z.imag)  # where the sign of sin(2b) would be that of the zero
            return _complex(result.real, xp.where(ends, xp.copysign(xp.zeros_like(z.imag), z.imag), result.imag))

    # CuPy's of finite numbers, and the limits elsewhere, which it has otherwise

    def cupy_tanh(z):
        a, b, nan = z.real, z.imag, z.real.dtype.type(np.nan)
        result, endless = xp.tanh(z), xp.isinf(a)
        no_turn = ~xp.isfinite(b)  # no angle: all is lost but a real part of 0
        real = xp.where(endless, xp.copysign(xp.ones_like(a), a), xp.where(no_turn & (a != 0), nan, result.real))
        real = xp.where(no_turn & (a == 0), a, xp.where(xp.isnan(a), nan, real))
        imag = xp.where(endless, xp.copysign(xp.zeros_like(b), xp.where(xp.isnan(b), b.dtype.type(0), b)), result.imag)
        imag = xp.where(no_turn & ~endless, nan, xp.where(xp.isnan(a), xp.where(b == 0, b, nan), imag))
        return _complex(real, imag)

    def cupy_tan(z):
        turned = cupy_tanh(_complex(-z.imag, z.real))  # tan z = -i tanh iz
        return _complex(turned.imag, -turned.real)

    def operands(x, y):
        """Two arrays or numbers in complex128, and the dtype of what is made of them.

        CuPy's kernels take float32's subnormal numbers for 0, among them what lies between in a quotient of huge ones.
        """
        dtype = np.result_type(*(getattr(operand, "dtype", operand) for operand in (x, y)))
        return (*(xp.asarray(operand, dtype=np.complex128) for operand in (x, y)), dtype)

    def cupy_divide(x, y):
        """R. Smith's (Communications of the ACM 5, 1962), as NumPy has it: CuPy's of an infinite divisor is NaN."""
        x, y, dtype = operands(x, y)
        turned = xp.abs(y.real) < xp.abs(y.imag)
        a, b = xp.where(turned, x.imag, x.real), xp.where(turned, x.real, x.imag)
        c, d = xp.where(turned, y.imag, y.real), xp.where(turned, y.real, y.imag)
        zero = (c == 0) & (d == 0)  # each part is divided by it
        with np.errstate(all="ignore"):
            ratio = d / c
            scale = 1 / xp.where(zero, xp.abs(c), c + d * ratio)
            real = xp.where(zero, a, a + b * ratio) * scale
            imag = xp.where(zero, b, b - a * ratio) * scale
            return _complex(real, xp.where(turned, -imag, imag)).astype(dtype)

    def cupy_reciprocal(z):
        return cupy_divide(1, z)

    def ordered(compare):
        """By real parts, then by imaginary ones; of NaN never true."""

        def run(x, y):
            x, y, _ = operands(x, y)
            known = ~(xp.isnan(x.imag) | xp.isnan(y.imag))
            return xp.where(x.real == y.real, compare(x.imag, y.imag), compare(x.real, y.real) & known)

        return run

    def cupy_sign(z):
        """z / |z|; beside one infinite part the other vanishes."""
        a, b = z.real, z.imag
        endless, zero, one = xp.isinf(a) ^ xp.isinf(b), xp.zeros_like(a), xp.ones_like(a)
        endless &= ~xp.isnan(z)
        real, imag = (xp.where(xp.isinf(part), xp.copysign(one, part), zero) for part in (a, b))
        return either_way(z, ~endless, xp.sign(z), real, imag)

    def polar(z):
        """log |z| and the angle of z, for numbers that are 0 or not finite."""
        return xp.log(xp.hypot(z.real, z.imag)), xp.arctan2(z.imag, z.real)

    def either_way(z, usual, result, real, imag):
        return _complex(xp.where(usual, result.real, real), xp.where(usual, result.imag, imag))

    def cupy_log(z):
        return either_way(z, xp.isfinite(z) & (z != 0), xp.log(z), *polar(z))

    def scaled(scale):
        def run(z):
            result = cupy_log(z)
            return _complex(result.real * scale, result.imag * scale)

        return run

    def cupy_acosh(z):
        a, b, quarter = z.real, z.imag, z.real.dtype.type(math.pi / 2)
        real, imag = polar(z)
        real = xp.where(z == 0, a.dtype.type(0), real)
        imag = xp.where(a == 0, xp.copysign(xp.full_like(b, quarter), b), imag)
        return either_way(z, xp.isfinite(z) & (z != 0), xp.arccosh(z), real, imag)

    def _complex(real, imag):
        result = xp.empty(real.shape, np.result_type(real.dtype, np.complex64))
        result.real, result.imag = real, imag
        return result

    if xp is np:
        return {"expm1": expm1, "log1p": log1p, "tanh": tanh}
    own = (cupy_acosh, cupy_divide, cupy_log, cupy_reciprocal, cupy_sign, cupy_tan, cupy_tanh)
    comparisons = ("greater", "greater_equal", "less", "less_equal")
    return (
        {f.__name__.removeprefix("cupy_"): f for f in own}
        | {name: ordered(getattr(xp, name)) for name in comparisons}
        | {"expm1": expm1, "log1p": log1p, "log2": scaled(1 / math.log(2)), "log10": scaled(1 / math.log(10))}
    )


def either(real: Callable[..., Any], of_complex: Callable[..., Any]) -> Callable[..., Any]:
    """A function by the dtypes of its operands: arrays and Python numbers."""

    @functools.wraps(real)
    def run(*operands: Any, out: Any = None, **attrs: Any) -> Any:
        if all(getattr(x, "dtype", np.dtype(type(x))).kind != "c" for x in operands):
            return real(*operands, **attrs) if out is None else real(*operands, out=out, **attrs)
        if out is None:
            return of_complex(*operands)
        out[...] = of_complex(*operands)
        return out

    return run
