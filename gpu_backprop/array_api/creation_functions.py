"""https://data-apis.org/array-api/latest/API_specification/creation_functions.html"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from ..core import devices, dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.exchange import borrow
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import movement
from ..ops.primitive import Primitive
from ..ops.reduction import as_choice, as_constant, as_integer, as_integers, as_real

__all__ = [
    *("arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like"),
    *("linspace", "meshgrid", "ones", "ones_like", "tril", "triu", "zeros", "zeros_like"),
]


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    lengths = as_integers(name, "shape", shape)
    if any(n < 0 for n in lengths):
        raise ShapeError(f"{name}: shape {lengths} has a negative length; use lengths of at least 0")
    return lengths


def _make(name: str, shape: Any, value: Any, dtype: Any, device: Any) -> Tensor:
    place = devices.resolve(device)
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    lengths = _shape(name, shape)
    check_size(name, lengths, target.itemsize, place)
    array = place.backend.empty(lengths, target)
    if value is not None:
        try:
            place.backend.write(array, ..., value)
        except OverflowError:
            raise DataError(f"{name}: {value} does not fit into {target}; use a wider dtype") from None
        except (TypeError, ValueError):
            raise DTypeError(f"{name}: {value!r} is not one number; use gb.asarray for arrays") from None
    return Tensor(array, place)


def _like(name: str, x: Tensor, value: Any, dtype: Any, device: Any) -> Tensor:
    x = asarray(x)
    return _make(name, x.shape, value, x.dtype if dtype is None else dtype, x.device if device is None else device)


def _number(name: str, value: Any) -> Any:
    """A Tensor of no axes, or a scalar of NumPy's, as the Python number that it holds."""
    if isinstance(value, Tensor) and not value.ndim:
        return as_constant(name, "a limit", value).item()
    return value.item() if isinstance(value, np.generic) else value


def arange(start: Any, /, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Values start, start + step, ... below stop; integers give int64, floats the default float dtype."""
    if stop is None:
        start, stop = 0, start
    start, stop, step = (_number("arange", v) for v in (start, stop, step))
    if not all(isinstance(v, (int, float, np.number)) for v in (start, stop, step)):
        raise DTypeError(
            f"arange: start={start!r}, stop={stop!r}, step={step!r} must be numbers; use t.item() of a Tensor"
        )
    if step == 0:
        raise DataError("arange: step=0 never reaches the end; use another step")
    if not all(math.isfinite(as_real("arange", "bound", v)) for v in (start, stop, step)):
        raise DataError(f"arange: start={start}, stop={stop}, step={step} must be finite; use gb.full for a constant")
    place = devices.resolve(device)
    check_size("arange", (max(0, int((stop - start) / step)),), 8, place)
    try:
        values = np.arange(start, stop, step)
    except ValueError:  # of integers beyond 64 bits
        values = np.empty(0, object)
    if values.dtype.kind not in "iuf":
        raise DataError(f"arange: start={start}, stop={stop}, step={step} exceed 64 bits; use floats")
    if dtype is None:
        dtype = dtypes.get_default_dtype() if values.dtype.kind == "f" else dtypes.int64
    target = dtypes.as_dtype(dtype)
    if target == dtypes.bool_:
        raise DTypeError("arange: bool is not a dtype of numbers; compare the array with one")
    return Tensor(place.backend.from_host(values.astype(target), copy=False), place)


def empty(shape: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An array of `shape` with whatever values the memory held."""
    return _make("empty", shape, None, dtype, device)


def empty_like(x: Tensor, /, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An uninitialised array of the shape, dtype and device of `x`."""
    return _like("empty_like", x, None, dtype, device)


def eye(n_rows: int, n_cols: int | None = None, /, k: int = 0, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones on diagonal `k` of an (n_rows, n_cols) matrix, zeros elsewhere."""
    rows, cols = _shape("eye", (n_rows, n_rows if n_cols is None else n_cols))
    place = devices.resolve(device)
    check_size("eye", (rows, cols), 8, place)
    values = np.eye(rows, cols, k=max(-rows, min(as_integer("eye", "k", k), cols)))
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return Tensor(place.backend.from_host(values.astype(target), copy=False), place)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """The array of another library (any object with `__dlpack__`) as a Tensor that shares its memory.

    On the device where it is, or on `device`. copy: True for memory of its own in any case, False for ExchangeError
    where a copy is needed. Raises ExchangeError (a BufferError and a ValueError) for what cannot be lent.
    """
    return borrow(x, device, copy)


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An array of `shape` filled with one value, of the value's kind of dtype, or a Tensor's dtype, unless told."""
    if isinstance(fill_value, Tensor):
        if fill_value.requires_grad:
            return _spread("full", fill_value, shape, dtype, device)
        dtype = fill_value.dtype if dtype is None else dtype
        fill_value = fill_value.item()
    if dtype is None:
        kind = type(fill_value)
        dtype = kind if kind in (bool, int, float, complex) else asarray(fill_value, device="cpu").dtype
    return _make("full", shape, fill_value, dtype, device)


def _spread(name: str, value: Tensor, shape: Any, dtype: Any, device: Any) -> Tensor:
    """One value on the tape, everywhere."""
    if value.size != 1:
        raise ShapeError(f"{name}: a value of shape {list(value.shape)}; give one number")
    one = value.reshape(()) if dtype is None else value.reshape(()).astype(dtype)
    place = one.device if device is None else devices.device(device)
    return movement.copy(one.to(place).broadcast_to(as_integers(name, "shape", shape)))


def full_like(x: Tensor, /, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """`fill_value` in the shape, dtype and device of `x`."""
    if isinstance(fill_value, Tensor):
        if fill_value.requires_grad:
            return _spread("full_like", fill_value, x.shape, x.dtype if dtype is None else dtype, device or x.device)
        fill_value = fill_value.item()
    if fill_value is None:  # which stands for uninitialised memory below
        raise DTypeError("full_like: None is not one number; use gb.empty_like for an array without values")
    return _like("full_like", x, fill_value, dtype, device)


def linspace(
    start: float, /, stop: float, num: int = 50, *, dtype: Any = None, device: Any = None, endpoint: bool = True,
    retstep: bool = False,
) -> Any:  # fmt: skip
    """`num` evenly spaced values from start to stop; a pair of them and the distance between two with `retstep`."""
    start, stop = _number("linspace", start), _number("linspace", stop)
    if not isinstance(start, (int, float, np.number)) or not isinstance(stop, (int, float, np.number)):
        raise DTypeError(f"linspace: start={start!r} and stop={stop!r} must be numbers; use t.item() of a Tensor")
    num = as_integer("linspace", "num", num)
    if num < 0:
        raise DataError(f"linspace: num={num} is negative; use at least 0")
    start, stop = (as_real("linspace", "bound", v) for v in (start, stop))
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise DataError(f"linspace: start={start} and stop={stop} must be finite")
    place = devices.resolve(device)
    check_size("linspace", (num,), 8, place)
    values, step = np.linspace(start, stop, num, endpoint=endpoint, retstep=True)
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if target.kind in "iu":
        values = np.floor(values)  # as NumPy has it
    out = Tensor(place.backend.from_host(values.astype(target), copy=False), place)
    return (out, float(step)) if retstep else out


def meshgrid(*arrays: Any, indexing: Literal["xy", "ij"] = "xy") -> tuple[Tensor, ...]:
    """For each of n one-axis arrays of coordinates an array of n axes that holds its coordinate at every grid point.

    indexing: axis i goes along array i ("ij"), or the first two are exchanged, as in a picture ("xy").
    """
    as_choice("meshgrid", "indexing", indexing, ("xy", "ij"))
    if not arrays:
        return ()
    tensors = [asarray(x) for x in as_operands("meshgrid", arrays)]
    if any(t.ndim > 1 for t in tensors):
        raise ShapeError(f"meshgrid: shapes {[list(t.shape) for t in tensors]}; give arrays of one axis")
    n = len(tensors)
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else [*range(n)]
    shape = tuple(tensors[places.index(i)].size for i in range(n))
    return tuple(
        t.reshape((1,) * i + (t.size,) + (1,) * (n - i - 1)).broadcast_to(shape).copy() for t, i in zip(tensors, places)
    )


def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An array of `shape` filled with ones."""
    return _make("ones", shape, 1, dtype, device)


def ones_like(x: Tensor, /, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones in the shape, dtype and device of `x`."""
    return _like("ones_like", x, 1, dtype, device)


def _triangle(primitive: Primitive, x: Tensor, k: int) -> Tensor:
    x, k = asarray(x), as_integer(primitive.name, "k", k)
    if x.ndim < 2:
        raise ShapeError(f"{primitive.name}: shape {list(x.shape)} is not a matrix; give two axes or more")
    return primitive(x, k=k)


def tril(x: Tensor, /, k: int = 0) -> Tensor:
    """The lower triangle of the matrices in the last two axes, up to the diagonal `k` places above the main one."""
    return _triangle(movement.tril, x, k)


def triu(x: Tensor, /, k: int = 0) -> Tensor:
    """The upper triangle of the matrices in the last two axes, from the diagonal `k` places above the main one on."""
    return _triangle(movement.triu, x, k)


def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An array of `shape` filled with zeros."""
    return _make("zeros", shape, 0, dtype, device)


def zeros_like(x: Tensor, /, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Zeros in the shape, dtype and device of `x`."""
    return _like("zeros_like", x, 0, dtype, device)
