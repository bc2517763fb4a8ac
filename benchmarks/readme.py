"""Copies tables of benchmarks/results into README.md, behind the comments that name their files.

    python benchmarks/readme.py

A comment `<!-- benchmarks/results/NAME.md -->` is followed by that file as it is, up to `<!-- end -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- (benchmarks/results/\S+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A text with the tables as they are now."""
    return MARK.sub(lambda m: f"{m[1]}{(ROOT / m[2]).read_text().strip()}\n{m[4]}", text)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
