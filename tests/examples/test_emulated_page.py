"""The code of docs/emulated.md, run as it stands: its tests by pytest in an empty folder, the rest after them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_emulated
from tests.emulator import sanitized

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "emulated.md").read_text()
# a user's own: not with the options that this run of pytest was given
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}


# each with what it prints, if the page shows it
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n((?:    [^\n]*\n)+))?", PAGE, re.DOTALL)
FAILING = {
    "test_block_sum",
    *(f"test_every_order_gives_the_sum[{order}]" for order in ("forward", "greedy", "shuffled")),
}


def test_every_block_runs_and_prints_what_the_page_shows(tmp_path) -> None:
    require_emulated()
    assert len(BLOCKS) == 6
    (tmp_path / "test_my_kernel.py").write_text("\n".join(code for code, _ in BLOCKS))
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-v", "-p", "no:cacheprovider", "test_my_kernel.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    outcome = dict(re.findall(r"::(\S+) .*?(PASSED|FAILED)", child.stdout))
    assert {name for name, word in outcome.items() if word == "FAILED"} == FAILING, child.stdout
    assert len(outcome) == 11
    for _, shown in BLOCKS:
        assert re.sub("^    ", "", shown, flags=re.MULTILINE) in child.stdout


def test_the_commands_with_address_sanitizer_reach_the_end(tmp_path) -> None:
    require_emulated()
    sanitized.environment("address,undefined")  # skips where the compiler has none
    commands = re.search(r"((?:    [^\n]*\n)+)", PAGE.split("## Reads outside an array")[1])
    assert commands is not None
    (tmp_path / "test_my_kernel.py").write_text("\n".join(code for code, _ in BLOCKS[:4]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PATH": path}
    child = subprocess.run(["bash", "-c", commands[1]], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert set(re.findall(r"^FAILED \S+::(\S+)", child.stdout, re.MULTILINE)) == FAILING, child.stdout + child.stderr
    assert "6 passed, 1 deselected" in child.stdout


@pytest.mark.emulated
def test_every_order_is_on_the_page() -> None:
    from gpu_backprop.backends.emulated import ORDERS

    assert all(f'"{order}"' in PAGE for order in ORDERS)
