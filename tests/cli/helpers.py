"""What the tests of the command line share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gpu_backprop as gb
from gpu_backprop.cli import main

ROOT = str(Path(gb.__file__).parents[1])
PROGRAM = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {ROOT!r}); from gpu_backprop.cli import main; sys.exit(main())",
]
KEYS = ["train_loss", "test_loss", "test_accuracy", "epochs", "seconds", "device", "run_dir"]


def metrics_of(result: dict) -> dict:
    return json.loads(Path(result["run_dir"], "metrics.json").read_text())


def quick(*more: str) -> list[str]:
    """A training of a moment."""
    return ["train", "--hidden", "8", "--epochs", "2", "--limit", "100", *more]


def run_json(capsys, arguments: list[str]) -> dict:
    """The JSON line, which is all of standard output."""
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)
