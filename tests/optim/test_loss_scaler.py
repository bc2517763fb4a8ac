"""LossScaler against its rule in plain Python, and against training without a scale in float64."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.optim import LossScaler

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")  # NumPy's, of what is to be skipped
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")


class Reference:
    """The rule, step by step on the host."""

    def __init__(self, scale, growth, backoff, interval):
        self.scale, self.growth, self.backoff, self.interval = scale, growth, backoff, interval
        self.good = self.skipped = self.in_a_row = self.longest = 0

    def step(self, finite: bool) -> tuple[float, int, int, int, int]:
        if finite:
            self.good += 1
            self.in_a_row = 0
            if self.good == self.interval:
                self.good = 0
                if self.scale * self.growth < 2.0**128:
                    self.scale *= self.growth
        else:
            self.scale = max(self.scale * self.backoff, 2.0**-126)
            self.good = 0
            self.skipped += 1
            self.in_a_row += 1
            self.longest = max(self.longest, self.in_a_row)
        return self.scale, self.good, self.skipped, self.in_a_row, self.longest


def parameters(dtype="float16", seed=0):
    rng = np.random.default_rng(seed)
    return [gb.nn.Parameter(gb.tensor(rng.normal(size=n), dtype=dtype)) for n in ((3, 5), (5,))]


def backward(scaler, params, factor=1.0):
    """Gradients of `factor` everywhere, but for the scale."""
    for p in params:
        p.grad = None
    scaler.scale(sum((p.astype("float32") * factor).sum() for p in params)).backward()


def bits(optimizer, params):
    """All that a step may change: parameters, state, master weights, step counts."""
    flats = [flat for group in optimizer.param_groups for flat in group.flats]
    host = flats[0].device.backend.to_host
    arrays = [p.detach().numpy() for p in params]
    for flat in flats:
        arrays += [host(a) for a in (flat.param, flat.master, flat.steps, *flat.state.values())]
    return [a.tobytes() for a in arrays]


# the rule -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [(65536.0, 2.0, 0.5, 4), (1.0, 2.0, 0.5, 3), (1024.0, 4.0, 0.125, 4)])
def test_the_scale_follows_the_rule(rule, device):
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params, lr=0.0), *rule)
    reference = Reference(*rule)
    fate = np.random.default_rng(3).random(40) < 0.75
    fate[-9:] = True
    for finite in fate:
        for p in params:
            p.grad = gb.full(p.shape, 1.0 if finite else math.inf, dtype="float16")
        scaler.step()
        assert tuple(scaler.read()) == reference.step(bool(finite))
        assert scaler.loss_scale.item() == reference.scale


def test_the_scale_stays_a_finite_normal_number():
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params, lr=0.0), init_scale=2.0**126, growth_interval=1)
    for p in params:
        p.grad = gb.zeros(p.shape, dtype="float16")
    scales = []
    for _ in range(3):
        scaler.step()
        scales.append(scaler.read().scale)
    assert scales == [2.0**127] * 3
    scaler = LossScaler(scaler.optimizer, init_scale=2.0**-125)
    params[0].grad[0, 0] = math.nan
    for _ in range(3):
        scaler.step()
    assert scaler.read().scale == 2.0**-126


# skipped steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_overflow_changes_nothing_and_halves_the_scale(name, max_norm, device):
    params = parameters()
    optimizer = getattr(gb.optim, name)(params, lr=0.1, master_weights=True)
    scaler = LossScaler(optimizer)
    backward(scaler, params, 2.0**-12)
    scaler.step(max_norm)
    before = bits(optimizer, params)
    backward(scaler, params)  # times 65536, which is beyond float16
    assert np.isinf(params[0].grad.numpy()).all()
    scaler.step(max_norm)
    assert bits(optimizer, params) == before
    assert scaler.read() == (32768.0, 0, 1, 1, 1)
    backward(scaler, params)
    scaler.step(max_norm)
    assert bits(optimizer, params) != before
    assert scaler.read() == (32768.0, 1, 1, 0, 1)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_one_bad_number_anywhere_skips_the_step(bad, device):
    params = parameters()
    optimizer = gb.optim.SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1)
    scaler = LossScaler(optimizer, init_scale=8.0)
    for i, p in enumerate(params):
        backward(scaler, params)
        before = [q.detach().numpy().copy() for q in params]
        p.grad.reshape(-1)[-1] = bad
        scaler.step()
        for q, b in zip(params, before):
            np.testing.assert_array_equal(q.detach().numpy(), b)
        assert scaler.read().skipped == i + 1


def test_a_step_without_gradients_is_a_good_one():
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params, lr=0.1))
    scaler.step()
    assert scaler.read() == (65536.0, 1, 0, 0, 0)


def test_a_hundred_in_a_row_are_an_error(device):
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params, lr=0.1))
    for p in params:
        p.grad = gb.full(p.shape, math.nan, dtype="float16")
    for _ in range(99):
        scaler.step()
    assert scaler.check().longest == 99
    scaler.step()
    with pytest.raises(gb.DataError, match=r"100 steps in a row were skipped.*the loss scale is 5\.17e-26.*bfloat16"):
        scaler.check()
    for p in params:
        p.grad = gb.zeros(p.shape, dtype="float16")
    scaler.step()  # gradients too small to be seen at that scale are no recovery
    with pytest.raises(gb.DataError, match="100 steps in a row"):
        scaler.check()


# unscaling and clipping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["in the step", "before the step"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_and_clipped_steps_are_those_without_a_scale(name, order, device):
    """In float64, where a scale that is a power of two costs nothing: ten steps, some of them clipped."""
    rng = np.random.default_rng(5)
    plain, scaled = parameters("float64"), parameters("float64")
    one = getattr(gb.optim, name)(plain, lr=0.1, weight_decay=0.1)
    other = getattr(gb.optim, name)(scaled, lr=0.1, weight_decay=0.1)
    scaler = LossScaler(other, growth_interval=3)
    for _ in range(10):
        targets = [gb.tensor(rng.normal(size=p.shape)) for p in plain]
        for params, optimizer in ((plain, one), (scaled, other)):
            optimizer.zero_grad()
            loss = sum((p * t).sum() for p, t in zip(params, targets))
            if optimizer is one:
                loss.backward()
                norm = one.clip_grad_norm(4.0)
                one.step()
                continue
            scaler.scale(loss).backward()
            if order == "before the step":
                np.testing.assert_allclose(other.clip_grad_norm(4.0).item(), norm.item(), rtol=1e-13)
                scaler.step()
            else:
                scaler.step(max_norm=4.0)
        for p, q in zip(plain, scaled):
            np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-10, atol=1e-13)
    assert scaler.read() == (2.0**19, 1, 0, 0, 0)


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_gradients_are_looked_at_once(max_norm, monkeypatch):
    functions, calls = gb.device("cpu").functions, []
    for name in ("any_nonfinite", "square_sum"):
        real = functions[name]
        monkeypatch.setitem(functions, name, lambda x, name=name, real=real: calls.append(name) or real(x))
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params))
    backward(scaler, params)
    scaler.step(max_norm)
    assert calls == ["any_nonfinite" if max_norm is None else "square_sum"]


def test_gradients_too_small_for_float16_arrive(device):
    """A gradient of 2^-26, half of float16's smallest number, moves the parameters if it comes with a scale."""
    ends = []
    for scale in (1.0, 2.0**16):
        p = gb.nn.Parameter(gb.zeros(4, dtype="float16"))
        scaler = LossScaler(gb.optim.SGD([p], lr=2.0**20, master_weights=True), init_scale=scale)
        scaler.scale((p.astype("float32") * 2.0**-26).sum()).backward()
        scaler.step()
        ends.append(p.tolist())
    assert ends == [[0.0] * 4, [-(2.0**-6)] * 4]


def test_accumulated_gradients(device):
    p = gb.nn.Parameter(gb.zeros(4, dtype="float16"))
    scaler = LossScaler(gb.optim.SGD([p], lr=1.0), init_scale=1024.0)
    for _ in range(3):
        scaler.scale(p.astype("float32").sum()).backward()
    scaler.step()
    assert p.tolist() == [-3.0] * 4


def test_release_gives_the_optimiser_back(device):
    p = gb.nn.Parameter(gb.zeros(4, dtype="float16"))
    optimizer = gb.optim.SGD([p], lr=1.0)
    scaler = LossScaler(optimizer)
    p.grad = gb.full(4, math.nan, dtype="float16")
    scaler.step()
    scaler.release()
    p.grad = gb.ones(4, dtype="float16")
    optimizer.step()
    assert p.tolist() == [-1.0] * 4


# what a step does not do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_step_waits_for_nothing(max_norm, monkeypatch, device):
    params = parameters()
    scaler = LossScaler(gb.optim.Adam(params, master_weights=True), growth_interval=1)
    backend = type(gb.device(device).backend)

    def wait(*_):
        raise AssertionError("a value came to the host")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "to_host", wait)
        patch.setattr(backend, "synchronize", wait)
        for factor in (1.0, 2.0**-14, 2.0**-14):
            backward(scaler, params, factor)
            scaler.step(max_norm)
    assert scaler.read().skipped == 1


def test_a_step_changes_arrays_and_nothing_else(device):
    """Everything that varies is data in arrays that stay the same, so that a step can be recorded and replayed."""
    params = parameters()
    scaler = LossScaler(gb.optim.Adam(params), growth_interval=2)

    def held():
        return {k: (id(v), id(v.array)) if isinstance(v, gb.Tensor) else v for k, v in vars(scaler).items()}

    before, numbers = held(), scaler.read()
    for factor in (1.0, 2.0**-14, 2.0**-14, 2.0**-14):
        backward(scaler, params, factor)
        scaler.step()
        assert held() == before
    assert scaler.read() != numbers


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_captured_step_is_the_eager_one(max_norm, device):
    """Bit for bit, through overflows, growth and the steps between."""
    ends = []
    for captured in (False, True):
        params = parameters()
        optimizer = gb.optim.Adam(params, lr=0.01, master_weights=True)
        scaler = LossScaler(optimizer, growth_interval=3)

        def step(factor, params=params, optimizer=optimizer, scaler=scaler):
            optimizer.zero_grad()
            loss = sum((p.astype("float32") * factor).sum() for p in params)
            scaler.scale(loss).backward()
            scaler.step(max_norm)
            return loss

        run = gb.capture(step) if captured else step
        seen = []
        for factor in (1.0, 2.0**-4, 0.25, 0.25, 2.0**-3, 1.0, 1.0, math.nan, 0.5, 2.0**-7):
            run(gb.tensor(factor, dtype="float32"))
            seen.append((scaler.read(), bits(optimizer, params)))
        ends.append(seen)
    assert {state.skipped for state, _ in ends[0]} == {1, 2, 3}
    assert len({state.scale for state, _ in ends[0]}) == 3
    assert ends[0] == ends[1]


def test_reading_waits_once(monkeypatch, device):
    scaler = LossScaler(gb.optim.SGD(parameters()))
    backend = gb.device(device).backend
    original, reads = backend.to_host, []
    monkeypatch.setattr(backend, "to_host", lambda array: (reads.append(array.shape), original(array))[1])
    scaler.check()
    assert reads == [(5,)]


# state ----------------------------------------------------------------------------------------------------------------


def test_state_dict_resumes(device):
    params = parameters()
    scaler = LossScaler(gb.optim.SGD(params, lr=0.1), 1024.0, 4.0, 0.25, 7)
    for bad in (True, True, False, True, False, False):
        for p in params:
            p.grad = gb.full(p.shape, math.nan if bad else 1.0, dtype="float16")
        scaler.step()
    state = scaler.state_dict()
    assert state == {
        "scale": 16.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 7, "_growth_tracker": 2,
        "skipped": 3, "skipped_in_a_row": 0, "most_skipped_in_a_row": 2,
    }  # fmt: skip
    twins = parameters()
    other = LossScaler(gb.optim.SGD(twins, lr=1.0))
    held = other.loss_scale.array
    other.load_state_dict(copy.deepcopy(state))
    assert other.read() == scaler.read()
    assert other.loss_scale.array is held
    assert other.state_dict() == state
    before = twins[1].detach().numpy().copy()
    backward(other, twins)
    other.step()  # the optimiser has heard of the scale
    np.testing.assert_allclose(twins[1].detach().numpy(), before - 1.0, atol=2e-3)


def test_the_state_of_pytorchs_scaler_fits():
    scaler = LossScaler(gb.optim.SGD(parameters()))
    scaler.load_state_dict(
        {"scale": 512.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 50, "_growth_tracker": 9}
    )
    assert scaler.read() == (512.0, 9, 0, 0, 0)
    assert scaler.growth_interval == 50


# bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"init_scale": 0.0}, {"init_scale": math.inf}, {"init_scale": math.nan}, {"growth_factor": 1.0},
        {"backoff_factor": 1.0}, {"backoff_factor": 0.0}, {"growth_interval": 0}, {"max_skipped": 0},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(options):
    (name,) = options
    with pytest.raises(gb.DataError, match=f"LossScaler: {name}="):
        LossScaler(gb.optim.SGD(parameters()), **options)


def test_what_is_no_optimizer_loss_or_state_is_named():
    with pytest.raises(gb.DTypeError, match="a list is not an optimizer"):
        LossScaler([])
    scaler = LossScaler(gb.optim.SGD(parameters()))
    with pytest.raises(gb.DTypeError, match="a float is not a loss"):
        scaler.scale(1.0)
    for state in (None, {}, {"scale": "x"}):
        with pytest.raises(gb.CheckpointError, match=r"LossScaler\.load_state_dict: not a scaler's state"):
            scaler.load_state_dict(state)
    with pytest.raises(gb.CheckpointError, match="scale=0"):
        scaler.load_state_dict({**scaler.state_dict(), "scale": 0.0})
    assert scaler.read().scale == 65536.0
