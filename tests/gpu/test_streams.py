"""Several streams, events, threads and devices."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core.errors import GpuBackpropError

from .conftest import WORK, slow

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("non_blocking", [False, True])
def test_made_on_one_stream_used_on_another(cupy, non_blocking):
    a, b = (cupy.cuda.Stream(non_blocking=non_blocking) for _ in range(2))
    for _ in range(3):
        with a:
            x = slow() * 3
        with b:
            y = x + 1
        with a:
            z = x + y  # and back
        assert (z.numpy() == 7).all()


def test_a_copy_to_the_host_waits_for_another_stream(cupy):
    for read in (lambda x: x.numpy(), lambda x: np.full(1, x[0, 0].item())):
        with cupy.cuda.Stream(non_blocking=True):
            x = slow() * 5
        assert (read(x) == 5).all()


def test_a_write_waits_for_another_stream(cupy):
    with cupy.cuda.Stream(non_blocking=True):
        x = slow()
        total = x.sum()
    x[0] = 9.0  # after the sum
    x[:1].copy_(8.0)
    assert total.item() == WORK * WORK
    assert x.numpy()[:2, 0].tolist() == [8.0, 1.0]


def test_memory_given_back_is_not_reused_too_early(cupy):
    """x goes back to stream a's pool while b still reads it; what a then makes lies in the same place."""
    a, b = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with a:
        x = gb.full((WORK, WORK), 2.0)
    with b:
        ones = slow()
        y = x * ones
    place = x.array.data.ptr
    del x
    with a:
        new = gb.full((WORK, WORK), 7.0)
    assert new.array.data.ptr == place  # otherwise this shows nothing
    assert (y.numpy() == 2).all()


def test_events_of_the_user(cupy):
    """Work of ours is on CuPy's current stream: an event recorded behind it is behind it."""
    stream, event = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
    with stream:
        x = slow() * 2
        event.record()
    event.synchronize()
    assert bool((cupy.asnumpy(x.array) == 2).all())
    assert stream.done


def problem(seed: int) -> tuple[Any, ...]:
    gb.manual_seed(seed)
    model = gb.nn.MLP([64, 32, 10])
    optimizer = gb.optim.Adam(model.parameters(), lr=1e-2)
    return model, optimizer, gb.random.normal((32, 64)), gb.random.integers(0, 10, (32,))


def train(model: Any, optimizer: Any, x: gb.Tensor, y: gb.Tensor) -> list[np.ndarray]:
    for _ in range(50):
        optimizer.zero_grad()
        gb.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [p.numpy() for p in model.parameters()]


def test_threads_train_on_streams_of_their_own(cupy):
    """The same weights, bit for bit, as one after the other on the default stream."""
    alone = [train(*problem(seed)) for seed in (1, 2)]
    problems, results = [problem(seed) for seed in (1, 2)], {}

    def work(i: int) -> None:
        with gb.device("cuda"), cupy.cuda.Stream(non_blocking=True):
            results[i] = train(*problems[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        for got, expected in zip(results[i], alone[i], strict=True):
            np.testing.assert_array_equal(got, expected)


def test_two_devices(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one GPU")
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    first = gb.tensor(host, device="cuda", requires_grad=True)
    second = first.to("cuda:1")
    assert second.device == "cuda:1"
    assert second.array.device.id == 1
    (gb.sin(second) @ second.T).sum().backward()  # kernels and products run where their arrays are
    assert first.grad.device == "cuda"
    reference = gb.tensor(host, device="cpu", requires_grad=True)
    (gb.sin(reference) @ reference.T).sum().backward()
    np.testing.assert_allclose(first.grad.numpy(), reference.grad.numpy(), rtol=1e-5, atol=1e-5)
    whole = second.astype("int32") << gb.tensor(1, dtype="int32", device="cuda:1")  # by the array module
    assert whole.numpy().tolist() == (host.astype(int) * 2).tolist()
    with pytest.raises(GpuBackpropError, match="cuda:1"):
        first + second
    assert cupy.cuda.Device().id == 0  # the user's current device is as it was
