"""NumPy's names beside the standard: the same call with NumPy, with gpu_backprop, and with NumPy handed Tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import gpu_backprop as gb

from .cases import SMOOTH, VALUES, Case, arrays, numbers

ALL = [*SMOOTH, *VALUES]
pytestmark = pytest.mark.filterwarnings("ignore:(All-NaN|Mean of empty|Degrees of freedom):RuntimeWarning")  # NumPy's


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """NumPy's default dtype."""
    gb.set_default_dtype("float64")
    yield
    gb.set_default_dtype("float32")


def check(found: Any, expected: Any) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for f, e in zip(found, expected):
            check(f, e)
        return
    if not isinstance(found, gb.Tensor):
        assert isinstance(found, (bool, int)), type(found)
        assert found == expected
        return
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13, strict=True)


def tensors(sample: tuple[Any, ...], device: Any = None) -> list[gb.Tensor]:
    return [gb.tensor(x, device=device) for x in arrays(sample)]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_values(case: Case, device: str) -> None:
    for sample in case.samples if device == "cpu" else case.samples[:1]:
        with np.errstate(all="ignore"):
            check(case.call(gb, *tensors(sample)), case.call(np, *arrays(sample)))


@pytest.mark.parametrize("case", [c for c in ALL if not c.alone], ids=str)
def test_numpy_hands_its_functions_over(case: Case) -> None:
    sample = case.samples[0]
    with np.errstate(all="ignore"):
        check(case.call(np, *tensors(sample)), case.call(np, *arrays(sample)))


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradients_of_first_and_second_order(case: Case) -> None:
    """Against central differences; the second of a vector-Jacobian product."""
    for sample in case.samples[:2]:
        xs = arrays(sample)
        assert gb.gradcheck(lambda *ts: case.call(gb, *ts), tuple(map(gb.asarray, xs)))
        cotangent = np.random.default_rng(3).uniform(0.5, 1.5, case.call(gb, *map(gb.asarray, xs)).shape)

        def pulled(*ts: gb.Tensor, cotangent: Any = cotangent) -> Any:
            return gb.vjp(lambda *inner: case.call(gb, *inner), *ts)[1](gb.asarray(cotangent))

        assert gb.gradcheck(pulled, tuple(map(gb.asarray, xs)))


def test_gradients_against_hips_autograd() -> None:
    """Wherever autograd has one; it says of many functions and options that it has not."""
    compared = []
    for case in SMOOTH:
        if " where" in case.name or " initial" in case.name:  # which autograd overlooks
            continue
        sample = arrays(case.samples[0])
        weights = np.random.default_rng(5).uniform(0.5, 1.5, np.shape(case.call(np, *sample)))
        which = tuple(range(len(sample)))
        try:
            expected = autograd.grad(lambda *xs: anp.sum(case.call(anp, *xs) * weights), which)(*sample)  # noqa: B023
        except (NotImplementedError, AttributeError, KeyError, TypeError, ValueError, AssertionError):
            continue
        found = gb.grad(lambda *xs: (case.call(gb, *xs) * weights).sum(), which)(*sample)  # noqa: B023
        for f, e in zip(found, expected):
            np.testing.assert_allclose(f.numpy(), e, rtol=1e-9, atol=1e-11, strict=True, err_msg=case.name)
        compared.append(case.name)
    assert len(compared) > 90, compared


def test_interpolation_has_a_slope_where_a_point_is() -> None:
    xp, fp = gb.asarray([0.0, 1.0, 2.0, 3.0]), gb.asarray([1.0, 3.0, 5.0, np.inf])
    assert gb.interp(gb.asarray([1.0, 2.0, 3.0]), xp, fp).tolist() == [3.0, 5.0, np.inf]
    assert gb.elementwise_grad(lambda x: gb.interp(x, xp, fp))(gb.asarray([0.0, 1.0])).tolist() == [2.0, 2.0]


def test_aliases() -> None:
    assert gb.row_stack is gb.vstack
    assert gb.ndarray is gb.Tensor
    assert gb.bool_ is gb.bool
    assert gb.issubdtype(gb.ones(1).dtype, gb.floating)
    assert not gb.issubdtype((gb.ones(1) > 0).dtype, gb.integer)
    assert gb.absolute is gb.abs


def test_the_step_of_linspace_is_a_number() -> None:
    for end, endpoint in ((2.0, True), (3.0, False)):
        assert gb.linspace(0.0, end, 5, endpoint=endpoint, retstep=True)[1] == end / (5 - endpoint)


def test_every_name_is_tried() -> None:
    """No function of numpy_api is left out above."""
    source = inspect.getsource(inspect.getmodule(Case)) + inspect.getsource(inspect.getmodule(check))
    modules = [m for n, m in vars(gb.numpy_api).items() if inspect.ismodule(m) and hasattr(m, "__all__")]
    names = {n for m in modules for n in m.__all__} - set(gb.array_api.linalg.__all__) - set(gb.array_api.fft.__all__)
    assert len(names) > 130
    assert {n for n in names if n not in source} == set()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex128"])
def test_lists_of_floats_take_the_dtype_beside_them(dtype: str) -> None:
    """They had been rounded to the default dtype first."""
    gb.set_default_dtype("float32")
    numbers = [0.1, 0.4, 0.7]
    x = gb.asarray(np.array(numbers).astype(dtype))
    wide = np.result_type(dtype, 0.0)
    for found in (x + numbers, numbers * x, gb.append(x, numbers), gb.vstack([numbers, x]), gb.cov(x, numbers)):
        assert found.dtype == wide
    if wide == dtype:
        assert gb.array_equal(x, numbers)
        assert (x == tuple(numbers)).all()
        assert gb.isin(x, numbers).all()
    if dtype == "float64":
        np.testing.assert_array_equal(gb.searchsorted(x, numbers).numpy(), [0, 1, 2])
        np.testing.assert_allclose(gb.cov(x, numbers).numpy(), np.cov(x.numpy(), numbers), rtol=1e-14)
        assert gb.full((2,), x[0])[0] == 0.1
        written, added = gb.zeros(3, dtype=dtype), gb.zeros(3, dtype=dtype)
        written[:] = numbers
        added += numbers
        assert written.tolist() == added.tolist() == numbers
        np.testing.assert_array_equal(np.histogram(x, numbers)[0].numpy(), [1, 2])


def test_lists_and_values_on_the_tape() -> None:
    s = gb.tensor(0.5, requires_grad=True)
    for f in (
        lambda s: (gb.ones(2) * [s, 1.0]).sum(),
        lambda s: gb.matmul([[s]], [[2.0]])[0, 0],
        lambda s: gb.concat([[s], [1.0]]).sum(),
        lambda s: gb.einsum("i,i", [s, 1.0], [1.0, 2.0]),
        lambda s: gb.clip([s, 1.0], 0, 3).sum(),
        lambda s: gb.polyval([s, 1.0], 2.0),
        lambda s: gb.full((2,), s).sum(),
        lambda s: gb.full_like(gb.ones(3), s).sum(),
    ):
        slope = (f(gb.tensor(0.501)) - f(gb.tensor(0.499))).item() / 0.002
        assert gb.grad(f)(s).item() == pytest.approx(slope, rel=1e-3)
    x = gb.ones((2, 2))
    for refused in (
        lambda: gb.pad(x, 1, constant_values=s),
        lambda: gb.quantile(x, s),
        lambda: gb.var(x, correction=s),
        lambda: gb.linspace(0.0, s),
    ):
        with pytest.raises(gb.TapeError, match="would lose its gradient as"):
            refused()


def test_interpolation_of_doubled_and_infinite_points() -> None:
    for x, xp, fp in (([1.0, 5.0], [0.0, 1.0, 1.0], [0.0, 1.0, 2.0]), ([1.0], [0.0, 1.0, 2.0], [0.0, 1.0, np.inf])):
        np.testing.assert_array_equal(gb.interp(x, xp, fp).numpy(), np.interp(x, xp, fp))


def test_what_a_mask_leaves_out_has_no_part_in_gradients(device: str) -> None:
    """NaN and infinities there do not turn into NaN gradients."""
    values, mask = np.array([1.0, np.nan, 3.0, np.inf]), np.array([True, False, True, False])
    for f, slopes in (
        (lambda x, m: gb.sum(x, where=m), [1, 1]),
        (lambda x, m: gb.prod(x, where=m), [3, 1]),
        (lambda x, m: gb.mean(x, where=m), [0.5, 0.5]),
        (lambda x, m: gb.var(x, where=m), [-1, 1]),
        (lambda x, m: gb.std(x, where=m), [-0.5, 0.5]),
        (lambda x, m: gb.max(x, where=m, initial=2), [0, 1]),
        (lambda x, m: gb.min(x, where=m, initial=2), [1, 0]),
        (lambda x, m: gb.nanmedian(gb.where(m, x, np.nan)), [0.5, 0.5]),
        (lambda x, m: gb.nanvar(x[:3]), [-1, 1]),
    ):
        x, m = gb.tensor(values, device=device), gb.asarray(mask, device=device)
        assert gb.grad(lambda x: f(x, m))(x).tolist() == [slopes[0], 0, slopes[1], 0]  # noqa: B023


def test_initial_ties_as_one_element_more(device: str) -> None:
    x, v = gb.tensor([[1.0, 2.0, 2.0]], device=device), gb.tensor(2.0, device=device)
    mask = gb.asarray([[True, True, False]], device=device)
    for options, shares in (({}, [0, 1, 1]), ({"where": mask}, [0, 1, 0]), ({"axis": 1, "keepdims": True}, [0, 1, 1])):
        for name, sign in (("max", 1), ("min", -1)):

            def f(x: Any, v: Any, name: str = name, sign: int = sign, options: Any = options) -> Any:
                return getattr(gb, name)(sign * x, initial=sign * v, **options).sum() * sign

            of_x, of_v = gb.grad(f, (0, 1))(x, v)
            np.testing.assert_allclose(of_x.numpy()[0], np.array(shares) / (sum(shares) + 1))
            np.testing.assert_allclose(of_v.numpy(), 1 / (sum(shares) + 1))


def test_masks_and_counts_of_nan_are_captured(device: str) -> None:
    """Which elements count is found out anew at each call."""

    def f(x: Any, m: Any) -> Any:
        return x.mean(where=m), x.max(initial=0.5, where=m), gb.nanquantile(x, [0.1, 0.5], axis=0), gb.quantile(x, 0.3)

    captured = gb.capture(f)
    for seed in range(3):
        x = gb.asarray(numbers((5, 2), seed), device=device)
        x = gb.where(x > 1.0 + 0.2 * seed, np.nan, x)
        for found, expected in zip(captured(x, x > -0.5), f(x, x > -0.5), strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_places_in_a_list_are_captured() -> None:
    """They are known beforehand; those in a Tensor would have to be looked at."""
    x = gb.asarray([1.0, 2.0, 3.0])
    assert gb.capture(lambda x: gb.insert(gb.delete(x, [0]), [1], 5.0))(x).tolist() == [2, 5, 3]
    with pytest.raises(gb.CaptureError, match="a value is needed"):
        gb.capture(lambda x: gb.delete(x, gb.asarray([0])))(x)


def test_quantiles_at_infinite_elements() -> None:
    """NumPy has NaN where it multiplies the distance to the next element by 0."""
    assert gb.nanquantile(gb.asarray([np.inf, np.nan, 1.0]), [0.0, 0.5, 1.0]).tolist() == [1, np.inf, np.inf]
    assert gb.quantile(gb.asarray([np.inf, 1.0]), [0.0, 0.5, 1.0]).tolist() == [1, np.inf, np.inf]
    assert gb.nanmedian(gb.asarray([-np.inf])).item() == np.nanmedian([-np.inf]) == -np.inf


@pytest.mark.parametrize("method", ["lower", "higher", "nearest", "linear", "hazen"])
def test_shares_keep_their_digits(method: str) -> None:
    """In float32, 0.7 of ten steps is less than seven."""
    gb.set_default_dtype("float32")
    values = np.arange(11.0)
    for q in (0.7, 0.1, [0.1, 0.3], (0.9,), np.float64(0.7)):
        for name in ("quantile", "nanquantile"):
            found = getattr(gb, name)(gb.asarray(values), q, method=method).numpy()
            np.testing.assert_allclose(found, np.quantile(values, q, method=method), rtol=1e-14, strict=True)
    found = gb.percentile(gb.asarray(values), 70.1, method=method).item()
    assert found == pytest.approx(np.percentile(values, 70.1, method=method), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_masked_means_of_narrow_floats_are_taken_in_wide_ones(dtype: str, device: str) -> None:
    x = gb.full((4096,), 60000.0, dtype=dtype, device=device)
    mask = gb.arange(4096, device=device) % 2 == 0
    for f, expected in ((gb.mean, x[0].item()), (gb.var, 0.0), (lambda x, where: gb.mean(x * 0 + 1, where=where), 1.0)):
        found = f(x, where=mask)
        assert found.dtype == x.dtype
        assert found.item() == expected
