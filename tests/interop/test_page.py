"""The code of docs/neighbours.md, run as it stands in one process, prints what the page shows."""

from __future__ import annotations

import importlib.util
import re

import pytest

from .processes import ROOT, run

PAGE = (ROOT / "docs" / "neighbours.md").read_text()


@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=pytest.mark.gpu)], ids=["no GPU", "GPU"])
def test_the_page_prints_what_it_shows(gpu: bool) -> None:
    listings = re.findall(r"^## (.*?)$|```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", PAGE, re.DOTALL | re.MULTILINE)
    assert sum(bool(code) for _, code, _ in listings) == PAGE.count("```python") == 8
    section, code, shown = "", "import gpu_backprop as gb\n", ""
    for title, block, output in listings:
        section = title or section
        if not is_there(section, gpu):
            continue
        code += block
        shown += re.sub("^    ", "", output, flags=re.MULTILINE)
    assert run("-W", "ignore", "-c", code) == shown


def is_there(section: str, gpu: bool) -> bool:
    if section == "CuPy":
        return gpu
    name = {"PyTorch": "torch", "JAX": "jax"}.get(section)
    return name is None or importlib.util.find_spec(name) is not None
