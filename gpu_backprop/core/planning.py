"""Where the memory of a Program lies: what is needed, how long, and what can share a place.

Values whose lives do not overlap share memory. A value that is only computed to be copied somewhere is computed there.
The result of an elementwise call takes the place of an operand that nobody needs afterwards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..ops import elementwise, neural
from ..ops.primitive import Primitive
from .calls import Call, Slot, Value, span_of
from .rewrites import rewrite

ALIGNMENT = 256  # bytes, as optim/flat.py
IN_PLACE = {"chain"} | {
    p.name for p in (*vars(elementwise).values(), neural.dropout) if isinstance(p, Primitive) and p.gives == "out"
}


@dataclass(eq=False)
class Storage:
    """One place in memory, and the Values that have it one after the other.

    first, last: numbers of the calls between which it is in use; -1 is before the first call.
    kept: the array that the memory belongs to, if it is not the Program's own. offset: where in the Program's memory.
    """

    nbytes: int
    first: int
    last: int
    kept: Any = None
    offset: int = 0
    values: list[Value] = field(default_factory=list)


@dataclass
class Plan:
    """calls: what is left to do, in order. once: what is done before the first replay, and for all of them.

    nbytes: what the Program's own memory takes.
    """

    calls: list[Call]
    once: list[Call]
    storages: dict[Value, Storage]
    nbytes: int
    unplanned: int  # bytes, if every Value had memory of its own

    @property
    def buffers(self) -> list[Storage]:
        """The places in the Program's own memory."""
        return [s for s in dict.fromkeys(self.storages.values()) if s.kept is None]


def plan(calls: list[Call], inputs: list[Slot], outputs: list[Any], level: str) -> Plan:
    """Rewrite recorded calls and lay out their memory.

    inputs: the arguments; one that somebody kept is filled where it is. outputs: the Slots that are read in the end.
    """
    known = [*(slot.value for slot in inputs), *(value for call in calls for value in _values(call))]
    kept = {value for value in known if value.owner() is not None}
    results = {slot.value for slot in outputs if isinstance(slot, Slot)}
    calls = rewrite(_needed(calls, kept | results), outputs, level)
    storages: dict[Value, Storage] = {}
    for number, call in enumerate(calls):
        for value in _values(call):
            storage = storages.get(value)
            if storage is None:
                first = number if value.position < 0 else -1
                storage = storages[value] = Storage(value.nbytes, first, number, values=[value])
            storage.last = number
    for value in kept:
        storages.setdefault(value, Storage(value.nbytes, -1, -1, values=[value])).kept = value.owner()
    for value in results:
        storage = storages.setdefault(value, Storage(value.nbytes, -1, len(calls), values=[value]))
        storage.last = len(calls)
    unplanned = sum(storage.nbytes for storage in storages.values() if storage.kept is None)
    end = len(calls)
    once = _constants(calls, kept)
    for call in once:
        storage = storages[call.args[0].value]
        storage.first, storage.last = -1, end
    calls = [call for call in _place_copies(calls, storages) if call not in once]
    _overwrite(calls, storages, end)
    return Plan(
        calls, once, storages, _pack([s for s in dict.fromkeys(storages.values()) if s.kept is None]), unplanned
    )


def _values(call: Call) -> list[Value]:
    return [array.value for array in call.arrays() if isinstance(array, Slot)]


def _needed(calls: list[Call], wanted: set[Value]) -> list[Call]:
    """The calls that something outside, or a wanted Value, depends on."""
    wanted = set(wanted)
    left = []
    for call in reversed(calls):
        touched = [*call.results, *call.writes]
        if call.is_own or any(a.value in wanted if isinstance(a, Slot) else a is not None for a in touched):
            wanted.update(_values(call))
            left.append(call)
    return left[::-1]


def _constants(calls: list[Call], kept: set[Value]) -> list[Call]:
    """The calls that fill a Value with a number which nobody else changes."""
    changes = Counter(
        a.value
        for call in calls
        for a in (call.arrays() if call.is_own else (*call.results, *call.writes))
        if isinstance(a, Slot)
    )
    return [
        call
        for call in calls
        if call.name == "write"
        and _is_whole(call.args[0])
        and call.args[1] is Ellipsis
        and isinstance(call.args[2], (bool, int, float))
        and changes[call.args[0].value] == 1
        and call.args[0].value not in kept
    ]


def _is_whole(slot: Any) -> bool:
    """Does a Slot cover its Value in C order?"""
    return isinstance(slot, Slot) and slot.nbytes == slot.value.nbytes and slot.is_contiguous


def _place_copies(calls: list[Call], storages: dict[Value, Storage]) -> list[Call]:
    """Compute what is only copied into an array outside right there, and leave the copies out."""
    left: list[Call] = []
    for number, call in enumerate(calls):
        target = _target(call)
        source: Any = call.args[2] if target is not None else None
        if target is None or not _is_whole(source) or source.shape != target.shape or source.dtype != target.dtype:
            left.append(call)
            continue
        storage = storages[source.value]
        maker = calls[storage.first] if storage.first >= 0 else None
        if (
            storage.kept is not None
            or storage.last != number
            or maker is None
            or not maker.takes_out
            or not any(r is not None and isinstance(r, Slot) and r.value is source.value for r in maker.results)
            or not _is_left_alone(target, calls[storage.first : number])
        ):
            left.append(call)
            continue
        storage.kept = target
    return left


def _target(call: Call) -> Any:
    """The array outside that a call fills with a copy of an array, if that is what it does."""
    if call.name != "write":
        return None
    array, index, value = call.args
    parts = index if isinstance(index, tuple) else (index,)
    if isinstance(array, Slot) or not all(p is Ellipsis or isinstance(p, (int, slice)) for p in parts):
        return None
    target = array[parts if Ellipsis in parts else (*parts, ...)]  # a view, of a single element too
    return target if target.flags.c_contiguous and target.size and isinstance(value, Slot) else None


def _is_left_alone(target: Any, calls: list[Call]) -> bool:
    """Does none of the calls touch the memory of `target`? The first may read it, element by element."""
    low, high = span_of(target)
    for number, call in enumerate(calls):
        for array in call.arrays():
            if isinstance(array, Slot):
                continue
            start, end = span_of(array)
            if start < high and low < end:
                same = (start, array.shape, array.strides, array.dtype) == (
                    low, target.shape, target.strides, target.dtype,
                )  # fmt: skip
                if number or call.name not in IN_PLACE or not same:
                    return False
    return True


def _overwrite(calls: list[Call], storages: dict[Value, Storage], end: int) -> None:
    """Give results of elementwise calls the places of operands that are not needed afterwards."""
    first: dict[Storage, Call] = {}
    last: dict[Storage, Call] = {}
    for call in calls:
        for value in _values(call):
            first.setdefault(storages[value], call)
            last[storages[value]] = call
    for call in calls:
        if call.name not in IN_PLACE or not call.takes_out or not _is_whole(call.results[0]):
            continue
        result = call.results[0]
        mine = storages[result.value]
        if mine.kept is not None or first[mine] is not call:
            continue
        for operand in call.args:
            if not _is_whole(operand) or (operand.shape, operand.dtype) != (result.shape, result.dtype):
                continue
            theirs = storages[operand.value]
            used_alike = all(a == operand for a in call.args if isinstance(a, Slot) and storages[a.value] is theirs)
            if theirs.kept is None and last[theirs] is call and theirs.last < end and used_alike:
                theirs.last, last[theirs] = mine.last, last[mine]
                theirs.values += mine.values
                storages.update(dict.fromkeys(mine.values, theirs))
                break


def _pack(storages: list[Storage]) -> int:
    """Offsets for storages, so that those in use at one time lie apart; the bytes that all take.

    Greedy by size: the largest first, each at the lowest offset where it fits (Pisarchyk and Lee, Efficient Memory
    Management for Deep Neural Net Inference, arXiv:2001.03288).
    """
    total = 0
    placed: list[Storage] = []
    for storage in sorted(storages, key=lambda s: (-s.nbytes, s.first)):
        offset = 0
        for other in placed:  # in the order of their offsets
            if other.first <= storage.last and storage.first <= other.last:
                if offset + storage.nbytes <= other.offset:
                    break
                offset = max(offset, -(-(other.offset + other.nbytes) // ALIGNMENT) * ALIGNMENT)
        storage.offset = offset
        total = max(total, offset + storage.nbytes)
        placed.append(storage)
        placed.sort(key=lambda s: s.offset)
    return total
