"""https://data-apis.org/array-api/latest/API_specification/utility_functions.html"""

from __future__ import annotations

from typing import Any

from ..core.dtypes import result_type
from ..core.errors import DataError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import elementwise as ew
from ..ops.reduction import as_integer, one_axis
from .manipulation_functions import concat

__all__ = ["all", "any", "diff"]


def all(x: Tensor, /, axis: Any = None, *, keepdims: bool = False, where: Any = True) -> Tensor:
    """True where no value over `axis` (of those where `where` holds) is zero."""
    return asarray(x).all(axis, keepdims, where)


def any(x: Tensor, /, axis: Any = None, *, keepdims: bool = False, where: Any = True) -> Tensor:
    """True where some value over `axis` (of those where `where` holds) is not zero."""
    return asarray(x).any(axis, keepdims, where)


def diff(x: Tensor, /, n: int = 1, axis: int = -1, *, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences x[i + 1] - x[i] along `axis`, `n` times over, with `prepend` and `append` put at its ends before.

    What is put at an end is an array, or a number; of bools, the difference is whether they differ.
    """
    x = asarray(x)
    axis = one_axis("diff", axis, x.ndim)
    n = as_integer("diff", "n", n)
    if n < 0:
        raise DataError(f"diff: n={n}; differences can be taken 0 or more times")
    ends = [None if end is None else _at_end(x, end, axis) for end in as_operands("diff", (x, prepend, append))[1:]]
    if prepend is not None or append is not None:
        x = concat([part for part in (ends[0], x, ends[1]) if part is not None], axis=axis)
    lead = (slice(None),) * axis
    for _ in range(min(n, x.shape[axis])):
        later, earlier = x[(*lead, slice(1, None))], x[(*lead, slice(None, -1))]
        x = ew.not_equal(later, earlier) if x.dtype.kind == "b" else ew.subtract(later, earlier)
    return x if n else x.copy()


def _at_end(x: Tensor, end: Any, axis: int) -> Tensor:
    """One number as a slice of length 1; an array as it is."""
    end = end if isinstance(end, Tensor) else asarray(end, dtype=result_type(x, end), device=x.device)
    return end if end.ndim else end.broadcast_to((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
