"""nn.cast: parameters in 16 bits, buffers as they are, and layers that compute in them."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

HALVES = ("float16", "bfloat16")


def network(**options):
    gb.manual_seed(0)
    return gb.nn.Sequential(gb.nn.Standardize(6), gb.nn.MLP([6, 8, 3], norm="batch", **options))


@pytest.mark.parametrize("dtype", HALVES)
def test_parameters_are_cast_and_buffers_are_not(dtype, device):
    model = network()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    assert gb.nn.cast(model, dtype) is model
    assert {p.dtype.name for p in model.parameters()} == {dtype}
    assert {b.dtype.name for b in model.buffers()} == {"float32", "int64"}
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].astype(value.dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_activations_follow_and_statistics_keep_their_digits(dtype, device):
    """Raw features of 5,000 and more, whose digits 16 bits could not hold, and a running mean near float64's."""
    x = np.random.default_rng(0).normal(size=(64, 6)) + 5000.0
    model = network()
    model[0].fit(x)
    exact = network().to("float64")
    exact[0].fit(x)
    gb.nn.cast(model, dtype)
    for _ in range(20):
        out, reference = model(gb.tensor(x, dtype="float32")), exact(gb.tensor(x))
    assert out.dtype == dtype
    digits = {"float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(out.numpy().astype(np.float64), reference.numpy(), atol=6 * digits)
    for got, want in zip(model.buffers(), exact.buffers()):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=digits, atol=digits)


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_with_norms(dtype, norm, device):
    gb.manual_seed(0)
    model = gb.nn.MLP([6, 8, 3], norm=norm)
    x, y = np.random.default_rng(1).normal(size=(32, 6)), np.arange(32) % 3
    gb.manual_seed(0)
    exact = gb.nn.MLP([6, 8, 3], norm=norm).to("float64")
    gb.nn.cast(model, dtype)
    for m in (model, exact):
        gb.nn.functional.cross_entropy(m(gb.tensor(x)), gb.tensor(y)).backward()
    for p, q in zip(model.parameters(), exact.parameters()):
        assert p.grad.dtype == dtype
        error = np.abs(p.grad.numpy().astype(np.float64) - q.grad.numpy()).max()
        assert error < {"float16": 1e-3, "bfloat16": 1e-2}[dtype]


@pytest.mark.parametrize("dtype", HALVES)
def test_a_cast_model_saves_and_loads(dtype, tmp_path, device):
    model = gb.nn.cast(network(), dtype).eval()
    gb.save(model, tmp_path / "m.safetensors")
    loaded = gb.load(tmp_path / "m.safetensors")
    assert [t.dtype for t in loaded.state_dict().values()] == [t.dtype for t in model.state_dict().values()]
    x = gb.tensor(np.random.default_rng(0).normal(size=(5, 6)))
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())


def test_bad_input_is_named():
    with pytest.raises(gb.DTypeError, match="cast: int32 is not a float dtype"):
        gb.nn.cast(network(), "int32")
    with pytest.raises(gb.DTypeError, match="a function is not a model"):
        gb.nn.cast(lambda x: x, "bfloat16")
