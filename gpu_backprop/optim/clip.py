"""Clipping gradients before a step, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..core import dtypes, tape
from ..core.errors import DataError
from ..core.modes import modes
from ..core.tensor import Tensor, filled, tensor
from ..ops import elementwise as ew
from ..ops import reduction
from ..ops.reduction import as_constant, as_real
from .flat import FlatGrad


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients so that their norm, taken together as one vector, is at most `max_norm`.

    Returns the norm before, a Tensor on the device; nothing waits for it. A norm that is NaN scales nothing. Gradients
    in flat buffers are reduced and scaled buffer by buffer. norm_type: the exponent of the norm, or infinity for the
    largest absolute value.
    error_if_nonfinite: raise DataError if the norm is infinite or NaN (this waits for the device).

    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, arXiv:1211.5063.
    """
    if not as_constant("clip_grad_norm_", "max_norm", max_norm) >= 0:
        raise DataError(f"clip_grad_norm_: max_norm={max_norm} is out of range; it must be zero or more")
    norm_type = as_real("clip_grad_norm_", "norm_type", norm_type)
    if not norm_type > 0:
        raise DataError(f"clip_grad_norm_: norm_type={norm_type} is out of range; it must be above zero, or infinity")
    params = _listed(parameters)
    with tape.no_grad():
        pieces = gradient_pieces(params)
        if not pieces:
            return tensor(0.0, device=params[0].device if params else "cpu")
        home = pieces[0].device
        parts = [power_sum(x, norm_type).to(home) for x in pieces]
        total = parts[0]
        for part in parts[1:]:
            total = ew.maximum(total, part) if norm_type == math.inf else total + part
        if norm_type == 2.0:
            total = ew.sqrt(total)
        elif norm_type != math.inf and norm_type != 1.0:
            total = total ** (1.0 / norm_type)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise DataError(
                f"clip_grad_norm_: the norm of the gradients is {total.item()}; look for the operation with "
                "gb.debug.detect_anomaly(), or pass error_if_nonfinite=False"
            )
        scale = shrink_factor(total, max_norm)
        for x in pieces:
            factor = scale.to(x.device).astype(x.dtype, copy=False)
            x.device.functions["multiply"](x.array, factor.array, out=x.array)
    _count_writes(params)
    return total


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value]."""
    clip_value = as_real("clip_grad_value_", "clip_value", clip_value)
    if not clip_value >= 0:
        raise DataError(f"clip_grad_value_: clip_value={clip_value} is out of range; it must be zero or more")
    params = _listed(parameters)
    for x in gradient_pieces(params):
        x.device.functions["clip"](x.array, -clip_value, clip_value, out=x.array)
    _count_writes(params)


def _listed(parameters: Iterable[Tensor] | Tensor) -> list[Any]:
    """The parameters as a list; one Tensor stands for itself."""
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def gradient_pieces(params: list[Any]) -> list[Tensor]:
    """The gradients as few contiguous Tensors: neighbours in a flat buffer are one piece."""
    runs: dict[int, list[FlatGrad]] = {}
    pieces: list[Tensor] = []
    for p in params:
        if modes.recorder is not None:
            modes.recorder.consults(p)
        grad = p._grad
        if grad is None:
            continue
        if isinstance(grad, FlatGrad):
            runs.setdefault(id(grad.flat), []).append(grad)
            continue
        if grad.node is not None or not _is_own(grad):
            # a recorded gradient, or a view of memory that is not ours, is replaced by a copy
            grad = p.grad = Tensor(grad.device.functions["copy"](grad.array), grad.device)
        pieces.append(grad)
    for grads in runs.values():
        flat, device = grads[0].flat, grads[0].device
        start = end = -1
        for grad in sorted(grads, key=lambda g: g.start):
            if grad.start != end:
                if end > start:
                    pieces.append(Tensor(flat[start:end], device))
                start = grad.start
            end = grad.end
        if end > start:
            pieces.append(Tensor(flat[start:end], device))
    return pieces


def any_nonfinite(params: list[Any], device: Any) -> Tensor:
    """Whether any gradient is infinite or NaN, as a bool Tensor without axes on `device`; nothing waits for it."""
    found = None
    for x in gradient_pieces(params):
        bad = Tensor(x.device.functions["any_nonfinite"](x.array.reshape(-1)), x.device).to(device)
        found = bad if found is None else ew.logical_or(found, bad)
    return filled((), dtypes.bool_, False, device) if found is None else found


def _is_own(grad: Tensor) -> bool:
    """Is it writable, contiguous, and no view?"""
    array = grad.array
    return grad.device.backend.is_writable(array) and bool(array.flags.c_contiguous) and array.base is None


def power_sum(x: Tensor, p: float) -> Tensor:
    """The sum of |x|^p in one number (float32 for 16-bit floats); the largest |x| when p is infinite."""
    if p == 2.0:
        return Tensor(x.device.functions["square_sum"](x.array.reshape(-1)), x.device)
    if dtypes.is_half(x.dtype):
        x = x.astype(dtypes.float32)
    if p == math.inf:
        return reduction.reduce(reduction.max, ew.abs(x)) if x.size else x.sum()
    return (ew.abs(x) if p == 1.0 else ew.abs(x) ** p).sum()


def shrink_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What gradients of this norm are to be multiplied by, on the device: max_norm / norm, but at most 1."""
    shrink = max_norm / (norm + 1e-6)
    # 1 for a NaN, too: it would stay in the padding of the flat buffers, and so in every later norm
    return ew.where(ew.less(shrink, 1.0), shrink, 1.0)


def _count_writes(params: list[Any]) -> None:
    for p in params:
        if p._grad is not None:
            p._grad._bump_version()
