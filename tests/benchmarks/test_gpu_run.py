"""What a run on a GPU consists of, without one: compiling ahead, the script's order, the report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_backprop.backends import table

from ..conftest import require_emulated
from .conftest import BENCHMARKS, ROOT, module


@pytest.mark.emulated
def test_kernels_are_compiled_ahead():
    """Here for the emulated device alone, and one file; what is in the cache already is not made again."""
    require_emulated()
    command = [sys.executable, BENCHMARKS / "compile_all.py", "--arch", "none", "--only", "neural.cu"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count = sum(kernel.file == "neural.cu" for kernel in table.instantiations(indices=("int",)))
    assert said.startswith(f"{count} kernels for none and the emulated device")


# gpu.sh --------------------------------------------------------------------------------------------------------------

STUB = """#!/bin/sh
echo "$GPU_BACKPROP_TEST_NO_POOL $GPU_BACKPROP_TEST_FLOATS $@" >> "{log}"
case "$*" in
    *report.py*) exec "{python}" "$@" ;;
    *kernels.py*) echo "no such kernel"; exit 3 ;;
    *) echo fine ;;
esac
"""


SANITIZER = """#!/bin/sh
echo "sanitizer $2" >> "{log}"
shift 4  # --tool and --error-exitcode
exec "$@"
"""


STEPS = [
    "compile",
    "memcheck",
    "racecheck",
    "initcheck",
    "capture",
    "tests",
    "kernels",
    "widths",
    "mlp_step",
    "mlp_large",
]


def script(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """gpu.sh with stand-ins for Python (failing in kernels.py) and compute-sanitizer; what they were called with."""
    log = tmp_path / "calls"
    for name, text in (("python", STUB), ("compute-sanitizer", SANITIZER)):
        (tmp_path / name).write_text(text.format(log=log, python=sys.executable))
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PYTHON": str(tmp_path / "python"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", BENCHMARKS / "gpu.sh", *arguments, "--out", tmp_path / "out"], capture_output=True, text=True,
        env=environment, timeout=120,
    )  # fmt: skip
    return result, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_the_script_names_what_failed_and_goes_on(tmp_path, device):
    result, calls = script(tmp_path, "--device", device)
    assert result.returncode == 1
    assert "failed steps: kernels\n" in result.stdout
    (path,) = (tmp_path / "out").glob("*.json")
    report = json.loads(path.read_text())
    outcomes = {step["name"]: step["outcome"] for step in report["steps"]}
    assert list(outcomes) == STEPS if device == "cuda" else set(outcomes) == set(STEPS)
    assert outcomes["kernels"] == "failed"
    assert outcomes["mlp_step"] == "ok"
    assert "no such kernel" in path.with_suffix(".md").read_text()
    if device == "cuda":
        assert sorted(call.split()[1] for call in calls if call.startswith("sanitizer")) == [
            *("initcheck", "memcheck", "racecheck")
        ]
        sanitized = [call for call in calls if call.startswith("1 ")]  # without the pool, and only there
        assert sorted(call.split()[1:4] for call in sanitized) == [
            *(["float", "-m", "pytest"], ["float", "-m", "pytest"], ["float,__half", "-m", "pytest"])
        ]
        for call in sanitized:
            files = re.findall(r"tests/kernels/\S+", call)
            assert len(files) >= 7
            assert all((ROOT / file).is_file() for file in files)
            assert "devices_agree" not in call  # it would build the emulated device's kernels, under the sanitizer
    else:
        assert outcomes["memcheck"] == "skipped"


def test_a_run_that_is_cut_short_leaves_a_report(tmp_path):
    """It is written after what runs together, and after each of the others."""
    _, calls = script(tmp_path, "--device", "cuda")
    written = [i for i, call in enumerate(calls) if "report.py" in call]
    for name in ("kernels.py", "bench --devices", "784-1024-1024-10@256", "8192x8@8192"):
        (begun,) = (i for i, call in enumerate(calls) if name in call)
        assert begun - 1 in written
        assert begun + 1 in written


def test_the_steps_fit_into_nine_minutes():
    script_text = (BENCHMARKS / "gpu.sh").read_text()
    on_gpu = script_text[script_text.index('if [ "$device" = cuda ]') : script_text.index("\nelse\n")]
    steps = re.findall(r"(?:step|alone|tests|sanitized) (\w+) (\d+)(?:.|\\\n)*?(&?)\n", on_gpu)
    assert [name for name, _, _ in steps] == STEPS
    (beside,) = {seconds for _, seconds, together in steps if together}
    assert f"together {beside}\n" in on_gpu
    grace = int(re.search(r"timeout -s INT -k (\d+)", script_text)[1])
    alone = sum(int(seconds) for _, seconds, together in steps if not together)
    assert alone + int(beside) + grace <= 9 * 60 - 10  # and some seconds for the report


def test_a_step_has_the_time_that_others_left_and_not_more(tmp_path):
    """The limits that `timeout` is given: the stand-ins need none, so that each step is left all that was granted."""
    (tmp_path / "timeout").write_text(f'#!/bin/sh\necho "$5" >> "{tmp_path}/limits"\nshift 5\nexec "$@"\n')
    (tmp_path / "timeout").chmod(0o755)
    script(tmp_path, "--device", "cuda")
    script_text = (BENCHMARKS / "gpu.sh").read_text()
    on_gpu = script_text[script_text.index('if [ "$device" = cuda ]') : script_text.index("\nelse\n")]
    granted, total = [], 0
    for kind, seconds, beside in re.findall(
        r"(step|alone|tests|sanitized|together) (?:[a-z]\w* )?(\d+)(?:.|\\\n)*?(&?)\n", on_gpu
    ):
        total += 0 if beside else int(seconds)
        granted += [] if kind == "together" else [total + int(seconds) if beside else total]
    given = list(map(int, (tmp_path / "limits").read_text().split()))
    assert len(given) == len(granted)
    assert all(limit <= most <= limit + 30 for limit, most in zip(given, granted, strict=True))


def test_steps_run_anew_take_their_place_in_the_report(tmp_path):
    """The others stay as they were."""
    script(tmp_path, "--device", "cuda")
    (path,) = (tmp_path / "out").glob("*.json")
    first = json.loads(path.read_text())
    for step in first["steps"]:
        step["date"] = "2000-01-01"
    path.write_text(json.dumps(first))
    result, _ = script(tmp_path, "--device", "cuda", "--only", "widths,tests")
    assert "failed steps: none" in result.stdout
    dates = {step["name"]: step["date"] != "2000-01-01" for step in json.loads(path.read_text())["steps"]}
    assert list(dates) == STEPS
    assert [name for name, new in dates.items() if new] == ["tests", "widths"]


def test_a_step_that_there_is_not_is_named(tmp_path):
    result, calls = script(tmp_path, "--only", "widths,kernel")
    assert result.returncode == 2
    assert "--only kernel is no step" in result.stderr
    assert calls == []


def test_the_capture_step_runs_what_the_other_leaves_out(tmp_path):
    _, calls = script(tmp_path, "--device", "cuda")
    (capture,) = (call for call in calls if "capture.xml" in call)
    (tests,) = (call for call in calls if "tests.xml" in call)
    files = [word for word in capture.split() if word.startswith("tests/")]
    assert "tests/core/test_capture.py" in files
    assert all((ROOT / file).is_file() for file in files)
    assert re.findall(r"--ignore=(\S+)", tests) == files


def test_the_networks_of_the_goals_are_measured(monkeypatch):
    script_text = (BENCHMARKS / "gpu.sh").read_text()
    calls = script_text.replace("\\\n", " ").splitlines()
    goals = module(monkeypatch, "mlp_step").GOALS
    for goal in goals:
        (call,) = (line for line in calls if f"--networks {goal.network}@{goal.batch} " in line)
        assert goal.precision in re.search(r"--precisions (\S+)", call)[1].split(",")
        assert goal.peer in re.search(r'--against "?([^-]*)"? --', call)[1].strip('" ').split(",")
        mode = re.search(r"--mode (\S+)", call)[1]
        assert mode == ("max-autotune" if goal.network == "8192x8" else "reduce-overhead")


def test_unknown_options_are_refused(tmp_path):
    for arguments in (("--device", "tpu"), ("--fast",)):
        result, calls = script(tmp_path, *arguments)
        assert result.returncode == 2
        assert arguments[-1] in result.stderr
        assert not calls


@pytest.mark.full
@pytest.mark.emulated
def test_the_rehearsal_from_end_to_end(tmp_path):
    require_emulated()
    command = ["bash", BENCHMARKS / "gpu.sh", "--device", "emulated", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHON": sys.executable})
    assert result.returncode == 0, result.stdout + (tmp_path / "emulated.md").read_text()
    report = json.loads((tmp_path / "emulated.json").read_text())
    steps = {step["name"]: step for step in report["steps"]}
    assert report["rehearsal"]
    assert steps["tests"]["tests"]["passed"] >= 1
    assert steps["kernels"]["results"]["rows"]
    assert steps["capture"]["tests"]["passed"] >= 1
    for name in ("mlp_step", "mlp_large"):
        assert steps[name]["results"]["rows"][0]["peer"] == "gpu_backprop"
    assert [row["width"] for row in steps["widths"]["results"]["results"]] == [8, 16, 32]
    text = (tmp_path / "emulated-readme.md").read_text()
    assert "| rehearsal |" in text
    assert "cpu / emulated" in text
    assert (tmp_path / "emulated-widths.svg").exists()
    assert "16x8" in text


# report.py -----------------------------------------------------------------------------------------------------------


def test_the_report_lists_the_tests_that_failed(monkeypatch, tmp_path):
    report = module(monkeypatch, "report")
    (tmp_path / "steps.tsv").write_text("tests\t1\t12\t\nmemcheck\tskipped\t0\tnot here\nmlp_step\t124\t70\t\n")
    (tmp_path / "tests.log").write_text("...")
    (tmp_path / "mlp_step.log").write_text("stopped after its limit of 70 s")
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="good"/>'
        '<testcase classname="a" name="bad[cuda]"><failure/></testcase>'
        '<testcase classname="a" name="away"><skipped/></testcase></testsuite></testsuites>'
    )
    found = report.gather(tmp_path, "emulated")
    assert found["steps"][0]["tests"] == {"passed": 1, "failed": ["a.bad[cuda]"], "skipped": 1}
    text = report.markdown(found, "emulated")
    for part in (
        "1 passed, 1 failed, 1 skipped",
        "- a.bad[cuda]",
        "| memcheck | skipped | 0 | ",
        " | not here |",
        "limit of 70",
    ):
        assert part in text


def test_the_report_tells_goals_and_what_the_readme_shows(monkeypatch, tmp_path):
    report = module(monkeypatch, "report")
    (tmp_path / "steps.tsv").write_text("kernels\t0\t12\t\nmlp_step\t0\t70\t\n")
    for name, goals in (
        ("kernels", [{"goal": "a copy", "measured": 0.876, "reached": True}]),
        ("mlp_step", [{"goal": "a step", "measured": None, "reached": None},
                      {"goal": "another", "measured": 1.2, "reached": False}]),
    ):  # fmt: skip
        (tmp_path / f"{name}_cuda.json").write_text(json.dumps({"goals": goals}))
        (tmp_path / f"{name}_cuda.md").write_text(f"table of {name}\n")
    (tmp_path / "mlp_step_cuda.svg").write_text("<svg/>")
    monkeypatch.setattr(report, "machine", lambda device: {"gpu": "NVIDIA H200", "driver": "580"})
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path), "--out", str(tmp_path / "out")])
    assert report.main() == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("nvidia-h200.json", "nvidia-h200.md", "nvidia-h200-readme.md", "nvidia-h200-mlp_step.svg")
    }
    whole, part = ((tmp_path / "out" / f"nvidia-h200{end}.md").read_text() for end in ("", "-readme"))
    for text in (whole, part):
        assert "| a copy | 0.88 | reached |\n| a step |  | not measured |\n| another | 1.20 | not reached |" in text
        assert "table of mlp_step" in text
        assert "Rehearsal" not in text
    assert ("table of kernels" in whole, "table of kernels" in part) == (True, False)
    assert "![mlp_step](nvidia-h200-mlp_step.svg)" in whole
    assert "![mlp_step](benchmarks/results/nvidia-h200-mlp_step.svg)" in part
    assert "[nvidia-h200.md](benchmarks/results/nvidia-h200.md)" in part
