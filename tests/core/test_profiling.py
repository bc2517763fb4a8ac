"""gb.profile: times add up, bytes and operations are those of the shapes, and nothing is left behind."""

from __future__ import annotations

import itertools
import json
import threading
import time

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import devices
from gpu_backprop.core.modes import modes


def tables():
    return [(d, d.functions, d.native, d.backend) for d in devices.known()]


def row(profile, name):
    (found,) = [r for r in profile.rows() if r.name == name]
    return found


def training(device, size=8):
    gb.manual_seed(0)
    model = gb.nn.MLP([6, size, 4], device=device)
    optimizer = gb.optim.Adam(model.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = gb.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = gb.tensor(np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32), device=device)
    return step, x, gb.tensor(np.arange(12) % 4, device=device)


def test_bytes_and_operations_are_those_of_the_shapes(device):
    x, y = gb.ones((2, 3, 5), device=device), gb.ones((2, 5, 7), device=device)
    w, b = gb.ones((4, 5), device=device), gb.ones(4, device=device)
    with gb.profile() as profile:
        x @ y
        gb.nn.functional.linear(x, w, b)
        x + x
        x.reshape((6, 5)).transpose()
    assert row(profile, "matmul")[2:3] + row(profile, "matmul")[4:] == (1, 4 * (30 + 70 + 42), 2 * 2 * 3 * 5 * 7)
    assert row(profile, "linear")[4:] == (4 * (30 + 20 + 4 + 24), 2 * 6 * 4 * 5)
    assert row(profile, "add")[4:] == (4 * 90, 0)
    assert {r.name for r in profile.rows()} == {"matmul", "linear", "add"}  # views are left out


def test_times_are_within_those_of_the_clock():
    x = gb.ones((512, 512), device="cpu")
    x @ x
    start = time.perf_counter()
    with gb.profile() as profile:
        for _ in range(10):
            x @ x
    wall = time.perf_counter() - start
    assert 0.5 * wall < row(profile, "matmul").seconds <= wall


def test_a_replay_shows_the_operations_of_the_eager_step(device):
    step, x, y = training(device)
    captured = gb.capture(step)
    for _ in range(2):
        step(x, y)
        captured(x, y)
    with gb.profile() as eager:
        step(x, y)
    with gb.profile() as replayed:
        captured(x, y)
    moved = {"write", "copy", "empty"}
    assert {r.name: r.calls for r in eager.rows() if r.name not in moved} == {
        r.name: r.calls for r in replayed.rows() if r.name not in moved
    }
    flops = [sum(r.flops for r in p.rows()) for p in (eager, replayed)]
    assert flops[0] == flops[1] == 2 * 12 * (2 * 6 * 8 + 3 * 8 * 4)


def test_a_capture_inside_a_profile_records_what_is_not_timed(device):
    step, x, y = training(device)
    captured = gb.capture(step)
    with gb.profile() as profile:
        captured(x, y)
    count = len(profile.events)
    assert count
    captured(x, y)
    assert len(profile.events) == count
    assert all("timed" not in getattr(call.function, "__qualname__", "") for call in captured.program.plan.calls)


def test_nothing_is_left_behind(device):
    x = gb.ones(3, device=device)
    before = tables()
    with pytest.raises(ZeroDivisionError), gb.profile():
        raise ZeroDivisionError
    with gb.profile() as profile:
        pass
    assert tables() == before
    assert modes.profile is None
    x + x
    assert not profile.events
    assert str(profile) == "nothing ran inside gb.profile()"


def test_only_its_own_thread_is_timed(device):
    x = gb.ones(3, device=device)
    with gb.profile() as profile:
        thread = threading.Thread(target=lambda: x + x)
        thread.start()
        thread.join()
        x * x
    assert {event.name for event in profile.events} == {"multiply"}


def test_one_profile_at_a_time():
    with gb.profile(), pytest.raises(gb.GpuBackpropError, match="already"), gb.profile():
        pass


def test_the_trace_is_what_perfetto_reads(device, tmp_path):
    step, x, y = training(device)
    with gb.profile() as profile:
        step(x, y)
    profile.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert events[0]["args"] == {"name": device}
    calls = [e for e in events if e["ph"] == "X"]
    assert len(calls) == len(profile.events)
    assert all(e["dur"] >= 0 and e["ts"] >= 0 and isinstance(e["tid"], int) for e in calls)
    starts = [e["ts"] for e in calls]
    assert starts == sorted(starts)
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-3 for a, b in itertools.pairwise(calls))  # one after the other
    assert "MLP" in next(e for e in calls if e["name"].startswith("linear"))["args"]["module"]


def test_the_table_is_narrow_and_in_order(device):
    step, x, y = training(device)
    with gb.profile() as profile:
        step(x, y)
    lines = str(profile).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].split()[:2] == ["operation", "calls"]
    seconds = [r.seconds for r in profile.rows()]
    assert seconds == sorted(seconds, reverse=True)
    assert "GFLOP/s" in lines[-1]


def test_the_peak_is_measured_once():
    first = gb.core.profiling.peak(gb.device("cpu"))
    assert first is gb.core.profiling.peak(gb.device("cpu"))
    assert first.bandwidth > 1e8
    assert first.flops > 1e8
