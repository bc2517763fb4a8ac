"""Finding the operation that went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import dtypes
from .errors import TapeError
from .modes import modes
from .tensor import Tensor


def _first_bad(t: Any) -> tuple[tuple[int, ...], float] | None:
    if not isinstance(t, Tensor) or not dtypes.is_inexact(t.dtype):
        return None
    values = t.device.backend.to_host(t.array).astype(np.float64)
    bad = np.argwhere(~np.isfinite(values))
    return None if not len(bad) else (tuple(int(i) for i in bad[0]), float(values[tuple(bad[0])]))


def _watch(name: str, result: Any, inputs: Sequence[Any], backward: bool) -> None:
    found = _first_bad(result)
    if found is None:
        return
    index, value = found
    tainted = any(_first_bad(x) is not None for x in inputs)
    direction = "the gradient of " if backward else ""
    where = f" in module {modes.scope!r}" if modes.scope else ""
    shapes = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, Tensor) else repr(x) for x in inputs)
    origin = "an input already held one: look at what made it" if tainted else "its inputs were all finite"
    raise TapeError(f"detect_anomaly: {direction}{name}({shapes}){where} gave {value} at {list(index)}; {origin}")


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Inside the block the first operation that gives a NaN or inf, forward or backward, raises TapeError naming it.

    Looks at every result (on a GPU that waits for each), so for hunting, not for training.
    """
    before = modes.watch
    modes.watch = _watch
    try:
        yield
    finally:
        modes.watch = before
