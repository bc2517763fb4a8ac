"""Parameters that are numbers: a Tensor whose gradient would be lost there is refused, by function and parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

F = gb.nn.functional
X = gb.asarray(np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3))
LABELS = gb.asarray([0, 2])
CALLS: dict[str, Callable[[Any], Any]] = {
    "leaky_relu negative_slope": lambda t: F.leaky_relu(X, t),
    "elu alpha": lambda t: F.elu(X, t),
    "softplus beta": lambda t: F.softplus(X, t),
    "softplus threshold": lambda t: F.softplus(X, threshold=t),
    "dropout p": lambda t: F.dropout(X, t),
    "layer_norm eps": lambda t: F.layer_norm(X, 3, eps=t),
    "rms_norm eps": lambda t: F.rms_norm(X, 3, eps=t),
    "batch_norm eps": lambda t: F.batch_norm(X, None, None, training=True, eps=t),
    "batch_norm momentum": lambda t: F.batch_norm(X, None, None, training=True, momentum=t),
    "huber_loss delta": lambda t: F.huber_loss(X, X * 3, delta=t),
    "cross_entropy label_smoothing": lambda t: F.cross_entropy(X, LABELS, label_smoothing=t),
    "uniform low": lambda t: gb.random.uniform((2,), t, 2.0),
    "uniform high": lambda t: gb.random.uniform((2,), 0.0, t),
    "normal mean": lambda t: gb.random.normal((2,), t),
    "normal std": lambda t: gb.random.normal((2,), std=t),
    "trunc_normal_ std": lambda t: gb.nn.init.trunc_normal_(gb.ones((2, 2)), std=t),
    "constant_ val": lambda t: gb.nn.init.constant_(gb.ones((2, 2)), t),
    "xavier_uniform_ gain": lambda t: gb.nn.init.xavier_uniform_(gb.ones((2, 2)), t),
    "xavier_normal_ gain": lambda t: gb.nn.init.xavier_normal_(gb.ones((2, 2)), t),
    "calculate_gain param": lambda t: gb.nn.init.kaiming_uniform_(gb.ones((2, 2)), t),
    "SGD lr": lambda t: gb.optim.SGD([gb.ones(2)], t),
    "SGD momentum": lambda t: gb.optim.SGD([gb.ones(2)], momentum=t),
    "Adam betas[1]": lambda t: gb.optim.Adam([gb.ones(2)], betas=(0.5, t)),
    "Adam weight_decay": lambda t: gb.optim.Adam([gb.ones(2)], weight_decay=t),
    "clip_grad_norm_ max_norm": lambda t: gb.optim.clip_grad_norm_([gb.ones(2)], t),
    "clip_grad_norm_ norm_type": lambda t: gb.optim.clip_grad_norm_([gb.ones(2)], 1.0, t),
    "clip_grad_value_ clip_value": lambda t: gb.optim.clip_grad_value_([gb.ones(2)], t),
    "clip_grad_norm max_norm": lambda t: sgd().clip_grad_norm(t),
    "set_grad_scale scale": lambda t: sgd().set_grad_scale(t),
    "LossScaler backoff_factor": lambda t: gb.optim.LossScaler(sgd(), backoff_factor=t),
    "StepLR gamma": lambda t: gb.optim.lr_scheduler.StepLR(sgd(), 2, t),
    "CosineAnnealingLR eta_min": lambda t: gb.optim.lr_scheduler.CosineAnnealingLR(sgd(), 2, t),
    "LinearWarmup start_factor": lambda t: gb.optim.lr_scheduler.LinearWarmup(sgd(), 2, t),
    "OneCycleLR max_lr": lambda t: gb.optim.lr_scheduler.OneCycleLR(sgd(), t, 5, cycle_momentum=False),
    "ReduceLROnPlateau factor": lambda t: gb.optim.lr_scheduler.ReduceLROnPlateau(sgd(), factor=t),
    "var correction": lambda t: gb.var(X, correction=t),
}


def sgd() -> gb.optim.SGD:
    return gb.optim.SGD([gb.tensor([1.0, 2.0], requires_grad=True)], 0.1)


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_is_not_lost_in_silence(name: str) -> None:
    function, parameter = name.split()
    leaf = gb.tensor(0.5, requires_grad=True)
    for t in (leaf, leaf * 1.0):
        with pytest.raises(
            gb.TapeError, match=re.escape(f"{function}: a Tensor") + rf".* as {re.escape(parameter)}; use"
        ):
            CALLS[name](t)
    CALLS[name](leaf.detach())
    CALLS[name](0.5)
    with gb.no_grad():
        CALLS[name](leaf)


def test_no_parameter_of_functional_is_left_out() -> None:
    numbers = {
        f"{name} {p.name}"
        for name in F.__all__
        for p in inspect.signature(getattr(F, name)).parameters.values()
        if str(p.annotation).startswith("float")
    }
    assert numbers <= set(CALLS)
    assert len(numbers) == 11


def test_what_is_written_instead_has_the_values_and_the_gradient() -> None:
    """The formulas that the messages name."""
    for call, formula in (
        (lambda x, t: F.leaky_relu(x, t), lambda x, t: gb.where(x > 0, x, t * x)),
        (lambda x, t: F.elu(x, t), lambda x, t: gb.maximum(x, 0) + t * gb.expm1(gb.minimum(x, 0))),
        (lambda x, t: F.softplus(x, t), lambda x, t: gb.logaddexp(t * x, 0) / t),
    ):
        x, t = X.astype("float64"), gb.tensor(0.7, dtype="float64")
        np.testing.assert_allclose(formula(x, t).numpy(), call(x, t).numpy(), rtol=1e-12)
        assert gb.gradcheck(formula, (x, t))


def test_what_is_no_number_says_so() -> None:
    for call in (lambda: F.elu(X, "1"), lambda: F.dropout(X, None), lambda: F.layer_norm(X, 3, eps=[1e-5, 1e-5])):
        with pytest.raises(gb.DTypeError, match="is not a real number; use one"):
            call()
