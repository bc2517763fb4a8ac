"""The cases of benchmarks/kernels.py, ready to be measured: those of kernel_table.py, the optimisers, SPECIFIED."""

from __future__ import annotations

import importlib
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from kernel_table import ELEMENTWISE, TABLE

from gpu_backprop.backends import table
from gpu_backprop.core import dtypes

Step = Callable[[], Any]

CHANNELS = 8  # of the arrays (outer, channels, inner)


@dataclass(frozen=True)
class Case:
    """One kernel, ready to be measured; `steps` by library, ours first, give something to compare unless it is None."""

    name: str
    bytes: int
    goal: float
    steps: dict[str, Step]
    launches: tuple[str, ...]  # operations of table.operations()
    specified: bool = False  # the goal is one that the project has set itself, for this shape


class Bench:
    """A device's arrays, those of ARRAYS, each made when it is first asked for."""

    def __init__(self, backend: Any, torch: Any, shape: tuple[int, ...], dtype: str):
        self.backend, self.xp, self.torch, self.functions = backend, backend.xp, torch, backend.functions
        self.shape, self.dtype = shape, dtypes.as_dtype(dtype)
        self.other = dtypes.bfloat16() if self.dtype == dtypes.float32 else dtypes.float32
        self.seeds = itertools.count()
        self.kept: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in ARRAYS:
            raise AttributeError(f"a Bench has no {name}")
        made = ARRAYS[name](self)
        setattr(self, name, made)
        return made

    def normal(self, *shape: int, dtype: np.dtype | None = None, change: Callable[[Any], Any] = np.asarray) -> Any:
        """Random numbers: a block of them, repeated, because drawing all would take longer than measuring."""
        size = math.prod(shape)
        block = change(np.random.default_rng(next(self.seeds)).standard_normal(min(size, 1 << 20)))
        small = self.backend.from_host(block.astype(dtype or self.dtype))
        result = self.backend.empty((size,), small.dtype)
        for start in range(0, size, small.size):
            result[start : start + small.size] = small[: size - start]
        return result.reshape(shape)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What a case needs and does not measure; kept until the case is done."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def saved(self, primitive: str, *operands: Any, **attrs: Any) -> tuple[Any, ...]:
        """What a primitive leaves for its backward pass."""
        return self.once(primitive, lambda: self.functions[primitive](*operands, **attrs)[1:])


ARRAYS: dict[str, Callable[[Bench], Any]] = {
    **dict.fromkeys(("x", "y", "out"), lambda b: b.normal(*b.shape)),
    "flat": lambda b: b.x.reshape(-1),
    "turned": lambda b: b.normal(*b.shape[::-1]).T,
    "positive": lambda b: b.normal(*b.shape, change=lambda x: np.abs(x) + 0.5),
    "ratios": lambda b: b.normal(*b.shape, change=lambda x: 1 + x / 64),  # products of thousands neither 0 nor infinite
    "others": lambda b: b.normal(*b.shape, dtype=b.other),
    "mask": lambda b: b.normal(*b.shape, dtype=np.dtype(bool), change=lambda x: x > 0),
    "truth": lambda b: b.backend.empty(b.shape, np.dtype(bool)),
    "integers": lambda b: b.backend.empty(b.shape, np.dtype(np.int64)),
    **dict.fromkeys(("row", "weight", "mean"), lambda b: b.normal(b.shape[1])),  # of the channels
    "var": lambda b: b.normal(b.shape[1], change=lambda x: np.abs(x) + 0.5),
    "column": lambda b: b.normal(b.shape[0], 1),
    "one": lambda b: b.backend.from_host(np.ones((), b.dtype)),
    "labels": lambda b: b.backend.from_host(np.arange(b.shape[0]) % b.shape[1]),
    "indices": lambda b: b.backend.from_host(np.random.default_rng(1).integers(0, b.shape[0], b.shape[0])),
    # not arrays, but also the array module's
    "special": lambda b: importlib.import_module(f"{'scipy' if b.xp is np else 'cupyx.scipy'}.special"),
    "generator": lambda b: b.xp.random.default_rng(1),
}


class Theirs:
    """The same memory as PyTorch sees it: `t.x` is the Bench's x."""

    def __init__(self, bench: Bench, **replaced: Any):
        self.bench, self.torch = bench, bench.torch
        self.F, self.aten = bench.torch.nn.functional, bench.torch.ops.aten
        self.__dict__ |= replaced

    def __getattr__(self, name: str) -> Any:
        made = self.tensor(getattr(self.bench, name))
        setattr(self, name, made)
        return made

    def replace(self, **tensors: Any) -> Theirs:
        return Theirs(self.bench, **tensors)

    def tensor(self, array: Any) -> Any:
        """DLPack, past the dtypes that array modules do not export."""
        name = array.dtype.name
        if name not in ("bfloat16", "bool"):
            return self.torch.from_dlpack(array)
        plain = array.view(np.int16 if name == "bfloat16" else np.int8)
        return self.torch.from_dlpack(plain).view(getattr(self.torch, name))


def moved(formula: str, size: int, other: int = 0) -> int:
    """Bytes an element, by a formula such as "3s + 1": s is the size of the dtype, o that of the other one."""
    names = {"s": size, "o": other, "": 1}
    return sum(int(n or 1) * names[name] for n, name in re.findall(r"(\d*)([so]?)(?: \+ |$)", formula) if n or name)


def cases(b: Bench, only: str = "") -> Iterator[Case]:
    """The rows of the table as cases, each to be measured before the next one is asked for."""
    images = Bench(b.backend, b.torch, (b.shape[0] // CHANNELS, CHANNELS, b.shape[1]), b.dtype.name)
    ours, theirs = (b, images), tuple(Theirs(x) for x in (b, images) if x.torch is not None)
    for row in TABLE:
        if only not in row.name:
            continue
        bench = ours[row.images]
        steps: dict[str, Step] = {"ours": partial(row.ours, bench, b.functions[row.primitive])}
        if row.cupy is not None:
            steps["cupy"] = partial(row.cupy, bench)
        if row.torch is not None and theirs:
            steps["torch"] = partial(row.torch, theirs[row.images])
        if row.primitive in (*table.RANDOM, *table.RANDOM_INTEGERS):
            steps = {name: partial(silent, step) for name, step in steps.items()}
        size = moved(row.bytes, b.dtype.itemsize, b.other.itemsize) * math.prod(bench.shape)
        yield Case(row.name, size, row.goal, steps, row.launches or (row.primitive,))
        bench.kept.clear()


def silent(step: Step) -> None:
    """Without a result, for there is nothing to compare: everybody draws other numbers."""
    step()


class Update(NamedTuple):
    """An optimiser: our primitive, which of its states there are, hyper-parameters 4 and on; PyTorch's class."""

    name: str
    primitive: str
    states: tuple[bool, ...]
    numbers: tuple[float, ...]
    peer: str
    options: dict[str, Any]
    decay: float = 0.0  # PyTorch's default
    switches: tuple[str, ...] = ()


ADAM = ("adam_update", (True, True, False), (0.9, 0.999, 1e-8))
ADAMW = Update("adamw", *ADAM, "AdamW", {"fused": True}, 1e-2, ("decoupled",))
UPDATES = (
    Update("sgd", "sgd_update", (False,), (0.0, 0.0), "SGD", {"fused": True}),
    Update("sgd with momentum", "sgd_update", (True,), (0.9, 0.0), "SGD", {"fused": True, "momentum": 0.9}),
    Update("adam", *ADAM, "Adam", {"fused": True}),
    ADAMW,
    Update("rmsprop", "rmsprop_update", (True, False, False), (0.99, 1e-8, 0.0), "RMSprop", {"foreach": True}),
    Update("adagrad", "adagrad_update", (True,), (0.0, 1e-10), "Adagrad", {"foreach": True}),
)


def updates(b: Bench, size: int, only: str = "") -> Iterator[Case]:
    """The optimisers on `size` parameters, then the same on bfloat16 beside float32 master weights.

    Parameters and states are read and written, gradients read; with a master copy the parameters are only written.
    """
    half = Bench(b.backend, b.torch, b.shape, "bfloat16")
    for bench, suffix in ((b, ""), (half, " with master weights")):
        for row in UPDATES:
            if only in row.name + suffix:
                yield update(bench, row, size, suffix)


def update(b: Bench, row: Update, size: int, suffix: str) -> Case:
    wide = dtypes.float32 if suffix else b.dtype
    parameters, gradients = b.normal(size), b.normal(size)
    zeros = partial(b.xp.zeros, size, wide)
    states = [zeros() if there else None for there in row.states]
    master = {"master": b.functions["astype"](parameters, dtype=wide)} if suffix else {}
    hyper = b.backend.from_host(np.array([1e-3, row.decay, 1.0, 0.0, *row.numbers]))
    counts = b.backend.from_host(np.zeros(1))
    function = b.functions[row.primitive]
    switches = dict.fromkeys(row.switches, True)
    ours = partial(function, parameters, gradients, *states, hyper, counts, first=0, count=1, **switches, **master)
    steps: dict[str, Step] = {"ours": partial(silent, ours)}
    if b.torch is not None and not suffix:
        parameter = b.torch.nn.Parameter(Theirs(b).tensor(parameters))
        parameter.grad = Theirs(b).tensor(gradients)
        steps["torch"] = getattr(b.torch.optim, row.peer)([parameter], lr=1e-3, **row.options).step
    narrow = 2 * b.dtype.itemsize + (0 if suffix else b.dtype.itemsize)
    across = narrow + wide.itemsize * 2 * (sum(row.states) + bool(suffix))
    name = f"{row.name}{suffix}, {size:.1e} parameters"
    return Case(name, across * size, ELEMENTWISE, steps, (row.primitive + suffix,))


# What the project has set itself: row of the table, (rows, columns), share of what a copy moves; float32
SPECIFIED = (
    ("cross-entropy", (65536, 1024), 0.85),
    ("cross-entropy backward", (65536, 1024), 0.85),
    ("layer_norm", (65536, 4096), 0.85),
    ("layer_norm backward", (65536, 4096), 0.85),
    ("sum of columns", (65536, 8192), 0.85),
)
ADAMW_SPECIFIED = (10**9, 0.9)  # parameters, share


def specified(b: Bench, scale: tuple[int, int], only: str = "") -> Iterator[tuple[Bench, Case]]:
    """The cases of SPECIFIED, with the arrays that each is measured on; a rehearsal divides their sizes by `scale`."""
    for name, (rows, columns), goal in SPECIFIED:
        bench = Bench(b.backend, b.torch, (rows // scale[0], columns // scale[1]), b.dtype.name)
        case = next(c for c in cases(bench) if c.name == name)
        title = f"{name}, {' x '.join(f'{n:,}' for n in bench.shape)}"
        if only in title:
            yield bench, replace(case, name=title, goal=goal, specified=True)
        bench.kept.clear()
    size, goal = ADAMW_SPECIFIED
    if only in ADAMW.name:
        yield b, replace(update(b, ADAMW, size // math.prod(scale), ""), goal=goal, specified=True)
