"""Cumulative sums and products along one axis, counted from the front."""

from __future__ import annotations

from typing import Any

from .movement import concat, flip
from .primitive import Primitive


def _pull_cumulative_sum(g: Any, axis: int) -> Any:
    return flip(cumulative_sum(flip(g, axis=(axis,)), axis=axis), axis=(axis,))


def _backward_unfused(g_: Any, x: Any, axis: int) -> Any:
    """The formula of `cumulative_prod_backward`, its recurrence solved by doubling."""

    def split(a: Any, place: int) -> tuple[Any, Any]:
        lead = (slice(None),) * axis
        return a[(*lead, slice(0, place))], a[(*lead, slice(place, None))]

    n = x.shape[axis]
    one = split(x, 1)[0].detach() ** 0
    before = cumulative_prod(concat(one, split(x, n - 1)[0], axis=axis), axis=axis)
    factor, rest, step = concat(split(x, 1)[1], one, axis=axis), g_, 1
    while step < n:  # rest_i and factor_i span `step` elements from i on
        near, last = split(factor, n - step)
        first, end = split(rest, n - step)
        rest = concat(first + near * split(rest, step)[1], end, axis=axis)
        factor = concat(near * split(factor, step)[1], last, axis=axis)
        step *= 2
    return before * rest


cumulative_sum = Primitive("cumulative_sum", "x", _pull_cumulative_sum)
cumulative_prod = Primitive("cumulative_prod", "x", lambda g, x, axis: cumulative_prod_backward(g, x, axis=axis))
# (product of all x before i) * r_i, where r_i = g_i + x_(i+1) r_(i+1): without a division, so that zeros are no matter
cumulative_prod_backward = Primitive("cumulative_prod_backward", "g_ x", unfused=_backward_unfused)
