"""Shadows: other devices that do each operation of a computation too, from the same bits.

    with shadow(device("cpu"), [device("emulated")]) as operations:
        loss.backward()                    # on the CPU
    operations[0].results["emulated"].ulp  # how far the other device was off

Each call of a function of the first device's table is done again by the others on copies of its operands, with their
strides, because kernels choose their way by them. So an error does not travel on to the next operation, and the first
one that differs is the culprit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.base import Functions
from . import agreement
from .devices import Device, Tables, device, layer

REPEATS = 5  # of which the median time counts
BUDGET = 1.0  # seconds that the repeats of one operation may take on a device


@dataclass(frozen=True)
class Result:
    """What another device made of an operation.

    ulp, bound: the largest error against the first device and the one allowed (see agreement.py), of the output that
    is furthest out. differing: how many elements, of `size` that were written, have other bits. error: what was raised.
    """

    ulp: float
    bound: float
    differing: int
    size: int
    error: str = ""


@dataclass(frozen=True)
class Operation:
    """One call of a function. seconds, results: by the name of the device; the first device has no result."""

    name: str
    operands: tuple[tuple[tuple[int, ...], np.dtype], ...]  # shapes and dtypes of the arrays given
    seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)


@contextmanager
def shadow(first: Device, others: Sequence[Device]) -> Iterator[list[Operation]]:
    """Inside the block `others` do each operation that `first` does; yields the list that they are noted in.

    Concerns all threads. An optimiser made before the block does its updates unseen. A gb.primitive is a function of
    the user's own, in no device's table, and not done again.
    """
    operations: list[Operation] = []
    watching = True

    def watched(kind: str, table: Functions) -> Functions:
        def make(name: str) -> Callable[..., Any]:
            function = table[name]

            def run(*operands: Any, **attrs: Any) -> Any:
                if not watching:  # an optimiser that outlives the block
                    return function(*operands, **attrs)
                call = _Call(first, name, operands, attrs)
                result = function(*operands, **attrs)
                expected = call.written(first, result, call.arrays)
                operation = Operation(name, call.shapes)
                operation.seconds[first.name] = _median_seconds(first, call.bind(first, function)[0])
                for other in others:
                    _do_again(call, other, getattr(other, kind), expected, operation)
                operations.append(operation)
                return result

            return run

        return Functions(make)

    def dress(place: Device, below: Tables) -> Tables:
        if place is not first:
            return below
        return below._replace(functions=watched("functions", below.functions), native=watched("native", below.native))

    try:
        with layer(dress):
            yield operations
    finally:
        watching = False


class _Call:
    """A call, with its operands on the host as they were before it."""

    def __init__(self, first: Device, name: str, operands: tuple[Any, ...], attrs: dict[str, Any]):
        self.name = name
        self.operands = operands
        self.attrs = {k: v for k, v in attrs.items() if k != "out"}
        self.out = attrs.get("out")
        # by identity: an array that is given twice stays one, so that an update in place does
        given = (x for x in (*operands, self.out) if isinstance(x, (first.array_type, np.generic)))
        self.arrays: dict[int, Any] = {id(x): x for x in given}
        self.before = {key: _to_host(first, x) for key, x in self.arrays.items()}

    @property
    def shapes(self) -> tuple[tuple[tuple[int, ...], np.dtype], ...]:
        return tuple((x.shape, x.dtype) for x in self.operands if id(x) in self.arrays)

    def bind(self, place: Device, function: Callable[..., Any]) -> tuple[Callable[[], Any], dict[int, Any]]:
        """The call on copies of its operands on a device, and these copies."""
        copies = {key: _like(place, self.before[key], x.strides) for key, x in self.arrays.items()}
        operands = [copies.get(id(x), x) for x in self.operands]
        out = {} if self.out is None else {"out": copies[id(self.out)]}
        return lambda: function(*operands, **self.attrs, **out), copies

    def written(self, place: Device, result: Any, arrays: dict[int, Any]) -> dict[int, np.ndarray]:
        """What a call made, numbered, and what it wrote to, by operand."""
        results = result if isinstance(result, tuple) else (result,)
        known = {id(x) for x in arrays.values()}
        found = {i: _to_host(place, x) for i, x in enumerate(results) if x is not None and id(x) not in known}
        for key, x in arrays.items():
            after = _to_host(place, x)
            if x is arrays.get(id(self.out)) or after.tobytes() != self.before[key].tobytes():
                found[key] = after
        return found

    def terms(self) -> np.ndarray | None:
        """What the error of a sum is relative to."""
        if agreement.kind_of(self.name) != "sum":
            return None
        function = device("cpu").backend.native[self.name]  # type: ignore[index]
        operands = [self.before.get(id(x), x) for x in self.operands]
        with np.errstate(all="ignore"):
            return agreement.sum_of_magnitudes(function, operands, self.attrs)


def _do_again(
    call: _Call, place: Device, table: Functions, expected: dict[int, np.ndarray], operation: Operation
) -> None:
    """Do a call on another device, note how far off it is, and its time."""
    try:
        run, copies = call.bind(place, table[call.name])
        found = call.written(place, run(), copies)
        operation.results[place.name] = _judge(call, expected, found)
        operation.seconds[place.name] = _median_seconds(place, run)
    except Exception as error:  # whatever it is, it is what this device made of the operation
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        operation.results[place.name] = Result(np.inf, 0.0, 0, 0, f"{type(error).__name__}: {reason}")


def _judge(call: _Call, expected: dict[int, np.ndarray], found: dict[int, np.ndarray]) -> Result:
    terms = call.terms()
    kind = agreement.kind_of(call.name)
    errors: list[tuple[float, float]] = []
    differing = size = 0
    for key in expected | found:
        # what one device wrote to and the other did not is as it was before
        a, b = (written.get(key, call.before.get(key)) for written in (expected, found))
        if a is None or b is None:
            made, due = (sum(key not in call.before for key in written) for written in (found, expected))
            return Result(np.inf, 0.0, 0, 0, f"number of results: {made} instead of {due}")
        error, count = agreement.distance(a, b, kind, terms)
        errors.append((error, agreement.bound_of(call.name, a.dtype)))
        differing, size = differing + count, size + a.size
    ulp, bound = max(errors, key=lambda pair: (pair[0] > pair[1], pair[0]), default=(0.0, 0.0))
    return Result(ulp, bound, differing, size)


def _median_seconds(place: Device, run: Callable[[], Any]) -> float:
    samples: list[float] = []
    while len(samples) < REPEATS and sum(samples) < BUDGET:
        place.backend.synchronize()
        begun = time.perf_counter()
        run()
        place.backend.synchronize()
        samples.append(time.perf_counter() - begun)
    return statistics.median(samples)


def _to_host(place: Device, array: Any) -> np.ndarray:
    """A contiguous copy; NumPy's scalars, which its functions return for arrays without axes, count as arrays."""
    host = np.asarray(array) if isinstance(array, np.generic) else place.backend.to_host(array)
    return np.array(host, order="C")


def _like(place: Device, values: np.ndarray, strides: tuple[int, ...]) -> Any:
    """An array on a device with these values and strides."""
    size = values.dtype.itemsize
    if not values.size or strides == values.strides or any(s % size for s in strides):
        return place.backend.from_host(values)
    reach = [(n - 1) * s // size for n, s in zip(values.shape, strides)]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
    memory = np.zeros(high - low + 1, values.dtype)
    np.lib.stride_tricks.as_strided(memory[-low:], values.shape, strides)[...] = values
    view = place.backend.xp.lib.stride_tricks.as_strided
    return view(place.backend.from_host(memory)[-low:], values.shape, strides)
