"""Memory stays flat, cycles do not exist, and depth is no danger."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.ops import neural

DEPTH = 20_000


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def grown(action) -> int:
    """Bytes that are still held after `action`, NumPy's buffers included."""
    tracemalloc.start()
    try:
        action()  # caches fill
        before = tracemalloc.get_traced_memory()[0]
        action()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("no_collector")
def test_discarded_forwards_leave_nothing_behind() -> None:
    x = gb.ones((1024, 1024)).requires_grad_()
    w = gb.ones((1024,)).requires_grad_()

    def hundred() -> None:
        for _ in range(100):
            neural.softmax(gb.exp(x * w), axis=1).sum()  # three arrays of 4 MB

    assert grown(hundred) < 100_000


@pytest.mark.usefixtures("no_collector")
def test_discarded_gradients_leave_nothing_behind() -> None:
    x = gb.ones((64, 64), dtype="float64")
    w = gb.ones((64, 64), dtype="float64").requires_grad_()

    def many() -> None:
        for _ in range(50):
            gb.grad(lambda x: (x * w).sum())(x)  # recorded (w requires grad), thrown away
            gb.vjp(gb.exp, x)
            gb.jvp(gb.exp, (x,), (x,))
            gb.hvp(lambda x: (x**3).sum(), (x,), (x,))
            gb.checkpoint(lambda a: gb.exp(a) * w, x)
            (x * w).sum().backward()
            w.grad = None

    assert grown(many) < 200_000  # one 64 by 64 array a call would be 10 MB; the interpreter's free lists are less


@pytest.mark.usefixtures("no_collector")
def test_memory_is_flat_over_ten_thousand_steps() -> None:
    w = gb.ones(50, dtype="float64").requires_grad_()
    x = gb.ones((10, 50), dtype="float64")

    def steps() -> None:
        for _ in range(5_000):
            loss = ((x * w).sum(axis=1) ** 2).mean()
            loss.backward()
            with gb.no_grad():
                w.copy_(w - w.grad * 1e-5)
            w.grad = None

    assert grown(steps) < 5_000


def deep(x: gb.Tensor) -> gb.Tensor:
    y = x
    for _ in range(DEPTH // 2):
        y = gb.sin(y) * 1.0001
    return y


@pytest.mark.usefixtures("no_collector")
def test_a_deep_graph_differentiates_and_is_deleted() -> None:
    x = gb.tensor(0.5, dtype="float64", requires_grad=True)
    y = deep(x)
    y.backward(retain_graph=True)
    first = x.grad.item()
    assert first > 0
    eps = 1e-6
    numeric = (
        deep(gb.tensor(0.5 + eps, dtype="float64")).item() - deep(gb.tensor(0.5 - eps, dtype="float64")).item()
    ) / (2 * eps)
    assert first == pytest.approx(numeric, rel=1e-5)
    del y  # 20,000 nodes, kept by retain_graph, go at once


@pytest.mark.usefixtures("no_collector")
def test_a_deep_graph_is_deleted_without_backward() -> None:
    for op in (lambda y: y + 1.0, lambda y: y * y, lambda y: y.reshape(1), lambda y: gb.concat([y, y])[:1]):
        y = gb.tensor([0.5], requires_grad=True)
        for _ in range(DEPTH):
            y = op(y)
        del y


def test_a_deep_graph_has_a_second_derivative() -> None:
    x = gb.tensor(0.5, dtype="float64")

    def f(x: gb.Tensor) -> gb.Tensor:
        y = x
        for _ in range(5_000):
            y = y * 1.0001 + 1e-5 * y * y
        return y

    second = gb.grad(gb.grad(f))(x).item()
    eps = 1e-5
    numeric = (gb.grad(f)(x + eps).item() - gb.grad(f)(x - eps).item()) / (2 * eps)
    assert second == pytest.approx(numeric, rel=1e-6)


def test_a_wide_graph_differentiates() -> None:
    x = gb.tensor(1.0, dtype="float64", requires_grad=True)
    gb.stack([x * float(i) for i in range(2_000)]).sum().backward()
    assert x.grad.item() == np.arange(2_000).sum()
