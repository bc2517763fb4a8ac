"""The precision of a training: 16-bit weights while it runs, and the digits that they had or earned afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from ..core import dtypes
from ..core import precision as products
from ..core.errors import DTypeError
from ..core.tape import no_grad
from ..core.tensor import Tensor
from ..nn.parameter import rehome
from ..nn.precision import cast
from ..ops import elementwise as ew
from ..optim import LossScaler, Optimizer
from .names import look_up

# what float32 products may round, and the dtype of the parameters while the training runs; None: as it is
PRECISIONS: dict[str, tuple[str | None, str | None]] = {
    "float32": ("highest", None),
    "tf32": ("high", None),
    "bfloat16": (None, "bfloat16"),
    "float16": (None, "float16"),
}


def wide(prediction: Any) -> Any:
    """A prediction as losses and metrics see it: one of 16 bits as float32."""
    if isinstance(prediction, Tensor) and dtypes.is_half(prediction.dtype):
        return prediction.astype(dtypes.float32)
    return prediction


@contextmanager
def training_in(name: str | None, model: Any, optimizer: Optimizer) -> Iterator[LossScaler | None]:
    """Train inside in the precision `name`; afterwards all is as before, but for what the training changed.

    In 16 bits the optimiser works on float32 master weights, which the parameters get back in the end. Yields the
    LossScaler that float16 needs.
    """
    rounding, dtype = (None, None) if name is None else look_up("precision", name, PRECISIONS)
    before = products.get_matmul_precision()
    products.set_matmul_precision(rounding or before)
    try:
        if dtype is None:
            yield None
        else:
            with _lowered(model, optimizer, dtypes.as_dtype(dtype)) as scaler:
                yield scaler
    finally:
        products.set_matmul_precision(before)


@contextmanager
def _lowered(model: Any, optimizer: Optimizer, dtype: Any) -> Iterator[LossScaler | None]:
    parameters = list(model.parameters())
    for p in parameters:
        if p.dtype == dtypes.float64:
            raise DTypeError(
                f'fit: precision="{dtype.name}" for parameters of float64, whose digits float32 master weights would '
                "lose; cast the model with model.float()"
            )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    # the optimiser keeps the digits of what it trains; those of frozen parameters are kept here
    kept = {id(p): Tensor(p.array, p.device) for p in parameters if id(p) not in trained}
    kinds = {id(p): p.dtype for p in parameters}
    had_masters = optimizer.master_weights
    cast(model, dtype)
    optimizer.keep_master_weights()
    scaler = LossScaler(optimizer) if dtype == dtypes.float16 else None
    # a step that overflows is skipped and counted; NumPy need not warn of it
    quiet = np.errstate(over="ignore", invalid="ignore") if scaler is not None else nullcontext()
    try:
        with quiet:
            yield scaler
    finally:
        if scaler is not None:
            scaler.release()
        model.zero_grad()  # what the last step left may carry a loss scale
        masters = kept | {id(p): value for p, value in optimizer.masters().items()}
        with no_grad():
            for p in parameters:
                if kinds[id(p)] != p.dtype:
                    digits = _reconciled(masters[id(p)].to(p.device), p).astype(kinds[id(p)], copy=False)
                    rehome(p, p.device, kinds[id(p)])
                    p.copy_(digits)
        optimizer.keep_master_weights(had_masters)


def _reconciled(digits: Tensor, p: Tensor) -> Tensor:
    """`digits` where they round to what p holds; elsewhere p, into which somebody has written."""
    same = ew.equal(digits.astype(p.dtype), p)
    return ew.where(same, digits, p.astype(digits.dtype))
