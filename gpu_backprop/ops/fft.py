"""Discrete Fourier transforms and their gradients.

The matrix of a transform is symmetric, so `fft` and `ifft` are their own rules. `axes` are counted from the front, and
each once; transforms of real numbers halve the last one. Lengths are those of the input: array_api pads and cuts.
"""

from __future__ import annotations

from typing import Any

from .elementwise import conjugate
from .movement import concat
from .primitive import Primitive

# normalization -> that of the inverse transform with the same factor
INVERSE_NORM = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _scale_doubled(x: Any, axis: int, n: int, factor: float) -> Any:
    """x times `factor`, but for the frequencies 0 and n / 2, which of a real signal of length n are there once only."""
    before = (slice(None),) * axis
    last = n // 2 + 1 if n % 2 else n // 2
    middle = x[(*before, slice(1, last))] * factor
    return concat(x[(*before, slice(0, 1))], middle, x[(*before, slice(max(last, 1), None))], axis=axis)


def _pull_rfft(g: Any, x_spec: Any, axes: tuple[int, ...], norm: str) -> Any:
    """Re(F g) with the frequencies that there are: an inverse transform of conj(g), which counts the others too."""
    n = x_spec.shape[axes[-1]]
    return irfft(_scale_doubled(conjugate(g), axes[-1], n, 0.5), axes=axes, n=n, norm=INVERSE_NORM[norm])


def _pull_irfft(g: Any, axes: tuple[int, ...], n: int, norm: str) -> Any:
    return _scale_doubled(conjugate(rfft(g, axes=axes, norm=INVERSE_NORM[norm])), axes[-1], n, 2.0)


fft = Primitive("fft", "x", lambda g, axes, norm: fft(g, axes=axes, norm=norm))
ifft = Primitive("ifft", "x", lambda g, axes, norm: ifft(g, axes=axes, norm=norm))
irfft = Primitive("irfft", "x", _pull_irfft)  # to length n
rfft = Primitive("rfft", "x", _pull_rfft)
