"""`gb.viz.tape(loss)`: every operation on the tape in the order of the chain rule, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .figures import abbreviated
from .records import Entry, read

HEADS = ("#", "operation", "inputs", "value", "local derivative", "gradient")
LONGEST = 400  # rows that str() shows; .rows has all


class Listing:
    """The rows of a tape. `str(listing)` is a table; `listing.rows` are `Entry` objects with the full arrays."""

    def __init__(self, rows: list[Entry]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.rows)

    def __getitem__(self, i: int) -> Entry:
        return self.rows[i]

    def __str__(self) -> str:
        shown = self.rows
        gap = None
        if len(shown) > LONGEST:
            half = LONGEST // 2
            shown, gap = [*shown[:half], *shown[-half:]], len(shown) - LONGEST
        cells = [line for row in shown for line in _lines(row)]
        widths = [max(len(line[i]) for line in [HEADS, *cells]) for i in range(len(HEADS))]
        rule = tuple("-" * w for w in widths)
        texts = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in [HEADS, rule, *cells]]
        if gap is not None:
            at = 2 + sum(len(_lines(row)) for row in self.rows[: LONGEST // 2])
            texts.insert(at, f"... {gap:,} more rows ...")
        return "\n".join(texts)

    __repr__ = __str__


def _lines(row: Entry) -> list[tuple[str, ...]]:
    """The lines of a row: one for each input, the first with the rest beside it."""
    name = row.operation if row.kind != "operation" or not row.scope else f"{row.operation} ({row.scope})"
    inputs = [f"{label} = {_reference(entry)}" for label, entry in row.inputs] or [
        row.kind if row.kind != row.operation else ""
    ]
    local = [_slope(x) for x in row.local] or [""]
    first = (f"{row.number}", name, inputs[0], _value(row), local[0], _gradient(row))
    more = [("", "", i, "", d, "") for i, d in zip(inputs[1:], local[1:])]
    return [first, *more]


def _reference(entry: Entry) -> str:
    return entry.operation if entry.kind == "number" else f"#{entry.number}"


def _slope(local: np.ndarray | str | None) -> str:
    return "" if local is None else local if isinstance(local, str) else abbreviated(local)


def _value(row: Entry) -> str:
    if row.value is None:
        return "several, below" if row.gradient is None and row.kind == "operation" else f"freed {list(row.shape)}"
    return abbreviated(row.value)


def _gradient(row: Entry) -> str:
    return "" if row.gradient is None else abbreviated(row.gradient)


def tape(loss: Any, names: Any = None) -> Listing:
    """Every operation below `loss`, from the loss back, in the order in which the chain rule visits them; then leaves.

    Each row has the operation, its inputs, its value, the derivative of its result with respect to each input (numbers
    where the operation is elementwise, else the rule in words, `g` being the row's gradient) and the gradient of the
    loss with respect to its result. Nothing is changed: the tape stays, `.grad` is not touched.

    names: what to call leaves: a dict of name -> Tensor, or a Module, whose parameters have names. Raises TapeError
    when nothing was recorded, the tape was freed, or `loss` is not a scalar.

        print(gb.viz.tape(loss))
    """
    return Listing(read(loss, "viz.tape", names))
