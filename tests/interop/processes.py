"""Runs a file of this folder in a process of its own: SciPy reads SCIPY_ARRAY_API when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def report(module: str, *needs: str) -> Any:
    """What `module` prints as JSON; skipped where a package that it needs is not installed."""
    for name in needs:
        pytest.importorskip(name)
    root = str(HERE.parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "GPU_BACKPROP_DEVICE": "cpu", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(HERE / f"{module}.py")], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
