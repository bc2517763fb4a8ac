"""Chains of elementwise operations as one generated kernel, with the bits that the operations give one by one.

    scaled_relu = Chain(2, (("multiply", 0, 1), ("relu", 2)))      # relu(x0 * x1)
    backend.functions["chain"](x, 0.5, chain=scaled_relu)

A step names an operation of table.ELEMENTWISE and its operands: values 0 .. inputs - 1 are the chain's own, the next
ones the results of the steps, the last of which is the chain's. What an operation takes as attributes (a slope, a
threshold) are operands here, so that nothing of value is written into the kernel.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...core.errors import KernelError
from .. import kernels, table
from ..base import Array
from ..kernels import Kernel
from .elementwise import arrange, geometry
from .shared import Function, Launch, accumulator, c_name

MAX_INPUTS = 6  # their packs, and what is computed from them, must fit into 80 registers a thread

Step = tuple[Any, ...]  # (operation, operand, ...)


@dataclass(frozen=True)
class Chain:
    """What is computed: see above. Raises KernelError for operations and operands that do not exist."""

    inputs: int
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.inputs <= MAX_INPUTS or not self.steps:
            raise KernelError(
                f"chain: {self.inputs} inputs and {len(self.steps)} steps; give 1 to {MAX_INPUTS} inputs and a step"
            )
        for i, (name, *operands) in enumerate(self.steps):
            row = table.ELEMENTWISE.get(name)
            if row is None:
                raise KernelError(f"chain: {name!r} is no elementwise operation that kernels have")
            wanted = row.arrays + len(row.numbers)
            if len(operands) != wanted:
                raise KernelError(f"chain: step {i}, {name}, takes {wanted} operands, not {len(operands)}")
            if any(not 0 <= operand < self.inputs + i for operand in operands):
                last = self.inputs + i - 1
                raise KernelError(f"chain: step {i}, {name}, names operands {operands}; before it are 0 to {last}")

    @property
    def truth(self) -> bool:
        """Is the result bool?"""
        return table.ELEMENTWISE[self.steps[-1][0]].truth

    @property
    def source(self) -> str:
        """The file that defines the chain for kernels/chain.cuh."""
        lines = []
        for i, (name, *operands) in enumerate(self.steps):
            call = f"{table.ELEMENTWISE[name].functor.format(dtype='T')}::apply({', '.join(f'v{o}' for o in operands)})"
            last = i == len(self.steps) - 1
            lines.append(f"return {call};" if last else f"const A v{self.inputs + i} = kept<T>({call});")
        inputs = ", ".join(f"v{i} = v[{i}]" for i in range(self.inputs))
        body = "\n".join(f"        {line}" for line in [f"const A {inputs};", *lines])
        return (
            f"// {' -> '.join(name for name, *_ in self.steps)}\n"
            '#include "chain.cuh"\n\n'
            "struct Chain {\n"
            f"    template <class T, class A, int N> __device__ static auto apply(const A (&v)[N]) {{\n{body}\n    }}\n"
            "};\n"
        )

    @cached_property
    def file(self) -> str:
        """Where the source lies, in the cache of compiled kernels."""
        source = self.source
        names = re.sub(r"\W", "", "-".join(name for name, *_ in self.steps[:4]))
        path = kernels.cache_folder() / "chains" / f"{names}-{kernels.digest(source)}.cu"
        if not path.exists():
            with kernels.workshop(path.parent) as place:
                (place / "source").write_text(source)
                os.replace(place / "source", path)
        return str(path)

    def kernel(self, pattern: str, dtype: str, index: str, operands: tuple[str, ...]) -> Kernel:
        """The kernel for operands that are arrays ("x"), arrays of bool ("?") or numbers ("")."""
        types = {"x": f"const {dtype}*", "?": "const bool*", "": "double" if dtype == "double" else "float"}
        given = ", ".join(types[operand] for operand in operands)
        out = "bool" if self.truth else dtype
        return Kernel(self.file, f"chain_{pattern}<Chain, {dtype}, {out}, {index}, {given}>")


class ChainLaunches:
    """The function "chain", beside those of single operations, which serve where no kernel fits."""

    def __init__(self, launch: Launch, functions: dict[str, Function]):
        self.launch = launch
        self.single = functions
        self.plans: dict[Any, Any] = {}
        self.functions: dict[str, Function] = {"chain": self.chain}

    def chain(self, *operands: Any, chain: Chain, out: Array | None = None) -> Array:
        """The chain's result; operands are arrays of one float dtype (conditions: of bool) and numbers."""
        if len(operands) != chain.inputs:
            raise KernelError(f"chain: {len(operands)} operands for a chain of {chain.inputs} inputs")
        if out is not None:
            operands = tuple(self.launch.apart(out, operands))
        layouts = tuple((x.dtype, x.shape, x.strides) if hasattr(x, "dtype") else None for x in operands)
        key = chain, layouts, None if out is None else (out.dtype, out.shape, out.strides)
        if key not in self.plans:
            self.plans[key] = self.plan(chain, operands, out)
        plan = self.plans[key]
        if plan is None:
            return self.one_by_one(chain, operands, out)
        shape, dtype, inverse, kernel, grid, block, head, number = plan
        if out is None:
            out = self.launch.backend.empty(shape, dtype)
            if inverse is not None:
                out = out.transpose(inverse)
        if kernel is not None:
            values = [x if hasattr(x, "dtype") else number(x) for x in operands]
            self.launch.launcher.launch(kernel, grid, block, (*head, out, *values))
        return out

    def plan(self, chain: Chain, operands: tuple[Any, ...], out: Array | None) -> tuple[Any, ...] | None:
        arrays = [x for x in operands if hasattr(x, "dtype")]
        floats = {x.dtype for x in arrays if x.dtype != bool}
        if len(floats) != 1:
            return None
        (dtype,) = floats
        name, result = c_name(dtype), np.dtype(bool) if chain.truth else dtype
        if name is None or (out is not None and out.dtype != result):
            return None
        walk = arrange(arrays, out)
        if walk is None:
            return None
        number = accumulator(dtype)
        if not walk.pattern:
            return walk.shape, result, walk.inverse, None, None, None, (), number
        steps = iter(walk.strides[1:])
        still = (0,) * len(walk.sizes)
        slots = [walk.strides[0], *(next(steps) if hasattr(x, "dtype") else still for x in operands)]
        grid, block, head = geometry(self.launch, walk, slots, dtype)
        kinds = tuple(("?" if x.dtype == bool else "x") if hasattr(x, "dtype") else "" for x in operands)
        kernel = chain.kernel(walk.pattern, name, walk.index_type, kinds)
        return walk.shape, result, walk.inverse, kernel, grid, block, head, number

    def one_by_one(self, chain: Chain, operands: tuple[Any, ...], out: Array | None) -> Array:
        values = list(operands)
        for i, (name, *places) in enumerate(chain.steps):
            row = table.ELEMENTWISE[name]
            given = [values[place] for place in places]
            attrs = dict(zip(row.numbers, given[row.arrays :]))
            last = {"out": out} if out is not None and i == len(chain.steps) - 1 else {}
            values.append(self.single[name](*given[: row.arrays], **attrs, **last))
        return values[-1]
