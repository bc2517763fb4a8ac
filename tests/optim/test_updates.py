"""Every optimiser with every option against the float64 NumPy reference; missing gradients; groups."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

from .parity import network, single_steps, trajectory
from .reference import CASES, UPDATES, case_id, problem


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_hundred_steps_in_float64_follow_the_formulas(case, device):
    name, options = case
    assert trajectory(name, options, steps=100 if device == "cpu" else 20) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_each_float32_step_follows_the_formulas(case, device):
    name, options = case
    assert single_steps(name, options, steps=100 if device == "cpu" else 20) < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", UPDATES)
def test_half_precision_computes_in_float32_and_rounds_once(name, dtype, device):
    rng = np.random.default_rng(3)
    start, gradient = rng.normal(size=300), rng.normal(size=300)
    p = gb.nn.Parameter(gb.tensor(start, dtype=dtype))
    optimizer = getattr(gb.optim, name)([p], lr=0.1)
    p.grad = gb.tensor(gradient, dtype=dtype)
    exact = [t.detach().numpy().astype(np.float64) for t in (p, p.grad)]
    expected = UPDATES[name](*exact, {}, lr=0.1)
    optimizer.step()
    digits = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    # one rounding of the result; RMSprop and Adagrad divide by a root of the state before it is rounded
    np.testing.assert_allclose(p.detach().numpy().astype(np.float64), expected, rtol=digits * 1.01, atol=1e-6)


def test_more_elements_than_one_block(device):
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=70_001), rng.normal(size=70_001)
    for name in UPDATES:
        p = gb.nn.Parameter(gb.tensor(start))
        optimizer = getattr(gb.optim, name)([p], lr=0.1)
        p.grad = gb.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(
            p.detach().numpy(), UPDATES[name](start, gradient, {}, lr=0.1), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", UPDATES)
def test_a_parameter_without_gradient_is_left_alone(name, device):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n) for n in (3, 70, 5, 64, 1)]
    params = [gb.nn.Parameter(gb.tensor(v)) for v in values]
    options = {"lr": 0.1, "weight_decay": 0.3}
    optimizer = getattr(gb.optim, name)(params, **options)
    states = [{} for _ in values]
    # which parameters have a gradient changes from step to step, so their step counts drift apart
    for present in ([0, 1, 2, 3, 4], [0, 2, 3], [1], [], [0, 1, 2, 3, 4], [4], [2, 3, 4]):
        optimizer.zero_grad()
        for i in present:
            gradient = rng.normal(size=values[i].size)
            params[i].grad = gb.tensor(gradient)
            values[i] = UPDATES[name](values[i], gradient, states[i], **options)
        optimizer.step()
        for i, (p, v) in enumerate(zip(params, values)):
            np.testing.assert_allclose(
                p.detach().numpy(), v, rtol=1e-12, atol=1e-14, err_msg=f"parameter {i} of {present}"
            )
    for p, state in zip(params, states):
        assert optimizer.state[p]["step"] == state["step"]


def test_groups_have_their_own_hyperparameters(device):
    params, x, y = problem()
    model = network(params)
    tensors = list(model.parameters())
    optimizer = gb.optim.SGD([{"params": tensors[:2]}, {"params": tensors[2:4], "lr": 0.5}], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": tensors[4:], "momentum": 0.0, "weight_decay": 0.1})
    own = (
        [{"lr": 0.1, "momentum": 0.9}] * 2 + [{"lr": 0.5, "momentum": 0.9}] * 2 + [{"lr": 0.1, "weight_decay": 0.1}] * 2
    )
    states = [{} for _ in params]
    for _ in range(5):
        optimizer.zero_grad()
        gb.nn.functional.mse_loss(model(gb.tensor(x)), gb.tensor(y)).backward()
        gradients = [t.grad.numpy().copy() for t in tensors]
        optimizer.step()
        params = [UPDATES["SGD"](p, g, s, **o) for p, g, s, o in zip(params, gradients, states, own)]
    for t, p in zip(tensors, params):
        np.testing.assert_allclose(t.detach().numpy(), p, rtol=1e-12)


def test_hyperparameters_write_through(device):
    p = gb.nn.Parameter(gb.tensor([1.0, 2.0], dtype="float64"))
    optimizer = gb.optim.SGD([p], lr=0.1)
    p.grad = gb.tensor([1.0, 1.0], dtype="float64")
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    optimizer.param_groups[0].update(lr=1.0, maximize=True)
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [1 - 0.1 - 0.5 + 1, 2 - 0.1 - 0.5 + 1])
    optimizer.param_groups[0]["momentum"] = 0.5  # needs a buffer that was not there
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "momentum_buffer"}


def test_gradient_scale_and_skip_are_read_on_the_device(device):
    p = gb.nn.Parameter(gb.tensor([1.0, -1.0], dtype="float64"))
    optimizer = gb.optim.Adam([p], lr=0.1)
    p.grad = gb.tensor([4.0, 8.0], dtype="float64")
    optimizer.set_skip(gb.tensor(True))
    optimizer.step()
    assert p.tolist() == [1.0, -1.0]
    assert p not in optimizer.state  # the step did not count
    optimizer.set_skip(False)
    optimizer.set_grad_scale(0.25)
    optimizer.step()
    expected = UPDATES["Adam"](np.array([1.0, -1.0]), np.array([1.0, 2.0]), {}, lr=0.1)
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(optimizer.state[p]["exp_avg"].numpy(), [0.1, 0.2], rtol=1e-14)
    optimizer.param_groups[0]["lr"] = 0.2  # leaves the scale as it is
    optimizer.step()
    assert optimizer.state[p]["exp_avg"].tolist()[0] == pytest.approx(0.19)


def test_skipped_steps_keep_counts_apart(device):
    """Two parameters may take part in equally many steps and yet differ in count, when one of the steps was skipped."""
    values = [np.ones(2), np.ones(3)]
    params = [gb.nn.Parameter(gb.tensor(v)) for v in values]
    optimizer = gb.optim.Adam(params, lr=0.1)
    states = [{}, {}]
    for present, skip in (([0], True), ([1], False), ([0, 1], False)):
        optimizer.zero_grad()
        optimizer.set_skip(skip)
        for i in present:
            g = np.arange(1.0, 1 + values[i].size)
            params[i].grad = gb.tensor(g)
            if not skip:
                values[i] = UPDATES["Adam"](values[i], g, states[i], lr=0.1)
        optimizer.step()
    for p, v in zip(params, values):
        np.testing.assert_allclose(p.detach().numpy(), v, rtol=1e-13)


def test_step_with_a_closure():
    w = gb.tensor([3.0], requires_grad=True)
    optimizer = gb.optim.SGD([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with gb.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert w.tolist() == [0.0]


def test_no_epsilon_makes_no_noise(recwarn, device):
    p = gb.nn.Parameter(gb.tensor([1.0, 2.0, 3.0]))
    optimizer = gb.optim.Adam([p], lr=0.1, eps=0.0)
    p.grad = gb.tensor([1.0, 1.0, 1.0])
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [0.9, 1.9, 2.9], rtol=1e-6)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_a_rate_of_zero_changes_nothing(device):
    for name in UPDATES:
        p = gb.nn.Parameter(gb.tensor([1.0, 2.0, 3.0]))
        optimizer = getattr(gb.optim, name)([p], lr=0.0)
        p.grad = gb.tensor([1.0, 0.0, -1.0])
        optimizer.step()
        assert p.tolist() == [1.0, 2.0, 3.0], name
