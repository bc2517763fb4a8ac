"""Losses of prediction and target, against float64 formulas of NumPy and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from gpu_backprop.backends import layouts, table

from .conftest import DTYPES, OTHER_ORDERS, check, compile_first, draw, instantiations, on

SIZES = (0, 1, 31, 32, 33, 1000, 2049)
REDUCE: dict[str, Any] = {"none": lambda v: v, "mean": np.mean, "sum": np.sum}
BCE = "binary_cross_entropy_with_logits"
float32 = np.dtype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("losses.cu"))


def value_and_slope(name: str, x: Any, y: Any, weights: Any = (), delta: float = 1.0) -> tuple[Any, Any]:
    """The loss of each element and its derivative by x."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    d = x - y
    if name == "mse_loss":
        return d * d, 2 * d
    if name == "l1_loss":
        return np.abs(d), np.sign(d)
    if name == "huber_loss":
        far = np.abs(d) > delta
        return np.where(far, delta * (np.abs(d) - delta / 2), d * d / 2), np.where(far, delta * np.sign(d), d)
    w, p = (1.0 if v is None else v.astype(np.float64) for v in weights or (None, None))
    loss = -(p * y * special.log_expit(x) + (1 - y) * special.log_expit(-x))
    return w * loss, w * ((1 - y) * special.expit(x) - p * y * special.expit(-x))


def attributes(name: str, reduction: str) -> dict[str, Any]:
    return {"reduction": reduction} | ({"delta": 0.75} if name == "huber_loss" else {})


def pair(shape: Any, dtype: np.dtype, name: str) -> tuple[np.ndarray, np.ndarray]:
    return draw(shape, dtype), draw(shape, dtype, 1, 0.0, 1.0) if name == BCE else draw(shape, dtype, 1)


def verify(backend: Any, name: str, x: Any, y: Any, weights: Any = (), views: Any = None, what: str = "") -> None:
    """Forward and backward in every reduction; views: how the device sees the host's x and y."""
    seen = views or (lambda a: a)
    dtype, hx, hy = x.dtype, seen(x), seen(y)
    extra = (None, None) if name == BCE and not weights else weights
    given = (on(backend, x, seen), on(backend, y, seen), *(None if w is None else on(backend, w) for w in extra))
    exact = 1.01 if dtype.itemsize == 2 else 8
    for reduction, reduce in REDUCE.items():
        if reduction == "mean" and not hx.size:
            continue
        attrs = attributes(name, reduction)
        with np.errstate(all="ignore"):
            loss, slope = value_and_slope(name, hx, hy, weights, attrs.get("delta", 1.0))
            expected, size = reduce(loss), np.abs(reduce(np.abs(loss)))
        got = backend.to_host(backend.functions[name](*given, **attrs))
        check(got, expected, dtype, exact, size, f"{name} {reduction} {hx.shape} {what}")

        g = draw(hx.shape, dtype, 2) if reduction == "none" else np.array(1.5, dtype)
        upstream = g.astype(np.float64) / (hx.size if reduction == "mean" else 1)
        got = backend.to_host(backend.functions[f"{name}_backward"](on(backend, g), *given, **attrs))
        with np.errstate(all="ignore"):
            scale = np.abs(upstream) * (np.abs(slope) + 1) if name == BCE else 0.0
            check(got, slope * upstream, dtype, exact, scale, f"{name} dx {reduction} {hx.shape} {what}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.LOSSES)
def test_sizes(backend, name, dtype):
    for n in SIZES:
        verify(backend, name, *pair((n,), table.dtype_of(dtype), name))


@pytest.mark.parametrize("name", table.LOSSES)
def test_layouts(backend, name):
    views = (
        lambda a: a[0, 0, :1].reshape(()),
        lambda a: a.transpose(2, 0, 1),
        lambda a: a[::-1, 1::2],
        lambda a: a.reshape(-1)[1:],
    )
    for number, view in enumerate(views):
        verify(backend, name, *pair((3, 5, 7), float32, name), views=view, what=f"view {number}")


def test_one_target_for_all(backend):
    """A view of stride 0."""
    x, y = pair((40, 9), float32, "mse_loss")
    target = backend.xp.broadcast_to(on(backend, y[:1]), y.shape)
    got = backend.functions["mse_loss"](on(backend, x), target, reduction="none")
    check(backend.to_host(got), np.square(x.astype(np.float64) - y[:1]), float32, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_all_shapes(backend, dtype):
    """Of every element, a row, one number; a column, which no kernel covers; rows shorter than a pack."""
    dtype = table.dtype_of(dtype)
    for shape in ((7, 33), (40, 3), (5, 64), (2, 3, 8)):
        full, row, column = shape, shape[-1:], (*shape[:-1], 1)
        for kinds in ((full, None), (None, row), (row, full), ((), (1, *row)), (column, None), ((1,), column)):
            weights = tuple(None if k is None else draw(k, dtype, 3 + i, 0.5, 2) for i, k in enumerate(kinds))
            verify(backend, BCE, *pair(shape, dtype, BCE), weights, what=str(kinds))


@pytest.mark.parametrize("name", table.LOSSES)
def test_special_numbers(backend, name):
    """NaN and infinities come out where they go in, and only there; zeros of both signs; denormals."""
    special_numbers = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, -1e-40, 3e38, -3e38], np.float32)
    x, y = (a.reshape(-1) for a in np.meshgrid(special_numbers, np.array([0.0, 1.0, 0.25], np.float32)))
    attrs = attributes(name, "none")
    given = (on(backend, x), on(backend, y), *((None, None) if name == BCE else ()))
    with np.errstate(all="ignore"):
        loss, slope = value_and_slope(name, x, y, (), 0.75)
        loss = loss.astype(np.float32).astype(np.float64)  # overflow of a square is infinity
    check(backend.to_host(backend.functions[name](*given, **attrs)), loss, float32, 8, what=name)
    one = on(backend, np.ones_like(x))
    got = backend.to_host(backend.functions[f"{name}_backward"](one, *given, **attrs))
    with np.errstate(all="ignore"):
        check(got, slope.astype(np.float32).astype(np.float64), float32, 8, 1e-30, f"{name} dx")


def test_sure_logits_keep_their_digits(backend):
    """Sure and right: exp(-|x|) to all digits; sure and wrong: |x|."""
    x, y = np.array([30, -30, 80, 1000, -1000, 30], np.float32), np.array([1, 0, 1, 0, 1, 0], np.float32)
    got = backend.functions[BCE](on(backend, x), on(backend, y), None, None, reduction="none")
    expected = [np.log1p(np.exp(-30.0)), np.log1p(np.exp(-30.0)), np.exp(-80.0), 1000, 1000, 30 + np.exp(-30.0)]
    check(backend.to_host(got), expected, float32, 4)
    one = on(backend, np.ones_like(x))
    got = backend.functions[f"{BCE}_backward"](one, on(backend, x), on(backend, y), None, None, reduction="none")
    check(backend.to_host(got), [-np.exp(-30.0), np.exp(-30.0), -np.exp(-80.0), 1, -1, 1], float32, 8)


def test_halves_are_summed_in_float32(backend):
    """4,096 losses of 1: in bfloat16 the sum would stop at 256."""
    for dtype in ("__nv_bfloat16", "__half"):
        x = np.ones(4096, table.dtype_of(dtype))
        got = backend.functions["mse_loss"](on(backend, x), on(backend, 0 * x), reduction="sum")
        assert float(backend.to_host(got)) == 4096


def test_more_blocks_than_a_block_has_threads(backend):
    """The last block then adds several partial sums a thread."""
    n = 257 * 1024 + 5
    x, y = pair((n,), float32, "mse_loss")
    got = backend.functions["mse_loss"](on(backend, x), on(backend, y), reduction="mean")
    check(backend.to_host(got), np.mean(value_and_slope("mse_loss", x, y)[0]), float32, 4)


def test_gradient_into_out(backend):
    x, y = pair((5, 7), float32, "mse_loss")
    out = on(backend, np.zeros((5, 7), np.float32))
    one = on(backend, np.array(1, np.float32))
    for inputs in ((on(backend, x), on(backend, y)), (on(backend, x[:0]), on(backend, y[:0]))):
        target = out[: len(inputs[0])]
        got = backend.functions["mse_loss_backward"](one, *inputs, reduction="sum", out=target)
        assert got is target
    np.testing.assert_array_equal(backend.to_host(out), 2 * (x - y))


@pytest.mark.parametrize("name", table.LOSSES)
def test_grid_limit_and_long_index_type(remake, monkeypatch, name):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    for limit in (1, 3):
        verify(remake(max_grid=limit), name, *pair((5000,), float32, name), what=f"max_grid {limit}")
    if name == BCE:
        weights = draw((50,), float32, 3, 0.5, 2), draw((100, 50), float32, 4, 0.5, 2)
        verify(remake(max_grid=1), name, *pair((100, 50), float32, name), weights)


@pytest.mark.parametrize("order", OTHER_ORDERS)
@pytest.mark.parametrize("limit", [2**31 - 1, 1])
def test_thread_order_changes_nothing(remake, order, limit):
    """With one block for everything, too: shared memory is then used again before all threads are through."""
    x, y = pair((40, 100), float32, BCE)
    weights = draw((100,), float32, 3, 0.5, 2), draw((40, 100), float32, 4, 0.5, 2)
    results = []
    for b in (remake(max_grid=limit), remake(max_grid=limit, order=order, seed=7)):
        given = [on(b, a) for a in (x, y, *weights)]
        one = on(b, np.array(1, np.float32))
        forward, backward = b.functions[BCE], b.functions[f"{BCE}_backward"]
        results.append(
            [b.to_host(forward(*given, reduction=r)) for r in REDUCE]
            + [b.to_host(backward(one, *given, reduction="mean"))]
            + [
                b.to_host(b.functions[name](*given[:2], **attributes(name, "sum")))
                for name in ("mse_loss", "huber_loss")
            ]
        )
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
