"""https://data-apis.org/array-api/latest/API_specification/elementwise_functions.html

Each is the primitive of the same name; operands broadcast and promote, Python numbers take the array's dtype.
"""

from __future__ import annotations

from typing import Any

from ..core import dtypes
from ..core.errors import DataError, DTypeError
from ..core.operators import one, two
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import elementwise as ew
from ..ops.primitive import Primitive
from ..ops.reduction import as_integer

_UNARY = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bitwise_invert", "ceil", "conj", "cos", "cosh"),
    *("exp", "expm1", "floor", "imag", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not"),
    *("negative", "real", "reciprocal", "sign", "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
    "trunc",
)
_BINARY = (
    *("add", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor"),
    *("copysign", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less", "less_equal"),
    *("logaddexp", "logical_and", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "nextafter"),
    *("not_equal", "pow", "remainder", "subtract"),
)
__all__ = [*_UNARY, *_BINARY, "clip", "positive", "round"]


def unary(primitive: Primitive) -> Any:
    """The public function of a primitive with one operand."""
    return _named(one(primitive), primitive)


def binary(primitive: Primitive) -> Any:
    """The public function of a primitive with two operands."""
    return _named(two(primitive), primitive)


def _named(function: Any, primitive: Primitive) -> Any:
    function.__name__ = function.__qualname__ = primitive.name
    function.__module__ = "gpu_backprop"
    function.__doc__ = f"Elementwise {primitive.name.replace('_', ' ')}; see the array API standard."
    return function


globals().update({name: unary(getattr(ew, name)) for name in _UNARY})
globals().update({name: binary(getattr(ew, name)) for name in _BINARY})


def clip(x: Any, /, min: Any = None, max: Any = None, *, a_min: Any = None, a_max: Any = None) -> Tensor:
    """`x` with values below `min` raised to it and above `max` lowered to it; either bound may be None.

    a_min, a_max: NumPy's other names of them.
    """
    if (min is not None and a_min is not None) or (max is not None and a_max is not None):
        raise DataError("clip: min and a_min (or max and a_max) are one thing; give one of them")
    min, max = a_min if min is None else min, a_max if max is None else max
    x, lo, hi = as_operands("clip", (x, min, max))
    if not isinstance(x, Tensor):
        bounds = [bound for bound in (lo, hi) if bound is not None]
        device = next(bound.device for bound in bounds if isinstance(bound, Tensor))
        x = asarray(x, dtype=dtypes.result_type(x, *bounds), device=device)
    for bound in (lo, hi):
        if isinstance(bound, float) and not dtypes.is_floating(x.dtype):
            raise DTypeError(f"clip: a float bound {bound} for an array of {x.dtype}; cast one of them")
    if lo is None and hi is None:
        return x.copy()
    if lo is None:
        return ew.minimum(x, hi)
    return ew.maximum(x, lo) if hi is None else ew.clip(x, lo, hi)


def positive(x: Any, /) -> Tensor:
    """A copy of `x`."""
    return asarray(x).copy()


def round(x: Any, /, decimals: int = 0) -> Tensor:
    """The nearest integers (of halves the even one), or the nearest multiples of 10^-decimals."""
    decimals = as_integer("round", "decimals", decimals)
    if abs(decimals) > 308:
        raise DataError(f"round: decimals={decimals}; floats have no digits there, use -308 to 308")
    if not decimals:
        return ew.round(x)
    x = asarray(x)
    if not dtypes.is_inexact(x.dtype) and decimals > 0:
        return x.copy()
    wide, unit = (
        x if dtypes.is_inexact(x.dtype) else x.astype(dtypes.float64),
        10.0 ** (decimals if decimals > 0 else -decimals),
    )
    rounded = ew.round(wide * unit) / unit if decimals > 0 else ew.round(wide / unit) * unit
    return rounded.astype(x.dtype, copy=False)
