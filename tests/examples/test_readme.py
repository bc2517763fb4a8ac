"""README's code, run as it stands, one block after the other; only the epochs are fewer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import require_emulated

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.emulated
def test_every_block_runs(device, tmp_path, monkeypatch, capsys) -> None:
    require_emulated()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = blocks()
    assert len(found) >= 4
    for block in found:
        exec(block.replace("range(5)", "range(1)").replace("epochs=5", "epochs=1"), names)
    printed = capsys.readouterr().out
    assert "[ 3. 12. 27.]" in printed  # the gradient of the kernel of one's own
    accuracy = float(re.search(r"^0 \S+ (\S+)$", printed, re.MULTILINE)[1])  # type: ignore[index]
    assert accuracy > 0.8
    assert {p.name for p in tmp_path.iterdir()} == {"loss.png", "model.safetensors", "trace.json"}


def test_the_short_examples_are_short() -> None:
    lines = [sum(bool(line.strip()) for line in block.splitlines()) for block in blocks()]
    assert lines[0] <= 5
    assert lines[1] <= 15
