"""Elementwise operations: operands to access pattern, index type, grid and arguments of a map_* kernel.

A call is looked up by the dtypes, shapes and strides of its operands; the plan found there holds all that does not
depend on values. Where no kernel fits (integers, bool, complex, more than 8 dimensions) the plan is None and the
fallback, the array module's function, is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import layouts, table
from ..base import Array
from .shared import BLOCK, NUMBERS, Function, Launch, accumulator, c_name, ceil_div, element_strides, packs
from .transpose import transposing

# Blocks a multiprocessor, where elements lie in order: enough that the last wave, not full, weighs little. On an H200 a
# quarter of them took 4 % longer, and without a bound GELU took a fifth longer.
SHORT = 128


class ElementwiseLaunches:
    """Functions of the rows of table.ELEMENTWISE, copies and casts."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {}
        for name, row in table.ELEMENTWISE.items():
            variant = next((v for v in table.VARIANTS if name.startswith(v)), None)
            self.functions[name] = self.elementwise(row, launch.fallback(variant or name), variant, name)
        for variant in table.VARIANTS:
            self.functions[variant] = self.by_variant(variant)
        copy = self.elementwise(table.Elementwise("Copy", 1), launch.fallback("copy"), None, "copy")
        launch.copy_to = transposing(launch, copy)
        self.casts: dict[np.dtype, Function] = {}
        self.functions |= {"copy": launch.copy_to, "astype": self.astype}

    def by_variant(self, name: str) -> Function:
        functions = {kind: self.functions[f"{name}_{kind}"] for kind in ("none", "tanh")}

        def run(*operands: Any, approximate: str = "none", out: Array | None = None) -> Array:
            return functions[approximate](*operands, out=out)

        return run

    def astype(self, x: Array, dtype: Any, out: Array | None = None) -> Array:
        dtype = np.dtype(dtype)
        target = c_name(dtype)
        if target is None or c_name(x.dtype) is None:
            return self.launch.fallback("astype")(x, dtype=dtype, **({} if out is None else {"out": out}))
        if x.dtype == dtype:
            return self.launch.copy_to(x, out=out)
        function = self.casts.get(dtype)
        if function is None:
            row = table.Elementwise(f"Cast<{target}>", 1)
            function = self.elementwise(row, self.launch.fallback("astype"), None, "astype", dtype)
            self.casts[dtype] = function
        return function(x, out=out)

    def elementwise(
        self, row: table.Elementwise, fallback: Function, variant: str | None, name: str, cast: np.dtype | None = None
    ) -> Function:
        plans: dict[Any, Any] = {}
        ndarray, asarray = self.launch.xp.ndarray, self.launch.xp.asarray
        numbers = row.numbers
        backend, launch, apart = self.launch.backend, self.launch.launcher.launch, self.launch.apart

        def run(*operands: Any, out: Array | None = None, **attrs: Any) -> Array:
            key: list[Any] = [None]
            if out is not None:
                key = [(out.dtype, out.shape, out.strides)]
                operands = tuple(apart(out, operands))
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
        ):
            return None
        walk = arrange(arrays, out)
        if walk is None:
            return None
        number = accumulator(dtype)
        kinds = (np.bool_ if row.condition else number, number, number, number)
        zeros = tuple(kind(0) for kind in kinds)
        if not walk.pattern:
            return walk.shape, result, walk.inverse, None, None, None, (), kinds, zeros
        slots: list[layouts.Dims] = [(0,) * len(walk.sizes)] * 4
        places = [0, *(i + 1 for i, x in enumerate(operands) if hasattr(x, "dtype"))]
        for place, steps in zip(places, walk.strides, strict=True):
            slots[place] = steps
        grid, block, head = geometry(self.launch, walk, slots, dtype)
        kernel = table.elementwise(walk.pattern, row.functor, name, walk.index_type)
        return walk.shape, result, walk.inverse, kernel, grid, block, head, kinds, zeros


class Walk(NamedTuple):
    """How arrays that broadcast to one shape are walked together."""

    shape: layouts.Dims  # of the result as it lies in memory
    inverse: tuple[int, ...] | None  # axes that bring a new result into the order of its operands
    pattern: str  # "contiguous", "rows" or "strided"; empty where there is no element
    sizes: layouts.Dims  # merged dimensions
    strides: tuple[layouts.Dims, ...]  # through them, of the result and of each array
    index_type: str


def arrange(arrays: list[Array], out: Array | None) -> Walk | None:
    """The walk through these arrays and the result; None where no kernel goes that way."""
    if any(element_strides(x) is None for x in arrays):
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
    if math.prod(shape) == 0:
        return Walk(in_order, inverse, "", (), (), "int")
    sizes, merged = layouts.merge(in_order, [target, *([s[axis] for axis in order] for s in strides)])  # type: ignore[list-item]
    pattern = layouts.pattern(sizes, merged)
    return pattern and Walk(in_order, inverse, pattern, sizes, merged, layouts.index_type(sizes, merged))  # type: ignore[return-value]


def geometry(
    launch: Launch, walk: Walk, slots: Sequence[layouts.Dims], dtype: np.dtype
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Any, ...]]:
    """Grid, block and leading arguments of a kernel that takes arrays of these strides, the result first."""
    index = np.int32 if walk.index_type == "int" else np.int64
    sizes, n = walk.sizes, math.prod(walk.sizes)
    if walk.pattern == "contiguous":
        return (launch.blocks(ceil_div(packs(n, dtype), BLOCK), SHORT),), (BLOCK,), (index(n),)
    if walk.pattern == "strided":
        fields = [("dimensions", index), ("shape", index, 8), ("stride", index, (len(slots), 8))]
        layout = np.zeros((), fields)
        layout["dimensions"] = len(sizes)
        layout["shape"][: len(sizes)] = sizes
        layout["stride"][:, : len(sizes)] = slots
        return (launch.blocks(ceil_div(n, BLOCK)),), (BLOCK,), (index(n), layout[()])
    rows, columns = (1, *sizes)[-2:]
    across = packs(columns, dtype)
    width = min(BLOCK, 1 << (across - 1).bit_length())
    height = BLOCK // width
    x = launch.blocks(ceil_div(across, width), SHORT)
    y = max(1, launch.blocks(ceil_div(across, width) * ceil_div(rows, height), SHORT) // x)
    strides = np.zeros((), [("row", index, len(slots)), ("column", index, len(slots))])
    for slot, steps in enumerate(slots):
        strides["row"][slot], strides["column"][slot] = (0, *steps)[-2:]
    return (x, min(y, ceil_div(rows, height), 65535)), (width, height), (index(rows), index(columns), strides[()])
