"""The launch code of matrix products on the emulated backend, with a stand-in for cuBLASLt that is the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import gemm
from gpu_backprop.core import dtypes

from .test_plan import DTYPES, integers

pytestmark = pytest.mark.emulated


def epilogues(backend: Any) -> list[str]:
    """Of the plans that ran, in the order in which they were first met."""
    return [plan.epilogue for plan in backend.machine.gemm.prepared]


def products(backend: Any) -> int:
    return backend.machine.gemm.lt.count("matmul")


def on(backend: Any, values: Any, dtype: np.dtype) -> Any:
    return backend.from_host(np.asarray(values).astype(dtype))


def without(monkeypatch: Any, backend: Any) -> None:
    monkeypatch.setattr(backend.machine, "gemm", None)


SHAPES = [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4, 5), (2, 5, 1)), ((1, 7), (7, 1))]

# primitives -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(backend, dtype, shapes):
    x, y = (on(backend, integers(shape, i), dtype) for i, shape in enumerate(shapes))
    expected = (x.astype(float) @ y.astype(float)).astype(dtype)
    np.testing.assert_array_equal(backend.functions["matmul"](x, y), expected)
    out = backend.empty(expected.shape, dtype)
    assert backend.functions["matmul"](x, y, out=out) is out
    np.testing.assert_array_equal(out, expected)
    swap = lambda a: np.swapaxes(a, -1, -2)
    if x.ndim == y.ndim:
        np.testing.assert_array_equal(backend.functions["matmul"](swap(y), swap(x)), swap(expected))
    assert products(backend) == 2 + (x.ndim == y.ndim)
    assert set(epilogues(backend)) == {"DEFAULT"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", [(5,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_layers_and_their_weight_gradient(backend, dtype, lead, with_bias):
    x, weight = on(backend, integers((*lead, 4)), dtype), on(backend, integers((6, 4), 1), dtype)
    bias = on(backend, integers(6, 2), dtype) if with_bias else None
    value = x.astype(float) @ weight.astype(float).T + (bias.astype(float) if with_bias else 0)
    np.testing.assert_array_equal(backend.functions["linear"](x, weight, bias), value.astype(dtype))
    relu = backend.functions["linear_relu"](x, weight, bias)
    np.testing.assert_array_equal(relu, np.maximum(value, 0).astype(dtype))
    assert epilogues(backend) == (["BIAS"] if with_bias else ["DEFAULT"])
    assert products(backend) == 2

    g = on(backend, integers((*lead, 6), 3), dtype)
    rows = [a.astype(float).reshape(-1, a.shape[-1]) for a in (g, x)]
    got = backend.functions["linear_weight_gradient"](g, x)
    np.testing.assert_array_equal(got, (rows[0].T @ rows[1]).astype(dtype))
    out = backend.empty((6, 4), dtype)
    assert backend.functions["linear_weight_gradient"](g, x, out=out) is out
    np.testing.assert_array_equal(out, got)


def test_what_cublaslt_does_not_take_goes_another_way(backend):
    functions = backend.functions
    integer = np.dtype(np.int64)
    x, y = on(backend, integers((2, 3)), integer), on(backend, integers((3, 4), 1), integer)
    np.testing.assert_array_equal(functions["matmul"](x, y), x @ y)
    float32 = np.dtype(np.float32)
    for shapes in (((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 1, 3, 2), (1, 5, 2, 3))):
        x, y = (on(backend, integers(shape, i), float32) for i, shape in enumerate(shapes))
        np.testing.assert_array_equal(functions["matmul"](x, y), x @ y)
    x, weight, bias = (
        on(backend, np.zeros((0, 3)), float32),
        on(backend, integers((2, 3)), float32),
        on(backend, [1, 2], float32),
    )
    assert functions["linear"](x, weight, bias).shape == (0, 2)
    assert functions["linear_relu_mask"](x, weight, bias)[1] is None
    assert products(backend) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_epilogue_that_the_gpu_lacks(backend, dtype):
    lt = backend.machine.gemm.lt
    lt.unsupported = ("BIAS", "RELU_BIAS", "RELU_AUX_BIAS", "GELU_AUX_BIAS", "BGRADB")
    x, weight, bias = (on(backend, integers(s, i), dtype) for i, s in enumerate(((5, 4), (6, 4), (6,))))
    value = x.astype(float) @ weight.astype(float).T + bias.astype(float)
    for _ in range(2):
        np.testing.assert_array_equal(backend.functions["linear"](x, weight, bias), value.astype(dtype))
        np.testing.assert_array_equal(
            backend.functions["linear_relu"](x, weight, bias), np.maximum(value, 0).astype(dtype)
        )
        y, mask = backend.functions["linear_relu_mask"](x, weight, bias)
        np.testing.assert_array_equal(y, np.maximum(value, 0).astype(dtype))
        assert mask is None
        g = on(backend, integers((5, 6), 3), dtype)
        dw, db = backend.functions["linear_gradients"](g, x)
        np.testing.assert_array_equal(dw, (g.astype(float).T @ x.astype(float)).astype(dtype))
        np.testing.assert_array_equal(db, g.astype(float).sum(0).astype(dtype))
    assert lt.count("matmul_algo_get_heuristic") == len(backend.machine.gemm.refused) + len(
        backend.machine.gemm.prepared
    )


def test_a_sample_without_a_batch(backend):
    x, weight, bias = (on(backend, integers(s, i), np.dtype(np.float32)) for i, s in enumerate(((4,), (6, 4), (6,))))
    value = weight @ x + bias
    for name, expected in (("linear", value), ("linear_relu", np.maximum(value, 0))):
        got = backend.functions[name](x, weight, bias)
        assert got.shape == (6,)
        np.testing.assert_array_equal(got, expected)
    assert epilogues(backend) == ["BIAS"]


def test_relu_is_a_pass_of_its_own(backend):
    """cuBLASLt's makes 0 of a NaN."""
    for dtype in DTYPES:
        x, weight, bias = (on(backend, integers(s, i), dtype) for i, s in enumerate(((5, 4), (6, 4), (6,))))
        value = x.astype(float) @ weight.astype(float).T + bias.astype(float)
        got = backend.functions["linear_relu"](x, weight, bias)
        np.testing.assert_array_equal(got, np.maximum(value, 0).astype(dtype))
    assert epilogues(backend) == ["BIAS"] * len(DTYPES)


def test_operands_without_a_contiguous_axis_are_copied(backend):
    x = on(backend, integers((6, 8)), np.dtype(np.float32))[::2, ::2]
    y = on(backend, integers((4, 5), 1), np.dtype(np.float32))[::-1]
    np.testing.assert_array_equal(backend.functions["matmul"](x, y), x @ y)
    assert products(backend) == 1


def test_a_bias_in_steps_is_added_by_a_pass_of_its_own(backend):
    dtype = np.dtype(np.float32)
    x, weight, bias = (on(backend, integers(s, i), dtype) for i, s in enumerate(((5, 4), (6, 4), (12,))))
    got = backend.functions["linear"](x, weight, bias[::2])
    np.testing.assert_array_equal(got, x @ weight.T + bias[::2])
    assert epilogues(backend) == ["DEFAULT"]


def test_alignments_are_those_of_the_addresses(backend):
    dtype = np.dtype(np.float32)
    block = backend.machine.gemm.machine.empty((1024,), dtype)  # begins at a multiple of 256 bytes
    block[:] = 1
    x, y, out = block[1:5].reshape(2, 2), block[66:70].reshape(2, 2), block[132:136].reshape(2, 2)
    backend.functions["matmul"](x, y, out=out)
    (plan,) = backend.machine.gemm.prepared
    assert (plan.alignment_a, plan.alignment_b, plan.alignment_d) == (8, 4, 16)


def test_precision_reaches_the_plan(backend):
    x = on(backend, np.random.default_rng(0).normal(size=(8, 8)), np.dtype(np.float32))
    for precision, error in (("highest", 0), ("high", 1e-5)):
        gb.set_matmul_precision(precision)
        difference = np.abs(backend.functions["matmul"](x, x) - (x.astype(float) @ x.astype(float)).astype(np.float32))
        assert (difference.max() > 1e-5) == (error > 0)
    assert [plan.compute_type for plan in backend.machine.gemm.prepared] == ["COMPUTE_32F", "COMPUTE_32F_FAST_TF32"]


# two primitives in one product ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
@pytest.mark.parametrize("n", [8, 130, 7])
def test_relu_forward_and_backward(backend, monkeypatch, dtype, lead, n):
    x, weight, bias = (on(backend, integers(s, i), dtype) for i, s in enumerate(((*lead, 4), (n, 4), (n,))))
    g, above = on(backend, integers((*lead, 3), 3), dtype), on(backend, integers((3, n), 4), dtype)
    y, mask = backend.functions["linear_relu_mask"](x, weight, bias)
    assert mask.shape == gemm.mask_shape(int(np.prod(lead)), n)
    dx, db = backend.functions["matmul_relu_backward"](g, above, y, mask)
    assert epilogues(backend) == ["RELU_AUX_BIAS", "DRELU_BGRAD"]
    assert products(backend) == 2
    without(monkeypatch, backend)
    plain, nothing = backend.functions["linear_relu_mask"](x, weight, bias)
    assert nothing is None
    for got, expected in zip((y, dx, db), (plain, *backend.functions["matmul_relu_backward"](g, above, plain, None))):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
@pytest.mark.parametrize("n", [8, 7])
def test_gelu_forward_and_backward(backend, monkeypatch, dtype, lead, n):
    x, weight, bias = (on(backend, integers(s, i) / 4, dtype) for i, s in enumerate(((*lead, 4), (n, 4), (n,))))
    g, above = on(backend, integers((*lead, 3), 3), dtype), on(backend, integers((3, n), 4), dtype)
    y, value = backend.functions["linear_gelu_value"](x, weight, bias)
    dx, db = backend.functions["matmul_gelu_backward"](g, above, value)
    assert epilogues(backend) == (["BIAS", "DEFAULT"] if dtype == np.float64 else ["GELU_AUX_BIAS", "DGELU_BGRAD"])
    without(monkeypatch, backend)
    plain, value = backend.functions["linear_gelu_value"](x, weight, bias)
    expected = backend.functions["matmul_gelu_backward"](g, above, value)
    for got, other in zip((y, dx, db), (plain, *expected)):
        assert got.dtype == dtype
        assert got.shape == other.shape
        scale = dtypes.epsilon(dtype) * 8
        np.testing.assert_allclose(got.astype(float), other.astype(float), rtol=scale, atol=scale * 8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
def test_gradients_of_weight_and_bias(backend, monkeypatch, dtype, lead):
    g, x = on(backend, integers((*lead, 6)), dtype), on(backend, integers((*lead, 4), 1), dtype)
    into = backend.empty((6, 4), dtype), backend.empty((6,), dtype)
    got = backend.functions["linear_gradients"](g, x, out=into)
    assert got[0] is into[0]
    assert got[1] is into[1]
    assert epilogues(backend) == ["BGRADB"]
    start = on(backend, integers((6, 4), 2), dtype)
    total = backend.functions["add_linear_weight_gradient"](g, x, start.copy())
    assert products(backend) == 2
    without(monkeypatch, backend)
    for a, b in zip(got, backend.functions["linear_gradients"](g, x)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(total, backend.functions["add_linear_weight_gradient"](g, x, start.copy()))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("n", [8, 5])
def test_two_results_into_given_arrays(backend, monkeypatch, fused, n):
    dtype = np.dtype(np.float32)
    x, weight, bias, g, above = (
        on(backend, integers(s, i) / 2, dtype) for i, s in enumerate(((2, 3, 4), (n, 4), (n,), (2, 3, 6), (6, n)))
    )
    y = backend.functions["linear_relu"](x, weight, bias)
    value = backend.functions["linear"](x, weight, bias).reshape(6, n)
    if not fused:
        without(monkeypatch, backend)
    mask, kept = backend.empty(gemm.mask_shape(6, n), np.uint8), backend.empty(gemm.value_shape(6, n), dtype)

    def given(*shapes):
        return tuple(backend.empty(shape, dtype) for shape in shapes)

    def run(name, *args, out):
        expected = backend.functions[name](*args)
        got = backend.functions[name](*args, out=out)
        for a, b, place in zip(expected, got, out):
            np.testing.assert_array_equal(a, b)
            assert a is None or np.shares_memory(b, place)
        return got

    (out,) = given((2, 3, n))
    _, bits = run("linear_relu_mask", x, weight, bias, out=(out, mask))
    assert (bits is None) is not fused
    run("linear_gelu_value", x, weight, bias, out=(out, kept))
    pair = ((2, 3, n), (n,))
    run("matmul_relu_backward", g, above, y, bits, out=given(*pair))
    run("matmul_gelu_backward", g, above, kept[:, :n], out=given(*pair))
    np.testing.assert_allclose(kept[:, :n], value, rtol=1e-6)
    run("linear_gradients", g, x, out=given((6, 4), (6,)))


# a network ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_steps_are_those_of_the_plain_products(backend, monkeypatch, dtype):
    def losses() -> list[float]:
        gb.manual_seed(0)
        with gb.device("emulated"):
            model = gb.nn.MLP([12, 16, 16, 5]).to(dtype=getattr(gb, dtype))
            optimizer = gb.optim.SGD(model.parameters(), lr=0.1)
            x = gb.random.normal((8, 12)).astype(getattr(gb, dtype))
            labels = gb.tensor([0, 1, 2, 3, 4, 0, 1, 2])
            found = []
            for _ in range(4):
                optimizer.zero_grad()
                loss = gb.nn.functional.cross_entropy(model(x), labels)
                loss.backward()
                optimizer.step()
                found.append(loss.item())
            return found

    fused = losses()
    assert {"BIAS", "DEFAULT"} == set(epilogues(backend))
    without(monkeypatch, backend)
    np.testing.assert_allclose(fused, losses(), rtol=1e-6 if dtype == "float32" else 2e-2)
