"""How each family of kernels is launched: operands to pattern, index type, grid and arguments.

Every function here is written once for CUDA and the emulated backend. A call is looked up by the dtypes, shapes and
strides of its operands; the plan found there holds all that does not depend on values. Where no kernel fits (integers,
bool, complex, more than 8 dimensions) the plan is None and the fallback, the array module's function, is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from . import layouts, table
from .base import Array

BLOCK = 256
WARP = 32
NUMBERS = (float, int, bool, type(None))  # operands given by value

Function = Callable[..., Any]


def c_name(dtype: np.dtype) -> str | None:
    """The kernels' name of a dtype, or None where they do not cover it."""
    if not dtype.isnative:
        return None
    if dtype.kind == "f":
        return {2: "__half", 4: "float", 8: "double"}.get(dtype.itemsize)
    return "__nv_bfloat16" if dtypes.is_bfloat16(dtype) else None


def accumulator(dtype: np.dtype) -> type:
    return np.float64 if dtype.itemsize == 8 else np.float32


def element_strides(x: Array) -> tuple[int, ...] | None:
    """Strides in elements; None where an array's strides are no whole number of elements."""
    size = x.dtype.itemsize
    return None if any(s % size for s in x.strides) else tuple(s // size for s in x.strides)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def packs(n: int, dtype: np.dtype) -> int:
    """How many 16-byte packs n elements make."""
    return ceil_div(n, 16 // dtype.itemsize)


class Launches:
    """The launch functions of one backend: `functions` holds them by primitive, over the fallbacks given."""

    def __init__(self, backend: Any, fallbacks: Callable[[str], Function]):
        self.backend = backend
        self.xp = backend.xp
        self.launcher = backend.launcher
        self.fallback = fallbacks
        self.functions: dict[str, Function] = {}
        for name, row in table.ELEMENTWISE.items():
            variant = next((v for v in table.VARIANTS if name.startswith(v)), None)
            self.functions[name] = self.elementwise(row, fallbacks(variant or name), variant, name)
        for variant in table.VARIANTS:
            self.functions[variant] = self.by_variant(variant)
        for name in table.REDUCTIONS:
            self.functions[name] = self.reduction(name, fallbacks(name))
        self.copy_to = self.elementwise(table.Elementwise("Copy", 1), fallbacks("copy"), None, "copy")
        self.casts: dict[np.dtype, Function] = {}
        self.functions |= {"copy": self.copy_to, "astype": self.astype}

    # what launches share ---------------------------------------------------------------------------------------------

    def blocks(self, wanted: int, per_processor: int = 8) -> int:
        """Blocks for grid-stride work: enough to fill the GPU, never more than the work or the launcher takes."""
        enough = per_processor * self.launcher.properties.multiprocessors
        return max(1, min(wanted, enough, self.launcher.max_grid))

    def contiguous(self, x: Array) -> Array:
        """x in C order, copied by a kernel where it is not."""
        return x if x.flags.c_contiguous else self.copy_to(x, out=self.backend.empty(x.shape, x.dtype))

    # elementwise -----------------------------------------------------------------------------------------------------

    def by_variant(self, name: str) -> Function:
        functions = {kind: self.functions[f"{name}_{kind}"] for kind in ("none", "tanh")}

        def run(*operands: Any, approximate: str = "none", out: Array | None = None) -> Array:
            return functions[approximate](*operands, out=out)

        return run

    def astype(self, x: Array, dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        target = c_name(dtype)
        if target is None or c_name(x.dtype) is None:
            return self.fallback("astype")(x, dtype=dtype)
        if x.dtype == dtype:
            return self.copy_to(x)
        function = self.casts.get(dtype)
        if function is None:
            row = table.Elementwise(f"Cast<{target}>", 1)
            function = self.elementwise(row, self.fallback("astype"), None, "astype", dtype)
            self.casts[dtype] = function
        return function(x)

    def elementwise(
        self, row: table.Elementwise, fallback: Function, variant: str | None, name: str, cast: np.dtype | None = None
    ) -> Function:
        plans: dict[Any, Any] = {}
        ndarray, asarray = self.xp.ndarray, self.xp.asarray
        numbers = row.numbers
        backend, launch = self.backend, self.launcher.launch

        def run(*operands: Any, out: Array | None = None, **attrs: Any) -> Array:
            key: list[Any] = [None if out is None else (out.dtype, out.shape, out.strides)]
            for i, x in enumerate(operands):
                kind = x.__class__
                if kind is ndarray:
                    key.append((x.dtype, x.shape, x.strides))
                elif kind in NUMBERS:
                    key.append(None)
                else:
                    operands = (*operands[:i], asarray(x), *operands[i + 1 :])
                    key.append((operands[i].dtype, operands[i].shape, operands[i].strides))
            found = tuple(key)
            try:
                plan = plans[found]
            except KeyError:
                plan = plans[found] = self.plan_elementwise(row, operands, out, cast)
            if plan is None:
                if variant is not None:
                    attrs["approximate"] = name.removeprefix(variant + "_")
                if cast is not None:
                    attrs["dtype"] = cast
                return fallback(*operands, **attrs) if out is None else fallback(*operands, out=out, **attrs)
            shape, dtype, axes, kernel, grid, block, head, kinds, zeros = plan
            if out is None:
                out = backend.empty(shape, dtype)
                if axes is not None:
                    out = out.transpose(axes)
            if kernel is not None:
                pointers: list[Any] = [None, None, None]
                values = list(zeros)
                for i, x in enumerate(operands):
                    if x.__class__ is ndarray:
                        pointers[i] = x
                    elif x is not None:
                        values[i] = kinds[i](x)
                for i, number in enumerate(numbers, len(operands)):
                    values[i] = kinds[i](attrs[number])
                launch(kernel, grid, block, (*head, out, *pointers, *values))
            return out

        return run

    def plan_elementwise(
        self, row: table.Elementwise, operands: tuple[Any, ...], out: Array | None, cast: np.dtype | None
    ) -> tuple[Any, ...] | None:
        arrays = [x for x in operands if hasattr(x, "dtype")]
        floats = [x for x in (operands[1:] if row.condition else operands) if hasattr(x, "dtype")]
        if not floats or len(operands) != row.arrays:
            return None
        dtype = floats[0].dtype
        name = c_name(dtype)
        result = np.dtype(bool) if row.truth else cast or dtype
        if (
            name is None
            or any(x.dtype != dtype for x in floats)
            or (row.condition and (not hasattr(operands[0], "dtype") or operands[0].dtype != bool))
            or (out is not None and out.dtype != result)
            or any(element_strides(x) is None for x in arrays)
        ):
            return None
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        if out is not None and out.shape != shape:
            return None  # the array module says it better
        strides = [layouts.broadcast_strides(x.shape, element_strides(x), shape) for x in arrays]  # type: ignore[arg-type]
        axes = layouts.memory_order(shape, strides) if out is None else None
        order = tuple(range(len(shape))) if axes is None else axes
        in_order = tuple(shape[axis] for axis in order)
        target = layouts.dense(in_order) if out is None else element_strides(out)
        inverse = tuple(int(axis) for axis in np.argsort(order)) if order != tuple(range(len(shape))) else None
        number = accumulator(dtype)
        kinds = (np.bool_ if row.condition else number, number, number, number)
        zeros = tuple(kind(0) for kind in kinds)
        if math.prod(shape) == 0:
            return in_order, result, inverse, None, None, None, (), kinds, zeros
        sizes, merged = layouts.merge(in_order, [target, *([s[axis] for axis in order] for s in strides)])  # type: ignore[list-item]
        pattern = layouts.pattern(sizes, merged)
        if pattern is None:
            return None
        index = layouts.index_type(sizes, merged)
        slots: list[layouts.Dims] = [(0,) * len(sizes)] * 4
        places = [0, *(i + 1 for i, x in enumerate(operands) if hasattr(x, "dtype"))]
        for place, steps in zip(places, merged, strict=True):
            slots[place] = steps
        grid, block, head = self.geometry(pattern, sizes, slots, dtype, np.int32 if index == "int" else np.int64)
        kernel = table.elementwise(pattern, row.functor, name, index)
        return in_order, result, inverse, kernel, grid, block, head, kinds, zeros

    def geometry(
        self, pattern: str, sizes: layouts.Dims, slots: list[layouts.Dims], dtype: np.dtype, index: type
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Any, ...]]:
        """Grid, block and leading arguments of a map_* kernel."""
        n = math.prod(sizes)
        if pattern == "map_contiguous":
            return (self.blocks(ceil_div(packs(n, dtype), BLOCK)),), (BLOCK,), (index(n),)
        if pattern == "map_strided":
            layout = np.zeros((), [("dimensions", index), ("shape", index, 8), ("stride", index, (4, 8))])
            layout["dimensions"] = len(sizes)
            layout["shape"][: len(sizes)] = sizes
            layout["stride"][:, : len(sizes)] = slots
            return (self.blocks(ceil_div(n, BLOCK), 16),), (BLOCK,), (index(n), layout[()])
        rows, columns = (1, *sizes)[-2:]
        across = packs(columns, dtype)
        width = min(BLOCK, 1 << (across - 1).bit_length())
        height = BLOCK // width
        x = self.blocks(ceil_div(across, width))
        y = min(
            max(1, self.blocks(ceil_div(across, width) * ceil_div(rows, height)) // x), ceil_div(rows, height), 65535
        )
        strides = np.zeros((), [("row", index, 4), ("column", index, 4)])
        for slot, steps in enumerate(slots):
            strides["row"][slot], strides["column"][slot] = (0, *steps)[-2:]
        return (x, y), (width, height), (index(rows), index(columns), strides[()])

    # reductions ------------------------------------------------------------------------------------------------------

    def reduction(self, name: str, fallback: Function) -> Function:
        plans: dict[Any, Any] = {}
        backend, launch_counted = self.backend, self.backend.launch_counted
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
                x = self.contiguous(x.transpose(axes))
            space = backend.empty((workspace,), np.dtype(np.uint8)) if workspace else None
            launch_counted(kernel, grid, block, (*head, out, x, divisor, space, backend.tickets()))
            return out

        return run

    def plan_reduction(
        self, name: str, x: Array, axis: Any, keepdims: bool, attrs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        dtype = c_name(x.dtype)
        strides = element_strides(x)
        if dtype is None or strides is None or x.size == 0 or x.__class__ is not self.xp.ndarray:
            return None
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(axis % x.ndim for axis in axes)
        reducer, accumulators, indices = table.REDUCTIONS[name]
        count = math.prod(x.shape[axis] for axis in axes)
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
        divisor = accumulator(x.dtype)(max(count - attrs.get("correction", 0), 0))

        plan = self.reduction_geometry(layouts.split_axes(x.shape, strides, axes, not indices), x.dtype)
        order = None
        if plan is None:  # no walk along memory: bring kept axes to the front, reduced ones to the back
            order = (*(i for i in range(x.ndim) if i not in axes), *sorted(axes))
            kept = tuple(x.shape[i] for i in order[: x.ndim - len(axes)])
            rows = math.prod(kept)
            plan = self.reduction_geometry((((rows,), (count,)), ((count,), (1,))), x.dtype)
            assert plan is not None
        pattern, sizes, grid, block, states = plan
        index = "int" if x.size < layouts.INT_LIMIT and max(map(abs, sizes)) < layouts.INT_LIMIT else "long long"
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
        limit = self.launcher.max_grid
        if step == 1 and len(kept) <= 1:
            rows, pitch = (kept or (1,))[0], (kept_steps or (n,))[0]
            splits = min(ceil_div(n, 8192), ceil_div(1024, rows), limit)
            height = 1 if n > 1024 else BLOCK // WARP
            grid = (min(ceil_div(rows, height), limit), splits)
            return "reduce_rows", (rows, n, pitch), grid, (BLOCK // height, height), rows * splits if splits > 1 else 0
        if not kept or kept_steps[-1] != 1:
            return None
        outer, outer_pitch = (kept[0], kept_steps[0]) if len(kept) == 2 else (1, 0)
        tiles = outer * ceil_div(kept[-1], WARP)
        splits = min(ceil_div(n, 64), ceil_div(512, tiles), limit)
        sizes = (outer, n, kept[-1], outer_pitch, step)
        grid = (min(tiles, limit), splits)
        return "reduce_columns", sizes, grid, (WARP, BLOCK // WARP), tiles * splits * WARP if splits > 1 else 0
