"""A Program as one CUDA graph, on stand-ins: when calls are made, recorded and launched (the real ones: tests/gpu)."""

from __future__ import annotations

import types
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import cuda_machine, gemm
from gpu_backprop.backends.cuda_graph import GraphRun
from gpu_backprop.backends.cuda_machine import CudaMachine
from gpu_backprop.backends.cuda_watch import Watch
from gpu_backprop.core.errors import CaptureError, DeviceError

from ..conftest import require_emulated
from .graphs import Graphs


class Stream:
    """A stream that runs what it is given at once, or keeps it while it captures."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.captured: list[str] | None = None
        self.synchronized = 0

    def give(self, job: str) -> None:
        (self.log if self.captured is None else self.captured).append(job)


class Machine:
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


@pytest.mark.parametrize(
    "refusal",  # CuPy's, ours, Thrust's, and one that stands for CUDA's
    [NotImplementedError("cuBLAS"), CaptureError("cuBLAS"), RuntimeError("cuBLAS"), OverflowError()],
)
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
            get_current_stream=lambda: types.SimpleNamespace(ptr=self.current, is_capturing=lambda: False),
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


def test_a_capture_that_is_spoilt_leaves_no_counters(machine):
    """They were to be zeroed by the graph, and the next stream may have the number of this one."""
    events, stream = machine.xp.events, machine.xp.cuda.Stream

    def spoilt(**settings):
        made = stream(**settings)

        def end_capture():
            raise OverflowError

        made.end_capture = end_capture
        return made

    machine.xp.cuda.Stream = spoilt
    backend = types.SimpleNamespace(forget_tickets=lambda: events.append("tickets"))
    with pytest.raises(OverflowError):
        machine._record_graph(Watch(machine), backend, lambda: None)
    assert "tickets" in events


# random numbers in a graph ------------------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    require_emulated()
    made = Graphs(monkeypatch)
    yield made
    made.close()


def dropout_steps(
    count: int, capture: Any, dropout: float = 0.3, device: str = "emulated"
) -> tuple[list[Any], list[bytes], Any]:
    """Losses and parameters of an MLP with dropout, trained on data and noise drawn in the step."""
    with gb.device(device):
        gb.manual_seed(0)
        model = gb.nn.MLP([12, 16, 16, 5], dropout=dropout)
        optimizer = gb.optim.Adam(model.parameters(), lr=0.01)
        own = gb.random.Generator(7)

        @capture
        def step(x, labels):
            optimizer.zero_grad()
            x = x + own.normal(x.shape, std=0.1) * gb.random.uniform(x.shape)
            loss = gb.nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss, own.integers(0, 1000, (3,))

        losses = []
        for i in range(count):
            gb.random.uniform(i % 3)  # the generator goes on between the steps, too
            if i == 30:
                gb.manual_seed(5)
            x = gb.tensor(np.random.default_rng(i).standard_normal((8, 12)).astype(np.float32))
            results = step(x, gb.tensor([0, 1, 2, 3, 4, 0, 1, 2]))
            losses.append([t.numpy().tobytes() for t in results])
        return losses, [p.numpy().tobytes() for p in model.parameters()], step


@pytest.mark.emulated
def test_a_graph_draws_on(graphs):
    """A graph repeats its launches with the same arguments, and each draws what the eager step would."""
    losses, parameters, _ = dropout_steps(50, lambda step: step)
    replayed, moved, step = dropout_steps(50, lambda step: gb.capture(step, rewrite="exact"))
    assert step.stats["graph"] == "launched as one"
    assert (graphs.count, graphs.launches) == (1, 48)  # recorded, then once call by call, then as one
    assert replayed == losses
    assert moved == parameters
    names = [call.name for call in step.program.plan.calls]
    assert names.count("dropout") == 4  # two layers, forward and backward: the same places twice
    assert len(step.program._starts) == 2  # two generators


@pytest.mark.gpu
@pytest.mark.parametrize("rewrite", ["exact", "all"])
def test_a_graph_draws_on_with_a_gpu(rewrite):
    expected, _, _ = dropout_steps(50, lambda step: step, device="cuda")
    found, _, step = dropout_steps(50, lambda step: gb.capture(step, rewrite=rewrite), device="cuda")
    if gemm.report()[0]:
        assert step.stats["graph"] == "launched as one"
    assert [drawn for _, drawn in found] == [drawn for _, drawn in expected]
    losses = (np.array([np.frombuffer(loss, np.float32)[0] for loss, _ in run]) for run in (found, expected))
    np.testing.assert_allclose(*losses, rtol=0 if rewrite == "exact" else 1e-3)


@pytest.mark.emulated
def test_products_that_take_in_what_follows_are_held_by_a_graph(graphs):
    """What a graph repeats are the launches of a run call by call, masks and pointers of epilogues included."""
    graphs.backend.prefers = lambda *asked: True
    launched = dropout_steps(12, lambda step: gb.capture(step), dropout=0.0)
    graphs.machine.cannot_record = lambda names: "not today"
    one_by_one = dropout_steps(12, lambda step: gb.capture(step), dropout=0.0)
    assert (launched[2].stats["graph"], one_by_one[2].stats["graph"]) == ("launched as one", "not today")
    assert launched[:2] == one_by_one[:2]
    assert [call.name for call in launched[2].program.plan.calls].count("matmul_relu_backward") == 2


@pytest.mark.emulated
def test_an_offset_by_value_would_be_noticed(graphs):
    """The stand-in is as strict as a CUDA graph: what a launch was given by value is the same at every replay."""
    functions, key, found = graphs.backend.functions, (1, 2), []
    start = graphs.backend.empty((3,), np.dtype(np.uint64))
    launch = graphs.record_graph(lambda: found.extend(functions["random_words"](k, 5, (8,)) for k in (key, start)))
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(100)
    for offset in (0, 7):
        functions["start_draws"](start, key, offset)
        launch()
        fixed, moved = found
        np.testing.assert_array_equal(fixed, words[20:28])
        np.testing.assert_array_equal(moved, words[4 * (5 + offset) :][:8])


# what no graph can hold ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_products(machine, monkeypatch):
    """A GPU whose driver is there, and nvmath-python is not."""
    monkeypatch.setattr(cuda_machine.gemm, "report", lambda: (False, "nvmath-python is not installed"))
    monkeypatch.setattr(cuda_machine, "driver_version", lambda: 12080)
    return machine


def test_products_by_cupy_are_said_to_keep_a_program_from_being_a_graph(without_products):
    with pytest.warns(UserWarning, match='capture: on device "cuda" matrix products go through CuPy') as caught:
        found = [without_products.cannot_record(["add", "linear"]) for _ in range(3)]
    assert len(caught) == 1  # and not at every capture
    for text in ("nvmath-python is not installed", 'pip install "gpu-backprop[cuda12]"', "call by call"):
        assert text in found[0]
        assert text in str(caught[0].message)
    assert found[0] == found[2]
    assert without_products.cannot_record(["add", "dropout"]) == ""


def test_with_cublaslt_only_sorts_and_factors_are_in_the_way(machine):
    machine.gemm = object()
    assert machine.cannot_record(["linear", "dropout"]) == ""
    assert "random_permutation sorts through CuPy" in machine.cannot_record(["linear", "random_permutation"])
    assert "svd goes through cuSOLVER" in machine.cannot_record(["linear", "svd"])
    assert "rfft works in memory of CuPy's plan" in machine.cannot_record(["rfft"])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x @ x.T, 'pip install "gpu-backprop[cuda12]"'),
        (lambda x: x + gb.random.permutation(4).astype("float32"), "random_permutation sorts through CuPy"),
        (lambda x: gb.nn.functional.dropout(x, 0.5) + 1.0, "launched as one"),
    ],
)
@pytest.mark.emulated
def test_stats_say_why_a_program_is_no_graph(graphs, without_products, monkeypatch, recwarn, function, reason):
    monkeypatch.setattr(graphs.machine, "cannot_record", without_products.cannot_record)
    with gb.device("emulated"):
        captured = gb.capture(function)
        for _ in range(4):
            x = gb.random.uniform((4, 4))
            state = gb.random.default_generator().get_state()
            found = captured(x)
            gb.random.default_generator().set_state(state)
            np.testing.assert_array_equal(found.numpy(), function(x).numpy())
    assert reason in captured.stats["graph"]
    assert graphs.count == (reason == "launched as one")
    warned = [str(w.message) for w in recwarn if "capture" in str(w.message)]
    assert warned == [f'capture: on device "cuda" {captured.stats["graph"]}'] * ("pip" in reason)
    assert all(Path(w.filename).name == Path(__file__).name for w in recwarn if "pip install" in str(w.message))


@pytest.mark.emulated
def test_a_capture_without_room_says_how_much_it_needs(graphs, machine, monkeypatch):
    """Every array of the eager call fits, and the Program's one block does not."""

    def empty(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > 20_000:
            raise MemoryError
        return graphs.empty(shape, dtype)

    machine.full, machine.xp.empty, machine.memory = MemoryError, empty, lambda: (3 << 30, 0, 1 << 14, 4 << 30)
    machine.xp.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    monkeypatch.setattr(graphs.backend, "empty", machine.empty)
    function = lambda x: (lambda y: y @ x + y)(x @ x)
    with gb.device("emulated"):
        x = gb.ones((64, 64))
        wanted = (
            r"no room for the 49,152 bytes of a Program on emulated \(.*48.25 KiB asked, 3.00 GiB in use.*smaller batch"
        )
        with pytest.raises(DeviceError, match=wanted):
            gb.capture(function)(x)
        captured = gb.capture(function, strict=False)
        with pytest.warns(UserWarning, match="runs eagerly: capture: no room"):
            np.testing.assert_array_equal(captured(x).numpy(), function(x).numpy())
        assert captured.programs == []


@pytest.mark.emulated
def test_arguments_and_results_are_copied_as_they_lie(graphs, monkeypatch):
    """By the machine's own copy, of memory from end to end; what lies otherwise is written element by element."""
    copied = []

    def copy(to, array):
        copied.append(array.shape)
        np.copyto(to, array)
        return to

    monkeypatch.setattr(graphs.machine, "copy", copy, raising=False)
    backend, values = graphs.backend, np.arange(12, dtype=np.float32).reshape(3, 4)
    for place in (np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32).T):
        fill = backend.filler(place, [place], [])
        fill(np.copy(values, order="A") if place.flags.c_contiguous else np.asfortranarray(values))
        np.testing.assert_array_equal(place, values)
        fill(np.repeat(values + 1, 2, axis=1)[:, ::2])
        np.testing.assert_array_equal(place, values + 1)
    assert copied == [(3, 4)] * 2
    gaps = np.zeros((3, 8), np.float32)[:, ::2]
    backend.filler(gaps, [gaps], [])(values)
    np.testing.assert_array_equal(gaps, values)
    result = backend.copier(values)()
    np.testing.assert_array_equal(result, values)
    assert not np.may_share_memory(result, values)
    np.testing.assert_array_equal(backend.copier(gaps)(), values)
    assert copied == [(3, 4)] * 3
