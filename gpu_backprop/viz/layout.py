"""Layered drawing of a directed graph, left to right: ranks, an order with few crossings, coordinates.

The method of Sugiyama, Tagawa and Toda (1981): long edges get a bend in every layer that they cross; boxes of a layer
are ordered by the mean place of their neighbours, swept to and fro; then each is moved towards its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP_X, GAP_Y = 46.0, 18.0
SWEEPS = 8


@dataclass(eq=False)
class Box:
    """A rectangle to place; one of no width is a bend of a long edge."""

    width: float
    height: float
    rank: int = 0
    x: float = 0.0
    y: float = 0.0  # of its middle
    column: tuple[float, float] = (0.0, 0.0)  # left and right end of its layer
    before: list[Box] = field(default_factory=list)  # neighbours one layer to the left
    after: list[Box] = field(default_factory=list)


def place(boxes: Sequence[Box], edges: Sequence[tuple[Box, Box]]) -> tuple[float, float, list[list[Box]]]:
    """Set x and y of every box; `boxes` come in an order in which edges point forward.

    Returns the width and height of the picture and, for each edge, the boxes and bends that it goes through.
    """
    _rank(boxes, edges)
    layers: list[list[Box]] = [[] for _ in range(1 + max((b.rank for b in boxes), default=0))]
    for box in boxes:
        layers[box.rank].append(box)
    routes = [_route(a, b, layers) for a, b in edges]
    _order(layers)
    x = 0.0
    for layer in layers:
        widest = max(b.width for b in layer)
        for b in layer:
            b.x = x + (widest - b.width) / 2
            b.column = x, x + widest
        x += widest + GAP_X
    height = _stack(layers)
    return x - GAP_X, height, routes


def _rank(boxes: Sequence[Box], edges: Sequence[tuple[Box, Box]]) -> None:
    """Operations after all they use; what nothing leads to right before its first use."""
    incoming: dict[Box, list[Box]] = {b: [] for b in boxes}
    outgoing: dict[Box, list[Box]] = {b: [] for b in boxes}
    for a, b in edges:
        incoming[b].append(a)
        outgoing[a].append(b)
    for box in boxes:
        box.rank = max((a.rank + 1 for a in incoming[box]), default=0)
    for box in boxes:
        if not incoming[box] and outgoing[box]:
            box.rank = min(b.rank for b in outgoing[box]) - 1


def _route(a: Box, b: Box, layers: list[list[Box]]) -> list[Box]:
    route = [a]
    for rank in range(a.rank + 1, b.rank):
        bend = Box(0.0, 6.0, rank)
        layers[rank].append(bend)
        route.append(bend)
    route.append(b)
    for left, right in pairwise(route):
        left.after.append(right)
        right.before.append(left)
    return route


def _order(layers: list[list[Box]]) -> None:
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        previous: dict[Box, int] = {}
        for layer in layers if forward else reversed(layers):
            own = {b: float(i) for i, b in enumerate(layer)}
            for box in layer:
                neighbours = [previous[n] for n in (box.before if forward else box.after) if n in previous]
                if neighbours:
                    own[box] = sum(neighbours) / len(neighbours)
            layer.sort(key=own.__getitem__)
            previous = {b: i for i, b in enumerate(layer)}


def _stack(layers: list[list[Box]]) -> float:
    """Vertical places: no overlap, near the middle of the neighbours. Returns the height."""
    for layer in layers:
        total = sum(b.height + GAP_Y for b in layer) - GAP_Y
        y = -total / 2
        for b in layer:
            b.y = y + b.height / 2
            y += b.height + GAP_Y
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for layer in layers if forward else reversed(layers):
            wanted = []
            for b in layer:
                neighbours = (b.before if forward else b.after) or b.before + b.after
                wanted.append(sum(n.y for n in neighbours) / len(neighbours) if neighbours else b.y)
            _settle(layer, wanted)
    top = min((b.y - b.height / 2 for layer in layers for b in layer), default=0.0)
    bottom = max((b.y + b.height / 2 for layer in layers for b in layer), default=0.0)
    for layer in layers:
        for b in layer:
            b.y -= top
    return bottom - top


def _settle(layer: list[Box], wanted: list[float]) -> None:
    """The places nearest to those wanted that keep the order and the gaps.

    Boxes that would overlap are merged into blocks, each of which goes to the mean of what its boxes want.
    """
    # sum of the wishes for its top, how many, height, boxes at their offsets
    blocks: list[tuple[float, int, float, list[tuple[Box, float]]]] = []
    for box, y in zip(layer, wanted):
        top = y - box.height / 2
        block = (top, 1, box.height, [(box, 0.0)])
        while blocks and blocks[-1][0] / blocks[-1][1] + blocks[-1][2] + GAP_Y > block[0] / block[1]:
            wishes, count, height, members = blocks.pop()
            shift = height + GAP_Y
            moved = [(b, offset + shift) for b, offset in block[3]]
            block = (wishes + block[0] - shift * block[1], count + block[1], shift + block[2], members + moved)
        blocks.append(block)
    for wishes, count, _, members in blocks:
        for box, offset in members:
            box.y = wishes / count + offset + box.height / 2
