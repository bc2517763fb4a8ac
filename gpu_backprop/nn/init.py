"""Initial values of parameters, by PyTorch's names and formulas.

Each function fills a Tensor in place and returns it. Values are drawn on the CPU and copied, so that a network starts
from the same weights on every device.
"""

from __future__ import annotations

import math
from typing import Any

from .. import random
from ..backends.draws import inverse_normal
from ..core.dtypes import float64, is_floating
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor
from ..ops.reduction import as_constant, as_real

__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "trunc_normal_",
    "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """U(a, b)."""
    drawn = (generator or random.default_generator()).uniform(tensor.shape, a, b, _dtype("uniform_", tensor), "cpu")
    return _put("uniform_", tensor, drawn.array)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """N(mean, std^2)."""
    drawn = (generator or random.default_generator()).normal(tensor.shape, mean, std, _dtype("normal_", tensor), "cpu")
    return _put("normal_", tensor, drawn.array)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: random.Generator | None = None,
) -> Tensor:
    """N(mean, std^2) between a and b: the inverse distribution function of uniform numbers."""
    mean, std = as_real("trunc_normal_", "mean", mean), as_real("trunc_normal_", "std", std)
    a, b = as_real("trunc_normal_", "a", a), as_real("trunc_normal_", "b", b)
    if not (std > 0 and a < b):
        raise DataError(f"trunc_normal_: std={std}, a={a}, b={b} describe no distribution; use std > 0 and a < b")
    low, high = (0.5 * (1 + math.erf((edge - mean) / std / math.sqrt(2))) for edge in (a, b))
    u = (generator or random.default_generator()).uniform(tensor.shape, low, high, float64, "cpu").array
    tiny = 2.0**-60
    drawn = inverse_normal(u.clip(tiny, 1 - 2.0**-53)) * std + mean
    return _put("trunc_normal_", tensor, drawn.clip(a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All elements `val`."""
    tensor._write("constant_", ..., as_constant("constant_", "val", val))
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """All elements 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """All elements 1."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: a Tensor of shape {list(tensor.shape)} is not a matrix; give one with two axes")
    tensor._write("eye_", ..., 0)
    for i in range(min(tensor.shape)):
        tensor._write("eye_", (i, i), 1)
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, 2010."""
    a = as_real("xavier_uniform_", "gain", gain) * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: random.Generator | None = None) -> Tensor:
    """N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)). Glorot and Bengio, 2010."""
    gain = as_real("xavier_normal_", "gain", gain)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Tensor:
    """U(-b, b), b = gain sqrt(3 / fan). He, Zhang, Ren and Sun, arXiv:1502.01852. a: slope of a leaky ReLU."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: random.Generator | None = None,
) -> Tensor:
    """N(0, s^2), s = gain / sqrt(fan). He, Zhang, Ren and Sun, arXiv:1502.01852. a: slope of a leaky ReLU."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of signals through a nonlinearity."""
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else as_real("calculate_gain", "param", param)
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in gains:
        raise DataError(
            f"calculate_gain: {nonlinearity!r} has no gain; use {', '.join(map(repr, [*gains, 'leaky_relu']))}"
        )
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of a unit, for a weight laid out (out, in, ...)."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"init: fan_in and fan_out of shape {list(tensor.shape)} are not known; give a weight with two axes or more"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise DataError(f'init: mode={mode!r} is unknown; use "fan_in" or "fan_out"')
    return _fans(tensor)[mode == "fan_out"]


def _dtype(name: str, tensor: Tensor) -> Any:
    if not is_floating(tensor.dtype):
        raise DTypeError(f"{name}: a Tensor of {tensor.dtype} cannot hold random floats; give a floating-point one")
    return tensor.dtype


def _put(name: str, tensor: Tensor, host: Any) -> Tensor:
    tensor._write(name, ..., tensor.device.backend.from_host(host.astype(tensor.dtype), copy=False))
    return tensor
