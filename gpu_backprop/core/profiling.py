"""gb.profile: where the time goes, operation by operation, eager and captured.

While a profile is on, the Devices hand out tables whose functions are timed, as they do for a capture (devices.layer),
and a Program times its calls one by one; without one nothing is different. On CUDA the times are those of the device,
between events on its stream that are read when the block has ended; elsewhere they are the clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Functions
from . import costs, devices, peaks
from .calls import own_name
from .costs import Cost
from .errors import GpuBackpropError
from .modes import modes

WIDTH = 100  # of the table
HEADS = ("operation", "calls", "ms", "%", "MB", "GB/s", "GFLOP/s", "of peak")
PARTS = 6  # modules that the table shows of one operation; the others are one line


class Event(NamedTuple):
    """One call. start, stop: marks of its device, then seconds since the profile began; lane: its device's stream."""

    name: str
    scope: str
    backward: bool
    device: devices.Device
    lane: int
    start: Any
    stop: Any
    cost: Cost

    @property
    def seconds(self) -> float:
        return self.stop - self.start


@dataclass
class Row:
    """Calls of one operation, in one module and direction or in all: seconds, bytes and operations of all together.

    best: the seconds that a large copy of these bytes, or a large product of so many operations, takes on the device,
    whichever is longer.
    """

    name: str
    device: str
    scope: str = ""
    backward: bool = False
    calls: int = 0
    seconds: float = 0.0
    nbytes: int = 0
    flops: int = 0
    best: float = 0.0

    def add(self, event: Event) -> None:
        self.calls += 1
        self.seconds += event.seconds
        self.nbytes += event.cost.nbytes
        self.flops += event.cost.flops
        self.best += peaks.best_seconds(event.device, event.cost)

    @property
    def where(self) -> str:
        """The module, and the direction: "MLP.0 backward"."""
        direction = "backward" if self.backward else "forward" if self.scope else ""
        return f"{self.scope} {direction}".strip()


@dataclass(eq=False)
class Profile:
    """What ran inside `gb.profile()`. Printed, it is a table; `save` writes a trace for Perfetto.

    Bytes (MB = 10^6, GB = 10^9) are the fewest that an operation must move: its operands read and its results written
    once, not what caches really moved. GFLOP/s count matrix products, 2 m n k operations each. Views move nothing and
    are left out. "of peak" is the share of what this machine reaches in a large copy or a large product of the same
    dtype, whichever limits the operation; it is above 100 % where the data are still in a cache.

    seconds: from the beginning of the block to its end, the devices' work included. events: every call.
    """

    seconds: float = 0.0
    _done: list[Event] = field(default_factory=list)
    _new: list[Event] = field(default_factory=list)  # whose marks were not read yet

    def __post_init__(self) -> None:
        self._busy = False  # inside a call that is being timed
        self._costs: dict[Any, list[Cost]] = {}  # of Programs
        self._origins: dict[devices.Device, tuple[Any, float]] = {}  # a device's first mark, and when it was made
        self._last: dict[tuple[devices.Device, int], tuple[Any, float]] = {}  # a lane's last mark, and when that was
        self._begun = time.perf_counter()

    # noting ----------------------------------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        """Is this its thread, its block not over, and no call under way that this one is part of?"""
        return modes.profile is self and not self._busy

    def timed(
        self, name: str, device: devices.Device, function: Callable[..., Any], args: Any, attrs: Any,
        cost: Callable[..., Cost | None] = costs.of_call,
    ) -> Any:  # fmt: skip
        """Call a function and note it."""
        result, lane, start, stop = self._between_marks(device, function, *args, **attrs)
        found = cost(name, args, attrs, result)
        if found is not None:
            self._new.append(Event(name, modes.scope, modes.backward, device, lane, start, stop, found))
        return result

    def replay(self, program: Any, calls: list[Any], bound: list[Callable[[], Any]]) -> None:
        """The calls of a Program, each noted."""
        known = self._costs.get(program)
        if known is None:
            known = self._costs[program] = [costs.of_replay(call) for call in calls]
        for call, run, cost in zip(calls, bound, known, strict=True):
            _, lane, start, stop = self._between_marks(call.device, run)
            self._new.append(Event(call.title, call.scope, call.backward, call.device, lane, start, stop, cost))

    def _between_marks(self, device: devices.Device, function: Callable[..., Any], *args: Any, **attrs: Any) -> Any:
        """What a function gives, then its lane, the mark before it and the mark behind it."""
        backend = device.plain.backend
        self._busy = True
        try:
            lane, start = backend.lane(), backend.mark()
            if device not in self._origins:
                self._origins[device] = start, time.perf_counter() - self._begun
            result = function(*args, **attrs)
            return result, lane, start, backend.mark()
        finally:
            self._busy = False

    def _close(self) -> None:
        self._read_marks()
        self.seconds = time.perf_counter() - self._begun
        self._costs.clear()

    def _read_marks(self) -> None:
        """Marks become seconds since the profile began. Waits for the devices."""
        for device in {event.device for event in self._new}:
            device.plain.backend.synchronize()
        for event in self._new:
            device, place = event.device, (event.device, event.lane)
            between = device.plain.backend.between
            # from one mark to the next, for the distance of far ones has few digits on CUDA
            mark, then = self._last.get(place) or self._origins[device]
            start = then + between(mark, event.start)
            stop = start + between(event.start, event.stop)
            self._last[place] = event.stop, stop
            self._done.append(event._replace(start=start, stop=stop))
        self._new.clear()

    # the results -----------------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        self._read_marks()
        return self._done

    def rows(self, modules: bool = False) -> list[Row]:
        """A row for each operation on each device, the one that took longest first.

        modules: the forward and the backward pass of each module in rows of their own.
        """
        rows: dict[tuple[Any, ...], Row] = {}
        for event in self.events:
            parts = (event.scope, event.backward) if modules else ()
            key = event.name, event.device.name, *parts
            if key not in rows:
                rows[key] = Row(*key)
            rows[key].add(event)
        return sorted(rows.values(), key=lambda row: -row.seconds)

    def __str__(self) -> str:
        rows = self.rows()
        if not rows:
            return "nothing ran inside gb.profile()"
        parts: dict[tuple[str, str], list[Row]] = {}
        for part in self.rows(modules=True):
            parts.setdefault((part.name, part.device), []).append(part)
        total = sum(row.seconds for row in rows)
        several = len({row.device for row in rows}) > 1
        lines: list[tuple[str, ...]] = [HEADS]
        for row in rows:
            name = f"{row.name} on {row.device}" if several else row.name
            own = parts[row.name, row.device]
            if len(own) == 1 and own[0].where:
                name = f"{name}\n{own[0].where}"
            lines.append(_line(name, row, total))
            lines += [_line(f"  {where}", part, total) for where, part in _shown(own)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
        room = WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
        lines = [(_fitted(name, room), *numbers) for name, *numbers in lines]
        widths[0] = max(len(line[0]) for line in lines)
        text = []
        for name, *numbers in lines:
            cells = (number.rjust(width) for number, width in zip(numbers, widths[1:]))
            text.append("  ".join([name.ljust(widths[0]), *cells]))
        count = sum(row.calls for row in rows)
        text += ["", f"{count:,} calls took {_ms(total)} ms of the {_ms(self.seconds)} ms inside gb.profile()"]
        for device in dict.fromkeys(event.device for event in self.events):
            text.append(f"{device}: {peaks.words(device, {e.cost.product for e in self.events if e.device is device})}")
        return "\n".join(line.rstrip() for line in text)

    __repr__ = __str__

    def save(self, path: Any) -> None:
        """Write a trace that Perfetto (ui.perfetto.dev) and Chrome open: each call with its shapes, bytes and
        operations, inside its module and direction; times in microseconds since the profile began."""
        from .traces import write

        write(path, self.events, self.seconds)


def _shown(parts: list[Row]) -> Iterator[tuple[str, Row]]:
    """The lines below an operation: its parts and what they are called, the shortest ones together."""
    count = len(parts) if len(parts) <= PARTS else PARTS - 1
    if len(parts) > 1:
        yield from ((part.where or "elsewhere", part) for part in parts[:count])
    if count < len(parts):
        rest = Row(parts[0].name, parts[0].device)
        for part in parts[count:]:
            for name in ("calls", "seconds", "nbytes", "flops", "best"):
                setattr(rest, name, getattr(rest, name) + getattr(part, name))
        yield f"{len(parts) - count} others", rest


def _line(name: str, row: Row, total: float) -> tuple[str, ...]:
    seconds = max(row.seconds, 1e-12)
    rate = f"{row.flops / seconds / 1e9:,.1f}" if row.flops else ""
    return (
        name, f"{row.calls:,}", _ms(row.seconds), f"{100 * row.seconds / max(total, 1e-12):.1f}",
        f"{row.nbytes / 1e6:,.2f}", f"{row.nbytes / seconds / 1e9:,.1f}", rate, f"{100 * row.best / seconds:.0f} %",
    )  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f}"


def _fitted(name: str, width: int) -> str:
    """An operation and, on a second line, where it ran, as one, the latter if there is room."""
    name, _, where = name.partition("\n")
    if where and len(name) + len(where) + 3 <= width:
        return f"{name} ({where})"
    return name if len(name) <= width else name[: width - 3] + "..."


@contextmanager
def profile() -> Iterator[Profile]:
    """Time every operation of this thread inside the block; see Profile.

    A captured function is timed call by call. On CUDA that takes the place of its graph, and where the device waits for
    Python, the waiting counts for the operation that it waits for.

        with gb.profile() as profile:
            step(x, y)
        print(profile)
        profile.save("trace.json")
    """
    if modes.profile is not None:
        raise GpuBackpropError("profile: this thread is inside gb.profile() already; use the one that is on")
    found = Profile()

    def dress(device: devices.Device, below: devices.Tables) -> devices.Tables:
        functions = _Timed(found, device, below.functions)
        native = functions if below.native is below.functions else _Timed(found, device, below.native)
        return devices.Tables(functions, native, _TimedBackend(found, device, below.backend))  # type: ignore[arg-type]

    with devices.layer(dress):
        modes.profile = found
        try:
            yield found
            found._close()
        finally:
            modes.profile = None


class _Timed(Functions):
    """A device's functions, each call timed."""

    def __init__(self, found: Profile, device: devices.Device, functions: Functions):
        def timing(name: str) -> Callable[..., Any]:
            function = functions[name]

            def run(*args: Any, **attrs: Any) -> Any:
                return found.timed(name, device, function, args, attrs) if found.listens else function(*args, **attrs)

            return run

        super().__init__(timing)


class _TimedBackend:
    """A backend; primitives of the user's own, writes, and copies from and to the host are timed."""

    def __init__(self, found: Profile, device: devices.Device, backend: Any):
        self._found = found
        self._device = device
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, forward: Callable[..., Any], arrays: Any, attrs: Any) -> Any:
        def function(*arrays: Any, **attrs: Any) -> Any:
            return self._backend.run(forward, arrays, attrs)

        return self._timed(own_name(forward), function, arrays, attrs)

    def write(self, array: Any, index: Any, value: Any) -> None:
        self._timed("write", self._backend.write, (array, index, value))

    def from_host(self, array: np.ndarray, copy: bool = True) -> Any:
        return self._timed("copy from the host", self._backend.from_host, (array, copy), cost=_copied)

    def to_host(self, array: Any) -> np.ndarray:
        return self._timed("copy to the host", self._backend.to_host, (array,), cost=_copied)

    def _timed(self, name: str, function: Callable[..., Any], args: Any, attrs: Any = {}, **cost: Any) -> Any:  # noqa: B006
        if not self._found.listens:
            return function(*args, **attrs)
        return self._found.timed(name, self._device, function, args, attrs, **cost)


def _copied(name: str, args: tuple[Any, ...], attrs: dict[str, Any], result: Any) -> Cost | None:
    """Of a copy between host and device: its bytes go over the bus once; None where the memory is shared."""
    found = costs.of_call(name, args[:1], attrs, result)
    return None if found is None else found._replace(nbytes=costs.size(result))
