"""The threads of the cpu device's passes (kernels/cpu/pool.h), in a program of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_tool

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("sanitizer", "arguments"), [("none", []), ("none", ["alone"]), ("thread", []), ("undefined", [])]
)
def test_every_piece_is_done_once(sanitizer, arguments, tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    require_tool(compiler is not None, "there is no C++ compiler")
    program = tmp_path / "driver"
    flags = [] if sanitizer == "none" else [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    flags += ["-std=c++17", "-O1", "-g", "-pthread", f"-I{HERE.parent.parent / 'kernels' / 'cpu'}"]
    command = [compiler, *flags, HERE / "pool_driver.cpp", "-o", program]
    made = subprocess.run(command, capture_output=True, text=True)
    require_tool(made.returncode == 0, f"-fsanitize={sanitizer} does not link: {made.stderr[-500:]}")
    environment = {"TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "every piece once\n"
