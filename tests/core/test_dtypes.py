"""The promotion table, 16-bit accumulation and casts."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import dtypes

NUMPY_NAMES = [name for name in dtypes.NAMES if name != "bfloat16"]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(NUMPY_NAMES, NUMPY_NAMES)))
def test_arrays_promote_as_numpy(a: str, b: str) -> None:
    expected = np.result_type(np.dtype(a), np.dtype(b))
    assert gb.result_type(a, b) == expected
    if expected.kind != "b":
        assert (gb.ones(2, dtype=a) + gb.ones(2, dtype=b)).dtype == expected
        assert gb.where(gb.tensor([True, False]), gb.ones(2, dtype=a), gb.ones(2, dtype=b)).dtype == expected


@pytest.mark.parametrize("other", dtypes.NAMES)
def test_bfloat16_promotes(other: str) -> None:
    wider = ("float32", "float64", "complex64", "complex128")
    expected = other if other in wider else "float32" if other == "float16" else "bfloat16"
    a, b = gb.ones(2, dtype="bfloat16"), gb.ones(2, dtype=other)
    for result in (a + b, b + a, gb.where(gb.tensor([True, False]), a, b), gb.concat([b, a])):
        assert result.dtype.name == expected
    assert gb.result_type("bfloat16", other) == gb.result_type(other, "bfloat16") == dtypes.as_dtype(expected)


@pytest.mark.parametrize("name", dtypes.NAMES)
@pytest.mark.parametrize("scalar", [True, 2, 2.0])
def test_python_scalars_are_weak(name: str, scalar: float) -> None:
    x = gb.ones(2, dtype=name)
    if name == "bfloat16":
        expected = "bfloat16"
    elif isinstance(scalar, float) and x.dtype.kind in "biu":
        expected = "float32"  # the default dtype, where NumPy has float64
    else:
        expected = np.result_type(np.dtype(name), scalar).name
    for result in (x * scalar, scalar * x, gb.where(gb.tensor([True, False]), x, scalar)):
        assert result.dtype.name == expected, result.dtype


@pytest.mark.parametrize("name", dtypes.NAMES)
def test_float_functions_of_integers_give_the_default_dtype(name: str) -> None:
    x = gb.ones((2, 3), dtype=name)
    expected = name if dtypes.is_inexact(x.dtype) else "float32"
    results = [gb.exp(x), x / x, x / 2, gb.mean(x), gb.sqrt(x)]
    if x.dtype.kind != "c":
        results += [gb.var(x), gb.std(x), gb.logsumexp(x), gb.atan2(x, x)]
    assert {r.dtype.name for r in results} == {expected}


def test_the_default_dtype_can_be_set() -> None:
    assert gb.get_default_dtype() == gb.float32
    gb.set_default_dtype("float64")
    try:
        assert gb.tensor([1.0]).dtype == gb.zeros(1).dtype == gb.exp(gb.arange(2)).dtype == gb.float64
        assert gb.arange(0.0, 1.0, 0.5).dtype == gb.linspace(0, 1, 2).dtype == gb.float64
    finally:
        gb.set_default_dtype("float32")
    with pytest.raises(gb.DTypeError, match="int32 is not a float dtype; use float32"):
        gb.set_default_dtype("int32")


def test_incoming_arrays_keep_their_dtype() -> None:
    assert gb.tensor(np.ones(2)).dtype == gb.float64
    assert gb.tensor(np.float64(1)).dtype == gb.float64
    assert gb.tensor([np.float64(1)]).dtype == gb.float32  # a list of numbers, as Python floats
    assert gb.tensor([1, 2]).dtype == gb.int64
    assert gb.tensor([True]).dtype == gb.bool
    assert gb.tensor(np.ones(2, ">f4")).dtype == gb.float32
    assert gb.tensor(np.ones(2, ml_dtypes.bfloat16)).dtype == gb.bfloat16
    assert gb.tensor([1, 2], dtype=float).dtype == gb.float32
    assert gb.tensor([1, 2], dtype=int).dtype == gb.int64


# 16-bit floats -------------------------------------------------------------------------------------------------------


def test_the_sum_of_4096_bfloat16_ones(device: str) -> None:
    x = gb.ones(4096, dtype="bfloat16")
    total = x.sum()
    assert total.dtype == gb.bfloat16
    assert total.item() == 4096
    assert np.ones(4096, ml_dtypes.bfloat16).sum() == 256  # what this is about
    assert gb.mean(x).item() == 1
    assert (x @ x).item() == 4096
    assert gb.ones((64, 64), dtype="float16").sum(axis=(0, 1)).item() == 4096


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bit_reductions_round_once(name: str, device: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (40, 50)).astype(dtypes.as_dtype(name))
    exact = values.astype(np.float64)
    x = gb.tensor(values)
    for found, expected in (
        (x.sum(axis=1), exact.sum(axis=1)),
        (x.mean(axis=0), exact.mean(axis=0)),
        (gb.var(x, axis=1), exact.var(axis=1)),
        (x @ x.T, exact @ exact.T),
        (gb.exp(x), np.exp(exact)),
        (gb.logsumexp(x, axis=0), np.log(np.exp(exact).sum(axis=0))),
    ):
        rounded = expected.astype(found.dtype).astype(np.float64)
        off = found.numpy().astype(np.float64) != rounded  # double rounding may flip a last bit now and then
        assert off.mean() < 0.02, off.mean()
        step = 2.0**-7 if name == "bfloat16" else 2.0**-10
        np.testing.assert_allclose(found.numpy().astype(np.float64), expected, rtol=step, atol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_gradients_of_sixteen_bit_tensors(name: str) -> None:
    x = gb.ones((4096,), dtype=name).requires_grad_()
    w = gb.tensor(2.0, dtype=name, requires_grad=True)
    (x * w).sum().backward()
    assert w.grad.dtype == w.dtype
    assert w.grad.item() == 4096  # summed in float32
    assert x.grad.tolist() == [2.0] * 4096


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_epsilon(name: str) -> None:
    info = ml_dtypes.finfo(name) if name == "bfloat16" else np.finfo(name)
    assert dtypes.epsilon(dtypes.as_dtype(name)) == float(info.eps)


def test_overflow_of_float16_is_inf() -> None:
    with np.errstate(over="ignore"):
        assert gb.tensor([60000.0], dtype="float16").sum().item() == 60000
        assert (gb.tensor([60000.0], dtype="float16") * 2).item() == float("inf")


# dtypes named ---------------------------------------------------------------------------------------------------------


def test_as_dtype_refuses_what_is_no_dtype() -> None:
    for bad in ("float8", "nonsense", "complex256", object(), "U3", np.longdouble):
        with pytest.raises(gb.DTypeError, match="use one of bool, int8"):
            gb.zeros(2, dtype=bad)


def test_info_functions() -> None:
    assert gb.finfo("bfloat16").eps == 2.0**-7
    assert gb.finfo(gb.ones(1)).bits == 32
    assert gb.iinfo(gb.uint8).max == 255
    with pytest.raises(gb.DTypeError, match="use finfo"):
        gb.iinfo("float32")
    with pytest.raises(gb.DTypeError, match="use iinfo"):
        gb.finfo("int8")
    assert gb.isdtype(gb.bfloat16, "real floating")
    assert gb.isdtype(gb.uint8, ("bool", "unsigned integer"))
    assert not gb.isdtype(gb.float32, "integral")
    assert gb.isdtype(gb.float32, gb.float32)
    assert gb.can_cast("int8", "float64")
    assert not gb.can_cast("float64", "float32")
    assert gb.can_cast(gb.ones(1, dtype="bfloat16"), "float32")


def test_integers_above_int64_beside_small_ones() -> None:
    """Which NumPy, not told their dtype, takes for floats."""
    values = [2**63 + 1, 0]
    assert gb.tensor(values, dtype="uint64").tolist() == values
    assert gb.asarray([[gb.tensor(v, dtype="uint64")] for v in values]).tolist() == [[v] for v in values]
    assert gb.tensor([2.0**63, 1], dtype="uint64").tolist() == [2**63, 1]
