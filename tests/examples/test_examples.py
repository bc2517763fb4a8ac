"""The worked examples run, learn, and stay short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import gpu_backprop as gb

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str):
    return runpy.run_path(str(EXAMPLES / name))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_under_sixty_lines(path):
    assert len(path.read_text().splitlines()) < 60


def test_digits(tmp_path, capsys):
    accuracy = load("digits.py")["main"](epochs=3, folder=tmp_path)
    assert accuracy > 0.9
    assert len(capsys.readouterr().out.splitlines()) == 3
    X, y = gb.data.load_digits()
    model = gb.load(tmp_path / "model.safetensors")
    assert (model(gb.tensor(X)).argmax(axis=1).numpy() == y).mean() > 0.9


def test_house_prices(tmp_path, capsys):
    r2 = load("house_prices.py")["main"](epochs=10, houses=1500, folder=tmp_path)
    assert 0.95 < r2 < 1
    assert f"R2 on 300 new houses: {r2:.4f}" in capsys.readouterr().out
    assert (tmp_path / "curves.png").stat().st_size > 10_000
