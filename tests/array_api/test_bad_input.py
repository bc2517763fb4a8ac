"""Bad input: every public function, given anything, gives NumPy's result or an error of ours, and soon.

What a function is given goes by the names of its parameters, so that a new function is tested at once. A result is
compared with that of NumPy's function of the same name (or of an adapter below); those without one are only called.
Where more than one Tensor is given, one of them may be on another device. BAD_INPUT_EXAMPLES is the number of examples
a function, BAD_INPUT_DEVICE where they run.
"""

from __future__ import annotations

import inspect
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpu_backprop as gb
from gpu_backprop.core import dtypes

EXAMPLES = int(os.environ.get("BAD_INPUT_EXAMPLES", "4"))
DEVICE = os.environ.get("BAD_INPUT_DEVICE", "cpu")
SOON = 2.0  # seconds of this thread
ENORMOUS = [10**12, 2**63 - 1, 2**63, -(2**63) - 1, 10**30]
OTHER = "emulated" if DEVICE == "cpu" else "cpu"

NO_ARRAY_FUNCTIONS = {
    *("capture", "checkpoint", "default_device", "device", "devices", "enable_grad", "get_default_dtype"),
    *("get_matmul_precision", "grad", "gradcheck", "hvp", "is_grad_enabled", "jvp", "load", "manual_seed", "no_grad"),
    *("errstate", "get_printoptions", "issubdtype", "printoptions", "set_printoptions"),
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
    dtype = draw(st.sampled_from([np.dtype(n) for n in dtypes.NAMES if n != "bfloat16"]))
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
dtype = often(
    st.none(), st.sampled_from([*dtypes.NAMES, bool, int, float, complex, np.float16, "longdouble", "M8[s]", "O"])
)
flag = st.booleans()
sequence = often(
    st.lists(whole, max_size=3), st.lists(arrays().map(tensor), min_size=1, max_size=1).map(lambda x: x * 2)
)


def word(*words: str) -> st.SearchStrategy[Any]:
    return often(st.sampled_from(words))


# parameters by name; those that are not here are arrays
PARAMETERS = {
    **dict.fromkeys(("axis", "axes", "axis1", "axis2", "axisa", "axisb", "axisc", "source", "destination"), axis),
    **dict.fromkeys(("shape", "s", "dimensions", "shapes", "reps", "pad_width"), shape),
    **dict.fromkeys(("kth", "m", "obj"), integer),
    **dict.fromkeys(("assume_unique", "return_indices", "retstep"), flag),
    **dict.fromkeys(("condlist", "choicelist", "keys"), sequence),
    **dict.fromkeys(("discont", "default"), number),
    "UPLO": word("L", "U"),
    "func1d": st.just(lambda vector, *rest: vector[:1] * 2),
    "kwargs": st.none(),
    **dict.fromkeys(("dtype", "type", "from_", "to", "arrays_and_dtypes"), dtype),
    **dict.fromkeys(
        ("n", "k", "N", "M", "num", "decimals", "repeats", "shift", "offset", "minlength", "n_rows"), integer
    ),
    **dict.fromkeys(
        ("n_cols", "ndmin", "start", "stop", "step", "edge_order", "indices_or_sections", "bins", "argnum"), integer
    ),
    **dict.fromkeys(("correction", "ddof", "d", "dx", "tol", "rtol", "atol", "rcond", "period", "nan"), number),
    **dict.fromkeys(("posinf", "neginf", "fill_value", "left", "right", "base", "element", "varargs"), number),
    **dict.fromkeys(
        ("keepdims", "descending", "stable", "copy", "endpoint", "include_initial", "invert", "bias"), flag
    ),
    **dict.fromkeys(
        ("increasing", "upper", "full_matrices", "compute_uv", "equal_nan", "rowvar", "returned", "density", "deg"),
        flag,
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
    ("digitize", "right"): flag,
    ("fft.fftfreq", "n"): integer,
    ("clip", "min"): number | array,
    ("clip", "max"): number | array,
    ("einsum", "operands"): st.just("ij,jk->ik"),
    ("einsum_path", "operands"): st.just("ij,jk->ik"),
    ("diff", "n"): integer.filter(lambda n: not np.array_equal(n, 0)),
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
    places = [*tensors_in(args), *tensors_in(more)]
    if len(places) > 1 and OTHER_IS_THERE and draw(st.integers(0, 3)) == 3:
        container, key = draw(st.sampled_from(places))
        container[key] = container[key].to(OTHER)
    return args, more


def is_there(device: str) -> bool:
    try:
        gb.device(device)
    except gb.DeviceError:
        return False
    return True


OTHER_IS_THERE = is_there(OTHER)


def tensors_in(container: Any) -> Iterator[tuple[Any, Any]]:
    """Where Tensors are in a list or dictionary of arguments, and in the lists below."""
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        if isinstance(value, gb.Tensor):
            yield container, key
        elif isinstance(value, list):
            yield from tensors_in(value)


# ---------------------------------------------------------------------------------------------------------------------
# what they may give


ANYTHING: Any = object()  # the result of what is left open


def floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function for what is no function of integers here."""
    return lambda x, /, *rest, **more: function(np.asarray(x) * 1.0, *rest, **more)


def of_variables(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of no variables beside others, these, which NumPy forgets; of columns also where there is one row (NumPy 2.2)."""

    def call(m: Any, y: Any = None, **more: Any) -> Any:
        if not more.pop("rowvar", True):
            m, y = (v if v is None or np.ndim(v) != 2 else np.transpose(v) for v in (m, y))
        forgotten = not np.size(m) and (y is not None or np.iscomplexobj(m))  # and so is their dtype
        return ANYTHING if forgotten else function(m, y, **more)

    return call


def of_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays, where NumPy has something else for numbers or lists."""
    return lambda *arrays, **more: function(*map(np.asarray, arrays), **more)


def float_power(x1: Any, x2: Any) -> Any:
    """By `power`, which has (-inf) ** 0.5 by its root where the exponent is one number, so as NaN."""
    return np.power(np.asarray(x1) * np.float64(1), x2)


def floor_divide(x1: Any, x2: Any) -> Any:
    """With infinities by the standard's special values: the quotient rounded, where NumPy has NaN or -1."""
    rounded = np.floor_divide(x1, x2)
    if rounded.dtype.kind != "f":
        return rounded
    return np.where(np.isinf(x1) | np.isinf(x2), np.floor(np.divide(x1, x2)), rounded)


def interp(x: Any, xp: Any, fp: Any, **more: Any) -> Any:
    """Between points that ascend; of others, each way of searching finds another.

    And with a period not in narrow dtypes: a remainder rounded to them may be another period's.
    """
    ascends = (np.diff(np.asarray(xp) * 1.0) > 0).all() and np.isfinite(xp).all()
    rounded = more.get("period") is not None and has(is_narrow, [x, xp])
    return np.interp(x, xp, fp, **more) if ascends and not rounded else ANYTHING


def argsort(x: Any, /, *, kind: Any = None, stable: bool = True, **more: Any) -> Any:
    """With equal elements in their order, which NumPy leaves open and this library keeps unless told otherwise."""
    ties = np.unique(x).size < np.size(x)
    return ANYTHING if ties and not stable else np.argsort(x, **more, stable=True)


def without_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays without NaN: those are all different, and their order is left open."""
    return lambda x: ANYTHING if np.isnan(x).any() else function(x)


def of_sets(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays that are sets, where that is promised: nothing is promised of others."""

    def call(ar1: Any, ar2: Any, assume_unique: bool = False, **more: Any) -> Any:
        sets = all(np.unique(ar, equal_nan=False).size == np.size(ar) for ar in (ar1, ar2))
        return ANYTHING if assume_unique and not sets else function(ar1, ar2, assume_unique, **more)

    return call


def partition(a: Any, kth: Any, axis: Any = -1, **more: Any) -> Any:
    """Wholly sorted, as this library has it; NumPy leaves open the order on both sides of `kth`."""
    np.partition(a, kth, axis, **more)
    return np.sort(a, axis)


def argpartition(a: Any, kth: Any, axis: Any = -1, **more: Any) -> Any:
    """Likewise, with equal elements in their order."""
    np.argpartition(a, kth, axis, **more)
    return np.argsort(a, axis, stable=True)


def unwrap(p: Any, *rest: Any, period: Any = 2 * math.pi, **more: Any) -> Any:
    """Of what has negative differences too: those of NumPy's bools and unsigned integers have no sign."""
    p = np.asarray(p)
    if p.dtype.kind in "bu":
        dtype = np.result_type(p, period)
        p = p.astype(np.float64 if dtype.kind in "bu" else dtype)
    return np.unwrap(p, *rest, period=period, **more)


def result_type(*operands: Any) -> Any:
    """With NumPy's float64 and complex128 numbers, which are Python's float and complex, taken for these."""
    return np.result_type(*(x.item() if isinstance(x, (np.float64, np.complex128)) else x for x in operands))


def bincount(x: Any, /, *, weights: Any = None, **more: Any) -> Any:
    """With weights floats, of nothing too."""
    out = np.bincount(x, weights, **more)
    return out if weights is None else out.astype(np.float64)


def signbit(x: Any, /) -> Any:
    """Kernels widen float16 when they read it, and a NaN has no sign then."""
    wide = DEVICE == "cpu" or np.asarray(x).dtype != np.float16
    return np.signbit(x) if wide or not np.isnan(x).any() else ANYTHING


def of_something(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of an array with elements: without any, NumPy reads one that is not there."""
    return lambda x, /, **more: function(x, **more) if np.size(x) else ANYTHING


def multi_dot(arrays: Any) -> Any:
    """Of arrays of one dtype, which NumPy's asks for."""
    arrays = [np.asarray(a) for a in arrays]
    return np.linalg.multi_dot([a.astype(np.result_type(*arrays)) for a in arrays])


def at_shares(function: Callable[..., Any]) -> Callable[..., Any]:
    """With shares in float64, which NumPy rounds to the array's dtype, and with axes, which nan* forget of nothing."""

    def call(a: Any, q: Any, **more: Any) -> Any:
        q = np.asarray(q, np.float64)
        out = function(a, q, **more)
        return (
            out
            if np.size(a) or not function.__name__.startswith("nan")
            else np.broadcast_to(out, (*q.shape, *np.shape(out)))
        )

    return call


REFERENCES: dict[str, Any] = {
    # of the standard, or of this library, and not in NumPy
    **dict.fromkeys(("tensor", "logsumexp", "isdtype", "finfo", "iinfo", "can_cast", "empty", "empty_like"), None),
    "unique_values": lambda x: np.unique(x, equal_nan=False),  # not sorted in NumPy
    **{name: without_nan(getattr(np, name)) for name in ("unique_inverse", "unique_all")},
    "argsort": argsort,
    "ascontiguousarray": np.asarray,  # NumPy's gives an axis
    **{name: at_shares(getattr(np, name)) for name in ("percentile", "quantile", "nanpercentile", "nanquantile")},
    **{name: of_variables(getattr(np, name)) for name in ("cov", "corrcoef")},
    **{name: of_arrays(getattr(np, name)) for name in ("dot", "imag", "inner", "nanmax", "nanmin", "real", "vdot")},
    "float_power": float_power,
    "floor_divide": floor_divide,
    "divmod": lambda x1, x2: (floor_divide(x1, x2), np.remainder(x1, x2)),
    "interp": interp,
    "bincount": bincount,
    "result_type": result_type,
    "partition": partition,
    "signbit": signbit,
    "argpartition": argpartition,
    "unwrap": unwrap,
    **{name: of_sets(getattr(np, name)) for name in ("intersect1d", "setdiff1d")},
    "unique": lambda x, **more: ANYTHING if np.isnan(x).any() and np.iscomplexobj(x) and more else np.unique(x, **more),
    **{f"fft.{name}": of_something(getattr(np.fft, name)) for name in ("hfft", "irfft", "irfft2", "irfftn")},
    "linalg.multi_dot": multi_dot,
    "linalg.matrix_power": floats(np.linalg.matrix_power),
}
# of which only shapes and dtypes are compared: signs of vectors and orders of values may differ
SHAPES_ONLY = {"linalg.eig", "linalg.eigvals", "linalg.eigh", "linalg.svd", "linalg.qr", "linalg.lstsq", "linalg.cond"}
# which NumPy takes None for otherwise
LEFT_OUT = ("append", "prepend", "dtype", "initial", "ddof", "correction", "a_min", "a_max", "kind")
# which give something of Tensors on two devices, and why; nothing else moves a Tensor unseen
MIXES_DEVICES = {
    **dict.fromkeys(("atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays"), "each is by itself"),
    **dict.fromkeys(("ix_", "meshgrid"), "each is by itself"),
    "apply_along_axis": "further arguments are the function's business",
    **dict.fromkeys(("percentile", "quantile", "nanpercentile", "nanquantile"), "the shares are read as numbers"),
    **dict.fromkeys(("full", "full_like"), "the value is read as a number"),
    **dict.fromkeys(("arange", "linspace", "logspace", "geomspace"), "the limits are read as numbers"),
    "histogram_bin_edges": "of weights, only their shape is looked at",
    **dict.fromkeys(("result_type", "can_cast"), "only dtypes are looked at"),
}


class Case(NamedTuple):
    """A dtype of a result, and NumPy's."""

    name: str
    given: list[Any]  # arrays and Python numbers among the arguments, and "bfloat16" if asked for
    found: np.dtype
    expected: np.dtype

    def is_ours(self) -> bool:
        return any(is_so(self) for is_so in OWN_DTYPES.values())

    def is_of_integers(self) -> bool:
        return all(np.result_type(x).kind in "biu" for x in self.given)

    def has_bfloat16(self) -> bool:
        return any(dtypes.is_bfloat16(np.result_type(x)) for x in self.given)

    def is_promoted(self) -> bool:
        return self.found == gb.result_type(*(x.dtype for x in self.given if hasattr(x, "dtype")), 0.0)

    def weak(self) -> Any:
        """The dtype of all arguments together, to which Python numbers add no more than their kind."""
        is_number = [isinstance(x, (int, float, complex)) for x in self.given]  # NumPy's float64, complex128 too
        if not any(is_number) or all(is_number):
            return None
        return gb.result_type(*(x if number else getattr(x, "dtype", x) for x, number in zip(self.given, is_number)))


ANGLES = ("deg2rad", "rad2deg", "degrees", "radians")
QUANTILES = tuple(p + name for p in ("", "nan") for name in ("median", "percentile", "quantile"))
VARIANCES = ("std", "var", "nanstd", "nanvar")
FLOAT = dtypes.float64  # the default dtype of these tests
# Dtypes that are not NumPy's, and why; docs/numpy.md has them too.
OWN_DTYPES: dict[str, Callable[[Case], bool]] = {
    "NumPy has no bfloat16, and is given float32, which is wider beside integers": lambda c: (
        c.has_bfloat16() and (dtypes.is_bfloat16(c.found) or (c.found, c.expected) == ("float32", "float64"))
    ),
    "integers give the default float dtype, not the narrowest": lambda c: (
        c.found == FLOAT and c.expected.name in ("float16", "float32") and c.is_of_integers()
    ),
    "a Python number takes the dtype of the arrays beside it everywhere": lambda c: (
        c.weak() is not None and c.found == c.weak()  # np.dtype("float64") == None is True
    ),
    "statistics keep the dtype of the floats, where NumPy takes float64 at least": lambda c: (
        c.name in ("average", "bincount", "corrcoef", "cov", "interp") and c.expected == np.result_type(c.found, FLOAT)
    ),
    "quantiles are floats, of the dtype of the array's, whatever the shares": lambda c: (
        c.name in QUANTILES and c.found == (FLOAT if np.result_type(c.given[0]).kind in "biu" else c.given[0].dtype)
    ),
    "variances are real": lambda c: c.name in VARIANCES and c.found == dtypes.real_of(c.expected),
    "eigenvalues are complex, as the standard has it": lambda c: (
        c.name in ("linalg.eig", "linalg.eigvals") and c.found == dtypes.complex_of(c.expected)
    ),
    "a float dtype does not become an integer one where there are no elements": lambda c: (
        c.name == "linalg.pinv" and c.found == FLOAT and c.expected.kind in "biu"
    ),
    "edges of bins are float64, or of the dtype of the floats between them": lambda c: (
        c.name.startswith("histogram")
        and c.expected == "float32"
        and c.found in (FLOAT, getattr(c.given[0], "dtype", FLOAT))
    ),
    "matrices promote as all arrays do, where NumPy takes float64 beside integers": lambda c: (
        c.name in ("linalg.lstsq", "linalg.solve") and c.expected in ("float64", "complex128") and c.is_promoted()
    ),
    "ranks are int64": lambda c: c.name == "linalg.lstsq" and (c.found, c.expected) == ("int64", "int32"),
    "16-bit floats are transformed in float32": lambda c: (
        c.name.startswith("fft.") and c.expected == "float16" and c.found == "float32"
    ),
}

# What NumPy says where something is taken here: of which functions, and why.
OVER_AXES = tuple(name for name, function in PUBLIC.items() if "axis" in inspect.signature(function).parameters)
SEVERAL_AXES = tuple(name for name in PUBLIC if name.startswith("fft.") and name[-1] in "n2")
LENIENT: list[tuple[str, tuple[str, ...], str]] = [
    ("array type float16 is unsupported", tuple(n for n in PUBLIC if n.startswith("linalg.")), "float32 computes it"),
    ("'list' object cannot be interpreted", tuple(PUBLIC), "a list of axes is like a tuple of them"),
    ("'range' object cannot be interpreted", tuple(PUBLIC), "and so is a range"),
    ("an integer or a tuple of integers", OVER_AXES, "likewise"),
    ("only integer scalar arrays", OVER_AXES, "and an array of integers"),
    ("is not iterable", ("fromfunction", "indices", *SEVERAL_AXES), "an integer is one length, or one axis"),
    ("'int' has no len()", SEVERAL_AXES, "an integer is one length, or one axis"),
    ("is forbidden", ("clip",), "None for one of its two names is as if it were not given"),
    ("argument 'dtype'", ("fft.fftfreq", "fft.rfftfreq"), "an argument of the standard"),
    (
        "has no attribute",
        ("astype", "rollaxis", "split", "array_split", *(f"{d}split" for d in "dhv"), "take_along_axis", "unstack"),
        "lists are arrays",
    ),
    ("hould be a NumPy array", ("astype",), "lists are arrays"),
    ("argument 'descending'", ("argsort", "sort"), "an argument of the standard"),
    ("required positional argument: 'a_", ("clip",), "one bound is enough"),
    ("output from dtype('float64') to dtype('bool')", ("around", "round"), "bools are round"),
    ("ufunc 'positive'", ("clip", "positive"), "bools stay what they are"),
    ("not supported for the input types", (*ANGLES, "fabs"), "complex numbers have multiples and magnitudes"),
    ("numpy boolean subtract", ("gradient", *QUANTILES), "bools are numbers there"),
    ("cannot reshape array of size 0", QUANTILES, "over no axes, no elements are no elements"),
    ("zero-size array to reduction", QUANTILES, "of no shares there are no quantiles"),
    ("Cannot cast array data", ("bincount",), "an array without elements counts nothing, in any dtype"),
    ("provided simultaneously", VARIANCES, "correction=0, the default, is like none"),
    ("arrays is a tuple", ("block",), "a tuple is like a list"),
    ("division by zero", ("average",), "the mean of nothing is NaN, as gb.mean has it"),
    ("sum to zero", ("average", "cov"), "divided by 0: a GPU is not waited for"),
    ("arange() is only supported for booleans", ("indices", "fromfunction"), "which are cast"),
    ("Only length-1 arrays", ("interp",), "left and right broadcast"),
    ("read-only", ("nan_to_num",), "the result is always an array of its own"),
    ("Unable to avoid copy", ("nan_to_num",), "the result is always an array of its own"),
    ("not enough values to unpack", ("fft.fftshift", "fft.ifftshift"), "no axes, no shift"),
]


def reference(name: str) -> Any:
    """NumPy's function of that name, if there is one."""
    if name in REFERENCES:
        return REFERENCES[name]
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def is_bfloat16(x: Any) -> bool:
    """Is it the dtype that NumPy has not, or its name?"""
    return isinstance(x, (str, np.dtype)) and x == "bfloat16"


def as_numpy(x: Any) -> Any:
    if isinstance(x, gb.Tensor):
        return x.numpy().astype(np.float32) if x.dtype.name == "bfloat16" else x.numpy()
    if isinstance(x, np.ma.MaskedArray):  # without masks; their own methods do not take all that ours do
        return np.asarray(x)
    if is_bfloat16(x):
        return "float32"
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


def leaves(arguments: Any) -> Iterator[Any]:
    """The arrays and Python numbers among the arguments, and the dtype that NumPy has not."""
    if isinstance(arguments, (list, tuple)):
        for argument in arguments:
            yield from leaves(argument)
    elif isinstance(arguments, (gb.Tensor, np.ndarray, np.generic, int, float, complex)):
        yield arguments.array if isinstance(arguments, gb.Tensor) else arguments
    elif is_bfloat16(arguments):
        yield arguments


def assert_same(name: str, given: list[Any], found: Any, expected: Any, values: bool) -> None:
    """Equal in shape, in dtype but for what OWN_DTYPES lists, and in values as far as the narrower dtype holds them."""
    if expected is ANYTHING:
        return
    if not isinstance(found, gb.Tensor):
        if isinstance(expected, (list, tuple)):
            assert len(found) == len(expected), (found, expected)
            for f, e in zip(found, expected):
                assert_same(name, given, f, e, values)
        else:
            case = Case(name, given, found, expected)
            same = found == expected or (found != found and expected != expected)
            assert same or (isinstance(found, np.dtype) and case.is_ours()), case
        return
    expected = np.asarray(expected)
    assert found.dtype.name in dtypes.NAMES, found
    assert found.shape == expected.shape, (found, expected)
    case = Case(name, given, found.dtype, expected.dtype.newbyteorder("="))
    if case.found != case.expected:
        assert case.is_ours(), (*case, found, expected)
        if case.found.kind in "iu" and case.expected.kind in "iu":
            expected = expected.astype(case.found)  # which overflows alike
        if case.found.kind in "iu" and case.expected.kind == "f":  # uint64 beside a Python number, which wraps here
            return
        if name == "nextafter":  # a step of another dtype is another
            return
    if not 0 < expected.size < 10**6 or not values:
        return
    bits = [np.finfo(dtypes.real_of(d)).bits for d in case[2:] if d.kind in "fc"]
    narrow = 16 if dtypes.is_bfloat16(found.dtype) else min(bits, default=64)
    tolerance = {16: 5e-2, 32: 1e-3, 64: 1e-9}[narrow]
    given_, wanted = as_numpy(found), expected
    # Products of complex infinities have many rules; between infinities, NumPy's quantiles are NaN.
    if narrow < 64 or "c" in (case.found.kind, case.expected.kind) or name in QUANTILES:
        known = np.isfinite(given_) & np.isfinite(wanted)
        given_, wanted = given_[known], wanted[known]
    np.testing.assert_allclose(given_, wanted, rtol=tolerance, atol=tolerance)


def check(name: str, args: list[Any], more: dict[str, Any]) -> None:
    start = time.thread_time()  # not what a compiler takes, or another program
    try:
        found = PUBLIC[name](*args, **more)
        gb.synchronize(DEVICE)  # where a GPU reports an index out of range
    except gb.GpuBackpropError:
        return
    finally:
        assert time.thread_time() - start < SOON, "took too long"
    tensors = [container[key] for arguments in (args, more) for container, key in tensors_in(arguments)]
    if len({t.device for t in tensors}) > 1:
        assert name in MIXES_DEVICES or callable(found), f"moved something from one device to another: {found}"
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
        if any(words in str(error) and name in names for words, names, _ in LENIENT):
            return
        raise AssertionError(f"gives {found}, where NumPy says {error!r}") from None
    of_numbers = name.startswith("histogram") or name.endswith("fftfreq")  # whose dtypes NumPy keeps
    rough = name in SHAPES_ONLY or (of_numbers and has(is_narrow, [*args, *more.values()]))
    assert_same(name, [*leaves([*args, *more.values()])], found, expected, not rough)


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
        ("asarray", [[-1.0]], {"dtype": "uint64"}),
        ("asarray", [[1.5, 300.0]], {"dtype": "uint8"}),
        ("array", [[math.nan]], {"dtype": "int64"}),
        ("array", [np.array([1j])], {"dtype": "float32"}),
        ("linspace", [-3, 1], {"num": 6, "dtype": "int64"}),
        ("astype", [gb.asarray(True), "bool"], {"device": int}),
        ("polyval", [[], True], {}),
        ("float_power", [gb.asarray([1, 2], dtype="bfloat16"), 0.001], {}),
        ("polyval", [[], np.array([math.nan])], {}),
        ("concat", [[-2, gb.asarray(1)]], {}),
        ("cov", [[1.0, 2.0]], {}),
        ("block", [[]], {}),
        ("diff", [gb.asarray([1, 2])], {"n": 10**12}),
        ("arange", [np.int8(1), 10**12], {}),
        ("arange", [10**30, 5], {}),
        ("full", [(2,), [[1, 2], [3]]], {}),
        ("min", [[[1.0, 2.0]]], {"axis": True}),
        ("divmod", [None, gb.asarray(np.zeros((2, 0), complex))], {}),
        ("clip", [[1, 2]], {"min": 0, "a_min": 1, "a_max": 3}),
        ("cov", [[-100, -1]], {"aweights": gb.asarray([1.0, 2.0], dtype="bfloat16")}),
        ("cov", [[1.0, 2.0]], {"ddof": math.inf}),
        ("cov", [[[1.0, 2.0, 4.0]]], {"rowvar": False}),
        ("diff", [[1, 2]], {"prepend": 0.5}),
        ("diff", [[True]], {"append": 100}),
        ("cov", [[1, 2]], {"dtype": "int32"}),
        ("interp", [[1j], [1.0, 2.0], [3.0, 4.0]], {}),
        ("trapezoid", [[1.0, 2.0]], {"x": [[-7, 0], [-7, -7]]}),
        ("average", [np.array([100, 7], np.int8)], {"weights": np.array([100, 7], np.int8)}),
        ("nan_to_num", [[math.nan]], {"nan": 1j}),
        ("around", [[True]], {"decimals": 1}),
        ("vander", [[1, 2]], {"N": -1}),
        ("var", [[1.0, 2.0]], {"ddof": 1, "correction": np.array([1, 2])}),
        ("fft.irfft", [[1.0, 2.0]], {"n": -1}),
        ("triu", [np.ones((2, 2))], {"k": range(1)}),
        ("where", [gb.asarray([1.0], dtype="float16"), gb.asarray([0.1]), gb.asarray([0.2])], {}),
        ("split", [[1, 2], np.float32], {}),
        ("clip", [29, 0.5, gb.asarray([1, 40])], {}),
        ("unique", [[math.nan, 1.0, math.nan, 1.0]], {"return_inverse": True, "return_counts": True}),
        ("linalg.matrix_norm", [[[1.0]]], {"ord": np.array([1, 2])}),
        ("linalg.norm", [[[1.0]]], {"ord": np.array([1, 2])}),
        ("linalg.cond", [[[1.0]], np.array([1, 2])], {}),
        ("linalg.qr", [[[1.0]]], {"mode": np.array([1, 2])}),
        ("linalg.lstsq", [np.ones((2, 2), np.float32), np.ones(2, np.uint32)], {}),
        ("linalg.pinv", [np.ones((2, 2))], {"rcond": 0.5, "rtol": 0.0}),
        ("concat", [[np.array(100, np.int8), 100]], {"axis": None}),
        ("digitize", [[1j], []], {}),
        ("digitize", [[1.0], [1, 3, 2]], {}),
        ("nan_to_num", [2.0], {"nan": [1.0, 2.0]}),
        ("nan_to_num", [[math.nan]], {"nan": None}),
        ("nan_to_num", [[math.inf]], {"nan": 5, "posinf": math.nan}),
        ("nan_to_num", [np.array([math.inf], np.float32)], {"posinf": np.array([5.0])}),
        ("insert", [[], 1, []], {}),
        ("insert", [[True], 2**63, [1, 2]], {}),
        ("delete", [[1, 2], slice(None, None, 0)], {}),
        ("delete", [[1, 2], [[1, 2], [3]]], {}),
        ("tril_indices", [0], {"m": 10**12}),
        ("average", [np.ones(2, np.float32)], {"weights": np.array([1, 2], np.int8)}),
        ("fft.irfftn", [[1.0, 2.0, 3.0]], {"s": (-1,)}),
        ("rollaxis", [[[1]], 0], {"start": np.array([None, 1])}),
        ("add", [gb.asarray([1.0], dtype="float16"), np.float32(0.5)], {}),
        ("linalg.cholesky", [np.array([[2.0, 3.0], [7.0, 100.0]])], {"upper": True}),
        ("convolve", [np.array([100, 3]), np.array([-math.inf, 7])], {}),
        ("cov", [0], {"ddof": 2, "fweights": [1]}),
        ("gradient", [[1.0, 2.0]], {"axis": (0, 0)}),
        ("histogram", [0.0], {"bins": range(3)}),
        ("hstack", [[np.uint8(1), np.int8(1), np.float16(1)]], {}),
        ("linalg.pinv", [np.ones((2, 2))], {"rcond": []}),
        ("pad", [1.5, -1], {}),
        ("reshape", [[1, 2], (2, 1)], {"order": np.array([None, 1])}),
        ("searchsorted", [[1.0, 2.0], []], {"sorter": 0.0}),
        ("unravel_index", [np.zeros(2, int), ()], {}),
        ("unwrap", [np.array([0, 1, 2, -1, 0], np.int8)], {"period": 4}),
        ("unwrap", [[0, 1, 2, 5, 0]], {"period": 3}),
    ],
)
def test_what_it_found(name: str, args: list[Any], more: dict[str, Any]) -> None:
    """Quiet wrong results and foreign exceptions of the past."""
    check(name, args, more)


@pytest.mark.skipif(not OTHER_IS_THERE, reason=f"{OTHER} is not there")
@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: gb.add(x, y),
        lambda x, y: gb.asarray([x, y]),
        lambda x, y: gb.asarray([gb.ones(3, device=DEVICE).requires_grad_(), y]),
        lambda x, y: gb.tensor([[x], [y]]),
        lambda x, y: gb.take(x, gb.astype(y, "int64")),
        lambda x, y: gb.bincount(gb.asarray([], dtype="int64", device=DEVICE), weights=y[:0]),
        lambda x, y: gb.cov(x, aweights=y),
        lambda x, y: gb.histogram(x, bins=y),
        lambda x, y: gb.histogram(x, weights=y),
        lambda x, y: gb.linalg.pinv(gb.eye(3, device=DEVICE), rtol=y[0]),
    ],
)
def test_nothing_moves_unseen(call: Callable[[gb.Tensor, gb.Tensor], Any]) -> None:
    """Operands on two devices are an error, be one of them an option or in a list."""
    x = np.arange(3.0)
    with pytest.raises(gb.DeviceError, match=r"move (one|some) with"):
        call(tensor(x), tensor(x).to(OTHER))


def test_lists_of_tensors_go_where_they_are() -> None:
    if OTHER_IS_THERE:
        x = gb.ones(2, device=OTHER)
        assert gb.asarray([x, x]).device.name == gb.tensor([[x]]).device.name == OTHER
