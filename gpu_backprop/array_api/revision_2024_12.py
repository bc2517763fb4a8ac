"""The namespace as the standard had it up to revision 2024.12: `t.__array_namespace__(api_version="2024.12")`.

What has become a tuple since was a list; all other names are those of gpu_backprop.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, Literal

from ..core.devices import Device
from ..core.tensor import Tensor
from . import creation_functions, inspection, manipulation_functions

__array_api_version__ = "2024.12"


def meshgrid(*arrays: Any, indexing: Literal["xy", "ij"] = "xy") -> list[Tensor]:
    """As gpu_backprop.meshgrid, in a list."""
    return list(creation_functions.meshgrid(*arrays, indexing=indexing))


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """As gpu_backprop.broadcast_arrays, in a list."""
    return list(manipulation_functions.broadcast_arrays(*arrays))


def devices() -> list[Device]:
    """As the newest revision's, in a list."""
    return list(inspection.devices())


def __array_namespace_info__() -> Any:
    """As gpu_backprop.__array_namespace_info__, with devices in a list."""
    return SimpleNamespace(**{**vars(inspection), "devices": devices})


def __getattr__(name: str) -> Any:
    return getattr(sys.modules[__name__.partition(".")[0]], name)


def __dir__() -> list[str]:
    return dir(sys.modules[__name__.partition(".")[0]])
