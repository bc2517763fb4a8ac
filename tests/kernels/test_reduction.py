"""Reductions over rows, columns, all elements and any axes, against NumPy in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import special

from gpu_backprop.backends import layouts, table
from gpu_backprop.backends.launching.reduction import ReductionLaunches
from gpu_backprop.backends.launching.shared import Launch

from .conftest import DTYPES, OTHER_ORDERS, check, compile_first, draw, instantiations, on

REFERENCES: dict[str, Any] = {
    "sum": np.sum,
    "mean": np.mean,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "argmax": np.argmax,
    "argmin": np.argmin,
    "logsumexp": special.logsumexp,
    "var": np.var,
}
SHAPES = [
    ((1,), (0,)), ((31,), (0,)), ((32,), (0,)), ((33,), (0,)), ((1000,), (0,)), ((2049,), (0,)),
    ((5, 7), (1,)), ((5, 7), (0,)), ((5, 7), (0, 1)), ((33, 33), (0,)), ((33, 33), (1,)), ((3, 1030), (1,)),
    ((130, 3), (0,)), ((9, 65, 10), (1,)), ((3, 4, 5), (0, 2)), ((3, 4, 5), (1, 2)), ((3, 4, 5), (0, 1)),
    ((1, 6, 1), (0, 2)), ((3, 5001), (0,)), ((70, 300), (0,)),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("reduction.cu"))


def verify(
    name: str, result: Any, x: np.ndarray, axis: Any, keepdims: bool, backend: Any, correction: float = 0
) -> None:
    dtype, got = x.dtype, backend.to_host(result)
    wide = x.astype(np.longdouble if dtype == np.float64 else np.float64)  # NumPy's own variance is ulps off
    if name.startswith("arg"):
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, REFERENCES[name](wide, axis=axis, keepdims=keepdims))
        return
    extra = {"ddof": correction} if name == "var" else {}
    with np.errstate(all="ignore"):
        expected = REFERENCES[name](wide, axis=axis, keepdims=keepdims, **extra)
        size = np.sum(np.abs(wide), axis=axis, keepdims=keepdims)
    if name in ("max", "min"):
        check(got, expected, dtype, what=name)
    elif dtype.itemsize == 2:  # float32 inside: at most the last rounding goes the other way
        check(got, expected, dtype, 1.51, what=f"{name} {x.shape} {axis}", scale=size * 2.0**-12)
    else:
        scale = {"sum": size, "mean": size / max(1, x.size // max(1, np.size(expected)))}.get(name, 1.0)
        check(got, expected, dtype, 4.5 if name != "prod" else 400, scale=scale, what=f"{name} {x.shape} {axis}")


def call(backend: Any, name: str, x: Any, axis: Any, keepdims: bool = False, **attrs: Any) -> Any:
    if name.startswith("arg"):
        axis = axis[0] if isinstance(axis, tuple) else axis
    extra = {"correction": 0} if name == "var" else {}
    return backend.functions[name](x, axis=axis, keepdims=keepdims, **(extra | attrs))


def near_one(shape: Any, dtype: np.dtype, name: str) -> np.ndarray:
    return draw(shape, dtype, 0, 0.9, 1.1) if name == "prod" else draw(shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.REDUCTIONS)
def test_shapes(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    for shape, axes in SHAPES:
        axis: Any = axes
        if name.startswith("arg"):
            axis = None if len(axes) == len(shape) else axes[0]
        x = near_one(shape, dtype, name)
        for keepdims in (False, True):
            verify(name, call(backend, name, on(backend, x), axis, keepdims), x, axis, keepdims, backend)


VIEWS = {
    "transposed": ((70, 33), lambda x: x.T),
    "reversed": ((33, 70), lambda x: x[::-1, ::-1]),
    "every other": ((66, 140), lambda x: x[::2, ::2]),
    "unaligned": ((33 * 70 + 1,), lambda x: x[1:].reshape(33, 70)),
    "pitched": ((33, 75), lambda x: x[:, 2:72]),
    "moved": ((7, 11, 30), lambda x: x.transpose(1, 2, 0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.REDUCTIONS)
def test_layouts(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    for shape, view in VIEWS.values():
        x = near_one(shape, dtype, name)
        for axis in ((0,), (1,), None):
            found: Any = axis
            if axis is not None and name.startswith("arg"):
                found = axis[0]
            if name == "prod" and axis is None:
                continue
            verify(name, call(backend, name, on(backend, x, view), found), view(x), found, False, backend)


def test_broadcast_operands(backend):
    x = draw((1, 40), np.float32)
    spread = backend.xp.broadcast_to(on(backend, x), (30, 40))
    for axis in ((0,), (1,), (0, 1)):
        verify("sum", call(backend, "sum", spread, axis), np.broadcast_to(x, (30, 40)), axis, False, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.REDUCTIONS)
def test_splits(backend, name, dtype):
    """Shapes whose rows or columns are shared by several blocks, the last of which combines."""
    dtype = table.dtype_of(dtype)
    for shape, axis in (((20001,), (0,)), ((2, 9001), (1,)), ((300, 5), (0,)), ((2, 130, 40), (1,))):
        x = draw(shape, dtype, 0, 0.999, 1.001) if name == "prod" else draw(shape, dtype)
        found: Any = axis[0] if name.startswith("arg") else axis
        for _ in range(2):  # the tickets must be back at zero
            verify(name, call(backend, name, on(backend, x), found), x, found, False, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.REDUCTIONS)
def test_special_values(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    rows = [
        [np.nan, 1, 2],
        [1, np.nan, np.nan],
        [np.inf, 1, -np.inf],
        [-np.inf] * 3,
        [np.inf, np.inf, 0],
        [2, 2, 1],
        [-0.0, 0.0, 0.0],
    ]
    x = np.array(rows, dtype).repeat(13, axis=1)
    for axis, y in ((1, x), (0, np.ascontiguousarray(x.T))):
        found: Any = axis if name.startswith("arg") else (axis,)
        got = backend.to_host(call(backend, name, on(backend, y), found))
        with np.errstate(all="ignore"):
            expected = REFERENCES[name](y.astype(np.float64), axis=axis)
        if name.startswith("arg"):
            np.testing.assert_array_equal(got, expected)
        else:
            check(got, expected, dtype, 4.5 if name in ("logsumexp", "var") else 1.51, what=name)


@pytest.mark.parametrize("name", ["argmax", "argmin", "logsumexp", "var"])
def test_edges_of_runs(backend, name):
    """What a thread takes at once ends at a multiple of 4, 16 or 512 elements of a row, or 4 rows: extremes there."""
    for n in (3, 4, 5, 15, 16, 17, 127, 128, 129, 509, 511, 512, 513, 516, 1023, 1024, 1025, 4095, 4096, 4097, 4100):
        edges = [at for at in (0, 3, 4, 15, 16, 127, 128, 511, 512, n - 2, n - 1) if 0 <= at < n]
        rows = np.tile(draw((n,), np.float32), (len(edges) + 6, 1))
        for row, edge in zip(rows, edges):
            row[edge] = 9 if name != "argmin" else -9
        rows[-6] = -np.inf
        rows[-5] = np.inf
        rows[-4] = 3  # all equal: the first
        rows[-3, [n // 2, n - 1]] = 7 if name != "argmin" else -7  # equal: the first
        rows[-2, [n // 2, n - 1]] = np.nan
        rows[-1, n - 1] = np.inf
        for axis, x in ((1, rows), (0, np.ascontiguousarray(rows.T))):
            found: Any = axis if name.startswith("arg") else (axis,)
            got = backend.to_host(call(backend, name, on(backend, x), found))
            with np.errstate(all="ignore"):
                expected = REFERENCES[name](x.astype(np.float64), axis=axis)
            if name.startswith("arg"):
                np.testing.assert_array_equal(got, expected, err_msg=f"{n} {axis}")
            else:
                check(got, expected, np.dtype(np.float32), 4.5, what=f"{name} {n} {axis}")


@pytest.mark.parametrize("correction", [0, 1, 2.5])
def test_variance(backend, correction):
    """No cancellation with a mean far from zero; as much correction as elements gives NaN."""
    x = (draw((40, 50), np.float64) + 1e6).astype(np.float32)
    for axis in ((0,), (1,), (0, 1)):
        got = backend.to_host(call(backend, "var", on(backend, x), axis, correction=correction))
        np.testing.assert_allclose(got, np.var(x.astype(np.float64), axis=axis, ddof=correction), rtol=1e-5)
    single = backend.to_host(call(backend, "var", on(backend, x[:1]), (0,), correction=1))
    assert np.isnan(single).all()


@pytest.mark.parametrize("dtype", ["__half", "__nv_bfloat16"])
def test_half_precision_accumulates_in_float32(backend, dtype):
    ones = np.ones((2, 4096), table.dtype_of(dtype))
    assert backend.to_host(call(backend, "sum", on(backend, ones), (1,))).tolist() == [4096, 4096]
    assert backend.to_host(call(backend, "sum", on(backend, ones.T), (0,))).tolist() == [4096, 4096]
    assert backend.to_host(call(backend, "mean", on(backend, ones), (0, 1))) == 1


def test_empty(backend):
    for shape, axis in (((0,), (0,)), ((3, 0), (1,)), ((0, 3), (0,))):
        got = backend.to_host(call(backend, "sum", on(backend, np.zeros(shape, np.float32)), axis))
        np.testing.assert_array_equal(got, np.zeros(np.zeros(shape).sum(axis=axis).shape))
    with pytest.raises(ValueError, match="zero-size"):
        call(backend, "max", on(backend, np.zeros((0,), np.float32)), (0,))


def test_out(backend):
    x = draw((5, 7), np.float32)
    out = on(backend, np.zeros(7, np.float32))
    assert backend.functions["sum"](on(backend, x), axis=(0,), keepdims=False, out=out) is out
    np.testing.assert_allclose(backend.to_host(out), x.sum(0), rtol=1e-5, atol=1e-6)


def test_integers_use_the_array_module(backend):
    x = np.arange(12).reshape(3, 4)
    assert backend.to_host(call(backend, "sum", on(backend, x), (0,))).tolist() == [12, 15, 18, 21]


def test_grid_limit(remake):
    limited = remake(max_grid=1)
    for shape, axis in (
        ((70, 5), (1,)), ((5, 700), (0,)), ((4, 3, 70), (1,)), ((20001,), (0,)), ((20, 1500), (1,)),
        ((700, 5), (0,)), ((2, 300, 40), (1,)),  # more rows for a thread than are in flight
    ):  # fmt: skip
        x = draw(shape, np.float32)
        for name in ("sum", "var", "logsumexp"):
            verify(name, call(limited, name, on(limited, x), axis), x, axis, False, limited)


def test_long_index_type(remake, monkeypatch):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    other = remake()
    x = draw((70, 40), np.float32)
    for name in ("sum", "argmax", "var"):
        for axis in ((0,), (1,)):
            found: Any = axis[0] if name == "argmax" else axis
            verify(name, call(other, name, on(other, x), found), x, found, False, other)


def test_index_type_covers_the_reach():
    """A few columns of a huge matrix: few elements, and offsets beyond 32 bits. Only planned: nobody has the memory."""
    backend: Any = SimpleNamespace(xp=np, launcher=SimpleNamespace(max_grid=2**31 - 1), launch_counted=None)
    launches = ReductionLaunches(Launch(backend, lambda name: pytest.fail))

    def index_of(rows: int, pitch: int, axis: tuple[int, ...]) -> str:
        x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (rows, 10), (4 * pitch, 4))
        kernel = launches.plan_reduction("sum", x, axis, False, {})[2]
        return kernel.expression.rpartition(", ")[2].rstrip(">")

    for axis in ((0,), (1,)):
        assert index_of(1_000_000, 4096, axis) == "long long"
        assert index_of(1_000_000, 1000, axis) == "int"
    assert index_of(1_000_000, 4096, (0, 1)) == "int"  # no walk along memory: of a copy


@pytest.mark.parametrize("order", OTHER_ORDERS)
@pytest.mark.parametrize("name", ["sum", "argmax", "logsumexp", "var"])
def test_thread_order_changes_nothing(remake, name, order):
    """With one block for everything, too: shared memory is then used again before all threads are through."""
    for limit in (2**31 - 1, 1):
        forward, other = remake(max_grid=limit), remake(max_grid=limit, order=order, seed=5)
        for shape, axis in (((20001,), (0,)), ((300, 5), (0,)), ((5, 300), (1,)), ((3, 1500), (1,)), ((20, 100), (0,))):
            x = draw(shape, np.float32)
            expected = forward.to_host(call(forward, name, on(forward, x), axis))
            np.testing.assert_array_equal(other.to_host(call(other, name, on(other, x), axis)), expected)
