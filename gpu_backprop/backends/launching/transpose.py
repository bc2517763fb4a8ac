"""Copies after which memory runs along another axis: through tiles in shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import layouts, table
from ..base import Array
from .shared import BLOCK, WARP, Function, Launch, c_name, ceil_div, element_strides

NARROW = 8  # a side of fewer elements leaves most of a tile empty: the strided copy does no worse


def transposing(launch: Launch, copy: Function) -> Function:
    """`copy(x, out=None)`, which hands transposed copies to transpose.cu."""
    plans: dict[Any, Any] = {}
    ndarray = launch.xp.ndarray

    def run(x: Array, out: Array | None = None) -> Array:
        if out is None or x.__class__ is not ndarray:  # a new array lies as x does
            return copy(x, out=out)
        key = (x.dtype, x.shape, x.strides, out.dtype, out.shape, out.strides)
        try:
            plan = plans[key]
        except KeyError:
            plan = plans[key] = plan_transpose(launch, x, out)
        if plan is None:
            return copy(x, out=out)
        (source,) = launch.apart(out, [x])
        if source is not x:
            return run(source, out)
        kernel, grid, head = plan
        launch.launcher.launch(kernel, grid, (WARP, BLOCK // WARP), (*head, out, x))
        return out

    return run


def plan_transpose(launch: Launch, x: Array, out: Array) -> tuple[Any, ...] | None:
    """Kernel, grid and leading arguments, or None where this is no transposed copy of up to three dimensions."""
    dtype, by, to = c_name(x.dtype), element_strides(x), element_strides(out)
    if dtype is None or by is None or to is None or (out.dtype, out.shape) != (x.dtype, x.shape) or x.size == 0:
        return None
    sizes, (to, by) = layouts.merge(x.shape, [to, by])
    if not 2 <= len(sizes) <= 3 or to[-1] != 1 or by[-1] in (0, 1) or 1 not in by:
        return None
    row = by.index(1)
    if min(sizes[row], sizes[-1]) < NARROW:
        return None
    others = [axis for axis in range(len(sizes) - 1) if axis != row]
    batches, out_batch, x_batch = (sizes[others[0]], to[others[0]], by[others[0]]) if others else (1, 0, 0)
    numbers = (batches, sizes[row], sizes[-1], out_batch, to[row], x_batch, by[-1])
    index = layouts.index_type(sizes, [to, by])
    tiles = batches * ceil_div(sizes[row], WARP) * ceil_div(sizes[-1], WARP)
    head = tuple(map(np.int32 if index == "int" else np.int64, numbers))
    return table.transpose(dtype, index), (launch.blocks(tiles),), head
