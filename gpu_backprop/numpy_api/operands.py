"""Operands as Tensors."""

from __future__ import annotations

from typing import Any

from ..core import dtypes
from ..core.errors import DeviceError, DTypeError
from ..core.tensor import Tensor, as_operands, asarray


def tensors(name: str, *inputs: Any) -> list[Tensor]:
    """All inputs as Tensors: a Python number takes the dtype that it gives the others, and goes where they are."""
    if not inputs or any(x is None for x in inputs):
        raise DTypeError(f"{name}: None is no operand; give an array or a number")
    made = as_operands(name, inputs)
    device, *others = dict.fromkeys(x.device for x in made if isinstance(x, Tensor))
    if others:
        names = sorted(d.name for d in (device, *others))
        raise DeviceError(f"{name}: operands on {' and '.join(names)}; move one with t.to({names[0]!r})")
    dtype = dtypes.result_type(*made)
    return [x if isinstance(x, Tensor) else asarray(x, dtype=dtype, device=device) for x in made]


def floats(x: Any) -> Tensor:
    """An array as a Tensor, integers and bools in the default float dtype."""
    x = asarray(x)
    return x if dtypes.is_inexact(x.dtype) else x.astype(dtypes.get_default_dtype())
