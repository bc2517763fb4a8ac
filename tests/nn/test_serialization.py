"""gb.save and gb.load: architecture and weights, all dtypes, and files that are none."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import gpu_backprop as gb
from gpu_backprop import nn


def same(a, b):
    assert repr(a) == repr(b)
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    for key in left:
        assert left[key].dtype == right[key].dtype
        np.testing.assert_array_equal(left[key].numpy(), right[key].numpy(), err_msg=key)


EVERYTHING = [
    lambda: nn.MLP([3, 8, 8, 2], activation="gelu", dropout=0.25, norm="batch"),
    lambda: nn.Sequential(
        nn.Standardize().fit(np.random.default_rng(0).normal(size=(9, 4)) * 7), nn.Linear(4, 3, bias=False),
        nn.LeakyReLU(0.2), nn.ELU(0.3), nn.GELU("tanh"), nn.SiLU(), nn.Softplus(2.0, 9.0), nn.Tanh(), nn.Sigmoid(),
        nn.ReLU(), nn.Softmax(1), nn.Dropout(0.1),
        nn.Sequential(nn.LayerNorm((2, 3), eps=0.1, bias=False), nn.RMSNorm(3, elementwise_affine=False)),
        nn.BatchNorm1d(5, momentum=None, affine=False),
    ),
    lambda: nn.Sequential({"words": nn.Embedding(7, 3, padding_idx=1), "last": nn.Linear(3, 1)}),
    lambda: nn.Linear(2, 3),
    lambda: nn.CrossEntropyLoss(gb.tensor([1.0, 2.0]), ignore_index=3, reduction="sum", label_smoothing=0.1),
    lambda: nn.BCEWithLogitsLoss(pos_weight=gb.tensor([3.0])),
    lambda: nn.HuberLoss("none", 0.5),
]  # fmt: skip


@pytest.mark.parametrize("make", EVERYTHING)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_round_trip(make, dtype, tmp_path, device):
    model = make().to(dtype)
    path = tmp_path / "model.safetensors"
    gb.save(model, path)
    loaded = gb.load(path)
    same(model, loaded)
    for t in [*loaded.parameters(), *loaded.buffers()]:
        assert t.device == device
    for name in ("ignore_index", "reduction", "label_smoothing", "delta", "momentum", "padding_idx"):
        assert getattr(model, name, None) == getattr(loaded, name, None)


def test_the_mode_is_kept_and_the_model_computes_the_same(tmp_path):
    model = nn.MLP([3, 8, 2], dropout=0.5, norm="batch")
    model(gb.tensor(np.random.default_rng(0).normal(size=(16, 3))))
    x = gb.ones((4, 3))
    gb.save(model.eval(), tmp_path / "m")
    loaded = gb.load(tmp_path / "m")
    assert not any(m.training for m in loaded.modules())
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())
    gb.save(model.train(), tmp_path / "m")
    assert gb.load(tmp_path / "m").training


def test_an_mlp_whose_layers_were_changed(tmp_path):
    model = nn.MLP([3, 8, 2])
    model[1] = nn.Tanh()
    model.append(nn.Softmax(1))
    gb.save(model, tmp_path / "m")
    same(model, gb.load(tmp_path / "m"))
    del model[0].bias
    model[0].bias = None
    gb.save(model, tmp_path / "m")
    assert gb.load(tmp_path / "m")[0].bias is None


def test_parameters_in_strange_layouts_are_saved_as_they_read(tmp_path):
    model = nn.Linear(3, 4)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    model.weight = nn.Parameter(gb.asarray(values).T)  # safetensors would write the memory as it lies
    assert not model.weight.array.flags.c_contiguous
    gb.save(model, tmp_path / "m")
    np.testing.assert_array_equal(gb.load(tmp_path / "m").weight.numpy(), values.T)
    with safe_open(tmp_path / "m", framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("weight"), values.T)


def test_weights_that_an_optimiser_holds_are_saved(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)
    model(gb.ones((2, 3))).sum().backward()
    optimizer.step()
    gb.save(model, tmp_path / "m")
    same(model, gb.load(tmp_path / "m"))


def test_shared_parameters_stay_shared(tmp_path):
    layer = nn.Linear(3, 3)
    other = nn.Linear(3, 3)
    other.weight = layer.weight
    gb.save(nn.Sequential(layer, other), tmp_path / "m")
    loaded = gb.load(tmp_path / "m")
    assert loaded[0].weight is loaded[1].weight
    assert loaded[0].bias is not loaded[1].bias
    assert len(list(loaded.parameters())) == 3


def test_the_file_is_plain_safetensors(tmp_path):
    gb.save(nn.MLP([2, 3, 1]), tmp_path / "m")
    with safe_open(tmp_path / "m", framework="np") as file:
        assert sorted(file.keys()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
        tree = json.loads(file.metadata()["architecture"])
    assert tree["model"]["class"] == "MLP"
    assert tree["model"]["arguments"] == {"sizes": [2, 3, 1], "activation": "relu", "dropout": 0.0, "norm": None}
    assert os.listdir(tmp_path) == ["m"]  # nothing left lying about


@nn.register
class Residual(nn.Module):
    def __init__(self, width, depth=2):
        self.width = width
        self.depth = depth
        self.body = nn.MLP([width] * (depth + 1))

    def forward(self, x):
        return x + self.body(x)


@nn.register
class Configured(nn.Module):
    def __init__(self, n):
        self.layer = nn.Linear(n, 1)

    def config(self):
        return {"n": self.layer.in_features}


class Unknown(nn.Module):
    def __init__(self, width):
        self.layer = nn.Linear(width, 1)


def test_classes_of_ones_own(tmp_path):
    model = nn.Sequential(Residual(3, depth=1), Configured(3))
    gb.save(model, tmp_path / "m")
    same(model, gb.load(tmp_path / "m"))
    with pytest.raises(gb.CheckpointError, match=r"Sequential\.0 is of the class Unknown.*state_dict.*nn\.register"):
        gb.save(nn.Sequential(Unknown(3)), tmp_path / "m")
    with pytest.raises(gb.CheckpointError, match="another class is called Linear"):
        nn.register(type("Linear", (nn.Module,), {}))


def test_what_is_no_path_is_named():
    with pytest.raises(gb.CheckpointError, match="save: None is not a path"):
        gb.save(nn.ReLU(), None)
    with pytest.raises(gb.CheckpointError, match="load: 3 is not a path"):
        gb.load(3)


def test_a_registered_class_without_its_arguments(tmp_path):
    class Forgetful(nn.Module):
        def __init__(self, width):
            self.layer = nn.Linear(width, 1)

    nn.register(Forgetful)
    with pytest.raises(gb.CheckpointError, match=r"no attribute 'width'.*config\(\)"):
        gb.save(Forgetful(3), tmp_path / "m")


def write(path, **changes):
    """A good file with its metadata changed."""
    gb.save(nn.Linear(2, 1), path)
    with safe_open(path, framework="np") as file:
        metadata = {**file.metadata(), **changes}
        arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (the handle is no dict)
    save_file(arrays, path, metadata={k: v for k, v in metadata.items() if v is not None})


def tree(**changes):
    node = {"class": "Linear", "arguments": {"in_features": 2, "out_features": 1}, **changes}
    return json.dumps({"model": node, "training": True})


BAD = {
    "does not exist": lambda p: None,
    "not a safetensors file": lambda p: p.write_bytes(b"hello, world, this is no model"),
    "is damaged": lambda p: p.write_bytes(b""),
    "no model of this library": lambda p: save_file({"a": np.ones(2)}, p),
    "a newer format|no model of this library": lambda p: write(p, format="gpu_backprop 9"),
    "'Gone' is not known here": lambda p: write(p, architecture=tree(**{"class": "Gone"})),
    "'functional' is not known here": lambda p: write(p, architecture=tree(**{"class": "functional"})),
    "unexpected keyword": lambda p: write(p, architecture=tree(arguments={"size": 2})),
    r"weight \(saved \[1, 2\], here \[1, 3\]\)": lambda p: write(
        p, architecture=tree(arguments={"in_features": 3, "out_features": 1})
    ),
    "cannot be built": lambda p: write(p, architecture="{"),
    "KeyError: 'architecture'": lambda p: write(p, architecture=None),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_named(message, tmp_path):
    path = tmp_path / "model.safetensors"
    BAD[message](path)
    with pytest.raises(gb.CheckpointError, match=message) as caught:
        gb.load(path)
    assert "\n" not in str(caught.value)
    assert "model.safetensors" in str(caught.value)


def test_a_cut_file_is_named(tmp_path):
    gb.save(nn.Linear(20, 10), tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    for n in (4, 100, len(data) - 1):
        (tmp_path / "m").write_bytes(data[:n])
        with pytest.raises(gb.CheckpointError, match="damaged"):
            gb.load(tmp_path / "m")


def test_places_that_cannot_be_written_or_read(tmp_path):
    with pytest.raises(gb.CheckpointError, match="cannot be written"):
        gb.save(nn.ReLU(), tmp_path / "nowhere" / "m")
    with pytest.raises(gb.CheckpointError, match="cannot be read"):
        gb.load(tmp_path)
    with pytest.raises(gb.CheckpointError, match="a dict is not a model"):
        gb.save({}, tmp_path / "m")
    assert os.listdir(tmp_path) == []
