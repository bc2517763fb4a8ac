"""The kernel tests run on the emulated backend (marked `emulated`) and, the same tests, on a GPU (marked `gpu`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import cuda, emulated, table
from gpu_backprop.backends.kernels import Kernel
from gpu_backprop.core import devices, dtypes

from ..conftest import require_emulated

# the float types that the tests run on: all four, or those named in this variable ("float,__nv_bfloat16")
OTHER_ORDERS = emulated.ORDERS[1:]  # of threads, beside "forward"; a kernel without races gives the same bits in all
DTYPES = tuple(os.environ.get("GPU_BACKPROP_TEST_FLOATS", ",".join(table.FLOATS)).split(","))


@pytest.fixture(
    scope="session",
    params=[pytest.param("emulated", marks=pytest.mark.emulated), pytest.param("cuda", marks=pytest.mark.gpu)],
)
def backend(request: pytest.FixtureRequest) -> Any:
    """The shared backend of one device."""
    if request.param == "cuda":
        return cuda_backend()
    require_emulated()
    return emulated.backend()


def cuda_backend() -> Any:
    """The device "cuda". With GPU_BACKPROP_TEST_NO_POOL=1 arrays have memory of their own, for compute-sanitizer."""
    backend = devices.device("cuda").backend
    if os.environ.get("GPU_BACKPROP_TEST_NO_POOL") == "1":
        backend.xp.cuda.set_allocator(None)
    return backend


@pytest.fixture(scope="session")
def other_orders(backend: Any) -> tuple[str, ...]:
    """The orders of threads that a test can ask `remake` for: none on a GPU, which has its own."""
    return OTHER_ORDERS if backend.name == "emulated" else ()


@pytest.fixture
def remake(backend: Any) -> Callable[..., Any]:
    """remake(attribute=value, ...): a backend of its own, whose launcher has these attributes."""

    def make(**attributes: Any) -> Any:
        launcher = type(backend.launcher)()
        for name, value in attributes.items():
            if name in ("order", "seed") and backend.name != "emulated":
                pytest.skip("only the emulator can choose the order of threads")
            setattr(launcher, name, value)
        for cache in ("_bound", "_functions", "_runtime", "_properties"):  # what is compiled stays compiled
            if hasattr(backend.launcher, cache):
                setattr(launcher, cache, getattr(backend.launcher, cache))
        return cuda.KernelBackend(
            backend.name, backend.xp, launcher, None if backend.name == "emulated" else backend.machine
        )

    return make


def compile_first(backend: Any, kernels: list[Kernel]) -> None:
    """Compiles in few goes what a test file will launch: some libraries are much quicker than hundreds."""
    wanted = set(kernels)
    whole = [batch for batch in table.batches(("int",)) if wanted.issuperset(batch)]  # as benchmarks/compile_all.py
    for batch in [*whole, list(wanted.difference(*whole))]:
        backend.launcher.compile(batch)


def instantiations(file: str, index: str = "int") -> list[Kernel]:
    return [kernel for kernel in table.instantiations(DTYPES, (index,)) if kernel.file == file]


def rounded(values: Any, dtype: np.dtype) -> np.ndarray:
    """float64 values rounded once to dtype. ml_dtypes goes through float32: rounded to odd there, once stays once."""
    values = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        if dtype.name != "bfloat16":
            return values.astype(dtype)
        near = values.astype(np.float32)
        bits = near.view(np.uint32)
        inexact = (near.astype(np.float64) != values) & np.isfinite(values)
        too_far = inexact & (np.abs(near.astype(np.float64)) > np.abs(values))
        bits = np.where(inexact, (bits - too_far) | 1, bits).astype(np.uint32)
        return bits.view(np.float32).astype(dtype)


def tiny(dtype: np.dtype) -> float:
    """The spacing of denormal numbers."""
    return {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}[dtype.name]


def check(
    result: np.ndarray, expected: Any, dtype: np.dtype, ulps: float = 0.5, scale: Any = 0.0, what: str = ""
) -> None:
    """`result`, of `dtype`, lies within `ulps` of the float64 values; `scale` is what else the error is relative to."""
    assert result.dtype == dtype, (what, result.dtype)
    expected = np.asarray(expected, np.float64)
    assert result.shape == expected.shape, (what, result.shape, expected.shape)
    target = rounded(expected, dtype).astype(np.float64)
    got = result.astype(np.float64)
    with np.errstate(all="ignore"):
        room = (ulps - 0.5) * (dtypes.epsilon(dtype) * np.maximum(np.abs(target), scale) + tiny(dtype))
        good = (got == target) | (np.isnan(got) & np.isnan(target)) | (np.abs(got - target) <= room)
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        raise AssertionError(
            f"{what}: {(~good).sum()} of {good.size} wrong; at {at} got {got[at]!r}, expected {target[at]!r}"
        )


def draw(shape: Any, dtype: np.dtype, seed: int = 0, low: float = -3.0, high: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def on(backend: Any, array: np.ndarray, view: Callable[[Any], Any] = lambda x: x) -> Any:
    """A host array on the device, seen through a view that both array modules understand."""
    return view(backend.from_host(array))
