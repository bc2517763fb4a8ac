"""Activations as Modules, for Sequential. Formulas in functional.py."""

from __future__ import annotations

from typing import Any

from ..core.errors import DataError
from ..core.tensor import Tensor
from ..ops import elementwise as ew
from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return ew.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1). Clevert, Unterthiner and Hochreiter, arXiv:1511.07289."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """x Phi(x); approximate="tanh" for the form with tanh. Hendrycks and Gimpel, arXiv:1606.08415."""

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise DataError(f'GELU: approximate={approximate!r} is unknown; use "none" or "tanh"')
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return ew.silu(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Any) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return ew.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return ew.sigmoid(x)


class Softmax(Module):
    """exp(x) over its sum along `dim`. A network for CrossEntropyLoss ends without it: the loss takes logits."""

    def __init__(self, dim: int | None = None):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


BY_NAME: dict[str, type[Module]] = {
    "relu": ReLU, "leaky_relu": LeakyReLU, "elu": ELU, "gelu": GELU, "silu": SiLU, "softplus": Softplus, "tanh": Tanh,
    "sigmoid": Sigmoid,
}  # fmt: skip


def by_name(name: Any) -> Module:
    """The activation of that name, with its defaults."""
    if not isinstance(name, str) or name not in BY_NAME:
        raise DataError(f"activation {name!r} is unknown; use {', '.join(map(repr, BY_NAME))}")
    return BY_NAME[name]()
