"""What one small operation costs beyond the arithmetic: figures, never assertions on time.

pip install -e ".[bench]" && pytest benchmarks/test_overhead.py -o addopts=""   # benchmarks/overhead.py makes a table
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

DATA = np.ones(10, np.float32)
OPERATIONS = ("add", "multiply", "exp")
LIBRARIES = ("numpy", "gpu_backprop", "torch", "jax", "autograd", "mygrad")


def ten_numbers(library: str, recorded: bool, stack: ExitStack) -> tuple[Any, Any]:
    """The library's functions and ten of its numbers, on the CPU; recorded: their operations go on its tape."""
    if library == "gpu_backprop":
        return gb, gb.tensor(DATA, device="cpu", requires_grad=recorded)
    if library == "numpy":
        return np, DATA
    module = pytest.importorskip(
        {"jax": "jax.numpy", "autograd": "autograd.numpy"}.get(library, library), reason="the peer is not installed"
    )
    if library == "torch":
        return module, module.ones(10, requires_grad=recorded)
    if library == "mygrad":
        if not recorded:
            stack.enter_context(module.no_autodiff)
        return module, module.tensor(DATA)
    if library == "autograd" and recorded:
        from autograd.core import VJPNode
        from autograd.tracer import new_box, trace_stack

        return module, new_box(DATA, stack.enter_context(trace_stack.new_trace()), VJPNode.new_root())
    return module, module.asarray(DATA)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def run(benchmark: Any, operation: str, module: Any, x: Any) -> Any:
    exp = module.exp
    return benchmark({"add": lambda: x + x, "multiply": lambda: x * x, "exp": lambda: exp(x)}[operation])


@pytest.mark.benchmark(group="ten numbers")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_unrecorded(benchmark: Any, library: str, operation: str, stack: ExitStack) -> None:
    result = run(benchmark, operation, *ten_numbers(library, False, stack))
    assert float(result[0]) == pytest.approx({"add": 2, "multiply": 1, "exp": np.e}[operation])


@pytest.mark.benchmark(group="ten numbers, recorded")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("library", [name for name in LIBRARIES if name not in ("numpy", "jax")])  # JAX has no tape
def test_recorded(benchmark: Any, library: str, operation: str, stack: ExitStack) -> None:
    result = run(benchmark, operation, *ten_numbers(library, True, stack))
    if library in ("gpu_backprop", "torch"):
        assert result.requires_grad


@pytest.mark.benchmark(group="forward and backward, MLP 64-32-10, batch 32")
def test_forward_backward(benchmark):
    with gb.device("cpu"):
        model = gb.nn.MLP([64, 32, 10])
        x, y = gb.random.normal((32, 64)), gb.random.integers(0, 10, (32,))
    loss_function = gb.nn.CrossEntropyLoss()

    def step():
        model.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        return loss

    assert benchmark(step).item() > 0
