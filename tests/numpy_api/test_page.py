"""The code of docs/numpy.md, run as it stands, prints what the page shows, and its table of names is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import gpu_backprop as gb

PAGE = (Path(__file__).parents[2] / "docs" / "numpy.md").read_text()


def test_the_code_prints_what_is_shown() -> None:
    listings = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", PAGE, re.DOTALL)
    assert len(listings) == PAGE.count("```python") == 5
    program, shown = ("".join(parts) for parts in zip(*listings, strict=True))
    environment = {**os.environ, "GPU_BACKPROP_DEVICE": "cpu"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == re.sub("^    ", "", shown, flags=re.MULTILINE)


def test_the_table_of_names_is_whole() -> None:
    table = PAGE[PAGE.index("| theme | names |") : PAGE.index("They are differentiable")]
    listed = {name.removeprefix("fft.").removeprefix("linalg.") for name in re.findall(r"`([\w.]+)`", table)}
    assert all(hasattr(gb, name) for name in dir(gb))  # modules are loaded when first used
    standard = {*gb.array_api.linalg.__all__, *gb.array_api.fft.__all__} - {"cross", "diagonal", "outer", "trace"}
    modules = [m for m in vars(gb.numpy_api).values() if hasattr(m, "__all__")]
    assert listed == {name for m in modules for name in m.__all__} - standard
