"""gb.profile: where the time goes, operation by operation, eager and captured.

While a profile is on, the Devices hand out tables whose functions are timed, as a capture does (recording.py), and a
Program times its calls one by one; without one nothing is different. On CUDA the times are those of the device, between
events; elsewhere of the clock.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..backends.base import Functions
from . import devices
from .calls import Outside, Slot, is_array, owner_of
from .dtypes import float32
from .errors import GpuBackpropError
from .modes import modes

COLUMNS = ("operation", "calls", "ms", "%", "GB/s", "GFLOP/s", "of peak")


class Event(NamedTuple):
    """One call: marks of its device's stopwatch, and what it moved and computed."""

    name: str
    scope: str
    device: devices.Device
    start: Any
    stop: Any
    nbytes: int
    flops: int
    shapes: str


class Row(NamedTuple):
    """All calls of one operation: seconds, bytes and floating-point operations in all."""

    name: str
    device: str
    calls: int
    seconds: float
    nbytes: int
    flops: int


class Peak(NamedTuple):
    """What a device reaches: bytes a second in a large copy (read and written), operations a second in a product."""

    bandwidth: float
    flops: float


@dataclass(eq=False)
class Profile:
    """What ran inside `gb.profile()`. Printed, it is a table; `save` writes a trace for Perfetto.

    Bytes are the fewest that an operation must move: its operands read and its results written once. Floating-point
    operations are counted for matrix products, 2 m n k each. Views cost nothing and are left out. "of peak" is the
    share of what this machine reaches in a large product, or in a large copy: more than all of it where the data lie
    in a cache.
    """

    events: list[Event] = field(default_factory=list)
    thread: int = field(default_factory=threading.get_ident)

    # noting ----------------------------------------------------------------------------------------------------------

    def listens(self) -> bool:
        return self.thread == threading.get_ident()

    def timed(self, name: str, device: devices.Device, function: Callable[..., Any], args: Any, attrs: Any) -> Any:
        """Call a function and note it."""
        mark = device.backend.mark
        start = mark()
        result = function(*args, **attrs)
        stop = mark()
        out = attrs.get("out")
        if name == "write":
            operands, results = _arrays(args[1:]), _arrays(args[:1])
        else:
            operands = _arrays((args, {k: v for k, v in attrs.items() if k != "out"}))
            results = _arrays(result if out is None else out)
            owners = [owner_of(a) for a in operands]
            if results and out is None and all(any(owner_of(r) is owner for owner in owners) for r in results):
                return result  # views
        self._note(name, modes.scope, device, start, stop, operands, results)
        return result

    def replay(self, program: Any, calls: list[Any], bound: list[Callable[[], Any]]) -> None:
        """The calls of a Program, each noted."""
        for call, run in zip(calls, bound, strict=True):
            mark = call.device.backend.mark
            start = mark()
            run()
            stop = mark()
            operands, results = _arrays((call.args, call.attrs)), _arrays(call.results)
            if call.name == "write":
                operands, results = _arrays(call.args[1:]), _arrays(call.args[:1])
            self._note(call.title, call.scope, call.device, start, stop, operands, results)

    def _note(
        self, name: str, scope: str, device: devices.Device, start: Any, stop: Any, operands: Any, results: Any
    ) -> None:
        nbytes = sum(a.nbytes for a in (*operands, *results))
        shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in operands)
        self.events.append(Event(name, scope, device, start, stop, nbytes, _flops(name, operands, results), shapes))

    # the results -----------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """A row for each operation on each device, the one that took longest first. Waits for the devices."""
        seconds = self._seconds()
        groups: dict[tuple[str, str], list[tuple[Event, float]]] = {}
        for event, (_, length) in zip(self.events, seconds, strict=True):
            groups.setdefault((event.name, event.device.name), []).append((event, length))
        rows = [
            Row(name, device, len(group), sum(t for _, t in group), sum(e.nbytes for e, _ in group),
                sum(e.flops for e, _ in group))
            for (name, device), group in groups.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: -row.seconds)

    def _seconds(self) -> list[tuple[float, float]]:
        """When each event began, after its device's first, and how long it took."""
        first: dict[devices.Device, Any] = {}
        for event in self.events:
            first.setdefault(event.device, event.start)
        for device in first:
            device.backend.synchronize()
        return [
            (
                event.device.backend.between(first[event.device], event.start),
                event.device.backend.between(event.start, event.stop),
            )
            for event in self.events
        ]

    def __str__(self) -> str:
        rows = self.rows()
        if not rows:
            return "nothing ran inside gb.profile()"
        total = sum(row.seconds for row in rows)
        lines = [COLUMNS]
        for row in rows:
            best = peak(devices.device(row.device))
            bandwidth, flops = (amount / max(row.seconds, 1e-12) for amount in (row.nbytes, row.flops))
            share = flops / best.flops if row.flops else bandwidth / best.bandwidth
            lines.append(
                (
                    row.name if len(row.name) <= 44 else row.name[:41] + "...",
                    f"{row.calls:,}", f"{row.seconds * 1e3:,.3f}", f"{100 * row.seconds / max(total, 1e-12):.1f}",
                    f"{bandwidth / 1e9:,.1f}", f"{flops / 1e9:,.1f}" if row.flops else "", f"{100 * share:.0f} %",
                )
            )  # fmt: skip
        widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
            for line in lines
        ]
        notes = [
            f"{name}: a large copy moves {best.bandwidth / 1e9:,.1f} GB/s, a product of float32 computes "
            f"{best.flops / 1e9:,.0f} GFLOP/s"
            for name, best in ((name, peak(devices.device(name))) for name in dict.fromkeys(row.device for row in rows))
        ]
        return "\n".join([*(line.rstrip() for line in text), "", f"{total * 1e3:,.3f} ms in all operations", *notes])

    def save(self, path: Any) -> None:
        """Write a trace that Perfetto (ui.perfetto.dev) and Chrome open: every call, its shapes, its microseconds."""
        import json

        threads = {device: i for i, device in enumerate(dict.fromkeys(event.device for event in self.events))}
        trace: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": i, "args": {"name": device.name}}
            for device, i in threads.items()
        ]
        for event, (start, length) in zip(self.events, self._seconds(), strict=True):
            about = {"module": event.scope, "operands": event.shapes, "bytes": event.nbytes, "flops": event.flops}
            trace.append(
                {
                    "name": event.name, "cat": event.scope or "operation", "ph": "X", "pid": 0,
                    "tid": threads[event.device], "ts": start * 1e6, "dur": length * 1e6, "args": about,
                }
            )  # fmt: skip
        Path(path).write_text(json.dumps({"traceEvents": trace, "displayTimeUnit": "ms"}) + "\n")


@contextmanager
def profile() -> Iterator[Profile]:
    """Time every operation of this thread inside the block; see Profile.

    with gb.profile() as profile:
        step(x, y)
    print(profile)
    profile.save("trace.json")
    """
    if modes.profile is not None:
        raise GpuBackpropError("profile: this thread is inside gb.profile() already; use the one that is on")
    found = Profile()
    kept = [(d, d.functions, d.native, d.backend) for d in devices.known()]
    try:
        modes.profile = found
        for device, functions, native, backend in kept:
            device.functions = _Timed(found, device, functions)
            device.native = device.functions if native is functions else _Timed(found, device, native)
            device.backend = _TimedBackend(found, device, backend)  # type: ignore[assignment]
        yield found
    finally:
        modes.profile = None
        for device, functions, native, backend in kept:
            device.functions, device.native, device.backend = functions, native, backend


class _Timed(Functions):
    """A device's functions, each call timed."""

    def __init__(self, found: Profile, device: devices.Device, functions: Functions):
        super().__init__(lambda name: _timing(found, device, name, functions[name]))


class _TimedBackend:
    """A backend whose writes are timed."""

    def __init__(self, found: Profile, device: devices.Device, backend: Any):
        self._backend = backend
        self.write = _timing(found, device, "write", backend.write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _timing(found: Profile, device: devices.Device, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **attrs: Any) -> Any:
        return found.timed(name, device, function, args, attrs) if found.listens() else function(*args, **attrs)

    run.untimed = function  # type: ignore[attr-defined]  # what a capture records
    return run


def _arrays(part: Any) -> list[Any]:
    """Every array in nested tuples, lists and dicts."""
    if isinstance(part, (Slot, Outside)) or is_array(part):
        return [part]
    if isinstance(part, (tuple, list)):
        return [a for p in part for a in _arrays(p)]
    return [a for p in part.values() for a in _arrays(p)] if isinstance(part, dict) else []


def _flops(name: str, operands: list[Any], results: list[Any]) -> int:
    """Floating-point operations of a matrix product: 2 m n k; 0 of everything else."""
    if name in ("matmul", "linear", "linear_relu") and results:
        return 2 * math.prod(results[0].shape) * operands[0].shape[-1]
    if name == "linear_weight_gradient" and results:
        g = operands[0].shape
        return 2 * math.prod(results[0].shape) * math.prod(g[:-1])
    return 0


_peaks: dict[str, Peak] = {}
COPIED, MULTIPLIED, ROUNDS = 1 << 24, 1024, 5  # elements of a copy, rows of a product, times each


def peak(device: devices.Device) -> Peak:
    """What a device reaches on this machine, measured when first asked for: about a fifth of a second."""
    if device.name not in _peaks:
        if device.name == "emulated":  # its launches say nothing about a machine's speed, and take their time
            return peak(devices.device("cpu"))
        backend, functions = device.backend, device.functions
        x, y = backend.empty((COPIED,), float32), backend.empty((COPIED,), float32)
        a, b, c = (backend.empty((MULTIPLIED, MULTIPLIED), float32) for _ in range(3))
        for array in (x, y, a, b, c):
            backend.write(array, ..., 0.5)
        copy = _best(device, lambda: backend.write(y, ..., x))
        product = _best(device, lambda: functions["matmul"](a, b, out=c))
        _peaks[device.name] = Peak(2 * x.nbytes / copy, 2 * MULTIPLIED**3 / product)
    return _peaks[device.name]


def _best(device: devices.Device, work: Callable[[], Any]) -> float:
    marks = []
    for _ in range(ROUNDS):
        start = device.backend.mark()
        work()
        marks.append((start, device.backend.mark()))
    device.backend.synchronize()
    return min(device.backend.between(*pair) for pair in marks)
