"""float32 master copies of 16-bit parameters: against float32 training, and in step with what the user writes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import gpu_backprop as gb

from .parity import network
from .reference import UPDATES, problem

HALVES = ("float16", "bfloat16")


def flats(optimizer):
    return [flat for group in optimizer.param_groups for flat in group.flats]


def make(dtype="bfloat16", n=300, seed=0):
    return gb.nn.Parameter(gb.tensor(np.random.default_rng(seed).normal(size=n), dtype=dtype))


def wide(t):
    return t.detach().numpy().astype(np.float64)


def step(optimizer, p, gradient):
    p.grad = gb.tensor(gradient, dtype=p.dtype)
    optimizer.step()


def train(dtype, steps=100, **options):
    """Losses and last weights, in float64, of the reference's perceptron."""
    params, x, y = problem()
    model = network(params, dtype)
    optimizer = gb.optim.Adam(model.parameters(), lr=1e-3, **options)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = gb.nn.functional.mse_loss(model(gb.tensor(x, dtype=dtype)), gb.tensor(y, dtype=dtype))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, np.concatenate([wide(p).ravel() for p in model.parameters()])


def test_a_hundred_steps_of_bfloat16_stay_close_to_float32_with_a_master_and_not_without(device):
    start = np.concatenate([p.ravel() for p in problem()[0]])
    exact = train("float32")[1]
    errors = {}
    for master in (True, False):
        got = train("bfloat16", master_weights=master)[1]
        errors[master] = np.linalg.norm(got - exact) / np.linalg.norm(exact - start)
    assert errors[True] < 0.05  # of the way that training went
    assert errors[False] > 0.2


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", UPDATES)
def test_steps_that_are_small_beside_the_parameters_add_up(name, dtype, device):
    """A hundred equal gradients: with a master as the formula has it, without one nothing moves at all."""
    ends = {}
    for master in (True, False):
        p = gb.nn.Parameter(gb.ones(40, dtype=dtype))
        optimizer = getattr(gb.optim, name)([p], lr=2e-4, master_weights=master)
        for _ in range(100):
            step(optimizer, p, np.ones(40))
        ends[master] = wide(p)
    value, state = np.ones(40), {}
    for _ in range(100):
        value = UPDATES[name](value, np.ones(40), state, lr=2e-4)
    np.testing.assert_allclose(ends[True], value, atol=2.0**-9 if dtype == "bfloat16" else 2.0**-12)
    assert (ends[True] < 1).all()
    assert name != "SGD" or (ends[False] == 1).all()  # the others begin with larger steps, or keep state in 16 bits


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", UPDATES)
def test_the_master_follows_the_formula_in_float32(name, dtype, device):
    rng = np.random.default_rng(1)
    p = make(dtype)
    optimizer = getattr(gb.optim, name)([p], lr=0.05, weight_decay=0.1, master_weights=True)
    value, state = wide(p), {}
    for _ in range(20):
        gradient = gb.tensor(rng.normal(size=300), dtype=dtype)
        value = UPDATES[name](value, wide(gradient), state, lr=0.05, weight_decay=0.1)
        step(optimizer, p, gradient.numpy())
    (flat,) = flats(optimizer)
    master = gb.device(device).backend.to_host(flat.master)[:300]
    assert master.dtype == np.float32
    np.testing.assert_allclose(master, value, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(p.detach().numpy(), master.astype(p.dtype))
    assert all(buffer.dtype == np.float32 for buffer in flat.state.values())


def test_wide_parameters_need_no_master(device):
    for dtype in ("float32", "float64"):
        optimizer = gb.optim.Adam([make(dtype)], master_weights=True)
        (flat,) = flats(optimizer)
        assert flat.master is None
        assert all(buffer.dtype == dtype for buffer in flat.state.values())
    mixed = gb.optim.SGD([make("float32"), make("float16")], master_weights=True)
    assert [flat.master is None for flat in flats(mixed)] == [True, False]


def writes():
    """Ways to write into parameters after the optimiser has taken them."""

    def load(model):
        model.load_state_dict({"w": np.full(300, 32.0, np.float32)})

    def copy_(model):
        with gb.no_grad():
            model.w.copy_(gb.full(300, 32.0, dtype="bfloat16"))

    def in_place(model):
        with gb.no_grad():
            model.w *= 0.0
            model.w += 32.0

    def initialise(model):
        gb.nn.init.constant_(model.w, 32.0)

    return load, copy_, in_place, initialise


@pytest.mark.parametrize("write", writes(), ids=lambda f: f.__name__)
def test_what_is_written_into_parameters_is_not_undone(write, device):
    model = gb.nn.Module()
    model.w = make()
    optimizer = gb.optim.SGD(model.parameters(), lr=2.0**-12, master_weights=True)
    for _ in range(3):
        step(optimizer, model.w, np.ones(300))
    write(model)
    assert model.w.tolist() == [32.0] * 300
    for _ in range(2):
        step(optimizer, model.w, np.ones(300))
    master = gb.device(device).backend.to_host(flats(optimizer)[0].master)[:300]
    assert master.tolist() == [32 - 2.0**-11] * 300


def test_a_write_keeps_the_digits_of_what_it_leaves_alone(device):
    p = gb.nn.Parameter(gb.ones(4, dtype="bfloat16"))
    optimizer = gb.optim.SGD([p], lr=2.0**-12, master_weights=True)
    step(optimizer, p, np.ones(4))
    with gb.no_grad():
        p[0] = 2.0
    step(optimizer, p, np.ones(4))
    master = gb.device(device).backend.to_host(flats(optimizer)[0].master)[:4]
    assert master.tolist() == [2 - 2.0**-12] + [1 - 2.0**-11] * 3


@pytest.mark.parametrize("order", ["model first", "optimizer first"])
@pytest.mark.parametrize("name", UPDATES)
def test_state_dict_carries_the_master(name, order, device):
    rng = np.random.default_rng(2)
    p, twin = make(), make(seed=9)
    optimizer = getattr(gb.optim, name)([p], lr=1e-3, master_weights=True)
    for _ in range(3):
        step(optimizer, p, rng.normal(size=300))
    saved, weights = copy.deepcopy(optimizer.state_dict()), p.detach().copy()
    master = saved["state"][0]["master"]
    assert master.dtype == "float32"
    assert (master.numpy() != wide(p)).any()
    other = getattr(gb.optim, name)([twin], lr=9.0, master_weights=True)
    with gb.no_grad():
        if order == "model first":
            twin.copy_(weights)
        other.load_state_dict(saved)
        if order != "model first":
            twin.copy_(weights)
    for _ in range(3):
        gradient = rng.normal(size=300)
        step(optimizer, p, gradient)
        step(other, twin, gradient)
    np.testing.assert_array_equal(twin.detach().numpy(), p.detach().numpy())
    np.testing.assert_array_equal(other.state[twin]["master"].numpy(), optimizer.state[p]["master"].numpy())


def test_a_state_without_a_master_starts_from_the_parameters(device):
    p, twin = make(), make(seed=9)
    plain = gb.optim.Adam([p], lr=2.0**-12)
    step(plain, p, np.ones(300))
    optimizer = gb.optim.Adam([twin], lr=2.0**-12, master_weights=True)
    step(optimizer, twin, np.ones(300))
    optimizer.load_state_dict(plain.state_dict())
    master = gb.device(device).backend.to_host(flats(optimizer)[0].master)[:300]
    np.testing.assert_array_equal(master, wide(twin))
    plain.load_state_dict(optimizer.state_dict())  # and one with a master is no trouble to an optimiser without
    assert set(plain.state[p]) == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_keep_their_master(duplicate, device):
    p = make()
    optimizer = gb.optim.Adam([p], lr=1e-3, master_weights=True)
    step(optimizer, p, np.ones(300))
    twin, other = duplicate((p, optimizer))
    for q, o in ((p, optimizer), (twin, other)):
        step(o, q, np.full(300, 0.5))
    np.testing.assert_array_equal(other.state[twin]["master"].numpy(), optimizer.state[p]["master"].numpy())


def test_two_optimisers_in_turn_see_what_the_other_wrote(device):
    p = gb.nn.Parameter(gb.ones(4, dtype="bfloat16"))
    first, second = (gb.optim.SGD([p], lr=lr, master_weights=True) for lr in (2.0**-12, 0.5))
    step(first, p, np.ones(4))
    step(second, p, np.ones(4))
    assert p.tolist() == [0.5] * 4
    step(first, p, np.ones(4))
    assert first.state[p]["master"].tolist() == [0.5 - 2.0**-12] * 4


def test_a_parameter_without_gradient_keeps_its_master(device):
    a, b = (gb.nn.Parameter(gb.ones(4, dtype="bfloat16")) for _ in range(2))
    optimizer = gb.optim.SGD([a, b], lr=2.0**-12, master_weights=True)
    for present in ([a, b], [b], [a, b]):
        optimizer.zero_grad()
        for p in present:
            p.grad = gb.ones(4, dtype="bfloat16")
        optimizer.step()
    assert optimizer.state[a]["master"].tolist() == [1 - 2 * 2.0**-12] * 4
    assert optimizer.state[b]["master"].tolist() == [1 - 3 * 2.0**-12] * 4


def test_more_elements_than_one_block(device):
    rng = np.random.default_rng(0)
    for name in UPDATES:
        p = make(n=70_001)
        start, gradient = wide(p), gb.tensor(rng.normal(size=70_001), dtype="bfloat16")
        optimizer = getattr(gb.optim, name)([p], lr=0.1, master_weights=True)
        step(optimizer, p, gradient.numpy())
        expected = UPDATES[name](start, wide(gradient), {}, lr=0.1)
        np.testing.assert_allclose(optimizer.state[p]["master"].numpy(), expected, rtol=1e-5, atol=1e-6)
