"""The compiled path of the cpu device: passes of kernels/cpu/passes.cpp in the place of NumPy's functions.

A pass takes what the NumPy function of its name takes and gives what it gives. It looks at its arrays itself, in C++;
what it is not made for (strides, other dtypes, rare options, labels out of range) it leaves to the NumPy function. So
nothing is lost without a compiler, or with GPU_BACKPROP_COMPILED=0, but time.

The library is compiled when a pass is first looked up, and lies in the cache from then on. A compiler that fails costs
a warning. `bind(...)` fixes the arguments of a call: it returns a function without arguments that does the call again
on the same arrays, for a fraction of the price. `in_turn` makes many of them with one call into the library; matrix
products join in through the BLAS that NumPy itself has loaded.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import GpuBackpropError
from . import base

Array = Any
Function = Callable[..., Any]

_NONE, _MEAN, _SUM = range(3)
_REDUCTIONS = {"none": _NONE, "mean": _MEAN, "sum": _SUM}
# what NumPy's builds call OpenBLAS's functions, and whether its integers have 64 bits
_OPENBLAS = (
    ("scipy_cblas_{}64_", "scipy_openblas_{}_num_threads64_", 1),
    ("cblas_{}64_", "openblas_{}_num_threads64_", 1),
    ("scipy_cblas_{}", "scipy_openblas_{}_num_threads", 0),
    ("cblas_{}", "openblas_{}_num_threads", 0),
)
_SMALL = 1 << 16  # products of sizes: below, OpenBLAS uses one thread, and np.dot costs least
_TYPES: dict[str, Any] = {"o": ctypes.py_object, "i": ctypes.c_int, "q": ctypes.c_longlong, "p": ctypes.c_void_p}


# -------------------------------------------------------------------------------------------------------- the library


class _Loaded(NamedTuple):
    library: ctypes.CDLL | None
    status: str  # what serves, and what to do about it


@functools.cache
def _load() -> _Loaded:
    """The library, compiled if the cache lacks it, or why there is none."""
    if os.environ.get("GPU_BACKPROP_COMPILED") == "0":
        return _Loaded(None, "NumPy's, for GPU_BACKPROP_COMPILED=0")
    from . import host_compiler

    try:
        program = host_compiler.compiler("the compiled path of the cpu device")[0]
    except GpuBackpropError as error:
        return _Loaded(None, f"NumPy's: {error}")
    try:
        library = ctypes.CDLL(str(host_compiler.passes()))
        _introduce(library)
        _introduce_blas(library)
    except (GpuBackpropError, OSError, AttributeError) as error:
        warnings.warn(f"the cpu device works without compiled passes, more slowly: {error}", RuntimeWarning, 3)
        return _Loaded(None, f"NumPy's, for the compiled ones failed: {error}")
    return _Loaded(library, f"compiled with {program}")


def _introduce(library: ctypes.CDLL) -> None:
    """Tell the library what NumPy's arrays look like in memory, and see whether it reads them right."""
    header = object.__basicsize__
    _native(library, "setup", "p" * 7)(
        header, id(np.ndarray), id(None), *(id(np.dtype(name)) for name in ("float32", "float64", "float16", "int64"))
    )
    probe = _native(library, "probe", "opqqi")
    x = np.arange(6.0).reshape(2, 3)
    frozen = x[1:].view()
    frozen.flags.writeable = False
    seen = [
        not probe(x, x.ctypes.data, 2, 3, 1),
        not probe(frozen, x.ctypes.data + 24, 1, 3, 0),
        *(probe(other, x.ctypes.data, 2, 3, 1) for other in (x.T, x[:, :2], x.astype(">f8"), x.tolist(), None)),
    ]
    if not all(seen):
        raise OSError(f"NumPy {np.__version__} lays its arrays out in an unknown way; set GPU_BACKPROP_COMPILED=0")


def _introduce_blas(library: ctypes.CDLL) -> None:
    """Tell the library where NumPy's BLAS is, if it is an OpenBLAS whose small products have the bits of np.dot."""
    know = _native(library, "know_blas", "ppppppi")
    know(*[None] * 6, 0)
    try:
        loaded = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return
    for product, threads, wide in _OPENBLAS:
        names = [product.format(kind) for kind in ("sgemm", "dgemm", "sgemv", "dgemv")]
        names += [threads.format(verb) for verb in ("get", "set")]
        try:
            found = [ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value for name in names]
        except AttributeError:
            continue
        know(*found, wide)
        if not _multiplies_alike(_native(library, "matmul", "ooo")):
            know(*[None] * 6, 0)
        return


def _multiplies_alike(matmul: Any) -> bool:
    for dtype in (np.float32, np.float64):
        x, y = (np.sin(np.arange(n * m, dtype=dtype)).reshape(n, m) for n, m in ((17, 33), (33, 9)))
        for a, b in ((x, y), (x.T.copy().T, y), (x, y.T.copy().T), (x[:1], y), (x[:1], y.T.copy().T)):
            out = np.empty((len(a), 9), dtype)
            if matmul(a, b, out) or out.tobytes() != np.dot(a, b).tobytes():
                return False
    return True


def _native(library: ctypes.CDLL, name: str, types: str) -> Any:
    function = getattr(library, f"gb_{name}")
    function.argtypes = [_TYPES[t] for t in types]
    return function


def status() -> str:
    """Which passes serve on this machine, for `gpu-backprop info`."""
    return _load().status


# ----------------------------------------------------------------------------------------------------------- one pass

Call = tuple[tuple[Any, ...], Any]  # arguments of the C++ function, and the result


class Bound:
    """A call whose arguments are fixed: by itself, or a part of a sequence (`in_turn`).

    operands: objects and integers, as the pass takes them. numpy: does the same where the pass refuses.
    """

    __slots__ = ("arguments", "native", "numpy", "operands", "packed", "result")

    def __init__(self, native: Any, name: str, operands: tuple[Any, ...], numpy: Function, result: Any):
        self.native, self.numpy, self.result = native, numpy, result
        self.operands = operands  # whose addresses are below
        values = (id(x) if kind is ctypes.py_object else x for kind, x in zip(native.argtypes, operands))
        self.arguments = (ctypes.c_longlong * len(operands))(*values)
        library = _load().library
        self.packed = _native(library, f"packed_{name}", "p")  # type: ignore[arg-type]

    def __call__(self) -> Any:
        return self.numpy() if self.packed(self.arguments) else self.result


class _Entry(ctypes.Structure):
    _fields_ = (("run", ctypes.c_void_p), ("arguments", ctypes.c_void_p))


def in_turn(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """Calls, one after the other, as one; those that are Bound and neighbours, by one call into the library."""
    steps: list[Callable[[], Any]] = []
    for bound, group in itertools.groupby(calls, lambda call: isinstance(call, Bound)):
        members = list(group)
        steps += [_one_call(members)] if bound and len(members) > 1 else members
    return steps[0] if len(steps) == 1 else base.in_turn(steps)


def _one_call(calls: Sequence[Any]) -> Callable[[], Any]:
    library, count = _load().library, len(calls)
    rows = (_Entry(ctypes.cast(c.packed, ctypes.c_void_p), ctypes.addressof(c.arguments)) for c in calls)
    entries = (_Entry * count)(*rows)
    native = _native(library, "in_turn", "pii")  # type: ignore[arg-type]
    table, start, end = ctypes.c_void_p(ctypes.addressof(entries)), ctypes.c_int(0), ctypes.c_int(count)

    def run() -> None:
        done = native(table, start, end)
        while done < count:
            calls[done].numpy()
            done = native(table, done + 1, end)

    run.keeps = entries, calls  # type: ignore[attr-defined]
    return run


class Pass:
    """A compiled pass. `arguments` turns a call into the C++ function's arguments; None: a call for NumPy."""

    __slots__ = ("arguments", "name", "native", "numpy")

    def __init__(self, native: Any, name: str, numpy: Function, arguments: Callable[..., Call | None]):
        self.native = native
        self.name = name
        self.numpy = numpy
        self.arguments = arguments

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        call = self.arguments(*operands, **attrs)
        if call is None or self.native(*call[0]):
            return self.numpy(*operands, **attrs)
        return call[1]

    def bind(self, *operands: Any, **attrs: Any) -> Callable[[], Any]:
        """This call as a function without arguments. Without `out`, every time the same arrays are its result."""
        numpy = functools.partial(self.numpy, *operands, **attrs)
        call = self.arguments(*operands, **attrs)
        return numpy if call is None else Bound(self.native, self.name, call[0], numpy, call[1])


def filler(place: Array, views: Sequence[Array], calls: Sequence[Any]) -> Callable[[Array], Any] | None:
    """What has calls read an array where it lies, in the place of the views of `place` that they were bound to.

    None where something else than a bound pass reads one of them, which may hold views of its own.
    """
    operands = {id(x) for call in calls if isinstance(call, Bound) for x in call.operands}
    library = _load().library
    if library is None or any(id(view) not in operands for view in views):
        return None
    count, start = len(views), place.ctypes.data
    addresses = (ctypes.c_void_p * count)(*map(id, views))
    offsets = (ctypes.c_longlong * count)(*(view.ctypes.data - start for view in views))
    look_into = _native(library, "look_into", "ppio")

    def fill(array: Array) -> None:
        if look_into(addresses, offsets, count, array):
            look_into(addresses, offsets, count, place)
            place[...] = array

    return fill


class Product:
    """x @ y, or x.T @ y: of matrices by the BLAS in tiles (kernels/cpu/products.h), else NumPy's."""

    __slots__ = ("can", "native", "numpy", "transposed")

    def __init__(self, library: Any, numpy: Function, transposed: bool):
        self.native, self.can = (_native(library, name, "ooo") for name in ("matmul", "can_matmul"))
        self.numpy = numpy
        self.transposed = transposed

    def __call__(self, x: Array, y: Array, out: Array | None = None) -> Array:
        if x.ndim == 2 and y.ndim == 2 and x.size * y.shape[1] > _SMALL:
            first = x.T if self.transposed else x
            place = np.empty((len(first), y.shape[1]), x.dtype) if out is None else out
            if not self.native(first, y, place):
                return place
        return self.numpy(x, y, out=out)

    def bind(self, x: Array, y: Array, out: Array) -> Callable[[], Any]:
        first, numpy = x.T if self.transposed else x, functools.partial(self.numpy, x, y, out=out)
        return numpy if self.can(first, y, out) else Bound(self.native, "matmul", (first, y, out), numpy, out)


class BehindProduct:
    """A matrix product, x @ weight.T, and then the pass `native` over it with the bias, or `numpy`."""

    __slots__ = ("name", "native", "numpy", "product", "whole")

    def __init__(self, library: Any, name: str, product: Product):
        native, self.numpy = _BEHIND_PRODUCT[name]
        self.name, self.product = name, product
        self.native, self.whole = _native(library, native, "oo"), _native(library, name, "oooo")

    def __call__(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        out = self.product(x, weight.T, out)
        if bias is None or self.native(out, bias):
            self.numpy(out, bias)
        return out

    def bind(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Callable[[], Any]:
        transposed = weight.T
        if out is None:
            out = np.empty((*x.shape[:-1], len(weight)), x.dtype)
        by_numpy = functools.partial(self, x, weight, bias, out)
        if bias is None or self.product.can(x, transposed, out):
            return by_numpy
        return Bound(self.whole, self.name, (x, transposed, bias, out), by_numpy, out)


def _product(x: Array, y: Array, out: Array | None = None) -> Array:
    """np.dot costs less than np.matmul beside a small product of two matrices."""
    return np.dot(x, y, out=out) if x.ndim == 2 else np.matmul(x, y, out=out)


def _bias(x: Array, bias: Array | None) -> None:
    if bias is not None:
        np.add(x, bias, out=x)


def _bias_relu(x: Array, bias: Array | None) -> None:
    _bias(x, bias)
    np.maximum(x, 0, out=x)


# ---------------------------------------------------------------------------------- what each pass makes of its call


def _elementwise(*operands: Array, out: Array | None = None) -> Call:
    if out is None:
        out = np.empty_like(operands[0], order="C", subok=False)
    return (*operands, out), out


def _sum(x: Array, axis: Any, keepdims: bool, out: Array | None = None) -> Call | None:
    if axis != (0,) or keepdims or x.ndim != 2:
        return None
    if out is None:
        out = np.empty(x.shape[1:], x.dtype)
    return (x, out), out


def _relu_bias_backward(g: Array, y: Array, out: Any = None) -> Call | None:
    if not g.ndim:
        return None
    out = (np.empty(g.shape, g.dtype), np.empty(g.shape[-1:], g.dtype)) if out is None else out
    return (g, y, *out), out


def _cross_entropy(
    x: Array, labels: Array, weight: Array | None, reduction: str, ignore_index: int, label_smoothing: float,
    out: Any = None,
) -> Call | None:  # fmt: skip
    if weight is not None or label_smoothing:
        return None
    n, dtype = len(x), x.dtype
    if out is None:
        loss = np.empty(n if reduction == "none" else (), dtype)
        out = loss, np.empty((n, 1), dtype), np.empty(n, dtype), np.empty((), dtype)
    return (x, labels, *out, _REDUCTIONS[reduction], ignore_index), out


def _cross_entropy_backward(
    g: Array, x: Array, labels: Array, weight: Array | None, top: Array, mass: Array, total: Array, reduction: str,
    ignore_index: int, label_smoothing: float, out: Array | None = None,
) -> Call | None:  # fmt: skip
    if weight is not None or label_smoothing:
        return None
    if out is None:
        out = np.empty(x.shape, x.dtype)
    return (g, x, labels, top, mass, total, out, _REDUCTIONS[reduction], ignore_index), out


def _update(states: int, flag: str, know_bfloat16: Function) -> Callable[..., Call]:
    """For an update with so many state arrays, and one switch beside `maximize`."""
    missing = (None,) * (3 - states)

    def arguments(
        param: Array, grad: Array, *rest: Array, first: int, count: int, maximize: bool, master: Array | None = None,
        **switches: bool,
    ) -> Call:  # fmt: skip
        if param.dtype.itemsize == 2 and param.dtype.name == "bfloat16":
            know_bfloat16(id(param.dtype))
        *state, hyper, steps = rest
        on = switches[flag] if flag else False
        return (param, grad, *state, *missing, hyper, steps, master, first, count, on, maximize), None

    return arguments


# name -> types of the C++ function's arguments, and how a call becomes them
_MADE_OF: dict[str, tuple[str, Any]] = {
    "relu": ("oo", _elementwise),
    "relu_backward": ("ooo", _elementwise),
    "sigmoid_backward": ("ooo", _elementwise),
    "tanh_backward": ("ooo", _elementwise),
    "relu_bias_backward": ("oooo", _relu_bias_backward),
    "sum": ("oo", _sum),
    "softmax_cross_entropy": ("ooooooiq", _cross_entropy),
    "softmax_cross_entropy_backward": ("oooooooiq", _cross_entropy_backward),
}
# name -> number of state arrays, and the switch beside `maximize`
_UPDATES = {
    "sgd_update": (1, "nesterov"),
    "adam_update": (3, "decoupled"),
    "rmsprop_update": (3, ""),
    "adagrad_update": (1, ""),
}
_BEHIND_PRODUCT = {"linear": ("bias", _bias), "linear_relu": ("bias_relu", _bias_relu)}

_PRODUCTS = {"matmul": False, "linear_weight_gradient": True}  # name -> is the first operand transposed?

PASSES = frozenset((*_MADE_OF, *_UPDATES, *_BEHIND_PRODUCT, *_PRODUCTS))


def instead_of(numpy: Function, name: str) -> Any:
    """The compiled pass of this name, or the NumPy function where there is none. The first call may compile."""
    library = _load().library
    if library is None:
        return numpy
    if name in _MADE_OF:
        types, arguments = _MADE_OF[name]
        return Pass(_native(library, name, types), name, numpy, arguments)
    if name in _UPDATES:
        arguments = _update(*_UPDATES[name], _native(library, "know_bfloat16", "p"))
        return Pass(_native(library, name, "o" * 8 + "qqii"), name, numpy, arguments)
    if name in _PRODUCTS:
        return Product(library, numpy, _PRODUCTS[name])
    return BehindProduct(library, name, Product(library, _product, False))
