"""`gpu-backprop bench` over widths: what is measured, where it stops and says so, what is drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main, measuring, widths
from gpu_backprop.cli.measuring import Network, Settings
from gpu_backprop.viz import curves

from .helpers import run_json

QUICK = ["bench", "--devices", "cpu", "--batch-size", "4", "--repeats", "1"]


def a_network(width: int) -> Network:
    return Network((784, width, width, 10), 4)


def test_the_cpu_alone(capsys):
    assert main([*QUICK, "--widths", "4-16", "--out", "w.png"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["width", "parameters", "cpu"] in lines
    assert [line[:2] for line in lines if line and line[0].isdigit()] == [
        ["4", "3,210"],
        ["8", "6,442"],
        ["16", "13,002"],
    ]
    assert "written to .: w.json, w.png" in out
    assert Path("w.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads(Path("w.json").read_text())
    assert [row["width"] for row in found["results"]] == [4, 8, 16]
    assert all(row["milliseconds"]["cpu"] > 0 for row in found["results"])
    assert all(row["first_step"]["cpu"] > 0 for row in found["results"])
    assert found["left_out"] == {}
    assert found["labels"]["cpu"].startswith("cpu: ")


def test_the_ending_says_what_picture(capsys):
    assert main([*QUICK, "--widths", "4,6", "--out", "here/there/w.svg"]) == 0
    assert ET.parse("here/there/w.svg").getroot().tag.endswith("svg")
    assert json.loads(Path("here/there/w.json").read_text())["picture"] == "here/there/w.svg"
    capsys.readouterr()
    Path("v1.2").mkdir()
    for more, folder in ((["--networks", "6-3@2"], "v1.2"), ([], "plain")):
        found = run_json(capsys, [*QUICK, "--widths", "4", "--out", folder, *more])
        assert found["picture"] == f"{folder}/bench.png"
        assert Path(folder, "bench.json").exists()


@pytest.mark.emulated
@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_two_devices(capsys, device):
    arguments = [*QUICK, "--widths", "4,8", "--devices", f"cpu,{device}", "--out", "w.png", "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    for row in found["results"]:
        assert set(row["milliseconds"]) == {"cpu", device}
        assert row["relative_difference"][device] < 1e-5
    assert "cpu / emulated" in err
    assert "cpu and emulated agree: 5 losses of each width" in err
    assert found["labels"][device] == "emulated: CUDA kernels played out on the CPU, no GPU's speed"


def test_devices_that_disagree_are_told(capsys, monkeypatch):
    from gpu_backprop.cli import benchmark

    cpu = gb.device("cpu")
    other = type(cpu)("other", cpu.backend)
    monkeypatch.setattr(benchmark, "_devices", lambda names: ([cpu, other], ""))

    def measured(network, place, settings):
        wrong = place is other and network.widths[1] == 8
        return {"losses": [1.0, 0.6 if wrong else 0.5], "milliseconds": 1.0, "first_step": 2.0, "seconds": 0.1}

    monkeypatch.setattr(widths, "measure", measured)
    assert main([*QUICK, "--widths", "4-16", "--out", "w.png"]) == 0
    assert "cpu and other DISAGREE at 8: by up to 1.0e-01" in capsys.readouterr().out


def test_the_learning_rate_keeps_losses_in_bounds():
    """So that devices can be compared at all widths: five steps change the loss, and do not blow it up."""
    for width in (16, 1024):
        losses = widths.measure(a_network(width), gb.device("cpu"), Settings(repeats=1))["losses"]
        assert losses[-1] != losses[0]
        assert max(losses) < 2 * losses[0]


# where to stop -------------------------------------------------------------------------------------------------------


def test_time_stops_one_device_and_not_the_other(capsys, monkeypatch):
    from gpu_backprop.cli import benchmark

    cpu = gb.device("cpu")
    other = type(cpu)("other", cpu.backend)
    monkeypatch.setattr(benchmark, "_devices", lambda names: ([cpu, other], ""))

    def measured(network, place, settings):
        slow = 1000.0 if place is cpu else 1.0
        time = slow * network.widths[1] / 4
        return {"losses": [1.0], "milliseconds": time, "first_step": 2.0, "seconds": 3 * time / 1e3}

    monkeypatch.setattr(widths, "measure", measured)
    found = run_json(capsys, [*QUICK, "--widths", "4-32", "--seconds", "20", "--out", "w.png"])
    assert [set(row["milliseconds"]) for row in found["results"]] == [{"cpu", "other"}] * 2 + [{"other"}] * 2
    assert found["left_out"] == {
        "cpu": {"widths": [16, 32], "reason": "8 steps of about 4 s would take more than --seconds 20"}
    }


def test_what_took_too_long_as_a_whole_is_the_last():
    last = a_network(4), {"milliseconds": 1.0, "seconds": 30.0}
    assert widths.too_long(a_network(8), last, 20.0) == "4 took 30 s, more than --seconds 20"
    assert widths.too_long(a_network(8), last, 40.0) == ""
    assert widths.too_long(a_network(8), None, 0.1) == ""


def test_memory_stops(capsys, monkeypatch):
    monkeypatch.setattr(widths, "free_memory", lambda: 150_000)
    assert main([*QUICK, "--widths", "4-16", "--out", "w.png"]) == 0
    out = capsys.readouterr().out
    assert "cpu: 8, 16 left out: about 0.0 GiB are needed, 0.0 GiB free, in this machine's memory" in out
    assert [line.split()[0] for line in out.splitlines() if line.split()[0].isdigit()] == ["4", "8", "16"]


def test_a_gpus_memory_counts_and_the_hosts_too(monkeypatch):
    info = {"memory free": 60_000, "memory in CuPy's pool": 90_000}
    place = SimpleNamespace(name="cuda", backend=SimpleNamespace(info=lambda: info))
    network = a_network(4)
    weights = 4 * network.parameters
    monkeypatch.setattr(widths, "free_memory", lambda: 3 * weights)
    assert widths.too_large(network, place) == ""
    info["memory free"] = 0
    info["memory in CuPy's pool"] = 3 * weights
    assert "in cuda" in widths.too_large(network, place)
    info["memory in CuPy's pool"] = 2**30
    monkeypatch.setattr(widths, "free_memory", lambda: 3 * weights - 1)
    assert "in this machine's memory" in widths.too_large(network, place)
    monkeypatch.setattr(widths, "free_memory", lambda: None)
    assert widths.too_large(network, place) == ""


@pytest.mark.parametrize("error", [MemoryError(), gb.DeviceError("out of memory on cuda:\n 3 of 4 GiB")])
def test_an_error_of_memory_stops(capsys, monkeypatch, error):
    measure = widths.measure

    def measured(network, place, settings):
        if network.widths[1] > 4:
            raise error
        return measure(network, place, settings)

    monkeypatch.setattr(widths, "measure", measured)
    found = run_json(capsys, [*QUICK, "--widths", "4-16", "--out", "w.png"])
    assert found["left_out"]["cpu"]["widths"] == [8, 16]
    assert found["left_out"]["cpu"]["reason"].startswith("out of memory")


@pytest.mark.parametrize("before", [0, 2])
def test_an_interruption_shows_what_there_is(capsys, monkeypatch, before):
    def measured(network, place, settings):
        if network.widths[1] >= 4 << before:
            raise KeyboardInterrupt
        return {"losses": [1.0], "milliseconds": 1.0, "first_step": 2.0, "seconds": 0.1}

    monkeypatch.setattr(widths, "measure", measured)
    assert main([*QUICK, "--widths", "4-32", "--out", "w.png"]) == 130
    out, err = capsys.readouterr()
    assert err == "gpu-backprop: interrupted\n"
    assert Path("w.png").exists() == ("written to .: w.json, w.png" in out) == bool(before)
    if before:
        assert "cpu: 16, 32 left out: interrupted" in out
        assert [row["width"] for row in json.loads(Path("w.json").read_text())["results"]] == [4, 8]


def test_devices_start_from_the_same_weights_that_stay(monkeypatch):
    benches = [measuring.Bench(a_network(8), gb.device("cpu"), Settings()) for _ in range(2)]
    for _ in range(3):
        benches[0].captured_step()
    first = benches[1].model.state_dict()
    gb.manual_seed(0)
    for name, value in gb.nn.MLP([784, 8, 8, 10], device="cpu").state_dict().items():
        np.testing.assert_array_equal(value.numpy(), first[name].numpy())
        assert (value.numpy() != benches[0].model.state_dict()[name].numpy()).any()


def test_free_memory_is_read_where_it_is_told():
    free = widths.free_memory()
    assert free is None or 0 < free < 2**50


# the picture ---------------------------------------------------------------------------------------------------------


def test_lines_over_width(tmp_path):
    times = {"cpu: a CPU": {64: 1.0, 128: 4.0, 256: 16.0}, "cuda: a GPU": {64: 2.0, 128: 2.0, 512: 4.0}}
    figure = curves.over_width(times, tmp_path / "w.svg", "a title")
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.get_lines()] == [[1.0, 4.0, 16.0], [2.0, 2.0, 4.0]]
    level, speed_up = right.get_lines()
    assert set(level.get_ydata()) == {1.0}
    assert (list(speed_up.get_xdata()), list(speed_up.get_ydata())) == ([64, 128], [0.5, 2.0])
    for axes in (left, right):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert [text.get_text() for text in axes.get_xticklabels()] == ["64", "128", "256", "512"]
    assert left.get_xlim() == right.get_xlim()
    assert right.get_title() == "times as fast as cpu"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(times)
    assert len(curves.over_width({"cpu": {64: 1.0}}).axes) == 1
