"""Module: finding parts, state dictionaries, moving, modes, repr; Sequential and MLP."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop import nn


class Block(nn.Module):
    """A custom Module with parts of every kind; note that it does not call super().__init__()."""

    def __init__(self):
        self.first = nn.Linear(3, 4)
        self.gain = nn.Parameter(gb.ones(4))
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("shift", gb.zeros(4))
        self.register_buffer("scratch", gb.zeros(2), persistent=False)
        self.nothing = None
        self.tied = self.first

    def forward(self, x):
        return self.norm(self.first(x)) * self.gain + self.shift


KEYS = [
    *("gain", "shift", "first.weight", "first.bias"),
    *("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    *("tied.weight", "tied.bias"),
]


def test_parts_are_found_once():
    model = Block()
    assert [n for n, _ in model.named_parameters()] == [
        "gain",
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
    ]
    assert [n for n, _ in model.named_parameters(prefix="p", recurse=False)] == ["p.gain"]
    assert len(list(model.parameters())) == 5
    assert [n for n, _ in model.named_buffers()] == [
        *("shift", "scratch", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    ]
    assert [n for n, _ in model.named_children()] == ["first", "norm"]
    assert [n for n, _ in model.named_modules()] == ["", "first", "norm"]
    assert list(model.modules()) == [model, model.first, model.norm]
    del model.tied, model.first
    assert [n for n, _ in model.named_parameters()] == ["gain", "norm.weight", "norm.bias"]


def test_state_dict_has_every_name():
    model = Block()
    state = model.state_dict()
    assert list(state) == KEYS
    assert not any(t.requires_grad for t in state.values())
    state["gain"].array[0] = 7.0
    assert model.gain.tolist()[0] == 7.0  # shared memory, as PyTorch's


def test_load_state_dict_writes_in_place(device):
    model, other = Block(), Block()
    gb.optim.SGD(model.parameters())  # in a flat buffer now
    place = model.first.weight.array
    assert repr(model.load_state_dict(other.state_dict())) == "<All keys matched successfully>"
    assert model.first.weight.array is place
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key].numpy(), value.numpy())
    model.load_state_dict({k: v.numpy().astype(np.float64) for k, v in other.state_dict().items()})
    assert model.gain.dtype == "float32"


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_load_state_dict_takes_arrays_of_other_libraries():
    layer = nn.Linear(2, 1, dtype="float64")
    values = {"weight": np.array([[1 / 3, 1e300]]), "bias": np.array([np.pi])}
    layer.load_state_dict({k: Foreign(v) for k, v in values.items()})
    np.testing.assert_array_equal(layer.weight.numpy(), values["weight"])
    np.testing.assert_array_equal(layer.bias.numpy(), values["bias"])


def test_a_mismatch_lists_everything_and_writes_nothing():
    model = Block()
    state = {k: v.numpy().copy() + 1 for k, v in model.state_dict().items()}
    del state["gain"], state["norm.bias"]
    state["first.weight"] = np.ones((4, 5))
    state["first.bias"] = np.ones(1)
    state["extra"] = np.ones(1)
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    with pytest.raises(gb.CheckpointError) as caught:
        model.load_state_dict(state)
    assert str(caught.value) == (
        "Block.load_state_dict: missing: gain, norm.bias; unexpected: extra; "
        "other shapes: first.weight (saved [4, 5], here [4, 3]), first.bias (saved [1], here [4])"
    )
    with pytest.raises(gb.CheckpointError, match="other shapes"):
        model.load_state_dict(state, strict=False)
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key].numpy(), value)
    del state["first.weight"], state["first.bias"]
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["gain", "first.weight", "first.bias", "norm.bias"]
    assert result.unexpected_keys == ["extra"]
    assert model.shift.tolist() == [1.0] * 4
    with pytest.raises(gb.CheckpointError, match="a list is not a state"):
        model.load_state_dict([1])


def test_to_changes_dtype_in_place_and_keeps_integers():
    model = Block()
    weight = model.first.weight
    model(gb.ones((2, 3))).sum().backward()
    assert model.to("float64") is model
    assert model.first.weight is weight
    assert weight.dtype == "float64"
    assert weight.grad.dtype == "float64"
    assert model.scratch.dtype == "float64"
    assert model.norm.num_batches_tracked.dtype == "int64"
    assert model(gb.ones((2, 3))).dtype == "float64"
    assert model.bfloat16().gain.dtype == "bfloat16"
    assert model.half().gain.dtype == "float16"
    assert model.float().gain.dtype == "float32"
    assert model.double().gain.dtype == "float64"
    with pytest.raises(gb.DTypeError, match="int32 is not a float dtype"):
        model.to("int32")
    with pytest.raises(gb.DeviceError, match="'mars' is not a device"):
        model.to("mars")


def test_a_moved_parameter_that_was_saved_is_noticed():
    layer = nn.Linear(3, 2)
    loss = layer(gb.tensor(np.ones((1, 3)), requires_grad=True)).sum()
    layer.to("float64")
    with pytest.raises(gb.TapeError, match="changed in place"):
        loss.backward()


@pytest.mark.emulated
def test_to_another_device():
    from tests.conftest import require_emulated

    require_emulated()
    model = nn.MLP([3, 4, 2], norm="batch")
    x = np.ones((2, 3), np.float32)
    expected = model(gb.tensor(x)).numpy()
    model.to("emulated")
    assert {p.device.name for p in [*model.parameters(), *model.buffers()]} == {"emulated"}
    np.testing.assert_allclose(model(gb.tensor(x, device="emulated")).numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(gb.DeviceError, match="cpu and emulated"):
        model(gb.tensor(x, device="cpu"))
    assert model.cpu()[0].weight.device == "cpu"
    assert model.to("emulated", "float64")[0].weight.dtype == "float64"


def test_modes_and_freezing():
    model = nn.MLP([3, 4, 2], dropout=0.5)
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.train()
    assert all(m.training for m in model.modules())
    model[0].requires_grad_(False)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    model.eval()(gb.ones((2, 3))).sum().backward()
    assert model[0].weight.grad is None
    assert model[-1].weight.grad is not None
    model.zero_grad(set_to_none=False)
    assert not model[-1].weight.grad.numpy().any()
    bias = model[-1].bias
    repeated = gb.ones(1).broadcast_to(bias.shape)
    for zero_grad in (model.zero_grad, gb.optim.SGD([bias], lr=0.1).zero_grad):
        bias.grad = repeated  # which may not be written
        zero_grad(set_to_none=False)
        assert bias.grad.tolist() == [0.0] * bias.size
    assert repeated.tolist() == [1.0] * bias.size
    model.zero_grad()
    assert model[-1].weight.grad is None


def test_apply_visits_children_first():
    seen = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


def test_operations_know_their_module():
    from gpu_backprop.core import tape

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh()))
    out = nn.MSELoss()(model(gb.ones((1, 2))), gb.ones((1, 2)))
    scopes = [node.scope for node in reversed(tape.nodes([out]))]
    assert scopes == ["Sequential.0", "Sequential.1.0", "MSELoss"]
    with pytest.raises(gb.ShapeError):
        model(gb.ones((1, 3)))
    assert tape.modes.scope == ""


def test_repr_is_pytorchs():
    model = nn.MLP([4, 6, 3], activation="gelu", dropout=0.1, norm="layer")
    assert repr(model) == (
        "MLP(\n"
        "  (0): Linear(in_features=4, out_features=6, bias=True)\n"
        "  (1): LayerNorm((6,), eps=1e-05, elementwise_affine=True, bias=True)\n"
        "  (2): GELU(approximate='none')\n"
        "  (3): Dropout(p=0.1)\n"
        "  (4): Linear(in_features=6, out_features=3, bias=True)\n"
        ")"
    )
    relu = nn.ReLU()
    assert repr(nn.Sequential(relu, relu)) == "Sequential(\n  (0): ReLU()\n  (1): ReLU()\n)"
    assert repr(nn.Sequential(nn.Sequential(nn.ReLU()))) == ("Sequential(\n  (0): Sequential(\n    (0): ReLU()\n  )\n)")
    assert repr(nn.Parameter(gb.ones(2))).startswith("Parameter containing:\ntensor([1., 1.]")


def test_copies_and_pickles():
    model = nn.MLP([3, 4, 2], norm="batch").to("float64")
    gb.optim.Adam(model.parameters())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(twin) == repr(model)
        for (key, a), b in zip(model.state_dict().items(), twin.state_dict().values()):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=key)
        x = gb.tensor(np.random.default_rng(0).normal(size=(4, 3)))
        np.testing.assert_array_equal(model.eval()(x).numpy(), twin.eval()(x).numpy())
        twin[0].weight.array[...] = 0
        assert model[0].weight.numpy().any()


def test_sequential_is_a_list_and_a_dict():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    model = nn.Sequential(a, b)
    assert len(model.append(c)) == 3
    assert list(model) == [a, b, c]
    assert model[-1] is c
    assert list(model[1:]) == [b, c]
    model[1] = nn.Linear(2, 2)
    assert [type(m).__name__ for m in model] == ["ReLU", "Linear", "Sigmoid"]
    model(gb.ones((1, 2)))
    del model[1].bias
    named = nn.Sequential({"a": nn.Linear(2, 2), "b": a})
    assert list(named.state_dict()) == ["a.weight", "a.bias"]
    assert named.a is named[0]
    with pytest.raises(IndexError, match="3 is not one of its 3 modules"):
        model[3]
    with pytest.raises(gb.DTypeError, match="a function is not a Module"):
        nn.Sequential(lambda x: x)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "sigmoid"])
@pytest.mark.parametrize("norm", [None, "layer", "rms", "batch"])
def test_mlp(activation, norm, device):
    model = nn.MLP([5, 8, 7, 3], activation, norm=norm)
    assert isinstance(model, nn.Sequential)
    assert len(model) == (5 if norm is None else 7)
    out = model(gb.ones((4, 5)))
    assert out.shape == (4, 3)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_network_learns(device):
    gb.manual_seed(0)
    g = np.random.default_rng(0)
    x = g.normal(size=(128, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    model = nn.MLP([2, 16, 2], "tanh")
    optimizer = gb.optim.Adam(model.parameters(), lr=0.05)
    loss_fn = nn.CrossEntropyLoss()
    inputs, targets = gb.tensor(x), gb.tensor(labels)
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


BAD = [
    (lambda: nn.MLP([3]), gb.ShapeError, r"sizes=\[3\] describe no network"),
    (lambda: nn.MLP([3, 0, 2]), gb.ShapeError, r"sizes=\[3, 0, 2\] describe no network"),
    (lambda: nn.MLP([3, 2.9, 1]), gb.ShapeError, r"sizes=\[3, 2\.9, 1\] are not a list of integers"),
    (lambda: nn.MLP("64"), gb.ShapeError, "sizes='64' are not a list of integers"),
    (lambda: nn.MLP(7), gb.ShapeError, "not a list of integers"),
    (lambda: nn.MLP([3, 4, 2], "swish"), gb.DataError, "activation 'swish' is unknown; use 'relu'"),
    (lambda: nn.MLP([3, 4, 2], ["relu"]), gb.DataError, r"activation \['relu'\] is unknown"),
    (lambda: nn.MLP([3, 2], "swish"), gb.DataError, "activation 'swish' is unknown"),
    (lambda: nn.MLP([3, 4, 2], norm="group"), gb.DataError, "norm='group' is unknown; use 'layer'"),
    (lambda: nn.MLP([3, 4, 2], norm=["layer"]), gb.DataError, r"norm=\['layer'\] is unknown"),
    (lambda: nn.MLP([3, 4, 2], dropout=2), gb.DataError, "dropout=2 is not a probability"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_no_forward():
    with pytest.raises(NotImplementedError, match="has no forward function"):
        nn.Module()(1)
