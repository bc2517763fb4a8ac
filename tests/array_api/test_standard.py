"""The array API standard, revision 2025.12: every name, with its signature, and the promotion of dtypes."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest

import gpu_backprop as gb

UNARY = """
abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log
log10 log1p log2 logical_not negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc
"""
BINARY = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal floor_divide
greater greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply
nextafter not_equal pow remainder subtract
"""
FUNCTIONS = {  # signature -> names
    # creation
    "(start, /, stop=None, step=1, *, dtype=None, device=None)": "arange",
    "(obj, /, *, dtype=None, device=None, copy=None)": "asarray",
    "(shape, *, dtype=None, device=None)": "empty ones zeros",
    "(x, /, *, dtype=None, device=None)": "empty_like ones_like zeros_like",
    "(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)": "eye",
    "(x, /, *, device=None, copy=None)": "from_dlpack",
    "(shape, fill_value, *, dtype=None, device=None)": "full",
    "(x, /, fill_value, *, dtype=None, device=None)": "full_like",
    "(start, stop, /, num, *, dtype=None, device=None, endpoint=True)": "linspace",
    "(*arrays, indexing='xy')": "meshgrid",
    "(x, /, *, k=0)": "tril triu",
    # data types
    "(x, dtype, /, *, copy=True, device=None)": "astype",
    "(from_, to, /)": "can_cast",
    "(type, /)": "finfo iinfo",
    "(dtype, kind)": "isdtype",
    "(*arrays_and_dtypes)": "result_type",
    # elementwise, and other functions of one or two arrays alone
    "(x, /)": f"{UNARY} matrix_transpose nonzero unique_all unique_counts unique_inverse unique_values",
    "(x1, x2, /)": f"{BINARY} matmul",
    "(x, /, min=None, max=None)": "clip",
    # indexing, linear algebra
    "(x, indices, /, *, axis=None)": "take",
    "(x, indices, /, *, axis=-1)": "take_along_axis",
    "(x1, x2, /, *, axes=2)": "tensordot",
    "(x1, x2, /, *, axis=-1)": "vecdot",
    # manipulation
    "(*arrays)": "broadcast_arrays",
    "(*shapes)": "broadcast_shapes",
    "(x, /, shape)": "broadcast_to",
    "(arrays, /, *, axis=0)": "concat stack",
    "(x, /, axis)": "expand_dims squeeze",
    "(x, /, *, axis=None)": "flip",
    "(x, source, destination, /)": "moveaxis",
    "(x, /, axes)": "permute_dims",
    "(x, repeats, /, *, axis=None)": "repeat",
    "(x, /, shape, *, copy=None)": "reshape",
    "(x, /, shift, *, axis=None)": "roll",
    "(x, repetitions, /)": "tile",
    "(x, /, *, axis=0)": "unstack",
    # searching, sets, sorting
    "(x1, x2, /, *, side='left', sorter=None)": "searchsorted",
    "(condition, x1, x2, /)": "where",
    "(x1, x2, /, *, invert=False)": "isin",
    "(x, /, *, axis=-1, descending=False, stable=True)": "argsort sort",
    # statistics, utilities
    "(x, /, *, axis=None, keepdims=False)": "argmax argmin count_nonzero max mean min all any",
    "(x, /, *, axis=None, dtype=None, include_initial=False)": "cumulative_prod cumulative_sum",
    "(x, /, *, axis=None, dtype=None, keepdims=False)": "prod sum",
    "(x, /, *, axis=None, correction=0.0, keepdims=False)": "std var",
    "(x, /, *, axis=-1, n=1, prepend=None, append=None)": "diff",
    "()": "__array_namespace_info__",
}
LINALG = {
    "(x, /, *, upper=False)": "cholesky",
    "(x1, x2, /, *, axis=-1)": "cross vecdot",
    "(x, /)": "det eig eigh eigvals eigvalsh inv matrix_transpose slogdet svdvals",
    "(x, /, *, offset=0)": "diagonal",
    "(x1, x2, /)": "matmul outer solve",
    "(x, /, *, keepdims=False, ord='fro')": "matrix_norm",
    "(x, n, /)": "matrix_power",
    "(x, /, *, rtol=None)": "matrix_rank pinv",
    "(x, /, *, mode='reduced')": "qr",
    "(x, /, *, full_matrices=True)": "svd",
    "(x1, x2, /, *, axes=2)": "tensordot",
    "(x, /, *, offset=0, dtype=None)": "trace",
    "(x, /, *, axis=None, keepdims=False, ord=2)": "vector_norm",
}
FFT = {
    "(x, /, *, n=None, axis=-1, norm='backward')": "fft hfft ifft ihfft irfft rfft",
    "(x, /, *, s=None, axes=None, norm='backward')": "fftn ifftn irfftn rfftn",
    "(n, /, *, d=1.0, dtype=None, device=None)": "fftfreq rfftfreq",
    "(x, /, *, axes=None)": "fftshift ifftshift",
}
INFO = {
    "()": "capabilities default_device devices",
    "(*, device=None)": "default_dtypes",
    "(*, device=None, kind=None)": "dtypes",
}
OPERATORS = ("add", "and", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift", "sub", "truediv", "xor")
COMPARISONS = ("eq", "ge", "gt", "le", "lt", "ne")
METHODS = {
    "(self, /)": "__abs__ __bool__ __complex__ __dlpack_device__ __float__ __index__ __int__ __invert__ __neg__ "
    "__pos__",
    "(self, other, /)": " ".join(
        f"__{prefix}{name}__"
        for name in OPERATORS + COMPARISONS
        for prefix in ("", *("ri" if name in OPERATORS else ""))
    ),
    "(self, key, /)": "__getitem__",
    "(self, key, value, /)": "__setitem__",
    "(self, /, *, api_version=None)": "__array_namespace__",
    "(self, /, *, stream=None, max_version=None, dl_device=None, copy=None)": "__dlpack__",
    "(self, device, /, *, stream=None)": "to_device",
}
ATTRIBUTES = "T device dtype mT ndim shape size"
CONSTANTS = {"e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None, "pi": math.pi}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("bool", *INTEGERS, "float32", "float64", "complex64", "complex128")


def rows(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, signature) for signature, names in table.items() for name in names.split()]


KEYWORD, FREE = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
VARIADIC = inspect.Parameter.VAR_POSITIONAL


def parameters(function) -> list[tuple]:  # type: ignore[no-untyped-def, type-arg]
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def standard(signature: str) -> list[tuple]:  # type: ignore[type-arg]
    made: dict = {}
    exec(f"def function{signature}: ...", made)
    return parameters(made["function"])


@pytest.mark.parametrize(
    ("owner", "name", "signature"),
    [
        *(("", *row) for row in rows(FUNCTIONS)),
        *(("linalg", *row) for row in rows(LINALG)),
        *(("fft", *row) for row in rows(FFT)),
        *(("info", *row) for row in rows(INFO)),
    ],
)
def test_functions(owner: str, name: str, signature: str) -> None:
    """Called as the standard has it, a function does as the standard says; NumPy's ways to call it may come on top:
    keywords by position, and parameters more."""
    place = gb.__array_namespace_info__() if owner == "info" else getattr(gb, owner) if owner else gb
    found = parameters(getattr(place, name))
    by_name = {parameter[0]: parameter for parameter in found}
    wanted = standard(signature)
    for i, (label, kind, default) in enumerate(wanted):
        if kind in (KEYWORD, VARIADIC, FREE):
            known, found_kind, found_default = by_name[label]
            assert found_kind is kind or (found_kind is FREE and kind is KEYWORD)
            assert kind is KEYWORD or found[i][0] == label
        else:
            known, found_kind, found_default = found[i]
            assert found_kind in (inspect.Parameter.POSITIONAL_ONLY, FREE)
        assert default in (inspect.Parameter.empty, found_default), known
    extra = set(by_name) - {label for label, kind, _ in wanted if kind is not inspect.Parameter.POSITIONAL_ONLY}
    positional = {label for label, *_ in found[: sum(k is inspect.Parameter.POSITIONAL_ONLY for _, k, _ in wanted)]}
    assert all(by_name[label][2] is not inspect.Parameter.empty for label in extra - positional)


@pytest.mark.parametrize(("name", "signature"), rows(METHODS))
def test_methods(name: str, signature: str) -> None:
    """Of operators only how many operands they take counts: Python passes them by position."""
    found, expected = parameters(getattr(gb.Tensor, name)), standard(signature)
    assert len(found) == len(expected)
    if "*" in signature:
        assert found == expected


def test_the_table_is_whole() -> None:
    """As many names as the standard has, so that none is lost from the table."""
    assert [len(rows(table)) for table in (FUNCTIONS, LINALG, FFT, INFO, METHODS)] == [136, 25, 14, 5, 60]


def test_attributes_and_constants() -> None:
    x = gb.zeros((2, 3))
    assert all(hasattr(x, name) for name in ATTRIBUTES.split())
    for name, value in CONSTANTS.items():
        np.testing.assert_equal(getattr(gb, name), value)
    assert gb.__array_api_version__ == "2025.12"


def test_namespaces() -> None:
    x = gb.ones(1)
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2025.12") is gb
    older = x.__array_namespace__(api_version="2024.12")
    assert older.__array_api_version__ == "2024.12"
    assert type(older.meshgrid(x, x)) is type(older.broadcast_arrays(x, x)) is list
    assert type(older.__array_namespace_info__().devices()) is list
    assert older.__array_namespace_info__().capabilities() == gb.__array_namespace_info__().capabilities()
    assert older.sin is gb.sin
    assert "sin" in dir(older)
    with pytest.raises(gb.DataError, match=r"api_version='1999.01'; the newest one here is '2025.12'"):
        x.__array_namespace__(api_version="1999.01")


def test_inspection() -> None:
    info = gb.__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert info.default_device() in info.devices()
    assert "cpu" in info.devices()
    assert tuple(info.dtypes()) == DTYPES
    assert tuple(info.dtypes(kind="unsigned integer")) == INTEGERS[4:]
    assert tuple(info.dtypes(kind=("bool", "complex floating"))) == ("bool", "complex64", "complex128")
    defaults = info.default_dtypes(device="cpu")
    assert {kind: dtype.name for kind, dtype in defaults.items()} == {
        "real floating": "float32", "complex floating": "complex64", "integral": "int64", "indexing": "int64",
    }  # fmt: skip


# dtypes --------------------------------------------------------------------------------------------------------------

SIGNED, UNSIGNED = INTEGERS[:4], INTEGERS[4:]
FLOATS = ("float32", "float64", "complex64", "complex128")


def promoted(a: str, b: str) -> str | None:
    """The standard's table; None where it leaves the result open."""
    for family in (SIGNED, UNSIGNED):
        if a in family and b in family:
            return max(a, b, key=family.index)
    if {a, b} <= {*SIGNED, *UNSIGNED}:
        signed, unsigned = (a, b) if a in SIGNED else (b, a)
        places = max(SIGNED.index(signed), UNSIGNED.index(unsigned) + 1)
        return SIGNED[places] if places < 4 else None
    if a in FLOATS and b in FLOATS:
        wide = "64" in (a[5:], b[5:]) or "128" in (a[7:], b[7:])
        return ("complex128" if wide else "complex64") if "complex" in a + b else "float64" if wide else "float32"
    return a if a == b else None


@pytest.mark.parametrize(("a", "b"), [pair for pair in itertools.product(DTYPES, DTYPES) if promoted(*pair)])
def test_promotion(a: str, b: str) -> None:
    expected = promoted(a, b)
    x, y = gb.ones(2, dtype=a), gb.ones(2, dtype=getattr(gb, b))
    assert gb.result_type(getattr(gb, a), y) == gb.result_type(x, b) == getattr(gb, str(expected))
    results = [gb.where(gb.asarray(True), x, y), gb.concat([x, y])]
    if expected != "bool":
        results += [x + y, x * y, gb.add(y, x)]
    if expected in (*SIGNED, *UNSIGNED, "bool"):
        results += [x & y, gb.bitwise_or(x, y)]
    assert {r.dtype.name for r in results} == {expected}
    assert gb.can_cast(a, str(expected))
    assert gb.can_cast(x, getattr(gb, str(expected)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_promotion_of_python_scalars(dtype: str) -> None:
    x = gb.ones(2, dtype=dtype)
    for scalar, kinds in ((True, "b"), (1, "iufc"), (1.5, "fc"), (1j, "c")):
        if x.dtype.kind in kinds:
            assert gb.result_type(x, scalar) == gb.result_type(dtype, scalar) == x.dtype
            for result in (gb.where(gb.asarray(True), x, scalar), gb.where(gb.asarray(True), scalar, x)):
                assert result.dtype == x.dtype
            if dtype != "bool":
                assert (x + scalar).dtype == gb.multiply(scalar, x).dtype == x.dtype
    if dtype in ("float32", "float64"):
        assert (x * 1j).dtype == promoted(dtype, "complex64")


def test_names_of_dtypes_are_scalar_types() -> None:
    for name in (*DTYPES[1:], "float16", "bfloat16"):
        assert getattr(gb, name) == gb.zeros(1, dtype=name).dtype
        assert getattr(gb, name)(1) == 1
    assert gb.isdtype(gb.float32, "real floating")
    assert gb.isdtype("int8", (gb.int16, "signed integer"))
    assert not gb.isdtype(gb.complex64, gb.complex128)
    assert gb.isdtype(gb.bool, gb.bool)


def test_finfo_and_iinfo() -> None:
    for name, bits in (("float32", 32), ("float64", 64), ("complex64", 32), ("complex128", 64), ("bfloat16", 16)):
        info = gb.finfo(gb.ones(1, dtype=name))
        assert (type(info.eps), type(info.max), type(info.min), type(info.smallest_normal)) == (float,) * 4
        assert info.bits == bits
        assert info.dtype == {"complex64": "float32", "complex128": "float64"}.get(name, name)
        assert info.min == -info.max
    assert gb.finfo(gb.float32).eps == 2.0**-23
    assert gb.finfo("float64").smallest_normal == gb.finfo("float64").tiny == 2.0**-1022
    assert gb.iinfo(gb.int8) == (8, 127, -128, np.dtype("int8"))
    assert type(gb.iinfo("uint64").max) is int
