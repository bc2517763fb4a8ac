"""Did a function do at its second call what it did at the first? For `gb.capture(check=True)`.

Two recordings are compared call by call. Memory that a call made is known by the call that made it, memory from outside
by its address, and arrays copied from the host by the bytes that they had then.
"""

from __future__ import annotations

import textwrap
from typing import Any

from .calls import Call, Slot, Value, address_of, is_array
from .recording import Recorder


def difference(first: Recorder, second: Recorder) -> str:
    """What the second call did otherwise, in words; "" if it did the same. The recordings are settled."""
    same = _Sameness(first, second)
    for number, (a, b) in enumerate(zip(first.calls, second.calls)):
        found = same.between_calls(a, b)
        if found:
            where = f" in {b.scope}" if b.scope else ""
            return f"operation {number}{where} {found}"
    if len(first.calls) != len(second.calls):
        longer = max(first.calls, second.calls, key=len)
        extra = longer[min(len(first.calls), len(second.calls))].name
        return f"there were {len(first.calls)} operations, then {len(second.calls)}; {extra} is in one of them only"
    if not same.of(first.results, second.results):
        return "something else was returned"
    if [leaf() for leaf in first.leaves.values()] != [leaf() for leaf in second.leaves.values()]:
        return "the gradients of other Tensors were computed"
    if first.drawn != second.drawn:
        return "another number of random values was drawn"
    return ""


class _Sameness:
    """Which Value of one recording is which of the other."""

    def __init__(self, first: Recorder, second: Recorder):
        self.first, self.second = first, second
        self.twin: dict[Value, Value] = {}

    def between_calls(self, a: Call, b: Call) -> str:
        if a.name != b.name:
            return f"was {a.name}, then {b.name}"
        if a.device is not b.device:
            return f"({a.name}) ran on {a.device}, then on {b.device}"
        if (a.draw is None) is not (b.draw is None) or (
            a.draw is not None and (a.draw.generator, a.draw.blocks) != (b.draw.generator, b.draw.blocks)  # type: ignore[union-attr]
        ):
            return f"({a.name}) drew random numbers of another generator, or in another order"
        parts = [("took", (a.args, a.attrs), (b.args, b.attrs)), ("wrote", a.writes, b.writes)]
        if a.draw is not None:  # its key and offset are data
            parts[0] = "took", _without_place(a), _without_place(b)
        for verb, x, y in (*parts, ("gave", a.results, b.results)):
            if not self.of(x, y):
                return f"({a.name}) {verb} {_told(*self.parting(x, y))}"
        return ""

    def of(self, a: Any, b: Any) -> bool:
        """Are two leaves or nests the same?"""
        if isinstance(a, Slot) and isinstance(b, Slot):
            return a[1:] == b[1:] and self.twin.setdefault(a.value, b.value) is b.value
        if is_array(a) and is_array(b):
            return self.of_arrays(a, b)
        if type(a) is not type(b):
            return False
        if isinstance(a, (tuple, list)):
            return len(a) == len(b) and all(map(self.of, a, b))
        if isinstance(a, dict):
            return list(a) == list(b) and all(map(self.of, a.values(), b.values()))
        return a is b or bool(a == b) or (isinstance(a, float) and repr(a) == repr(b))

    def of_arrays(self, a: Any, b: Any) -> bool:
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return False
        x, y = self.first.constant_behind(a), self.second.constant_behind(b)
        if x is not None and y is not None:
            places = address_of(a) - address_of(x.array), address_of(b) - address_of(y.array)
            return a.strides == b.strides and places[0] == places[1] and x.host.tobytes() == y.host.tobytes()
        return a.strides == b.strides and address_of(a) == address_of(b)

    def parting(self, a: Any, b: Any) -> tuple[Any, Any]:
        """The first leaves that differ."""
        if type(a) is type(b) and isinstance(a, (tuple, list)) and not isinstance(a, Slot) and len(a) == len(b):
            return next(self.parting(x, y) for x, y in zip(a, b) if not self.of(x, y))
        if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
            return next(self.parting(a[k], b[k]) for k in a if not self.of(a[k], b[k]))
        return a, b


def _without_place(call: Call) -> tuple[Any, Any]:
    if "key" in call.attrs:
        return call.args, {k: v for k, v in call.attrs.items() if k not in ("key", "offset")}
    return call.args[2:], call.attrs


def _told(a: Any, b: Any) -> str:
    """Two leaves or nests that differ, in words."""
    first, second = _short(a), _short(b)
    return f"{first}, then {second}" if first != second else f"another {first}"


def _short(part: Any) -> str:
    if isinstance(part, Slot) or is_array(part):
        return f"{part.dtype}{list(part.shape)}"
    return textwrap.shorten(repr(part), 60)
