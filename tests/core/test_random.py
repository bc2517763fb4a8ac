"""Random numbers: NumPy's Philox stream, word for word, on every device."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

import gpu_backprop as gb
from gpu_backprop.backends import draws
from gpu_backprop.backends.draws import inverse_normal
from gpu_backprop.core import dtypes
from gpu_backprop.random import Generator


def words(seed: int, n: int) -> np.ndarray:
    return np.random.Philox(seed).random_raw(n)


def test_words_are_numpys() -> None:
    np.testing.assert_array_equal(Generator(42).words(1001), words(42, 1001))


def test_each_draw_owns_whole_blocks_of_four_words() -> None:
    g = Generator(7)
    first, second = g.words(5), g.words(3)
    stream = words(7, 12)
    np.testing.assert_array_equal(first, stream[:5])
    np.testing.assert_array_equal(second, stream[8:11])
    assert g.get_state()[1] == 3
    assert g.reserve(4)[1] == 3
    assert g.reserve(1)[1] == 4


def test_uniforms_are_numpys(device: str) -> None:
    gb.manual_seed(3)
    x = gb.random.uniform((5, 7), dtype="float64")
    expected = np.random.Generator(np.random.Philox(3)).random((5, 7))
    np.testing.assert_array_equal(x.numpy(), expected)
    assert x.device == device
    gb.manual_seed(3)
    np.testing.assert_array_equal(gb.random.uniform((5, 7), -1.0, 3.0, dtype="float64").numpy(), expected * 4 - 1)


def test_uniforms_stay_below_the_upper_end() -> None:
    """A float64 uniform just below 1 must not become 1.0 in a narrower dtype."""
    for dtype in ("float32", "bfloat16", "float16"):
        x = Generator(0).uniform(20_000, dtype=dtype)
        assert x.dtype.name == dtype
        assert float(x.max()) < 1.0, dtype
        assert float(x.min()) >= 0.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_largest_word_of_all_makes_a_number_below_the_upper_end(dtype: str, monkeypatch) -> None:
    top = np.full(4, 2**64 - 1, np.uint64)
    monkeypatch.setattr(draws, "random_words", lambda key, offset, shape: top)
    x = Generator(0).uniform(4, 1.0, 3.0, dtype=dtype, device="cpu")
    last = {"float32": 3 - 2**-22, "bfloat16": 3 - 2**-6, "float16": 3 - 2**-9}[dtype]
    assert x.tolist() == [last] * 4
    assert np.isfinite(Generator(0).normal(4, device="cpu").numpy()).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_seed_gives_the_same_numbers_on_every_device(dtype: str, device: str) -> None:
    def draws_on(place: str) -> list[np.ndarray]:
        g = Generator(17)
        return [
            g.uniform((7, 11), -2.0, 3.0, dtype, place).numpy(),
            g.integers(-5, 1000, (3, 5), "int64", place).numpy(),
            g.integers(0, 100, 9, dtype, place).numpy(),
            g.permutation(33, place).numpy(),
            g.normal((7, 11), 2.0, 0.5, dtype, place).numpy(),
        ]

    *here, here_normal = draws_on(device)
    *cpu, cpu_normal = draws_on("cpu")
    for a, b in zip(here, cpu):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    spacing = dtypes.epsilon(dtypes.as_dtype(dtype))
    np.testing.assert_allclose(
        here_normal.astype(np.float64), cpu_normal.astype(np.float64), rtol=2 * spacing, atol=2 * spacing
    )


@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_floats_want_a_float_dtype(draw: str) -> None:
    with pytest.raises(gb.DTypeError, match=f"{draw}: int64 holds no fractions; use a float dtype, or gb.random.int"):
        getattr(gb.random, draw)(3, dtype="int64")


def test_only_the_cpus_numbers_are_drawn_on_the_host(device: str, monkeypatch) -> None:
    drawn = []
    real = draws.random_words
    monkeypatch.setattr(draws, "random_words", lambda *place: drawn.append(place) or real(*place))
    g = Generator(1)
    for t in (g.uniform(5), g.normal(5), g.integers(0, 9, 5), g.permutation(5)):
        assert t.device == device
    assert len(drawn) == (4 if device == "cpu" else 0)


def test_normals_are_the_inverse_distribution_function(device: str) -> None:
    n = 10_000
    found = Generator(5).normal(n, dtype="float64").numpy()
    u = (words(5, n) >> np.uint64(11)) * 2.0**-53 + 2.0**-54
    np.testing.assert_allclose(found, stats.norm.ppf(u), rtol=4e-15, atol=0)
    assert stats.kstest(found, "norm").pvalue > 0.01


def test_normals_far_out() -> None:
    u = np.array([2.0**-54, 1e-15, 1e-10, 1e-5, 0.02425, 0.3, 0.5 - 2e-16, 0.5, 0.975, 1 - 1e-10, 1 - 2.0**-53])
    np.testing.assert_allclose(inverse_normal(u), [NormalDist().inv_cdf(v) for v in u], rtol=1e-15, atol=0)
    assert np.all(np.diff(inverse_normal(np.linspace(1e-6, 1 - 1e-6, 10_001))) > 0)


def test_normal_mean_and_deviation() -> None:
    a, b = Generator(1).normal((3, 4), dtype="float64"), Generator(1).normal((3, 4), 2.0, 0.5, dtype="float64")
    np.testing.assert_allclose(b.numpy(), a.numpy() * 0.5 + 2, rtol=1e-15)
    assert Generator(1).normal(3).dtype == gb.float32


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("low", "high"), [(1, 0), (NAN, 1), (0, NAN), (-INF, 0), (0, INF), (INF, INF), (-1e308, 1e308)]
)
def test_uniform_refuses_what_is_no_interval(low: float, high: float, device: str) -> None:
    with pytest.raises(gb.DataError, match=r"uniform: \[.*, .*\) is no interval of finite length; use finite low <= h"):
        gb.random.uniform(3, low, high)


@pytest.mark.parametrize(("mean", "std"), [(0, -1), (0, NAN), (0, INF), (NAN, 1), (-INF, 1)])
def test_normal_refuses_what_is_no_distribution(mean: float, std: float, device: str) -> None:
    with pytest.raises(gb.DataError, match=f"normal: mean={mean} and std={std} are out of range; use finite ones"):
        gb.random.normal(3, mean, std)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-5, 3), (7, 8), (0, 2**32), (-(2**31), 2**31)])
def test_integers_stay_in_range(low: int, high: int) -> None:
    x = Generator(2).integers(low, high, 5000).numpy()
    assert x.dtype == np.int64
    assert x.min() >= low
    assert x.max() < high
    if high - low == 10:
        counts = np.bincount(x)
        assert stats.chisquare(counts).pvalue > 0.01


def test_integers_refuse_an_empty_range() -> None:
    with pytest.raises(gb.DataError, match=r"\[3, 3\) spans 0 values; use high > low"):
        gb.random.integers(3, 3)
    with pytest.raises(gb.DataError, match="at most 2"):
        gb.random.integers(0, 2**40)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_sorts_raw_words(n: int, device: str) -> None:
    found = Generator(9).permutation(n).numpy()
    np.testing.assert_array_equal(found, np.argsort(words(9, n), kind="stable"))
    np.testing.assert_array_equal(np.sort(found), np.arange(n))


def test_seeds_and_states() -> None:
    assert gb.manual_seed(4) is gb.random.default_generator()
    first = gb.random.uniform(6).tolist()
    state = gb.random.default_generator().get_state()
    second = gb.random.uniform(6).tolist()
    assert first != second
    gb.random.default_generator().set_state(state)
    assert gb.random.uniform(6).tolist() == second
    gb.manual_seed(4)
    assert gb.random.uniform(6).tolist() == first
    assert Generator().key != Generator().key
    for bad in (-1, 1.5, "a", True, None):
        with pytest.raises(gb.DataError, match="is not a seed; use an integer of at least 0"):
            gb.manual_seed(bad)  # type: ignore[arg-type]


def test_empty_and_scalar_draws() -> None:
    assert gb.random.uniform(()).shape == ()
    assert gb.random.uniform((0, 3)).shape == (0, 3)
    assert gb.random.normal((0,)).shape == (0,)
    assert gb.random.normal(2**10, dtype="bfloat16").dtype.name == "bfloat16"
    with pytest.raises(gb.ShapeError, match="negative length"):
        gb.random.uniform((-1,))
    with pytest.raises(gb.DTypeError, match=r"permutation: n 2\.5 is not made of integers"):
        gb.random.permutation(2.5)  # type: ignore[arg-type]
    assert gb.random.uniform(3, 2.0, 2.0).tolist() == [2, 2, 2]
