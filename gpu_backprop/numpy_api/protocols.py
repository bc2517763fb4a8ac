"""NumPy's functions called on Tensors: each is our own function of that name, so the result stays on the tape.

https://numpy.org/neps/nep-0013-ufunc-overrides.html and https://numpy.org/neps/nep-0018-array-function-protocol.html
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import DTypeError, GpuBackpropError
from ..core.tensor import Tensor, asarray

_INSTEAD = "use gpu_backprop's functions, or t.detach().numpy() for the values"
_REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all", "logical_or": "any",
}  # fmt: skip
_SCANS = {"add": "cumsum", "multiply": "cumprod"}
_DEFAULTS = {"out": (None,), "where": (True,), "dtype": (None,), "subok": (True,), "order": ("K",)}
_OTHER = frozenset(("save",))  # names that mean something else here
_OF_MEMORY = frozenset(("may_share_memory", "shares_memory"))  # NumPy's own functions ask, and give no array


def _public(module: str, name: str) -> Callable[..., Any] | None:
    """Our function of a name in numpy, numpy.linalg or numpy.fft."""
    package = sys.modules[__name__.partition(".")[0]]
    space = {"numpy": package, "numpy.linalg": package.linalg, "numpy.fft": package.fft}.get(module)
    return None if space is None or name in _OTHER else getattr(space, name, None)


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """np.sin(t), np.add.reduce(t), or an operator with a NumPy array on its left."""
    name = ufunc.__name__
    label = name if method == "__call__" else f"{name}.{method}"
    if getattr(np, name, None) is not ufunc:
        raise DTypeError(f"{label}: this ufunc is not NumPy's and does not take Tensors; {_INSTEAD}")
    given = {k: v for k, v in options.items() if not _is_default(k, v)}
    if "out" in given:
        raise DTypeError(
            f"numpy.{label}: out= (or an operator such as `a += t` with a NumPy array on its left) would write where "
            f"the tape cannot follow; write a = a + t, or {_INSTEAD}"
        )
    function = None
    if method == "__call__":
        function = _public("numpy", name)
        dtype = given.pop("dtype", None)
        if dtype is not None:
            inputs = tuple(asarray(x, dtype=dtype) for x in inputs)
    elif method == "reduce":
        function = _public("numpy", _REDUCTIONS.get(name, ""))
        given = {"axis": 0, **given}
    elif method == "accumulate":
        function = _public("numpy", _SCANS.get(name, ""))
        given = {"axis": 0, **given}
    elif method == "outer":
        function = _public("numpy", name)
        a, b = map(asarray, inputs)
        inputs = (a.reshape((*a.shape, *(1,) * b.ndim)), b)
    if function is None:
        raise DTypeError(f"numpy.{label}: not available for a Tensor; {_INSTEAD}")
    return _call(label, function, inputs, given)


def _is_default(name: str, value: Any) -> bool:
    if name == "out" and isinstance(value, tuple):
        return all(place is None for place in value)
    return any(value is default for default in _DEFAULTS.get(name, ()))


def array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """np.concatenate([t, u]), np.mean(t), np.linalg.norm(t)."""
    if not all(issubclass(kind, (Tensor, np.ndarray)) for kind in types):
        return NotImplemented
    module, name = function.__module__, function.__name__
    if name in _OF_MEMORY:
        return function(*(np.asarray(x) if isinstance(x, Tensor) else x for x in args), **kwargs)
    ours = _public(module, name)
    if ours is None:
        raise DTypeError(f"{module}.{name}: not available for a Tensor; {_INSTEAD}")
    given = {k: v for k, v in kwargs.items() if not _is_default(k, v)}
    if "out" in given:
        raise DTypeError(f"{module}.{name}: out= would write where the tape cannot follow; take the result instead")
    if not args:  # np.sum(a=t)
        first = next(iter(inspect.signature(function).parameters))
        if first in given:
            args = (given.pop(first),)
    return _call(name, ours, args, given)


def _call(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, GpuBackpropError):
            raise
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError as reason:
            raise DTypeError(f"numpy.{name}: {reason}, as a function of Tensors; {_INSTEAD}") from None
        raise
