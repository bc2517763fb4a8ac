"""gb.profile: times add up, bytes and operations are those of the shapes, and nothing is left behind."""

from __future__ import annotations

import gc
import itertools
import json
import math
import threading
import time
import types
import weakref

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import devices, peaks
from gpu_backprop.core.modes import modes

from .test_capture import training_step


def tables():
    return [(d, id(d.functions), id(d.native), id(d.backend)) for d in devices.known()]


def row(profile, name):
    (found,) = [r for r in profile.rows() if r.name == name]
    return found


def numbers(profile, name):
    """Calls, bytes and operations of an operation."""
    found = row(profile, name)
    return found.calls, found.nbytes, found.flops


def counts(profile):
    """How often each operation ran, but for copies, which a Program leaves out or makes for itself."""
    return {r.name: r.calls for r in profile.rows() if r.name not in ("write", "copy", "copy from the host")}


def training(device, *more):
    gb.manual_seed(0)
    model = gb.nn.MLP([6, 8, 4], device=device)
    optimizer = gb.optim.Adam(model.parameters())

    step = training_step(model, optimizer)
    x = gb.tensor(np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32), device=device)
    return step, x, gb.tensor(np.arange(12) % 4, device=device)


# bytes and operations ------------------------------------------------------------------------------------------------


def test_products_and_elementwise_operations(device):
    x, y = gb.ones((2, 3, 5), device=device), gb.ones((2, 5, 7), device=device)
    w, b = gb.ones((4, 5), device=device), gb.ones(4, device=device)
    with gb.profile() as profile:
        x @ y
        gb.nn.functional.linear(x, w, b)
        x + 1.0
        x.reshape((6, 5)).transpose()
    assert numbers(profile, "matmul") == (1, 4 * (30 + 70 + 42), 2 * 2 * 3 * 5 * 7)
    assert numbers(profile, "linear") == (1, 4 * (30 + 20 + 4 + 24), 2 * 6 * 4 * 5)
    assert numbers(profile, "add") == (1, 4 * 60, 0)
    assert {r.name for r in profile.rows()} == {"matmul", "linear", "add"}  # views are left out


def test_an_operand_is_read_once_and_only_where_it_has_elements_of_its_own(device):
    x, line = gb.ones((5, 7), device=device), gb.ones((1, 7), device=device)
    with gb.profile() as profile:
        x * x
        x + line.broadcast_to((5, 7))
        x[1:3] - x[3:]  # views of one array, at two places
    assert numbers(profile, "multiply") == (1, 4 * 70, 0)
    assert numbers(profile, "add") == (1, 4 * (35 + 7 + 35), 0)
    assert numbers(profile, "subtract") == (1, 4 * 3 * 14, 0)
    captured = gb.capture(lambda: x * x)
    captured()
    with gb.profile() as profile:
        captured()
    assert numbers(profile, "multiply") == (1, 4 * 70, 0)


def test_what_is_picked_is_read_and_not_the_whole_table(device):
    x, picked = gb.ones((100, 8), device=device), gb.tensor([3, 1, 3], device=device)
    with gb.profile() as profile:
        gb.take(x, picked, axis=0)
    assert numbers(profile, "take") == (1, 4 * 2 * 24 + 8 * 3, 0)


@pytest.mark.parametrize(
    ("index", "elements"),
    [(..., 24), (2, 6), (slice(1, 3), 12), ((slice(None), slice(0, 6, 2)), 12), ((0, ..., 1), 1), ((None, -1), 6)],
)
def test_a_write_moves_what_it_writes(device, index, elements):
    place = devices.device(device)
    x = place.backend.empty((4, 6), np.dtype(np.float32))
    with gb.profile() as profile:
        place.backend.write(x, index, 1.0)
        place.backend.write(x, index, x[index].copy())
    assert [e.cost.nbytes for e in profile.events] == [4 * elements, 8 * elements]


def test_updates_read_gradients_and_write_parameters_and_states(device):
    """The formula of benchmarks/kernel_cases.py, and the 8 hyperparameters and the step count."""
    for master, dtype in ((False, "float32"), (True, "bfloat16")):
        parameter = gb.nn.Parameter(gb.ones(256, dtype=dtype, device=device))
        optimizer = gb.optim.Adam([parameter], master_weights=master)
        for _ in range(2):
            parameter.grad = gb.ones(256, dtype=dtype, device=device)
            with gb.profile() as profile:
                optimizer.step()
        size = parameter.array.itemsize
        moved = 2 * size + (0 if master else size) + 4 * 2 * (2 + master)
        (event,) = [e for e in profile.events if e.name == "adam_update"]
        few = sum(math.prod(shape) * dtype.itemsize for dtype, shape in event.cost.operands if dtype == np.float64)
        assert event.cost.nbytes == 256 * moved + few + 8  # the step count is written
        assert few <= 8 * 16


def test_running_statistics_are_written_too(device):
    norm = gb.nn.BatchNorm1d(5).to(device)
    x = gb.ones((12, 5), device=device)
    with gb.profile() as profile:
        norm(x)
    (event,) = [e for e in profile.events if e.name.startswith("batch_norm")]
    results = 60 + 3 * 5  # and for the gradient a mean, in two parts, and a variance
    assert event.cost.nbytes == 4 * (60 + 4 * 5 + results + 2 * 5)


def test_primitives_of_the_users_own(device):
    double = gb.primitive(lambda x: x + x, vjp=lambda g, x: 2 * g, name="double")
    x = gb.ones((4, 4), device=device)
    with gb.profile() as profile:
        double(x)
    assert numbers(profile, "double (own)") == (1, 2 * 4 * 16, 0)


def test_copies_between_host_and_device(device):
    data = np.ones((4, 4), np.float32)
    with gb.profile() as profile:
        x = gb.tensor(data, device=device)
        x.numpy()
    found = {r.name: (r.calls, r.nbytes) for r in profile.rows()}
    assert found["copy from the host"] == (1, 64)
    if device == "cuda":
        assert found["copy to the host"] == (1, 64)
    else:
        assert "copy to the host" not in found  # shares its memory


# time ----------------------------------------------------------------------------------------------------------------


def test_times_are_within_those_of_the_clock():
    x = gb.ones((512, 512), device="cpu")
    x @ x
    start = time.perf_counter()
    with gb.profile() as profile:
        for _ in range(10):
            x @ x
    wall = time.perf_counter() - start
    assert 0.5 * wall < row(profile, "matmul").seconds <= profile.seconds <= wall


def test_what_an_operation_does_inside_counts_once():
    """A primitive of the user's own that uses the library's."""
    square = gb.primitive(
        lambda x: (gb.asarray(x) @ gb.asarray(x)).numpy().copy(), vjp=lambda g, x: g @ x, name="square"
    )
    x = gb.ones((256, 256), device="cpu")
    with gb.profile() as profile:
        square(x)
    assert [r.name for r in profile.rows()] == ["square (own)"]
    assert profile.rows()[0].seconds <= profile.seconds


class Gpu:
    """A stand-in for CuPy whose device takes 2.1 ms a call, and whose events may only be compared when it has finished.

    As on CUDA, the time between two events is a float32 number of milliseconds.
    """

    def __init__(self):
        self.now = self.waits = 0
        self.finished = False
        self.cuda = types.SimpleNamespace(Event=lambda: GpuEvent(self), get_elapsed_time=self.elapsed)

    def work(self):
        self.now += 2.1
        self.finished = False

    def synchronize(self):
        self.waits += 1
        self.finished = True

    def elapsed(self, start, stop):
        assert self.finished, "an event was read before the device had come to it"
        return float(np.float32(stop.at - start.at))


class GpuEvent:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self):
        self.at = self.gpu.now


def test_on_cuda_the_time_is_between_events_read_at_the_end(monkeypatch):
    """CudaMachine's own marks, on a stand-in for CuPy; the functions are the CPU's."""
    from gpu_backprop.backends.cuda_machine import CudaMachine

    gpu, cpu = Gpu(), gb.device("cpu")
    assert peaks.bandwidth(cpu) > 0  # by the clock
    machine = types.SimpleNamespace(xp=gpu, alone=True)
    backend = cpu.plain.backend
    monkeypatch.setattr(backend, "mark", lambda: CudaMachine.mark(machine), raising=False)
    monkeypatch.setattr(backend, "between", lambda a, b: CudaMachine.between(machine, a, b), raising=False)
    monkeypatch.setattr(backend, "synchronize", gpu.synchronize)
    monkeypatch.setitem(cpu.plain.native, "multiply", lambda x, y, out=None: (gpu.work(), np.multiply(x, y))[1])
    x = gb.ones(3, device="cpu")
    with gb.profile() as profile:
        x * x
        gpu.now += 3.6e6  # an hour of waiting, behind which one float32 knows a quarter of a millisecond
        x * x
        x * x
        assert gpu.waits == 0
    assert gpu.waits == 1
    assert [round(e.seconds, 7) for e in profile.events] == [0.0021] * 3
    first, _, last = profile.events
    assert last.start - first.stop == pytest.approx(3600.0021, abs=1e-7)
    assert row(profile, "multiply").seconds == pytest.approx(0.0063)
    assert gpu.waits == 1


# captured ------------------------------------------------------------------------------------------------------------


def test_a_replay_shows_the_operations_of_the_eager_step(device):
    step, x, y = training(device)
    captured = gb.capture(step, rewrite="none" if device == "cuda" else "all")  # there products take in what follows
    for _ in range(2):
        step(x, y)
        captured(x, y)
    with gb.profile() as eager:
        step(x, y)
    with gb.profile() as replayed:
        captured(x, y)
    assert counts(eager) == counts(replayed)
    flops = [sum(r.flops for r in p.rows()) for p in (eager, replayed)]
    assert flops[0] == flops[1] == 2 * 12 * (2 * 6 * 8 + 3 * 8 * 4)
    for name in ("linear_relu", "adam_update", "softmax_cross_entropy"):
        assert numbers(eager, name) == numbers(replayed, name)
    places = [{(e.name, e.scope, e.backward) for e in p.events if e.name in counts(eager)} for p in (eager, replayed)]
    assert places[0] == places[1]
    assert ("linear_weight_gradient", "MLP.0", True) in places[0]
    assert ("linear_relu", "MLP.0", False) in places[0]
    assert ("adam_update", "", False) in places[0]


@pytest.mark.parametrize("rewrite", ["all", "none"])
def test_a_capture_inside_a_profile_records_what_is_not_timed(device, rewrite):
    weight, x = gb.ones((4, 4), device=device), gb.ones((4, 4), device=device)
    bias = gb.ones(4, device=device)
    own = gb.primitive(lambda x: x + x, vjp=lambda g, x: 2 * g, name="own")

    @gb.capture(rewrite=rewrite)
    def function(x):
        return gb.exp(own(gb.maximum(x @ weight.T + bias, 0)) * 2.0 + 1.0)

    with gb.profile() as profile:
        first = function(x)
    count = len(profile.events)
    assert {"matmul", "add", "multiply", "exp", "own (own)"} <= {e.name for e in profile.events}
    calls = function.program.plan.calls
    held = {id(f) for d in devices.known() for t in (d.plain.functions, d.plain.native) for f in t.values()}
    assert all(id(c.function) in held for c in calls if not c.name.endswith("(own)") and c.name != "write")
    with gb.profile() as other:
        again = function(x)
    assert len(profile.events) == count
    assert len([e for e in other.events if e.name == "own (own)"]) == 1
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    gone = weakref.ref(profile)
    del profile
    gc.collect()
    assert gone() is None  # the Program does not keep it


def test_a_profile_inside_a_captured_function_sees_the_call_that_is_recorded(device):
    """A replay runs no Python, so the profile is as the first call left it; the Program is whole."""
    profiles = []

    @gb.capture
    def function(x):
        with gb.profile() as profile:
            profiles.append(profile)
            y = x * 3.0
        return y + 1.0

    x = gb.ones(3, device=device)
    before = tables()
    assert function(x).numpy().tolist() == [4.0] * 3
    assert tables() == before
    assert function(x * 2).numpy().tolist() == [7.0] * 3
    (profile,) = profiles
    assert [e.name for e in profile.events] == ["multiply"]


def test_captures_and_profiles_of_several_threads_end_in_any_order():
    """Each begins and ends while the other is at work."""
    x = gb.ones(3, device="cpu")
    before = tables()
    inside, go_on = threading.Event(), threading.Event()

    @gb.capture
    def function(x):
        y = x * 2.0
        inside.set()
        assert go_on.wait(20)
        return y + 1.0

    thread = threading.Thread(target=lambda: function(x))
    thread.start()
    assert inside.wait(20)
    with gb.profile() as profile:
        x - x
        go_on.set()
        thread.join()
        x / x
    assert tables() == before
    assert [e.name for e in profile.events] == ["subtract", "divide"]
    assert {"multiply", "add"} == {c.name for c in function.program.plan.calls} or function.stats["operations"] == 1
    assert function(x).numpy().tolist() == [3.0] * 3


# nothing is left behind ----------------------------------------------------------------------------------------------


def test_nothing_is_left_behind(device):
    x = gb.ones(3, device=device)
    before = tables()
    with pytest.raises(ZeroDivisionError), gb.profile() as failed:
        x + 1 // (x - x).numpy().astype(int).item(0)
    assert failed.events[0].name == "subtract"
    with gb.profile() as profile:
        assert tables() != before
    assert tables() == before
    for d in devices.known():
        assert (d.functions, d.backend) == (d.backend.functions, d.plain.backend)
    assert modes.profile is None
    x + x
    assert not profile.events
    assert str(profile) == "nothing ran inside gb.profile()"


def test_an_operation_that_fails_is_not_noted_and_the_next_one_is():
    x, y = gb.ones(3, device="cpu"), gb.ones(4, device="cpu")
    with gb.profile() as profile:
        with pytest.raises(gb.ShapeError):
            x + y
        x * x
    assert [e.name for e in profile.events] == ["multiply"]


def test_what_was_fetched_inside_is_silent_afterwards():
    cpu = gb.device("cpu")
    with gb.profile() as profile:
        kept = cpu.functions["add"]
        kept(np.ones(2), np.ones(2))
    kept(np.ones(2), np.ones(2))
    assert len(profile.events) == 1


def test_only_its_own_thread_is_timed(device):
    x = gb.ones(3, device=device)
    with gb.profile() as profile:
        thread = threading.Thread(target=lambda: x + x)
        thread.start()
        thread.join()
        x * x
    assert {event.name for event in profile.events} == {"multiply"}


def test_two_threads_have_a_profile_each():
    x = gb.ones(3, device="cpu")
    before = tables()
    both, found = threading.Barrier(2), {}

    def run(name):
        with gb.profile() as found[name]:
            both.wait(20)
            getattr(gb, name)(x)
            both.wait(20)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("sin", "cos")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: [e.name for e in p.events] for name, p in found.items()} == {"sin": ["sin"], "cos": ["cos"]}
    assert tables() == before


def test_a_device_that_is_first_used_inside_is_timed_too(monkeypatch):
    from gpu_backprop.backends.cpu import CpuBackend

    monkeypatch.setattr(devices, "_known", dict(devices._known))
    monkeypatch.setattr(devices, "_make_backend", lambda name: CpuBackend())
    with gb.profile() as profile:
        x = gb.ones(3, device="cuda:7")
        x * x
    assert {(e.name, e.device.name) for e in profile.events} == {("write", "cuda:7"), ("multiply", "cuda:7")}
    made = devices._known["cuda:7"]
    assert made.functions is made.plain.functions


def test_one_profile_at_a_time():
    with gb.profile(), pytest.raises(gb.GpuBackpropError, match="already"), gb.profile():
        pass


# the reports ---------------------------------------------------------------------------------------------------------


def test_the_trace_is_what_perfetto_reads(device, tmp_path):
    step, x, y = training(device)
    with gb.profile() as profile:
        step(x, y)
    profile.save(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = trace["traceEvents"]
    assert trace["displayTimeUnit"] == "ms"
    assert {e["ph"] for e in events} == {"M", "X"}
    assert device in [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    timed = [e for e in events if e["ph"] == "X"]
    for e in timed:
        assert isinstance(e["name"], str)
        assert isinstance(e["pid"], int)
        assert isinstance(e["tid"], int)
        assert e["ts"] >= 0
        assert e["dur"] >= 0
    calls = [e for e in timed if "operands" in e["args"]]
    assert [e["name"] for e in calls] == [e.name for e in profile.events]
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in itertools.pairwise(calls))  # one after the other
    forward = next(e for e in calls if e["name"].startswith("linear"))
    assert forward["args"] == {
        "module": "MLP.0", "operands": "float32[12, 6], float32[8, 6], float32[8]",
        "bytes": 4 * (72 + 48 + 8 + 96), "flops": 2 * 12 * 6 * 8,
    }  # fmt: skip


def test_the_trace_is_nested(tmp_path):
    """Two events of one thread lie one in the other or apart; each call lies in its module and its direction."""
    step, x, y = training("cpu")
    with gb.profile() as profile:
        step(x, y)
        step(x, y)
    profile.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    timed = [(e["name"], e["tid"], e["ts"], e["ts"] + e["dur"], e) for e in events if e["ph"] == "X"]
    tiny = 1e-6
    for (_, i, a, b, _), (_, j, c, d, _) in itertools.combinations(timed, 2):
        apart = b <= c + tiny or d <= a + tiny
        inside = (a <= c + tiny and d <= b + tiny) or (c <= a + tiny and b <= d + tiny)
        assert i != j or apart or inside
    for _, i, start, stop, e in timed:
        if e["cat"] in ("forward", "backward") and e["args"]["module"]:
            around = [
                n for n, j, a, b, o in timed
                if i == j and o["cat"] == "module" and a <= start + tiny and stop <= b + tiny
            ]  # fmt: skip
            path = e["args"]["module"].split(".")
            assert around == (["backward", *path] if e["cat"] == "backward" else path)
    whole = next(t for t in timed if t[0] == "gb.profile()")
    assert whole[3] == pytest.approx(profile.seconds * 1e6, abs=1)
    assert all(t[3] <= whole[3] + tiny for t in timed)
    assert sum(n == "backward" for n, *_ in timed) == 2


def test_the_table_is_narrow_and_in_order(device):
    step, x, y = training(device)
    own = gb.primitive(lambda x: x + x, vjp=lambda g, x: 2 * g, name="an_operation_of_a_long_name_" * 4)
    with gb.profile() as profile:
        step(x, y)
        own(x)
    lines = str(profile).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].split() == ["operation", "calls", "ms", "%", "MB", "GB/s", "GFLOP/s", "of", "peak"]
    seconds = [r.seconds for r in profile.rows()]
    assert seconds == sorted(seconds, reverse=True)
    at = next(i for i, line in enumerate(lines) if line.startswith("linear_weight_gradient "))
    assert {" ".join(line.split()[:2]) for line in lines[at + 1 : at + 3]} == {"MLP.0 backward", "MLP.2 backward"}
    assert "linear_relu (MLP.0 forward)" in str(profile)
    assert f"{len(profile.events)} calls took" in lines[-2]
    assert lines[-1].startswith(f"{device}: a large copy moves ")
    assert "a large float32 product computes" in lines[-1]


def test_many_modules_of_one_operation_are_summed_up(device):
    with gb.device(device):
        model = gb.nn.Sequential(*(gb.nn.Tanh() for _ in range(9)))
        x = gb.ones((2, 2))
    with gb.profile() as profile:
        model(x)
    lines = str(profile).splitlines()
    assert lines[1].split()[:2] == ["tanh", "9"]
    assert all(line.startswith("  Sequential.") for line in lines[2:7])
    assert lines[7].split()[:3] == ["4", "others", "4"]
    assert len(lines) == 11


def test_the_peak_is_measured_once_and_unseen(monkeypatch):
    cpu = gb.device("cpu")
    peaks._bandwidth.cache_clear()
    peaks._product.cache_clear()
    x = gb.ones((32, 32), device="cpu")
    with gb.profile() as profile:
        x @ x
        str(profile)
        assert [e.name for e in profile.events] == ["matmul"]
    first = peaks.bandwidth(cpu), peaks.product(cpu, np.float32)
    monkeypatch.setattr(peaks, "_rate", None)
    assert (peaks.bandwidth(cpu), peaks.product(cpu, np.float32)) == first
    assert min(first) > 1e8
    (found,) = profile.rows()
    assert found.best == pytest.approx(max(3 * 4096 / 1.5 / first[0], 2 * 32**3 / first[1]))


def test_a_peak_is_that_of_the_largest_size_there_is_room_for():
    """The work takes a hundredth of what would be enough; the third size does not fit."""
    cpu = gb.device("cpu")

    def make(n):
        if n > 2:
            raise gb.DeviceError("no room")
        return lambda: None, float(n)

    assert peaks._rate(cpu, make, (1, 2, 3)) > 0
    with pytest.raises(gb.DeviceError):
        peaks._rate(cpu, make, (3,))
