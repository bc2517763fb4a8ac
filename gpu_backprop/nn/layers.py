"""Layers with weights, dropout and standardisation. Names, defaults, layouts and initial values are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

from ..core import dtypes, tape
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import linalg, reduction
from . import functional as F
from . import init
from .module import Module, positive, take_in
from .parameter import Parameter, empty


class Linear(Module):
    """y = x weight^T + bias, for x (..., in_features).

    weight (out_features, in_features) and bias (out_features,) start as U(-1/sqrt(in_features), 1/sqrt(in_features)).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.in_features = positive(self, "in_features", in_features)
        self.out_features = positive(self, "out_features", out_features)
        self.weight = Parameter(empty((self.out_features, self.in_features), device, dtype))
        self.bias = Parameter(empty((self.out_features,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any, relu: bool = False) -> Tensor:
        """x (..., in_features) to (..., out_features); with `relu`, the activation in the same operation."""
        weight = self.weight
        if x.__class__ is not Tensor or x.array.dtype is not weight.array.dtype:
            x = take_in(self, x, weight)
        shape = x.array.shape
        if len(shape) < 2 or shape[-1] != self.in_features:
            if not shape or shape[-1] != self.in_features:
                raise ShapeError(
                    f"Linear: an input of shape {list(shape)} for in_features={self.in_features}; "
                    f"the last axis must be {self.in_features} long"
                )
            out = F.linear(x, weight, self.bias)
            return ew.relu(out) if relu else out
        return (linalg.linear_relu if relu else linalg.linear)(x, weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of weight (num_embeddings, embedding_dim), which starts as N(0, 1), by index.

    padding_idx: a row that starts as zeros and gets no gradient.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ):
        self.num_embeddings = positive(self, "num_embeddings", num_embeddings)
        self.embedding_dim = positive(self, "embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = F.padding_row("Embedding", padding_idx, self.num_embeddings)
        self.padding_idx = padding_idx
        self.weight = Parameter(empty((self.num_embeddings, self.embedding_dim), device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.device.backend.write(self.weight.array, self.padding_idx, 0)

    def forward(self, x: Any) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Dropout(Module):
    """In training, zeroes elements with probability p and divides the others by 1 - p.

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, Dropout, JMLR 15, 2014.
    """

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise DataError(f"Dropout: p={p} is not a probability; use 0 to 1")
        self.p = p

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Standardize(Module):
    """y = (x - mean) / scale, with mean and standard deviation of data that it was fitted to once.

    num_features: length of the last axis of the data; None: `fit` finds it out. `mean` and `scale` are buffers: they
    are saved and moved with the network, and not trained. A feature that does not vary is only centred.
    """

    mean: Tensor | None
    scale: Tensor | None

    def __init__(self, num_features: int | None = None, device: Any = None, dtype: Any = None):
        self.num_features = num_features
        self._kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        self.register_buffer("mean", None)
        self.register_buffer("scale", None)
        if num_features is not None:
            n = positive(self, "num_features", num_features)
            self.mean = init.zeros_(empty((n,), device, self._kind))
            self.scale = init.ones_(empty((n,), device, self._kind))

    def fit(self, data: Any) -> Standardize:
        """Take mean and standard deviation (of the population) over all axes but the last; returns self.

        A vector is one feature. Computed in float64. Raises DataError for empty data and for NaN or infinite values.
        """
        x = (
            data.detach()
            if isinstance(data, Tensor)
            else asarray(data, device=None if self.mean is None else self.mean.device)
        )
        if x.ndim < 2:
            x = x.reshape((-1, 1))
        if not x.size:
            raise DataError(f"Standardize.fit: data of shape {list(x.shape)} is empty; give at least one row")
        if self.num_features is not None and x.shape[-1] != self.num_features:
            raise ShapeError(
                f"Standardize.fit: {x.shape[-1]} features for num_features={self.num_features}; make them equal"
            )
        with tape.no_grad():
            rows = x.astype(dtypes.float64).reshape((-1, x.shape[-1]))
            mean = reduction.mean(rows, axis=(0,), keepdims=False)
            scale = ew.sqrt(reduction.mean(ew.square(rows - mean), axis=(0,), keepdims=False))
            finite = ew.logical_and(ew.isfinite(mean), ew.isfinite(scale)).tolist()
            if not all(finite):
                raise DataError(
                    f"Standardize.fit: feature {finite.index(False)} holds NaN or infinite values (or overflows); "
                    "clean the data first"
                )
            # rounding leaves a constant column with a deviation of some last places of its mean
            constant = ew.less_equal(scale, ew.abs(mean) * (8 * dtypes.epsilon(dtypes.float64)))
            scale = ew.where(constant, 1.0, scale)
            kind = self._kind if self.mean is None else self.mean.dtype
            home = x.device if self.mean is None else self.mean.device
            self.mean = mean.astype(kind).to(home)
            self.scale = scale.astype(kind).to(home)
        self.num_features = x.shape[-1]
        return self

    def _fitted(self, x: Any) -> tuple[Tensor, Tensor, Tensor]:
        if self.mean is None or self.scale is None:
            raise DataError("Standardize: not fitted yet; call fit(data) first")
        x = x if isinstance(x, Tensor) else asarray(x, device=self.mean.device)
        if x.dtype != self.mean.dtype:
            if x.dtype == dtypes.bool_:
                raise DTypeError("Standardize: an input of bools has no mean; cast it with x.astype(gb.float32)")
            x = x.astype(self.mean.dtype)
        if self.num_features != 1 and (not x.ndim or x.shape[-1] != self.num_features):
            raise ShapeError(f"Standardize: an input of shape {list(x.shape)} for {self.num_features} features")
        return x, self.mean, self.scale

    def forward(self, x: Any) -> Tensor:
        x, mean, scale = self._fitted(x)
        return (x - mean) / scale

    def inverse(self, y: Any) -> Tensor:
        """Back to the scale of the data: y * scale + mean."""
        y, mean, scale = self._fitted(y)
        return y * scale + mean

    def extra_repr(self) -> str:
        return f"{self.num_features}"
