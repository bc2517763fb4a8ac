"""Normalisation layers. Formulas in functional.py."""

from __future__ import annotations

from typing import Any

from ..core import dtypes, tape
from ..core.errors import ShapeError
from ..core.tensor import Tensor, tensor
from . import functional as F
from . import init
from .module import Module, positive, take_in
from .parameter import Parameter, empty


def _shape(module: Module, value: Any) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    if not values:
        raise ShapeError(f"{type(module).__name__}: normalized_shape={value!r} names no axis; give at least one length")
    return tuple(positive(module, "normalized_shape", n) for n in values)


def _constant(value: float, shape: tuple[int, ...], device: Any, dtype: Any) -> Tensor:
    return init.constant_(empty(shape, device, dtype), value)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes. Ba, Kiros and Hinton, arXiv:1607.06450."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        self.normalized_shape = _shape(self, normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        make = elementwise_affine
        self.weight = Parameter(_constant(1.0, self.normalized_shape, device, dtype)) if make else None
        self.bias = Parameter(_constant(0.0, self.normalized_shape, device, dtype)) if make and bias else None

    def forward(self, x: Any) -> Tensor:
        if self.weight is not None:
            x = take_in(self, x, self.weight)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes.

    eps=None is the machine epsilon of the dtype that it computes in: float64's for float64, else float32's.
    Zhang and Sennrich, arXiv:1910.07467.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        self.normalized_shape = _shape(self, normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(_constant(1.0, self.normalized_shape, device, dtype)) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        if self.weight is not None:
            x = take_in(self, x, self.weight)
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class BatchNorm1d(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias for each feature of (batch, features) or (batch, features, length).

    In training with the batch's statistics, which move the running ones by `momentum` (None: their plain average);
    after `eval()` with the running ones. Ioffe and Szegedy, arXiv:1502.03167.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        self.num_features = positive(self, "num_features", num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        self.weight = Parameter(_constant(1.0, shape, device, dtype)) if affine else None
        self.bias = Parameter(_constant(0.0, shape, device, dtype)) if affine and bias else None
        tracked = track_running_stats
        self.register_buffer("running_mean", _constant(0.0, shape, device, dtype) if tracked else None)
        self.register_buffer("running_var", _constant(1.0, shape, device, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtypes.int64, device) if tracked else None)

    def forward(self, x: Any) -> Tensor:
        like = self.weight if self.weight is not None else self.running_mean
        if like is not None:
            x = take_in(self, x, like)
        if x.ndim not in (2, 3) or x.shape[1] != self.num_features:
            raise ShapeError(
                f"BatchNorm1d: an input of shape {list(x.shape)} for num_features={self.num_features}; "
                f"give (batch, {self.num_features}) or (batch, {self.num_features}, length)"
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        batch = self.training or self.running_mean is None
        if self.training and self.num_batches_tracked is not None:
            F.check_batch(x)
            with tape.no_grad():
                self.num_batches_tracked += 1
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        running = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return F.batch_norm(x, *running, self.weight, self.bias, batch, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
