"""Random numbers and dropout: NumPy's own Philox stream, and formulas of it in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gpu_backprop.backends import draws, layouts, table
from gpu_backprop.backends.cpu import CpuBackend
from gpu_backprop.core import dtypes
from gpu_backprop.core.errors import DTypeError

from .conftest import DTYPES, check, compile_first, draw, instantiations, on

SIZES = (0, 1, 31, 32, 33, 1000, 2049)
STREAMS = (((1, 2), 0), ((2**64 - 1, 7), 3), ((0, 0), 2**64 - 2))  # the last one carries into the second word


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("random.cu") + instantiations("random.cu", "long long"))


def numpy_words(key: tuple[int, int], offset: int, n: int) -> np.ndarray:
    return np.random.Philox(key=np.array(key, np.uint64), counter=offset).random_raw(n)


def call(backend, name, key, offset, shape, **parameters) -> np.ndarray:
    return backend.to_host(backend.functions[name](key, offset, shape, **parameters))


# integers of all kinds: equal bit for bit ----------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "offset"), STREAMS)
def test_words_are_numpys(backend, key, offset):
    for n in SIZES:
        found = call(backend, "random_words", key, offset, (n,))
        assert found.dtype == np.uint64
        np.testing.assert_array_equal(found, numpy_words(key, offset, n))
    shaped = call(backend, "random_words", key, offset, (5, 1, 7))
    np.testing.assert_array_equal(shaped, numpy_words(key, offset, 35).reshape(5, 1, 7))
    assert call(backend, "random_words", key, offset, ()).shape == ()


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-5, 3), (7, 8), (0, 2**32), (2**62, 2**62 + 3)])
def test_integers(backend, low, high):
    for n in SIZES:
        found = call(backend, "random_integers", (3, 4), 5, (n,), low=low, high=high)
        assert found.dtype == np.int64
        words = [int(w) for w in numpy_words((3, 4), 5, n)]
        assert found.tolist() == [low + ((w >> 32) * (high - low) >> 32) for w in words]  # Python's long integers


@pytest.mark.parametrize("n", SIZES)
def test_permutation(backend, n):
    found = call(backend, "random_permutation", (8, 9), 1, n)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.argsort(numpy_words((8, 9), 1, n), kind="stable"))


# uniform -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.5, 7.25), (1.0, 1.5), (2.0, 2.0), (3.0, -1.0)])
def test_uniform(backend, dtype, low, high):
    dtype = table.dtype_of(dtype)
    for n in SIZES:
        found = call(backend, "random_uniform", (1, 2), 3, (n,), low=low, high=high, dtype=dtype)
        expected = ((numpy_words((1, 2), 3, n) >> np.uint64(11)) * 2.0**-53 * (high - low) + low).astype(dtype)
        assert found.dtype == dtype
        inside = expected < high if high > low else np.ones(n, bool)
        np.testing.assert_array_equal(found[inside], expected[inside])
        assert high <= low or (found < high).all()


@pytest.mark.parametrize("dtype", ["__half", "__nv_bfloat16"])
def test_uniforms_that_would_round_up_to_the_end_are_the_last_number_before_it(backend, dtype):
    dtype = table.dtype_of(dtype)
    found = call(backend, "random_uniform", (1, 2), 3, (20_000,), low=1.0, high=2.0, dtype=dtype)
    exact = (numpy_words((1, 2), 3, 20_000) >> np.uint64(11)) * 2.0**-53 + 1
    up = exact.astype(dtype) == 2  # there are some
    assert up.any()
    assert (found[up] == 2 - dtypes.epsilon(dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_double_is_rounded_as_numpy_rounds_it(backend, dtype):
    """Just above the middle between two numbers: bfloat16, rounded by way of float32, goes to the even one."""
    dtype = table.dtype_of(dtype)
    for exponent in (8, 11, 24):
        place = 1 + 2.0**-exponent + 2.0**-45
        found = call(backend, "random_uniform", (1, 2), 3, (5,), low=place, high=place, dtype=dtype)
        np.testing.assert_array_equal(found, np.full(5, place).astype(dtype))


def test_uniforms_of_huge_and_undefined_intervals(backend):
    found = call(backend, "random_uniform", (1, 2), 3, (40,), low=0.0, high=1e6, dtype=np.dtype(np.float16))
    assert found.max() == 65504  # the largest float16
    found = call(backend, "random_uniform", (1, 2), 3, (40,), low=np.nan, high=1.0, dtype=np.dtype(np.float32))
    assert np.isnan(found).all()


# normal --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal(backend, dtype):
    dtype = table.dtype_of(dtype)
    for n in SIZES:
        found = call(backend, "random_normal", (1, 2), 3, (n,), mean=0.5, std=3.0, dtype=dtype)
        u = (numpy_words((1, 2), 3, n) >> np.uint64(11)) * 2.0**-53 + 2.0**-54
        expected = stats.norm.ppf(u) * 3 + 0.5
        if dtype.itemsize == 8:
            np.testing.assert_allclose(found, expected, rtol=4e-15, atol=4e-15)
        else:
            check(found, expected, dtype, 1.01)  # bfloat16 is rounded twice, as NumPy's is


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_the_cpus(backend, dtype):
    dtype = table.dtype_of(dtype)
    found = call(backend, "random_normal", (5, 6), 7, (20_000,), mean=0.0, std=1.0, dtype=dtype)
    cpu = draws.random_normal((5, 6), 7, (20_000,), 0.0, 1.0, dtype).astype(np.float64)
    assert np.all(np.abs(found.astype(np.float64) - cpu) <= 2 * dtypes.epsilon(dtype) * np.abs(cpu))


def test_normals_fill_both_tails(backend):
    found = call(backend, "random_normal", (5, 6), 7, (20_000,), mean=0.0, std=1.0, dtype=np.dtype(np.float64))
    assert stats.kstest(found, "norm").pvalue > 0.01
    assert found.min() < -3.5
    assert found.max() > 3.5


# dropout -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("p", "key", "offset"),
    [(0.5, (1, 2), 0), (0.1, (2**64 - 1, 7), 3), (0.9, (0, 0), 2**64 - 2), (0.0, (5, 5), 1), (1.0, (5, 5), 1)],
)
def test_dropout_draws_numpys_philox(backend, dtype, p, key, offset):
    dtype = table.dtype_of(dtype)
    for n in SIZES:
        x = draw((n,), dtype)
        keep = (numpy_words(key, offset, n) >> np.uint64(11)) * 2.0**-53 >= p
        scale = np.float64(1 / (1 - p)) if p < 1 else 0.0
        scale = scale if dtype.itemsize == 8 else np.float64(np.float32(scale))
        got = backend.to_host(backend.functions["dropout"](on(backend, x), p=p, key=key, offset=offset))
        check(got, np.where(keep, x.astype(np.float64) * scale, 0), dtype)
        if p in (0.0, 1.0):
            assert keep.all() if p == 0 else not keep.any()


def test_dropout_keeps_what_equals_p(backend):
    """p itself is among the numbers drawn: u >= p keeps it, and the comparison in integers must do so too."""
    u = (numpy_words((3, 4), 0, 64) >> np.uint64(11)) * 2.0**-53
    for p in (u[0], u[21], np.nextafter(u[21], 1)):
        x = on(backend, np.ones(64))
        got = backend.to_host(backend.functions["dropout"](x, p=float(p), key=(3, 4), offset=0))
        np.testing.assert_array_equal(got != 0, u >= p)


def test_dropout_of_views_and_into_out(remake, backend):
    for b in (backend, remake(max_grid=1)):
        x = draw((70, 40), np.float32)
        flat = b.to_host(b.functions["dropout"](on(b, x.T.copy()), p=0.5, key=(1, 2), offset=9))
        got = b.functions["dropout"](on(b, x, lambda a: a.T), p=0.5, key=(1, 2), offset=9)
        np.testing.assert_array_equal(b.to_host(got), flat)
        target = on(b, x.T.copy())
        assert b.functions["dropout"](target, p=0.5, key=(1, 2), offset=9, out=target) is target
        np.testing.assert_array_equal(b.to_host(target), flat)
        unaligned = b.functions["dropout"](on(b, x.T.ravel()[:-1], lambda a: a[3:]), p=0.5, key=(1, 2), offset=9)
        np.testing.assert_array_equal(b.to_host(unaligned)[:4] != 0, flat.ravel()[:4] != 0)


def test_dropout_of_special_numbers(backend):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, np.nan, np.inf, 1.0] * 8, np.float32)
    keep = (numpy_words((1, 2), 0, x.size) >> np.uint64(11)) * 2.0**-53 >= 0.5
    got = backend.to_host(backend.functions["dropout"](on(backend, x), p=0.5, key=(1, 2), offset=0))
    np.testing.assert_array_equal(got, np.where(keep, x * np.float32(2), np.float32(0)))
    with pytest.raises(DTypeError, match="dropout: int64 is not a float type"):
        backend.functions["dropout"](on(backend, np.arange(3)), p=0.5, key=(1, 2), offset=0)


# every kernel: grids, index types, thread orders ---------------------------------------------------------------------

FLOAT32 = np.dtype(np.float32)
DRAWS = {
    "random_words": {},
    "random_integers": {"low": -3, "high": 1000},
    "random_uniform": {"low": -1.0, "high": 2.0, "dtype": FLOAT32},
    "random_normal": {"mean": 0.0, "std": 1.0, "dtype": FLOAT32},
}


@pytest.mark.parametrize("name", DRAWS)
def test_grids_index_types_and_thread_orders_change_nothing(backend, remake, other_orders, monkeypatch, name):
    expected = call(backend, name, (1, 2), 3, (2500,), **DRAWS[name])
    for b in (remake(max_grid=1), *(remake(order=order, seed=1) for order in other_orders)):
        np.testing.assert_array_equal(call(b, name, (1, 2), 3, (2500,), **DRAWS[name]), expected)
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    np.testing.assert_array_equal(call(backend, name, (1, 2), 3, (2500,), **DRAWS[name]), expected)


def test_dropout_does_not_depend_on_them_either(backend, remake, other_orders, monkeypatch):
    x = on(backend, draw((2500,), np.float32))
    attrs = {"p": 0.3, "key": (1, 2), "offset": 3}
    expected = backend.to_host(backend.functions["dropout"](x, **attrs))
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    for b in (remake(max_grid=1), *(remake(order=order, seed=1) for order in other_orders)):
        np.testing.assert_array_equal(b.to_host(b.functions["dropout"](x, **attrs)), expected)


# places that lie on the device ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "offset"), STREAMS)
@pytest.mark.parametrize("name", [*DRAWS, "random_permutation", "dropout"])
def test_a_place_in_memory_is_the_place_by_value(backend, name, key, offset):
    """On the CPU, too; what is filled anew moves all later draws."""
    x = draw((70,), np.float32)
    for home in (backend, CpuBackend()):
        functions, start = home.functions, home.empty((3,), np.dtype(np.uint64))
        for blocks in (0, 1):
            functions["start_draws"](start, key, offset - blocks if offset else 0)
            found, expected = (
                functions[name](on(home, x), p=0.3, key=k, offset=o)
                if name == "dropout"
                else functions[name](
                    k, o, *((70,) if name == "random_permutation" else ((70,),)), **DRAWS.get(name, {})
                )
                for k, o in ((start, blocks), (key, offset if offset else blocks))
            )
            np.testing.assert_array_equal(home.to_host(found), home.to_host(expected))
