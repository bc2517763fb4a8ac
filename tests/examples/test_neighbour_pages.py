"""The code of docs/numpy.md and docs/neighbours.md, run as it stands, prints what the pages show."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpu_backprop as gb

DOCS = Path(__file__).parents[2] / "docs"
LISTING = re.compile(r"```python(?: (\w+))?\n(.*?)```\n\n((?:    [^\n]*\n)+)", re.DOTALL)


@pytest.mark.parametrize(("page", "count"), [("numpy.md", 5), ("neighbours.md", 8)])
def test_the_code_prints_what_is_shown(page: str, count: int) -> None:
    listings = LISTING.findall((DOCS / page).read_text())
    assert len(listings) == count
    wanted = [(code, shown) for library, code, shown in listings if not library or importlib.util.find_spec(library)]
    mark = "print('-' * 70)\n"
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "GPU_BACKPROP_DEVICE": "cpu"}
    program = mark.join(code for code, _ in wanted)
    if page == "neighbours.md":
        program = f"import gpu_backprop as gb\n{program}"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for found, (_, shown) in zip(run.stdout.split("-" * 70 + "\n"), wanted, strict=True):
        assert found.splitlines() == [line.removeprefix("    ") for line in shown.splitlines()]


def test_the_table_of_names_is_whole() -> None:
    text = (DOCS / "numpy.md").read_text()
    table = text[text.index("| theme | names |") : text.index("They are differentiable")]
    listed = {name.removeprefix("fft.").removeprefix("linalg.") for name in re.findall(r"`([\w.]+)`", table)}
    standard = {*gb.array_api.linalg.__all__, *gb.array_api.fft.__all__} - {"cross", "diagonal", "outer", "trace"}
    modules = [m for m in vars(gb.numpy_api).values() if hasattr(m, "__all__")]
    assert listed == {name for m in modules for name in m.__all__} - standard
