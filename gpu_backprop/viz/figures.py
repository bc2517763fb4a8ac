"""Numbers for people: four significant digits, short arrays whole, long ones by their ends."""

from __future__ import annotations

from typing import Any

import numpy as np

WHOLE = 6  # arrays of up to so many elements are written out


def number(x: Any) -> str:
    """One number in at most four significant digits."""
    if isinstance(x, (bool, np.bool_)):
        return str(bool(x))
    if np.iscomplexobj(x):
        real, imaginary = number(x.real), number(x.imag)
        return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
    value = float(x)
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == int(value) and abs(value) < 1e5:
        return str(int(value))
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}"
    return text


def abbreviated(array: np.ndarray) -> str:
    """An array on one line."""
    if array.ndim == 0:
        return number(array[()])
    if array.size <= WHOLE:
        return _nested(array)
    flat = array.reshape(-1)
    ends = ", ".join(map(number, flat[:2])) + ", ..., " + number(flat[-1])
    return f"[{ends}] {shape_of(array.shape)}"


def _nested(array: np.ndarray) -> str:
    if array.ndim == 0:
        return number(array[()])
    return "[" + ", ".join(_nested(part) for part in array) + "]"


def shape_of(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"


def rows(array: np.ndarray, most_rows: int = 4, most_columns: int = 4) -> list[str] | None:
    """A scalar, vector or small matrix as lines of aligned numbers; None when it is too large for that."""
    if array.ndim > 2 or array.size == 0:
        return None
    table = array.reshape(1, -1) if array.ndim < 2 else array
    if table.shape[0] > most_rows or table.shape[1] > most_columns:
        return None
    cells = [[_fixed(x) for x in line] for line in table]
    width = max(len(c) for line in cells for c in line)
    return [" ".join(c.rjust(width) for c in line) for line in cells]


def _fixed(x: Any) -> str:
    """With as many decimals as show three digits or so: for columns that are to be aligned."""
    value = float(x)
    if value == 0 or (0.001 <= abs(value) < 1000):
        return f"{value:.3f}"
    return number(value)
