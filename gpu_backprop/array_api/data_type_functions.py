"""https://data-apis.org/array-api/latest/API_specification/data_type_functions.html"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core import dtypes
from ..core.dtypes import result_type
from ..core.errors import DTypeError
from ..core.tensor import Tensor, asarray

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """`x` in another dtype; a copy unless `copy=False` and nothing changes."""
    out = asarray(x).astype(dtype, copy=copy)
    return out if device is None else out.to_device(device)


def can_cast(from_: Any, /, to: Any) -> bool:
    """True when values of one dtype (or of an array) are promoted to the other without loss of kind."""
    source = _dtype_of(from_)
    target = dtypes.as_dtype(to)
    try:
        return dtypes.promote_types(source, target) == target
    except TypeError:
        return False


class FloatInfo(NamedTuple):
    """What `finfo` tells of a float dtype."""

    bits: int
    eps: float  # from 1 to the next number
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype

    @property
    def tiny(self) -> float:
        """NumPy's other name of smallest_normal."""
        return self.smallest_normal


class IntegerInfo(NamedTuple):
    """What `iinfo` tells of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: np.dtype


def finfo(type: Any, /) -> FloatInfo:
    """The limits of a float dtype, or of the parts of a complex one: bits, eps, max, min, smallest_normal, dtype."""
    dtype = dtypes.real_of(_dtype_of(type))
    if not dtypes.is_floating(dtype):
        raise DTypeError(f"finfo: {dtype} is not a float dtype; use iinfo for integers")
    if dtypes.is_bfloat16(dtype):
        import ml_dtypes

        info: Any = ml_dtypes.finfo(dtype)
    else:
        info = np.finfo(dtype)
    eps, most, least, normal = map(float, (info.eps, info.max, info.min, info.smallest_normal))
    return FloatInfo(info.bits, eps, most, least, normal, dtype)


def iinfo(type: Any, /) -> IntegerInfo:
    """The limits of an integer dtype: bits, max, min, dtype."""
    dtype = _dtype_of(type)
    if dtype.kind not in "iu":
        raise DTypeError(f"iinfo: {dtype} is not an integer dtype; use finfo for floats")
    info = np.iinfo(dtype)
    return IntegerInfo(info.bits, int(info.max), int(info.min), dtype)


def _dtype_of(type: Any) -> np.dtype:
    return type.dtype if isinstance(type, Tensor) else dtypes.as_dtype(type)


_KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu", "real floating": "f",
    "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def isdtype(dtype: Any, kind: Any) -> bool:
    """True when `dtype` is of a kind ("integral", "real floating", ...), equals a dtype, or does one of a tuple."""
    dtype = dtypes.as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        letter = "f" if dtypes.is_bfloat16(dtype) else dtype.kind
        return letter in _KINDS[kind]
    return dtype == dtypes.as_dtype(kind)
