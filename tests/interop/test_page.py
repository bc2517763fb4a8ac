"""The code of docs/neighbours.md, run as it stands in one process, prints what the page shows."""

from __future__ import annotations

import re

from .processes import ROOT, run

PAGE = (ROOT / "docs" / "neighbours.md").read_text()


def test_the_page_prints_what_it_shows() -> None:
    listings = re.findall(r"^## (.*?)$|```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", PAGE, re.DOTALL | re.MULTILINE)
    assert sum(bool(code) for _, code, _ in listings) == PAGE.count("```python") == 7
    section, code, shown = "", "import gpu_backprop as gb\n", ""
    for title, block, output in listings:
        section = title or section
        if (section == "PyTorch" and not installed("torch")) or (section == "JAX" and not installed("jax")):
            continue
        code += block
        shown += re.sub("^    ", "", output, flags=re.MULTILINE)
    assert run("-W", "ignore", "-c", code) == shown


def installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
