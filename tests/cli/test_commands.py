"""The command line: what it writes and prints, JSON lines, exit codes, errors of one sentence."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

ROOT = str(Path(gb.__file__).parents[1])
KEYS = ["train_loss", "test_loss", "test_accuracy", "epochs", "seconds", "device", "run_dir"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPU_BACKPROP_DEBUG", raising=False)
    return tmp_path


def metrics_of(result: dict) -> dict:
    return json.loads(Path(result["run_dir"], "metrics.json").read_text())


def quick(*more: str) -> list[str]:
    return ["train", "--hidden", "8", "--epochs", "2", "--limit", "100", *more]


def run_json(capsys, arguments: list[str]) -> dict:
    """The JSON line, which is all of standard output."""
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


# train ----------------------------------------------------------------------------------------------------------------


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


# data of the user's ---------------------------------------------------------------------------------------------------


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


# errors ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_files(tmp_path):
    (tmp_path / "words.csv").write_text("a,b\nx,1\ny,2\n")
    (tmp_path / "narrow.csv").write_text("a\n1\n")
    (tmp_path / "price.csv").write_text("a,b\n1,1.5\n2,2.5\n")
    (tmp_path / "gap.csv").write_text("a,b\n1,1\n,2\n")
    (tmp_path / "one.csv").write_text("a,b\n" + "1,1\n" * 40)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "notes.txt").write_text("hello")
    np.savez(tmp_path / "other.npz", A=np.zeros(3))
    np.savez(tmp_path / "odd.npz", X=np.zeros((3, 2)), y=np.zeros(4))


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs 0"),
        (["--epochs", "many"], "'--epochs'"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--lr", "-1"], "lr=-1"),
        (["--hidden", "256,x"], "--hidden '256,x' is not a list of widths"),
        (["--hidden", "256,0"], "--hidden '256,0'"),
        (["--activation", "rellu"], "rellu"),
        (["--optimizer", "adm"], "optimizer 'adm' is not known; use one of sgd, adam, adamw, rmsprop, adagrad"),
        (["--schedule", "cos"], "schedule 'cos' is not known"),
        (["--norm", "group"], "group"),
        (["--dropout", "1.5"], "--dropout 1.5"),
        (["--seed", "-1"], "-1 is not a seed"),
        (["--device", "gpu"], "'gpu' is not a device"),
        (["--limit", "0"], "--limit 0"),
        (["--limit", "2"], "leaves a part empty"),
        (["--out", "notes.txt"], "--out 'notes.txt' is a file"),
        (["--out", "notes.txt/x"], "notes.txt"),
        (["--data", "nowhere.npz"], "there is no file 'nowhere.npz'"),
        (["--data", "torn.npz"], "'torn.npz' is not an .npz archive, or damaged"),
        (["--data", "notes.txt"], "'notes.txt' is neither .npz nor .csv"),
        (["--data", "other.npz"], "'other.npz' holds A; it must hold arrays X"),
        (["--data", "odd.npz"], "X [3, 2] and y [4]"),
        (["--data", "words.csv"], "column 'a' of 'words.csv' holds words"),
        (["--data", "narrow.csv"], "'narrow.csv' has one column"),
        (["--data", "price.csv"], "is not a class but a quantity"),
        (["--data", "gap.csv"], "are not all finite numbers"),
        (["--data", "one.csv"], "all 40 samples are of one class, 1"),
        (["--speed", "9"], "No such option"),
        (["surplus"], "surplus"),
    ],
)
def test_errors_of_users(capsys, arguments, message):
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("gpu-backprop: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not os.path.exists("runs") or not os.listdir("runs")  # nothing is left behind


def test_cuda_without_a_gpu(capsys):
    from gpu_backprop.backends.cuda import cuda_status

    if cuda_status()[0]:
        pytest.skip("here is a GPU")
    assert main(["train", "--device", "cuda"]) == 2
    assert "install" in capsys.readouterr().err


def test_unknown_command(capsys):
    assert main(["trian"]) == 2
    assert "trian" in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(gb.DataError):
        main(["train", "--epochs", "0", "--debug"])
    with pytest.raises(gb.DataError):
        main(["--debug", "train", "--epochs", "0"])
    monkeypatch.setenv("GPU_BACKPROP_DEBUG", "1")
    with pytest.raises(gb.DataError):
        main(["train", "--epochs", "0"])


def test_faults_of_ours_are_not_hidden(monkeypatch):
    from gpu_backprop.cli import information

    def break_down():
        raise ZeroDivisionError

    monkeypatch.setattr(information, "gather", break_down)
    with pytest.raises(ZeroDivisionError):
        main(["info"])


def test_interrupted(monkeypatch, capsys):
    from gpu_backprop.cli import information

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(information, "gather", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "gpu-backprop: interrupted\n"


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra(monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["info"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert 'pip install "gpu-backprop[cli]"' in err


def test_help_and_version(capsys):
    assert main([]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    options = (
        "--hidden --activation --optimizer --lr --schedule --batch-size --epochs --seed --device --limit --out --json"
    )
    assert set(options.split()) <= set(text.split())
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{gb.__version__}\n"


def test_nothing_heavy_is_imported_before_it_is_used():
    modules = "gpu_backprop.cli, gpu_backprop.train, gpu_backprop.data, gpu_backprop.viz.curves"
    heavy = "{'typer', 'rich', 'matplotlib', 'cupy', 'sklearn', 'cuda'}"
    code = f"import sys; sys.path.insert(0, {ROOT!r}); import {modules}; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# as a process ---------------------------------------------------------------------------------------------------------

PROGRAM = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {ROOT!r}); from gpu_backprop.cli import main; sys.exit(main())",
]


def test_exit_code_and_streams_of_the_process():
    done = subprocess.run([*PROGRAM, "train", "--device", "gpu"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early():
    process = subprocess.Popen([*PROGRAM, *quick()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_a_bar_and_a_table_on_a_terminal():
    terminal, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen([*PROGRAM, *quick("--epochs", "30")], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        seen += piece
    assert process.wait() == 0
    os.close(terminal)
    text = seen.decode()
    for part in ("epoch 30/30", "━", "loss ", "accuracy 0.", "samples/s", "time left", "test accuracy"):
        assert part in text
    assert "epoch 15/30  loss" not in text  # no plain lines beside the bar


# info -----------------------------------------------------------------------------------------------------------------


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
    assert found["missing"]["device emulated"] == "there is no C++ compiler"
    assert found["kernels"]["nvrtc"] == {"works": False, "with": None}
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "do not compile here" in out
    assert line in out


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


# bench ----------------------------------------------------------------------------------------------------------------

PARTS = {"copies", "forward", "backward", "optimiser", "whole step", "first step", "samples a second"}


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
    ],
)
def test_bench_errors(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
