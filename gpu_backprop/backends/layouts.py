"""From shapes and strides to the fewest dimensions, and from those to an access pattern. Plain Python, no arrays.

Strides are in elements. Dimensions of size 1 vanish and neighbours that lie one after another in all operands merge, so
that a dense 4-D array is a line, and a bias beside it a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_DIMENSIONS = 8
INT_LIMIT = 2**30  # offsets below it fit in 32 bits even after one more grid-stride step

Dims = tuple[int, ...]


def dense(shape: Sequence[int]) -> Dims:
    """The strides of a C-contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def broadcast_strides(shape: Dims, strides: Dims, to: Dims) -> Dims:
    """The strides with which an operand of `shape` runs through the shape `to` that it broadcasts to."""
    lead = len(to) - len(shape)
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def memory_order(shape: Dims, operands: Sequence[Dims]) -> tuple[int, ...] | None:
    """The axes, outermost in memory first, if all operands are dense in one and the same order; else None.

    A result laid out like its operands makes an operation on transposed arrays a walk along memory.
    """
    first = operands[0]
    axes = sorted(range(len(shape)), key=lambda axis: (-first[axis], axis))
    step = 1
    for axis in reversed(axes):
        if shape[axis] != 1:
            if any(strides[axis] != step for strides in operands):
                return None
            step *= shape[axis]
    return tuple(axes)


def merge(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> tuple[Dims, tuple[Dims, ...]]:
    """Shape and strides in the fewest dimensions that visit the same elements in the same order."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in operands]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(out[-1] == strides[axis] * n for out, strides in zip(steps, operands, strict=True)):
            sizes[-1] *= n
            for out, strides in zip(steps, operands, strict=True):
                out[-1] = strides[axis]
        else:
            sizes.append(n)
            for out, strides in zip(steps, operands, strict=True):
                out.append(strides[axis])
    return tuple(sizes), tuple(tuple(out) for out in steps)


def pattern(shape: Dims, operands: Sequence[Dims]) -> str | None:
    """The access pattern for merged dimensions; `operands` begins with the result. None: no kernel goes that deep."""
    if not shape or (len(shape) == 1 and all(strides == (1,) for strides in operands)):
        return "contiguous"
    if len(shape) <= 2 and operands[0][-1] == 1 and all(strides[-1] in (0, 1) for strides in operands):
        return "rows"
    return "strided" if len(shape) <= MAX_DIMENSIONS else None


def index_type(shape: Dims, operands: Sequence[Dims]) -> str:
    """ "int" where every index and offset stays far below 2^31, else "long long"."""
    reach = [math.prod(shape)]
    reach += [sum((n - 1) * abs(s) for n, s in zip(shape, strides, strict=True)) for strides in operands]
    return "int" if max(reach) < INT_LIMIT else "long long"


def split_axes(
    shape: Dims, strides: Dims, axes: tuple[int, ...], any_order: bool
) -> tuple[tuple[Dims, Dims], tuple[Dims, Dims]]:
    """Kept and reduced dimensions, each merged by themselves: ((sizes, strides), (sizes, strides)).

    `any_order`: the reduction may visit the elements in any order, so reduced axes are sorted by stride.
    """
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    reduced = sorted(axes, key=lambda axis: -strides[axis]) if any_order else sorted(axes)
    result = []
    for group in (kept, reduced):
        sizes, (steps,) = merge([shape[axis] for axis in group], [[strides[axis] for axis in group]])
        result.append((sizes, steps))
    return result[0], result[1]
