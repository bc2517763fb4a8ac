"""Tests of what only a GPU has. Its kernels and operations are tested by all the other tests, on "cuda"."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import gpu_backprop as gb

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX is given what it uses, not most of the GPU

WORK = 4096  # ones((WORK, WORK)) @ ones / WORK is ones again, after some milliseconds


@pytest.fixture
def cupy() -> Iterator[Any]:
    """CuPy, with "cuda" as the default device while the test runs; streams are left empty."""
    import cupy

    with gb.device("cuda"):
        yield cupy
        gb.synchronize()


def slow(times: int = 20) -> gb.Tensor:
    """Ones, after so many matrix products: whoever looks too early sees something else."""
    x = gb.ones((WORK, WORK))
    for _ in range(times):
        x = (x @ x) / WORK
    return x


def child(code: str) -> str:
    """What a Python process of its own prints; its failure is the test's."""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout
