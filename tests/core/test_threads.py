"""Recording, modes, devices and random numbers are a thread's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import gpu_backprop as gb


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """Run all at once, taking turns often; returns what they return."""
    import sys

    results: list[Any] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = works[i]()
        except BaseException as error:
            results[i] = error

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def train(seed: int) -> Callable[[], list[float]]:
    def work() -> list[float]:
        gb.manual_seed(seed)
        w1 = gb.random.normal((4, 8), dtype="float64").requires_grad_()
        w2 = gb.random.normal((8, 1), dtype="float64").requires_grad_()
        losses = []
        for _ in range(60):
            x = gb.random.uniform((16, 4), -1.0, 1.0, dtype="float64")
            keep = (gb.random.uniform((16, 8)) > 0.2).astype("float64")
            loss = ((gb.tanh(x @ w1) * keep @ w2 - x.sum(axis=1, keepdims=True)) ** 2).mean()
            loss.backward()
            with gb.no_grad():
                for w in (w1, w2):
                    w -= w.grad * 0.05
                    w.grad = None
            losses.append(loss.item())
        return losses

    return work


def test_two_threads_agree_with_running_alone() -> None:
    alone = [train(1)(), train(2)()]
    assert alone[0] != alone[1]
    assert in_threads(train(1), train(2)) == alone


def test_no_grad_is_a_threads_own() -> None:
    entered, checked = threading.Event(), threading.Event()

    def quiet() -> bool:
        with gb.no_grad():
            entered.set()
            assert checked.wait(10)
            return gb.is_grad_enabled()

    def loud() -> bool:
        assert entered.wait(10)
        try:
            return (gb.tensor(1.0, requires_grad=True) * 2).requires_grad
        finally:
            checked.set()

    assert in_threads(quiet, loud) == [False, True]


def test_backward_in_another_thread() -> None:
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    in_threads(y.backward)
    assert x.grad.tolist() == [2, 4]


def test_generators_of_new_threads_differ() -> None:
    a, b = in_threads(lambda: gb.random.uniform(4).tolist(), lambda: gb.random.uniform(4).tolist())
    assert a != b


def test_the_default_device_inside_a_block_is_a_threads_own() -> None:
    with gb.device("cpu"):
        assert in_threads(lambda: len(__import__("gpu_backprop.core.devices", fromlist=["_local"])._local.stack)) == [0]


def test_one_graph_read_by_two_threads() -> None:
    x = gb.tensor(np.arange(5.0), requires_grad=True)
    y = (gb.exp(x) * x).sum()
    pull = lambda: gb.core.tape.walk([y], [gb.ones_like(y)], targets=[x], retain_graph=True)[0].numpy()
    a, b = in_threads(pull, pull)
    np.testing.assert_array_equal(a, b)
