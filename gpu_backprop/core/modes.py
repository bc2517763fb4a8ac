"""What differs from thread to thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


class _Modes(threading.local):
    grad = True  # record gradients?
    scope = ""  # the module that is running, for pictures
    generator: Any = None  # of random numbers (random.py), made when first used
    watch: Callable[[str, Any, Sequence[Any], bool], None] | None = None  # sees every result (debug.py, recording.py)
    backward = False  # on the walk back along the tape?
    profile: Any = None  # that is on (profiling.py)
    recorder: Any = None  # of the capture that is under way (recording.py)


modes = _Modes()
