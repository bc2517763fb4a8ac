"""Sorting, searching and sets against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpu_backprop as gb
from gpu_backprop.backends import generic_sorting

from .strategies import ALL, FEW, LISTS, REAL, arrays, axes, same


def descending_order(x: np.ndarray, axis: int) -> np.ndarray:
    """Positions by rank from above, NaNs first, equal values in their order."""
    rank = np.unique(x, return_inverse=True)[1].reshape(x.shape)
    return np.argsort(-rank, axis=axis, kind="stable")


@FEW
@given(x=arrays(dtypes=ALL), descending=st.booleans(), stable=st.booleans(), data=st.data())
def test_sort_and_argsort(x: np.ndarray, descending: bool, stable: bool, data: st.DataObject) -> None:
    if not x.ndim:
        with pytest.raises(gb.ShapeError, match="sort: axis -1 of an array with 0 axes"):
            gb.sort(gb.asarray(x))
        return
    axis = data.draw(axes(x))
    options = {"axis": axis, "descending": descending, "stable": stable}
    order = descending_order(x, axis) if descending else np.argsort(x, axis=axis, kind="stable")
    found = gb.argsort(gb.asarray(x), **options)
    assert found.dtype == gb.int64
    same(gb.sort(gb.asarray(x), **options), np.take_along_axis(x, order, axis))
    if stable:
        same(found, order)
    else:
        same(gb.asarray(np.take_along_axis(x, found.numpy(), axis)), np.take_along_axis(x, order, axis))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats_sort_as_their_values(dtype: str, device: str) -> None:
    values = np.array([[3.0, np.nan, -np.inf, 0.5, -0.0, 0.0, 300.0, np.nan, -2.0]], np.float32)
    x = gb.tensor(values, dtype=dtype, device=device)
    for descending in (False, True):
        order = descending_order(values, -1) if descending else np.argsort(values, kind="stable")
        assert gb.argsort(x, descending=descending).tolist() == order.tolist()
        found = gb.sort(x, descending=descending)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found.numpy().astype(np.float32), np.take_along_axis(values, order, -1))
    assert gb.unique_counts(x).counts.tolist() == [1, 1, 2, 1, 1, 1, 1, 1]
    assert gb.searchsorted(gb.sort(x[0]), gb.tensor([0.25, np.nan], dtype=dtype), side="left").tolist() == [4, 7]
    assert (
        gb.isin(x, gb.tensor([0.0, np.nan, 300.0], dtype=dtype)).tolist()[0] == [False] * 4 + [True] * 3 + [False] * 2
    )
    assert gb.count_nonzero(x).item() == 7


@pytest.mark.parametrize("descending", [False, True])
def test_a_stable_sort_keeps_the_order_of_zeros(descending: bool) -> None:
    x = np.random.default_rng(0).choice([0.0, -0.0, 1.0], 500)
    order = descending_order(x, -1) if descending else np.argsort(x, kind="stable")
    found = gb.sort(gb.tensor(x), descending=descending)
    np.testing.assert_array_equal(np.signbit(found.numpy()), np.signbit(x[order]))


def radix_sorting() -> Any:
    """NumPy, but for a sort like CuPy's: stable, by the bits, so that a NaN with a sign comes first."""

    def order(x: np.ndarray, axis: int, kind: str | None) -> np.ndarray:
        assert kind == "stable"
        assert x.size
        first = np.isnan(x) & np.signbit(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
        ranks = np.where(first, -1, np.unique(x, return_inverse=True)[1].reshape(x.shape))
        return np.argsort(ranks, axis=axis, kind="stable")

    own = {
        "argsort": order,
        "sort": lambda x, axis, kind: np.take_along_axis(x, order(x, axis, kind), axis),
    }
    return SimpleNamespace(**{name: own.get(name, getattr(np, name)) for name in np.__all__})


@FEW
@given(x=arrays(), descending=st.booleans(), stable=st.booleans())
def test_an_array_module_that_sorts_like_cupy(x: np.ndarray, descending: bool, stable: bool) -> None:
    if not x.ndim:
        return
    radix, numpy = generic_sorting.table(radix_sorting()), generic_sorting.table(np)
    last = x.ndim - 1
    results = (
        (t["sort"](x, last, descending, stable), t["argsort"](x, last, descending, True), *t["unique"](x))
        for t in (radix, numpy)
    )
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


@FEW
@given(x=arrays(LISTS), v=arrays(), side=st.sampled_from(["left", "right"]), with_sorter=st.booleans())
def test_searchsorted(x: np.ndarray, v: np.ndarray, side: str, with_sorter: bool) -> None:
    order = np.argsort(x, kind="stable")
    if x.dtype.kind == "u" and v.dtype.kind == "i":
        v = np.abs(v)  # NumPy compares them as float64
    expected = np.searchsorted(x[order], v, side=side)
    if with_sorter:
        found = gb.searchsorted(gb.asarray(x), gb.asarray(v), side=side, sorter=gb.asarray(order))
    else:
        found = gb.searchsorted(gb.asarray(x[order]), gb.asarray(v), side=side)
    same(found, expected)


def test_searchsorted_of_numbers() -> None:
    x = gb.tensor([1, 2**53, 2**53 + 1])
    assert gb.searchsorted(x, 2**53 + 1).item() == 2
    assert gb.searchsorted(x, 1.5, side="right").tolist() == 1
    assert gb.searchsorted(gb.tensor([1, 3], dtype="uint8"), 3, side="right").item() == 2
    assert gb.searchsorted(gb.tensor([0.1], dtype="float32"), 0.1).item() == 0  # a number takes the array's dtype
    with pytest.raises(gb.DataError, match="searchsorted: 300 does not fit into uint8"):
        gb.searchsorted(gb.tensor([1, 3], dtype="uint8"), 300)


@FEW
@given(x=arrays(dtypes=ALL))
def test_unique(x: np.ndarray) -> None:
    t = gb.asarray(x)
    values, index, _, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
    found = gb.unique_all(t)
    assert found._fields == ("values", "indices", "inverse_indices", "counts")
    same(found.values, values)
    same(found.counts, counts)
    flat = x.reshape(-1)
    np.testing.assert_array_equal(flat[found.indices.numpy()], values)  # NumPy's own are not the first ones of NaNs
    if not np.isnan(x).any():
        same(found.indices, index)
    assert found.inverse_indices.shape == x.shape
    np.testing.assert_array_equal(found.values.numpy()[found.inverse_indices.numpy()], x)
    same(gb.unique_values(t), values)
    assert gb.unique_counts(t)._fields == ("values", "counts")
    same(gb.unique_counts(t).counts, counts)
    assert gb.unique_inverse(t)._fields == ("values", "inverse_indices")
    same(gb.unique_inverse(t).inverse_indices, found.inverse_indices.numpy())


@FEW
@given(data=st.data(), dtype=REAL, invert=st.booleans())
def test_isin(data: st.DataObject, dtype: str, invert: bool) -> None:
    x, y = data.draw(arrays(dtypes=st.just(dtype))), data.draw(arrays(dtypes=st.just(dtype)))
    expected = (x[..., None] == y.reshape(-1)).any(-1) ^ invert
    same(gb.isin(gb.asarray(x), gb.asarray(y), invert=invert), expected)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (3, [1, 3], True),
        ([1, 3], 3, [False, True]),
        (300, np.array([44], np.uint8), False),
        (-1, np.array([255], np.uint8), False),
        (np.array([255, 1], np.uint8), -1, [False, False]),
        (2**53 + 1, np.array([2**53]), False),
        (2.5, [2, 3], False),
        (np.array([2**24, 2**24 + 1]), 2.0**24, [True, False]),  # which float32 would not tell apart
        (True, np.array([False]), False),
    ],
)
def test_isin_with_a_number(x: Any, y: Any, expected: Any) -> None:
    x, y = (v if isinstance(v, (int, float)) else gb.tensor(v) for v in (x, y))
    assert gb.isin(x, y).tolist() == expected
    assert gb.isin(x, y, invert=True).tolist() == np.logical_not(expected).tolist()


@FEW
@given(x=arrays(dtypes=ALL), keepdims=st.booleans(), data=st.data())
def test_nonzero_and_count_nonzero(x: np.ndarray, keepdims: bool, data: st.DataObject) -> None:
    t = gb.asarray(x)
    axis = data.draw(st.one_of(st.none(), axes(x), st.just(tuple(range(-x.ndim, 0))))) if x.ndim else None
    same(gb.count_nonzero(t, axis=axis, keepdims=keepdims), np.sum(x != 0, axis=axis, keepdims=keepdims))
    if not x.ndim:
        with pytest.raises(gb.ShapeError, match="nonzero: a scalar array has no positions"):
            gb.nonzero(t)
        return
    found = gb.nonzero(t)
    assert len(found) == x.ndim
    for f, e in zip(found, np.nonzero(x)):
        same(f, e)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gb.sort(x, axis=2), "sort: axis 2 of an array with 2 axes; use -2 to 1"),
        (lambda x: gb.argsort(x, axis=(0, 1)), "argsort: axis .* is not made of integers"),
        (lambda x: gb.sort("abc"), "cannot be a Tensor"),
        (lambda x: gb.searchsorted(x, 1.0), r"searchsorted: x1 of shape \[2, 3\] must have one axis"),
        (lambda x: gb.searchsorted(x[0], 1.0, side="up"), "side='up'; use 'left' or 'right'"),
        (lambda x: gb.searchsorted(x[0], 1.0, sorter=[0, 1]), r"sorter is int64\[2\] for \[3\] values"),
        (lambda x: gb.searchsorted(x[0], 1.0, sorter=x[0]), "sorter is float32"),
        (lambda x: gb.searchsorted(x[0], 1.0, sorter=[0, 7, 1]), r"searchsorted.*out of range"),
        (lambda x: gb.isin(x, "a"), "isin: .*cannot be a Tensor"),
        (lambda x: gb.count_nonzero(x, axis=5), "count_nonzero: axis 5"),
    ],
)
def test_bad_input(call: Callable[[gb.Tensor], Any], words: str) -> None:
    with pytest.raises(gb.GpuBackpropError, match=words):
        call(gb.ones((2, 3)))


# gradients, capture --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
def test_the_gradient_of_a_sort_goes_back_to_where_the_values_were(descending: bool, device: str) -> None:
    """Of equal values, each keeps its own place; NaNs too."""
    x = gb.tensor([[2.0, 1.0, 2.0, np.nan, 2.0]], device=device, requires_grad=True)
    weights = gb.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]], device=device)
    (gb.sort(x, descending=descending) * weights).sum().backward()
    assert x.grad.tolist() == [[2.0, 5.0, 3.0, 1.0, 4.0] if descending else [2.0, 1.0, 3.0, 5.0, 4.0]]


def test_the_gradient_of_unique_values_reaches_the_first_of_each(device: str) -> None:
    x = gb.tensor([[3.0, 1.0], [1.0, 3.0]], device=device, requires_grad=True)
    (gb.unique_values(x) * gb.tensor([5.0, 7.0], device=device)).sum().backward()
    assert x.grad.tolist() == [[7.0, 5.0], [0.0, 0.0]]


COUNTED: dict[str, Callable[[gb.Tensor], Any]] = {
    "nonzero": gb.nonzero,
    "unique": gb.unique_all,
    "unique_values": gb.unique_values,
    "repeat_indices": lambda x: gb.repeat(x, gb.astype(x, "int64")),
    "indexing by a mask": lambda x: x[x > 0],
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_shape_that_depends_on_values_cannot_be_captured(name: str, device: str) -> None:
    """The error names the operation and the line; without strict it goes on eagerly."""
    x = gb.tensor([0.0, 2.0, 1.0, 2.0], device=device)

    def f(x: gb.Tensor) -> Any:
        return COUNTED[name](x * 1)  # the line

    with pytest.raises(gb.CaptureError, match=rf"capture: {name}, whose .* at test_sorting.py:\d+ \("):
        gb.capture(f)(x)
    with pytest.warns(UserWarning, match="test_sorting.py"):
        found = gb.capture(f, strict=False)(x)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, f(x))), strict=True):
        assert a.tolist() == b.tolist()


def test_sorts_can_be_captured(device: str) -> None:
    f = gb.capture(lambda x: (gb.sort(x, axis=0), gb.argsort(x), gb.grad(lambda y: (gb.sort(y) ** 2).sum())(x)))
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((3, 4))
        values, order, gradient = f(gb.tensor(x, device=device))
        same(values, np.sort(x, 0))
        same(order, np.argsort(x))
        same(gradient, 2 * x)
