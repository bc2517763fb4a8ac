"""docs/kernels.md, which docs/kernels.py writes, names every kernel, and tests that exist run each of them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from gpu_backprop.backends.kernels import kernels_folder

ROOT = Path(__file__).parents[2]
REMEDY = "run `python docs/kernels.py`"


@pytest.fixture(scope="module")
def writer():
    return runpy.run_path(str(ROOT / "docs" / "kernels.py"))


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Kernel -> the cells beside it."""
    lines = (ROOT / "docs" / "kernels.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_kernel_is_on_the_page(writer, rows):
    wanted = {writer["row_of"](kernel)[1] for kernel in writer["all_kernels"]()}
    assert set(rows) == wanted, REMEDY


def test_every_kernel_in_the_sources_can_be_asked_for(writer):
    """A __global__ function that no row of the table instantiates would be compiled, tested and listed by nobody."""
    declared = set()
    for path in [*kernels_folder().glob("*.cu"), *kernels_folder().glob("*.cuh")]:
        declared |= set(re.findall(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(", path.read_text()))
    used = {writer["arguments"](kernel.expression)[0] for kernel in writer["all_kernels"]()}
    assert declared == used


def test_every_kernel_is_run_by_tests_that_exist(rows):
    written = {path.stem: path.read_text() for path in Path(__file__).parent.glob("test_*.py")}
    for kernel, cells in rows.items():
        assert cells[-1], f"no test runs {kernel}; {REMEDY}"
        for part in cells[-1].split("; "):
            file, _, names = part.partition(": ")
            for name in names.split(", "):
                assert f"def test_{name}(" in written.get(file, ""), f"{part} ran {kernel} and is gone; {REMEDY}"


def test_no_kernel_spills(rows):
    assert {kernel: cells[-2] for kernel, cells in rows.items() if cells[-2] != "0"} == {}
