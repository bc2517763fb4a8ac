"""`gb.viz.draw(loss)`: the tape as a picture, SVG in plain Python.

Values flow to the right along the arrows, gradients back against them. Small arrays are written out in the boxes, value
in black and gradient in red; of large ones shape and size are shown. A tape of many operations is folded: operations
of one module become one box, and a long run outside modules too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np

from ..core.errors import DataError
from .figures import number, rows, shape_of
from .layout import Box, place
from .records import Entry, read

MOST_BOXES = 24  # operations that are drawn one by one
MARGIN, PADDING, LINE, CHARACTER = 24.0, 9.0, 14.0, 6.65  # of 11 px monospaced text
INK, FAINT, RED, EDGE = "#1e293b", "#64748b", "#c02626", "#94a3b8"
STYLES = {  # fill, border
    "operation": ("#ffffff", "#64748b"),
    "parameter": ("#ecfdf5", "#059669"),
    "constant": ("#f1f5f9", "#cbd5e1"),
    "module": ("#eff6ff", "#3b82f6"),
    "loss": ("#fff7ed", "#ea580c"),
}
LEGEND = {"constant": "input"} | {style: style for style in ("parameter", "operation", "module", "loss")}
SANS = "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Drawing:
    """An SVG picture: notebooks show it, `str(drawing)` is its text, `drawing.save("tape.svg")` writes it."""

    def __init__(self, svg: str):
        self.svg = svg

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<drawing of {len(self.svg):,} characters of SVG; use .save(path)>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to an .svg file."""
        if os.path.splitext(path)[1].lower() != ".svg":
            raise DataError(f"viz.draw: {os.fspath(path)!r} is to hold SVG; end its name in .svg")
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.svg)
        except OSError as error:
            raise DataError(
                f"viz.draw: cannot write {os.fspath(path)!r} ({error.strerror}); choose another path"
            ) from error


def draw(loss: Any, names: Any = None, most_boxes: int = MOST_BOXES) -> Drawing:
    """A picture of every operation below `loss`, with values and gradients. Nothing is changed: the tape stays.

    names: what to call leaves: a dict of name -> Tensor, or a Module. most_boxes: above so many operations, modules
    are folded into one box each. Raises TapeError when nothing was recorded, the tape was freed, or `loss` is not a
    scalar.

        gb.viz.draw(loss).save("tape.svg")
    """
    if most_boxes < 3:
        raise DataError(f"viz.draw: most_boxes={most_boxes} is too few to fold into; use at least 3")
    entries = read(loss, "viz.draw", names)
    return Drawing(_svg(_figures(entries, most_boxes)))


# what is in the boxes ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Figure:
    """A box of the picture: a title, lines of value beside lines of gradient."""

    style: str
    title: str
    note: str = ""
    value: list[str] = field(default_factory=list)
    gradient: list[str] = field(default_factory=list)
    sources: list[Figure] = field(default_factory=list)
    box: Box = field(default_factory=lambda: Box(0, 0))

    def measure(self) -> None:
        """The size of the box; a long line of values goes above its gradients, short ones and matrices beside."""
        if len(self.value) == len(self.gradient) == 1 and len(self.value[0] + self.gradient[0]) > 18:
            self.value, self.gradient = [*self.value, ""], ["", *self.gradient]
            width = max(len(self.value[0]), len(self.gradient[1]))
            self.value[0], self.gradient[1] = self.value[0].rjust(width), self.gradient[1].rjust(width)
        lines = [
            len(v) + len(g) + (2 if v and g else 0) for v, g in zip_longest(self.value, self.gradient, fillvalue="")
        ]
        numbers = max(lines, default=0) * CHARACTER
        title = len(self.title) * 7.2 + (10 + len(self.note) * 5.8 if self.note else 0)
        self.box.width = max(numbers, title, 36.0) + 2 * PADDING
        self.box.height = 16 + max(len(self.value), len(self.gradient)) * LINE + 2 * PADDING - 2


def _figures(entries: list[Entry], most_boxes: int) -> list[Figure]:
    """Figures in an order in which their sources come first."""
    operations = [e for e in reversed(entries) if e.kind == "operation"]
    figures: list[Figure] = []
    of: dict[Entry, Figure] = {}
    groups = _fold(operations, most_boxes)
    owner = {e: i for i, group in enumerate(groups) for e in group}
    users: dict[Entry, set[int]] = {}
    for e in operations:
        for _, source in e.inputs:
            users.setdefault(source, set()).add(owner[e])

    def leaf(entry: Entry) -> Figure:
        if entry not in of:
            of[entry] = _single(entry, entry.kind, "")
            figures.append(of[entry])
        return of[entry]

    for i, group in enumerate(groups):
        inside = set(group)
        sources: list[Figure] = []
        parameters = []
        for e in group:
            for _, source in e.inputs:
                if source in inside or source.kind == "number":
                    continue
                own = source.kind == "parameter" or (source.kind == "constant" and e is not group[0])
                if len(group) > 1 and own and users[source] == {i}:  # what a module enters with is drawn
                    parameters += [source] if source.kind == "parameter" and source not in parameters else []
                    continue
                figure = of[source] if source.kind == "operation" else leaf(source)
                if figure not in sources:
                    sources.append(figure)
        last = group[-1]
        if len(group) == 1:
            figure = _single(last, "loss" if last is operations[-1] else "operation", last.scope)
        else:
            figure = _folded(group, parameters)
        figure.sources = sources
        of.update((e, figure) for e in group)
        figures.append(figure)
    return figures


def _single(entry: Entry, style: str, note: str) -> Figure:
    title = entry.operation
    numbers = [source.operation for _, source in entry.inputs if source.kind == "number"]
    if numbers:
        title += f" {', '.join(numbers)}"
    if style == "constant":
        title = "input" if title == "constant" else title
    figure = Figure(style, title, note)
    figure.value = _lines(entry.value, entry.shape, "freed")
    if entry.gradient is not None:
        figure.gradient = _lines(entry.gradient, entry.shape, "")
    return figure


def _folded(group: list[Entry], parameters: list[Entry]) -> Figure:
    last = group[-1]
    scope = _common(group)
    figure = Figure("module" if scope else "operation", scope or f"{group[0].operation} ... {last.operation}")
    figure.note = f"{len(group):,} operations"
    figure.value, figure.gradient = _lines(last.value, last.shape, "freed"), _lines(last.gradient, last.shape, "")
    for p in parameters[:4]:
        name = p.operation.removeprefix(f"{scope}.").removeprefix(f"{scope.partition('.')[2]}.")
        figure.value.append(f"{name} {shape_of(p.shape)}")
        figure.gradient += [""] * (len(figure.value) - 1 - len(figure.gradient)) + [_size(p.gradient)]
    if len(parameters) > 4:
        figure.value.append(f"and {len(parameters) - 4} more parameters")
    return figure


def _lines(array: np.ndarray | None, shape: tuple[int, ...], missing: str) -> list[str]:
    if array is None:
        return [f"{missing} {shape_of(shape)}"] if missing else []
    return rows(array) or [shape_of(array.shape) if missing else "", _size(array)]


def _size(array: np.ndarray | None) -> str:
    """How large the numbers are: their root mean square."""
    if array is None or not array.size:
        return ""
    if array.dtype.kind in "biu":
        return array.dtype.name
    with np.errstate(over="ignore", invalid="ignore"):
        return f"rms {number(float(np.sqrt(np.mean(np.square(array.astype(np.float64))))))}"


# folding -------------------------------------------------------------------------------------------------------------


def _fold(operations: list[Entry], most: int) -> list[list[Entry]]:
    """Runs of operations that share a box. Runs follow the order of recording, so the picture has no cycles."""
    if len(operations) <= most:
        return [[e] for e in operations]
    deepest = max(e.scope.count(".") + 1 if e.scope else 0 for e in operations)
    runs: list[list[Entry]] = []
    for depth in range(deepest, 0, -1):
        runs = []
        for e in operations:
            key = _outer(e.scope, depth)
            if runs and key and _outer(runs[-1][-1].scope, depth) == key:
                runs[-1].append(e)
            else:
                runs.append([e])
        if len(runs) <= most:
            return runs
    runs = runs or [[e] for e in operations]
    tail = most // 2
    middle = [e for run in runs[most - tail - 1 : -tail] for e in run]
    return [*runs[: most - tail - 1], middle, *runs[-tail:]]


def _outer(scope: str, depth: int) -> str:
    return ".".join(scope.split(".")[:depth])


def _common(group: list[Entry]) -> str:
    parts = [e.scope.split(".") for e in group]
    same = []
    for column in zip(*parts):
        if len(set(column)) > 1:
            break
        same.append(column[0])
    return ".".join(same)


# SVG -----------------------------------------------------------------------------------------------------------------


def _svg(figures: list[Figure]) -> str:
    for figure in figures:
        figure.measure()
    pairs = [(source.box, figure.box) for figure in figures for source in figure.sources]
    width, height, routes = place([f.box for f in figures], pairs)
    legend = [(style, word) for style, word in LEGEND.items() if any(f.style == style for f in figures)]
    legend_width = sum(len(word) * 6.2 + 34 for _, word in legend) + 190
    total_width, total_height = max(width, legend_width) + 2 * MARGIN, height + 2 * MARGIN + 34
    left = MARGIN + max(0.0, legend_width - width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width:.0f} {total_height:.0f}" '
        f'width="{total_width:.0f}" height="{total_height:.0f}" font-family="{SANS}" font-size="12">',
        "<title>A recorded computation: values flow to the right, gradients back</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0.6 L7.4,4 L0,7.4 z" fill="{EDGE}"/></marker></defs>',
        f'<rect width="100%" height="100%" rx="10" fill="#ffffff"/><g transform="translate({left:.1f},{MARGIN:.1f})">',
    ]
    parts += [_edge(route) for route in routes]
    parts += [_box(figure) for figure in figures]
    parts.append("</g>")
    parts.append(_legend(legend, MARGIN, total_height - 22))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _edge(route: list[Box]) -> str:
    """Straight inside a layer, where nothing else is at that height; curved in the gaps between layers."""
    first, last = route[0], route[-1]
    path = f"M{first.x + first.width:.1f},{first.y:.1f}"
    for a, b in pairwise(route):
        x0, x1 = a.column[1], b.column[0] - (8 if b is last else 0)  # the arrow's head is straight
        middle = (x0 + x1) / 2
        path += f" H{x0:.1f} C{middle:.1f},{a.y:.1f} {middle:.1f},{b.y:.1f} {x1:.1f},{b.y:.1f}"
    path += f" H{last.x - 1.5:.1f}"
    return f'<path d="{path}" fill="none" stroke="{EDGE}" stroke-width="1.3" marker-end="url(#arrow)"/>'


def _box(figure: Figure) -> str:
    fill, border = STYLES[figure.style]
    box = figure.box
    x, y = box.x, box.y - box.height / 2
    radius = 12 if figure.style in ("parameter", "constant") else 4
    dashes = ' stroke-dasharray="4 3"' if any(line.startswith("freed") for line in figure.value) else ""
    parts = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius}" fill="{fill}" '
        f'stroke="{border}" stroke-width="1.3"{dashes}/>',
        f'<text x="{x + PADDING:.1f}" y="{y + PADDING + 9:.1f}" fill="{INK}" font-weight="600">'
        f"{escape(figure.title)}</text>",
    ]
    if figure.note:
        parts.append(
            f'<text x="{x + box.width - PADDING:.1f}" y="{y + PADDING + 9:.1f}" fill="{FAINT}" font-size="10" '
            f'text-anchor="end">{escape(figure.note)}</text>'
        )
    top = y + PADDING + 25
    parts += [_text(line, x + PADDING, top + i * LINE, INK, "start") for i, line in enumerate(figure.value)]
    right = x + box.width - PADDING
    parts += [_text(line, right, top + i * LINE, RED, "end") for i, line in enumerate(figure.gradient) if line]
    return "\n".join(parts)


def _text(line: str, x: float, y: float, colour: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-family="{MONO}" font-size="11" xml:space="preserve" '
        f'text-anchor="{anchor}">{escape(line)}</text>'
    )


def _legend(styles: list[tuple[str, str]], x: float, y: float) -> str:
    parts = []
    for style, word in styles:
        fill, border = STYLES[style]
        parts.append(
            f'<rect x="{x:.0f}" y="{y - 9:.0f}" width="14" height="10" rx="3" fill="{fill}" stroke="{border}"/>'
        )
        parts.append(f'<text x="{x + 20:.0f}" y="{y:.0f}" fill="{FAINT}" font-size="11">{word}</text>')
        x += len(word) * 6.2 + 34
    parts.append(f'<text x="{x + 6:.0f}" y="{y:.0f}" fill="{INK}" font-size="11">black: value</text>')
    parts.append(f'<text x="{x + 84:.0f}" y="{y:.0f}" fill="{RED}" font-size="11">red: gradient of the loss</text>')
    return "\n".join(parts)
