"""What an entry of the list is, and how its samples are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpu_backprop as gb

Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Op:
    """An operation. `half`: float16 and bfloat16 values are within an ulp or so of the rounded reference.

    `wide`: of float16 and bfloat16 it gives float32.
    """

    name: str
    f: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Sequence[Arrays]
    autograd: Callable[..., Any] | None = None
    gradient: bool = True  # False: values only
    half: bool = True
    wide: bool = False

    def __str__(self) -> str:
        return self.name


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, name)))


def draw(random: np.random.Generator, shape: tuple[int, ...], lo: float, hi: float) -> np.ndarray:
    """Distinct values in [lo, hi], none nearer to 0, 1 or another value than a central difference can see."""
    n = math.prod(shape)
    values = lo + (hi - lo) * (np.arange(n) + random.uniform(0.3, 0.7, n)) / max(n, 1)
    values = np.where(np.abs(values) < 0.02, 0.05, values)
    return random.permutation(values).reshape(shape)


UNARY_SHAPES = ((2, 3), (), (4,), (0, 3))
BINARY_SHAPES = (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (4,)), ((3,), ()), ((0, 3), (3,)), ((), ()))


def unary(name, reference, lo=-2.0, hi=2.0, autograd=None, f=None, **options: Any) -> Op:
    random = _random(name)
    samples = [(draw(random, shape, lo, hi),) for shape in UNARY_SHAPES]
    return Op(name, f or getattr(gb, name), reference, samples, autograd, **options)


def binary(name, reference, lo=-2.0, hi=2.0, autograd=None, f=None, shapes=BINARY_SHAPES, **options: Any) -> Op:
    random = _random(name)
    samples = [(draw(random, a, lo, hi), draw(random, b, lo, hi)) for a, b in shapes]
    return Op(name, f or getattr(gb, name), reference, samples, autograd, **options)


def shaped(name, f, reference, shapes, lo=-2.0, hi=2.0, autograd=None, **options: Any) -> Op:
    """An operation on float inputs of given shapes: one tuple of shapes a sample."""
    random = _random(name)
    samples = [tuple(draw(random, s, lo, hi) for s in sample) for sample in shapes]
    return Op(name, f, reference, samples, autograd, **options)
