"""A profile as a trace in Chrome's trace event format, which Perfetto opens: one lane a device and stream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEEPEST = 1_000


@dataclass
class Span:
    """What lies around calls. depth: 0 of the outermost."""

    name: str
    depth: int
    start: float
    stop: float = 0.0


def write(path: Any, events: list[Any], seconds: float) -> None:
    """Write the events of a profile that lasted so long."""
    process = os.getpid()
    lanes = {lane: i for i, lane in enumerate(dict.fromkeys((e.device, e.lane) for e in events), 1)}
    trace = [_named("process_name", process, 0, "gpu_backprop"), _named("thread_name", process, 0, "gb.profile()")]
    trace.append(_complete("gb.profile()", "profile", process, 0, 0.0, seconds, {}))
    numbers: dict[Any, int] = {}
    for (device, lane), i in lanes.items():
        numbers[device] = numbers.get(device, 0) + 1
        name = device.name if numbers[device] == 1 else f"{device.name}, stream {numbers[device]}"
        trace.append(_named("thread_name", process, i, name))
        own = [e for e in events if (e.device, e.lane) == (device, lane)]
        inside = [(s.start, s.depth, _complete(s.name, "module", process, i, s.start, s.stop, {})) for s in _spans(own)]
        for e in own:
            about = {"module": e.scope, "operands": e.cost.words, "bytes": e.cost.nbytes, "flops": e.cost.flops}
            kind = "backward" if e.backward else "forward"
            inside.append((e.start, DEEPEST, _complete(e.name, kind, process, i, e.start, e.stop, about)))
        inside.sort(key=lambda entry: entry[:2])  # of those that begin together, the outer one comes first
        trace += [event for _, _, event in inside]
    Path(path).write_text(json.dumps({"traceEvents": trace, "displayTimeUnit": "ms"}) + "\n")


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _complete(
    name: str, category: str, process: int, thread: int, start: float, stop: float, about: dict[str, Any]
) -> dict[str, Any]:
    """An event with a beginning and a duration, in microseconds to a nanosecond; both ends are rounded, so that what
    lies inside another or behind it stays there."""
    begin, end = round(start * 1e9), round(stop * 1e9)
    return {
        "name": name, "cat": category, "ph": "X", "pid": process, "tid": thread,
        "ts": begin / 1e3, "dur": max(end - begin, 0) / 1e3, "args": about,
    }  # fmt: skip


def _spans(events: list[Any]) -> Iterator[Span]:
    """Neighbours of one direction and module, and of the modules around it."""
    around: list[Span] = []
    for event in events:
        path = [*(["backward"] if event.backward else []), *(event.scope.split(".") if event.scope else [])]
        same = 0
        while same < min(len(path), len(around)) and around[same].name == path[same]:
            same += 1
        yield from around[same:]
        del around[same:]
        around += [Span(name, depth, event.start) for depth, name in enumerate(path[same:], same)]
        for span in around:
            span.stop = event.stop
    yield from around
