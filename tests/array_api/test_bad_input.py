"""Bad input: every public function, given anything, gives NumPy's result or an error of ours, and soon.

What a function is given goes by the names of its parameters, so that a new function is tested at once. A result is
compared with that of NumPy's function of the same name (or of an adapter below); those without one are only called.
BAD_INPUT_EXAMPLES is the number of examples a function, BAD_INPUT_DEVICE where they run.
"""

from __future__ import annotations

import inspect
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpu_backprop as gb

EXAMPLES = int(os.environ.get("BAD_INPUT_EXAMPLES", "4"))
DEVICE = os.environ.get("BAD_INPUT_DEVICE", "cpu")
SOON = 2.0  # seconds of this thread
ENORMOUS = [10**12, 2**63 - 1, 2**63, -(2**63) - 1, 10**30]
DTYPES = (*gb.core.dtypes.NAMES,)

NO_ARRAY_FUNCTIONS = {
    *("capture", "checkpoint", "default_device", "device", "devices", "enable_grad", "get_default_dtype"),
    *("get_matmul_precision", "grad", "gradcheck", "hvp", "is_grad_enabled", "jvp", "load", "manual_seed", "no_grad"),
    *("errstate", "get_printoptions", "printoptions", "set_printoptions"),
    *("primitive", "profile", "save", "set_default_device", "set_default_dtype", "set_matmul_precision"),
    *("synchronize", "tune_matmul", "value_and_grad", "vjp"),
}


def public() -> dict[str, Callable[..., Any]]:
    """Every array function by the name that users type behind `gb.`."""
    top = {n: getattr(gb, n) for n in dir(gb) if n not in NO_ARRAY_FUNCTIONS and inspect.isroutine(getattr(gb, n))}
    below = {f"{m}.{n}": getattr(getattr(gb, m), n) for m in ("linalg", "fft") for n in getattr(gb, m).__all__}
    return top | {name: function for name, function in below.items() if inspect.isroutine(function)}


PUBLIC = public()

# ---------------------------------------------------------------------------------------------------------------------
# what functions are given

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 3.0, 7.0, 100.0, math.inf, -math.inf, math.nan]
JUNK = [
    *(None, "text", "", b"bytes", object(), {}, {"a": 1}, {1, 2}, [], (), ((),), [[1, 2], [3]], [1, "a"], [None]),
    *(1.5, math.nan, math.inf, 1j, True, -1, 2**70, slice(None), ..., int, np.float32, len, range(3), NotImplemented),
    *(np.array(["a"]), np.array([None, 1]), np.datetime64("2020-01-01"), np.zeros(2, "i4,f4"), np.ma.array([1, 2])),
    *(np.ma.array([1, 2], mask=[0, 1]), np.zeros(2, np.longdouble), np.array([1.0], ">f8"), np.float64(2.0)),
]
junk = st.sampled_from(JUNK)


@st.composite
def arrays(draw: Any) -> np.ndarray:
    """Few axes and elements (or none), any dtype, and any way to lie in memory."""
    dtype = draw(st.sampled_from([np.dtype(n) for n in DTYPES if n != "bfloat16"]))
    shape = draw(
        st.sampled_from(
            [
                (),
                (0,),
                (1,),
                (2,),
                (3,),
                (5,),
                (2, 2),
                (3, 3),
                (2, 3),
                (1, 3),
                (0, 3),
                (2, 0),
                (2, 3, 3),
                (3, 1, 2),
                (2, 0, 3),
                (1, 1, 1, 2),
                (1,) * 5,
            ]
        )
    )
    layout = draw(st.sampled_from(["whole", "whole", "transposed", "reversed", "second", "broadcast"]))
    whole = shape[::-1] if layout == "transposed" else tuple(2 * n for n in shape) if layout == "second" else shape
    numbers = np.array(NUMBERS if dtype.kind in "fc" and draw(st.booleans()) else [0, 1, 2, 3, 7, 100])
    rng = np.random.default_rng(draw(st.integers(0, 7)))
    x = rng.choice(numbers, () if layout == "broadcast" else whole)
    x = (x + 1j * rng.choice(numbers, x.shape) if dtype.kind == "c" else np.asarray(x)).astype(dtype)
    if dtype.kind in "if":
        x = -x if draw(st.booleans()) else x
    match layout:
        case "transposed":
            return x.T
        case "reversed":
            return x[(slice(None, None, -1),) * x.ndim]
        case "second":
            return x[(slice(1, None, 2),) * x.ndim]
        case "broadcast":
            return np.broadcast_to(x, shape)
    return x


def tensor(x: np.ndarray) -> gb.Tensor:
    return gb.asarray(x, device=DEVICE)


def often(*likely: Any, rarely: Any = junk) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda i: st.one_of(*likely) if i else rarely)


number = often(st.sampled_from(NUMBERS), st.integers(-3, 100), st.sampled_from([1e-3, np.float32(0.5), True]))
integer = often(st.integers(-3, 5), st.integers(-3, 5), st.sampled_from([*ENORMOUS, np.int8(1)]))
whole = st.one_of(
    arrays().map(tensor),
    arrays().map(tensor),
    arrays(),
    arrays().map(lambda x: x.tolist()),
    st.just(gb.asarray([1.0, 2.0], dtype="bfloat16")),
)
array = often(whole, rarely=st.one_of(junk, number, integer))
axis = often(st.none(), st.integers(-3, 2), integer, st.lists(st.integers(-3, 2), max_size=3).map(tuple))
shape = often(st.lists(st.integers(0, 4), max_size=3).map(tuple), st.lists(integer, max_size=3).map(tuple), integer)
dtype = often(st.none(), st.sampled_from([*DTYPES, bool, int, float, complex, np.float16, "longdouble", "M8[s]", "O"]))
flag = st.booleans()
sequence = often(
    st.lists(whole, max_size=3), st.lists(arrays().map(tensor), min_size=1, max_size=1).map(lambda x: x * 2)
)


def word(*words: str) -> st.SearchStrategy[Any]:
    return often(st.sampled_from(words))


# parameters by name; those that are not here are arrays
PARAMETERS = {
    **dict.fromkeys(("axis", "axes", "axis1", "axis2", "axisa", "axisb", "axisc", "source", "destination"), axis),
    **dict.fromkeys(("shape", "s", "dimensions", "shapes", "repetitions", "pad_width"), shape),
    **dict.fromkeys(("dtype", "type", "from_", "to", "arrays_and_dtypes"), dtype),
    **dict.fromkeys(
        ("n", "k", "N", "M", "num", "decimals", "repeats", "shift", "offset", "minlength", "n_rows"), integer
    ),
    **dict.fromkeys(("n_cols", "ndmin", "start", "stop", "step", "edge_order", "indices_or_sections", "bins"), integer),
    **dict.fromkeys(("correction", "ddof", "d", "dx", "tol", "rtol", "atol", "rcond", "period", "nan"), number),
    **dict.fromkeys(("posinf", "neginf", "fill_value", "left", "right", "base", "element", "varargs"), number),
    **dict.fromkeys(
        ("keepdims", "descending", "stable", "copy", "endpoint", "include_initial", "invert", "bias"), flag
    ),
    **dict.fromkeys(
        ("increasing", "upper", "full_matrices", "equal_nan", "rowvar", "returned", "density", "deg"), flag
    ),
    **dict.fromkeys(
        ("return_index", "return_inverse", "return_counts", "hermitian", "requires_grad", "optimize"), flag
    ),
    "where": often(st.booleans(), arrays().map(lambda x: tensor(x != 0)), arrays().map(lambda x: x == 0), rarely=array),
    "initial": often(st.none(), number, rarely=array),
    "q": often(st.sampled_from([0, 0.25, 0.5, 1, [0.1, 0.9]]), number),
    "ord": often(st.sampled_from([None, "fro", "nuc", 1, -1, 2, -2, 0, 3, 0.5, math.inf, -math.inf])),
    "device": often(st.none(), st.sampled_from(["cpu", "nowhere", "cuda:99"])),
    "norm": word("backward", "ortho", "forward"),
    "mode": word(
        "constant", "edge", "reflect", "symmetric", "wrap", "full", "same", "valid", "reduced", "complete", "r"
    ),
    "method": word("linear", "lower", "higher", "midpoint", "nearest", "hazen", "weibull"),
    "indexing": word("xy", "ij"),
    "side": word("left", "right"),
    "order": word("C", "F"),
    "kind": word("integral", "bool", "numeric", "real floating", "float32"),
    "tup": sequence,
    "range": often(st.none(), st.tuples(number, number)),
    "function": st.just(lambda *indices: indices),
    "subscripts": word("ij,jk->ik", "ii", "i->", "...i,...i", "ij->ji", "i,j", "ijk"),
    "unused": st.none(),
    "options": st.none(),
    "more": st.none(),
}
# where the name says something else
OTHERWISE = {
    ("concat", "arrays"): sequence,
    ("concatenate", "arrays"): sequence,
    ("stack", "arrays"): sequence,
    ("linalg.multi_dot", "arrays"): sequence,
    ("block", "arrays"): sequence,
    ("linalg.cond", "p"): word("fro", "nuc") | number,
    ("linalg.matrix_norm", "ord"): PARAMETERS["ord"],
    ("take", "indices"): often(whole, st.lists(st.integers(-3, 2), max_size=4), integer),
    ("fft.fftfreq", "n"): integer,
    ("clip", "min"): number | array,
    ("clip", "max"): number | array,
    ("einsum", "operands"): st.just("ij,jk->ik"),
    ("einsum_path", "operands"): st.just("ij,jk->ik"),
    ("diff", "n"): integer.filter(lambda n: n != 0),
    ("linalg.pinv", "rtol"): st.sampled_from(NUMBERS),
    ("asarray", "copy"): st.sampled_from([None, True, False]),
    ("reshape", "copy"): st.sampled_from([None, True]),
}


@st.composite
def calls(draw: Any, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a function, most of them of the kind that it wants."""
    args: list[Any] = []
    more: dict[str, Any] = {}
    for p in inspect.signature(PUBLIC[name]).parameters.values():
        values = OTHERWISE.get((name, p.name)) or PARAMETERS.get(p.name, array)
        if p.kind is p.VAR_POSITIONAL:
            if not more:
                args += draw(st.lists(values, max_size=3))
        elif p.kind is not p.VAR_KEYWORD and (p.default is p.empty or draw(st.integers(0, 2)) == 0):
            if p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty):
                more[p.name] = draw(values)
            else:
                args.append(draw(values))
        elif p.kind is p.POSITIONAL_ONLY:
            break
    return args, more


# ---------------------------------------------------------------------------------------------------------------------
# what they may give


def floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function for what is no function of integers here."""
    return lambda x, *rest, **more: function(np.asarray(x) * 1.0, *rest, **more)


def keeping_q(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function, which of no elements at all leaves out the axes of q."""

    def call(a: Any, q: Any, **more: Any) -> Any:
        out = function(a, q, **more)
        return out if np.size(a) else np.broadcast_to(out, (*np.shape(q), *np.shape(out)))

    return call


REFERENCES: dict[str, Any] = {
    # of the standard, or of this library, and not in NumPy
    **dict.fromkeys(("tensor", "logsumexp", "isdtype", "finfo", "iinfo", "can_cast", "empty", "empty_like"), None),
    "unique_values": lambda x: np.unique(x, equal_nan=False),  # not sorted in NumPy
    "ascontiguousarray": np.asarray,  # NumPy's gives an axis
    "nanquantile": keeping_q(np.nanquantile),
    "nanpercentile": keeping_q(np.nanpercentile),
    "linalg.multi_dot": lambda arrays: np.linalg.multi_dot([np.asarray(a, np.result_type(*arrays)) for a in arrays]),
    "linalg.matrix_power": floats(np.linalg.matrix_power),
}
# of which only shapes are compared: signs of vectors and orders of values may differ
SHAPES_ONLY = {"linalg.eig", "linalg.eigvals", "linalg.eigh", "linalg.svd", "linalg.qr", "linalg.lstsq", "linalg.cond"}
# which NumPy takes None for otherwise
LEFT_OUT = ("dtype", "initial", "ddof", "correction", "a_min", "a_max", "kind")
# what NumPy says where it has no loop for a dtype, or no array of a list, that is taken here
LENIENT = (
    "not supported",
    "unsupported in linalg",
    "has no attribute",
    "ufunc",
    "read-only",
    "simultaneously",
    "not enough values",
    "forbidden",
    "real numbers",
    "cast",
    "must be inexact",
    "is not iterable",
    "'range' object",
    "sum to zero",
    "ddof must be integer",
    "hould be a NumPy array",
    "integral type",
    "avoid copy",
    "ambiguous",
)


def reference(name: str) -> Any:
    """NumPy's function of that name, if there is one."""
    if name in REFERENCES:
        return REFERENCES[name]
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def as_numpy(x: Any) -> Any:
    if isinstance(x, gb.Tensor):
        return x.numpy().astype(np.float32) if x.dtype.name == "bfloat16" else x.numpy()
    return type(x)(map(as_numpy, x)) if type(x) in (list, tuple) else x


def has(value: Callable[[Any], bool], arguments: Any) -> bool:
    """Is there such a value among the arguments, in lists too?"""
    if isinstance(arguments, (list, tuple)):
        return any(has(value, a) for a in arguments)
    return value(arguments)


def is_narrow(x: Any) -> bool:
    return isinstance(x, (gb.Tensor, np.ndarray, np.generic)) and x.dtype.name in ("bfloat16", "float32", "float16")


def enormous(x: Any) -> bool:
    return isinstance(x, int) and abs(x) >= 10**9


def assert_same(found: Any, expected: Any, values: bool) -> None:
    """Equal in shape, and in kind of dtype and values as far as the promotion rules let them be.

    A Python number takes the dtype of an array here where NumPy makes it an array first, and small integers give the
    default float dtype where NumPy takes a narrow one.
    """
    if not isinstance(found, gb.Tensor):
        if isinstance(expected, (list, tuple)):
            assert len(found) == len(expected), (found, expected)
            for f, e in zip(found, expected):
                assert_same(f, e, values)
        else:
            assert found == expected, (found, expected)
        return
    expected = np.asarray(expected)
    assert found.shape == expected.shape, (found, expected)
    if not 0 < expected.size < 10**6 or not values:
        return
    kinds = {"u": "i"}
    bfloat16 = found.dtype.name == "bfloat16"
    assert "f" in (kind := found.dtype.kind, bfloat16 and "f") or kinds.get(kind, kind) == kinds.get(
        expected.dtype.kind, expected.dtype.kind
    ), (found, expected)
    narrow = max(
        ((x.dtype.itemsize // (2 if x.dtype.kind == "c" else 1)) for x in (found, expected) if x.dtype.kind in "fc"),
        default=8,
        key=lambda n: -n,
    )
    tolerance = 5e-2 if bfloat16 or narrow == 2 else {4: 1e-3}.get(narrow, 1e-9)
    given, wanted = as_numpy(found), expected
    if narrow < 8:
        known = np.isfinite(given) & np.isfinite(wanted)
        given, wanted = given[known], wanted[known]
    np.testing.assert_allclose(given, wanted, rtol=tolerance, atol=tolerance)


def check(name: str, args: list[Any], more: dict[str, Any]) -> None:
    start = time.thread_time()  # not what a compiler takes, or another program
    try:
        found = PUBLIC[name](*args, **more)
    except gb.GpuBackpropError:
        return
    finally:
        assert time.thread_time() - start < SOON, "took too long"
    function = reference(name)
    if function is None or has(enormous, [*args, *more.values()]):
        return
    plain = {
        key: as_numpy(value)
        for key, value in more.items()
        if key != "device" and not (value is None and key in LEFT_OUT)
    }
    try:
        with np.errstate(all="ignore"):
            expected = function(*as_numpy(args), **plain)
    except Exception as error:
        words = str(error)
        if any(word in words for word in LENIENT) or (isinstance(error, TypeError) and "argument" in words):
            return
        raise AssertionError(f"gives {found}, where NumPy says {error!r}") from None
    rough = name in SHAPES_ONLY or (name.startswith("histogram") and has(is_narrow, args))
    assert_same(found, expected, not rough)


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """float64 as the default float dtype, as NumPy has it, and silence from the reference."""
    gb.set_default_dtype("float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    gb.set_default_dtype("float32")


@pytest.mark.parametrize("name", PUBLIC)
def test_anything(name: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 50,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(name))
    def run(call: tuple[list[Any], dict[str, Any]]) -> None:
        check(name, *call)

    run()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, n: gb.zeros(n),
        lambda x, n: gb.full((n, 3), 1.0),
        lambda x, n: gb.empty((2, n)),
        lambda x, n: gb.arange(n),
        lambda x, n: gb.linspace(0, 1, n),
        lambda x, n: gb.eye(n),
        lambda x, n: gb.tri(n),
        lambda x, n: gb.repeat(x, n),
        lambda x, n: gb.tile(x, (n,)),
        lambda x, n: gb.pad(x, n),
        lambda x, n: gb.fft.fft(x, n=n),
        lambda x, n: gb.fft.irfft(x, n=n),
        lambda x, n: gb.fft.fftfreq(n),
        lambda x, n: gb.sum(x, axis=n),
        lambda x, n: gb.expand_dims(x, n),
        lambda x, n: gb.indices((n,)),
        lambda x, n: gb.diag(x, n),
        lambda x, n: gb.array_split(x, n),
        lambda x, n: gb.geomspace(1, 2, n),
        lambda x, n: gb.bincount(gb.asarray([1]), minlength=n),
        lambda x, n: gb.histogram(x, bins=n),
        lambda x, n: gb.vander(x, n),
        lambda x, n: gb.array(x, ndmin=n),
        lambda x, n: gb.reshape(x, (n,)),
    ],
)
@pytest.mark.parametrize("n", [10**12, 2**63, 10**30])
def test_enormous_requests(call: Callable[[gb.Tensor, int], Any], n: int) -> None:
    """Refused at once, by us: an array module that was asked for the memory would be the cause of the error."""
    start = time.perf_counter()
    with pytest.raises(gb.GpuBackpropError, match=":") as info:
        call(gb.asarray([1.0, 2.0, 3.0]), n)
    assert time.perf_counter() - start < 0.5
    assert not isinstance(info.value.__cause__, MemoryError)


@pytest.mark.parametrize(
    ("name", "args", "more"),
    [
        ("angle", [np.array([-1.0, math.inf, -math.inf])], {}),
        ("fmod", [gb.asarray(True), None], {}),
        ("logical_and", [gb.asarray(True), None], {}),
        ("asarray", [[-1]], {"dtype": "uint8"}),
        ("array", [[math.nan]], {"dtype": "int64"}),
        ("array", [np.array([1j])], {"dtype": "float32"}),
        ("linspace", [-3, 1], {"num": 6, "dtype": "int64"}),
        ("polyval", [[], np.array([math.nan])], {}),
        ("concat", [[-2, gb.asarray(1)]], {}),
        ("cov", [[1.0, 2.0]], {}),
        ("block", [[]], {}),
        ("diff", [gb.asarray([1, 2])], {"n": 10**12}),
    ],
)
def test_what_it_found(name: str, args: list[Any], more: dict[str, Any]) -> None:
    """Quiet wrong results and foreign exceptions of the past."""
    check(name, args, more)
