"""https://data-apis.org/array-api/latest/extensions/fourier_transform_functions.html

`gpu_backprop.fft`. Arrays of float32 and complex64 (and 16-bit floats, computed in float32) have transforms of single
precision. Axes are padded with zeros, or cut, to the lengths asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import devices, dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import fft as transforms
from ..ops import indexing
from ..ops.elementwise import conjugate
from ..ops.reduction import as_choice, as_integer, as_integers, as_real, normalize_axis
from .manipulation_functions import roll

__all__ = [
    *("fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft"),
    *("fftfreq", "rfftfreq", "fftshift", "ifftshift"),
]


# ---------------------------------------------------------------------------------------------------------------------
# operands


def _norm(name: str, norm: str | None) -> str:
    return as_choice(name, "norm", "backward" if norm is None else norm, transforms.INVERSE_NORM)  # None as in NumPy


def _real(name: str, x: Any) -> Tensor:
    x = asarray(x)
    if x.dtype.kind == "c":
        raise DTypeError(f"{name}: {x.dtype} is not real; use gb.fft.fft, or gb.real(x)")
    if dtypes.is_half(x.dtype):
        return x.astype(dtypes.float32)
    return x if dtypes.is_floating(x.dtype) else x.astype(dtypes.get_default_dtype())


def _complex(x: Any) -> Tensor:
    x = asarray(x)
    dtype = x.dtype if dtypes.is_inexact(x.dtype) else dtypes.get_default_dtype()
    return x.astype(dtypes.complex_of(dtype), copy=False)


def _axes(name: str, x: Tensor, s: Any, axes: Any) -> tuple[tuple[int, ...], list[int | None]]:
    """Distinct axes from the front, and the length that each is to have (None: its own)."""
    lengths = None if s is None else as_integers(name, "s", s)
    if axes is None:
        axes = range(x.ndim) if lengths is None else range(x.ndim - len(lengths), x.ndim)
    axes = as_integers(name, "axes", axes)
    normalize_axis(name, axes, x.ndim)
    if lengths is not None and len(lengths) != len(axes):
        raise ShapeError(f"{name}: s {s} and axes {axes} are not equally many; give one length for each axis")
    if not axes:
        raise ShapeError(f"{name}: no axis to transform in shape {list(x.shape)}; give at least one")
    axes = tuple(a % x.ndim for a in axes)
    return axes, [x.shape[a] if n == -1 else n for a, n in zip(axes, lengths or (None,) * len(axes))]


def _resized(name: str, x: Tensor, axis: int, n: int | None) -> Tensor:
    """x cut to n elements along an axis, or padded with zeros."""
    length = x.shape[axis]
    n = length if n is None else n
    if n < 1:
        raise ShapeError(f"{name}: a transform of {n} elements along axis {axis}; use at least 1")
    if n == length:
        return x
    check_size(name, (*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype.itemsize, x.device)
    part = (slice(None),) * axis + (slice(0, min(n, length)),)
    if n < length:
        return x[part]
    return indexing.scatter_view(x, index=part, shape=(*x.shape[:axis], n, *x.shape[axis + 1 :]))


def _of_complex(primitive: Any, name: str, x: Any, s: Any, axes: Any, norm: str | None) -> Tensor:
    x = _complex(x)
    axes, lengths = _axes(name, x, s, axes)
    for axis, n in zip(axes, lengths):
        x = _resized(name, x, axis, n)
    return primitive(x, axes=axes, norm=_norm(name, norm))


def _to_half(name: str, x: Any, s: Any, axes: Any, norm: str | None) -> Tensor:
    """Of real numbers: the last axis gives its first n // 2 + 1 frequencies, which tell the others."""
    x = _real(name, x)
    axes, lengths = _axes(name, x, s, axes)
    for axis, n in zip(axes, lengths):
        x = _resized(name, x, axis, n)
    return transforms.rfft(x, axes=axes, norm=_norm(name, norm))


def _from_half(name: str, x: Any, s: Any, axes: Any, norm: str | None) -> Tensor:
    """To real numbers, n of them along the last axis, from n // 2 + 1 frequencies."""
    x = _complex(x)
    axes, lengths = _axes(name, x, s, axes)
    n = 2 * (x.shape[axes[-1]] - 1) if lengths[-1] is None else lengths[-1]
    if n < 1:
        raise ShapeError(f"{name}: a result of {n} elements along axis {axes[-1]}; use at least 1")
    for axis, length in zip(axes, [*lengths[:-1], n // 2 + 1]):
        x = _resized(name, x, axis, length)
    return transforms.irfft(x, axes=axes, n=n, norm=_norm(name, norm))


def _one(name: str, n: Any) -> Any:
    if n is not None and as_integer(name, "n", n) < 0:  # -1 is the own length below
        raise ShapeError(f"{name}: a transform of {n} elements; use at least 1")
    return None if n is None else (n,)


# ---------------------------------------------------------------------------------------------------------------------
# transforms


def fft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The discrete Fourier transform over one axis, of n elements.

    norm: "forward" divides by n, "ortho" by sqrt(n), "backward" not at all (but the inverse transform).
    """
    return _of_complex(transforms.fft, "fft", x, _one("fft", n), (axis,), norm)


def ifft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse transform: `ifft(fft(x)) == x` with the same arguments."""
    return _of_complex(transforms.ifft, "ifft", x, _one("ifft", n), (axis,), norm)


def fftn(
    x: Tensor, /, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = "backward"
) -> Tensor:
    """The discrete Fourier transform over `axes` (all if None), `s[i]` elements (-1: all) along `axes[i]`."""
    return _of_complex(transforms.fft, "fftn", x, s, axes, norm)


def ifftn(
    x: Tensor, /, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = "backward"
) -> Tensor:
    """The inverse of `fftn`."""
    return _of_complex(transforms.ifft, "ifftn", x, s, axes, norm)


def rfft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The first n // 2 + 1 frequencies of the transform of n real numbers; the others are their conjugates."""
    return _to_half("rfft", x, _one("rfft", n), (axis,), norm)


def irfft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `rfft`: n real numbers, of m frequencies 2 (m - 1) by default, from the first n // 2 + 1."""
    return _from_half("irfft", x, _one("irfft", n), (axis,), norm)


def rfftn(
    x: Tensor, /, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = "backward"
) -> Tensor:
    """`fftn` of real numbers: half the frequencies along the last of `axes`."""
    return _to_half("rfftn", x, s, axes, norm)


def irfftn(
    x: Tensor, /, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = "backward"
) -> Tensor:
    """The inverse of `rfftn`: real numbers, `s[-1]` of them (2 (m - 1) if None, m if -1) along the last of `axes`."""
    return _from_half("irfftn", x, s, axes, norm)


def hfft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The real transform of a signal with Hermitian symmetry, x[-k] = conj(x[k]), of which x is the first half."""
    return _from_half(
        "hfft", conjugate(_complex(x)), _one("hfft", n), (axis,), transforms.INVERSE_NORM[_norm("hfft", norm)]
    )


def ihfft(x: Tensor, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 elements of a signal with Hermitian symmetry."""
    return conjugate(_to_half("ihfft", x, _one("ihfft", n), (axis,), transforms.INVERSE_NORM[_norm("ihfft", norm)]))


# ---------------------------------------------------------------------------------------------------------------------
# frequencies and their order


def _frequencies(name: str, numbers: Callable[[int], Any], n: Any, d: float, dtype: Any, device: Any) -> Tensor:
    n = as_integer(name, "n", n)
    d = as_real(name, "d", d)
    if n < 1 or not d:
        raise DataError(f"{name}: n={n} samples, {d} apart; use at least one, and a distance other than 0")
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if not dtypes.is_floating(target):
        raise DTypeError(f"{name}: {target} is not a float dtype; use float32 or float64")
    place = devices.resolve(device)
    check_size(name, (n,), 8, place)
    return Tensor(place.backend.from_host((numbers(n) * (1.0 / (n * d))).astype(target), copy=False), place)


def fftfreq(n: int, /, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `fft` of n samples that are d apart: 0 and the positive ones, then the negative ones."""
    return _frequencies("fftfreq", lambda n: (np.arange(n) + n // 2) % n - n // 2, n, d, dtype, device)


def rfftfreq(n: int, /, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `rfft` of n samples that are d apart; n / 2 is taken for positive."""
    return _frequencies("rfftfreq", lambda n: np.arange(n // 2 + 1), n, d, dtype, device)


def _rolled(name: str, x: Any, axes: Any, places: Callable[[int], int]) -> Tensor:
    x = asarray(x)
    axes = normalize_axis(name, axes, x.ndim)
    return roll(x, tuple(places(x.shape[a]) for a in axes), axis=axes) if axes else x


def fftshift(x: Tensor, /, axes: int | Sequence[int] | None = None) -> Tensor:
    """Frequency 0 moved from the beginning to the middle of `axes` (all if None)."""
    return _rolled("fftshift", x, axes, lambda n: n // 2)


def ifftshift(x: Tensor, /, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _rolled("ifftshift", x, axes, lambda n: -(n // 2))
