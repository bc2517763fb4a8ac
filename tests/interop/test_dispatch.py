"""SciPy with SCIPY_ARRAY_API=1 and scikit-learn with array_api_dispatch on Tensors: equal to NumPy's results.

All of dispatch.py's lines run in one process, which has the variable set before SciPy is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .dispatch import DIFFERENTIABLE, SCIPY, SKLEARN, lines

ALL = [*lines(SCIPY), *lines(SKLEARN), *(f"gradient of {line}" for line in lines(DIFFERENTIABLE))]


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "GPU_BACKPROP_DEVICE": "cpu"}
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "tests.interop.dispatch"], cwd=root, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.xdist_group("dispatch")
@pytest.mark.parametrize("line", ALL)
def test_equal_to_numpys(line: str, answers: dict[str, str]) -> None:
    assert answers[line] == ""


@pytest.mark.xdist_group("dispatch")
def test_every_line_was_run(answers: dict[str, str]) -> None:
    assert set(answers) == set(ALL)
    assert len(ALL) > 100
