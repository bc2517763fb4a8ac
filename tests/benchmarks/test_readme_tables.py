"""README's tables are those of benchmarks/results."""

from __future__ import annotations

from .conftest import ROOT, module


def test_the_tables_are_those_of_the_results(monkeypatch):
    readme = module(monkeypatch, "readme")
    text = (ROOT / "README.md").read_text()
    marks = [name for _, name, *_ in readme.MARK.findall(text)]
    names = ("overhead_cpu", "mlp_step_cpu", "mlp_inference_cpu", "mlp_busy_cpu", "nvidia-*-readme")
    assert marks == [f"benchmarks/results/{name}.md" for name in names]
    assert list(ROOT.glob(marks[1]))
    assert readme.filled(text) == text
    assert readme.filled(text.replace("| jax 0", "| jax 1")) == text  # what is wrong is put right


def test_a_file_a_machine_or_none_yet(monkeypatch, tmp_path):
    readme = module(monkeypatch, "readme")
    empty = "a\n<!-- benchmarks/results/nvidia-*-readme.md -->\n<!-- end -->\nb\n"
    without = readme.filled(empty, tmp_path)
    assert without == empty.replace("<!-- end", "Not measured yet.\n<!-- end")
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "nvidia-h200-readme.md").write_text("### H200\n")
    (results / "nvidia-h100-readme.md").write_text("### H100\n")
    (results / "emulated-readme.md").write_text("### a rehearsal\n")
    assert readme.filled(without, tmp_path) == empty.replace("<!-- end", "### H100\n\n### H200\n<!-- end")
    assert readme.filled(readme.filled(without, tmp_path), tmp_path / "none") == without
