"""Where elements are, and which there are."""

from __future__ import annotations

from typing import Any

from ..array_api.creation_functions import full
from ..array_api.manipulation_functions import concat, stack
from ..array_api.searching_functions import nonzero
from ..array_api.set_functions import UniqueAll, unique_all
from ..core.errors import DTypeError
from ..core.tensor import Tensor, asarray
from ..ops.elementwise import isnan, minimum

__all__ = ["argwhere", "extract", "flatnonzero", "unique"]


def flatnonzero(a: Any, /) -> Tensor:
    """The positions in the flattened array of what is not zero."""
    return nonzero(asarray(a).reshape(-1))[0]


def argwhere(a: Any, /) -> Tensor:
    """The indices of what is not zero, a row each."""
    a = asarray(a)
    if not a.ndim:
        return argwhere(a.reshape(1))[:, :0]
    return stack(nonzero(a), axis=1)


def extract(condition: Any, /, arr: Any) -> Tensor:
    """The elements of `arr` where the condition, of as many elements, holds."""
    return asarray(arr).reshape(-1)[asarray(condition).reshape(-1).astype("bool")]


def unique(
    ar: Any, /, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False, axis: Any = None,
    *, equal_nan: bool = True,
) -> Any:  # fmt: skip
    """The unique values in ascending order; and their first positions, the position among them of each element, and how
    often each occurs, if asked for.

    equal_nan: NaNs are one value, not each its own.
    """
    if axis is not None:
        raise DTypeError("unique: axis is not available; leave it out")
    found = unique_all(ar)
    missing = int(isnan(found.values).sum()) if equal_nan else 0
    if missing > 1:  # NaNs are the last of the values
        first = found.values.size - missing
        values, positions, counts = (part[: first + 1] for part in (found.values, found.indices, found.counts))
        counts = concat([counts[:-1], full((1,), missing, dtype=counts.dtype, device=counts.device)])
        found = UniqueAll(values, positions, minimum(found.inverse_indices, first), counts)
    chosen = [part for part, asked in zip(found[1:], (return_index, return_inverse, return_counts)) if asked]
    return (found.values, *chosen) if chosen else found.values
