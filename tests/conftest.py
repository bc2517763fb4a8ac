"""What all tests share: the devices that a test runs on, and `--full`.

A test that takes the fixture `device` runs once on each device: "cpu" always; "emulated" (marked `emulated`) where a
host C++ compiler is; "cuda" (marked `gpu`) where a GPU is. GPU_BACKPROP_REQUIRE_TOOLS=1 turns a missing tool from a
skip into a failure. Tests that need a GPU are left out where there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GPU_BACKPROP_DEVICE", "cpu")  # a test that wants another device names it

import gpu_backprop as gb
from gpu_backprop.backends import cuda, emulated

COMPILE = Path(__file__).resolve().parent.parent / "benchmarks" / "compile_all.py"
DEVICES = [
    "cpu",
    pytest.param("emulated", marks=pytest.mark.emulated),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


def require_tool(present: bool, reason: str) -> None:
    """Skip the running test when a tool is absent; fail it where the environment promises the tool."""
    if present:
        return
    if os.environ.get("GPU_BACKPROP_REQUIRE_TOOLS") == "1":
        pytest.fail(f"GPU_BACKPROP_REQUIRE_TOOLS=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require_emulated() -> None:
    require_tool(*emulated.available())


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device, which is the default one while the test runs."""
    if request.param == "emulated":
        require_emulated()
    with gb.device(request.param):
        yield request.param


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`")


def _left_out(config: pytest.Config) -> dict[str, str]:
    """Markers of tests that this run leaves out, and why."""
    reasons = {}
    count, reason = cuda.cuda_status()[:2]
    if not count:
        reasons["gpu"] = reason
    if not config.getoption("--full"):
        reasons["full"] = "too long for every run; pass --full"
    return reasons


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run of everything compiles the kernels for the emulated device in batches first.

    One by one, as tests want them, takes several times as long.
    """
    config = session.config
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    chosen = config.option.collectonly or config.option.keyword or config.option.markexpr
    if whole and not chosen and not hasattr(config, "workerinput") and emulated.available()[0]:
        subprocess.run([sys.executable, COMPILE, "--arch", "none"], check=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = _left_out(config)
    left_out = {item: next((m for m in reasons if item.get_closest_marker(m)), None) for item in items}
    config.hook.pytest_deselected(items=[item for item, marker in left_out.items() if marker])
    items[:] = [item for item, marker in left_out.items() if not marker]
    for item in items:  # for the summary, whose keywords hold the names of folders too
        item.user_properties.append(("markers", [marker.name for marker in item.iter_markers()]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many tests ran on kernels and compilers, and which were left out: the counts that matter without a GPU."""
    passed = terminalreporter.stats.get("passed", [])
    for marker in ("emulated", "compile", "gpu"):
        count = sum(marker in dict(report.user_properties).get("markers", ()) for report in passed)
        if count:
            terminalreporter.write_line(f"{marker}: {count:,} passed")
    for marker, reason in _left_out(config).items():
        terminalreporter.write_line(f"{marker}: not run: {reason}")
