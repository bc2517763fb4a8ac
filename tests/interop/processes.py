"""Runs Python in a process of its own: SciPy reads SCIPY_ARRAY_API when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, device: str = "cpu") -> str:
    """What `python arguments...` prints, with this default device."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "GPU_BACKPROP_DEVICE": device, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(module: str, device: str = "cpu") -> Any:
    """What a file of this folder prints as JSON."""
    return json.loads(run("-W", "ignore", str(ROOT / "tests" / "interop" / f"{module}.py"), device=device))
