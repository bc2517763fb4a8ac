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

    def polar(z):
        """log |z| and the angle of z, for numbers that are 0 or not finite."""
        return xp.log(xp.hypot(z.real, z.imag)), xp.arctan2(z.imag, z.real)

    def either_way(z, usual, result, real, imag):
        return _complex(xp.where(usual, result.real, real), xp.where(usual, result.imag, imag))

    def cupy_log(z):
        return either_way(z, xp.isfinite(z) & (z != 0), xp.log(z), *polar(z))

    def cupy_log1p(z):
        return either_way(z, xp.isfinite(z) & (z != -1), xp.log1p(z), *polar(_complex(z.real + 1, z.imag)))

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
        return {"expm1": expm1, "tanh": tanh}
    return {"acosh": cupy_acosh, "expm1": expm1, "log": cupy_log, "log1p": cupy_log1p, "tanh": cupy_tanh}


def either(real: Callable[..., Any], of_complex: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one array by its dtype."""

    @functools.wraps(real)
    def run(x: Any, out: Any = None, **attrs: Any) -> Any:
        if x.dtype.kind != "c":
            return real(x, **attrs) if out is None else real(x, out=out, **attrs)
        if out is None:
            return of_complex(x)
        out[...] = of_complex(x)
        return out

    return run
