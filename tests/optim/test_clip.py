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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_reductions_of_long_buffers(dtype, device):
    functions, backend = gb.device(device).functions, gb.device(device).backend
    x = gb.tensor(np.random.default_rng(0).normal(size=70_001), dtype=dtype)
    found = backend.to_host(functions["square_sum"](x.array))
    exact = np.sum(x.numpy().astype(np.float64) ** 2)
    np.testing.assert_allclose(found, exact, rtol=1e-13 if dtype == "float64" else 1e-5)
    assert not backend.to_host(functions["any_nonfinite"](x.array))
    for at in (0, 40_000, 70_000):
        y = x.copy()
        y[at] = math.inf
        assert backend.to_host(functions["any_nonfinite"](y.array))


# clipping inside the step --------------------------------------------------------------------------------------------


def prepared(scale=1.0, seed=1, dtype="float64"):
    """An SGD of rate 1 whose step shows its gradients, and these gradients."""
    rng = np.random.default_rng(seed)
    params = make(SHAPES, dtype)
    optimizer = gb.optim.SGD([{"params": params[:2]}, {"params": params[2:]}], lr=1.0)
    gradients = [rng.normal(size=p.shape) for p in params]
    for p, g in zip(params, gradients):
        (p * gb.tensor(g * scale, dtype=dtype)).sum().backward()
    return optimizer, params, gradients


def moved(optimizer, params):
    """How far a step takes each parameter, against its gradient."""
    before = [p.detach().numpy().astype(np.float64) for p in params]
    optimizer.step()
    return [b - p.detach().numpy().astype(np.float64) for b, p in zip(before, params)]


def norm_of(gradients):
    return np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))


def test_a_step_clips_as_it_reads(device):
    optimizer, params, gradients = prepared()
    norm = norm_of(gradients)
    total = optimizer.clip_grad_norm(0.5)
    assert total.device == device
    assert total.shape == ()
    np.testing.assert_allclose(total.item(), norm, rtol=1e-13)
    for p, g in zip(params, gradients):
        np.testing.assert_array_equal(p.grad.numpy(), g)  # the gradients stay as they are
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g * 0.5 / (norm + 1e-6), rtol=1e-11)
    for d, g in zip(moved(optimizer, params), gradients):  # one step, not all
        np.testing.assert_allclose(d, g, rtol=1e-11)
    optimizer.clip_grad_norm(1e3)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g, rtol=1e-11)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_clips_gradients_that_carry_a_loss_scale(on_device, device):
    optimizer, params, gradients = prepared(scale=1024.0)
    optimizer.set_grad_scale(gb.tensor(1 / 1024) if on_device else 1 / 1024)
    norm = norm_of(gradients)
    np.testing.assert_allclose(optimizer.clip_grad_norm(0.5).item(), norm, rtol=1e-13)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g * 0.5 / (norm + 1e-6), rtol=1e-11)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g, rtol=1e-11)


def test_clipping_inside_the_step_is_clipping_before_it(device):
    ends = []
    for inside in (True, False):
        optimizer, params, _ = prepared(dtype="float32")
        optimizer.param_groups[0]["weight_decay"] = 0.1
        if inside:
            optimizer.clip_grad_norm(0.5)
        else:
            gb.optim.clip_grad_norm_(params, 0.5)
        optimizer.step()
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    np.testing.assert_allclose(*ends, rtol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_skips_one_step_if_asked(bad, device):
    optimizer, params, gradients = prepared()
    kept = params[0].grad.numpy().copy()
    params[0].grad.array[0, 0] = bad
    assert not math.isfinite(optimizer.clip_grad_norm(1.0, skip_nonfinite=True).item())
    assert not any(d.any() for d in moved(optimizer, params))
    params[0].grad.array[0, 0] = kept[0, 0]
    optimizer.clip_grad_norm(1e3, skip_nonfinite=True)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g, rtol=1e-11)
    params[0].grad.array[0, 0] = bad
    optimizer.clip_grad_norm(1.0)
    assert np.isnan(moved(optimizer, params)[0][0, 0])  # as PyTorch has it


def test_a_second_clip_and_a_new_scale_take_the_place_of_the_first(device):
    optimizer, params, gradients = prepared()
    optimizer.clip_grad_norm(1e-3)
    optimizer.clip_grad_norm(0.5)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g * 0.5 / (norm_of(gradients) + 1e-6), rtol=1e-11)
    optimizer.clip_grad_norm(1e-3)
    optimizer.set_grad_scale(0.25)
    for _ in range(2):
        for d, g in zip(moved(optimizer, params), gradients):
            np.testing.assert_allclose(d, g * 0.25, rtol=1e-11)


def test_a_skip_leaves_the_clipping(device):
    optimizer, params, gradients = prepared()
    norm = norm_of(gradients)
    optimizer.clip_grad_norm(0.5)
    optimizer.set_skip(gb.tensor(True))
    assert not any(d.any() for d in moved(optimizer, params))
    optimizer.clip_grad_norm(0.5)
    optimizer.set_skip(gb.tensor(False))
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g * 0.5 / (norm + 1e-6), rtol=1e-11)
    params[0].grad.array[0, 0] = math.nan
    optimizer.clip_grad_norm(0.5, skip_nonfinite=True)
    optimizer.set_skip(False)
    assert not any(d.any() for d in moved(optimizer, params))


def test_a_clip_follows_parameters_that_move_before_the_step(device):
    optimizer, params, gradients = prepared()
    optimizer.clip_grad_norm(0.5)
    gb.optim.SGD(params)  # takes them into its own buffers
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g * 0.5 / (norm_of(gradients) + 1e-6), rtol=1e-11)
    for d, g in zip(moved(optimizer, params), gradients):
        np.testing.assert_allclose(d, g, rtol=1e-11)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_step_clips_what_gradients_there_are(missing, device):
    optimizer, params, gradients = prepared()
    params[missing].grad = None
    params[2].grad = gb.tensor(gradients[2])  # from elsewhere
    rest = [g for i, g in enumerate(gradients) if i != missing]
    np.testing.assert_allclose(optimizer.clip_grad_norm(0.5).item(), norm_of(rest), rtol=1e-13)
    for i, (d, g) in enumerate(zip(moved(optimizer, params), gradients)):
        np.testing.assert_allclose(d, 0 * g if i == missing else g * 0.5 / (norm_of(rest) + 1e-6), rtol=1e-11)


def test_clipping_and_stepping_waits_for_nothing(monkeypatch, device):
    optimizer, _, _ = prepared()

    def wait(*_):
        raise AssertionError("a value came to the host")

    monkeypatch.setattr(type(gb.device(device).backend), "to_host", wait)
    monkeypatch.setattr(type(gb.device(device).backend), "synchronize", wait)
    optimizer.clip_grad_norm(1.0, skip_nonfinite=True)
    optimizer.step()


def test_clip_grad_norm_of_an_optimiser_without_gradients():
    optimizer = gb.optim.SGD(make())
    assert optimizer.clip_grad_norm(1.0).item() == 0.0
    with pytest.raises(gb.DataError, match="clip_grad_norm: max_norm=-1 is out of range"):
        optimizer.clip_grad_norm(-1)
    with pytest.raises(gb.DataError, match="max_norm=nan"):
        optimizer.clip_grad_norm(math.nan)


def test_every_write_of_an_optimizer_goes_through_its_backend(device, monkeypatch):
    """A write that goes past it would be unordered between streams, and on the wrong GPU where there are several."""
    written: list[int] = []
    backend = gb.device(device).backend
    write = backend.write
    monkeypatch.setattr(backend, "write", lambda array, *rest: (written.append(id(array.base)), write(array, *rest))[1])
    p = gb.tensor([1.0, 2.0], dtype="bfloat16", requires_grad=True)
    optimizer = gb.optim.Adam([p], lr=0.1, master_weights=True)
    flat = optimizer.param_groups[0].flats[0]
    assert id(flat.param.base) in written
    (p * 3).sum().backward()

    def writes(action):
        written.clear()
        action()
        return len(written)

    assert writes(lambda: optimizer.param_groups[0].update(lr=0.2)) == 1
    assert writes(lambda: optimizer.set_grad_scale(0.5)) == 1
    assert writes(lambda: optimizer.clip_grad_norm(1.0, skip_nonfinite=True)) == 2
    assert writes(optimizer.zero_grad) == 1  # what clipping changed is put back
    (p * 3).sum().backward()
    optimizer.step()
    with gb.no_grad():
        p.copy_(gb.tensor([5.0, 6.0], dtype="bfloat16"))
    assert writes(optimizer.step) == 1  # the master copy takes over what was written


def test_zero_grad_forgets_the_clipping(device):
    p = gb.tensor([1.0], requires_grad=True)
    optimizer = gb.optim.SGD([p], lr=1.0)
    (p * 10).sum().backward()
    optimizer.clip_grad_norm(1e-3)
    optimizer.zero_grad()
    (p * 0.5).sum().backward()
    optimizer.step()
    assert p.item() == 0.5


def test_a_limit_that_is_no_number_is_named():
    optimizer = gb.optim.SGD([gb.tensor([1.0], requires_grad=True)], lr=1.0)
    for limit in ("1", -1.0, float("nan"), True):
        with pytest.raises(gb.DataError, match="max_norm"):
            optimizer.clip_grad_norm(limit)
