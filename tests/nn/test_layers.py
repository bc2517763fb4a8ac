"""Layers against float64 NumPy formulas and central differences, first and second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import erf

import gpu_backprop as gb
from gpu_backprop.core import dtypes

from .numeric import check_gradients

F = gb.nn.functional
rng = np.random.default_rng(0)
X = rng.normal(size=(4, 3))  # nothing near a kink: checked by the central differences themselves


def values(t):
    return t.detach().numpy()


# activations ---------------------------------------------------------------------------------------------------------


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ACTIVATIONS = {
    "ReLU()": lambda x: np.where(x > 0, x, 0),
    "LeakyReLU()": lambda x: np.where(x > 0, x, 0.01 * x),
    "LeakyReLU(0.3)": lambda x: np.where(x > 0, x, 0.3 * x),
    "ELU()": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "ELU(0.5)": lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1)),
    "GELU()": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "GELU('tanh')": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "SiLU()": lambda x: x / (1 + np.exp(-x)),
    "Softplus()": lambda x: np.log(1 + np.exp(x)),
    "Softplus(2.0, 1.0)": lambda x: np.where(2 * x > 1, x, np.log(1 + np.exp(2 * x)) / 2),
    "Tanh()": np.tanh,
    "Sigmoid()": lambda x: 1 / (1 + np.exp(-x)),
    "Softmax(1)": lambda x: softmax(x, 1),
    "Softmax(-2)": lambda x: softmax(x, 0),
    "Softmax()": lambda x: softmax(x, 1),
}


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_activation(text, device):
    layer = eval(f"gb.nn.{text}")
    np.testing.assert_allclose(values(layer(gb.tensor(X))), ACTIVATIONS[text](X), rtol=1e-13, atol=1e-15)
    assert not layer.state_dict()


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_activation_gradients(text):
    check_gradients(eval(f"gb.nn.{text}"), X)


@pytest.mark.parametrize("text", [t for t in ACTIVATIONS if t != "Softmax()"])
def test_activation_of_extreme_values_is_finite(text):
    x = gb.tensor([[-1000.0, 1000.0, 0.0]], dtype="float64", requires_grad=True)
    out = eval(f"gb.nn.{text}")(x)
    out.sum().backward()
    assert np.isfinite(values(out)).all()
    assert np.isfinite(x.grad.numpy()).all()


# linear and embedding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (4,), (2, 5), (0,)])
def test_linear(lead, bias, device):
    layer = gb.nn.Linear(3, 2, bias=bias, dtype="float64")
    x = np.random.default_rng(1).normal(size=(*lead, 3))
    expected = x @ values(layer.weight).T + (values(layer.bias) if bias else 0)
    np.testing.assert_allclose(values(layer(gb.tensor(x))), expected, rtol=1e-13)
    assert list(layer.state_dict()) == (["weight", "bias"] if bias else ["weight"])


def test_linear_gradients():
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    check_gradients(lambda x, w, b: gb.square(F.linear(x, w, b)), x, w, b)
    check_gradients(lambda x, w: gb.square(F.linear(x, w)), rng.normal(size=(2, 2, 3)), w)
    check_gradients(lambda x, w, b: gb.square(F.linear(x, w, b)), x[0], w, b)


@pytest.mark.parametrize("given", ["float64", "float16", "bfloat16"])
def test_a_layer_casts_floats_to_its_dtype(given):
    for layer, x in [
        (gb.nn.Linear(3, 2), gb.ones((4, 3), dtype=given)),
        (gb.nn.LayerNorm(3), gb.tensor(X, dtype=given)),
        (gb.nn.RMSNorm(3), gb.tensor(X, dtype=given)),
        (gb.nn.BatchNorm1d(3), gb.tensor(X, dtype=given)),
        (gb.nn.Standardize(3), gb.tensor(X, dtype=given)),
    ]:
        assert layer(x).dtype == "float32", layer
    assert gb.nn.Linear(3, 2)(X).dtype == "float32"  # a NumPy array
    with pytest.raises(gb.DTypeError, match="input of int64 for parameters of float32"):
        gb.nn.Linear(3, 2)(gb.ones((4, 3), dtype="int64"))


def test_the_gradient_of_a_cast_input_has_its_own_dtype():
    x = gb.tensor(X, requires_grad=True)
    gb.nn.Linear(3, 2)(x).sum().backward()
    assert x.grad.dtype == "float64"


def test_embedding(device):
    layer = gb.nn.Embedding(6, 4, padding_idx=-2, dtype="float64")
    assert layer.padding_idx == 4
    assert not values(layer.weight)[4].any()
    index = np.array([[0, 5, 5], [4, 1, 5]])
    out = layer(gb.tensor(index))
    np.testing.assert_array_equal(values(out), values(layer.weight)[index])
    g = np.random.default_rng(2).normal(size=out.shape)
    (out * gb.tensor(g)).sum().backward()
    expected = np.zeros((6, 4))
    np.add.at(expected, index, g)
    expected[4] = 0
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-13, atol=1e-15)


def test_embedding_gradients():
    index = gb.tensor([1, 0, 1, 3])
    check_gradients(lambda w: gb.square(F.embedding(index, w)), rng.normal(size=(4, 2)))


# norms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "shape"), [((4, 3), 3), ((2, 3, 4), (3, 4)), ((2, 3, 4), [4])])
def test_layer_norm(x, shape, device):
    x = np.random.default_rng(3).normal(size=x) * 3 + 5
    layer = gb.nn.LayerNorm(shape, eps=1e-3, dtype="float64")
    weight, bias = (np.random.default_rng(i).normal(size=layer.normalized_shape) for i in (4, 5))
    layer.load_state_dict({"weight": weight, "bias": bias})
    axes = tuple(range(x.ndim - weight.ndim, x.ndim))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3) * weight + bias
    np.testing.assert_allclose(values(layer(gb.tensor(x))), expected, rtol=1e-12)


@pytest.mark.parametrize("eps", [None, 0.1])
def test_rms_norm(eps, device):
    layer = gb.nn.RMSNorm(3, eps=eps, dtype="float64")
    layer.load_state_dict({"weight": [1.0, -2.0, 3.0]})
    expected = X / np.sqrt((X * X).mean(1, keepdims=True) + (np.finfo(float).eps if eps is None else eps)) * [1, -2, 3]
    np.testing.assert_allclose(values(layer(gb.tensor(X))), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rms_norm_adds_the_epsilon_that_it_computes_with(dtype, device):
    """As PyTorch does: float32's for 16-bit floats, whose own would drown small inputs."""
    x = gb.tensor(X * 1e-3, dtype=dtype)
    exact = values(x).astype(np.float64)
    expected = exact / np.sqrt((exact * exact).mean(1, keepdims=True) + 2.0**-23)
    for out in (F.rms_norm(x, 3), gb.nn.RMSNorm(3, dtype=dtype)(x)):
        assert out.dtype == dtype
        np.testing.assert_allclose(values(out).astype(np.float64), expected, rtol=dtypes.epsilon(x.dtype))


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm(shape, momentum, device):
    layer = gb.nn.BatchNorm1d(3, eps=1e-3, momentum=momentum, dtype="float64")
    weight, bias = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -1.0])
    layer.load_state_dict({**layer.state_dict(), "weight": weight, "bias": bias})
    axes = (0, 2)[: len(shape) - 1]
    across = (3, 1)[: len(shape) - 1]
    mean, var = np.zeros(3), np.ones(3)
    g = np.random.default_rng(6)
    for batch in range(1, 4):
        x = g.normal(size=shape) * 2 + 1
        m, v, n = x.mean(axes), x.var(axes), x.size // 3
        expected = (x - m.reshape(across)) / np.sqrt(v.reshape(across) + 1e-3)
        expected = expected * weight.reshape(across) + bias.reshape(across)
        np.testing.assert_allclose(values(layer(gb.tensor(x))), expected, rtol=1e-12)
        share = momentum or 1 / batch
        mean, var = (1 - share) * mean + share * m, (1 - share) * var + share * v * n / (n - 1)
        np.testing.assert_allclose(values(layer.running_mean), mean, rtol=1e-12)
        np.testing.assert_allclose(values(layer.running_var), var, rtol=1e-12)
        assert layer.num_batches_tracked.item() == batch
    layer.eval()
    x = g.normal(size=shape)
    expected = (x - mean.reshape(across)) / np.sqrt(var.reshape(across) + 1e-3)
    expected = expected * weight.reshape(across) + bias.reshape(across)
    np.testing.assert_allclose(values(layer(gb.tensor(x[:1]))), expected[:1], rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3


def test_batch_norm_without_running_statistics():
    layer = gb.nn.BatchNorm1d(3, affine=False, track_running_stats=False).eval()
    assert not layer.state_dict()
    out = values(layer(gb.tensor(X)))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-6)


def test_norm_gradients():
    w, b = rng.normal(size=3), rng.normal(size=3)
    check_gradients(lambda x, w, b: F.layer_norm(x, 3, w, b), X, w, b, tolerance=1e-6)
    check_gradients(lambda x, w: F.rms_norm(x, 3, w), X, w, tolerance=1e-6)
    check_gradients(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), X, w, b, tolerance=1e-6)
    mean, var = gb.tensor(rng.normal(size=3)), gb.tensor(rng.uniform(1, 2, 3))
    check_gradients(lambda x, w, b: gb.square(F.batch_norm(x, mean, var, w, b)), X, w, b, tolerance=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norms_of_half_precision_compute_in_float32(dtype):
    x = gb.tensor(X * 100 + 300, dtype=dtype)  # the squares overflow float16
    exact = values(x).astype(np.float64)
    expected = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    out = gb.nn.LayerNorm(3, dtype=dtype)(x)
    assert out.dtype == dtype
    digits = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    np.testing.assert_allclose(values(out).astype(np.float64), expected, rtol=digits * 1.05, atol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e6])
def test_norms_lose_no_digits_to_a_large_mean(mean, device):
    """Against float64 at the same float32 numbers: what is left of their differences counts whole."""
    x = (np.random.default_rng(3).normal(size=(65, 33)) + mean).astype(np.float32)
    for f, axis in (
        (lambda t: F.layer_norm(t, 33), 1),
        (lambda t: F.batch_norm(t, None, None, training=True), 0),
    ):
        found, exact = gb.tensor(x, requires_grad=True), gb.tensor(x.astype(np.float64), requires_grad=True)
        wide = x.astype(np.float64)
        expected = (wide - wide.mean(axis, keepdims=True)) / np.sqrt(wide.var(axis, keepdims=True) + 1e-5)
        np.testing.assert_allclose(values(f(found)), expected, rtol=0, atol=2e-6)
        for t in (found, exact):
            gb.square(f(t) * gb.tensor(np.arange(33), dtype=t.dtype)).sum().backward()
        np.testing.assert_allclose(values(found.grad), values(exact.grad), rtol=0, atol=2e-4 * 32)


def test_norms_in_other_shapes(device):
    """Scalars of rows, more than one axis behind the channels, nothing at all."""
    x = np.random.default_rng(4).normal(size=(2, 3, 4, 5))
    expected = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    found = F.batch_norm(gb.tensor(x), None, None, training=True)
    np.testing.assert_allclose(values(found), expected, rtol=1e-12, atol=1e-12)
    found = F.layer_norm(gb.tensor(x[0, 0, 0]), 5)
    np.testing.assert_allclose(values(found).std(), 1, rtol=1e-4)
    for shape in ((0, 3), (2, 0, 3)):
        empty = gb.zeros(shape).requires_grad_()
        weight = gb.ones(3).requires_grad_()
        F.rms_norm(F.layer_norm(empty, 3, weight), 3).sum().backward()
        assert empty.grad.shape == shape
        assert weight.grad.tolist() == [0, 0, 0]


def test_frozen_and_missing_parameters_of_norms_get_no_gradient(device, monkeypatch):
    x, frozen = gb.tensor(X, requires_grad=True), gb.tensor([1.0, 2.0, 3.0], dtype="float64")
    trained = gb.zeros(3, dtype="float64").requires_grad_()
    for f in (lambda *p: F.layer_norm(x, 3, *p), lambda *p: F.batch_norm(x, None, None, *p, training=True)):
        for parameters in ((frozen, None), (None, trained), (frozen, frozen)):
            trained.grad = None
            f(*parameters).sum().backward()
            if parameters[1] is trained:
                assert trained.grad.tolist() == [len(X)] * 3
    assert frozen.grad is None
    launched = []
    functions, name = x.device.native, "layer_norm_sums"
    sums = functions[name]
    monkeypatch.setitem(functions, name, lambda *a, **k: launched.append(1) or sums(*a, **k))
    F.layer_norm(x, 3, frozen, frozen).sum().backward()
    assert not launched  # no pass for gradients that nobody wants
    F.layer_norm(x, 3, trained, trained).sum().backward()
    assert len(launched) == 1  # and one pass for both


def test_parameters_of_another_dtype_widen_a_norm(device):
    """bfloat16 data with float32 parameters: computed in float32, back in bfloat16; running ones keep their dtype."""
    x, weight = gb.tensor(X, dtype="bfloat16"), gb.tensor([1.0, 2.0, 3.0])
    running = gb.zeros(3), gb.ones(3)
    for out in (F.layer_norm(x, 3, weight), F.batch_norm(x, *running, weight, training=True)):
        assert out.dtype == "bfloat16"
    exact = values(x).astype(np.float64)
    np.testing.assert_allclose(values(running[0]), 0.1 * exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(values(running[1]), 0.9 + 0.1 * exact.var(0, ddof=1), rtol=1e-6)


def test_training_moves_the_version_of_running_statistics():
    mean, var, w = gb.zeros(3), gb.ones(3), gb.ones(3).requires_grad_()
    x = gb.tensor(X, dtype="float32")
    out = F.batch_norm(x, mean, var, w)
    F.batch_norm(x, mean, var, training=True)
    with pytest.raises(gb.TapeError, match="changed in place"):
        out.sum().backward()


def test_a_listing_leaves_running_statistics_alone():
    layer = gb.nn.BatchNorm1d(3)
    loss = layer(gb.tensor(X, dtype="float32")).sum()
    before = values(layer.running_mean).copy(), values(layer.running_var).copy()
    assert before[0].any()
    gb.viz.tape(loss)
    np.testing.assert_array_equal(before, (values(layer.running_mean), values(layer.running_var)))


# dropout -------------------------------------------------------------------------------------------------------------


def test_dropout(device):
    layer = gb.nn.Dropout(0.3)
    x = gb.tensor(np.ones((100, 100)), requires_grad=True)
    gb.manual_seed(5)
    out = layer(x)
    kept = values(out) != 0
    assert abs(kept.mean() - 0.7) < 0.02
    np.testing.assert_allclose(values(out)[kept], 1 / 0.7, rtol=1e-6)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values(out))  # the same units
    again = layer(x)
    assert (values(again) != values(out)).any()  # the stream moves on
    gb.manual_seed(5)
    np.testing.assert_array_equal(values(layer(x)), values(out))
    layer.eval()
    assert layer(x) is x
    assert not values(gb.nn.Dropout(1.0)(x)).any()
    np.testing.assert_array_equal(values(gb.nn.Dropout(0.0)(x)), 1)


# standardisation -----------------------------------------------------------------------------------------------------


def test_standardize(device):
    g = np.random.default_rng(8)
    data = np.stack([g.normal(size=50) * 1e4 + 2e5, g.normal(size=50) * 1e-3, np.full(50, 0.1), np.zeros(50)], 1)
    layer = gb.nn.Standardize(4, dtype="float64")
    assert layer.fit(data) is layer
    np.testing.assert_allclose(values(layer.mean), data.mean(0), rtol=1e-14)
    np.testing.assert_allclose(values(layer.scale), [*data.std(0)[:2], 1, 1], rtol=1e-12)
    out = layer(gb.tensor(data))
    np.testing.assert_allclose(values(out).mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(values(out).std(0)[:2], 1, rtol=1e-10)
    np.testing.assert_allclose(values(layer.inverse(out)), data, rtol=1e-12)
    assert list(layer.state_dict()) == ["mean", "scale"]
    assert not list(layer.parameters())
    assert layer.train()(gb.tensor(data[:1])).tolist() == values(out)[:1].tolist()  # fitted once, whatever the mode


def test_standardize_finds_the_number_of_features():
    layer = gb.nn.Standardize().fit(X)
    assert repr(layer) == "Standardize(3)"
    assert layer.mean.dtype == "float32"
    prices = gb.nn.Standardize().fit([100.0, 200.0, 300.0])
    assert values(prices(gb.tensor([100.0, 300.0]))).tolist() == pytest.approx([-math.sqrt(1.5), math.sqrt(1.5)])
    assert prices.inverse(prices(gb.tensor([[7.0], [8.0]]))).shape == (2, 1)


# bad input -----------------------------------------------------------------------------------------------------------

BAD = [
    (lambda: gb.nn.Linear(0, 3), gb.ShapeError, "in_features=0 is not a positive integer"),
    (lambda: gb.nn.Linear(3, 2.5), gb.ShapeError, "out_features=2.5"),
    (lambda: gb.nn.Linear(3, 2)(gb.ones((4, 5))), gb.ShapeError, r"input of shape \[4, 5\] for in_features=3"),
    (lambda: gb.nn.Linear(3, 2)(gb.tensor(1.0)), gb.ShapeError, r"shape \[\]"),
    (lambda: F.linear(gb.ones((2, 3)), gb.ones((3, 2))), gb.ShapeError, r"\[2, 3\] for a weight"),
    (lambda: F.linear(gb.ones((2, 3)), gb.ones((2, 3)), gb.ones(3)), gb.ShapeError, r"bias of shape \[3\] for 2"),
    (lambda: gb.nn.Linear(3, 2)("x"), gb.DTypeError, "dtype"),
    (lambda: gb.nn.Embedding(3, 2)(gb.tensor([0, 3])), gb.DataError, "index 3 is not one of the 3 rows"),
    (lambda: gb.nn.Embedding(3, 2)(gb.tensor([-1])), gb.DataError, "index -1"),
    (lambda: gb.nn.Embedding(3, 2)(gb.tensor([0.5])), gb.DTypeError, "float32 are not integers"),
    (lambda: gb.nn.Embedding(3, 2, padding_idx=3), gb.DataError, "Embedding: padding_idx=3 is not one of the 3 rows"),
    (lambda: gb.nn.Embedding(3, 2, padding_idx=1.5), gb.DTypeError, r"Embedding: padding_idx 1\.5"),
    (lambda: gb.nn.Dropout(1.5), gb.DataError, "p=1.5 is not a probability"),
    (lambda: F.dropout(gb.tensor([1, 2])), gb.DTypeError, "int64 is not floating"),
    (lambda: gb.nn.LayerNorm(4)(gb.ones((2, 3))), gb.ShapeError, r"\[2, 3\] does not end in normalized_shape \[4\]"),
    (lambda: gb.nn.LayerNorm(()), gb.ShapeError, "names no axis"),
    (lambda: F.layer_norm(gb.ones((2, 3)), 3, gb.ones(1)), gb.ShapeError, r"a weight of shape \[1\] for .* \[3\]"),
    (lambda: F.layer_norm(gb.ones((2, 3)), 3, None, gb.ones((1, 3))), gb.ShapeError, r"a bias of shape \[1, 3\]"),
    (lambda: F.batch_norm(gb.ones((2, 3)), None, None), gb.DataError, "running statistics are needed"),
    (
        lambda: F.batch_norm(gb.ones((2, 3)), gb.ones(3), None, training=True),
        gb.DataError,
        "batch_norm: running_mean without running_var; pass both, or neither",
    ),
    (
        lambda: F.batch_norm(gb.ones((2, 3)), None, gb.ones(3), training=True),
        gb.DataError,
        "batch_norm: running_var without running_mean",
    ),
    (
        lambda: F.batch_norm(gb.ones((2, 3)), gb.zeros(3), gb.ones(1).broadcast_to((3,)), training=True),
        gb.DataError,
        r"batch_norm: running_var may only be read, and training moves it; give t\.copy\(\)",
    ),
    (lambda: gb.nn.BatchNorm1d(3)(gb.ones((1, 3))), gb.DataError, "1 values a channel"),
    (lambda: gb.nn.BatchNorm1d(3)(gb.ones((0, 3))), gb.DataError, "0 values a channel"),
    (lambda: gb.nn.BatchNorm1d(3)(gb.ones((2, 4))), gb.ShapeError, r"\[2, 4\] for num_features=3"),
    (lambda: gb.nn.GELU("fast"), gb.DataError, "'fast' is unknown"),
    (lambda: gb.nn.Softmax(2)(gb.ones((2, 3))), gb.ShapeError, "axis 2"),
    (lambda: gb.nn.Standardize()(gb.ones((2, 3))), gb.DataError, "not fitted yet"),
    (lambda: gb.nn.Standardize(4).fit(X), gb.ShapeError, "3 features for num_features=4"),
    (lambda: gb.nn.Standardize().fit(np.ones((0, 3))), gb.DataError, r"shape \[0, 3\] is empty"),
    (lambda: gb.nn.Standardize().fit([]), gb.DataError, "is empty"),
    (lambda: gb.nn.Standardize().fit([[1.0, 2.0], [3.0, math.nan]]), gb.DataError, "feature 1 holds NaN"),
    (lambda: gb.nn.Standardize(2)(gb.ones((2, 3))), gb.ShapeError, r"\[2, 3\] for 2 features"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)
