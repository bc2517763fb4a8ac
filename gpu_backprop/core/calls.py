"""What is recorded: calls, and the arrays that they touch.

Arrays are known by the memory that they view. Memory made by a recorded call is a Value, which a Program may lay
wherever it likes, and an array in it is a Slot; an array in all other memory is Outside, and is used where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .devices import Device

OWN = " (own)"  # ends the names of primitives of the user's own


@dataclass(eq=False)
class Value:
    """Memory that a recorded call made.

    owner: weak reference to the array that owns it; alive after the function has returned: somebody kept a Tensor.
    address, nbytes: where it was while recording. position: of an argument of the captured function, or -1.
    """

    owner: Any
    address: int
    nbytes: int
    device: Device
    position: int = -1


class Slot(NamedTuple):
    """An array inside a Value: `offset` in bytes, as NumPy has shape, dtype and strides."""

    value: Value
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """In C order, without gaps."""
        expected = self.dtype.itemsize
        for n, stride in zip(reversed(self.shape), reversed(self.strides)):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return True


class Outside(NamedTuple):
    """An array in memory from elsewhere, as a Slot has it; it does not keep the memory alive."""

    owner: Any
    device: Device
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...]

    def array(self) -> Any:
        return self.device.backend.carve(self.owner(), self.offset, self.shape, self.dtype, self.strides)


@dataclass(eq=False)
class Draw:
    """Where a call draws random numbers: `blocks` behind the place of `generator` when the function was called."""

    generator: Any
    blocks: int


@dataclass(eq=False)
class Call:
    """One recorded call. Arrays in args and attrs are Slots, or Outside; after `Recorder.settle` arrays outside.

    results: what `function` returns, in order; None for one that is a view of an operand.
    takes_out: the results can be written where `out=` says; else they are copied there.
    writes: operands that it writes into. scope: the module that ran. backward: on the walk back along the tape.
    """

    name: str
    function: Callable[..., Any]
    device: Device
    args: tuple[Any, ...]
    attrs: dict[str, Any]
    results: tuple[Any, ...] = ()
    takes_out: bool = False
    writes: tuple[Any, ...] = ()
    draw: Draw | None = None
    scope: str = ""
    backward: bool = False

    @property
    def title(self) -> str:
        """Its name, and what a chain is made of."""
        return " > ".join(name for name, *_ in self.attrs["chain"].steps) if self.name == "chain" else self.name

    @property
    def is_own(self) -> bool:
        """Is it a primitive of the user's own, which may do more than give its result?"""
        return self.name.endswith(OWN)

    def arrays(self) -> Iterator[Any]:
        """Every Slot and every array outside that it touches."""
        for part in (self.args, self.attrs, self.results):
            yield from arrays_in(part)


def replaced(part: Any, which: Callable[[Any], bool], make: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with others in the places of some of their leaves."""
    if which(part):
        return make(part)
    if type(part) in (tuple, list):
        return type(part)(replaced(p, which, make) for p in part)
    return {k: replaced(p, which, make) for k, p in part.items()} if type(part) is dict else part


def arrays_in(part: Any) -> Iterator[Any]:
    if isinstance(part, (Slot, Outside)) or is_array(part):
        yield part
    elif isinstance(part, (tuple, list)):
        for p in part:
            yield from arrays_in(p)
    elif isinstance(part, dict):
        for p in part.values():
            yield from arrays_in(p)


def is_array(x: Any) -> bool:
    """A raw array of some backend; NumPy's scalars are numbers here."""
    return hasattr(x, "strides") and hasattr(x, "shape") and not isinstance(x, (np.generic, Slot, Outside))


def address_of(array: Any) -> int:
    """The address of an array's first element."""
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return interface["data"][0]


def span_of(array: Any) -> tuple[int, int]:
    """The addresses of the first byte that an array covers, and behind the last."""
    low = high = address_of(array)
    if array.size:
        low += sum((n - 1) * stride for n, stride in zip(array.shape, array.strides) if stride < 0)
        high += sum((n - 1) * stride for n, stride in zip(array.shape, array.strides) if stride > 0) + array.itemsize
    return low, high


def owner_of(array: Any) -> Any:
    """The object whose memory an array views."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def own_name(forward: Callable[..., Any]) -> str:
    """What a primitive of the user's own is called."""
    return f"{getattr(forward, '__name__', 'primitive')}{OWN}"
