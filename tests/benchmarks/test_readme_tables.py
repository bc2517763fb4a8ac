"""README's tables are those of benchmarks/results."""

from __future__ import annotations

from .conftest import ROOT, module


def test_the_tables_are_those_of_the_results(monkeypatch):
    readme = module(monkeypatch, "readme")
    text = (ROOT / "README.md").read_text()
    assert readme.MARK.findall(text)
    assert readme.filled(text) == text
    assert readme.filled(text.replace("| jax 0", "| jax 1")) == text  # what is wrong is put right
