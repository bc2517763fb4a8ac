"""benchmarks/mlp_step.py: what is timed is the same for all peers, who fails costs a row, goals are told."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

from .conftest import BENCHMARKS, module


@pytest.fixture
def peers(monkeypatch):
    yield module(monkeypatch, "mlp_peers")
    gb.set_matmul_precision("highest")
    gb.tune_matmul(False)
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision("highest")
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_default_matmul_precision", None)


@pytest.fixture
def mlp_step(monkeypatch):
    return module(monkeypatch, "mlp_step")


def test_networks_and_their_operations(peers):
    assert peers.widths("784-256-10") == (784, 256, 10)
    assert peers.widths("8192x8") == (8192,) * 9
    step = peers.Setting("8192x8", 8192, "cuda")
    assert peers.flops(step) == 23 * 2 * 8192**3  # the first layer needs no gradient of its input
    assert peers.flops(step._replace(training=False)) == 8 * 2 * 8192**3


@pytest.mark.parametrize("training", [True, False])
def test_products_by_pytorch(peers, monkeypatch, training):
    torch = pytest.importorskip("torch")
    done = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: (done.append((a, b, mm(a, b, out=out))), out)[1])
    setting = peers.Setting("6-5-4-3", 7, "cpu", training, "bfloat16")
    step, wait = peers.products(setting)
    step()
    wait()
    assert sum(2 * a.numel() * b.shape[1] for a, b, _ in done) == peers.flops(setting)
    assert all(out.dtype == torch.bfloat16 for *_, out in done)
    assert all(out.isfinite().all() for *_, out in done)
    assert peers.products_by(setting._replace(precision="tf32", device="cuda")) == "torch"


def test_the_products_are_those_that_are_counted(peers, monkeypatch):
    done = []
    dot = np.dot
    monkeypatch.setattr(np, "dot", lambda a, b, out: (done.append(2 * a.size * b.shape[1]), dot(a, b, out=out))[1])
    for training in (True, False):
        done.clear()
        setting = peers.Setting("6-5-4-3", 7, "cpu", training)
        peers.products(setting)[0]()
        assert sum(done) == peers.flops(setting)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("other", ["gpu_backprop eager", "torch", "jax"])
def test_peers_compute_the_same(peers, mlp_step, other, precision, optimizer):
    for package in {"torch": ("torch",), "jax": ("jax", "optax")}.get(other, ()):
        pytest.importorskip(package)
    for training in (True, False):
        setting = peers.Setting("12-16-16-5", 8, "cpu", training, precision, optimizer)
        steps = [peers.PEERS[name].make(setting)[0] for name in ("gpu_backprop", other)]
        ours, theirs = ([mlp_step.number(step()) for _ in range(5)] for step in steps)
        assert ours == pytest.approx(theirs, rel=5e-3 if precision == "bfloat16" else 1e-5)
        assert len(set(ours)) == (5 if training else 1)


def test_bfloat16_starts_from_its_own_digits(peers):
    x, _, layers = peers.problem(peers.Setting("6-5-3", 4, "cpu", precision="bfloat16"))
    for array in (x, *(a for layer in layers for a in layer)):
        np.testing.assert_array_equal(gb.tensor(array, "bfloat16", device="cpu").astype("float32").numpy(), array)
        assert np.unique(array).size > 1


def test_a_run_from_end_to_end(tmp_path):
    command = [
        *(sys.executable, BENCHMARKS / "mlp_step.py", "--against", "gpu_backprop eager,autograd,products"),
        *("--networks", "6-5-3@4,8x2@3", "--precisions", "float32,bfloat16", "--optimizer", "adamw"),
        *("--rounds", "2", "--seconds", "0", "--out", tmp_path, "--name", "small"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    report = json.loads((tmp_path / "small_cpu.json").read_text())
    torch = importlib.util.find_spec("torch")
    assert [(r["network"], r["precision"], r["peer"]) for r in report["rows"] if "eager" not in r["peer"]] == [
        ("6-5-3", "float32", "gpu_backprop"),
        ("6-5-3", "float32", "products"),
        ("6-5-3", "bfloat16", "gpu_backprop"),
        *([("6-5-3", "bfloat16", "products")] if torch else []),
        ("8x2", "float32", "gpu_backprop"),
        ("8x2", "float32", "products"),
        ("8x2", "bfloat16", "gpu_backprop"),
        *([("8x2", "bfloat16", "products")] if torch else []),
    ]
    assert all(row["loss_deviation"] == 0 for row in report["rows"] if "eager" in row["peer"])
    assert "goals" not in report  # they are a GPU's
    text = (tmp_path / "small_cpu.md").read_text()
    assert text.count("autograd is left out") <= 1
    assert "| 8x2 | 3 | bfloat16 | gpu_backprop eager" in text
    assert text.count("products is left out: it is not installed") == (0 if torch else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--networks", "784-10"), "--networks '784-10' is not widths@batch"),
        (("--networks", "8-0@3"), "'8-0@3' is not widths@batch"),
        (("--precisions", "float16"), "'float16' is not one of float32, tf32, bfloat16"),
        (("--against", "theano"), "unknown peers ['theano']"),
    ],
)
def test_what_is_unknown_is_refused(arguments, message):
    result = subprocess.run([sys.executable, BENCHMARKS / "mlp_step.py", *arguments], capture_output=True, text=True)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


# who fails -----------------------------------------------------------------------------------------------------------


class Scripted:
    """A peer in this process: step seconds by name; an answer that is an exception is raised."""

    seconds: dict[str, Any]

    def __init__(self, peer: str, setting: Any):
        self.peer, self.calls = peer, 0

    def ask(self, request: Any, patience: float | None = None) -> dict[str, Any]:
        self.calls += 1
        answer = self.seconds[self.peer]
        if callable(answer):
            answer = answer(self.calls)
        if request == "begin":
            return {"losses": [1.0, 0.5], "version": "1"}
        return {"peak_bytes": 2**20} if request == "memory" else {"seconds": answer}

    def close(self) -> None:
        pass


def measured(mlp_step: Any, monkeypatch: Any, rounds: int = 4, **seconds: Any) -> Any:
    monkeypatch.setattr(Scripted, "seconds", seconds, raising=False)
    monkeypatch.setattr(mlp_step, "Worker", Scripted)
    return mlp_step.measure(mlp_step.Setting("6-5-3", 4, "cpu"), list(seconds), rounds, 0.0, 1.0)


def after(calls: int, error: BaseException) -> Any:
    """0.001 seconds, but from that call on an error."""

    def answer(call: int) -> float:
        if call > calls:
            raise error
        return 0.001

    return answer


def test_ratios_and_shares(mlp_step, monkeypatch):
    found = measured(mlp_step, monkeypatch, gpu_backprop=0.002, torch=0.004, products=0.001)
    assert found.complete
    assert [row["ours_over_theirs"] for row in found.rows] == [1.0, 0.5, 2.0]
    assert [row["of_products"] for row in found.rows] == [0.5, 0.25, 1.0]
    assert found.rows[0]["gflops"] == pytest.approx(4 * 2 * (2 * 30 + 3 * 15) / 0.002 / 1e9)


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_peer_that_fails_costs_its_row_alone(mlp_step, monkeypatch, calls):
    lost = mlp_step.Lost("out of memory")
    found = measured(mlp_step, monkeypatch, gpu_backprop=0.002, torch=after(calls, lost), jax=0.001)
    assert [row["peer"] for row in found.rows] == ["gpu_backprop", "jax"]
    assert found.notes == ["6-5-3, batch 4, float32: torch is left out: out of memory"]
    assert found.complete


def test_without_ours_there_is_nothing(mlp_step, monkeypatch):
    found = measured(mlp_step, monkeypatch, gpu_backprop=after(0, mlp_step.Lost("no kernel")), torch=0.001)
    assert (found.rows, found.complete) == ([], False)
    assert "gpu_backprop is left out: no kernel" in found.notes[0]


def test_an_interruption_leaves_the_rounds_before_it(mlp_step, monkeypatch):
    found = measured(mlp_step, monkeypatch, gpu_backprop=0.002, torch=after(7, KeyboardInterrupt()), jax=0.001)
    assert [row["peer"] for row in found.rows] == ["gpu_backprop", "torch", "jax"]
    assert [row["ours_over_theirs"] for row in found.rows] == [1.0, 2.0, 2.0]
    assert found.notes == ["6-5-3, batch 4, float32: interrupted after 3 of 4 rounds"]
    assert not found.complete
    assert not measured(mlp_step, monkeypatch, gpu_backprop=0.002, torch=after(2, KeyboardInterrupt())).rows


def test_an_interruption_of_a_slow_start_leaves_those_that_are_ready(mlp_step, monkeypatch):
    found = measured(mlp_step, monkeypatch, gpu_backprop=0.002, jax=0.001, torch=after(0, KeyboardInterrupt()))
    assert [row["peer"] for row in found.rows] == ["gpu_backprop", "jax"]
    assert found.rows[1]["ours_over_theirs"] == 2.0
    assert found.notes == ["6-5-3, batch 4, float32: torch is left out: interrupted before its first steps were done"]
    assert not found.complete
    assert not measured(mlp_step, monkeypatch, gpu_backprop=after(0, KeyboardInterrupt()), torch=0.001).rows


def test_a_slow_start_is_not_waited_for(mlp_step, peers):
    worker = mlp_step.Worker("gpu_backprop", peers.Setting("6-5-3", 4, "cpu"))
    with pytest.raises(mlp_step.Lost, match="longer than 0 s"):
        worker.ask("begin", 0.0)
    worker.close()


def test_a_worker_says_what_failed(mlp_step, peers):
    for peer, setting, expected, words in (
        ("autograd", peers.Setting("6-5-3", 4, "cuda"), True, "on the CPU"),
        ("gpu_backprop", peers.Setting("6-5-3", 4, "cpu", precision="int4", optimizer="lion"), False, "KeyError"),
    ):
        pytest.importorskip("autograd")
        worker = mlp_step.Worker(peer, setting)
        with pytest.raises(mlp_step.Lost, match=words) as caught:
            worker.ask("begin", 60.0)
        assert caught.value.expected is expected
        worker.process.kill()
        with pytest.raises(mlp_step.Lost, match="its process ended"):
            worker.ask("begin")
        worker.close()


def test_memory_on_a_gpu_is_what_the_driver_tells(mlp_step, monkeypatch, tmp_path):
    workers = {name: SimpleNamespace(process=SimpleNamespace(pid=pid)) for name, pid in (("torch", 12), ("jax", 13))}
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '12, 1234'\necho '77, 5'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert mlp_step._peak_mib("cuda", workers) == {"torch": 1234.0}
    smi.write_text("#!/bin/sh\necho '12, [N/A]'\n")
    assert mlp_step._peak_mib("cuda", workers) == {}
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert mlp_step._peak_mib("cuda", workers) == {}


# goals ---------------------------------------------------------------------------------------------------------------


def test_goals_are_reached_or_not_or_not_measured(mlp_step):
    def row(network: str, batch: int, precision: str, peer: str, ratio: float) -> dict[str, Any]:
        return {"network": network, "batch": batch, "precision": precision, "peer": peer, "ours_over_theirs": ratio}

    small = ("784-1024-1024-10", 256, "tf32")
    rows = [
        row("8192x8", 8192, "bfloat16", "gpu_backprop", 1.0),
        row("8192x8", 8192, "bfloat16", "products", 1.25),
        row(*small, "gpu_backprop", 1.0),
        row(*small, "torch", 0.3),
        row("784-1024-1024-10", 256, "float32", "gpu_backprop", 1.0),
    ]
    found = mlp_step.goals(rows)
    assert [(g["measured"], g["reached"]) for g in found] == [(0.8, True), (None, None), (None, None), (0.3, False)]
    assert found[0]["goal"] == (
        "a step of 8192x8, batch 8192, bfloat16: at least 0.75 of the rate of its matrix products alone"
    )
    assert found[3]["goal"] == "a step of 784-1024-1024-10, batch 256, tf32: at most 0.25 of torch's time"
    assert {goal.peer for goal in mlp_step.GOALS} <= set(mlp_step.PEERS)
    assert not mlp_step.goals([row("64-32-10", 32, "float32", "gpu_backprop", 1.0)])


def test_the_table_leaves_blank_what_nobody_knows(mlp_step):
    row = {
        "network": "6-5-3", "batch": 4, "precision": "float32", "peer": "products", "version": "1",
        "milliseconds": 1.5, "ours_over_theirs": 2.0, "gflops": 790_000.0, "peak_mib": math.nan,
        "loss_deviation": math.nan,
    }  # fmt: skip
    assert mlp_step.table([row]).splitlines()[-1] == (
        "| 6-5-3 | 4 | float32 | products 1 | 1.500 | 2.00 | 790,000 |  |  |  |"
    )
