"""Rows by index, their gradient, one-hot rows and accuracy, against NumPy."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import generic, layouts, table
from gpu_backprop.core.errors import DataError, ShapeIndexError
from gpu_backprop.ops.indexing import Hole, fill

from .conftest import DTYPES, OTHER_ORDERS, check, compile_first, draw, instantiations, on

TABLES = ((1, 1), (5, 3), (40, 16), (7, 33), (9, 260), (300, 2))
COUNTS = (0, 1, 31, 32, 33, 129, 1000)


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("indexing.cu"))


def indices_below(n: int, count: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, count)


def added(g: np.ndarray, indices: np.ndarray, shape: tuple[int, ...], padding_idx: int | None = None) -> np.ndarray:
    """np.add.at, in float32 for 16-bit floats."""
    wide = g.astype(np.float64 if g.dtype.itemsize == 8 else np.float32)
    keep = np.ones(indices.shape, bool) if padding_idx is None else indices != padding_idx
    result = np.zeros(shape, wide.dtype)
    np.add.at(result, indices[keep], wide[keep])
    return result.astype(g.dtype)


# rows by index -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows(backend, dtype):
    dtype = table.dtype_of(dtype)
    for rows, width in TABLES:
        weight = draw((rows, width), dtype)
        weight[0, 0], weight[-1, -1] = np.nan, -0.0
        for count in COUNTS:
            indices = indices_below(rows, count)
            for name, given, attrs in (
                ("embedding", indices, {"padding_idx": 0}),
                ("take", np.where(indices % 2, indices - rows, indices), {"axis": 0}),
            ):
                got = backend.to_host(backend.functions[name](on(backend, weight), on(backend, given), **attrs))
                assert got.tobytes() == weight[indices].tobytes(), (name, rows, width, count)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64"])
def test_indices_of_any_integer_dtype_and_shape(backend, kind):
    weight = draw((50, 6), np.dtype(np.float32))
    for shape in ((), (1,), (2, 3), (2, 0), (2, 3, 4)):
        indices = indices_below(50, shape).astype(kind) if shape else np.array(7, kind)
        for name, attrs in (("embedding", {"padding_idx": None}), ("take", {"axis": 0})):
            got = backend.to_host(backend.functions[name](on(backend, weight), on(backend, indices), **attrs))
            np.testing.assert_array_equal(got, weight[indices], strict=True)
    got = backend.functions["take"](on(backend, weight), on(backend, indices_below(50, 20), lambda a: a[::-2]), axis=0)
    np.testing.assert_array_equal(backend.to_host(got), weight[indices_below(50, 20)[::-2]])


def test_tables_of_any_layout(backend):
    """Rows that lie apart, backwards, unaligned or over one another are read where they are; others are copied."""
    base, indices = draw((12, 10, 3), np.dtype(np.float32)), indices_below(5, 40)
    views = (
        lambda a: a[:, 0],
        lambda a: a[::2],
        lambda a: a[::-1],
        lambda a: a.reshape(-1)[1:],
        lambda a: a.reshape(12, 30)[:, 1:],
        lambda a: a.reshape(12, 30).T,
        lambda a: a[:, ::2],
    )
    for number, view in enumerate(views):
        got = backend.functions["take"](on(backend, base, view), on(backend, indices), axis=0)
        np.testing.assert_array_equal(backend.to_host(got), view(base)[indices], err_msg=f"view {number}")
    same = backend.xp.broadcast_to(on(backend, base[:1]), base.shape)
    got = backend.functions["take"](same, on(backend, indices), axis=0)
    np.testing.assert_array_equal(backend.to_host(got), base[np.zeros_like(indices)])
    for x in (np.arange(12), base.astype(np.int32), base[..., :0]):  # integers, nothing: the array module's
        got = backend.functions["take"](on(backend, x), on(backend, indices), axis=0)
        np.testing.assert_array_equal(backend.to_host(got), x[indices], strict=True)
    got = backend.functions["take"](on(backend, base), on(backend, indices % 3), axis=2)
    np.testing.assert_array_equal(backend.to_host(got), base[..., indices % 3])


# their gradient ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_rows_adds_in_order(backend, dtype):
    """Bit for bit what np.add.at gives: rows named once, often, always and never."""
    dtype = table.dtype_of(dtype)
    for rows, width in TABLES:
        for count in COUNTS:
            g = draw((count, width), dtype, 1) * draw((count, 1), dtype, 2, 0.01, 100.0)
            for most in (rows, max(1, rows // 2)):  # the upper half never
                indices, given = indices_below(most, count), indices_below(most, count)
                given[::3] -= rows
                got = backend.functions["take_backward"](
                    on(backend, g), on(backend, given), axis=0, shape=(rows, width)
                )
                expected = added(g, indices, (rows, width))
                np.testing.assert_array_equal(backend.to_host(got), expected, f"{rows} {width} {count}", strict=True)
                attrs = {"shape": (rows, width), "padding_idx": most - 1}
                got = backend.functions["embedding_backward"](on(backend, g), on(backend, indices), **attrs)
                expected = added(g, indices, (rows, width), most - 1)
                np.testing.assert_array_equal(backend.to_host(got), expected, f"{rows} {width} {count}", strict=True)


def test_gradient_of_rows_of_other_layouts(backend):
    g, indices = draw((6, 4, 5), np.dtype(np.float32)), indices_below(3, (4, 6))
    got = backend.functions["embedding_backward"](
        on(backend, g, lambda a: a.transpose(1, 0, 2)), on(backend, indices), shape=(3, 5), padding_idx=None
    )
    np.testing.assert_array_equal(backend.to_host(got), added(g.transpose(1, 0, 2), indices, (3, 5)))
    got = backend.functions["take_backward"](on(backend, g), on(backend, np.arange(4)), axis=1, shape=(6, 9, 5))
    np.testing.assert_array_equal(backend.to_host(got)[:, :4], g)
    one = on(backend, np.ones((1, 1), np.float32), lambda a: backend.xp.broadcast_to(a, (500, 3)))
    zeros = on(backend, np.zeros(500, np.int64))
    got = backend.functions["take_backward"](one, zeros, axis=0, shape=(2, 3))
    np.testing.assert_array_equal(backend.to_host(got), [[500.0] * 3, [0.0] * 3])
    one_axis = backend.functions["take_backward"](
        on(backend, g[0, 0]), on(backend, np.arange(5) % 2), axis=0, shape=(4,)
    )
    np.testing.assert_array_equal(backend.to_host(one_axis), added(g[0, 0], np.arange(5) % 2, (4,)))


def test_gradient_of_one_mask(backend):
    """x[mask] names each element once: the array module's."""
    g, mask = draw((40, 3), np.dtype(np.float32)), np.arange(50) % 5 != 0
    got = backend.functions["getitem_backward"](on(backend, g), on(backend, mask), index=(Hole(0),), shape=(50, 3))
    expected = np.zeros((50, 3), np.float32)
    expected[mask] = g
    np.testing.assert_array_equal(backend.to_host(got), expected)


ROWS, COLUMNS = indices_below(7, 40) - 3, indices_below(4, 40, 1)
INDICES: dict[str, tuple[tuple[Any, ...], tuple[np.ndarray, ...]]] = {
    "x[i]": ((Hole(0),), (ROWS,)),
    "x[i, j]": ((Hole(0), Hole(1)), (ROWS, COLUMNS)),
    "x[:, j]": ((slice(None), Hole(0)), (COLUMNS,)),
    "x[2:6, j]": ((slice(2, 6), Hole(0)), (COLUMNS.reshape(5, 8),)),
    "x[..., k]": ((Ellipsis, Hole(0)), (COLUMNS % 3,)),
    "x[i, :, k]": ((Hole(0), slice(None), Hole(1)), (ROWS, COLUMNS % 3)),
    "x[None, i, ::2]": ((None, Hole(0), slice(None, None, 2)), (ROWS,)),
    "x[i, 1]": ((Hole(0), 1), (ROWS,)),
    "x[i[:, None], j]": ((Hole(0), Hole(1)), (ROWS[:, None], COLUMNS[:9])),
    "x[mask, j]": ((Hole(0), Hole(1)), (np.arange(7) % 2 == 0, np.array([3, 0, 3, 0]))),
    "x[mask of two axes, k]": ((Hole(0), Hole(1)), (np.arange(28).reshape(7, 4) % 9 == 0, np.array([2, 0, 2, 1]))),
    "x[none]": ((Hole(0), Hole(1)), (ROWS[:0], COLUMNS[:0])),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", INDICES)
def test_gradient_of_any_index_adds_in_order(backend, dtype, case):
    """Bit for bit what np.add.at gives, large values beside small ones and a NaN that stays where it is."""
    dtype, (index, arrays), shape = table.dtype_of(dtype), INDICES[case], (7, 4, 3)
    picked = np.zeros(shape)[fill(index, arrays)].shape
    g = (draw(picked, np.dtype(np.float64), 1) * 10.0 ** (np.arange(math.prod(picked)) % 5).reshape(picked)).astype(
        dtype
    )
    g.reshape(-1)[:1] = np.nan
    wide = g.astype(np.float64 if dtype.itemsize == 8 else np.float32)
    expected = np.zeros(shape, wide.dtype)
    np.add.at(expected, fill(index, arrays), wide)
    seen = (lambda a: a.T.copy().T) if g.ndim else (lambda a: a)  # strided as well
    got = backend.functions["getitem_backward"](
        on(backend, g, seen), *(on(backend, a) for a in arrays), index=index, shape=shape
    )
    check(backend.to_host(got), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [1, 2])
def test_gradient_of_take_along_an_axis(backend, dtype, axis):
    dtype, shape = table.dtype_of(dtype), (6, 9, 5)
    for indices in (indices_below(shape[axis], 33), indices_below(shape[axis], (3, 4)) - shape[axis], np.array(2)):
        g = draw((*shape[:axis], *indices.shape, *shape[axis + 1 :]), dtype, 1)
        wide = g.astype(np.float64 if dtype.itemsize == 8 else np.float32)
        expected = np.zeros(shape, wide.dtype)
        np.add.at(expected, (*[slice(None)] * axis, indices), wide)
        got = backend.functions["take_backward"](on(backend, g), on(backend, indices), axis=axis, shape=shape)
        check(backend.to_host(got), expected, dtype)


def test_gradients_of_floats_leave_the_array_module_alone(backend, monkeypatch):
    """CuPy's add.reduceat subtracts running sums: inexact, and one NaN would spoil all that follows it."""
    monkeypatch.setattr(generic, "_add_at", lambda *_: pytest.fail("the array module adds floats up"))
    test_gradient_of_any_index_adds_in_order(backend, "float", "x[i, j]")
    test_gradient_of_take_along_an_axis(backend, "float", 1)


def test_gradient_of_rows_holds_special_numbers(backend):
    g = np.array([[np.nan, np.inf, -0.0, 1e-40]] * 2 + [[1.0, -np.inf, -0.0, 1e-40]], np.float32)
    indices = np.array([1, 3, 1])
    got = backend.functions["take_backward"](on(backend, g), on(backend, indices), axis=0, shape=(4, 4))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(backend.to_host(got), added(g, indices, (4, 4)))
    got = backend.functions["embedding_backward"](on(backend, g), on(backend, indices), shape=(4, 4), padding_idx=1)
    assert not backend.to_host(got)[1].any()


# indices out of range ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [5, -1, -6, 2**40, -(2**60)])
def test_index_out_of_range(backend, bad):
    """Nothing outside is read or written; the error names operation and index, once."""
    weight, indices = on(backend, draw((5, 6), np.dtype(np.float32))), np.array([0, 4, bad, 1])
    calls: dict[str, Any] = {
        "embedding": (DataError, rf"index {bad} .*rows 0\.\.4", {"padding_idx": None}),
        "one_hot": (DataError, rf"label {bad} .*classes 0\.\.4", {}),
        "take": (ShapeIndexError, f"index {bad} .*axis 0 of length 5", {"axis": 0}),
    }
    for name, (error, message, attrs) in calls.items():
        if name == "take" and bad == -1:
            continue

        def run(values: np.ndarray, name: str = name, attrs: Any = attrs) -> Any:
            if name == "one_hot":
                for dtype in (np.dtype(np.float32), np.dtype(np.int64)):
                    backend.functions[name](on(backend, values), num_classes=5, dtype=dtype)
            else:
                backend.functions[name](weight, on(backend, values), **attrs)
            backend.synchronize()

        with pytest.raises(error, match=f"{name}: {message}"):
            run(indices)
        run(indices % 5)  # nothing is left of it
    g = on(backend, np.ones((4, 6), np.float32))
    got = backend.functions["embedding_backward"](g, on(backend, indices), shape=(5, 6), padding_idx=None)
    np.testing.assert_array_equal(backend.to_host(got)[:, 0], [1, 1, 0, 0, 1])


def called(backend: Any, name: str, *operands: Any, **attrs: Any) -> np.ndarray:
    """The result of a primitive, after all faults have been told."""
    result = backend.functions[name](*(on(backend, x) if isinstance(x, np.ndarray) else x for x in operands), **attrs)
    backend.synchronize()
    return backend.to_host(result)


@pytest.mark.parametrize("bad", [4, 7, -5, 2**40, -(2**60)])
def test_index_out_of_range_for_the_array_module(backend, bad):
    """Tables and axes that no kernel of rows serves: the same error as where one does, naming the axis."""
    x = draw((9, 4, 3), np.dtype(np.float32))
    good, none, pair = np.arange(35).reshape(5, 7) % 4, np.zeros(0, np.int64), (Hole(0), Hole(1))
    found = good.copy()
    found[-1, -1] = bad
    sentence = f"index {bad} is out of bounds for axis"

    run = functools.partial(called, backend)
    for table_of in (x, x.astype(np.int32), x > 0):
        with pytest.raises(ShapeIndexError, match=f"take: {sentence} 1 of length 4; use"):
            run("take", table_of, found, axis=1)
        np.testing.assert_array_equal(run("take", table_of, good - 4, axis=1), table_of[:, good - 4], strict=True)
        for index, axis, part in (
            ((slice(None), Hole(0)), 1, (slice(None), good)),
            ((None, Ellipsis, Hole(0), slice(None)), 1, (None, Ellipsis, good, slice(None))),
            ((3, Hole(0)), 1, (3, good)),
        ):
            with pytest.raises(ShapeIndexError, match=f"getitem: {sentence} {axis} with size 4; use"):
                run("getitem", table_of, found, index=index)
            np.testing.assert_array_equal(run("getitem", table_of, good, index=index), table_of[part])
    with pytest.raises(ShapeIndexError, match=f"getitem: {sentence} 1 with size 4"):
        run("getitem", x, good, found, index=pair)
    with pytest.raises(ShapeIndexError, match=rf"take: {sentence} 0 of length 4"):
        run("take", x[0].astype(int), found, axis=0)
    mask = np.ones((9, 4), bool)
    with pytest.raises(ShapeIndexError, match=f"getitem: {sentence} 2 with size 3"):
        run("getitem", x, mask, np.where(np.arange(36) == 20, bad, 1), index=pair)
    with pytest.raises(ShapeIndexError, match=f"take: {sentence} 1 of length 0"):
        run("take", x[:, :0], np.array([bad]), axis=1)
    for name, attrs in (("take", {"axis": 1}), ("getitem", {"index": (slice(None), Hole(0))})):
        assert run(name, x[:, :0], none, **attrs).shape == (9, 0, 3)
    with pytest.raises(IndexError, match="too many indices"):
        run("getitem", x[0, 0], good, good, index=pair)


def test_index_out_of_range_in_a_table_of_integers(backend):
    """That no kernel of rows serves; an embedding's index does not wrap round at all."""
    weight = np.arange(24).reshape(4, 6)
    for bad in (4, -1):
        with pytest.raises(DataError, match=rf"embedding: index {bad} is not one of the 4 rows 0\.\.3"):
            called(backend, "embedding", weight, np.array([0, bad]), padding_idx=None)


def test_a_fault_names_its_own_operation(backend):
    """Whatever else was launched since."""
    backend.functions["embedding"](
        on(backend, draw((5, 6), np.dtype(np.float32))), on(backend, np.arange(5)), padding_idx=None
    )
    backend.fault_word("one_hot")[...] = backend.xp.asarray(np.array([1, 2**64 - 9, 3, 7], np.uint64))

    def look() -> None:
        backend.launched_faultable()
        backend.synchronize()

    with pytest.raises(DataError, match=r"one_hot: label -9 is not one of the 7 classes 0\.\.6"):
        look()
    look()  # said once


# labels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "int8", "bool"])
def test_one_hot(backend, dtype):
    dtype = table.dtype_of(dtype) if dtype in DTYPES else np.dtype(dtype)
    for classes in (1, 3, 10, 33, 260):
        for shape in ((0,), (1,), (31,), (32,), (33,), (4, 5), ()):
            labels = np.asarray(indices_below(classes, shape))
            got = backend.functions["one_hot"](on(backend, labels), num_classes=classes, dtype=dtype)
            expected = np.eye(classes)[labels].astype(dtype)
            np.testing.assert_array_equal(backend.to_host(got), expected, f"{classes} {shape}", strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy(backend, dtype):
    """Ties (scores are few), the first of which counts, NaN, labels that are no class."""
    dtype = table.dtype_of(dtype)
    for rows, classes in ((0, 3), (1, 1), (31, 10), (33, 33), (70, 3), (5, 1030)):
        scores = np.random.default_rng(rows).integers(-3, 3, (rows, classes)).astype(dtype)
        labels = indices_below(classes, rows, 1)
        labels[::2] = np.argmax(scores[::2], axis=1) if rows else 0
        scores[1::5, -1] = np.nan
        labels[3::7] = 10**6
        got = backend.to_host(backend.functions["accuracy"](on(backend, scores), on(backend, labels)))
        hits = sum(int(np.argmax(row)) == label for row, label in zip(scores.astype(np.float64), labels))
        expected = np.float32(hits / rows) if rows else np.float32(np.nan)
        np.testing.assert_array_equal(got, expected, f"{rows} {classes}")
        assert got.dtype == np.float32
    views = on(backend, draw((9, 6), dtype), lambda a: a.T[:, ::2])
    labels = np.argmax(draw((9, 6), dtype).T[:, ::2].astype(np.float64), axis=1).astype(np.uint8)
    assert backend.to_host(backend.functions["accuracy"](views, on(backend, labels))) == 1


def test_accuracy_of_many_rows(backend):
    """More blocks than a block has threads: the last one then adds several counts a thread."""
    scores, labels = draw((2500, 3), np.dtype(np.float32)), indices_below(3, 2500)
    got = backend.to_host(backend.functions["accuracy"](on(backend, scores), on(backend, labels)))
    assert got == np.float32(np.mean(scores.argmax(1) == labels))


# the launch ----------------------------------------------------------------------------------------------------------


def everything(b: Any) -> list[np.ndarray]:
    """One result of each kernel, from several tiles, rows and packs."""
    weight, indices = on(b, draw((70, 140), np.dtype(np.float32))), on(b, indices_below(70, 300))
    g, labels = on(b, draw((300, 140), np.dtype(np.float32), 1)), on(b, indices_below(10, 70))
    results = (
        b.functions["embedding"](weight, indices, padding_idx=None),
        b.functions["take_backward"](g, indices, axis=0, shape=(70, 140)),
        b.functions["one_hot"](labels, num_classes=10, dtype=np.dtype(np.float32)),
        b.functions["accuracy"](weight[:, :10], labels),
        b.functions["take"](weight, indices, axis=1),
    )
    return [b.to_host(a) for a in results]


def reference() -> list[np.ndarray]:
    weight, indices = draw((70, 140), np.dtype(np.float32)), indices_below(70, 300)
    g, labels = draw((300, 140), np.dtype(np.float32), 1), indices_below(10, 70)
    hits = np.mean(weight[:, :10].argmax(1) == labels, dtype=np.float32)
    one_hot = np.eye(10, dtype=np.float32)[labels]
    return [weight[indices], added(g, indices, (70, 140)), one_hot, hits, weight[:, indices]]


@pytest.mark.parametrize("limit", [1, 3])
def test_grid_limit_and_long_index_type(remake, monkeypatch, limit):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    for got, expected in zip(everything(remake(max_grid=limit)), reference(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_one_block_looks_at_all_indices(remake):
    b, indices = remake(max_grid=1), np.zeros(4097, np.int64)
    indices[4096] = 70
    with pytest.raises(ShapeIndexError, match="index 70"):
        called(b, "take", draw((2, 70), np.dtype(np.float32)), indices, axis=1)


@pytest.mark.parametrize("order", OTHER_ORDERS)
@pytest.mark.parametrize("limit", [2**31 - 1, 1])
def test_thread_order_changes_nothing(remake, order, limit):
    for got, expected in zip(everything(remake(max_grid=limit, order=order, seed=5)), reference(), strict=True):
        np.testing.assert_array_equal(got, expected)
