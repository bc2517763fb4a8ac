"""What benchmarks/kernels.py measures: for each kernel the fewest bytes it must move, the goal, and the peers' call.

A row of ROWS is (name, primitive, goal, arrays moved, ours, CuPy's, PyTorch's). The last three are functions of the
Bench `b`, ours also of the primitive's function `f`, and make a step without arguments. Arrays moved counts passes over
one (rows, columns) array. None stands for a peer that has no such function: a chain of CuPy's functions is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Step = Callable[[], Any]

ELEMENTWISE, COLUMNS, ROWS_GOAL = 0.85, 0.75, 0.75  # of the copy's bytes a second


@dataclass(frozen=True)
class Case:
    """One kernel, ready to be measured; `steps` by library, ours first. Steps return something to compare, or None."""

    name: str
    bytes: float
    goal: float
    steps: dict[str, Step]


class Bench:
    """A device's arrays, and the same memory as PyTorch sees it. `x`, `y` are (rows, columns), `out` like them."""

    def __init__(self, backend: Any, torch: Any, rows: int, columns: int, dtype: str):
        self.backend, self.xp, self.torch = backend, backend.xp, torch
        self.rows, self.columns, self.dtype = rows, columns, np.dtype(dtype)
        self.attrs: dict[str, Any] = {}
        self.x, self.y, self.out = self.normal(rows, columns), self.normal(rows, columns), self.normal(rows, columns)
        self.row, self.weight = self.normal(columns), self.normal(columns)
        self.labels = backend.from_host(np.arange(rows) % columns)
        self.indices = backend.from_host(np.random.default_rng(1).integers(0, rows, rows))
        if torch is not None:
            self.tx, self.ty, self.trow, self.tweight = map(self.theirs, (self.x, self.y, self.row, self.weight))
            self.tout, self.tlabels, self.tindices = map(self.theirs, (self.out, self.labels, self.indices))

    def normal(self, *shape: int) -> Any:
        """Random numbers: a block of them, repeated, because drawing all would take longer than measuring."""
        block = np.random.default_rng(len(shape)).standard_normal(min(int(np.prod(shape)), 1 << 20))
        small = self.backend.from_host(block.astype(self.dtype))
        return self.xp.resize(small, shape)

    def theirs(self, array: Any) -> Any:
        return self.torch.from_dlpack(array)

    @property
    def F(self) -> Any:
        return self.torch.nn.functional


def reduction(axis: tuple[int, ...] | None) -> Callable[[Bench, Any], Step]:
    return lambda b, f: lambda: f(b.x, axis=axis, keepdims=False)


CE = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}


def dropout(b: Bench, f: Any) -> Step:
    def step() -> None:  # nothing to compare: everybody draws other numbers
        f(b.x, p=0.5, key=(1, 2), offset=0, out=b.out)

    return step


def cross_entropy_backward(b: Bench, f: Any) -> Step:
    _, *residuals = b.backend.functions["softmax_cross_entropy"](b.x, b.labels, None, **CE)
    one = b.backend.from_host(np.ones((), b.dtype))
    return lambda: f(one, b.x, b.labels, None, *residuals, **CE, out=b.out)


def torch_backward(make: Callable[[Bench, Any], Any]) -> Callable[[Bench], Step]:
    """The backward pass alone of what `make(b, x)` computes, through PyTorch's autograd."""

    def build(b: Bench) -> Step:
        x = b.tx.detach().requires_grad_()
        result = make(b, x)
        gradient = b.ty if result.shape == b.ty.shape else b.torch.ones_like(result)
        return lambda: b.torch.autograd.grad(result, x, gradient, retain_graph=True)[0]

    return build


ROWS: tuple[tuple[str, str, float, float, Any, Any, Any], ...] = (
    # elementwise
    ("add", "add", ELEMENTWISE, 3, lambda b, f: lambda: f(b.x, b.y, out=b.out),
     lambda b: lambda: b.xp.add(b.x, b.y, out=b.out), lambda b: lambda: b.torch.add(b.tx, b.ty, out=b.tout)),
    ("add a row", "add", ELEMENTWISE, 2, lambda b, f: lambda: f(b.x, b.row, out=b.out),
     lambda b: lambda: b.xp.add(b.x, b.row, out=b.out), lambda b: lambda: b.torch.add(b.tx, b.trow, out=b.tout)),
    ("relu", "relu", ELEMENTWISE, 2, lambda b, f: lambda: f(b.x, out=b.out),
     lambda b: lambda: b.xp.maximum(b.x, 0, out=b.out), lambda b: lambda: b.F.relu(b.tx)),
    ("relu backward", "relu_backward", ELEMENTWISE, 3, lambda b, f: lambda: f(b.y, b.x, out=b.out),
     None, lambda b: lambda: b.torch.ops.aten.threshold_backward(b.ty, b.tx, 0)),
    ("exp", "exp", ELEMENTWISE, 2, lambda b, f: lambda: f(b.x, out=b.out),
     lambda b: lambda: b.xp.exp(b.x, out=b.out), lambda b: lambda: b.torch.exp(b.tx, out=b.tout)),
    ("gelu", "gelu", ELEMENTWISE, 2, lambda b, f: lambda: f(b.x, approximate="none", out=b.out),
     None, lambda b: lambda: b.F.gelu(b.tx)),
    ("gelu backward", "gelu_backward", ELEMENTWISE, 3, lambda b, f: lambda: f(b.y, b.x, approximate="none", out=b.out),
     None, lambda b: lambda: b.torch.ops.aten.gelu_backward(b.ty, b.tx)),
    ("dropout", "dropout", ELEMENTWISE, 2, dropout,
     None, lambda b: lambda: b.F.dropout(b.tx, 0.5, True)),
    # reductions
    ("sum of all", "sum", ELEMENTWISE, 1, reduction(None),
     lambda b: lambda: b.xp.sum(b.x), lambda b: lambda: b.torch.sum(b.tx)),
    ("sum of rows", "sum", ELEMENTWISE, 1, reduction((1,)),
     lambda b: lambda: b.xp.sum(b.x, axis=1), lambda b: lambda: b.torch.sum(b.tx, 1)),
    ("max of rows", "max", ELEMENTWISE, 1, reduction((1,)),
     lambda b: lambda: b.xp.max(b.x, axis=1), lambda b: lambda: b.torch.amax(b.tx, 1)),
    ("argmax of rows", "argmax", ELEMENTWISE, 1, lambda b, f: lambda: f(b.x, axis=1, keepdims=False),
     lambda b: lambda: b.xp.argmax(b.x, axis=1), lambda b: lambda: b.torch.argmax(b.tx, 1)),
    ("var of rows", "var", ELEMENTWISE, 1, lambda b, f: lambda: f(b.x, axis=(1,), correction=0, keepdims=False),
     lambda b: lambda: b.xp.var(b.x, axis=1), lambda b: lambda: b.torch.var(b.tx, 1, correction=0)),
    ("logsumexp of rows", "logsumexp", ELEMENTWISE, 1, reduction((1,)),
     None, lambda b: lambda: b.torch.logsumexp(b.tx, 1)),
    ("sum of columns", "sum", COLUMNS, 1, reduction((0,)),
     lambda b: lambda: b.xp.sum(b.x, axis=0), lambda b: lambda: b.torch.sum(b.tx, 0)),
    # softmax, losses
    ("softmax", "softmax", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, axis=1, out=b.out),
     None, lambda b: lambda: b.F.softmax(b.tx, 1)),
    ("softmax backward", "softmax_backward", ROWS_GOAL, 3, lambda b, f: lambda: f(b.y, b.x, axis=1, out=b.out),
     None, lambda b: lambda: b.torch.ops.aten._softmax_backward_data(b.ty, b.tx, 1, b.tx.dtype)),
    ("log_softmax", "log_softmax", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, axis=1, out=b.out),
     None, lambda b: lambda: b.F.log_softmax(b.tx, 1)),
    ("cross-entropy", "softmax_cross_entropy", ROWS_GOAL, 1, lambda b, f: lambda: f(b.x, b.labels, None, **CE)[0],
     None, lambda b: lambda: b.F.cross_entropy(b.tx, b.tlabels)),
    ("cross-entropy backward", "softmax_cross_entropy_backward", ROWS_GOAL, 2, cross_entropy_backward,
     None, torch_backward(lambda b, x: b.F.cross_entropy(x, b.tlabels))),
    ("mse_loss", "mse_loss", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, b.y, reduction="mean"),
     None, lambda b: lambda: b.F.mse_loss(b.tx, b.ty)),
    # norms, rows by index
    ("layer_norm", "layer_norm", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, b.weight, b.row, eps=1e-5)[0],
     None, lambda b: lambda: b.F.layer_norm(b.tx, (b.columns,), b.tweight, b.trow)),
    ("rms_norm", "rms_norm", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, b.weight, eps=1e-5)[0],
     None, lambda b: lambda: b.F.rms_norm(b.tx, (b.columns,), b.tweight, 1e-5)),
    ("batch_norm", "batch_norm_training", ROWS_GOAL, 3,
     lambda b, f: lambda: f(b.x, b.weight, b.row, None, None, momentum=0.1, eps=1e-5)[0],
     None, lambda b: lambda: b.F.batch_norm(b.tx, None, None, b.tweight, b.trow, True)),
    ("take rows", "take", ROWS_GOAL, 2, lambda b, f: lambda: f(b.x, b.indices, axis=0),
     lambda b: lambda: b.xp.take(b.x, b.indices, axis=0), lambda b: lambda: b.torch.index_select(b.tx, 0, b.tindices)),
)  # fmt: skip


def cases(b: Bench, only: str = "") -> Iterator[Case | str]:
    """The cases, and a line of text for each one that this device has no function for."""
    for name, primitive, goal, arrays, ours, cupy, torch in ROWS:
        if only not in name:
            continue
        try:
            function = b.backend.functions[primitive]
        except AttributeError:
            yield f"{name}: there is no primitive {primitive}"
            continue
        steps = {"ours": ours(b, function)}
        if cupy is not None:
            steps["cupy"] = cupy(b)
        if torch is not None and b.torch is not None:
            steps["torch"] = torch(b)
        yield Case(name, arrays * b.x.nbytes, goal, steps)


def updates(b: Bench, size: int, only: str = "") -> Iterator[Case | str]:
    """The optimisers on `size` parameters. Reads and writes: parameter and state; reads: the gradient."""
    for name, primitive, states, numbers, flags, torch_name, options in (
        ("adam", "adam_update", 2, (0.9, 0.999, 1e-8), {"decoupled": False}, "Adam", {}),
        ("sgd with momentum", "sgd_update", 1, (0.9, 0.0), {"nesterov": False}, "SGD", {"momentum": 0.9}),
    ):
        if only not in name:
            continue
        function = b.backend.functions[primitive]
        arrays: list[Any] = [b.normal(size) for _ in range(2)] + [b.xp.zeros(size, b.dtype) for _ in range(states)]
        if primitive == "adam_update":
            arrays.append(None)  # max_exp_avg_sq
        hyper = b.backend.from_host(np.array([1e-3, 0.0, 1.0, 0.0, *numbers]))
        counts = b.backend.from_host(np.zeros(1))

        def ours(f=function, a=arrays, h=hyper, c=counts, flags=flags) -> None:
            f(*a, h, c, first=0, count=1, **flags)

        steps: dict[str, Step] = {"ours": ours}
        if b.torch is not None:
            parameter = b.torch.nn.Parameter(b.theirs(arrays[0]))
            parameter.grad = b.theirs(arrays[1])
            optimizer = getattr(b.torch.optim, torch_name)([parameter], lr=1e-3, fused=True, **options)
            steps["torch"] = lambda o=optimizer: o.step()  # type: ignore[misc]
        yield Case(f"{name}, {size:.1e} parameters", (2 * states + 3) * size * b.dtype.itemsize, ELEMENTWISE, steps)
