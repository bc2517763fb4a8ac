"""Backpropagation made visible: `tape(loss)` lists what was recorded, `draw(loss)` draws it, `curves` plots runs."""

from __future__ import annotations

from . import curves
from .drawing import Drawing, draw
from .listing import Listing, tape

__all__ = ["Drawing", "Listing", "curves", "draw", "tape"]
