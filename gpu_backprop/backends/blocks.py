"""Chains of elementwise operations on the CPU, block by block: what lies between two steps stays in the cache.

The same NumPy functions as one by one, so the same bits; see launching/chain.py for what a Chain is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import table
from .base import in_turn
from .launching.chain import Chain

Array = Any
BLOCK = 16_384  # elements: a handful of float32 arrays of this size fit into the second-level cache


def bind(chain: Chain, operands: tuple[Any, ...], out: Array, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The calls that compute a chain into `out`, as one call without arguments."""
    rows = out.shape[0] if out.ndim else 1
    step = max(1, BLOCK // max(1, math.prod(out.shape[1:])))
    scratch: list[Array] = [None] * len(chain.steps)  # of the results between
    calls: list[Callable[[], Any]] = []
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        target = out[part] if out.ndim else out
        values = [_block(x, part, out) for x in operands]
        for i, (name, *places) in enumerate(chain.steps):
            row = table.ELEMENTWISE[name]
            given = [values[place] for place in places]
            if i == len(chain.steps) - 1:
                result = target
            else:
                if scratch[i] is None:
                    shape = (step, *out.shape[1:]) if out.ndim else ()
                    scratch[i] = np.empty(shape, bool if row.truth else _dtype(given, out))
                result = scratch[i][: len(target)] if out.ndim else scratch[i]
            attrs = dict(zip(row.numbers, given[row.arrays :]))
            primitive, variant = _primitive(name)
            calls.append(functools.partial(functions[primitive], *given[: row.arrays], **attrs, **variant, out=result))
            values.append(result)

    return in_turn(calls)


def chain(functions: Mapping[str, Callable[..., Any]], *operands: Any, chain: Chain, out: Array | None = None) -> Array:
    """The chain's result."""
    if out is not None:
        bind(chain, operands, out, functions)()
        return out
    values = list(operands)
    for name, *places in chain.steps:
        row, (primitive, variant) = table.ELEMENTWISE[name], _primitive(name)
        given = [values[place] for place in places]
        attrs = dict(zip(row.numbers, given[row.arrays :]))
        values.append(functions[primitive](*given[: row.arrays], **attrs, **variant))
    return values[-1]


def _block(x: Any, part: slice, out: Array) -> Any:
    """The part of an operand that meets these rows of the result."""
    whole = getattr(x, "ndim", 0) == out.ndim and out.ndim and x.shape[0] == out.shape[0]
    return x[part] if whole else x


def _dtype(given: list[Any], out: Array) -> Any:
    return next((x.dtype for x in given if hasattr(x, "dtype") and x.dtype != bool), out.dtype)


def _primitive(name: str) -> tuple[str, dict[str, str]]:
    """A row of the table as the primitive and the attribute that it stands for."""
    for variant in table.VARIANTS:
        if name.startswith(variant + "_") and name.removeprefix(variant + "_") in ("none", "tanh"):
            return variant, {"approximate": name.removeprefix(variant + "_")}
    return name, {}
