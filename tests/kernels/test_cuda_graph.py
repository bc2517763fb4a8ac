"""A Program as one CUDA graph, on stand-ins: when calls are made, recorded and launched (the real ones: tests/gpu)."""

from __future__ import annotations

import types
from contextlib import contextmanager
from typing import Any

import pytest

from gpu_backprop.backends.cuda_graph import GraphRun
from gpu_backprop.backends.cuda_machine import CudaMachine
from gpu_backprop.backends.cuda_watch import Watch
from gpu_backprop.core.errors import CaptureError


class Stream:
    """A stream that runs what it is given at once, or keeps it while it captures."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.captured: list[str] | None = None
        self.synchronized = 0

    def give(self, job: str) -> None:
        (self.log if self.captured is None else self.captured).append(job)


class Machine:
    failures = (OverflowError,)  # stands for CUDA's errors

    def __init__(self, stream: Stream, refusal: Exception | None = None):
        self.stream, self.refusal, self.records = stream, refusal, 0

    def record_graph(self, run: Any) -> Any:
        self.records += 1
        self.stream.captured = []
        try:
            run()
            if self.refusal is not None:
                raise self.refusal
            graph = self.stream.captured
        finally:
            self.stream.captured = None
        return lambda: self.stream.log.append("+".join(graph))


def test_the_second_run_is_recorded_and_then_launched():
    stream = Stream()
    machine = Machine(stream)
    looked: list[int] = []
    run = GraphRun(machine, [lambda: stream.give("a"), lambda: stream.give("b")], lambda: looked.append(1))
    for _ in range(4):
        run()
    assert stream.log == ["a", "b", "a+b", "a+b", "a+b"]
    assert run.state == "launched as one"
    assert machine.records == 1
    assert len(looked) == 3


@pytest.mark.parametrize("refusal", [NotImplementedError("cuBLAS"), CaptureError("cuBLAS"), OverflowError()])
def test_what_cannot_be_captured_is_done_call_by_call(refusal):
    stream = Stream()
    machine = Machine(stream, refusal)
    run = GraphRun(machine, [lambda: stream.give("a")], lambda: None)
    for _ in range(3):
        run()
    assert stream.log == ["a", "a", "a"]
    assert machine.records == 1
    assert run.state in ("cuBLAS", "OverflowError")


def test_an_error_of_a_call_is_not_hidden():
    def fail() -> None:
        raise ZeroDivisionError

    run = GraphRun(Machine(Stream()), [fail], lambda: None)
    with pytest.raises(ZeroDivisionError):
        run()
    with pytest.raises(ZeroDivisionError):
        run()


class Cupy:
    """As much of CuPy as recording needs; `events` tells what was done, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.current = 1
        self.cuda = types.SimpleNamespace(
            MemoryPool=lambda: types.SimpleNamespace(malloc="the pool's"),
            Stream=self.stream,
            using_allocator=self.using_allocator,
            Device=lambda index: self.nothing(),
            get_current_stream=lambda: types.SimpleNamespace(ptr=self.current),
        )

    @contextmanager
    def nothing(self):
        yield

    @contextmanager
    def using_allocator(self, malloc):
        self.events.append(f"allocate by {malloc}")
        yield
        self.events.append("allocate as before")

    def stream(self, non_blocking):
        cupy = self

        class New:
            def __enter__(self):
                cupy.current = 2

            def __exit__(self, *exc):
                cupy.current = 1

            def begin_capture(self):
                cupy.events.append(f"begin on {cupy.current}")

            def end_capture(self):
                cupy.events.append("end")
                return types.SimpleNamespace(launch=lambda: cupy.events.append(f"launch on {cupy.current}"))

        assert non_blocking
        return New()


@pytest.fixture
def machine():
    machine = object.__new__(CudaMachine)
    machine.xp, machine.index, machine.name, machine.alone = Cupy(), 0, "cuda", True
    machine.failures = ()
    machine.synchronize = lambda: machine.xp.events.append("synchronize")
    return machine


def test_a_capture_waits_for_nobody_and_has_memory_of_its_own(machine):
    watch = Watch(machine)
    events = machine.xp.events
    add = watch.guard("add", lambda: events.append(f"add on {machine.xp.current}"))
    backend = types.SimpleNamespace(forget_tickets=lambda: events.append("tickets"))
    add()
    launch = machine._record_graph(watch, backend, add)
    assert events == [
        "add on 1", "allocate by the pool's", "begin on 2", "add on 2", "end", "tickets", "allocate as before",
    ]  # fmt: skip
    assert list(watch.lines) == [1]  # the stream that captured is no stream that others wait for
    launch()
    assert events[-1] == "launch on 1"
    assert "program" in watch.lines[1].names
    add()
    assert events[-1] == "add on 1"


def test_a_capture_that_fails_ends_and_watches_again(machine):
    watch = Watch(machine)

    def fail() -> None:
        raise NotImplementedError("cuBLAS")

    with pytest.raises(NotImplementedError):
        machine._record_graph(watch, types.SimpleNamespace(forget_tickets=lambda: None), fail)
    assert "end" in machine.xp.events
    assert not watch.local.suspended
