"""Which attributes of modules (modes.Attributes) a captured function read and assigned.

What it read must be as it was, or it might do otherwise; what it assigned is assigned again by a replay. An attribute
that it assigned before it read it does not matter.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .modes import Attributes, modes
from .tensor import Tensor

ABSENT = object()  # in the place of an attribute that is not there
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def present(owner: Attributes, name: str) -> Any:
    """An attribute as far as it is compared: a method as its function, `__dict__` as the names of parts."""
    value: Any = getattr(owner, name, ABSENT)
    if name == "__dict__":  # somebody goes through it, for the parameters or modules in it
        return tuple(n for n, x in value.items() if isinstance(x, (Tensor, Attributes)))
    return value.__func__ if isinstance(value, types.MethodType) and value.__self__ is owner else value


class Accesses:
    """What is noted while a function runs."""

    def __init__(self) -> None:
        self.owners: dict[int, Attributes] = {}
        self.read: dict[tuple[int, str], Any] = {}  # and the values before
        self.assigned: set[tuple[int, str]] = set()

    def reads(self, owner: Attributes, name: str) -> None:
        key = id(owner), name
        if key in self.read or key in self.assigned or (name.startswith("__") and name != "__dict__"):
            return
        if isinstance(getattr(type(owner), name, None), property):
            return  # which reads others
        self.owners[id(owner)] = owner
        self.read[key] = value = present(owner, name)
        if name == "__dict__":
            for part in value:
                self.reads(owner, part)

    def assigns(self, owner: Attributes, name: str) -> None:
        self.owners[id(owner)] = owner
        self.assigned.add((id(owner), name))

    def replaced(self) -> Iterator[tuple[Tensor, str]]:
        """Tensors that were read, and are in their places no longer, with the names of the places."""
        for (key, name), old in self.read.items():
            owner = self.owners[key]
            if isinstance(old, Tensor) and present(owner, name) is not old:
                yield old, f"{type(owner).__name__}.{name}"

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, every look at an attribute is noted, on the thread that records; at other times it costs nothing."""

        def look(owner: Attributes, name: str) -> Any:
            if modes.recorder is not None:
                recorder, modes.recorder = modes.recorder, None
                try:
                    self.reads(owner, name)
                finally:
                    modes.recorder = recorder
            return object.__getattribute__(owner, name)

        Attributes.__getattribute__ = look  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del Attributes.__getattribute__


class Needs:
    """What a Program needs to find, and leaves behind. Owners, and what was read, are held weakly."""

    def __init__(self, accesses: Accesses):
        owners = {key: weakref.ref(owner) for key, owner in accesses.owners.items()}
        self.read = [(owners[key], name, _held(value)) for (key, name), value in accesses.read.items()]
        self.assigned = [
            (owners[key], name, vars(accesses.owners[key]).get(name, ABSENT)) for key, name in accesses.assigned
        ]

    def missed(self) -> str:
        """The attribute that is not as it was, or ""."""
        for reference, name, held in self.read:
            owner = reference()
            if owner is None:
                return name
            if not _is_still(held, present(owner, name)):
                return f"{type(owner).__name__}.{name}"
        return ""

    def gone(self) -> bool:
        """Is something no more that was there?"""
        return any(
            owner() is None or (isinstance(held, weakref.ref) and held() is None) for owner, _, held in self.read
        )

    def assign(self) -> None:
        for reference, name, value in self.assigned:
            owner = reference()
            if owner is None or vars(owner).get(name, ABSENT) is value:
                continue
            if value is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _held(value: Any) -> Any:
    if isinstance(value, _PLAIN) or value is ABSENT:
        return value
    try:
        return weakref.ref(value)
    except TypeError:  # a tuple, a list, a number of NumPy's
        return value


def _is_still(held: Any, value: Any) -> bool:
    if isinstance(held, weakref.ref):
        return value is not None and held() is value
    if held is value:
        return True
    return type(held) is type(value) and isinstance(held, (*_PLAIN, tuple)) and _alike(held, value)


def _alike(a: Any, b: Any) -> bool:
    """Are two plain values, or tuples, the same? -0.0 is not 0.0."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(x is y or (type(x) is type(y) and _is_still(x, y)) for x, y in zip(a, b))
    return repr(a) == repr(b)
