"""`gpu-backprop info` and `gpu-backprop bench`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main

from .helpers import PROGRAM, run_json


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for part in ("versions", "numpy", np.__version__, "device cpu", "NVIDIA driver", "kernels", "for a GPU"):
        assert part in out


def test_info_says_what_is_missing_and_how_to_get_it(capsys, monkeypatch):
    from gpu_backprop.cli import information

    line = 'pip install "gpu-backprop[cuda12]"'
    monkeypatch.setattr(information, "cuda_status", lambda: (0, f"CuPy is missing; `{line}`"))
    monkeypatch.setattr(information, "install_line", lambda: line)
    monkeypatch.setattr(information.kernels, "compile_report", lambda: (False, "cuda-core is missing"))
    monkeypatch.setattr(information.emulated, "available", lambda: (False, "there is no C++ compiler"))
    found = run_json(capsys, ["info"])
    assert line in found["missing"]["cuda"]
    assert line in found["missing"]["kernels for a GPU"]
    monkeypatch.setattr(information.kernels, "compile_report", lambda: (False, "run `pip install it`"))
    assert information.gather()["missing"]["kernels for a GPU"] == "run `pip install it`"  # one remedy is enough
    assert found["missing"]["device emulated"] == "there is no C++ compiler"
    assert found["kernels"]["nvrtc"] == {"works": False, "with": None}
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "do not compile here" in out
    assert line in out


def test_info_says_what_multiplies_matrices(capsys, monkeypatch):
    from gpu_backprop.backends import cuda_machine

    monkeypatch.setattr(cuda_machine, "driver_version", lambda: 12090)
    monkeypatch.setattr(cuda_machine.gemm, "report", lambda: (False, "nvmath-python is not installed"))
    found = run_json(capsys, ["info"])["matrix products"]
    assert found["cuBLASLt"] is False
    assert found["with"].startswith("CuPy's matmul, nothing fused (nvmath-python is not installed; ")
    assert 'pip install "gpu-backprop[cuda12]"' in found["with"]
    monkeypatch.setattr(cuda_machine.gemm, "report", lambda: (True, "cuBLASLt 13.1.0 through nvmath-python 1.0.0"))
    assert main(["info"]) == 0
    assert "cuBLASLt 13.1.0" in capsys.readouterr().out


def test_info_tells_of_a_gpu(capsys, monkeypatch):
    from gpu_backprop.cli import information

    facts = {"name": "NVIDIA H200", "compute capability": "9.0", "memory": 150 * 2**30, "driver": 13000}
    place = type("Place", (), {"backend": type("Backend", (), {"info": staticmethod(lambda: facts)})})
    monkeypatch.setattr(information.devices, "devices", lambda: ["cuda"])
    monkeypatch.setattr(information.devices, "device", lambda name: place)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for part in ("NVIDIA H200", "9.0", "150.0 GiB", "CUDA 13.0"):
        assert part in out


def test_info_with_a_default_device_that_is_not_there():
    environment = {**os.environ, "GPU_BACKPROP_DEVICE": "gpu7"}
    done = subprocess.run([*PROGRAM, "info", "--json"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["default_device"] is None
    assert "gpu7" in found["missing"]["default device"]


PARTS = {
    *("copies", "forward", "backward", "optimiser", "whole step", "captured step", "first step", "samples a second")
}


def test_bench_of_the_cpu_alone(capsys):
    assert main(["bench", "--networks", "8-4-3@5,6-3@2", "--repeats", "3", "--out", "b", "--devices", "cpu"]) == 0
    out = capsys.readouterr().out
    for part in (
        "8-4-3, batch 5",
        "6-3, batch 2",
        "whole step",
        "first step, with compilation",
        "b: bench.json, bench.png",
    ):
        assert part in out
    found = json.loads(Path("b/bench.json").read_text())
    assert found["devices"] == ["cpu"]
    assert found["alone_because"] is None
    assert set(found["results"][0]["parts"]["cpu"]) == PARTS
    assert all(value > 0 for value in found["results"][1]["parts"]["cpu"].values())
    assert Path("b/bench.png").read_bytes()[:4] == b"\x89PNG"


def test_bench_says_why_the_cpu_is_alone(capsys, monkeypatch):
    from gpu_backprop.cli import benchmark

    monkeypatch.setattr(benchmark, "cuda_status", lambda: (0, "the driver is missing"))
    found = run_json(capsys, ["bench", "--networks", "6-3@2", "--repeats", "1"])
    assert found["alone_because"] == "the driver is missing"
    assert found["run_dir"].startswith("runs/bench-")


@pytest.mark.emulated
@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_bench_of_two_devices(capsys, device):
    arguments = ["bench", "--networks", "8-4-3@5", "--repeats", "1", "--devices", f"cpu,{device}", "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    agreement = found["results"][0]["agreement"]
    assert agreement["agree"] is True
    assert agreement["relative_difference"][device] < 1e-5
    assert len(agreement["losses"][device]) == 5
    assert err.index("cpu and emulated agree") < err.index("whole step")  # first that, then the figures
    assert "cpu / emulated" in err


def test_bench_tells_devices_that_disagree(capsys, monkeypatch):
    from gpu_backprop.cli import benchmark

    cpu = gb.device("cpu")
    other = type(cpu)("other", cpu.backend)
    monkeypatch.setattr(benchmark, "_devices", lambda names: ([cpu, other], ""))
    monkeypatch.setattr(benchmark, "first_steps", lambda n, place, s: ([1.0, 0.5 if place is cpu else 0.6], 1.0))
    monkeypatch.setattr(benchmark, "measure", lambda n, place, s: dict.fromkeys(PARTS, 1.0))
    assert main(["bench", "--networks", "6-3@2", "--repeats", "1"]) == 0
    assert "cpu and other DISAGREE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "64-10"], "'64-10' is not widths@batch"),
        (["--networks", "64-0@3"], "'64-0@3'"),
        (["--networks", "64-10@0"], "'64-10@0'"),
        (["--networks", ""], "''"),
        (["--repeats", "0"], "--repeats 0"),
        (["--devices", "cpu,tpu"], "'tpu'"),
        (["--optimizer", "x"], "optimizer 'x'"),
        (["--widths", "0"], "--widths '0' names no widths"),
        (["--widths", "0-64"], "--widths '0-64'"),
        (["--widths", "64-32"], "--widths '64-32'"),
        (["--widths", "64,x"], "--widths '64,x'"),
        (["--widths", "-64"], "--widths '-64'"),
        (["--widths", ""], "--widths ''"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--seconds", "0"], "--seconds 0 leaves no time"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--out", "x.gif"], "--out 'x.gif' is no kind of picture; use .png, .svg, .pdf, or a folder"),
        (["--out", "file/x.png"], "file"),
        (["--out", "file"], "--out 'file' is a file"),
        (["--out", "locked/x.png"], "--out 'locked/x.png' cannot be written"),
        (["--widths", "100000000", "--devices", "cpu"], "no width could be measured"),
    ],
)
def test_bench_errors(capsys, monkeypatch, arguments, message):
    Path("file").write_text("")
    Path("locked").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not os.path.exists("runs") or "100000000" in arguments
