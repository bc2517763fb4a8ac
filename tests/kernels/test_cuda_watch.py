"""Order between streams, errors and memory of the CUDA machine, on stand-ins (the real ones: tests/gpu)."""

from __future__ import annotations

import gc
import itertools
import queue
import threading
import types
import weakref
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import cuda, cuda_machine
from gpu_backprop.backends.cuda_watch import Watch, amount
from gpu_backprop.backends.emulated import EmulatedLauncher
from gpu_backprop.core.errors import DeviceError, KernelError, ShapeError

from ..conftest import require_emulated

# order ---------------------------------------------------------------------------------------------------------------


CAPTURES = 9  # a stream that records a graph of the user's own


class Gpu:
    """A machine whose streams are queues that run as late, and in as unlucky an order, as CUDA allows."""

    name, alone, failures = "cuda", True, ()

    def __init__(self, order: tuple[int, ...] = ()):
        self.queues: dict[int, list[Any]] = {}
        self.done: dict[int, int] = {}
        self.order = order  # which stream runs first
        self.local = threading.local()

    def stream(self) -> int:
        return getattr(self.local, "stream", 0)

    def use(self, stream: int) -> None:
        self.local.stream = stream

    def capturing(self) -> bool:
        return self.stream() == CAPTURES

    def give(self, job: Any) -> None:
        self.queues.setdefault(self.stream(), []).append(job)

    def record(self) -> tuple[int, int]:
        return self.stream(), len(self.queues.get(self.stream(), []))

    def wait(self, event: tuple[int, int]) -> None:
        self.give(event)

    def synchronize(self) -> None:
        """Each stream in turn as far as it gets; a wait holds it up until the other stream is behind the event."""
        moved = True
        while moved:
            moved = False
            for stream in sorted(self.queues, key=lambda s: self.order.index(s) if s in self.order else s):
                jobs = self.queues[stream]
                while (at := self.done.get(stream, 0)) < len(jobs):
                    job = jobs[at]
                    if isinstance(job, tuple):
                        if self.done.get(job[0], 0) < job[1]:
                            break
                    else:
                        job()
                    self.done[stream] = at + 1
                    moved = True
        assert all(self.done[s] == len(jobs) for s, jobs in self.queues.items()), "streams wait for each other"


ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_work_on_any_stream_sees_what_others_did(order, seed):
    """Operations on a few cells, each on a stream drawn at random: the result is that of one after the other."""
    gpu, random = Gpu(order), np.random.default_rng(seed)
    watch, cells, expected = Watch(gpu), [1, 2, 3], [1, 2, 3]

    def combine(values: list[int], to: int, a: int, b: int) -> None:
        values[to] = (3 * values[a] + 5 * values[b] + to) % 1009

    combine_later = watch.guard("combine", lambda *where: gpu.give(lambda: combine(cells, *where)))
    for _ in range(60):
        gpu.use(int(random.integers(3)))
        where = [int(i) for i in random.integers(0, 3, 3)]
        combine_later(*where)
        combine(expected, *where)
    gpu.synchronize()
    assert cells == expected


def test_threads_with_streams_of_their_own():
    """Two threads hand a number to and fro through queues; each adds to it on its own stream."""
    gpu, there, back, cell = Gpu((2, 1)), queue.Queue(), queue.Queue(), [1]
    watch = Watch(gpu)

    def change(factor: int) -> None:
        cell[0] = (cell[0] * factor + 1) % 1009

    later = watch.guard("change", lambda factor: gpu.give(lambda: change(factor)))

    def other() -> None:
        gpu.use(2)
        while there.get() is not None:
            later(5)
            back.put(True)

    thread = threading.Thread(target=other)
    thread.start()
    gpu.use(1)
    expected = 1
    for _ in range(50):
        later(3)
        there.put(True)
        back.get()
        expected = ((expected * 3 + 1) * 5 + 1) % 1009
    there.put(None)
    thread.join()
    gpu.synchronize()
    assert cell == [expected]


@pytest.mark.parametrize("streams", [(), (0,), (0, 1)])
def test_what_a_graph_records_is_not_waited_for(streams):
    """Nor does it wait: an event from inside a capture, or from outside of it, is an error of CUDA's."""
    gpu = Gpu()
    work = Watch(gpu).guard("work", lambda: gpu.give(lambda: None))
    for stream in streams:
        gpu.use(stream)
        work()
    done = dict(gpu.done)
    gpu.use(CAPTURES)
    work()
    work()
    assert gpu.done == done  # no synchronisation
    assert [isinstance(job, tuple) for job in gpu.queues[CAPTURES]] == [False, False]
    for stream in streams:
        gpu.use(stream)
        work()
        assert not any(isinstance(job, tuple) and job[0] == CAPTURES for job in gpu.queues[stream])


def test_one_stream_costs_no_events():
    gpu = Gpu()
    add = Watch(gpu).guard("add", lambda: gpu.give(lambda: None))
    for _ in range(5):
        add()
    assert not any(isinstance(job, tuple) for job in gpu.queues[0])
    assert not gpu.done  # and no synchronisation


def test_functions_of_one_of_several_devices_run_on_it():
    gpu, entered = Gpu(), []

    class Here:
        def __enter__(self):
            entered.append("in")

        def __exit__(self, *_: Any):
            entered.append("out")

    gpu.alone, gpu.here = False, Here
    assert Watch(gpu).guard("f", lambda x: [entered.append("f"), x][1])(3) == 3
    assert entered == ["in", "f", "out"]


# errors --------------------------------------------------------------------------------------------------------------


class CudaError(RuntimeError):
    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


class OutOfMemoryError(MemoryError):
    def __init__(self, size: int):
        super().__init__(f"Out of memory allocating {size} bytes")
        self._size = size


class Array:
    """What can be followed to its end."""


def failing() -> Gpu:
    gpu = Gpu()
    gpu.failures = (CudaError, OutOfMemoryError)
    gpu.memory = lambda: (3 << 30, 2 << 20, 1536, 80 << 30)
    return gpu


def test_late_errors_name_the_last_operations():
    gpu, pending = failing(), []
    watch = Watch(gpu)
    names = [f"op{i}" for i in range(12)]
    for name in names:
        watch.guard(name, lambda: None)()

    def synchronize() -> None:
        if pending:
            raise pending.pop()

    synchronize = watch.guard("synchronize", synchronize)
    pending.append(CudaError("cudaErrorIllegalAddress: an illegal memory access was encountered", 700))
    with pytest.raises(KernelError, match=r"IllegalAddress.* at synchronize; .*op10, op11, .*start it again"):
        synchronize()
    pending.append(CudaError("cudaErrorInvalidValue: invalid argument", 1))
    gpu.use(5)
    watch.guard("elsewhere", lambda: None)()
    gpu.use(0)
    with pytest.raises(KernelError, match=r"op11, .*; on another stream: elsewhere") as caught:
        synchronize()
    assert "op1," not in str(caught.value)  # long ago
    assert "start it again" not in str(caught.value)
    synchronize()  # an error is told once


def test_other_errors_pass_as_they_are():
    def wrong() -> None:
        raise ShapeError("add: shapes (2,) and (3,)")

    with pytest.raises(ShapeError, match=r"shapes \(2,\)"):
        Watch(failing()).guard("add", wrong)()


def test_out_of_memory_tells_the_bytes_and_keeps_no_arrays():
    """While the error is alive, what the failed operation held is free: the process can go on."""
    held = []

    def matmul() -> None:
        temporary = Array()
        held.append(weakref.ref(temporary))
        raise OutOfMemoryError(5 << 30)

    with pytest.raises(DeviceError) as caught:
        Watch(failing()).guard("matmul", matmul)()
    gc.collect()
    assert held[0]() is None
    text = str(caught.value)
    for part in (
        "matmul",
        "5.00 GiB asked",
        "3.00 GiB in use",
        "2.00 MiB free in CuPy's pool",
        "1.50 KiB of 80.00 GiB",
    ):
        assert part in text


def test_amounts():
    assert [amount(n) for n in (0, 1023, 1024, 2**20 - 1, 2**20, 3 * 2**30)] == [
        *("0 bytes", "1023 bytes", "1.00 KiB", "1024.00 KiB", "1.00 MiB", "3.00 GiB"),
    ]


# the machine and the whole backend -----------------------------------------------------------------------------------


@pytest.fixture
def cupy(monkeypatch):
    """NumPy with what of CuPy the machine asks for; `cupy.room` bytes can be had, `cupy.pool.held` more when freed."""
    fake = types.ModuleType("cupy")
    vars(fake).update({name: value for name, value in vars(np).items() if not name.startswith("__")})
    fake.gpu, fake.room = Gpu(), 1 << 20

    class Pool:
        held = 0

        def free_all_blocks(self) -> None:
            fake.room, self.held = fake.room + self.held, 0

        used_bytes = staticmethod(lambda: 100)

        def free_bytes(self) -> int:
            return self.held

    fake.pool = Pool()

    def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = np.empty(shape, dtype)
        if array.nbytes > fake.room:
            raise OutOfMemoryError(array.nbytes)
        return array

    class Device:
        def __init__(self, index: int):
            self.synchronize = fake.gpu.synchronize

        __enter__ = __exit__ = lambda *_: None

    class Event:
        def __init__(self, disable_timing: bool):
            pass

        def record(self) -> None:
            self.place = fake.gpu.record()

    def current() -> Any:
        return types.SimpleNamespace(
            ptr=fake.gpu.stream(), is_capturing=fake.gpu.capturing,
            wait_event=lambda event: fake.gpu.wait(event.place),
        )  # fmt: skip

    fake.empty = empty
    fake.get_default_memory_pool = lambda: fake.pool
    runtime = types.SimpleNamespace(CUDARuntimeError=CudaError, memGetInfo=lambda: (7, 1 << 20))
    fake.cuda = types.SimpleNamespace(
        runtime=runtime, driver=types.SimpleNamespace(CUDADriverError=CudaError), get_current_stream=current,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError), Device=Device, Event=Event,
    )  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "cupy", fake)
    monkeypatch.setattr(cuda_machine, "cuda_status", lambda: (1, ""))
    return fake


def test_room_is_made_before_an_array_is_refused(cupy):
    machine = cuda_machine.CudaMachine(0)
    cupy.room, cupy.pool.held = 100, 50
    assert machine.empty((120,), np.dtype(np.uint8)).nbytes == 120  # after the pool gave its blocks back
    cupy.pool.held = 1
    with pytest.raises(DeviceError, match="in making an array: 800 bytes asked, 100 bytes in use") as caught:
        machine.empty((100,), np.dtype(np.float64))
    assert caught.value.__context__ is None
    assert machine.empty((10,), np.dtype(np.float64)).nbytes == 80  # and life goes on


@pytest.mark.emulated
def test_a_backend_built_on_stand_ins_runs_ordered(cupy, monkeypatch):
    """cuda_backend over NumPy arrays and emulated kernels: kernels, fallbacks, copies and writes are all guarded."""
    require_emulated()
    monkeypatch.setattr("gpu_backprop.backends.kernels.CudaLauncher", EmulatedLauncher)
    for name in ("from_host", "to_host"):
        monkeypatch.setattr(cuda_machine.CudaMachine, name, getattr(cuda.HostMachine, name))
    backend = cuda.cuda_backend(0)
    x = backend.from_host(np.arange(4, dtype=np.float32), True)
    cupy.gpu.use(3)
    calls = {
        "add": lambda: backend.functions["add"](x, x),
        "left_shift": lambda: backend.functions["left_shift"](x.astype(int), 1),  # nobody asked for it before
        "copy to the host": lambda: backend.to_host(x),
        "write": lambda: backend.write(x, 0, 7),
        "synchronize": backend.synchronize,
    }
    for call in calls.values():
        cupy.gpu.use(8)
        backend.functions["negative"](x)
        cupy.gpu.use(3)
        before = len(cupy.gpu.queues.get(3, []))
        call()
        assert len(cupy.gpu.queues.get(3, [])) == before + (
            call is not calls["add"]
        )  # one wait; the first use has none
    np.testing.assert_array_equal(backend.functions["add"](x, x), [14, 2, 4, 6])

    def broken(*_: Any) -> None:
        raise CudaError("cudaErrorLaunchFailure: unspecified launch failure", 719)

    cupy.gpu.synchronize = broken
    backend.machine.xp.cuda.Device.__init__ = lambda self, index: setattr(self, "synchronize", broken)
    with pytest.raises(KernelError, match=r"last operations, newest last: .*left_shift, copy to the host, write"):
        backend.synchronize()
