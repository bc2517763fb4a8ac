"""Sorting, searching, sets and scans over any array module, where NumPy and CuPy differ or lack something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`."""

    def keys(x):
        """What CuPy's sort puts into NumPy's order: its radix sort has NaNs with a sign bit come first."""
        return x if xp is np or x.dtype.kind != "f" else xp.where(xp.isnan(x), xp.asarray(np.nan, x.dtype), x)

    def kind(stable):
        return "stable" if stable or xp is not np else None  # CuPy has no other

    # descending order is the ascending one of the reversed array, reversed: so equal values keep their order

    def sort(x, axis, descending, stable):
        if not x.size:
            return x.copy()
        if descending:
            return xp.flip(sort(xp.flip(x, axis), axis, False, stable), axis)
        shows = x.dtype.kind not in "biu"  # zeros have signs, equal integers are the same
        return xp.sort(keys(x), axis=axis, kind=kind(stable and shows))

    def argsort(x, axis, descending, stable):
        if not x.size:
            return xp.zeros(x.shape, np.int64)
        if descending:
            return x.shape[axis] - 1 - xp.flip(argsort(xp.flip(x, axis), axis, False, stable), axis)
        return xp.argsort(keys(x), axis=axis, kind=kind(stable))

    def reorder(x, order, inverse, axis):
        return xp.take_along_axis(x, order, axis)

    def searchsorted(x1, x2, sorter, side):
        return xp.asarray(xp.searchsorted(x1, x2, side=side, sorter=sorter))

    def isin(x1, x2, invert):
        return xp.isin(x1, x2, invert=invert)

    def starts_of_runs(values):
        return xp.flatnonzero(xp.concatenate([xp.ones(min(1, values.size), bool), values[1:] != values[:-1]]))

    def unique(x):
        flat = x.reshape(-1)
        order = argsort(flat, 0, False, True)
        starts = starts_of_runs(flat[order])
        ends = xp.concatenate([starts[1:], xp.full(min(1, flat.size), flat.size)])
        inverse = xp.zeros(flat.size, np.int64)
        inverse[order] = repeat_indices(ends - starts)
        return order[starts], inverse.reshape(x.shape), ends - starts

    def unique_values(x):
        values = sort(x.reshape(-1), 0, False, True)
        return values[starts_of_runs(values)]

    def repeat_indices(repeats):
        """0 to n - 1, each as often as `repeats` says."""
        if repeats.size and repeats.min() < 0:
            raise ValueError("a number of repetitions is negative")
        ends = xp.cumsum(repeats, axis=0, dtype=np.int64)
        return xp.searchsorted(ends, xp.arange(int(ends[-1]) if ends.size else 0), side="right")

    # scans ----------------------------------------------------------------------------------------------------------

    def cumulative_sum(x, axis):
        return xp.cumsum(x, axis=axis, dtype=x.dtype) if x.size else x.copy()

    def cumulative_prod(x, axis):
        return xp.cumprod(x, axis=axis, dtype=x.dtype) if x.size else x.copy()

    def cumulative_prod_backward(g, x, axis):
        if not x.size:
            return x.copy()
        x, rest = xp.moveaxis(x, axis, -1), xp.moveaxis(g, axis, -1).copy()
        before = xp.ones_like(x)
        before[..., 1:] = xp.cumprod(x[..., :-1], axis=-1, dtype=x.dtype)
        factor = xp.ones_like(x)
        factor[..., :-1] = x[..., 1:]
        step, n = 1, x.shape[-1]
        while step < n:  # rest_i and factor_i span `step` elements from i on
            rest[..., :-step] = rest[..., :-step] + factor[..., :-step] * rest[..., step:]
            factor[..., :-step] = factor[..., :-step] * factor[..., step:]
            step *= 2
        return xp.moveaxis(before * rest, -1, axis)

    functions = (
        *(sort, argsort, reorder, searchsorted, isin, unique, unique_values, repeat_indices),
        *(cumulative_sum, cumulative_prod, cumulative_prod_backward),
    )
    return {f.__name__: f for f in functions}
