"""`gpu_backprop.fft`: the standard's extension, and NumPy's transforms of two axes beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..array_api import fft as standard
from ..array_api.fft import *  # noqa: F403
from ..core.tensor import Tensor

__all__ = [*standard.__all__, "fft2", "ifft2", "irfft2", "rfft2"]


def _of_two(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def transform(
        a: Any, /, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = "backward"
    ) -> Tensor:
        return function(a, s=s, axes=axes, norm=norm)

    transform.__name__ = transform.__qualname__ = f"{function.__name__[:-1]}2"
    transform.__doc__ = f"`{function.__name__}` over two axes, the last if not told otherwise."
    return transform


fft2, ifft2, rfft2, irfft2 = map(_of_two, (standard.fftn, standard.ifftn, standard.rfftn, standard.irfftn))
