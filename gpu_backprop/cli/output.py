"""What commands print and write: tables on a terminal, plain lines elsewhere, JSON, run folders."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DataError


class Output:
    """Where a command speaks: standard output; with `json_line` standard error, so that only JSON is on the first."""

    def __init__(self, json_line: bool):
        from rich.console import Console

        self.json_line = json_line
        self.stream = sys.stderr if json_line else sys.stdout
        self.console = Console(file=self.stream, highlight=False)

    @property
    def is_terminal(self) -> bool:
        return self.console.is_terminal

    def fits(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether a table is no wider than the terminal; elsewhere lines may be of any length."""
        widths = (max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
        return not self.is_terminal or sum(widths) + 2 * len(header) <= self.console.width

    def room(self, header: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> int:
        """How wide a column may be for the table, whose cells may have several lines, to fit the terminal."""
        lines = ([line for cell in cells for line in cell.split("\n")] for cells in zip(header, *rows))
        widths = [max(map(len, cell_lines)) for cell_lines in lines]
        return self.console.width - 2 * len(header) - sum(widths) + widths[column]

    def line(self, text: str = "") -> None:
        print(text, file=self.stream, flush=True)

    def sentence(self, text: str) -> None:
        """A line; a terminal gets it folded between words."""
        if self.is_terminal:
            wrapper = textwrap.TextWrapper(
                self.console.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
            text = "\n".join(map(wrapper.fill, text.split("\n")))
        self.line(text)

    def facts(self, title: str, rows: Iterable[tuple[str, Any]]) -> None:
        """Names and values, one below the other."""
        pairs = [(name, str(value)) for name, value in rows]
        if self.is_terminal:
            self._table(title, ("", ""), pairs, header=False)
            return
        self.line(title)
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"  {name:{width}}  {value}")

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
        """Rows under a header; all columns but the first `words` are numbers, which are never broken."""
        if self.is_terminal:
            self._table(title, header, rows, header=True, words=words)
            return
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        self.line(title)
        for row in (header, *rows):
            cells = (c.ljust(w) if i < words else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
            self.line("  " + "  ".join(cells).rstrip())

    def _table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], header: bool, words: int = 1
    ) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        self.console.print(Text(title, style="bold cyan"))
        table = Table(box=box.SIMPLE_HEAD, show_header=header, show_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(columns):
            number = header and i >= words
            justify: Any = "right" if number else "left"
            table.add_column(name, justify=justify, no_wrap=number, overflow="fold", style="bold" if i == 0 else None)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)
        self.console.print()

    def result(self, values: dict[str, Any]) -> None:
        """The JSON line, the last of all, if it was asked for."""
        if self.json_line:
            self.stream.flush()
            print(json.dumps(plain(values)), flush=True)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: no NaN, no infinities, no NumPy numbers, paths as text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    number = float(value)
    return number if math.isfinite(number) else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(plain(values), indent=1) + "\n")


def run_folder(out: Path | None, prefix: str = "") -> Path:
    """The folder `out`, or a new one in runs/ named by the time; made first, so that a bad path costs no training."""
    if out is not None:
        if out.exists() and not out.is_dir():
            raise DataError(f"--out {os.fspath(out)!r} is a file; give the path of a folder")
        out.mkdir(parents=True, exist_ok=True)
        return out
    stamp = prefix + time.strftime("%Y-%m-%d_%H-%M-%S")
    for name in (stamp, *(f"{stamp}-{i}" for i in range(2, 1000))):
        try:
            (Path("runs") / name).mkdir(parents=True)
            return Path("runs") / name
        except FileExistsError:
            continue
    raise DataError(f"runs/{stamp}: a thousand runs in one second; give --out")


PICTURES = (".png", ".svg", ".pdf")


def picture_path(out: Path | None, prefix: str) -> Path:
    """Where a picture goes, whose numbers lie beside it: `out` by its ending, or bench.png in that folder, as above."""
    if out is None or out.is_dir() or not out.suffix:
        return run_folder(out, prefix) / f"{prefix.rstrip('-')}.png"
    if out.suffix not in PICTURES:
        raise DataError(f"--out {os.fspath(out)!r} is no kind of picture; use {', '.join(PICTURES)}, or a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DataError(f"--out {os.fspath(out)!r} cannot be written; choose another place")
    return out
