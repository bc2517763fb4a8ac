"""Data types and the one promotion table of all backends.

NumPy 2's rules, with bfloat16 (ml_dtypes') added: bfloat16 with an integer, a bool or a real Python scalar stays
bfloat16, with float16 it gives float32. Python scalars are weak: they take the array's dtype. A Python float beside an
integer array gives the default float dtype, a Python complex the complex dtype of the array's floats: complex128 beside
float64, else complex64; beside integers, that of the default float dtype.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .errors import DTypeError

bool_ = np.dtype("bool")
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
complex64, complex128 = (np.dtype(f"complex{bits}") for bits in (64, 128))

NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)


@cache
def bfloat16() -> np.dtype:
    """The bfloat16 dtype; ml_dtypes is imported here, at its first use."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def is_bfloat16(dtype: np.dtype) -> bool:
    return dtype.kind not in "biufc" and dtype.name == "bfloat16"


def is_floating(dtype: np.dtype) -> bool:
    """True for the four float dtypes: float16, bfloat16, float32, float64."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_inexact(dtype: np.dtype) -> bool:
    """True for the dtypes that have gradients: the float and the two complex ones."""
    return dtype.kind in "fc" or is_bfloat16(dtype)


def is_half(dtype: np.dtype) -> bool:
    """True for the 16-bit floats, which compute in float32 on the CPU."""
    return dtype.itemsize == 2 and is_floating(dtype)


def epsilon(dtype: np.dtype) -> float:
    """The distance from 1 to the next number of a float dtype."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype.name]


def as_dtype(spec: Any) -> np.dtype:
    """The supported dtype that `spec` names: a NumPy dtype, a scalar type, a Python type or a string."""
    if spec is float:
        return get_default_dtype()
    if spec is complex:
        return complex_of(get_default_dtype())
    if isinstance(spec, str) and spec == "bfloat16":
        return bfloat16()
    try:
        if spec is None:  # NumPy's float64
            raise TypeError
        dtype = np.dtype(spec)
    except TypeError:
        raise DTypeError(f"dtype: {spec!r} is not a data type; use one of {', '.join(NAMES)}") from None
    if dtype.name not in NAMES:
        raise DTypeError(f"dtype: {dtype.name} is not supported; use one of {', '.join(NAMES)}")
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    return dtype


_default = float32


def set_default_dtype(dtype: Any) -> None:
    """Set the float dtype of arrays made from Python floats, and of float results of integer arrays."""
    global _default
    dtype = as_dtype(dtype)
    if not is_floating(dtype):
        raise DTypeError(
            f"set_default_dtype: {dtype.name} is not a float dtype; use float32, float64, float16 or bfloat16"
        )
    _default = dtype


def get_default_dtype() -> np.dtype:
    """The float dtype of arrays made from Python floats (float32 unless set)."""
    return _default


def complex_of(dtype: np.dtype) -> np.dtype:
    """The complex dtype whose parts are of a float dtype, or wider (complex64 for the 16-bit ones)."""
    return complex128 if dtype in (float64, complex128) else complex64


def real_of(dtype: np.dtype) -> np.dtype:
    """The float dtype of the parts of a complex dtype; another dtype itself."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


@cache
def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an operation on arrays of dtypes `a` and `b`."""
    if a == b:
        return a
    if is_bfloat16(b):
        a, b = b, a
    if is_bfloat16(a):
        if b.kind in "biu":
            return a
        return float32 if b == float16 else b
    return np.promote_types(a, b)


def promote_scalar(dtype: np.dtype, scalar: complex) -> np.dtype:
    """The dtype of an operation on an array of `dtype` and a Python scalar."""
    if dtype.kind == "c" or isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, complex):
        return complex_of(dtype if is_floating(dtype) else get_default_dtype())
    if is_floating(dtype):
        return dtype
    if isinstance(scalar, int):
        return int64 if dtype == bool_ else dtype
    return get_default_dtype()


def _dtype_of(operand: Any) -> Any:
    """Of an array its dtype; a dtype itself, be it a scalar type of NumPy's, which has an attribute `dtype` too."""
    return operand if isinstance(operand, type) else getattr(operand, "dtype", operand)


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The dtype that arrays, dtypes and Python scalars promote to together."""
    weak = (int, float, complex)
    dtypes = [as_dtype(_dtype_of(o)) for o in arrays_and_dtypes if not isinstance(o, weak)]
    if not dtypes:
        raise DTypeError("result_type: needs at least one array or dtype beside Python scalars")
    if len(dtypes) > 2:  # floats first, whatever the order: int8 and uint8 both go into float16, their int16 does not
        dtypes.sort(key=is_inexact, reverse=True)
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = promote_types(result, dtype)
    for operand in arrays_and_dtypes:
        if isinstance(operand, weak):
            result = promote_scalar(result, operand)
    return result
