"""The code of docs/emulated.md, run as it stands: its tests by pytest in an empty folder, the rest after them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_emulated

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "emulated.md").read_text()


def test_every_block_runs_and_prints_what_the_page_shows(tmp_path) -> None:
    require_emulated()
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n((?:    [^\n]*\n)+))?", PAGE, re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "test_my_kernel.py").write_text("\n".join(code for code, _ in blocks))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-v", "-p", "no:cacheprovider", "test_my_kernel.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    outcome = dict(re.findall(r"::(\S+) .*?(PASSED|FAILED)", child.stdout))
    failed = {name for name, word in outcome.items() if word == "FAILED"}
    assert failed == {
        "test_block_sum", *(f"test_every_order_gives_the_sum[{order}]" for order in ("forward", "greedy", "shuffled")),
    }, child.stdout  # fmt: skip
    assert len(outcome) == 11
    for _, shown in blocks:
        assert re.sub("^    ", "", shown, flags=re.MULTILINE) in child.stdout


@pytest.mark.emulated
def test_every_order_is_on_the_page() -> None:
    from gpu_backprop.backends.emulated import ORDERS

    assert all(f'"{order}"' in PAGE for order in ORDERS)
