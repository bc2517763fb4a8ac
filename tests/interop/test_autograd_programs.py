"""Programs for HIPS autograd (examples/autograd): with either import they run, and return the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

FOLDER = Path(__file__).parents[2] / "examples" / "autograd"
PROGRAMS = sorted(FOLDER.glob("*.py"))
# a program's iterations carry rounding on; those of an optimiser stop where it says
TOLERANCE = {"rosenbrock": 1e-6, "gaussian_process": 1e-5}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    gb.set_default_dtype("float64")
    yield
    gb.set_default_dtype("float32")


def for_autograd(source: str) -> str:
    """The program as it was: only its import lines are others."""
    lines = []
    for line in source.split("\n"):
        names = re.fullmatch(r"from gpu_backprop import (.*)", line)
        if names:
            chosen = names[1].split(", ")
            if "logsumexp" in chosen:
                lines.append("from autograd.scipy.special import logsumexp")
            line = f"from autograd import {', '.join(n for n in chosen if n != 'logsumexp')}"
        lines.append("import autograd.numpy as np" if line == "import gpu_backprop as np" else line)
    return "\n".join(lines)


def results(source: str, name: str) -> list[Any]:
    space: dict[str, Any] = {"__name__": name}
    exec(compile(source, f"{name}.py", "exec"), space)
    return space["main"]()


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_the_same_with_either_import(path: Path) -> None:
    source = path.read_text()
    original = for_autograd(source)
    assert "gpu_backprop" not in original
    expected, found = results(original, path.stem), results(source, path.stem)
    assert len(found) == len(expected)
    assert any(isinstance(f, gb.Tensor) for f in found)
    for f, e in zip(found, expected):
        host = f.numpy() if isinstance(f, gb.Tensor) else f
        tolerance = TOLERANCE.get(path.stem, 1e-9)
        np.testing.assert_allclose(host, e, rtol=tolerance, atol=tolerance)
        assert np.shape(host) == np.shape(e)


def test_all_programs_are_there() -> None:
    assert len(PROGRAMS) == 7


def test_on_the_other_device(device: str) -> None:
    name = "tanh"
    if device == "cpu":
        return
    found = results((FOLDER / f"{name}.py").read_text(), name)
    assert found[-1].device == device
    with gb.device("cpu"):
        expected = results((FOLDER / f"{name}.py").read_text(), name)
    for f, e in zip(found, expected):
        np.testing.assert_allclose(f.numpy(), e.numpy(), rtol=1e-9, atol=1e-12)
