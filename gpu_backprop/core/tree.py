"""Nested lists, tuples and dicts of Tensors as flat lists and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tensor import Tensor


def flatten(tree: Any) -> tuple[list[Tensor], Callable[[list[Any]], Any]]:
    """The Tensors in a nest (dicts in the order of their keys), and a function that puts others in their places."""
    leaves: list[Tensor] = []

    def visit(branch: Any) -> Callable[[list[Any]], Any]:
        if isinstance(branch, Tensor):
            position = len(leaves)
            leaves.append(branch)
            return lambda values: values[position]
        if isinstance(branch, dict):
            parts = {key: visit(value) for key, value in branch.items()}
            return lambda values: {key: part(values) for key, part in parts.items()}
        if isinstance(branch, (list, tuple)):
            rows = [visit(value) for value in branch]
            if hasattr(branch, "_fields"):
                return lambda values: type(branch)(*(row(values) for row in rows))
            return lambda values: type(branch)(row(values) for row in rows)
        return lambda values: branch

    return leaves, visit(tree)
