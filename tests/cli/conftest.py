"""Every test of the command line runs in an empty folder of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPU_BACKPROP_DEBUG", raising=False)
    return tmp_path
