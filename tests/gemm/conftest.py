"""The emulated backend with a stand-in for cuBLASLt that is the model."""

from __future__ import annotations

from typing import Any

import pytest

import gpu_backprop as gb
from gpu_backprop.backends import emulated, gemm

from ..conftest import require_emulated
from .bindings import Machine, bindings


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    require_emulated()
    backend = emulated.backend()
    library = gemm.Library(bindings(), Machine())
    monkeypatch.setattr(backend.machine, "gemm", library, raising=False)
    monkeypatch.setattr(backend, "prefers", lambda *asked: True)  # every epilogue that fits
    yield backend
    library.close()
    assert library.lt.alive == {}
    gb.set_matmul_precision("highest")
