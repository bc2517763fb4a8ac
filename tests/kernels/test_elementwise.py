"""Every elementwise operation, in every access pattern and dtype, against NumPy in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special

from gpu_backprop.backends import layouts, table

from .conftest import DTYPES, OTHER_ORDERS, check, compile_first, draw, instantiations, on

SIZES = (0, 1, 31, 32, 33, 1000, 256 * 8 + 1)  # the last: one past a block of 16-bit packs

# operation -> (float64 reference, lowest and highest input, ulps allowed beside the rounding of float32 and float64)
EXACT, LIBRARY = 0.5, 4.5


def gelu(x: Any) -> Any:
    return x * special.ndtr(x)


def gelu_slope(x: Any) -> Any:
    return special.ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_tanh_slope(x: Any) -> Any:
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def silu_slope(x: Any) -> Any:
    return special.expit(x) * (1 + x * special.expit(-x))


def floor_divide(x: Any, y: Any) -> Any:
    """NumPy's, and the limits for infinities, where NumPy has Python's NaN and -1."""
    return np.where(np.isinf(x) | np.isinf(y), x / y, np.floor_divide(x, y))


def softplus(x: Any, beta: float, threshold: float) -> Any:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


REFERENCES: dict[str, tuple[Any, float, float, float]] = {
    "abs": (np.abs, -3, 3, EXACT),
    "negative": (np.negative, -3, 3, EXACT),
    "reciprocal": (np.reciprocal, -3, 3, EXACT),
    "sign": (np.sign, -3, 3, EXACT),
    "sqrt": (np.sqrt, 0, 9, EXACT),
    "square": (np.square, -3, 3, EXACT),
    "add": (np.add, -3, 3, EXACT),
    "copysign": (np.copysign, -3, 3, EXACT),
    "divide": (np.divide, -3, 3, EXACT),
    "floor_divide": (floor_divide, -9, 9, EXACT),
    "hypot": (np.hypot, -3, 3, LIBRARY),
    "maximum": (np.maximum, -3, 3, EXACT),
    "minimum": (np.minimum, -3, 3, EXACT),
    "multiply": (np.multiply, -3, 3, EXACT),
    "nextafter": (np.nextafter, -3, 3, EXACT),
    "pow": (np.power, 0.1, 3, LIBRARY),
    "remainder": (np.remainder, -9, 9, EXACT),
    "subtract": (np.subtract, -3, 3, EXACT),
    "erf": (special.erf, -3, 3, LIBRARY),
    "exp": (np.exp, -5, 5, LIBRARY),
    "expm1": (np.expm1, -3, 3, LIBRARY),
    "log": (np.log, 0.01, 9, LIBRARY),
    "log10": (np.log10, 0.01, 9, LIBRARY),
    "log1p": (np.log1p, -0.9, 9, LIBRARY),
    "log2": (np.log2, 0.01, 9, LIBRARY),
    "logaddexp": (np.logaddexp, -5, 5, 12),  # one ulp of the larger operand where the sum is near 0
    "acos": (np.arccos, -1, 1, LIBRARY),
    "acosh": (np.arccosh, 1, 9, LIBRARY),
    "asin": (np.arcsin, -1, 1, LIBRARY),
    "asinh": (np.arcsinh, -9, 9, LIBRARY),
    "atan": (np.arctan, -9, 9, LIBRARY),
    "atan2": (np.arctan2, -3, 3, LIBRARY),
    "atanh": (np.arctanh, -0.9, 0.9, LIBRARY),
    "cos": (np.cos, -9, 9, LIBRARY),
    "cosh": (np.cosh, -3, 3, LIBRARY),
    "sin": (np.sin, -9, 9, LIBRARY),
    "sinh": (np.sinh, -3, 3, LIBRARY),
    "tan": (np.tan, -1.5, 1.5, LIBRARY),
    "tanh": (np.tanh, -3, 3, LIBRARY),
    "ceil": (np.ceil, -9, 9, EXACT),
    "floor": (np.floor, -9, 9, EXACT),
    "round": (np.rint, -9, 9, EXACT),
    "trunc": (np.trunc, -9, 9, EXACT),
    "equal": (np.equal, -3, 3, EXACT),
    "greater": (np.greater, -3, 3, EXACT),
    "greater_equal": (np.greater_equal, -3, 3, EXACT),
    "less": (np.less, -3, 3, EXACT),
    "less_equal": (np.less_equal, -3, 3, EXACT),
    "not_equal": (np.not_equal, -3, 3, EXACT),
    "logical_and": (np.logical_and, -3, 3, EXACT),
    "logical_or": (np.logical_or, -3, 3, EXACT),
    "logical_xor": (np.logical_xor, -3, 3, EXACT),
    "isfinite": (np.isfinite, -3, 3, EXACT),
    "isinf": (np.isinf, -3, 3, EXACT),
    "isnan": (np.isnan, -3, 3, EXACT),
    "logical_not": (np.logical_not, -3, 3, EXACT),
    "signbit": (np.signbit, -3, 3, EXACT),
    "clip": (lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi), -3, 3, EXACT),
    "where": (np.where, -3, 3, EXACT),
    "relu": (lambda x: np.maximum(x, 0), -3, 3, EXACT),
    "sigmoid": (special.expit, -9, 9, LIBRARY),
    "silu": (lambda x: x * special.expit(x), -9, 9, LIBRARY),
    "gelu_none": (gelu, -3, 3, 16),
    "gelu_tanh": (gelu_tanh, -3, 3, 200),  # 1 + tanh(u) loses digits in the left tail; the formula is an approximation
    "leaky_relu": (lambda x, slope: np.where(x > 0, x, x * slope), -3, 3, 1.5),
    "elu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), -3, 3, LIBRARY),
    "softplus": (softplus, -9, 9, LIBRARY),
    "relu_backward": (lambda g, y: np.where(y > 0, g, 0), -3, 3, EXACT),
    "tanh_backward": (lambda g, y: g * (1 - y * y), -0.9, 0.9, LIBRARY),
    "sigmoid_backward": (lambda g, y: g * y * (1 - y), 0, 1, LIBRARY),
    "silu_backward": (lambda g, x: g * silu_slope(x), -3, 3, LIBRARY),
    "gelu_backward_none": (lambda g, x: g * gelu_slope(x), -3, 3, 12),
    "gelu_backward_tanh": (lambda g, x: g * gelu_tanh_slope(x), -3, 3, 12),
    "leaky_relu_backward": (lambda g, x, slope: np.where(x > 0, g, g * slope), -3, 3, 1.5),
    "elu_backward": (lambda g, x, alpha: np.where(x > 0, g, g * alpha * np.exp(np.minimum(x, 0))), -3, 3, LIBRARY),
    "softplus_backward": (
        lambda g, x, beta, threshold: np.where(x * beta > threshold, g, g * special.expit(x * beta)), -9, 9, LIBRARY,
    ),
}  # fmt: skip
NUMBERS = {"negative_slope": 0.125, "alpha": 1.5, "beta": 2.0, "threshold": 6.0}
# in float32 a quotient or product near a multiple can round to it: these follow NumPy's own in the accumulation type
ACCUMULATION = ("floor_divide", "remainder")
SLOPES_NEAR_ZERO = ("silu_backward", "gelu_backward_none", "gelu_backward_tanh", "logaddexp", "gelu_tanh")


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("elementwise.cu"))


def inputs(name: str, shape: Any, dtype: np.dtype) -> list[np.ndarray]:
    row = table.ELEMENTWISE[name]
    _, low, high, _ = REFERENCES[name]
    arrays = [draw(shape, dtype, seed, low, high) for seed in range(row.arrays)]
    if row.condition:
        arrays[0] = arrays[0] > 0
    if row.truth and row.arrays > 1 and arrays[0].size > 1:
        arrays[1].flat[::2] = arrays[0].flat[::2]  # comparisons must meet equal values
        arrays[0].flat[::3] = 0
    return arrays


def expect(name: str, arrays: list[Any], dtype: np.dtype) -> np.ndarray:
    row = table.ELEMENTWISE[name]
    wide = np.float32 if name in ACCUMULATION and dtype.itemsize <= 4 else np.float64
    if name == "nextafter":  # a matter of the dtype itself; NumPy's own for each
        return REFERENCES[name][0](*(np.asarray(x).astype(dtype) for x in arrays)).astype(np.float64)
    operands = [x if np.result_type(x).kind == "b" else np.asarray(x).astype(wide) for x in arrays]
    with np.errstate(all="ignore"):
        return REFERENCES[name][0](*operands, *(NUMBERS[number] for number in row.numbers))


def verify(name: str, result: Any, arrays: list[Any], dtype: np.dtype, backend: Any, what: Any = "") -> None:
    row = table.ELEMENTWISE[name]
    got, expected = backend.to_host(result), expect(name, arrays, dtype)
    if row.truth:
        assert got.dtype == bool
        np.testing.assert_array_equal(got, expected, err_msg=f"{name} {what}")
        return
    ulps = REFERENCES[name][3]
    if dtype.itemsize == 2:
        ulps = min(ulps, 1.51)  # float32 inside, one rounding: right but for values next to a tie
    check(got, expected, dtype, ulps, 1.0 if name in SLOPES_NEAR_ZERO else 0.0, f"{name} {dtype} {what}")


def call(backend: Any, name: str, operands: list[Any], **kwargs: Any) -> Any:
    attrs = {number: NUMBERS[number] for number in table.ELEMENTWISE[name].numbers}
    return backend.functions[name](*operands, **attrs, **kwargs)


def test_every_operation_has_a_reference():
    assert set(REFERENCES) == set(table.ELEMENTWISE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.ELEMENTWISE)
def test_contiguous(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    for n in SIZES:
        arrays = inputs(name, (n,), dtype)
        verify(name, call(backend, name, [on(backend, x) for x in arrays]), arrays, dtype, backend, n)


# a matrix operation with its other operands: whole, row, column, one element, transposed, reversed, every other element
VIEWS = {
    "row": ((7,), lambda x: x),
    "column": ((5, 1), lambda x: x),
    "element": ((), lambda x: x),
    "transposed": ((7, 5), lambda x: x.T),
    "reversed": ((5, 7), lambda x: x[::-1, ::-1]),
    "every other": ((10, 14), lambda x: x[::2, ::2]),
    "unaligned": ((5 * 7 + 1,), lambda x: x[1:].reshape(5, 7)),
    "pitched": ((5, 9), lambda x: x[:, 1:8]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.ELEMENTWISE)
def test_patterns(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    count = table.ELEMENTWISE[name].arrays
    for view_name, (shape, view) in VIEWS.items():
        for place in range(count):
            arrays = inputs(name, (5, 7), dtype)
            other = inputs(name, shape, dtype)[place]
            operands = [on(backend, x) for x in arrays]
            operands[place] = on(backend, other, view)
            arrays[place] = view(other)
            if count == 1 and arrays[0].shape != (5, 7) and view_name != "element":
                continue
            verify(name, call(backend, name, operands), arrays, dtype, backend, (view_name, place))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name, row in table.ELEMENTWISE.items() if row.arrays > 1])
def test_numbers(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    row = table.ELEMENTWISE[name]
    for place in range(1 if row.condition else 0, row.arrays):
        arrays: list[Any] = inputs(name, (33,), dtype)
        number = 0.5 if dtype.itemsize == 2 else 0.7
        operands = [on(backend, x) for x in arrays]
        operands[place] = number
        arrays[place] = np.float32(number) if dtype.itemsize < 8 else number
        verify(name, call(backend, name, operands), arrays, dtype, backend, place)


SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 2.0**-14, -(2.0**-24), 6e4, -6e4)
# where the limit of an indeterminate form is a matter of taste
UNDEFINED = {"silu", "gelu_none", "gelu_tanh", "silu_backward", "gelu_backward_none", "gelu_backward_tanh"}


SIGN_OF_ZERO_IS_FREE = {
    "relu",
    "relu_backward",
    "maximum",
    "minimum",
    "clip",
    "leaky_relu",
    "leaky_relu_backward",
    "elu",
    "nextafter",  # of two zeros: C gives the second, NumPy's float16 the first
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(table.ELEMENTWISE) - UNDEFINED - {"where", "softplus", "elu_backward"}))
def test_special_values(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    count = table.ELEMENTWISE[name].arrays
    values = np.array(list(itertools.product(SPECIAL, repeat=min(count, 2))), dtype).T
    arrays = [*values, *(np.full(values.shape[1], 2.0, dtype) for _ in range(count - 2))]
    result = backend.to_host(call(backend, name, [on(backend, np.ascontiguousarray(x)) for x in arrays]))
    expected = expect(name, arrays, dtype)
    if table.ELEMENTWISE[name].truth:
        np.testing.assert_array_equal(result, expected)
        return
    ulps = 1.51 if dtype.itemsize == 2 else REFERENCES[name][3]
    check(result, expected, dtype, ulps, what=name, scale=1e-4 if name == "logaddexp" else 0)
    if name not in SIGN_OF_ZERO_IS_FREE:
        zero = (expected == 0) & (result == 0)
        np.testing.assert_array_equal(np.signbit(result)[zero], np.signbit(expected)[zero], err_msg=name)


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_casts(backend, source, target):
    source, target = table.dtype_of(source), table.dtype_of(target)
    ties = [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-30, 65520.0, 1e39, *SPECIAL]
    with np.errstate(over="ignore"):
        for x in (np.array(ties).astype(source), draw(1000, source), draw((5, 7), source).T, draw(0, source)):
            result = backend.functions["astype"](on(backend, x), dtype=target)
            check(backend.to_host(result), x.astype(np.float64), target)
    copy = backend.functions["copy"](on(backend, x))
    assert copy.dtype == source


def test_out_may_be_an_operand(backend):
    x, y = draw((33, 70), np.float32), draw((70,), np.float32, 1)
    target = on(backend, x)
    assert backend.functions["add"](target, on(backend, y), out=target) is target
    np.testing.assert_array_equal(backend.to_host(target), x + y)


def test_out_may_be_strided(backend):
    x = draw((6, 8), np.float32)
    target = on(backend, np.zeros((12, 8), np.float32))
    backend.functions["negative"](on(backend, x), out=target[::2])
    np.testing.assert_array_equal(backend.to_host(target)[::2], -x)
    np.testing.assert_array_equal(backend.to_host(target)[1::2], 0)


def test_results_lie_like_their_operands(backend):
    x, y = (on(backend, draw((4, 6), np.float32, seed), lambda a: a.T) for seed in (0, 1))
    assert backend.functions["add"](x, y).strides == x.strides


def test_many_dimensions(backend):
    pairs = [
        ((2, 3, 1, 2, 2, 1, 2, 3), (1, 3, 2, 1, 2, 2, 1, 3)),
        ((2, 1, 2, 1, 2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2, 1, 2, 1, 2)),  # 10 dimensions: more than a kernel takes
    ]
    for shape, other in pairs:
        x, y = draw(shape, np.float32), draw(other, np.float32, 1)
        result = backend.functions["subtract"](on(backend, x), on(backend, y))
        np.testing.assert_array_equal(backend.to_host(result), x - y)


@pytest.mark.parametrize("dtype", [np.int32, bool, np.complex64])
def test_other_dtypes_use_the_array_module(backend, dtype):
    x = np.arange(6).astype(dtype)
    result = backend.to_host(backend.functions["multiply"](on(backend, x), on(backend, x)))
    np.testing.assert_array_equal(result, x * x)
    assert result.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_limit(remake, dtype):
    """Far more work than the launcher takes blocks: the grid-stride loops must do it."""
    limited, dtype = remake(max_grid=1), table.dtype_of(dtype)
    for shape, other in (((3, 4099), (3, 4099)), ((70, 257), (70, 1)), ((65, 33), (33, 65))):
        x, y = draw(shape, dtype), draw(other, dtype, 1)
        view = (lambda a: a.T) if other == (33, 65) else (lambda a: a)
        result = limited.functions["add"](on(limited, x), on(limited, y, view))
        check(limited.to_host(result), x.astype(np.float64) + view(y).astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_index_type(remake, monkeypatch, dtype):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    other, dtype = remake(), table.dtype_of(dtype)
    for shape, view in (((70,), lambda a: a), ((5, 1), lambda a: a), ((5, 70), lambda a: a[::-1, ::-1])):
        x, y = draw((5, 70), dtype), draw(shape, dtype, 1)
        result = other.functions["multiply"](on(other, x), on(other, y, view))
        check(other.to_host(result), x.astype(np.float64) * view(y).astype(np.float64), dtype)


@pytest.mark.parametrize("order", OTHER_ORDERS)
def test_thread_order_changes_nothing(backend, remake, order):
    x, y = draw((33, 70), np.float32), draw((70, 33), np.float32, 1).T
    expected = backend.to_host(backend.functions["divide"](on(backend, x), on(backend, y)))
    other = remake(order=order, seed=3)
    np.testing.assert_array_equal(other.to_host(other.functions["divide"](on(other, x), on(other, y))), expected)


def test_host_arrays_of_any_make(backend):
    """Wrong byte order, unaligned, strided, read-only: what arrives are the values."""
    x = draw((4, 6), np.float32)
    raw = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 6)
    frozen = x.copy()
    frozen.flags.writeable = False
    for host in (x.astype(">f4"), raw, x.T.copy().T, frozen, x[::-1][::-1]):
        for copy in (True, False):
            given = backend.from_host(host, copy=copy)
            np.testing.assert_array_equal(backend.to_host(backend.functions["negative"](given)), -x)
