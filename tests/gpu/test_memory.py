"""CuPy's pool, page-locked copies, and a full GPU."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core.errors import DeviceError

pytestmark = pytest.mark.gpu

PIECE = 1 << 22  # bytes of one page-locked buffer


def test_ten_thousand_steps_take_no_more_memory(cupy):
    pool = cupy.get_default_memory_pool()
    model = gb.nn.MLP([64, 32, 10])
    optimizer = gb.optim.Adam(model.parameters(), lr=1e-3)
    x, y = gb.random.normal((32, 64)), gb.random.integers(0, 10, (32,))

    def steps(count: int) -> tuple[int, int]:
        for _ in range(count):
            optimizer.zero_grad()
            gb.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        gb.synchronize()
        gc.collect()
        return pool.total_bytes(), pool.used_bytes()

    after_some = steps(100)
    assert steps(10_000) == after_some


def test_the_pool_grows_and_gives_back(cupy):
    pool = cupy.get_default_memory_pool()
    gc.collect()
    used, total = pool.used_bytes(), pool.total_bytes()
    x = gb.zeros((64 << 20,), dtype="float32")
    assert pool.used_bytes() >= used + (256 << 20)
    del x
    assert pool.used_bytes() == used
    assert pool.total_bytes() >= total  # kept for the next
    pool.free_all_blocks()
    assert pool.total_bytes() <= total


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 4 * PIECE + 17, 9 * PIECE + 1])
def test_copies_through_page_locked_memory(cupy, size):
    """There and back, several copies under way at once; a source that changes at once changes nothing."""
    sources = [np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8) for seed in range(3)]
    kept = [source.copy() for source in sources]
    there = []
    for source in sources:
        there.append(gb.tensor(source))
        source[...] = 0
    for tensor, expected in zip(there, kept, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), expected)
    for view in (lambda a: a[::-1], lambda a: a[::3]):
        np.testing.assert_array_equal(gb.tensor(view(kept[0])).numpy(), view(kept[0]))
        np.testing.assert_array_equal(view(there[0]).numpy(), view(kept[0]))


def test_an_array_that_cannot_fit(cupy):
    with pytest.raises(DeviceError, match=r"zeros: an array .* takes .* GiB, cuda has \d+; make it smaller"):
        gb.zeros((1 << 50,), dtype="float32")
    everything = cupy.cuda.runtime.memGetInfo()[1] - (1 << 20)  # this process has some of it already
    with pytest.raises(DeviceError, match=r"out of memory .* asked, .* in use .* free on the GPU"):
        gb.zeros((everything,), dtype="int8")
    assert gb.ones((1000,)).sum().item() == 1000


def test_an_operation_that_finds_no_room(cupy):
    """In a kernel's result and in CuPy's own functions; afterwards nothing is left of it, and work goes on."""
    pool = cupy.get_default_memory_pool()
    x = gb.ones((8 << 20,))
    whole = x.astype("int32")
    assert (x[:100] * 2).sum().item() == 200  # what the first sum makes stays
    gc.collect()
    pool.free_all_blocks()
    used = pool.used_bytes()
    pool.set_limit(size=used + (8 << 20))
    try:
        for operation in (lambda: x + x, lambda: whole + whole, lambda: gb.tensor(np.ones(8 << 20, np.float32))):
            with pytest.raises(DeviceError, match=r"out of memory in .*32\.00 MiB asked"):
                operation()
            gc.collect()
            assert pool.used_bytes() == used
            assert (x[:100] * 2).sum().item() == 200
    finally:
        pool.set_limit(size=0)
    assert (x + x).sum().item() == 16 << 20
