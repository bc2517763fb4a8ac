"""What differs from thread to thread, and what captured functions look at in all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar


class _Modes(threading.local):
    grad = True  # record gradients?
    scope = ""  # the module that is running, for pictures
    generator: Any = None  # of random numbers (random.py), made when first used
    watch: Callable[[str, Any, Sequence[Any], bool], None] | None = None  # sees every result (debug.py, recording.py)
    backward = False  # on the walk back along the tape?
    profile: Any = None  # that is on (profiling.py)
    recorder: Any = None  # of the capture that is under way (recording.py)


modes = _Modes()


class Attributes:
    """An object whose attributes captured functions depend on: they look again when one is assigned.

    A subclass with a `__setattr__` of its own calls this one. mark: a new object after every change in any thread.
    """

    mark: ClassVar[object] = object()

    def __setattr__(self, name: str, value: Any) -> None:
        if modes.recorder is not None:
            modes.recorder.accesses.assigns(self, name)
        object.__setattr__(self, name, value)
        Attributes.mark = object()

    def __delattr__(self, name: str) -> None:
        if modes.recorder is not None:
            modes.recorder.accesses.assigns(self, name)
        object.__delattr__(self, name)
        Attributes.mark = object()
