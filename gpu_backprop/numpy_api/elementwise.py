"""Functions of single elements, comparisons of arrays, and NumPy's names for what the standard names otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..array_api import data_type_functions as types
from ..array_api import elementwise_functions as standard
from ..array_api.creation_functions import ones_like
from ..array_api.manipulation_functions import broadcast_shapes
from ..core import dtypes
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops.reduction import as_real
from .operands import floats, tensors

ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "around": "round", "bitwise_not": "bitwise_invert", "conjugate": "conj",
    "fix": "trunc", "invert": "bitwise_invert", "left_shift": "bitwise_left_shift", "mod": "remainder",
    "power": "pow", "right_shift": "bitwise_right_shift", "true_divide": "divide",
}  # fmt: skip
_UNARY = ("cbrt", "exp2", "sinc")
_BINARY = ("fmax", "fmin", "fmod", "heaviside", "logaddexp2")

__all__ = [
    *ALIASES,
    *_UNARY,
    *_BINARY,
    *("allclose", "angle", "array_equal", "array_equiv", "deg2rad", "degrees", "divmod", "fabs", "float_power"),
    *("isclose", "iscomplex", "iscomplexobj", "isneginf", "isposinf", "isreal", "isrealobj", "isscalar", "modf"),
    *("nan_to_num", "rad2deg", "radians", "real_if_close", "rint"),
]

globals().update({name: getattr(standard, target) for name, target in ALIASES.items()})
globals().update({name: standard.unary(getattr(ew, name)) for name in _UNARY})
globals().update({name: standard.binary(getattr(ew, name)) for name in _BINARY})


def fabs(x: Any, /) -> Tensor:
    """The absolute value, as a float."""
    return ew.abs(floats(x))


def rint(x: Any, /) -> Tensor:
    """The nearest integer (of halves the even one), as a float."""
    return ew.round(floats(x))


def float_power(x1: Any, x2: Any, /) -> Tensor:
    """`x1` to the power `x2`, in float64 at least."""
    wide = []
    for given, x in zip((x1, x2), tensors("float_power", x1, x2)):
        dtype = types.result_type(x, dtypes.float64)  # numbers and lists have digits that the other's dtype has not
        wide.append(x.astype(dtype) if hasattr(given, "dtype") else asarray(given, dtype=dtype, device=x.device))
    return ew.pow(*wide)


def divmod(x1: Any, x2: Any, /) -> tuple[Tensor, Tensor]:
    """`floor_divide` and `remainder` at once."""
    x1, x2 = tensors("divmod", x1, x2)
    return ew.floor_divide(x1, x2), ew.remainder(x1, x2)


def deg2rad(x: Any, /) -> Tensor:
    """Degrees as radians."""
    return floats(x) * (math.pi / 180)


def rad2deg(x: Any, /) -> Tensor:
    """Radians as degrees."""
    return floats(x) * (180 / math.pi)


radians, degrees = deg2rad, rad2deg


def angle(z: Any, /, deg: bool = False) -> Tensor:
    """The angle of complex numbers in the plane, from -pi to pi (from -180 to 180 with `deg`)."""
    z = floats(z)
    turned = ew.atan2(*((ew.imag(z), ew.real(z)) if z.dtype.kind == "c" else (0.0, z)))
    return rad2deg(turned) if deg else turned


def modf(x: Any, /) -> tuple[Tensor, Tensor]:
    """The parts behind and before the point, both of the sign of `x`; an infinite number has 0 behind it."""
    x = floats(x)
    whole = ew.trunc(x)
    return ew.where(ew.isinf(x), 0, x - whole), whole


def nan_to_num(x: Any, /, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    """`x` with numbers in place of NaN and the infinities (by default 0, and the dtype's largest and smallest)."""
    x = asarray(x)
    if x.dtype.kind == "c":
        if any(isinstance(value, float) and not math.isfinite(value) for value in (nan, posinf, neginf)):
            raise DataError(
                f"nan_to_num: nan={nan}, posinf={posinf}, neginf={neginf} for {x.dtype}; give finite numbers"
            )
        real, imag = (nan_to_num(part(x), copy, nan, posinf, neginf) for part in (ew.real, ew.imag))
        return real + 1j * imag
    if not dtypes.is_floating(x.dtype):
        return x.copy() if copy else x
    limits = types.finfo(x.dtype)
    out = ew.where(ew.isnan(x), _stand_in(x, nan), x)
    out = ew.where(ew.equal(x, math.inf), limits.max if posinf is None else _stand_in(x, posinf), out)
    return ew.where(ew.equal(x, -math.inf), limits.min if neginf is None else _stand_in(x, neginf), out)


def _stand_in(x: Tensor, value: Any) -> Any:
    """What stands in for elements of `x`: a number, or an array that broadcasts to its shape, in its dtype."""
    if isinstance(value, (int, float)):
        return value
    _, value = tensors("nan_to_num", x, value)
    if value.dtype.kind == "c":
        raise DTypeError(f"nan_to_num: {value.dtype} in the place of {x.dtype}; give real numbers")
    if broadcast_shapes(x.shape, value.shape) != x.shape:
        raise ShapeError(f"nan_to_num: shape {list(value.shape)} in the place of {list(x.shape)}; give one number each")
    return value.astype(x.dtype, copy=False)


# ---------------------------------------------------------------------------------------------------------------------
# questions


def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tensor:
    """True where |a - b| <= atol + rtol |b|, or both are the same infinity (or NaN, with `equal_nan`)."""
    a, b = tensors("isclose", a, b)
    if b.dtype.kind in "biu":
        b = floats(b)
    with np.errstate(invalid="ignore"):  # of infinities
        near = ew.less_equal(ew.abs(a - b), ew.abs(b) * rtol + atol)
    close = ew.logical_or(ew.logical_and(near, ew.isfinite(b)), ew.equal(a, b))
    return ew.logical_or(close, ew.logical_and(ew.isnan(a), ew.isnan(b))) if equal_nan else close


def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> bool:
    """Is `isclose` true everywhere? A Python bool, for which a GPU is waited for."""
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    """Are shapes and all elements equal? A Python bool, for which a GPU is waited for."""
    a1, a2 = tensors("array_equal", a1, a2)
    if a1.shape != a2.shape:
        return False
    same = ew.equal(a1, a2)
    return bool((ew.logical_or(same, ew.logical_and(ew.isnan(a1), ew.isnan(a2))) if equal_nan else same).all())


def array_equiv(a1: Any, a2: Any) -> bool:
    """Are all elements equal once the shapes are broadcast? A Python bool."""
    a1, a2 = tensors("array_equiv", a1, a2)
    try:
        broadcast_shapes(a1.shape, a2.shape)
    except ShapeError:
        return False
    return bool(ew.equal(a1, a2).all())


def isreal(x: Any, /) -> Tensor:
    """True where the imaginary part is zero."""
    x = asarray(x)
    return ew.equal(ew.imag(x), 0) if x.dtype.kind == "c" else ones_like(x, dtype=dtypes.bool_)


def iscomplex(x: Any, /) -> Tensor:
    """True where the imaginary part is not zero."""
    return ew.logical_not(isreal(x))


def iscomplexobj(x: Any, /) -> bool:
    """Is the dtype complex?"""
    return asarray(x).dtype.kind == "c"


def isrealobj(x: Any, /) -> bool:
    """Is the dtype not complex?"""
    return not iscomplexobj(x)


def isscalar(element: Any, /) -> bool:
    """Is it a number or a text (and not an array, of no axes or more)?"""
    import numbers

    return isinstance(element, (numbers.Number, str, bytes, np.generic))


def isposinf(x: Any, /) -> Tensor:
    """True where x is +infinity."""
    return ew.equal(_ordered("isposinf", x), math.inf)


def isneginf(x: Any, /) -> Tensor:
    """True where x is -infinity."""
    return ew.equal(_ordered("isneginf", x), -math.inf)


def _ordered(name: str, x: Any) -> Tensor:
    x = asarray(x)
    if x.dtype.kind == "c":
        raise DTypeError(f"{name}: {x.dtype} has no order; use gb.isinf, or gb.real and gb.imag")
    return x


def real_if_close(a: Any, tol: float = 100) -> Tensor:
    """The real parts, if all imaginary ones are below `tol` (machine epsilons, or absolute if below 1); else `a`."""
    a = asarray(a)
    if a.dtype.kind != "c":
        return a
    tol = as_real("real_if_close", "tol", tol)
    bound = tol * types.finfo(a.dtype).eps if tol > 1 else tol
    return ew.real(a) if bool((ew.abs(ew.imag(a)) < bound).all()) else a
