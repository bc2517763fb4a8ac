"""What the array API standard says of NaN, infinities, signed zeros and the ends of domains, one row a function.

A row holds cases "inputs > result". +-inf or +-0 is either sign; pi/2 and the like are approximate. A complex number is
written real,imaginary.
"""

from __future__ import annotations

import functools
import itertools
import math
import types
import warnings
from collections.abc import Callable

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import generic_complex
from gpu_backprop.core.dtypes import as_dtype

UNARY = {
    "abs": "nan>nan -0>0 -inf>inf",
    "acos": "nan>nan 1.5>nan -1.5>nan 1>0",
    "acosh": "nan>nan 0.5>nan -2>nan 1>0 inf>inf",
    "asin": "nan>nan 1.5>nan -1.5>nan 0>0 -0>-0",
    "asinh": "nan>nan 0>0 -0>-0 inf>inf -inf>-inf",
    "atan": "nan>nan 0>0 -0>-0 inf>pi/2 -inf>-pi/2",
    "atanh": "nan>nan -1.5>nan 1.5>nan -1>-inf 1>inf 0>0 -0>-0",
    "ceil": "3>3 -2>-2 inf>inf -inf>-inf 0>0 -0>-0 nan>nan -0.5>-0",
    "cos": "nan>nan 0>1 -0>1 inf>nan -inf>nan",
    "cosh": "nan>nan 0>1 -0>1 inf>inf -inf>inf",
    "exp": "nan>nan 0>1 -0>1 inf>inf -inf>0",
    "expm1": "nan>nan 0>0 -0>-0 inf>inf -inf>-1",
    "floor": "3>3 -2>-2 inf>inf -inf>-inf 0>0 -0>-0 nan>nan",
    "log": "nan>nan -1>nan 0>-inf -0>-inf 1>0 inf>inf -inf>nan",
    "log10": "nan>nan -1>nan 0>-inf -0>-inf 1>0 inf>inf -inf>nan",
    "log1p": "nan>nan -2>nan -1>-inf -0>-0 0>0 inf>inf",
    "log2": "nan>nan -1>nan 0>-inf -0>-inf 1>0 inf>inf -inf>nan",
    "reciprocal": "nan>nan inf>0 -inf>-0 0>inf -0>-inf",
    "round": "3>3 inf>inf -inf>-inf 0>0 -0>-0 nan>nan 2.5>2 3.5>4 -2.5>-2 -0.5>-0",
    "sign": "-3>-1 -inf>-1 3>1 inf>1 nan>nan 0>0 -0>+-0",
    "sin": "nan>nan 0>0 -0>-0 inf>nan -inf>nan",
    "sinc": "nan>nan 0>1 -0>1 inf>nan",
    "sinh": "nan>nan 0>0 -0>-0 inf>inf -inf>-inf",
    "sqrt": "nan>nan -1>nan -inf>nan 0>0 -0>-0 inf>inf",
    "square": "nan>nan -inf>inf -0>0",
    "tan": "nan>nan 0>0 -0>-0 inf>nan -inf>nan",
    "tanh": "nan>nan 0>0 -0>-0 inf>1 -inf>-1",
    "trunc": "3>3 -2>-2 inf>inf -inf>-inf 0>0 -0>-0 nan>nan -0.5>-0",
    "isfinite": "inf>0 -inf>0 nan>0 3>1",
    "isinf": "inf>1 -inf>1 nan>0 3>0",
    "isnan": "inf>0 -inf>0 nan>1 3>0",
    "signbit": "0>0 -0>1 inf>0 -inf>1 2>0 -2>1 nan>0 -nan>1",
}

_QUOTIENT = (
    "nan:1>nan 1:nan>nan inf:inf>nan inf:-inf>nan -inf:inf>nan -inf:-inf>nan 0:0>nan 0:-0>nan -0:0>nan -0:-0>nan "
    "0:2>0 -0:2>-0 0:-2>-0 -0:-2>0 2:0>inf 2:-0>-inf -2:0>-inf -2:-0>inf inf:2>inf inf:-2>-inf -inf:2>-inf "
    "-inf:-2>inf 2:inf>0 2:-inf>-0 -2:inf>-0 -2:-inf>0 inf:0>inf -inf:0>-inf 0:inf>0 -0:inf>-0 "
)
BINARY = {
    "add": "nan:1>nan 1:nan>nan inf:-inf>nan -inf:inf>nan inf:inf>inf -inf:-inf>-inf inf:2>inf -inf:2>-inf 2:inf>inf "
    "2:-inf>-inf -0:-0>-0 -0:0>0 0:-0>0 0:0>0 -0:2>2 2:-0>2 2:-2>0",
    "atan2": "nan:1>nan 1:nan>nan 2:0>pi/2 2:-0>pi/2 0:2>0 0:0>0 0:-0>pi 0:-2>pi -0:2>-0 -0:0>-0 -0:-0>-pi -0:-2>-pi "
    "-2:0>-pi/2 -2:-0>-pi/2 2:inf>0 2:-inf>pi -2:inf>-0 -2:-inf>-pi inf:2>pi/2 -inf:2>-pi/2 inf:inf>pi/4 "
    "inf:-inf>3pi/4 -inf:inf>-pi/4 -inf:-inf>-3pi/4",
    "copysign": "3:-1>-3 3:-0>-3 -3:0>3 -3:1>3 inf:-1>-inf 3:nan>3 3:-nan>-3",
    "divide": _QUOTIENT + "3:2>1.5 -3:2>-1.5",
    "equal": "nan:nan>0 nan:1>0 inf:inf>1 -inf:-inf>1 inf:-inf>0 -0:0>1 0:-0>1 2:2>1 2:3>0",
    "floor_divide": _QUOTIENT + "3:2>1 -3:2>-2 3:-2>-2 0.5:2>0 1:0.1>9",
    "greater": "nan:1>0 1:nan>0 inf:2>1 2:-inf>1 0:-0>0",
    "greater_equal": "nan:1>0 1:nan>0 inf:2>1 2:-inf>1 0:-0>1",
    "hypot": "inf:nan>inf -inf:2>inf nan:-inf>inf 2:inf>inf 0:-3>3 -3:-0>3 2:nan>nan nan:2>nan nan:nan>nan",
    "less": "nan:1>0 1:nan>0 2:inf>1 -inf:2>1 -0:0>0",
    "less_equal": "nan:1>0 1:nan>0 2:inf>1 -inf:2>1 -0:0>1",
    "logaddexp": "nan:1>nan 1:nan>nan inf:2>inf 2:inf>inf inf:-inf>inf -inf:-inf>-inf -inf:2>2",
    "maximum": "nan:1>nan 1:nan>nan inf:2>inf -inf:2>2",
    "minimum": "nan:1>nan 1:nan>nan inf:2>2 -inf:2>-inf",
    "multiply": "nan:1>nan 1:nan>nan inf:0>nan -0:inf>nan inf:inf>inf inf:-inf>-inf -inf:2>-inf 2:inf>inf -2:inf>-inf "
    "0:-2>-0 -0:-2>0",
    "nextafter": "nan:1>nan 1:nan>nan -0:0>0 0:-0>-0",
    "not_equal": "nan:nan>1 nan:1>1 inf:inf>0 inf:-inf>1 -0:0>0 2:3>1",
    "pow": "2:nan>nan nan:0>1 nan:-0>1 2:0>1 nan:2>nan 2:inf>inf -2:-inf>0 1:inf>1 -1:inf>1 -1:-inf>1 1:nan>1 "
    "0.5:inf>0 -0.5:-inf>inf inf:2>inf inf:-2>0 -inf:3>-inf -inf:2>inf -inf:-3>-0 -inf:-2>0 0:2>0 0:-2>inf -0:3>-0 "
    "-0:2>0 -0:-3>-inf -0:-2>inf -2:0.5>nan",
    "remainder": "nan:1>nan 1:nan>nan inf:inf>nan -inf:inf>nan 0:0>nan -0:0>nan 0:2>0 -0:2>0 0:-2>-0 -0:-2>-0 2:0>nan "
    "-2:-0>nan inf:2>nan -inf:-2>nan 2:inf>2 2:-inf>-inf -2:inf>inf -2:-inf>-2 3:-2>-1 -3:2>1",
    "subtract": "nan:1>nan 1:nan>nan inf:inf>nan -inf:-inf>nan inf:-inf>inf -0:0>-0 0:0>0 2:2>0",
}

COMPLEX = {
    "abs": "inf,nan>inf -inf,2>inf nan,inf>inf 2,-inf>inf 0,-3>3 -3,-0>3 nan,2>nan 2,nan>nan nan,nan>nan",
    "acos": "0,0>pi/2,-0 -0,0>pi/2,-0 0,nan>pi/2,nan -0,nan>pi/2,nan 2,inf>pi/2,-inf 2,nan>nan,nan -inf,2>pi,-inf "
    "inf,2>0,-inf -inf,inf>3pi/4,-inf inf,inf>pi/4,-inf inf,nan>nan,+-inf -inf,nan>nan,+-inf nan,2>nan,nan "
    "nan,inf>nan,-inf nan,nan>nan,nan",
    "acosh": "0,0>0,pi/2 -0,0>0,pi/2 2,inf>inf,pi/2 2,nan>nan,nan 0,nan>nan,+-pi/2 -inf,2>inf,pi inf,2>inf,0 "
    "-inf,inf>inf,3pi/4 inf,inf>inf,pi/4 inf,nan>inf,nan -inf,nan>inf,nan nan,2>nan,nan nan,inf>inf,nan "
    "nan,nan>nan,nan",
    "asinh": "0,0>0,0 2,inf>inf,pi/2 2,nan>nan,nan inf,2>inf,0 inf,inf>inf,pi/4 nan,0>nan,0 nan,2>nan,nan "
    "nan,inf>+-inf,nan nan,nan>nan,nan",
    "atanh": "0,0>0,0 0,nan>0,nan 1,0>inf,0 2,inf>0,pi/2 2,nan>nan,nan inf,2>0,pi/2 inf,inf>0,pi/2 inf,nan>0,nan "
    "nan,2>nan,nan nan,inf>+-0,pi/2 nan,nan>nan,nan",
    "cosh": "0,0>1,0 0,inf>nan,+-0 0,nan>nan,+-0 2,inf>nan,nan 2,nan>nan,nan inf,0>inf,0 inf,2>-inf,inf "
    "inf,inf>+-inf,nan inf,nan>inf,nan nan,0>nan,+-0 nan,-0>nan,+-0 nan,2>nan,nan nan,nan>nan,nan",
    "exp": "0,0>1,0 -0,0>1,0 2,inf>nan,nan 2,nan>nan,nan inf,0>inf,0 -inf,2>-0,0 inf,2>-inf,inf -inf,inf>+-0,+-0 "
    "inf,inf>+-inf,nan -inf,nan>+-0,+-0 inf,nan>+-inf,nan nan,0>nan,0 nan,2>nan,nan nan,nan>nan,nan",
    "expm1": "0,0>0,0 -0,0>0,0 2,inf>nan,nan 2,nan>nan,nan inf,0>inf,0 -inf,2>-1,0 inf,2>-inf,inf -inf,inf>-1,+-0 "
    "inf,inf>+-inf,nan -inf,nan>-1,+-0 inf,nan>+-inf,nan nan,0>nan,0 nan,2>nan,nan nan,nan>nan,nan",
    "isfinite": "nan,1>0 1,nan>0 inf,nan>0 -inf,1>0 1,inf>0 1,2>1",
    "isinf": "nan,1>0 inf,nan>1 -inf,1>1 1,inf>1 nan,-inf>1 1,2>0",
    "isnan": "nan,1>1 1,nan>1 inf,nan>1 1,inf>0 1,2>0",
    "log": "-0,0>-inf,pi 0,0>-inf,0 2,inf>inf,pi/2 2,nan>nan,nan -inf,2>inf,pi inf,2>inf,0 -inf,inf>inf,3pi/4 "
    "inf,inf>inf,pi/4 inf,nan>inf,nan -inf,nan>inf,nan nan,2>nan,nan nan,inf>inf,nan nan,nan>nan,nan",
    "log1p": "-1,0>-inf,0 2,inf>inf,pi/2 2,nan>nan,nan -inf,2>inf,pi inf,2>inf,0 -inf,inf>inf,3pi/4 "
    "inf,inf>inf,pi/4 inf,nan>inf,nan -inf,nan>inf,nan nan,2>nan,nan nan,inf>inf,nan nan,nan>nan,nan",
    "round": "2.5,-0.5>2,-0 nan,inf>nan,inf -0,3.5>-0,4",
    "sign": "0,0>0,0 -0,-0>+-0,+-0 nan,2>nan,nan 2,nan>nan,nan 3,4>0.6,0.8 0,-2>0,-1",
    "sinh": "0,0>0,0 0,inf>+-0,nan 0,nan>+-0,nan 2,inf>nan,nan 2,nan>nan,nan inf,0>inf,0 inf,2>-inf,inf "
    "inf,inf>+-inf,nan inf,nan>+-inf,nan nan,0>nan,0 nan,2>nan,nan nan,nan>nan,nan",
    "sqrt": "0,0>0,0 -0,0>0,0 2,inf>inf,inf -inf,inf>inf,inf nan,inf>inf,inf 2,nan>nan,nan -inf,2>0,inf inf,2>inf,0 "
    "-inf,nan>nan,+-inf inf,nan>inf,nan nan,2>nan,nan nan,nan>nan,nan",
    "tanh": "0,0>0,0 2,inf>nan,nan 0,inf>0,nan 2,nan>nan,nan 0,nan>0,nan inf,2>1,0 inf,1>1,0 inf,inf>1,+-0 "
    "inf,nan>1,+-0 nan,0>nan,0 nan,2>nan,nan nan,nan>nan,nan",
}


def number(text: str) -> float:
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    if "pi" in text:
        times, _, parts = text.partition("pi")
        return sign * float(times or 1) * math.pi / float(parts[1:] or 1)
    return math.copysign(float(text), sign)


def agrees(found: float, expected: str, tolerance: float) -> bool:
    if expected.startswith("+-"):
        found, expected = abs(found), expected[2:]
    value = number(expected)
    if math.isnan(value):
        return math.isnan(found)
    return math.isclose(found, value, rel_tol=tolerance) and math.copysign(1, found) == math.copysign(1, value)


def cases(row: str) -> list[tuple[str, str]]:
    return [tuple(case.split(">")) for case in row.split()]  # type: ignore[misc]


def check(name: str, row: str, inputs: list[np.ndarray]) -> None:
    """All cases of a row, in one call each of arrays, and of views with gaps."""
    function = getattr(gb, name)
    tolerance = {2: 1e-2, 4: 1e-6}.get(np.dtype(inputs[0].real.dtype).itemsize, 1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [
            function(*(gb.asarray(x) for x in inputs)),
            function(*(gb.asarray(np.repeat(x, 2))[::2] for x in inputs)),
        ]
    for result in results:
        for (given, expected), value in zip(cases(row), result.tolist(), strict=True):
            parts = [value.real, value.imag] if isinstance(value, complex) else [float(value)]
            wanted = expected.split(",")
            fits = all(agrees(part, text, tolerance) for part, text in zip(parts, wanted, strict=True))
            assert fits, f"{name}({given}) of {inputs[0].dtype}: {value}, not {expected}"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: str, device: str) -> None:
    row = UNARY[name]
    if dtype == "float16":
        row = row.replace(" -nan>1", "")  # a GPU's conversion to float32 drops the sign of a NaN
    values = [number(given) for given, _ in cases(row)]
    check(name, row, [np.array(values).astype(as_dtype(dtype))])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, dtype: str, device: str) -> None:
    pairs = [[number(text) for text in given.split(":")] for given, _ in cases(BINARY[name])]
    check(name, BINARY[name], [np.array(column, dtype) for column in zip(*pairs, strict=True)])


def complexes(texts: list[str], dtype: str) -> np.ndarray:
    made = np.empty(len(texts), dtype)
    made.real, made.imag = zip(*([number(part) for part in text.split(",")] for text in texts), strict=True)
    return made


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name: str, dtype: str, device: str) -> None:
    given = complexes([given for given, _ in cases(COMPLEX[name])], dtype)
    check(name, COMPLEX[name], [given])


GRID = complexes(
    [",".join(p) for p in itertools.product(("0", "-0", "2", "-2", "inf", "-inf", "nan"), repeat=2)], "c16"
)


def same(found: np.ndarray, expected: np.ndarray, rtol: float = 1e-12) -> np.ndarray:
    """Where complex numbers agree, but for the sign of a zero or of an infinity beside a NaN, which is left open."""
    agree = np.ones(found.shape, bool)
    for a, b, other in ((found.real, expected.real, expected.imag), (found.imag, expected.imag, expected.real)):
        close = np.isclose(a, b, rtol=rtol, equal_nan=True)
        agree &= close | (np.isnan(other) & np.isclose(np.abs(a), np.abs(b), rtol=rtol))
    return agree


@pytest.mark.parametrize(
    "name", ["acos", "acosh", "asinh", "atanh", "cosh", "exp", "expm1", "log", "log1p", "sinh", "tanh"]
)
def test_of_conjugates(name: str, device: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, mirrored = (getattr(gb, name)(gb.asarray(z)).numpy() for z in (GRID, GRID.conj()))
    on_the_cut = (GRID.imag == 0) & np.isin(name, ["acos", "acosh", "atanh", "log", "log1p"])
    assert (same(mirrored, found.conj()) | on_the_cut).all()


@pytest.mark.parametrize(("name", "other"), [("sin", "sinh"), ("tan", "tanh"), ("asin", "asinh"), ("atan", "atanh")])
def test_functions_turned_by_a_right_angle(name: str, other: str, device: str) -> None:
    """f(z) = -i g(iz), where the products only exchange real and imaginary parts."""

    def turned(z: np.ndarray, sign: int) -> np.ndarray:
        made = np.empty_like(z)
        made.real, made.imag = -sign * z.imag, sign * z.real
        return made

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(gb, name)(gb.asarray(GRID)).numpy()
        expected = turned(getattr(gb, other)(gb.asarray(turned(GRID, 1))).numpy(), -1)
    assert same(found, expected).all()


def test_expm1_of_small_complex_numbers(device: str) -> None:
    z = np.array([1e-9 + 1e-9j, 1e-12j, 3 + 1e-5j, np.log(5) + 1j * np.arccos(0.2), 700 + 1j, -50 + 2j])
    found = gb.expm1(gb.asarray(z)).numpy()
    expected = [1e-9 + 1e-9j, -5e-25 + 1e-12j, *np.exp(z[2:3]) - 1, 4.898979485566356j, *np.exp(z[4:]) - 1]
    np.testing.assert_allclose(found.imag, np.imag(expected), rtol=1e-8)
    np.testing.assert_allclose(found.real, np.real(expected), rtol=1e-8, atol=1e-15)


def test_log1p_of_small_complex_numbers(device: str) -> None:
    z = np.array([1e-9 + 1e-9j, 1e-3j, -1e-20 + 1e-20j, 0.3 - 0.4j, -3 + 2j])
    found = gb.log1p(gb.asarray(z)).numpy()
    expected = [1e-9 + (1e-9 - 1e-18) * 1j, 4.999997500001667e-07 + 9.999996666668667e-04j, z[2], *np.log(1 + z[3:])]
    np.testing.assert_allclose(found.real, np.real(expected), rtol=1e-12)
    np.testing.assert_allclose(found.imag, np.imag(expected), rtol=1e-12)


def test_clip_by_nan(device: str) -> None:
    x, nan = gb.asarray([1.0, 2.0]), gb.asarray([float("nan"), 3.0])
    assert np.isnan(gb.clip(x, nan, 5.0).tolist()[0])
    assert np.isnan(gb.clip(x, 0.0, nan).tolist()[0])
    assert gb.clip(x, nan, 5.0).tolist()[1] == 3
    assert np.isnan(gb.clip(gb.asarray([float("nan")]), 0.0, 1.0).item())


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_quotients_of_complex_numbers(dtype: str, device: str) -> None:
    """NumPy's, for infinite, vanishing, tiny and huge divisors too."""
    scale = np.array([1, np.finfo(dtype).tiny * 4, np.finfo(dtype).max / 8])[:, None]
    with np.errstate(all="ignore"):
        y = np.concatenate([GRID, (GRID[np.isfinite(GRID)] * scale).ravel()]).astype(dtype)
        x = y[:, None]
        careful = generic_complex.table(types.SimpleNamespace(**vars(np)))["divide"]  # as over CuPy
        for found in ((gb.asarray(x) / gb.asarray(y)).numpy(), careful(x, y)):
            assert same(found, x / y, rtol=1e-6 if dtype == "complex64" else 1e-12).all()
        rtol = 1e-6 if dtype == "complex64" else 1e-12
        near = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=np.finfo(dtype).tiny)  # or subnormal
        for number in (2.0, 1 - 2j):
            near((number / gb.asarray(y)).numpy(), (number / x)[:, 0])
            near((gb.asarray(y) / number).numpy(), y / number)
        # np.reciprocal of 0 is NaN, a quotient by it infinite
        near(gb.reciprocal(gb.asarray(y)).numpy()[y != 0], 1 / y[y != 0])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", ["greater", "greater_equal", "less", "less_equal"])
def test_orders_of_complex_numbers(name: str, dtype: str, device: str) -> None:
    """NumPy's: by real parts, then by imaginary ones."""
    x, y = GRID.astype(dtype)[:, None], GRID.astype(dtype)
    careful = generic_complex.table(types.SimpleNamespace(**vars(np)))[name]  # as over CuPy
    with np.errstate(invalid="ignore"):
        for found in (getattr(gb, name)(gb.asarray(x), gb.asarray(y)).numpy(), careful(x, y)):
            np.testing.assert_array_equal(found, getattr(np, name)(x, y))
        found = getattr(gb, name)(gb.asarray(y), 2 - 2j).numpy()
        np.testing.assert_array_equal(found, getattr(np, name)(y, 2 - 2j))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_powers_that_are_roots(dtype: str, device: str) -> None:
    x = gb.asarray([-math.inf, math.inf, -0.0, 0.0, 4.0], dtype=dtype)
    for found in (x**0.5, gb.pow(x, 0.5), x ** gb.full_like(x, 0.5)):
        assert found.dtype == x.dtype
        assert found.tolist() == [math.inf, math.inf, 0.0, 0.0, 2.0]
        assert not gb.signbit(found).numpy().any()


def test_bools_have_no_sign(device: str) -> None:
    with pytest.raises(gb.DTypeError, match=r"sign\(bool"):
        gb.sign(gb.asarray([True]))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", ["acosh", "expm1", "log", "log10", "log1p", "log2", "sign", "tan", "tanh"])
def test_limits_that_an_array_module_lacks(name: str, dtype: str) -> None:
    """Functions of CuPy's that have other special values, over one that gives nonsense for them."""

    def careless(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def run(z: np.ndarray) -> np.ndarray:
            bad = z.dtype.kind == "c" and ~np.isfinite(z) | (z == 0) | (z == -1)
            if function is np.sign:  # of the rest any array module has it right
                bad = np.isinf(z.real) ^ np.isinf(z.imag)
            return np.where(bad, z.dtype.type(7), function(z))

        return run

    known = ("arccosh", "log", "sign", "tanh")
    xp = types.SimpleNamespace(**{**vars(np), **{name: careless(getattr(np, name)) for name in known}})
    given = complexes([given for given, _ in cases(COMPLEX[name])], dtype) if name in COMPLEX else GRID.astype(dtype)
    if name in ("tan", "tanh"):  # of 0 any array module has it right
        given = given[given != 0]
    with np.errstate(all="ignore"):
        found = generic_complex.table(xp)[name](given)
        expected = getattr(gb, name)(gb.asarray(given, device="cpu")).numpy()
    np.testing.assert_array_equal(np.isnan(found.real), np.isnan(expected.real))
    np.testing.assert_array_equal(np.isnan(found.imag), np.isnan(expected.imag))
    assert same(found, expected, rtol=1e-6 if dtype == "complex64" else 1e-12).all()
