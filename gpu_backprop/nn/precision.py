"""Networks in 16 bits."""

from __future__ import annotations

from typing import Any

from ..core import dtypes
from ..core.errors import DTypeError
from .module import Module
from .parameter import rehome


def cast(model: Module, dtype: Any) -> Any:
    """Cast the floating parameters of `model` to `dtype`, in place; returns the model.

    This is how a network is made ready to compute in 16 bits. Its layers then cast what they are given to the dtype of
    their parameters, so activations are of 16 bits too; products, reductions and norms add up in float32, and losses
    compute in float32. Buffers keep their dtype, other than with `Module.to(dtype)`: a running mean that moves by a
    tenth of small differences would stand still in 16 bits, and so would data be spoilt before Standardize has brought
    them to one scale. (The weights of norms are parameters, and are cast.)

    To train it, give the optimiser `master_weights=True`, and use `gb.optim.LossScaler` beside float16; or let
    `gb.train.fit(..., precision="bfloat16")` see to all of it.
    Micikevicius et al., Mixed Precision Training, arXiv:1710.03740.
    """
    kind = dtypes.as_dtype(dtype)
    if not dtypes.is_floating(kind):
        raise DTypeError(f"cast: {kind} is not a float dtype; use bfloat16, float16, float32 or float64")
    if not isinstance(model, Module):
        raise DTypeError(f"cast: a {type(model).__name__} is not a model; give a gb.nn.Module")
    for p in model.parameters():
        rehome(p, p.device, kind)
    return model
