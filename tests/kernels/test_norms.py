"""Layer norm, RMS norm and batch norm, forward and back, against their formulas in float64."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

from gpu_backprop.backends import layouts, table

from .conftest import DTYPES, check, compile_first, draw, instantiations, on

EPS, MOMENTUM = 1e-3, 0.2
FLOAT = np.dtype(np.float32)
ROWS = (
    (1, 1),
    (3, 10),
    (8, 31),
    (9, 32),
    (17, 33),
    (9, 512),
    (2, 1000),
    (9, 1024),
    (3, 1025),
    (2, 1536),
    (2, 4096),
    (1, 8192),
    (200, 5),
)
CHANNELS = (
    *((2, 1), (5, 31), (33, 32), (7, 33), (300, 3), (1000, 1), (3, 257)),  # (outer, channels)
    *((4, 3, 1), (3, 4, 31), (2, 33, 32), (1, 2, 33), (9, 2, 5), (5, 1, 1000), (130, 2, 17)),
)


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("norms.cu"))
    compile_first(backend, instantiations("batch_norm.cu"))


class Reference(NamedTuple):
    out: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    dx: np.ndarray
    sums: np.ndarray


def reference(
    kind: str, x: Any, g: Any, weight: Any = None, bias: Any = None, given: tuple[Any, Any] | None = None
) -> Reference:
    """The formulas, in float64. kind: "layer", "rms" or "batch"; given: mean and var of an inference."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    axes = (1,) if kind != "batch" else (0, *range(2, x.ndim))
    across = (-1,) + (1,) * (x.ndim - 2)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean = np.mean(x, axis=axes, keepdims=True) if kind != "rms" else np.zeros_like(x[:, :1])
        var = np.mean(np.square(x - mean), axis=axes, keepdims=True)
        if given is not None:
            mean, var = (v.astype(np.float64).reshape(across) for v in given)
        rstd = 1 / np.sqrt(var + EPS)
        xhat = (x - mean) * rstd
        w = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
        out = xhat * w.reshape(across)
        if bias is not None:
            out = out + bias.astype(np.float64).reshape(across)
        kept = (0, *range(2, x.ndim))
        sums = np.stack([np.sum(g * xhat, axis=kept), np.sum(g, axis=kept)])
        g = g * w.reshape(across)
        dx = g
        if given is None:
            dx = g - xhat * np.mean(g * xhat, axis=axes, keepdims=True)
            dx = dx if kind == "rms" else dx - np.mean(g, axis=axes, keepdims=True)
        return Reference(out, mean.ravel(), var.ravel(), dx * rstd, sums)


def close(got: Any, expected: np.ndarray, dtype: np.dtype, what: str, scale: float = 4.0) -> None:
    """16-bit floats compute in float32: at most their last rounding goes the other way."""
    half = dtype.itemsize == 2
    check(got, expected, dtype, 1.51 if half else 8, scale / 256 if half else scale, what)


def close_sums(got: Any, expected: np.ndarray, dtype: np.dtype, n: int, what: str) -> None:
    assert got.dtype == wide(dtype)
    check(got, expected, wide(dtype), 16, 4.0 * np.sqrt(n), what)


def wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def put(backend: Any, *arrays: Any) -> list[Any]:
    return [None if a is None else on(backend, a) for a in arrays]


def layer(backend: Any, kind: str, g: Any, x: Any, weight: Any, bias: Any) -> list[np.ndarray]:
    """out, mean (its two parts added up in float64), rstd, dx, sums; of arrays on the device."""
    call = backend.functions
    if kind == "layer":
        out, mean, rstd = call["layer_norm"](x, weight, bias, eps=EPS)
        host_mean = backend.to_host(mean).astype(np.float64).sum(axis=0)
    else:
        (out, rstd), mean, host_mean = call["rms_norm"](x, weight, eps=EPS), None, np.zeros(len(x))
    dx = call["layer_norm_backward"](g, x, weight, mean, rstd, eps=EPS)
    sums = call["layer_norm_sums"](g, x, mean, rstd, eps=EPS)
    found = [backend.to_host(a) for a in (out, rstd, dx, sums)]
    return [found[0], host_mean, *found[1:]]


def batch(backend: Any, g: Any, x: Any, weight: Any, bias: Any, *running: Any) -> list[np.ndarray]:
    """out, mean, var, dx, sums as above."""
    call, running = backend.functions, running or (None, None)
    out, mean, var = call["batch_norm_training"](x, weight, bias, *running, momentum=MOMENTUM, eps=EPS)
    sums = call["batch_norm_sums"](g, x, mean, var, eps=EPS, training=True)
    dx = call["batch_norm_backward"](g, x, weight, mean, var, sums, eps=EPS)
    found = [backend.to_host(a) for a in (out, mean, var, dx, sums)]
    found[1] = found[1].astype(np.float64).sum(axis=0)
    return found


def operands(shape: tuple[int, ...], dtype: np.dtype) -> list[np.ndarray]:
    """g, x, weight, bias."""
    return [*(draw(shape, dtype, seed) for seed in (1, 2)), *(draw(shape[1:2], dtype, seed) for seed in (3, 4))]


# layer norm and RMS norm ---------------------------------------------------------------------------------------------


def verify_layer(backend: Any, kind: str, arrays: list[Any], views: list[Any], what: str) -> None:
    g, x, weight, bias = arrays
    dtype = x.dtype
    expected = reference(kind, x, g, weight, bias if kind == "layer" else None)
    out, mean, rstd, dx, sums = layer(backend, kind, *views)
    close(out, expected.out, dtype, f"{what} out", 8.0)
    np.testing.assert_allclose(mean, expected.mean, rtol=0, atol=1e-6)
    check(rstd, 1 / np.sqrt(expected.var + EPS), wide(dtype), 8, what=f"{what} rstd")
    close(dx, expected.dx, dtype, f"{what} dx", 16.0 * float(np.max(rstd)))
    close_sums(sums, expected.sums, dtype, len(x), f"{what} sums")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_rows(backend, kind, dtype):
    dtype = table.dtype_of(dtype)
    for shape in ROWS:
        g, x, weight, bias = operands(shape, dtype)
        for w, b in ((None, None), (weight, None), (weight, bias), (None, bias)):
            verify_layer(backend, kind, [g, x, w, b], put(backend, g, x, w, b), f"{kind} {shape}")


VIEWS = {
    "transposed": ((40, 33), lambda x: x.T),
    "every other": ((18, 140), lambda x: x[::2, ::-2]),
    "unaligned": ((33 * 70 + 1,), lambda x: x[1:].reshape(33, 70)),
    "unaligned packs": ((33 * 72 + 1,), lambda x: x[1:].reshape(33, 72)),
    "pitched": ((33, 75), lambda x: x[:, 2:72]),
    "broadcast": ((1, 40), lambda x: x[[0] * 6]),
}


@pytest.mark.parametrize("dtype", ["float", "__nv_bfloat16"])
@pytest.mark.parametrize("view", VIEWS)
def test_layouts(backend, view, dtype):
    dtype = table.dtype_of(dtype)
    shape, look = VIEWS[view]
    pair = [draw(shape, dtype, seed) for seed in (1, 2)]
    arrays = [look(a) for a in pair]
    one = draw((2 * arrays[0].shape[1],), dtype, 3)
    for kind in ("layer", "rms", "batch"):
        views = [on(backend, a, look) for a in pair] + [on(backend, one, lambda a: a[::2])] * 2
        if view == "broadcast":  # the gradient of a sum: one number with strides of zero
            views[0] = backend.xp.broadcast_to(on(backend, pair[0]), arrays[0].shape)
        verify = verify_batch if kind == "batch" else verify_layer
        verify(backend, kind, [*arrays, one[::2], one[::2]], views, f"{kind} {view}")


# batch norm ----------------------------------------------------------------------------------------------------------


def verify_batch(backend: Any, kind: str, arrays: list[Any], views: list[Any], what: str) -> None:
    g, x, weight, bias = arrays
    dtype, n = x.dtype, x.size // x.shape[1]
    expected = reference("batch", x, g, weight, bias)
    old = [draw(x.shape[1:2], dtype, 5), draw(x.shape[1:2], dtype, 6, 0.5, 2.0)]
    running = put(backend, *(a.copy() for a in old))
    out, mean, var, dx, sums = batch(backend, *views, *running)
    close(out, expected.out, dtype, f"{what} out", 8.0)
    np.testing.assert_allclose(mean, expected.mean, rtol=0, atol=1e-6)
    check(var, expected.var, wide(dtype), 16, what=f"{what} var")
    close(dx, expected.dx, dtype, f"{what} dx", 16.0 / np.sqrt(np.min(expected.var) + EPS))
    close_sums(sums, expected.sums, dtype, n, f"{what} sums")
    for before, after, new in zip(old, running, (expected.mean, expected.var * (n / (n - 1)))):
        moved = (1 - MOMENTUM) * before.astype(np.float64) + MOMENTUM * new
        close(backend.to_host(after), moved, dtype, f"{what} running", 8.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels(backend, dtype):
    dtype = table.dtype_of(dtype)
    for shape in CHANNELS:
        g, x, weight, bias = operands(shape, dtype)
        for w, b in ((None, None), (weight, bias)):
            verify_batch(backend, "batch", [g, x, w, b], put(backend, g, x, w, b), f"batch {shape}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_inference(backend, dtype):
    dtype = table.dtype_of(dtype)
    for shape in CHANNELS:
        g, x, weight, bias = operands(shape, dtype)
        mean, var = draw(shape[1:2], dtype, 5), draw(shape[1:2], dtype, 6, 0.5, 2.0)
        call, given = backend.functions, put(backend, mean, var)
        expected = reference("batch", x, g, weight, bias, (mean, var))
        out = call["batch_norm_inference"](*put(backend, x, weight, bias), *given, eps=EPS)
        close(backend.to_host(out), expected.out, dtype, f"{shape} out", 16.0)
        dx = call["batch_norm_inference"](*put(backend, g, weight), None, None, given[1], eps=EPS)
        close(backend.to_host(dx), expected.dx, dtype, f"{shape} dx", 0.0)
        sums = call["batch_norm_sums"](*put(backend, g, x), *given, eps=EPS, training=False)
        close_sums(backend.to_host(sums), expected.sums, dtype, 4 * x.size // shape[1], f"{shape} sums")
        target = on(backend, x.copy())
        same = call["batch_norm_inference"](target, *put(backend, weight, bias), *given, eps=EPS, out=target)
        np.testing.assert_array_equal(backend.to_host(same), backend.to_host(out))


@pytest.mark.parametrize("dtype", ["float", "__half"])
@pytest.mark.parametrize("other", [np.float64, np.float32, np.float16])
def test_running_statistics_of_another_dtype(backend, dtype, other):
    """They are moved in place in their own dtype, whatever that of x; so are views that are not contiguous."""
    x = draw((9, 5), table.dtype_of(dtype))
    expected = reference("batch", x, x)
    running = [on(backend, np.ones(10, other), lambda a: a[::2]) for _ in range(2)]
    backend.functions["batch_norm_training"](on(backend, x), None, None, *running, momentum=MOMENTUM, eps=EPS)
    for found, new in zip(running, (expected.mean, expected.var * (9 / 8))):
        assert found.dtype == other
        tolerance = 2.0**-10 if other is np.float16 else 1e-6
        np.testing.assert_allclose(
            backend.to_host(found).astype(np.float64), 1 - MOMENTUM + MOMENTUM * new, rtol=tolerance
        )


# numbers that are hard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [1e4, -1e6])
def test_large_mean_costs_no_digits(backend, mean):
    """float32 keeps numbers near 1e6 to 1/16; what is left of their differences must all count."""
    for shape in ((40, 33), (3, 1100), (6, 3, 40)):
        g, x, weight, bias = operands(shape, FLOAT)
        x = (x + mean).astype(np.float32)
        if len(shape) == 2:
            verify = reference("layer", x, g, weight, bias)
            out, _, _, dx, sums = layer(backend, "layer", *put(backend, g, x, weight, bias))
            check(out, verify.out, FLOAT, 16, 8.0, "layer out")
            check(dx, verify.dx, FLOAT, 16, 8.0, "layer dx")
            check(sums, verify.sums, FLOAT, 32, 40.0, "layer sums")
        verify = reference("batch", x, g, weight, bias)
        out, _, _, dx, sums = batch(backend, *put(backend, g, x, weight, bias))
        check(out, verify.out, FLOAT, 16, 8.0, "batch out")
        check(dx, verify.dx, FLOAT, 16, 16.0, "batch dx")
        check(sums, verify.sums, FLOAT, 32, 40.0, "batch sums")


def test_special_numbers_stay_in_their_row_or_channel(backend):
    x, g = draw((6, 40), np.float32, 1), draw((6, 40), np.float32, 2)
    x[1, 3], x[2, 4], x[3, 5], x[4] = np.nan, np.inf, -np.inf, 1e-42
    out, _, _, dx, _ = layer(backend, "layer", *put(backend, g, x, None, None))
    expected = reference("layer", x, g)
    for found in (out, dx):
        assert np.isnan(found[1:4]).all()
    rest = [0, 4, 5]
    check(out[rest], expected.out[rest], FLOAT, 8, 1.0)
    check(dx[rest], expected.dx[rest], FLOAT, 16, 60.0)  # rstd is 32 where all are nearly 0
    out, _, var, dx, sums = batch(backend, *put(backend, g.T.copy(), x.T.copy(), None, None))
    for found in (out.T, dx.T, var[:, None], sums[:1].T):
        assert np.isnan(found[1:4]).all()
        assert np.isfinite(found[rest]).all()


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-42, 1e15])
def test_constant_rows_and_channels_give_zero(backend, value):
    x = np.full((30, 700), value, np.float32)
    out = layer(backend, "layer", *put(backend, x, x, None, None))[0]
    assert not out.any()
    out, _, var, *_ = batch(backend, *put(backend, x, x, None, None))
    assert not out.any()
    assert not var.any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing(backend, shape):
    g, x, weight, bias = operands(shape, FLOAT)
    for kind in ("layer", "rms"):
        out, _, rstd, dx, sums = layer(backend, kind, *put(backend, g, x, weight, bias))
        assert out.shape == dx.shape == shape
        assert rstd.shape == shape[:1]
        assert sums.shape == (2, shape[1])
        assert not sums.any()
    given = put(backend, x, weight, bias, weight, np.abs(bias))
    assert backend.functions["batch_norm_inference"](*given, eps=EPS).shape == shape


@pytest.mark.parametrize("shape", [(3, 768), (2, 4096)])
def test_a_row_has_the_same_bits_in_registers_and_walked(backend, shape):
    """The walk is taken where packs are not aligned."""
    x = draw(shape, FLOAT, 1)
    moved = on(backend, np.append(np.float32(0), x), lambda flat: flat[1:].reshape(shape))
    for name, rest in (("layer_norm", (None, None)), ("rms_norm", (None,))):
        held, walked = (backend.functions[name](a, *rest, eps=EPS) for a in (on(backend, x), moved))
        for a, b in zip(held, walked, strict=True):
            np.testing.assert_array_equal(backend.to_host(a), backend.to_host(b))


# geometry ------------------------------------------------------------------------------------------------------------

GEOMETRIES = [
    ("layer", (70, 10)),
    ("layer", (3, 1100)),
    ("batch", (700, 9)),
    ("batch", (9, 400)),
    ("batch", (40, 3, 50)),
]


def everything(backend: Any, kind: str, shape: tuple[int, ...]) -> list[np.ndarray]:
    arrays = put(backend, *operands(shape, FLOAT))
    if kind == "layer":
        return layer(backend, "layer", *arrays) + layer(backend, "rms", *arrays)
    running = put(backend, np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32))
    return batch(backend, *arrays, *running) + [backend.to_host(a) for a in running]


@pytest.mark.parametrize(("kind", "shape"), GEOMETRIES)
@pytest.mark.parametrize("limit", [2**31 - 1, 1])
def test_thread_order_changes_nothing(remake, other_orders, kind, shape, limit):
    orders = ({}, *({"order": order, "seed": 7} for order in other_orders))
    first, *others = (everything(remake(max_grid=limit, **order), kind, shape) for order in orders)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("kind", "shape"), GEOMETRIES)
def test_grid_limit_and_long_index_type(remake, monkeypatch, kind, shape):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    limited = remake(max_grid=1)
    arrays = operands(shape, FLOAT)
    verify = verify_layer if kind == "layer" else verify_batch
    verify(limited, kind, arrays, put(limited, *arrays), f"{kind} {shape}")


@pytest.mark.parametrize(("kind", "shape"), GEOMETRIES)
def test_the_same_bits_whatever_the_gpu(backend, remake, monkeypatch, kind, shape):
    """A grid that results depend on comes from the shape, not from the number of multiprocessors."""
    expected = everything(backend, kind, shape)
    larger = dataclasses.replace(backend.launcher.properties, multiprocessors=1000)
    monkeypatch.setattr(type(backend.launcher), "properties", larger)
    for first, second in zip(expected, everything(remake(), kind, shape), strict=True):
        np.testing.assert_array_equal(first, second)
