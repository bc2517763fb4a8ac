"""Cumulative sums and products and differences against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpu_backprop as gb
from gpu_backprop.core import dtypes

from .strategies import ALL, FEW, arrays, axes, same


@FEW
@given(
    x=arrays(dtypes=ALL),
    name=st.sampled_from(["cumulative_sum", "cumulative_prod"]),
    dtype=st.sampled_from([None, "float64", "int64", "uint8", "float16"]),
    initial=st.booleans(),
    data=st.data(),
)
def test_cumulative(x: np.ndarray, name: str, dtype: str | None, initial: bool, data: st.DataObject) -> None:
    function = getattr(gb, name)
    if not x.ndim:
        with pytest.raises(gb.ShapeError, match=f"{name}: axis is needed for an array of shape"):
            function(gb.asarray(x))
        return
    if dtype is not None and (x.dtype.kind == "c" or (x.dtype.kind == "f" and dtype in ("int64", "uint8"))):
        return
    axis = data.draw(axes(x))
    if dtype is not None:
        kept = np.dtype(dtype)
    else:
        kept = {"b": np.dtype("int64"), "i": np.dtype("int64"), "u": np.dtype("uint64")}.get(x.dtype.kind, x.dtype)
    wide = np.float32 if kept == np.float16 else kept
    with np.errstate(all="ignore"):
        reference = getattr(np, name)(x.astype(kept).astype(wide), axis=axis, dtype=wide, include_initial=initial)
        found = function(gb.asarray(x), axis=axis, dtype=dtype, include_initial=initial)
        same(found, reference.astype(kept))
        if x.ndim == 1:
            same(function(gb.asarray(x), dtype=dtype, include_initial=initial), reference.astype(kept))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats_add_up_in_float32(dtype: str, device: str) -> None:
    ones = gb.ones(1000, dtype=dtype, device=device)
    expected = np.arange(1.0, 1001).astype(ones.dtype)
    np.testing.assert_array_equal(gb.cumulative_sum(ones).numpy(), expected, strict=True)
    factors = np.random.default_rng(0).uniform(0.9, 1.1, (300, 2)).astype(ones.dtype)
    expected = np.cumprod(factors.astype(np.float32), axis=0).astype(ones.dtype)
    found = gb.cumulative_prod(gb.tensor(factors, device=device), axis=0)
    if device == "cuda":  # which multiplies in another order: a rounding may fall otherwise
        wide = (x.astype(np.float32) for x in (found.numpy(), expected))
        np.testing.assert_allclose(*wide, rtol=dtypes.epsilon(ones.dtype))
    else:
        np.testing.assert_array_equal(found.numpy(), expected, strict=True)


@FEW
@given(x=arrays(dtypes=ALL), n=st.integers(0, 3), data=st.data())
def test_diff(x: np.ndarray, n: int, data: st.DataObject) -> None:
    if not x.ndim:
        return
    axis = data.draw(axes(x))
    ends: dict[str, Any] = {}
    for name in ("prepend", "append"):
        length = data.draw(st.sampled_from([None, 0, 1, 2]))
        if length is not None:
            shape = tuple(length if i == axis % x.ndim else m for i, m in enumerate(x.shape))
            ends[name] = np.full(shape, 3, x.dtype)
    whole = np.concatenate([ends.get("prepend", x[:0].reshape(-1)[:0]), x], axis) if "prepend" in ends else x
    whole = np.concatenate([whole, ends["append"]], axis) if "append" in ends else whole
    with np.errstate(all="ignore"):
        found = gb.diff(gb.asarray(x), axis=axis, n=n, **{k: gb.asarray(v) for k, v in ends.items()})
        same(found, np.diff(whole, n=n, axis=axis) if n else whole)


def test_diff_with_numbers_at_the_ends() -> None:
    x = gb.tensor([[1, 4, 9]], dtype="int32")
    found = gb.diff(x, prepend=0, append=gb.tensor(10, dtype="int32"))
    assert found.tolist() == [[1, 3, 5, 1]]
    assert found.dtype == gb.int32
    assert gb.diff(gb.tensor([1.0, 2.0]), n=0).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gb.cumulative_sum(x), r"cumulative_sum: axis is needed for an array of shape \[2, 3\]; pass axis=0"),
        (lambda x: gb.cumulative_prod(x, axis=2), "cumulative_prod: axis 2 of an array with 2 axes"),
        (lambda x: gb.cumulative_sum(x, axis=(0, 1)), "cumulative_sum: axis .* is not made of integers"),
        (lambda x: gb.cumulative_sum(x, axis=0, dtype="datetime64"), "dtype"),
        (lambda x: gb.diff(x, n=-1), "diff: n=-1; differences can be taken 0 or more times"),
        (lambda x: gb.diff(x, n=0.5), "diff: n 0.5 is not made of integers"),
        (lambda x: gb.diff(x, prepend=gb.ones((1, 3))), "concat"),
        (lambda x: gb.diff(gb.tensor(1.0)), "diff: axis -1 of an array with 0 axes"),
    ],
)
def test_bad_input(call: Callable[[gb.Tensor], Any], words: str) -> None:
    with pytest.raises(gb.GpuBackpropError, match=words):
        call(gb.ones((2, 3)))


# gradients -----------------------------------------------------------------------------------------------------------


@FEW
@given(x=arrays(dtypes=st.just("float64"), finite=True), data=st.data())
def test_the_gradient_of_cumulative_prod_by_its_definition(x: np.ndarray, data: st.DataObject) -> None:
    """d out_k / d x_i is the product of the other x up to k: with any number of zeros."""
    if not x.size or not x.ndim:
        return
    axis = data.draw(axes(x))
    rows, n = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]), x.shape[axis]
    weights = np.arange(1.0, n + 1)
    expected = np.array(
        [[sum(weights[k] * np.prod(np.delete(row[: k + 1], i)) for k in range(i, n)) for i in range(n)] for row in rows]
    ).reshape(np.moveaxis(x, axis, -1).shape)
    shape = [n if i == axis % x.ndim else 1 for i in range(x.ndim)]
    found = gb.grad(lambda t: (gb.cumulative_prod(t, axis=axis) * weights.reshape(shape)).sum())(gb.asarray(x))
    same(found, np.moveaxis(expected, -1, axis), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["prod", "cumulative_prod"])
def test_products_with_an_infinity_keep_the_derivatives_that_are_finite(name: str) -> None:
    x = gb.tensor([np.inf, 2.0, 3.0])

    def loss(x: gb.Tensor) -> gb.Tensor:
        return gb.prod(x) if name == "prod" else gb.cumulative_prod(x)[2]

    assert gb.grad(loss)(x).tolist() == [6.0, np.inf, np.inf]


def test_long_scans_have_the_gradient_of_their_sums(device: str) -> None:
    x = np.random.default_rng(1).uniform(0.99, 1.01, 1000)
    t = gb.tensor(x, device=device)
    np.testing.assert_allclose(gb.grad(lambda t: gb.cumulative_sum(t).sum())(t).numpy(), np.arange(1000.0, 0, -1))
    expected = np.cumsum(np.cumprod(x)[::-1])[::-1] / x
    np.testing.assert_allclose(gb.grad(lambda t: gb.cumulative_prod(t).sum())(t).numpy(), expected, rtol=1e-12)
