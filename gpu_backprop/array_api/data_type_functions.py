"""https://data-apis.org/array-api/latest/API_specification/data_type_functions.html"""

from __future__ import annotations

from typing import Any

from ..core import dtypes
from ..core.dtypes import result_type
from ..core.errors import DTypeError
from ..core.tensor import Tensor, asarray

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """`x` in another dtype; a copy unless `copy=False` and nothing changes."""
    out = asarray(x).astype(dtype, copy=copy)
    return out if device is None else out.to(device)


def can_cast(from_: Any, to: Any, /) -> bool:
    """True when values of one dtype (or of an array) are promoted to the other without loss of kind."""
    source = from_.dtype if isinstance(from_, Tensor) else dtypes.as_dtype(from_)
    target = dtypes.as_dtype(to)
    try:
        return dtypes.promote_types(source, target) == target
    except TypeError:
        return False


def finfo(type: Any, /) -> Any:
    """The limits of a float dtype: bits, eps, max, min, smallest_normal, dtype."""
    dtype = type.dtype if isinstance(type, Tensor) else dtypes.as_dtype(type)
    if not dtypes.is_floating(dtype):
        raise DTypeError(f"finfo: {dtype} is not a float dtype; use iinfo for integers")
    if dtypes.is_bfloat16(dtype):
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    import numpy as np

    return np.finfo(dtype)


def iinfo(type: Any, /) -> Any:
    """The limits of an integer dtype: bits, max, min, dtype."""
    import numpy as np

    dtype = type.dtype if isinstance(type, Tensor) else dtypes.as_dtype(type)
    if dtype.kind not in "iu":
        raise DTypeError(f"iinfo: {dtype} is not an integer dtype; use finfo for floats")
    return np.iinfo(dtype)


_KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu", "real floating": "f",
    "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def isdtype(dtype: Any, kind: Any) -> bool:
    """True when `dtype` is of a kind ("integral", "real floating", ...), equals a dtype, or does one of a tuple."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        letter = "f" if dtypes.is_bfloat16(dtype) else dtype.kind
        return letter in _KINDS[kind]
    return dtype == dtypes.as_dtype(kind)
