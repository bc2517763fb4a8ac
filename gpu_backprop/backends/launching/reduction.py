"""Reductions: which axes are walked how, splits, workspace."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.errors import KernelError
from .. import layouts, table
from ..base import Array
from .shared import (
    BLOCK,
    PARTIALS,
    TILE_BLOCKS,
    WARP,
    Function,
    Launch,
    accumulator,
    c_name,
    ceil_div,
    column_tiles,
    element_strides,
    index_of,
)  # fmt: skip


class ReductionLaunches:
    """Functions of the rows of table.REDUCTIONS."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions = {name: self.reduction(name, launch.fallback(name)) for name in table.REDUCTIONS}
        self.functions["activation_bias_backward"] = self.activation_bias_backward
        self.functions["relu_bias_backward"] = self.relu_bias_backward

    def reduction(self, name: str, fallback: Function) -> Function:
        plans: dict[Any, Any] = {}
        backend, launch_counted = self.launch.backend, self.launch.backend.launch_counted
        argument = name.startswith("arg")

        def run(x: Array, axis: Any = None, keepdims: bool = False, out: Array | None = None, **attrs: Any) -> Array:
            key = (x.__class__, x.dtype, x.shape, x.strides, axis, keepdims, *attrs.values())
            try:
                plan = plans[key]
            except KeyError:
                plan = plans[key] = self.plan_reduction(name, x, axis, keepdims, attrs)
            if plan is None or (out is not None and not (out.flags.c_contiguous and out.shape == plan[0])):
                attrs |= {"axis": axis, "keepdims": keepdims}
                return fallback(x, **attrs) if out is None else fallback(x, out=out, **attrs)
            shape, axes, kernel, grid, block, head, divisor, workspace = plan
            if out is None:
                out = backend.empty(shape, np.dtype(np.int64) if argument else x.dtype)
            if axes is not None:
                x = self.launch.contiguous(x.transpose(axes))
            space = backend.empty((workspace,), np.dtype(np.uint8)) if workspace else None
            launch_counted(kernel, grid, block, (*head, out, x, divisor, space, backend.tickets()))
            return out

        return run

    def plan_reduction(
        self, name: str, x: Array, axis: Any, keepdims: bool, attrs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        dtype = c_name(x.dtype)
        strides = element_strides(x)
        if dtype is None or strides is None or x.size == 0 or x.__class__ is not self.launch.xp.ndarray:
            return None
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(axis % x.ndim for axis in axes)
        reducer, accumulators, indices = table.REDUCTIONS[name]
        count = math.prod(x.shape[axis] for axis in axes)
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
        divisor = accumulator(x.dtype)(max(count - attrs.get("correction", 0), 0))

        plan = self.reduction_geometry(layouts.split_axes(x.shape, strides, axes, not indices), x.dtype)
        order, index = None, layouts.index_type(x.shape, [strides])
        if plan is None:  # no walk along memory: bring kept axes to the front, reduced ones to the back
            order = (*(i for i in range(x.ndim) if i not in axes), *sorted(axes))
            kept = tuple(x.shape[i] for i in order[: x.ndim - len(axes)])
            rows = math.prod(kept)
            plan = self.reduction_geometry((((rows,), (count,)), ((count,), (1,))), x.dtype)
            assert plan is not None
            index, _ = index_of(x.size)
        pattern, sizes, grid, block, states = plan
        kind = np.int32 if index == "int" else np.int64
        state = accumulators * (8 if dtype == "double" else 4)
        if indices:
            state = 16 if "long long" in index or dtype == "double" else 8
        kernel = table.reduction(pattern, reducer, dtype, index)
        return shape, order, kernel, grid, block, tuple(map(kind, sizes)), divisor, state * states

    def reduction_geometry(
        self, split: tuple[tuple[layouts.Dims, layouts.Dims], tuple[layouts.Dims, layouts.Dims]], dtype: np.dtype
    ) -> tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], int] | None:
        """(pattern, leading arguments, grid, block, states in the workspace), or None: the array must be copied first.

        Splits depend on the shape alone, so that results have the same bits on every machine.
        """
        (kept, kept_steps), (reduced, reduced_steps) = split
        if len(reduced) > 1 or len(kept) > 2:
            return None
        n, step = (reduced or (1,))[0], (reduced_steps or (1,))[0]
        limit = self.launch.launcher.max_grid
        if step == 1 and len(kept) <= 1:
            rows, pitch = (kept or (1,))[0], (kept_steps or (n,))[0]
            splits = min(ceil_div(n, 8192), ceil_div(PARTIALS, rows), limit)
            height = 1 if n > 1024 else BLOCK // WARP
            grid = (min(ceil_div(rows, height), limit), splits)
            return "reduce_rows", (rows, n, pitch), grid, (BLOCK // height, height), rows * splits if splits > 1 else 0
        if not kept or kept_steps[-1] != 1:
            return None
        outer, outer_pitch = (kept[0], kept_steps[0]) if len(kept) == 2 else (1, 0)
        pack, across, (width, height) = column_tiles(n, kept[-1], dtype)
        tiles = outer * across
        splits = min(ceil_div(n, 2 * height), ceil_div(TILE_BLOCKS, tiles), limit)
        sizes = (outer, n, kept[-1], outer_pitch, step)
        states = tiles * splits * width * pack if splits > 1 else 0
        return "reduce_columns", sizes, (min(tiles, limit), splits), (width, height), states

    # a reduction behind an activation's gradient ---------------------------------------------------------------------

    def activation_bias_backward(
        self, g: Array, y: Array, gradient: str, out: tuple[Array, Array] | None = None, **numbers: float
    ) -> tuple[Array, Array]:
        """(dx, db) for out = act(x + bias): dx = gradient(g, y), of table.BIAS_BACKWARD, and its sum over rows."""
        dtype, row = c_name(g.dtype), table.ELEMENTWISE[gradient]
        empty, contiguous = self.launch.backend.empty, self.launch.contiguous
        if dtype is None or g.size == 0:
            raise KernelError(f"activation_bias_backward: no kernel for {g.dtype}{list(g.shape)}; give floats")
        rows, columns = g.shape
        plan = self.reduction_geometry((((columns,), (1,)), ((rows,), (columns,))), g.dtype)
        assert plan is not None
        _, _, grid, block, states = plan
        index, kind = index_of(g.size)
        number = accumulator(g.dtype)
        z, w = (*(number(numbers[name]) for name in row.numbers), number(0), number(0))[:2]
        dx, db = (empty(g.shape, g.dtype), empty((columns,), g.dtype)) if out is None else out
        space = empty((states * (8 if dtype == "double" else 4),), np.dtype(np.uint8)) if states else None
        self.launch.backend.launch_counted(
            table.bias_backward(gradient, dtype, index), grid, block,
            (kind(rows), kind(columns), dx, db, contiguous(g), contiguous(y), z, w, space,
             self.launch.backend.tickets()),
        )  # fmt: skip
        return dx, db

    def relu_bias_backward(self, g: Array, y: Array, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        if c_name(g.dtype) is None or g.size == 0:
            return self.launch.fallback("relu_bias_backward")(g, y, out=out)
        rows = (-1, g.shape[-1])
        g_rows, y_rows = (self.launch.contiguous(x).reshape(rows) for x in (g, y))
        places = None if out is None else (out[0].reshape(rows), out[1])
        dx, db = self.activation_bias_backward(g_rows, y_rows, "relu_backward", places)
        return dx.reshape(g.shape), db
