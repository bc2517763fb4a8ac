"""What CUDA leaves to its user: the order of work on several streams, and a word on what failed.

Everything that the CUDA backend puts on a stream goes through `Watch.guard`. With one stream, as nearly always, that
costs a look at the current stream and a name put on a short list. The first work on another stream waits for the
device; from then on every operation leaves an event behind, and work on one stream waits for all that the others were
given before it. So an array made on one stream can be used, and its memory be given back, on any other. The price is
that operations of several streams overlap only with what was given later.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import DeviceError, GpuBackpropError, KernelError

REMEMBERED = 8  # operations of a stream that an error names
STICKY = frozenset((214, 700, 702, 709, 710, *range(714, 720)))  # cudaError_t after which every call fails


class Line:
    """One stream: the last operations given to it, and the events of other streams that it must wait for."""

    __slots__ = ("events", "names", "others")

    def __init__(self) -> None:
        self.names: deque[str] = deque(maxlen=REMEMBERED)
        self.others: tuple[Line, ...] = ()
        self.events: dict[Line, Any] = {}  # the latest of each


class _Local(threading.local):
    suspended = False


class Watch:
    """Guards the functions of one device.

    machine: a CudaMachine, or what stands in for it: name, stream(), capturing(), record(), wait(event), here(),
    synchronize(), failures (the exceptions that CUDA's errors arrive as) and memory() (bytes used, held free, free, in
    all).
    """

    def __init__(self, machine: Any):
        self.machine = machine
        self.lines: dict[int, Line] = {}
        self.lock = threading.Lock()
        self.local = _Local()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Calls of this thread go unwatched inside: while a stream captures, nobody may wait."""
        self.local.suspended = True
        try:
            yield
        finally:
            self.local.suspended = False

    def guard(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, on this device, behind the work of other streams, its CUDA errors told as ours."""
        machine, lines, stream, failures = self.machine, self.lines, self.machine.stream, self.machine.failures

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if self.local.suspended:
                return function(*args, **kwargs)
            line = lines.get(stream())
            if (line is None or line.others) and machine.capturing():  # it is not under way: nobody can wait for it
                return function(*args, **kwargs)
            if line is None:
                line = self.first_use(stream())
            if line.events:
                self.catch_up(line)
            line.names.append(name)
            try:
                result = function(*args, **kwargs)
                if line.others:
                    self.leave_event(line)
                return result
            except failures as error:
                problem = self.explain(name, error)
            raise problem  # out here the error is gone, and with it its frames, which hold arrays

        if machine.alone:
            return run

        @functools.wraps(function)
        def run_here(*args: Any, **kwargs: Any) -> Any:
            with machine.here():
                return run(*args, **kwargs)

        return run_here

    # order -----------------------------------------------------------------------------------------------------------

    def first_use(self, stream: int) -> Line:
        """The line of a stream not seen before; what others were given until now is waited for by the device."""
        with self.lock:
            line = self.lines.get(stream)
            if line is not None:
                return line
            line = Line()
            line.others = tuple(self.lines.values())
            for other in line.others:  # before the wait: what is given meanwhile leaves an event
                other.others = (*other.others, line)
            if line.others:
                self.machine.synchronize()
            self.lines[stream] = line
            return line

    def leave_event(self, line: Line) -> None:
        """Behind the work just given, for every other stream."""
        event = self.machine.record()
        with self.lock:
            for other in line.others:
                other.events[line] = event

    def catch_up(self, line: Line) -> None:
        """Work given to this stream from now on waits for the events left by others."""
        with self.lock:  # held until the last wait is given: another thread on this stream must not slip in before
            for event in line.events.values():
                self.machine.wait(event)
            line.events.clear()

    # errors ----------------------------------------------------------------------------------------------------------

    def explain(self, name: str, error: BaseException) -> GpuBackpropError:
        """The error to raise for one of CUDA's, which may come long after the operation that caused it."""
        where = f'device "{self.machine.name}"'
        if isinstance(error, MemoryError):
            return out_of_memory(where, name, getattr(error, "_size", None), self.machine.memory())
        last = "; on another stream: ".join(", ".join(line.names) for line in list(self.lines.values()) if line.names)
        if getattr(error, "status", None) in STICKY:
            remedy = (
                "this process can no longer use the GPU: start it again, with CUDA_LAUNCH_BLOCKING=1 to stop at the "
                'operation itself, or on device "emulated" to see what it does wrong'
            )
        else:
            remedy = "the fault may lie with any of them; CUDA_LAUNCH_BLOCKING=1 stops at the operation itself"
        return KernelError(f"{where}: CUDA reports {error} at {name}; last operations, newest last: {last}; {remedy}")


def out_of_memory(where: str, name: str, asked: int | None, memory: tuple[int, int, int, int]) -> DeviceError:
    """The error for an allocation that failed; memory: bytes used by arrays, held free by the pool, free, in all."""
    used, held, free, total = map(amount, memory)
    size = "" if asked is None else f"{amount(asked)} asked, "
    return DeviceError(
        f"{where}: out of memory in {name}: {size}{used} in use by arrays, {held} free in CuPy's pool, {free} of "
        f"{total} free on the GPU; use a smaller batch, delete Tensors that are no longer needed, or gb.checkpoint"
    )


def amount(size: int) -> str:
    """Bytes, readable and exact where they are few."""
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{size / step:.2f} {unit}"
    return f"{size} bytes"
