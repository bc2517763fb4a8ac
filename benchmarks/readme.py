"""Copies tables of benchmarks/results into README.md, behind the comments that name their files.

    python benchmarks/readme.py

A comment `<!-- benchmarks/results/NAME.md -->` is followed by that file as it is, up to `<!-- end -->`. NAME may have a
`*`, for one file a machine. Where there is no such file yet, the text says so.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- (benchmarks/results/\S+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
MISSING = "Not measured yet."


def filled(text: str, root: Path = ROOT) -> str:
    """A text with the tables as they are now."""

    def files(mark: re.Match[str]) -> str:
        found = [path.read_text().strip() for path in sorted(root.glob(mark[2]))]
        return mark[1] + "\n\n".join(found or [MISSING]) + "\n" + mark[4]

    return MARK.sub(files, text)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
