"""Nested lists, tuples and dicts of Tensors as flat lists and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tensor import Tensor, asarray

Form = Callable[[list[Any]], Any]


def flatten(tree: Any) -> tuple[list[Tensor], Form]:
    """The Tensors in a nest (dicts in the order of their keys), and a function that puts others in their places."""
    leaves: list[Tensor] = []
    return leaves, _form(tree, leaves)


def _form(branch: Any, leaves: list[Tensor]) -> Form:
    """Adds the Tensors of `branch` to `leaves`; the function returned keeps their places and none of them.

    (Not a function inside flatten: one that calls itself is a reference cycle, which would keep the leaves alive.)
    """
    if isinstance(branch, Tensor):
        position = len(leaves)
        leaves.append(branch)
        return lambda values: values[position]
    kind = type(branch)
    if isinstance(branch, dict):
        parts = {key: _form(value, leaves) for key, value in branch.items()}
        return lambda values: {key: part(values) for key, part in parts.items()}
    if isinstance(branch, (list, tuple)):
        rows = [_form(value, leaves) for value in branch]
        if hasattr(branch, "_fields"):
            return lambda values: kind(*(row(values) for row in rows))
        return lambda values: kind(row(values) for row in rows)
    return lambda values: branch


def as_tensors(argument: Any) -> Any:
    """An argument with its numbers and NumPy arrays made Tensors."""
    if isinstance(argument, (dict, Tensor)):
        return {k: as_tensors(v) for k, v in argument.items()} if isinstance(argument, dict) else argument
    if isinstance(argument, (list, tuple)):
        values = [as_tensors(v) for v in argument]
        return type(argument)(*values) if hasattr(argument, "_fields") else type(argument)(values)
    if isinstance(argument, (int, float, complex, np.ndarray, np.generic)) or hasattr(
        argument, "__cuda_array_interface__"
    ):
        return asarray(float(argument) if isinstance(argument, int) else argument)
    return argument
