"""Softmax and its kin, cross-entropy and linear, against float64 formulas."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special

from gpu_backprop.backends import layouts, table
from gpu_backprop.core.errors import DataError

from .conftest import DTYPES, OTHER_ORDERS, check, compile_first, draw, instantiations, on

# a warp's chunk is 1,024 floats, a block's 8,192
SHAPES = ((1, 1), (3, 10), (8, 31), (9, 32), (17, 33), (2, 1000), (2, 1024), (3, 1025), (1, 8192), (1, 8193))


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("neural.cu"))


def ulps(dtype: np.dtype) -> float:
    return 1.51 if dtype.itemsize == 2 else 8


# softmax -------------------------------------------------------------------------------------------------------------


def reference(name: str, arrays: list[np.ndarray], axis: int) -> np.ndarray:
    wide = [x.astype(np.float64) for x in arrays]
    if name in ("softmax", "log_softmax"):
        return getattr(special, name)(wide[0], axis=axis)
    g, y = wide
    if name == "softmax_backward":
        return y * (g - np.sum(g * y, axis=axis, keepdims=True))
    return g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"])
def test_softmax(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    for shape in SHAPES:
        x = draw(shape, dtype, 1)
        arrays = [x]
        if name.endswith("backward"):
            forward = name.removesuffix("_backward")
            arrays = [x, reference(forward, [draw(shape, dtype, 2)], 1).astype(dtype)]
        got = backend.to_host(backend.functions[name](*(on(backend, a) for a in arrays), axis=1))
        scale = 1.0 if name == "softmax_backward" else np.abs(x.astype(np.float64)).sum() / shape[0]
        check(
            got, reference(name, arrays, 1), dtype, ulps(dtype), 0.0 if name == "softmax" else scale, f"{name} {shape}"
        )


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"])
def test_softmax_of_other_axes_and_layouts(backend, name):
    operands = [draw((6, 5, 7), np.float32, seed, -2, 0) for seed in range(2 if name.endswith("backward") else 1)]
    views = (lambda a: a, lambda a: a.transpose(2, 0, 1), lambda a: a[::-1, :, 1:])
    for view in views:
        for axis in (0, 1, 2):
            got = backend.functions[name](*(on(backend, x, view) for x in operands), axis=axis)
            expected = reference(name, [view(x) for x in operands], axis)
            check(backend.to_host(got), expected, np.dtype(np.float32), 16, 1.0, f"{name} {axis}")
    out = on(backend, np.zeros((6, 5, 7), np.float32))
    assert backend.functions[name](*(on(backend, x) for x in operands), axis=1, out=out) is out
    check(backend.to_host(out), reference(name, operands, 1), np.dtype(np.float32), 16, 1.0)


def test_softmax_of_large_and_special_numbers(backend):
    few = np.array(
        [[1000, 1000.5, 999], [-np.inf, 0, 1], [np.nan, 0, 1], [-np.inf] * 3, [np.inf, 0, 1], [-5e4, 5e4, 0]],
        np.float32,
    )
    for name, more in itertools.product(("softmax", "log_softmax"), (0, 1022, 8190)):  # at the end of chunks
        x = np.pad(few, ((0, 0), (more, 0)), constant_values=-np.inf)
        got = backend.to_host(backend.functions[name](on(backend, x), axis=1))
        with np.errstate(all="ignore"):
            expected = x.astype(np.float64) - x.max(axis=1, keepdims=True)
            expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
        check(got, np.exp(expected) if name == "softmax" else expected, np.dtype(np.float32), 8, 0.1, name)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"])
def test_softmax_of_rows_that_start_anywhere(backend, name):
    """Rows of odd length are not at multiples of 16 bytes, and the array may begin beside one."""
    for n in (1023, 8195):
        operands = [
            draw((3 * n + 1,), np.float32, seed, -2, 0) for seed in range(2 if name.endswith("backward") else 1)
        ]
        given = [on(backend, x, lambda a, n=n: a[1:].reshape(3, n)) for x in operands]
        got = backend.to_host(backend.functions[name](*given, axis=1))
        expected = reference(name, [x[1:].reshape(3, n) for x in operands], 1)
        check(got, expected, np.dtype(np.float32), 16, 1.0 if name == "softmax" else n, f"{name} {n}")


# cross-entropy -------------------------------------------------------------------------------------------------------


def cross_entropy(x, labels, weight, reduction, ignore_index, label_smoothing) -> tuple[Any, ...]:
    """torch.nn.functional.cross_entropy by its documentation: output, top, mass, total and d output / d x (for g
    of ones)."""
    x = x.astype(np.float64)
    n, c = x.shape
    w = np.ones(c) if weight is None else weight.astype(np.float64)
    counts = labels != ignore_index
    safe = np.where(counts, labels, 0)
    target = np.zeros((n, c))
    target[np.arange(n), safe] = (1 - label_smoothing) * w[safe]
    target += label_smoothing / c * w
    target *= counts[:, None]
    log_p = special.log_softmax(x, axis=1)
    loss, total = -(target * log_p).sum(axis=1), (w[safe] * counts).sum()
    slope = np.exp(log_p) * target.sum(axis=1, keepdims=True) - target
    if reduction == "mean":
        loss, slope = loss.sum() / total, slope / total
    elif reduction == "sum":
        loss = loss.sum()
    top = x.max(axis=1, keepdims=True)
    return loss, top, np.exp(x - top).sum(axis=1), total, slope


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(backend, dtype, reduction, smoothing, weighted):
    dtype = table.dtype_of(dtype)
    wide = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    for n, c in ((1, 1), (7, 10), (33, 33), (2, 1024), (5, 1030), (2, 8193)):
        x, random = draw((n, c), dtype), np.random.default_rng(n)
        labels = random.integers(0, c, n)
        labels[1::4] = -100
        weight = draw((c,), dtype, 1, 0.5, 2.0) if weighted else None
        attrs = {"reduction": reduction, "ignore_index": -100, "label_smoothing": smoothing}
        expected, top, mass, total, slope = cross_entropy(x, labels, weight, **attrs)
        given = [on(backend, x), on(backend, labels), None if weight is None else on(backend, weight)]
        out, got_top, got_mass, got_total = backend.functions["softmax_cross_entropy"](*given, **attrs)
        check(backend.to_host(out), expected, dtype, ulps(dtype), n if reduction == "sum" else 1.0, "loss")
        check(backend.to_host(got_top), top, wide, 0, 1.0, "top")
        check(backend.to_host(got_mass), mass, wide, 8, 1.0, "mass")
        check(backend.to_host(got_total), total, wide, 8, 1.0, "total")

        g = draw((n,), dtype, 2) if reduction == "none" else np.array(1.5, dtype)
        arguments = (on(backend, g), *given, got_top, got_mass, got_total)
        got = backend.functions["softmax_cross_entropy_backward"](*arguments, **attrs)
        expected = slope * g.astype(np.float64).reshape(-1, 1) if reduction == "none" else slope * 1.5
        check(backend.to_host(got), expected, dtype, ulps(dtype), 1.0, "dx")


def test_cross_entropy_of_many_rows(backend):
    """More rows than one wave of blocks takes, and labels of another integer type."""
    x, labels = draw((9000, 3), np.float32), np.random.default_rng(0).integers(0, 3, 9000).astype(np.int32)
    attrs = {"reduction": "mean", "ignore_index": -1, "label_smoothing": 0.0}
    for _ in range(2):
        given = (on(backend, x), on(backend, labels), None)
        out, _, _, total = backend.functions["softmax_cross_entropy"](*given, **attrs)
        np.testing.assert_allclose(backend.to_host(out), cross_entropy(x, labels, None, **attrs)[0], rtol=1e-6)
        assert backend.to_host(total) == 9000


@pytest.mark.parametrize("c", [3, 1023, 1024, 1025, 8191, 8192, 8193])
def test_cross_entropy_of_special_rows(backend, c):
    """First and last numbers, and whole rows, that are not finite (-inf alone does no harm); a row that rises."""
    x, labels = draw((9, c), np.float32), np.full(9, 1)
    x[1, -1] = x[2, 0] = -np.inf
    x[3, -1], x[4, 0] = np.nan, np.inf
    x[5], x[6, :-1], x[7], x[8] = -np.inf, -np.inf, 1e4, np.linspace(-9, 9, c)
    labels[6] = c - 1
    attrs = {"reduction": "none", "ignore_index": -100, "label_smoothing": 0.0}
    results = backend.functions["softmax_cross_entropy"](on(backend, x), on(backend, labels), None, **attrs)
    out, top, mass, _ = (backend.to_host(a) for a in results)
    assert np.isnan(out[3:6]).all()
    assert np.isnan(mass[3:6]).all()
    keeps, kind = [0, 1, 2, 6, 7, 8], np.dtype(np.float32)
    x, out, top, mass = x[keeps].astype(np.float64), out[keeps], top[keeps], mass[keeps]
    highest = x.max(axis=1, keepdims=True)
    check(out, special.logsumexp(x, axis=1) - x[np.arange(6), labels[keeps]], kind, 8, 1.0, "loss")
    check(top, highest, kind, what="top")
    check(mass, np.exp(x - highest).sum(axis=1), kind, 8, 1.0, "mass")


def test_cross_entropy_without_any_label_is_nan(backend):
    attrs = {"reduction": "mean", "ignore_index": 1, "label_smoothing": 0.0}
    labels = on(backend, np.ones(4, np.int64))
    out, _, _, total = backend.functions["softmax_cross_entropy"](
        on(backend, draw((4, 3), np.float32)), labels, None, **attrs
    )
    assert np.isnan(backend.to_host(out))
    assert backend.to_host(total) == 0


@pytest.mark.parametrize("label", [3, -1, 2**40, -(2**60)])
def test_label_out_of_range(backend, label):
    """Nothing outside is read; the error names label and row, once."""
    attrs = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}
    x, labels = on(backend, draw((9, 3), np.float32)), np.zeros(9, np.int64)
    labels[5] = label

    def forward(given):
        results = backend.functions["softmax_cross_entropy"](x, on(backend, given), None, **attrs)
        backend.synchronize()
        return results

    def backward(given):
        one = on(backend, np.array(1, np.float32))
        backend.functions["softmax_cross_entropy_backward"](one, x, on(backend, given), None, *residuals, **attrs)
        backend.synchronize()

    with pytest.raises(DataError, match=rf"label {label} in row 5 .*classes 0\.\.2"):
        forward(labels)
    out, *residuals = forward(labels * 0)
    with pytest.raises(DataError, match="row 5"):
        backward(labels)
    assert np.isfinite(backend.to_host(out))


@pytest.mark.parametrize("order", OTHER_ORDERS)
@pytest.mark.parametrize(("n", "c"), [(40, 10), (3, 1100)])
@pytest.mark.parametrize("limit", [2**31 - 1, 1])
def test_thread_order_changes_nothing(remake, order, n, c, limit):
    """With one block for everything, too: shared memory is then used again before all threads are through."""
    x, labels, weight = draw((n, c), np.float32), np.arange(n) % c, draw((c,), np.float32, 1, 0.5, 2.0)
    attrs = {"reduction": "mean", "ignore_index": 0, "label_smoothing": 0.1}
    results = []
    for b in (remake(max_grid=limit), remake(max_grid=limit, order=order, seed=7)):
        given = (on(b, x), on(b, labels), on(b, weight))
        one = on(b, np.array(1, np.float32))
        out, *residuals = b.functions["softmax_cross_entropy"](*given, **attrs)
        dx = b.functions["softmax_cross_entropy_backward"](one, *given, *residuals, **attrs)
        soft = b.functions["softmax"](given[0], axis=1)
        slope = b.functions["softmax_backward"](given[0], soft, axis=1)
        results.append([b.to_host(a) for a in (out, *residuals, dx, soft, slope)])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_grid_limit_and_long_index_type(remake, monkeypatch):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    limited = remake(max_grid=1)
    x, labels = draw((70, 10), np.float32), np.arange(70) % 10
    attrs = {"reduction": "sum", "ignore_index": -100, "label_smoothing": 0.0}
    given = (on(limited, x), on(limited, labels), None)
    out, *residuals = limited.functions["softmax_cross_entropy"](*given, **attrs)
    expected = cross_entropy(x, labels, None, **attrs)
    np.testing.assert_allclose(limited.to_host(out), expected[0], rtol=1e-6)
    dx = limited.functions["softmax_cross_entropy_backward"](
        on(limited, np.array(1, np.float32)), *given, *residuals, **attrs
    )
    check(limited.to_host(dx), expected[-1], np.dtype(np.float32), 8, 1.0)
    check(
        limited.to_host(limited.functions["softmax"](given[0], axis=1)), special.softmax(x.astype(float), 1), x.dtype, 8
    )


# linear --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
def test_linear(backend, dtype, lead):
    dtype = table.dtype_of(dtype)
    x, weight, bias = draw((*lead, 6), dtype), draw((4, 6), dtype, 1), draw((4,), dtype, 2)
    plain = x.astype(np.float64) @ weight.astype(np.float64).T
    for b in (None, bias):
        expected = plain if b is None else plain + b.astype(np.float64)
        got = backend.functions["linear"](on(backend, x), on(backend, weight), None if b is None else on(backend, b))
        check(backend.to_host(got), expected, dtype, ulps(dtype), 20.0 if dtype.itemsize > 2 else 1.0)
