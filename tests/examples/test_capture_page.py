"""The code of docs/capture.md, run as it stands, prints the Program that the page shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()


def test_the_programs_are_those_on_the_page(capsys) -> None:
    namespace: dict[str, object] = {}
    listings = re.findall(r"```python\n(.*?)```\n\n((?:    ?[^\n]*\n)+)", PAGE, re.DOTALL)
    assert len(listings) == 3
    for code, shown in listings:
        exec(code, namespace)
        expected = [line.removeprefix("    ") for line in shown.splitlines()]
        assert capsys.readouterr().out.splitlines() == expected
