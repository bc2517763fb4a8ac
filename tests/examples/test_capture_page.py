"""The code of docs/capture.md, run as it stands, prints the Program that the page shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()


def test_the_program_is_the_one_on_the_page(capsys) -> None:
    ((code, shown),) = re.findall(r"```python\n(.*?)```\n\n((?:    ?[^\n]*\n)+)", PAGE, re.DOTALL)
    exec(code, {})
    expected = [line.removeprefix("    ") for line in shown.splitlines()]
    assert capsys.readouterr().out.splitlines() == expected
