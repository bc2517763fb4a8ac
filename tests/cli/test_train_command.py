"""`gpu-backprop train`: what it learns, prints and writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main

from .helpers import KEYS, metrics_of, quick, run_json


def test_train_reaches_097(capsys, tmp_path):
    result = run_json(capsys, ["train", "--device", "cpu"])
    assert list(result) == KEYS
    assert result["test_accuracy"] >= 0.97
    assert result["epochs"] == 20
    assert result["device"] == "cpu"
    assert 0 < result["seconds"] < 60  # under 5 on two cores that do nothing else

    folder = tmp_path / result["run_dir"]
    assert folder.parent == tmp_path / "runs"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {key: metrics[key] for key in KEYS} == result
    assert metrics["settings"]["optimizer"] == "adam"
    assert metrics["samples"] == {"train": 1438, "test": 359}
    assert len(metrics["history"]["epochs"]["val_accuracy"]) == 20
    assert len(metrics["history"]["steps"]["loss"]) == 20 * 23
    assert (folder / "loss.png").read_bytes()[:4] == b"\x89PNG"

    # the saved model gives the accuracy that was printed
    _, (x_test, y_test) = gb.data.stratified_split(*gb.data.load_digits())
    model = gb.load(folder / "model.safetensors", device="cpu")
    hits = (model(gb.tensor(x_test)).argmax(axis=1).numpy() == y_test).mean()
    assert hits == pytest.approx(result["test_accuracy"])


def test_train_prints_plain_lines_where_there_is_no_terminal(capsys):
    assert main(quick("--out", "here")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0] == "digits: a 64-8-10 network on cpu, 80 samples to train on, 20 to test on"
    assert lines[1].startswith("epoch 1/2  loss ")
    assert lines[2].startswith("epoch 2/2  loss ")
    for row in ("test accuracy", "training time", "written to      here: metrics.json, loss.png, model.safetensors"):
        assert row in out
    assert sorted(os.listdir("here")) == ["loss.png", "metrics.json", "model.safetensors"]
    assert not os.path.exists("runs")


def test_json_comes_last_and_alone_on_standard_output(capsys):
    assert main(quick("--json")) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == KEYS
    assert "epoch 2/2" in err
    assert "test accuracy" in err


def test_a_seed_repeats_a_run(capsys):
    def losses(seed):
        result = run_json(capsys, quick("--dropout", "0.3", "--seed", seed))
        return result["train_loss"], result["test_loss"]

    assert losses("3") == losses("3") != losses("4")


def test_two_runs_at_once_have_folders_of_their_own(capsys):
    folders = {run_json(capsys, quick("--epochs", "1"))["run_dir"] for _ in range(3)}
    assert len(folders) == 3


def test_options_reach_the_model_and_the_optimizer(capsys):
    options = ["--hidden", "12,7", "--activation", "gelu", "--dropout", "0.1", "--norm", "layer", "--optimizer", "sgd"]
    result = run_json(capsys, quick(*options, "--lr", "0.05", "--schedule", "constant", "--batch-size", "16"))
    model = gb.load(f"{result['run_dir']}/model.safetensors")
    assert (model.sizes, model.activation, model.dropout, model.norm) == ([64, 12, 7, 10], "gelu", 0.1, "layer")
    assert metrics_of(result)["history"]["steps"]["lr"] == [0.05] * 10
    assert run_json(capsys, quick("--hidden", ""))["epochs"] == 2
    assert gb.load(f"{result['run_dir']}/model.safetensors").training is False


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_precision(capsys, precision):
    plain = run_json(capsys, quick())
    result = run_json(capsys, quick("--precision", precision))
    assert metrics_of(result)["settings"]["precision"] == precision
    assert (result["train_loss"] == plain["train_loss"]) == (precision == "tf32")
    assert result["train_loss"] == pytest.approx(plain["train_loss"], rel=0.2)  # float16 begins by skipping a step
    model = gb.load(f"{result['run_dir']}/model.safetensors", device="cpu")
    assert {p.dtype.name for p in model.parameters()} == {"float32"}
    assert main(quick("--precision", precision)) == 0
    out = capsys.readouterr().out
    assert f" network on cpu in {precision}, 80 samples" in out
    assert ("skipped steps" in out) == (sum(metrics_of(result)["history"]["epochs"].get("skipped", ())) > 0)


def test_an_unknown_precision_is_named(capsys):
    assert main(quick("--precision", "half")) != 0
    assert "precision 'half' is not known; use one of float32, tf32, bfloat16, float16" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", sorted(gb.train.OPTIMIZERS))
def test_every_optimizer_learns_with_its_default_rate(capsys, optimizer):
    arguments = ["train", "--hidden", "32", "--epochs", "10", "--optimizer", optimizer]
    assert run_json(capsys, arguments)["test_accuracy"] > 0.9


@pytest.mark.emulated
@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_emulated_kernels_give_the_losses_of_the_cpu(capsys, device):
    arguments = ["train", "--epochs", "1", "--limit", "256", "--device"]
    here, there = (run_json(capsys, [*arguments, name]) for name in ("cpu", device))
    assert there["device"] == "emulated"
    for key in ("train_loss", "test_loss"):
        assert abs(here[key] - there[key]) < 1e-4
    steps = [metrics_of(r)["history"]["steps"]["loss"] for r in (here, there)]
    assert len(steps[0]) == 4
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-4, rtol=0)


def test_a_loss_that_is_not_finite_is_told(capsys):
    with np.errstate(all="ignore"):
        assert main(quick("--optimizer", "sgd", "--lr", "1e38", "--schedule", "constant", "--json", "--out", "x")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["train_loss"] is None  # JSON has no NaN
    assert "stopped early: the loss became" in err
    assert "NaN" not in Path("x/metrics.json").read_text()


def table(n=120):
    source = gb.random.Generator(0)
    X = source.normal((n, 3), device="cpu").numpy() * [1, 100, 1e-3] + [0, 5000, 0]
    return X, np.where(X[:, 1] > 5000, "high", "low")


def test_train_on_a_csv(capsys, tmp_path):
    X, words = table()
    rows = [",".join([*(f"{v:.9g}" for v in row), word]) for row, word in zip(X, words)]
    (tmp_path / "t.csv").write_text("a,b,c,level\n" + "\n".join(rows) + "\n")
    result = run_json(capsys, ["train", "--data", "t.csv", "--hidden", "16", "--batch-size", "8", "--norm", "batch"])
    assert result["test_accuracy"] > 0.9
    assert metrics_of(result)["classes"] == ["high", "low"]
    model = gb.load(f"{result['run_dir']}/model.safetensors")
    predicted = np.array(["high", "low"])[model(gb.tensor(X)).argmax(axis=1).numpy()]
    assert (predicted == words).mean() > 0.9  # raw features: standardising is part of the model


def test_train_on_an_npz(capsys):
    X, words = table()
    np.savez("t.npz", X=X.reshape(-1, 3, 1), y=np.where(words == "high", 7, -2))
    result = run_json(capsys, ["train", "--data", "t.npz", "--hidden", "16", "--batch-size", "8"])
    assert result["test_accuracy"] > 0.9
    assert metrics_of(result)["classes"] == [-2, 7]


@pytest.mark.parametrize("more", [(), ("--no-capture",), ("--json",)])
def test_profile_prints_a_table_and_writes_a_trace(capsys, tmp_path, more):
    assert main(quick("--profile", "--out", "run", *more)) == 0
    out, err = capsys.readouterr()
    if "--json" in more:
        assert list(json.loads(out)) == KEYS
        out = err
    lines = out.splitlines()
    assert any(line.split()[:2] == ["adam_update", "4"] for line in lines)  # 2 epochs of 2 steps
    assert any(line.split()[:3] == ["operation", "calls", "ms"] for line in lines)
    assert any("ms inside gb.profile()" in line for line in lines)
    assert any(line.endswith("run: metrics.json, loss.png, model.safetensors, trace.json") for line in lines)
    events = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "adam_update" for event in events) == 4


def test_without_profile_there_is_no_trace(capsys, tmp_path):
    assert main(quick("--out", "run")) == 0
    assert "gb.profile" not in capsys.readouterr().out
    assert not (tmp_path / "run" / "trace.json").exists()
