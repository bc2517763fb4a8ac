"""What one small operation costs beyond the arithmetic: figures, never assertions on time.

pip install -e ".[bench]" && pytest benchmarks/test_overhead.py -o addopts=""
"""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

DATA = np.ones(10, np.float32)


@pytest.mark.benchmark(group="add 10 numbers")
@pytest.mark.parametrize("library", ["numpy", "gpu_backprop", "torch", "jax"])
def test_add(benchmark, library):
    if library == "numpy":
        x = DATA
    elif library == "gpu_backprop":
        x = gb.tensor(DATA, device="cpu")
    else:
        module = pytest.importorskip(library if library == "torch" else "jax.numpy", reason="the peer is not installed")
        x = module.asarray(DATA)
    result = benchmark(lambda: x + x)
    assert float(result[0]) == 2.0


@pytest.mark.benchmark(group="add 10 numbers, with gradients")
@pytest.mark.parametrize("library", ["gpu_backprop", "torch"])
def test_add_recorded(benchmark, library):
    if library == "gpu_backprop":
        x = gb.tensor(DATA, device="cpu", requires_grad=True)
    else:
        x = pytest.importorskip("torch", reason="the peer is not installed").ones(10, requires_grad=True)
    result = benchmark(lambda: x + x)
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
