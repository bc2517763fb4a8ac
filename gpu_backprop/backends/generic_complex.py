"""Functions of complex numbers for which array modules have other special values than the array API standard."""

from __future__ import annotations

import functools
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

    def _complex(real, imag):
        result = xp.empty(real.shape, np.result_type(real.dtype, np.complex64))
        result.real, result.imag = real, imag
        return result

    return {"expm1": expm1, "tanh": tanh}


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
