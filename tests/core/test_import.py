"""`import gpu_backprop` costs little more than `import numpy`, and brings in nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    *("cupy", "cupyx", "typer", "rich", "matplotlib", "sklearn", "scipy", "ml_dtypes", "safetensors", "numpy.random"),
    *("cuda", "nvmath", "asyncio", "inspect", "multiprocessing", "subprocess"),
)
LAZY = tuple(f"gpu_backprop.{name}" for name in ("data", "interop", "nn", "optim", "train", "viz"))


def fresh(code: str, **environment: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    return done.stdout


def test_nothing_heavy_is_imported() -> None:
    code = "import numpy, sys, json; a = [*sys.modules]; import gpu_backprop; print(json.dumps([a, [*sys.modules]]))"
    before, after = json.loads(fresh(code))
    new = set(after) - set(before)
    assert not {
        name for name in new if name.split(".")[0] in HEAVY or name in HEAVY or name.startswith(("numpy.random",))
    }
    assert not {name for name in new if name.startswith(LAZY)}


def test_using_float_arrays_needs_no_bfloat16() -> None:
    code = """
import sys, gpu_backprop as gb
x = gb.tensor([1.0, 2.0], requires_grad=True)
(gb.exp(x) * x + 1).sum().backward()
gb.concat([x, x]), x.astype("float64"), repr(x), x > 1, x @ x, x.mean()
print([m for m in ("ml_dtypes", "safetensors", "cupy", "matplotlib") if m in sys.modules])
"""
    assert fresh("import os; os.environ['GPU_BACKPROP_DEVICE'] = 'cpu'\n" + code).strip() == "[]"


def test_import_time(tmp_path: Path) -> None:
    """The least CPU time of the import statement in fresh interpreters, in turns, bytecode in place.

    CPU time, because on a busy machine the clock also counts what other programs do meanwhile.
    """
    code = "import time; t = time.thread_time(); import {}; print(time.thread_time() - t)"
    least = {"numpy": float("inf"), "gpu_backprop": float("inf")}
    for turn in range(40):  # a busy machine gets more turns
        for name in least:
            seconds = float(fresh(code.format(name), PYTHONPYCACHEPREFIX=str(tmp_path)))
            if turn:  # the first one compiles
                least[name] = min(least[name], seconds)
        if turn >= 7 and least["gpu_backprop"] <= 1.5 * least["numpy"]:
            return
    raise AssertionError(f"import gpu_backprop takes {least['gpu_backprop'] / least['numpy']:.2f} times numpy's time")
