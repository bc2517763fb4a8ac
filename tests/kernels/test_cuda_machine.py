"""What of the CUDA machine can be tried without a GPU: the pinned ring, the probe, the refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import cuda, cuda_machine
from gpu_backprop.core.errors import DeviceError


class Device:
    """Memory whose copies run late: each only when an event recorded behind it is waited for."""

    def __init__(self, size: int):
        self.memory = np.zeros(size, np.uint8)
        self.queue: list[Any] = []
        self.buffers = 0

    def allocate(self, size: int) -> np.ndarray:
        self.buffers += 1
        return np.zeros(size, np.uint8)

    def record(self) -> Any:
        behind = len(self.queue)
        return types.SimpleNamespace(synchronize=lambda: self.run(behind))

    def run(self, count: int) -> None:
        for job in self.queue[:count]:
            job()
        self.queue[:count] = [lambda: None] * count

    def up(self, offset: int, buffer: np.ndarray) -> None:
        self.queue.append(lambda: self.memory.__setitem__(slice(offset, offset + buffer.size), buffer))

    def down(self, offset: int, buffer: np.ndarray) -> None:
        self.queue.append(lambda: buffer.__setitem__(slice(None), self.memory[offset : offset + buffer.size]))


@pytest.mark.parametrize("size", [0, 1, 8, 9, 64, 1001])
def test_ring_copies_late_and_refills_only_what_has_left(size):
    device = Device(size)
    ring = cuda_machine.PinnedRing(device.allocate, device.record, slots=3, size=8)
    source = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    ring.upload(source, device.up)
    device.run(len(device.queue))
    np.testing.assert_array_equal(device.memory, source)
    target = np.zeros_like(source)
    ring.download(target, device.down)
    np.testing.assert_array_equal(target, source)
    assert device.buffers <= 3


def test_ring_keeps_two_uploads_apart():
    """The second upload begins while the first one's copies are still queued."""
    device = Device(80)
    ring = cuda_machine.PinnedRing(device.allocate, device.record, slots=2, size=16)
    first, second = np.full(40, 1, np.uint8), np.full(40, 2, np.uint8)
    ring.upload(first, device.up)
    ring.upload(second, lambda offset, buffer: device.up(40 + offset, buffer))
    device.run(len(device.queue))
    np.testing.assert_array_equal(device.memory, np.concatenate([first, second]))


@pytest.fixture
def probe(monkeypatch):
    """cuda_status() on a machine with this driver and this CuPy."""

    def run(driver: int, cupy: Any) -> tuple[int, str]:
        cuda_machine.cuda_status.cache_clear()
        monkeypatch.setattr(cuda_machine, "driver_version", lambda: driver)
        monkeypatch.setattr(cuda_machine.importlib.util, "find_spec", lambda name: cupy and types.SimpleNamespace())
        if cupy:
            monkeypatch.setitem(sys.modules, "cupy", cupy)
        return cuda_machine.cuda_status()

    yield run
    cuda_machine.cuda_status.cache_clear()


def fake_cupy(count: Any) -> Any:
    def get_device_count() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    runtime = types.SimpleNamespace(getDeviceCount=get_device_count)
    return types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))


def test_probe_says_which_of_the_three_is_missing(probe):
    assert probe(0, None)[0] == 0
    assert "driver is missing" in probe(0, None)[1]
    assert "CuPy is missing" in probe(13000, None)[1]
    assert 'pip install "gpu-backprop[cuda13]"' in probe(13000, None)[1]
    assert 'pip install "gpu-backprop[cuda12]"' in probe(12080, None)[1]
    assert "finds no GPU" in probe(13000, fake_cupy(0))[1]
    assert "does not start (no such symbol)" in probe(13000, fake_cupy(OSError("no such symbol")))[1]
    assert probe(13000, fake_cupy(2)) == (2, "")


def test_missing_devices_are_device_errors(probe):
    probe(0, None)
    with pytest.raises(DeviceError, match="driver is missing"):
        cuda.cuda_backend(0)
    probe(13000, fake_cupy(2))
    with pytest.raises(DeviceError, match="there are 2 GPUs"):
        cuda.cuda_backend(2)


def machine(stream: Any, event: Any) -> cuda_machine.CudaMachine:
    """A CudaMachine on a stand-in for CuPy: one current stream, events, arrays with addresses."""
    made = cuda_machine.CudaMachine.__new__(cuda_machine.CudaMachine)
    elapsed = lambda begin, end: (end.time - begin.time) * 1e3
    made.xp = types.SimpleNamespace(
        cuda=types.SimpleNamespace(get_current_stream=lambda: stream, Event=event, get_elapsed_time=elapsed)
    )
    return made


def test_what_matrix_products_ask_of_the_machine():
    clock, waited = [0.0], []

    class Event:
        def record(self):
            self.time = clock[0]

        def synchronize(self):
            waited.append(self.time)

    stream = types.SimpleNamespace(ptr=48, is_capturing=lambda: True)
    gpu = machine(stream, Event)
    assert gpu.stream_handle() == 48
    assert gpu.capturing()
    assert gpu.address(types.SimpleNamespace(data=types.SimpleNamespace(ptr=4096))) == 4096
    assert gpu.seconds(lambda: clock.__setitem__(0, 2.5)) == 2.5
    assert waited == [2.5]


def test_cublaslt_is_loaded_at_the_first_product_and_once(monkeypatch):
    """Where it cannot be loaded there is none, and CuPy's matmul serves."""
    asked, made = [], []
    monkeypatch.setattr(cuda_machine.gemm, "report", lambda: asked.append(0) or (len(made) > 0, "not installed"))
    monkeypatch.setattr(cuda_machine.gemm, "load", lambda: "bindings")
    monkeypatch.setattr(cuda_machine.gemm, "Library", lambda *given: given)
    without = machine(None, None)
    assert not asked
    assert without.gemm is None
    assert without.gemm is None
    assert len(asked) == 1
    made.append(0)
    gpu = machine(None, None)
    assert gpu.gemm == ("bindings", gpu)
    assert gpu.gemm is gpu.gemm


def test_import_does_not_touch_cupy():
    names = "('cupy', 'cuda.core', 'nvmath')"
    code = f"import sys, gpu_backprop.backends.cuda; print([m for m in {names} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_is_refused():
    """In a child of a process that has used the GPU every function raises, those made later included."""
    code = """if 1:
        import os
        import numpy as np
        from gpu_backprop.backends import base, cuda_machine
        backend = type("Fake", (), {})()
        backend.name, backend.functions = "cuda", base.Functions(lambda name: getattr(np, name))
        backend.functions["add"] = np.add
        cuda_machine.CudaMachine.refuse_after_fork(None, backend)
        assert backend.functions["add"](1, 2) == 3
        if os.fork() == 0:
            said = []
            for call in (lambda: backend.functions["add"](1, 2), lambda: backend.functions["exp"](1), lambda: backend.empty((1,), float)):
                try:
                    call()
                except Exception as error:
                    said.append(type(error).__name__)
            os._exit(0 if said == ["DeviceError"] * 3 else 1)
        assert os.wait()[1] == 0
    """  # noqa: E501
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
