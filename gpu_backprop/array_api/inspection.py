"""https://data-apis.org/array-api/latest/API_specification/inspection.html

`__array_namespace_info__()` gives this module, whose functions tell what the library and its devices can do.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..core import devices as _devices
from ..core import dtypes as _dtypes
from .data_type_functions import isdtype

__all__ = ["__array_namespace_info__"]

_STANDARD = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)


def __array_namespace_info__() -> Any:
    """What tells of this namespace: capabilities, default_device, default_dtypes, devices, dtypes."""
    return sys.modules[__name__]


def capabilities() -> dict[str, Any]:
    """Masks as indices and results whose shape depends on values: both; and the most axes of an array."""
    return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}


def default_device() -> _devices.Device:
    """The device of new arrays."""
    return _devices.default_device()


def default_dtypes(*, device: Any = None) -> dict[str, np.dtype]:
    """The dtypes of arrays made of Python's numbers, and of indices; the same on every device."""
    _devices.resolve(device)
    return {
        "real floating": _dtypes.as_dtype(float),
        "complex floating": _dtypes.as_dtype(complex),
        "integral": _dtypes.int64,
        "indexing": _dtypes.int64,
    }


def devices() -> tuple[_devices.Device, ...]:
    """The devices that can be used here."""
    return tuple(_devices.device(name) for name in _devices.devices())


def dtypes(*, device: Any = None, kind: Any = None) -> dict[str, np.dtype]:
    """The standard's dtypes of a kind, or of one of several, by their names; the same on every device."""
    _devices.resolve(device)
    named = {name: _dtypes.as_dtype(name) for name in _STANDARD}
    return {name: dtype for name, dtype in named.items() if kind is None or isdtype(dtype, kind)}
