"""Initial values: bounds and moments of the formulas, and equality from device to device."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import gpu_backprop as gb

init = gb.nn.init
SHAPE = (60, 200)  # fan_out, fan_in
LEAKY = math.sqrt(2 / (1 + 0.3**2))

UNIFORM = {
    "uniform_": (lambda t: init.uniform_(t, -3, 4), -3, 4),
    "xavier_uniform_": (lambda t: init.xavier_uniform_(t, 2.0), None, 2 * math.sqrt(6 / 260)),
    "kaiming_uniform_": (lambda t: init.kaiming_uniform_(t, 0.3), None, LEAKY * math.sqrt(3 / 200)),
    "kaiming_uniform_ fan_out": (
        lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), None, math.sqrt(2 * 3 / 60)
    ),
    "Linear.weight": (lambda t: gb.nn.Linear(200, 60, dtype=t.dtype).weight, None, 1 / math.sqrt(200)),
    "Linear.bias": (lambda t: gb.nn.Linear(200, 12000, dtype=t.dtype).bias, None, 1 / math.sqrt(200)),
}  # fmt: skip
NORMAL = {
    "normal_": (lambda t: init.normal_(t, 2.0, 3.0), 2.0, 3.0),
    "xavier_normal_": (init.xavier_normal_, 0.0, math.sqrt(2 / 260)),
    "kaiming_normal_": (lambda t: init.kaiming_normal_(t, nonlinearity="tanh"), 0.0, 5 / 3 / math.sqrt(200)),
    "Embedding.weight": (lambda t: gb.nn.Embedding(60, 200, dtype=t.dtype).weight, 0.0, 1.0),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform(name):
    fill, low, high = UNIFORM[name]
    gb.manual_seed(0)
    values = fill(gb.zeros(SHAPE, dtype="float64")).numpy().ravel()
    low = -high if low is None else low
    assert low <= values.min() < low + (high - low) / 500
    assert high - (high - low) / 500 < values.max() < high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


@pytest.mark.parametrize("name", NORMAL)
def test_normal(name):
    fill, mean, std = NORMAL[name]
    gb.manual_seed(0)
    values = fill(gb.zeros(SHAPE, dtype="float64")).numpy().ravel()
    assert stats.kstest(values, stats.norm(mean, std).cdf).pvalue > 0.01


def test_truncated_normal():
    gb.manual_seed(0)
    values = init.trunc_normal_(gb.zeros(SHAPE, dtype="float64"), 1.0, 2.0, a=-1.0, b=1.5).numpy().ravel()
    assert stats.kstest(values, stats.truncnorm(-1.0, 0.25, 1.0, 2.0).cdf).pvalue > 0.01


def test_constants():
    t = gb.zeros((2, 3))
    assert init.ones_(t) is t
    assert t.tolist() == [[1.0] * 3] * 2
    assert init.constant_(t, 0.5).tolist() == [[0.5] * 3] * 2
    assert init.eye_(t).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.zeros_(t).tolist() == [[0.0] * 3] * 2


def test_gains():
    gains = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 0.75, "leaky_relu": (2 / 1.0001) ** 0.5}
    for name, gain in gains.items():
        assert init.calculate_gain(name) == pytest.approx(gain, rel=1e-15)


def test_the_same_seed_gives_the_same_weights_on_every_device(device):
    gb.manual_seed(3)
    here = gb.nn.MLP([3, 5, 2], device=device)
    gb.manual_seed(3)
    cpu = gb.nn.MLP([3, 5, 2], device="cpu")
    for a, b in zip(here.parameters(), cpu.parameters()):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert np.unique(np.concatenate([p.numpy().ravel() for p in cpu.parameters()])).size == 32


def test_a_generator_of_its_own():
    gb.manual_seed(1)
    a = init.uniform_(gb.zeros(5), generator=gb.random.Generator(7))
    b = init.uniform_(gb.zeros(5), generator=gb.random.Generator(7))
    assert a.tolist() == b.tolist() != init.uniform_(gb.zeros(5)).tolist()


def test_bad_input_is_named():
    with pytest.raises(gb.ShapeError, match=r"fan_in and fan_out of shape \[3\]"):
        init.xavier_uniform_(gb.zeros(3))
    with pytest.raises(gb.DataError, match="mode='in' is unknown"):
        init.kaiming_uniform_(gb.zeros((2, 3)), mode="in")
    with pytest.raises(gb.DataError, match="'swish' has no gain"):
        init.calculate_gain("swish")
    with pytest.raises(gb.DTypeError, match="int64 cannot hold random floats"):
        init.uniform_(gb.zeros(3, dtype="int64"))
    with pytest.raises(gb.ShapeError, match="is not a matrix"):
        init.eye_(gb.zeros(3))
    for name in ("zeros_", "eye_", "normal_", "uniform_", "trunc_normal_"):
        with pytest.raises(gb.ShapeError, match=r"read-only .*write to a copy"):
            getattr(init, name)(gb.ones(1).broadcast_to((2, 2)))
