"""Layer norm, RMS norm, batch norm."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp

import gpu_backprop as gb
from gpu_backprop.ops import normalization

from .base import Op, shaped

EPS = 0.1
MEAN, VAR = (0.5, -1.0, 2.0), (0.3, 1.0, 2.5)


def _normalize(x: Any, axes: tuple[int, ...], centred: bool = True) -> Any:
    t = x - anp.mean(x, axis=axes, keepdims=True) if centred else x
    return t / anp.sqrt(anp.mean(t * t, axis=axes, keepdims=True) + EPS)


def _affine(xhat: Any, weight: Any = None, bias: Any = None) -> Any:
    """`xhat` times weight plus bias, one number for each entry of axis 1."""
    across = (-1,) + (1,) * (xhat.ndim - 2)
    out = xhat if weight is None else xhat * weight.reshape(across)
    return out if bias is None else out + bias.reshape(across)


def _batch_axes(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _training(x, *parameters):
    pair = (*parameters, None, None)[:2]
    return normalization.batch_norm_training(x, *pair, None, None, momentum=0.1, eps=EPS)


def _np_inference(x, *parameters):
    across = (-1,) + (1,) * (x.ndim - 2)
    mean, var = (anp.array(v).reshape(across) for v in (MEAN, VAR))
    return _affine((x - mean) / anp.sqrt(var + EPS), *parameters)


def _inference(x, *parameters):
    given = (gb.tensor(v, dtype=x.dtype, device=x.device) for v in (MEAN, VAR))
    return normalization.batch_norm_inference(x, *(*parameters, None, None)[:2], *given, eps=EPS)


def _norm(name: str, f: Any, reference: Any, shapes: list[tuple[int, ...]], parameters: int) -> Op:
    samples = [(shape, *[(shape[1],)] * parameters) for shape in shapes]
    return shaped(f"{name}, {parameters} parameters", f, reference, samples, autograd=reference, half=False)


NORMALIZATION = [
    *(
        _norm(
            "layer_norm",
            lambda x, *p: normalization.layer_norm(x, *(*p, None, None)[:2], eps=EPS),
            lambda x, *p: _affine(_normalize(x, (1,)), *p),
            [(4, 3), (1, 5), (3, 2)],
            n,
        )
        for n in (0, 1, 2)
    ),
    *(
        _norm(
            "rms_norm",
            lambda x, *p: normalization.rms_norm(x, *(*p, None)[:1], eps=EPS),
            lambda x, *p: _affine(_normalize(x, (1,), centred=False), *p),
            [(4, 3), (1, 5)],
            n,
        )
        for n in (0, 1)
    ),
    *(
        _norm(
            "batch_norm_training",
            _training,
            lambda x, *p: _affine(_normalize(x, _batch_axes(x)), *p),
            [(4, 3), (3, 2, 3), (2, 3, 1)],
            n,
        )
        for n in (0, 1, 2)
    ),
    *(_norm("batch_norm_inference", _inference, _np_inference, [(4, 3), (2, 3, 2)], n) for n in (0, 1, 2)),
]
