"""How each family of kernels is launched: one file a family, written once for CUDA and the emulated backend.

A family is a class with `functions`: primitive name -> function over raw arrays. It takes the backend's Launch, which
knows the launcher and the fallback of every primitive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .chain import ChainLaunches
from .elementwise import ElementwiseLaunches
from .indexing import IndexingLaunches
from .losses import LossLaunches
from .neural import NeuralLaunches
from .norms import NormLaunches
from .optimizer import UpdateLaunches
from .products import ProductLaunches
from .random import RandomLaunches
from .reduction import ReductionLaunches
from .shared import Function, Launch

FAMILIES = (
    *(ReductionLaunches, NeuralLaunches, NormLaunches, LossLaunches),
    *(IndexingLaunches, RandomLaunches, UpdateLaunches),
)


def launch_functions(backend: Any, fallback: Callable[[str], Function]) -> dict[str, Function]:
    """The functions of every primitive that has a kernel."""
    launch = Launch(backend, fallback)
    functions = ElementwiseLaunches(launch).functions
    functions |= ChainLaunches(launch, functions).functions
    for family in FAMILIES:
        functions |= family(launch).functions
    return functions | ProductLaunches(launch, functions).functions
