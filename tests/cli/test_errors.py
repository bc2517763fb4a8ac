"""Errors of users are one sentence and exit code 2; streams, terminals and exit codes of the process."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main

from .helpers import PROGRAM, ROOT, quick


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
        (["--hidden", "99999999999"], "out of memory"),
        (["--lr", "inf"], "lr=inf is not finite"),
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
        (["--speed", "9"], "see gpu-backprop train --help"),
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
    err = capsys.readouterr().err
    assert "trian" in err
    assert "see gpu-backprop --help" in err


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


@pytest.mark.parametrize("command", ["train", "bench"])
def test_without_matplotlib_no_work_is_lost(monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([command]) == 2
    out, err = capsys.readouterr()
    assert 'matplotlib is not installed; run pip install "gpu-backprop[cli]"' in err
    assert out == ""
    assert not os.path.exists("runs")


def test_help_and_version(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
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


def test_the_module_is_the_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gpu_backprop", "train", "--device", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2
    assert "'gpu' is not a device" in done.stderr
