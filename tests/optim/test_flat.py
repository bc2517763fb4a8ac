"""Flat buffers: layout, where gradients land, moves to other memory, state dictionaries."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.optim.flat import FlatGrad

from .reference import UPDATES


def make(shapes=((3, 5), (5,), (2, 2, 2)), dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [gb.nn.Parameter(gb.tensor(rng.normal(size=s), dtype=dtype)) for s in shapes]


def backward(params):
    sum((p * p).sum() for p in params).backward()


def address(array):
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return interface["data"][0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_parameters_are_views_at_multiples_of_256_bytes(dtype, device):
    params = make(dtype=dtype)
    before = [p.numpy().copy() for p in params]
    optimizer = gb.optim.Adam(params)
    flat = optimizer.param_groups[0].flats[0]
    assert [p.array.shape for p in params] == [(3, 5), (5,), (2, 2, 2)]
    for p, value, start in zip(params, before, flat.starts):
        np.testing.assert_array_equal(p.numpy(), value)
        assert address(p.array) % 256 == 0
        assert address(p.array) - address(flat.param) == start * p.dtype.itemsize
    backward(params)
    optimizer.step()
    for buffer in (flat.param, flat.grad, *flat.state.values()):
        host = gb.device(device).backend.to_host(buffer)
        used = np.zeros(host.size, bool)
        for start, p in zip(flat.starts, params):
            used[start : start + p.size] = True
        assert not host[~used].any()
        assert host[used].all()


def test_dtypes_and_groups_get_buffers_of_their_own(device):
    params = [*make(), *make(dtype="float32")]
    optimizer = gb.optim.SGD(params)
    assert [f.dtype.name for f in optimizer.param_groups[0].flats] == ["float64", "float32"]
    backward(params[:3])
    backward(params[3:])
    before = [p.numpy().copy() for p in params]
    optimizer.step()
    for p, value in zip(params, before):
        np.testing.assert_allclose(p.numpy(), value * (1 - 2e-3), rtol=1e-6)


def test_one_launch_updates_everything(monkeypatch, device):
    functions = gb.device(device).functions
    calls = []
    real = functions["adam_update"]
    monkeypatch.setitem(functions, "adam_update", lambda *a, **k: calls.append(k["count"]) or real(*a, **k))
    params = make(((4,), (4,), (4,), (4,), (4,)))
    optimizer = gb.optim.Adam(params)
    backward(params)
    optimizer.step()
    assert calls == [5]
    calls.clear()
    optimizer.zero_grad()
    backward([params[0], params[1], params[4]])
    optimizer.step()
    assert calls == [2, 1]  # one for each contiguous run
    calls.clear()
    optimizer.zero_grad()
    backward(params)
    optimizer.step()
    assert calls == [2, 2, 1]  # runs of equal step counts


def test_gradients_land_in_the_flat_buffer(device):
    params = make()
    optimizer = gb.optim.SGD(params)
    assert all(p.grad is None for p in params)
    backward(params)
    assert all(isinstance(p._grad, FlatGrad) for p in params)
    first = [p.grad for p in params]
    backward(params)  # adds
    for p, g in zip(params, first):
        assert p.grad is g
        np.testing.assert_allclose(g.numpy(), 4 * p.detach().numpy())
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    backward(params)  # overwrites
    for p in params:
        np.testing.assert_allclose(p.grad.numpy(), 2 * p.detach().numpy())
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.numpy().any() for p in params)


def test_a_gradient_that_was_kept_stays_what_it_was(device):
    params = make()
    optimizer = gb.optim.SGD(params, lr=0.1)
    kept = []
    for factor in (1.0, -3.0):
        optimizer.zero_grad()
        sum((p * p).sum() * factor for p in params).backward()
        kept.append([p.grad for p in params])
    for p, first, second in zip(params, *kept):
        np.testing.assert_allclose(first.numpy(), 2 * p.detach().numpy())
        np.testing.assert_allclose(second.numpy(), -6 * p.detach().numpy())
    with gb.no_grad():
        for p in params:
            p.grad *= 0.5  # in place: the buffer itself
    assert all(isinstance(p._grad, FlatGrad) for p in params)
    before = [p.numpy().copy() for p in params]
    optimizer.step()
    for p, b in zip(params, before):
        np.testing.assert_allclose(p.numpy(), b + 0.1 * 3 * b)


def test_gradients_from_elsewhere_are_copied_in(device):
    params = make()
    optimizer = gb.optim.SGD(params, lr=0.5)
    before = [p.numpy().copy() for p in params]
    sum((p * p).sum() for p in params).backward(create_graph=True)
    assert params[0].grad.requires_grad
    assert not isinstance(params[0]._grad, FlatGrad)
    params[1].grad = gb.ones_like(params[1])
    params[2].grad = None
    optimizer.step()
    np.testing.assert_allclose(params[0].detach().numpy(), np.zeros((3, 5)), atol=1e-15)
    np.testing.assert_allclose(params[1].detach().numpy(), before[1] - 0.5)
    np.testing.assert_array_equal(params[2].detach().numpy(), before[2])


def test_gradients_that_were_there_before_are_kept(device):
    params = make()
    backward(params)
    expected = [p.detach().numpy() - 0.1 * p.grad.numpy() for p in params]
    gb.optim.SGD(params, lr=0.1).step()
    for p, value in zip(params, expected):
        np.testing.assert_allclose(p.detach().numpy(), value)


def test_a_gradient_in_the_buffer_of_another_optimiser(device):
    params = make()
    first = gb.optim.SGD(params, lr=0.1)
    backward(params)
    expected = [p.detach().numpy() - 0.1 * p.grad.numpy() for p in params]
    gb.optim.SGD(params, lr=9.0)  # takes the parameters, but not the gradients
    first.step()
    for p, value in zip(params, expected):
        np.testing.assert_allclose(p.detach().numpy(), value)


def test_a_saved_parameter_that_was_stepped_is_noticed(device):
    params = make()
    optimizer = gb.optim.SGD(params)
    loss = (params[0] * params[0]).sum()
    backward(params)
    optimizer.step()
    with pytest.raises(gb.TapeError, match="changed in place"):
        loss.backward()


def test_two_optimisers_in_turn(device):
    """Each takes the parameters into its own buffers; values and state go on as if nothing had happened."""
    p = make(((7,),))[0]
    value = p.numpy().copy()
    first, second = gb.optim.Adam([p], lr=0.1), gb.optim.SGD([p], lr=0.2, momentum=0.9)
    states = {"Adam": {}, "SGD": {}}
    for name, options, optimizer in [("Adam", {"lr": 0.1}, first), ("SGD", {"lr": 0.2, "momentum": 0.9}, second)] * 3:
        optimizer.zero_grad()
        backward([p])
        gradient = p.grad.numpy().copy()
        np.testing.assert_allclose(gradient, 2 * value)
        optimizer.step()
        value = UPDATES[name](value, gradient, states[name], **options)
        np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-13)


def test_a_module_that_changes_its_dtype_is_flattened_anew(device):
    gb.manual_seed(0)
    model = gb.nn.Linear(3, 2, dtype="float32")
    optimizer = gb.optim.Adam(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        (model(gb.ones((4, 3), dtype="float64")) ** 2).sum().backward()
        optimizer.step()

    step()
    average = optimizer.state[model.weight]["exp_avg"].numpy().copy()
    model.to("float64")
    assert model.weight.grad.dtype == "float64"
    assert model.weight.dtype == "float64"
    step()
    state = optimizer.state[model.weight]
    assert state["exp_avg"].dtype == "float64"
    assert state["step"] == 2
    np.testing.assert_allclose(state["exp_avg"].numpy(), 0.9 * average + 0.1 * model.weight.grad.numpy(), rtol=1e-6)


@pytest.mark.emulated
def test_a_module_that_moves_to_another_device_takes_its_state_along():
    from tests.conftest import require_emulated

    require_emulated()
    value = np.array([1.0, -2.0, 3.0])
    model = gb.nn.Module()
    model.w = gb.nn.Parameter(gb.tensor(value))
    optimizer = gb.optim.Adam(model.parameters(), lr=0.1)
    state = {}
    for place, lr in (("cpu", 0.1), ("emulated", 0.2), ("emulated", 0.3), ("cpu", 0.3)):
        model.to(place)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        backward([model.w])
        optimizer.step()
        value = UPDATES["Adam"](value, 2 * value, state, lr=lr)
        assert model.w.device == place
        np.testing.assert_allclose(model.w.detach().numpy(), value, rtol=1e-12)


def test_parameters_that_did_not_move_step_once(device):
    first, second = make(dtype="float32"), gb.nn.Linear(2, 2, dtype="float64")
    optimizer = gb.optim.SGD([*first, *second.parameters()], lr=0.5)
    second.to("float16")
    before = [p.numpy().copy() for p in first]
    sum(p.sum() for p in first).backward()
    optimizer.step()
    for p, value in zip(first, before):
        np.testing.assert_array_equal(p.numpy(), value - np.float32(0.5))


def test_a_scale_and_a_skip_on_the_device_outlast_a_move(device):
    (p,) = make(((3,),))
    optimizer = gb.optim.SGD([p], lr=1.0)
    optimizer.set_grad_scale(gb.tensor(0.25))
    gb.optim.Adam([p])  # takes the parameter into a buffer of its own
    before = p.numpy().copy()
    p.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), before - 0.25)
    optimizer.set_skip(gb.tensor(True))
    gb.optim.Adam([p])
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), before - 0.25)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_model_and_its_optimiser_are_copied_together(duplicate, device):
    gb.manual_seed(0)
    model = gb.nn.Linear(3, 2)
    optimizer = gb.optim.Adam([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias]}])
    x = gb.ones((1, 3))
    for _ in range(2):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    other, its_optimizer = duplicate((model, optimizer))
    before = model.weight.numpy().copy()
    np.testing.assert_array_equal(other.weight.numpy(), before)
    other(x).sum().backward()
    its_optimizer.step()
    np.testing.assert_array_equal(model.weight.numpy(), before)
    optimizer.step()
    np.testing.assert_array_equal(other.weight.numpy(), model.weight.numpy())
    np.testing.assert_array_equal(other.bias.numpy(), model.bias.numpy())


@pytest.mark.parametrize("name", UPDATES)
def test_state_dict_round_trip(name, device):
    options = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True}}
    params = make()
    optimizer = getattr(gb.optim, name)(params, lr=0.05, **options.get(name, {}))
    for subset in (params, params[:1], params):
        optimizer.zero_grad()
        backward(subset)
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    twins = [gb.nn.Parameter(p.detach().copy()) for p in params]
    other = getattr(gb.optim, name)(twins, lr=9.0)
    buffer = other.param_groups[0].flats[0].param
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.05
    assert other.param_groups[0].flats[0].param is buffer
    for _ in range(2):
        for o, ps in ((optimizer, params), (other, twins)):
            o.zero_grad()
            backward(ps)
            o.step()
        for p, twin in zip(params, twins):
            np.testing.assert_array_equal(p.detach().numpy(), twin.detach().numpy())
    assert other.state[twins[0]]["step"] == 5
    assert other.state[twins[1]]["step"] == 4


def test_state_dict_is_laid_out_as_pytorch_does():
    params = make(((2,), (3,)))
    optimizer = gb.optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.1}], amsgrad=True)
    assert optimizer.state_dict()["state"] == {}
    backward(params)
    optimizer.step()
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    assert [g["params"] for g in state["param_groups"]] == [[0], [1]]
    assert set(state["state"][1]) == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    assert state["state"][1]["exp_avg"].shape == (3,)
    assert state["param_groups"][1]["lr"] == 0.1
    assert state["param_groups"][1]["betas"] == (0.9, 0.999)


def test_a_state_of_pytorchs_sgd_which_does_not_count_steps():
    p = make(((2,),))[0]
    value = p.numpy().copy()
    optimizer = gb.optim.SGD([p], lr=0.1, momentum=0.9)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {0: {"momentum_buffer": np.array([1.0, -1.0])}}, "param_groups": groups})
    p.grad = gb.tensor([0.5, 0.5], dtype="float64")
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), value - 0.1 * np.array([1.4, -0.4]), rtol=1e-13)


def test_a_state_that_does_not_fit_is_refused():
    optimizer = gb.optim.Adam(make())
    backward(optimizer.param_groups[0]["params"])
    optimizer.step()
    good = optimizer.state_dict()
    with pytest.raises(gb.CheckpointError, match=r"groups of \[3\] parameters for .* groups of \[2\]"):
        gb.optim.Adam(make()[:2]).load_state_dict(good)
    with pytest.raises(gb.CheckpointError, match=r"1\.exp_avg \[5\] for a parameter \[6\]"):
        gb.optim.Adam(make(((3, 5), (6,), (2, 2, 2)))).load_state_dict(good)
    with pytest.raises(gb.CheckpointError, match="not an optimiser's state"):
        optimizer.load_state_dict({"nothing": 1})


def test_a_copied_model_has_no_place_in_the_buffers(device):
    params = make()
    model = gb.nn.Module()
    model.w = params[0]
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)
    backward([model.w])
    twin = copy.deepcopy(model)
    assert twin.w.grad is None
    before = twin.w.numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(twin.w.numpy(), before)
    backward([twin.w])
    assert not isinstance(twin.w._grad, FlatGrad)


def test_an_optimiser_that_is_dropped_frees_its_buffers_at_once(device):
    params = make()
    optimizer = gb.optim.Adam(params)
    scheduler = gb.optim.lr_scheduler.StepLR(optimizer, 1)
    backward(params)
    optimizer.step()
    gone = weakref.ref(optimizer.param_groups[0].flats[0])
    gc.disable()
    try:
        del optimizer, scheduler
        assert gone() is None
    finally:
        gc.enable()


KEPT = gb.optim.Adam(make())
BAD = [
    (lambda: gb.optim.Adam(make(), lr=-1e-3), gb.DataError, "lr=-0.001 is out of range"),
    (lambda: gb.optim.Adam(make(), lr=float("nan")), gb.DataError, "lr=nan is out of range"),
    (lambda: gb.optim.Adam(make(), lr="fast"), gb.DTypeError, "'fast' is not a number"),
    (lambda: gb.optim.Adam(make(), betas=(0.9, 1.0)), gb.DataError, r"betas\[1\]=1.0 is out of range"),
    (lambda: gb.optim.Adam(make(), betas=0.9), gb.DataError, "not two numbers"),
    (lambda: gb.optim.Adam(make(), eps=-1.0), gb.DataError, "eps=-1.0"),
    (lambda: gb.optim.AdamW(make(), weight_decay=-1.0), gb.DataError, "AdamW: weight_decay=-1.0"),
    (lambda: gb.optim.SGD(make(), momentum=-0.1), gb.DataError, "momentum=-0.1"),
    (lambda: gb.optim.SGD(make(), nesterov=True), gb.DataError, "needs a momentum"),
    (lambda: gb.optim.RMSprop(make(), alpha=1.5), gb.DataError, "alpha=1.5"),
    (lambda: gb.optim.Adagrad(make(), lr_decay=-1.0), gb.DataError, "lr_decay=-1.0"),
    (lambda: gb.optim.Adam([]), gb.DataError, "empty; pass model.parameters()"),
    (lambda: gb.optim.Adam([{"params": []}]), gb.DataError, "empty"),
    (lambda: gb.optim.Adam(3), gb.DTypeError, "not a list of parameters"),
    (lambda: gb.optim.Adam(gb.nn.Linear(2, 2).named_parameters()), gb.DTypeError, "a tuple is not a parameter"),
    (lambda: gb.optim.Adam(make()[0]), gb.DTypeError, "given as a list"),
    (lambda: gb.optim.Adam([make()[0] * 2]), gb.DataError, "computed Tensor"),
    (lambda: gb.optim.Adam([gb.tensor([1, 2])]), gb.DTypeError, "int64 has no gradient"),
    (lambda: gb.optim.Adam(make(((2,),)) * 2), gb.DataError, "in the parameters twice"),
    (lambda: gb.optim.Adam([{"params": make(), "speed": 3}]), gb.DataError, "unknown option 'speed'"),
    (lambda: gb.optim.SGD(make(), lr=float("inf")), gb.DataError, "lr=inf is not finite"),
    (lambda: gb.optim.SGD(make(), lr="0.1"), gb.DTypeError, "lr='0.1' is not a number"),
    (lambda: KEPT.param_groups[0].update(lr=-1.0), gb.DataError, "lr=-1.0"),
    (lambda: KEPT.param_groups[0].__setitem__("params", []), gb.DataError, "add_param_group"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_repr_names_the_hyperparameters():
    assert "lr: 0.001" in repr(gb.optim.Adam(make()))
