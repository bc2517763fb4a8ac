"""Clipping against NumPy on the gradients as one vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpu_backprop as gb

from .test_flat import make

SHAPES = ((3, 5), (5,), (2, 2, 2))


def with_gradients(dtype="float64", flat=True, missing=()):
    rng = np.random.default_rng(1)
    params = make(SHAPES, dtype)
    if flat:
        gb.optim.SGD(params)
    gradients = []
    for i, p in enumerate(params):
        if i in missing:
            gradients.append(None)
            continue
        g = rng.normal(size=p.shape)
        (p * gb.tensor(g, dtype=dtype)).sum().backward()
        gradients.append(p.grad.numpy().astype(np.float64))
    return params, gradients


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("missing", [(), (1,)])
@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, math.inf])
def test_norm_and_scaled_gradients(flat, missing, p, device):
    params, gradients = with_gradients(flat=flat, missing=missing)
    vector = np.concatenate([g.ravel() for g in gradients if g is not None])
    norm = np.linalg.norm(vector, p)
    total = gb.optim.clip_grad_norm_(params, 0.5, norm_type=p)
    assert total.device == device
    assert total.shape == ()
    np.testing.assert_allclose(total.item(), norm, rtol=1e-12)
    for parameter, g in zip(params, gradients):
        if g is None:
            assert parameter.grad is None
        else:
            np.testing.assert_allclose(parameter.grad.numpy(), g * 0.5 / (norm + 1e-6), rtol=1e-12)


def test_short_gradients_stay_as_they_are(device):
    params, gradients = with_gradients()
    gb.optim.clip_grad_norm_(params, 1e3)
    for p, g in zip(params, gradients):
        np.testing.assert_array_equal(p.grad.numpy(), g)


def test_one_reduction_over_the_flat_buffer(monkeypatch):
    functions = gb.device("cpu").functions
    calls = []
    real = functions["square_sum"]
    monkeypatch.setitem(functions, "square_sum", lambda x: calls.append(x.size) or real(x))
    params, _ = with_gradients()
    gb.optim.clip_grad_norm_(params, 1.0)
    assert calls == [3 * 32]  # each of the three is padded to 256 bytes


def test_nothing_waits_for_the_device(monkeypatch, device):
    params, _ = with_gradients()

    def wait(*_):
        raise AssertionError("a value came to the host")

    monkeypatch.setattr(type(gb.device(device).backend), "to_host", wait)
    monkeypatch.setattr(type(gb.device(device).backend), "synchronize", wait)
    gb.optim.clip_grad_norm_(params, 1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_norm_of_small_dtypes_is_computed_in_float32(dtype, device):
    # the squares would overflow float16
    p = gb.nn.Parameter(gb.ones(1000, dtype=dtype))
    p.grad = gb.full(1000, 300.0, dtype=dtype)
    total = gb.optim.clip_grad_norm_([p], 1e3)
    digits = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 1e-6}[dtype]
    np.testing.assert_allclose(total.item(), math.sqrt(1000) * 300.0, rtol=1e-6)
    np.testing.assert_allclose(p.grad.numpy().astype(np.float64), 1e3 / math.sqrt(1000), rtol=digits * 3)


def test_recorded_gradients_can_be_clipped(device):
    w = gb.tensor([3.0, 4.0], requires_grad=True)
    (w * w).sum().backward(create_graph=True)
    total = gb.optim.clip_grad_norm_(w, 1.0)
    assert total.item() == pytest.approx(10.0)
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_leaves_nothing_behind(bad, device):
    params = make(SHAPES)
    optimizer = gb.optim.SGD(params)
    norms = []
    for factor in (bad, 1.0):
        optimizer.zero_grad()
        sum((p * factor).sum() for p in params).backward()
        norms.append(gb.optim.clip_grad_norm_(params, 1.0).item())
    assert not math.isfinite(norms[0])
    np.testing.assert_allclose(norms[1], math.sqrt(28), rtol=1e-12)


def test_clip_by_value(device):
    for flat in (True, False):
        params, gradients = with_gradients(flat=flat, missing=(2,))
        gb.optim.clip_grad_value_(params, 0.3)
        for p, g in zip(params[:2], gradients):
            np.testing.assert_array_equal(p.grad.numpy(), np.clip(g, -0.3, 0.3))
        assert params[2].grad is None


def test_no_gradients_have_norm_zero():
    assert gb.optim.clip_grad_norm_(make(), 1.0).item() == 0.0
    assert gb.optim.clip_grad_norm_([], 1.0).item() == 0.0


def test_bad_input_is_named():
    params, _ = with_gradients()
    with pytest.raises(gb.DataError, match="max_norm=-1"):
        gb.optim.clip_grad_norm_(params, -1)
    with pytest.raises(gb.DataError, match=r"norm_type=0\.0"):
        gb.optim.clip_grad_norm_(params, 1.0, 0)
    with pytest.raises(gb.DataError, match="clip_value=-1"):
        gb.optim.clip_grad_value_(params, -1)
    params[0].grad = gb.full(SHAPES[0], math.nan, dtype="float64")
    with pytest.raises(gb.DataError, match="norm of the gradients is nan"):
        gb.optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
