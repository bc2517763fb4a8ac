"""Arrays made from numbers, and matrices of a given form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..array_api import linalg
from ..array_api.creation_functions import arange, eye, linspace
from ..array_api.searching_functions import nonzero
from ..core import devices, dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import indexing
from ..ops.elementwise import greater_equal
from ..ops.reduction import as_integer, as_integers, as_real
from .shapes import ravel

__all__ = [
    *("array", "asanyarray", "ascontiguousarray", "copy", "diag", "diagflat", "fromfunction", "geomspace", "identity"),
    *("indices", "ix_", "logspace", "tri", "tril_indices", "triu_indices", "vander"),
]


def array(obj: Any, dtype: Any = None, *, copy: bool | None = True, ndmin: int = 0, device: Any = None) -> Tensor:
    """A Tensor of a number, nested lists or an array; Tensors in the lists stay on the tape.

    copy: None for the memory of an array where that can be, False for an error where it cannot. ndmin: the least number
    of axes, new ones in front. See gb.tensor for dtype and device; and for a leaf of its own, off the tape.
    """
    out = asarray(obj, dtype=dtype, device=device, copy=copy)
    ndmin = as_integer("array", "ndmin", ndmin)
    if ndmin > 64:
        raise ShapeError(f"array: ndmin={ndmin}; arrays have at most 64 axes")
    return out.reshape((1,) * (ndmin - out.ndim) + out.shape) if out.ndim < ndmin else out


def asanyarray(a: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """gb.asarray."""
    return asarray(a, dtype=dtype, device=device)


ascontiguousarray = asanyarray


def copy(a: Any, /) -> Tensor:
    """A copy with its own memory, recorded."""
    return asarray(a).copy()


def identity(n: int, dtype: Any = None, *, device: Any = None) -> Tensor:
    """The identity matrix of n rows."""
    return eye(n, dtype=dtype, device=device)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None, *, device: Any = None) -> Tensor:
    """An (N, M) matrix of ones at and below the diagonal `k`, zeros above."""
    N, M, k = (as_integer("tri", "argument", n) for n in (N, N if M is None else M, k))
    check_size("tri", (max(N, 0), max(M, 0)), 8, devices.resolve(device))
    k = max(-N, min(k, M))
    rows, columns = arange(N, device=device), arange(M, device=device)
    return greater_equal(rows[:, None] + k, columns).astype(dtypes.get_default_dtype() if dtype is None else dtype)


def diag(v: Any, /, k: int = 0) -> Tensor:
    """A matrix with the vector `v` on its diagonal `k`; of a matrix, a view of its diagonal `k`."""
    v, k = asarray(v), as_integer("diag", "k", k)
    if v.ndim == 2:
        return linalg.diagonal(v, offset=k)
    if v.ndim != 1:
        raise ShapeError(f"diag: shape {list(v.shape)}; give a vector or a matrix (gb.linalg.diagonal takes more axes)")
    n = v.size + abs(k)
    check_size("diag", (n, n), v.dtype.itemsize, v.device)
    first = k if k >= 0 else -k * n
    places = slice(first, first + (v.size - 1) * (n + 1) + 1, n + 1) if v.size else slice(0)
    return indexing.scatter_view(v, index=(places,), shape=(n * n,)).reshape((n, n))


def diagflat(v: Any, /, k: int = 0) -> Tensor:
    """A matrix with all elements of `v` on its diagonal `k`."""
    return diag(ravel(v), k)


def vander(x: Any, /, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector as columns, N - 1 (or one less than its length) to 0, or 0 up with `increasing`."""
    x = asarray(x)
    if x.ndim != 1:
        raise ShapeError(f"vander: shape {list(x.shape)} is not a vector; use x.reshape(-1)")
    N = None if N is None else as_integer("vander", "N", N)
    if N is not None and N < 0:
        raise ShapeError(f"vander: N={N} is negative; use at least 0")
    check_size("vander", (x.size, max(N or 0, 0)), x.dtype.itemsize, x.device)
    powers = arange(x.size if N is None else N, device=x.device)
    return x[:, None] ** (powers if increasing else powers[::-1])


def logspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, base: float = 10.0, dtype: Any = None,
    *, device: Any = None,
) -> Tensor:  # fmt: skip
    """`num` values from base^start to base^stop, each a constant times the one before."""
    base = as_real("logspace", "base", base)
    exponents = linspace(start, stop, num, dtype=dtypes.float64, device="cpu", endpoint=endpoint)
    return _from_host(np.power(base, exponents.numpy()), dtype, device)


def geomspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = None, *, device: Any = None
) -> Tensor:
    """`num` values from start to stop, each a constant times the one before."""
    if not all(isinstance(v, (int, float, np.number)) for v in (start, stop)):
        raise DTypeError(f"geomspace: start={start!r} and stop={stop!r} must be numbers; use t.item() of a Tensor")
    num = as_integer("geomspace", "num", num)
    if num < 0:
        raise DataError(f"geomspace: num={num} is negative; use at least 0")
    check_size("geomspace", (num,), 8, devices.resolve(device))
    start, stop = (as_real("geomspace", "bound", v) for v in (start, stop))
    if not start * stop > 0 or not math.isfinite(start * stop):
        raise DataError(f"geomspace: start={start} and stop={stop} must be finite, of one sign and not 0")
    return _from_host(np.geomspace(start, stop, num, endpoint=endpoint), dtype, device)


def _from_host(values: np.ndarray, dtype: Any, device: Any) -> Tensor:
    return asarray(values, dtype=dtypes.get_default_dtype() if dtype is None else dtype, device=device)


def indices(dimensions: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """For each axis of an array of these lengths the index of every element, stacked along a new first axis."""
    lengths = as_integers("indices", "dimensions", dimensions)
    if any(n < 0 for n in lengths):
        raise ShapeError(f"indices: dimensions {lengths} are negative; use lengths of at least 0")
    check_size("indices", (max(lengths, default=0),), 8, devices.resolve(device))
    check_size("indices", (len(lengths), *lengths), 8, devices.resolve(device))
    return asarray(np.indices(lengths), dtype=dtype, device=device)


def tril_indices(n: int, /, k: int = 0, m: int | None = None, *, device: Any = None) -> tuple[Tensor, ...]:
    """The indices of the lower triangle of an (n, m) matrix, up to the diagonal `k`: of its rows and of its columns."""
    return _triangle("tril_indices", np.tril_indices, n, k, m, device)


def triu_indices(n: int, /, k: int = 0, m: int | None = None, *, device: Any = None) -> tuple[Tensor, ...]:
    """The indices of the upper triangle of an (n, m) matrix, from the diagonal `k` on: of its rows and its columns."""
    return _triangle("triu_indices", np.triu_indices, n, k, m, device)


def _triangle(name: str, of_host: Any, n: Any, k: Any, m: Any, device: Any) -> tuple[Tensor, ...]:
    n, k, m = (as_integer(name, "argument", v) for v in (n, k, n if m is None else m))
    if n < 0 or m < 0:
        raise ShapeError(f"{name}: a matrix of {n} rows and {m} columns; use lengths of at least 0")
    check_size(name, (max(n, m),), 8, devices.resolve(device))
    check_size(name, (n, m), 8, devices.resolve(device))
    return tuple(asarray(part, device=device) for part in of_host(n, max(-n, min(k, m)), m))


def ix_(*args: Any) -> tuple[Tensor, ...]:
    """Vectors of indices (or masks) in the shapes in which they name every combination: x[gb.ix_(rows, columns)]."""
    parts = [asarray(a) for a in args]
    if any(part.ndim != 1 for part in parts):
        raise ShapeError(f"ix_: shapes {[list(part.shape) for part in parts]}; give vectors")
    parts = [
        nonzero(p)[0] if p.dtype.kind == "b" else p if p.size or hasattr(a, "dtype") else p.astype("int64")
        for p, a in zip(parts, args, strict=True)
    ]
    return tuple(part.reshape((1,) * i + (part.size,) + (1,) * (len(parts) - 1 - i)) for i, part in enumerate(parts))


def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: Any = None, device: Any = None, **more: Any
) -> Any:
    """What `function` makes of the indices of an array of this shape, one Tensor an axis."""
    dtype = dtypes.get_default_dtype() if dtype is None else dtype
    return function(*indices(shape, dtype, device=device), **more)
