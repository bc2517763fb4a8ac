"""Every kernel on two devices: a GPU against the emulated one, bit for bit or within the bounds of samples.py.

Without a GPU the same code compares the emulated device with itself under a shuffled order of threads, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import emulated, layouts, table
from gpu_backprop.backends.cuda import KernelBackend
from gpu_backprop.backends.emulated import EmulatedLauncher
from gpu_backprop.core import dtypes

from ..conftest import require_emulated
from .conftest import DTYPES, compile_first, cuda_backend, on, tiny
from .samples import BOUNDS, EXACT, Bound, Sample, samples

FILES = sorted({kernel.file for kernel in table.instantiations()})


@pytest.fixture(
    scope="module",
    params=[pytest.param("emulated", marks=pytest.mark.emulated), pytest.param("cuda", marks=pytest.mark.gpu)],
)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Two backends, the first of them the one under test."""
    require_emulated()
    if request.param == "cuda":
        return cuda_backend(), emulated.backend()
    return KernelBackend("emulated", np, EmulatedLauncher("shuffled", 3)), emulated.backend()


def outcome(backend: Any, sample: Sample) -> list[np.ndarray]:
    """All that a call made or changed: its results, then its operands."""
    operands = [sample.view(on(backend, x)) if isinstance(x, np.ndarray) else x for x in sample.operands]
    attrs = {name: on(backend, x) if isinstance(x, np.ndarray) else x for name, x in sample.attrs.items()}
    made = backend.functions[sample.name](*operands, **attrs)
    results = [*made] if isinstance(made, tuple) else [made]
    arrays = (x for x in (*results, *operands, *attrs.values()) if isinstance(x, backend.xp.ndarray))
    return [np.asarray(backend.to_host(x)) for x in arrays]


def differences(got: np.ndarray, expected: np.ndarray, bound: Bound) -> np.ndarray:
    """Where two results are further apart than `bound`; any NaN is like any other."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if got.dtype.kind in "biu":
        return got != expected
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same = (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)
    if bound == EXACT:
        return ~same
    accumulator = np.dtype(np.float64 if got.dtype.itemsize == 8 else np.float32)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        room = bound.ulps * (dtypes.epsilon(accumulator) * np.maximum(size, bound.scale) + tiny(accumulator))
        if accumulator != got.dtype:  # rounded once more
            room = room + dtypes.epsilon(got.dtype) * size + tiny(got.dtype)
        return ~(same | (np.abs(a - b) <= room))


def compare(first: Any, second: Any, given: list[Sample]) -> None:
    for sample in given:
        bound = EXACT if first.name == second.name else sample.bound or BOUNDS.get(sample.name, EXACT)
        pairs = zip(outcome(first, sample), outcome(second, sample), strict=True)
        for number, (got, expected) in enumerate(pairs):
            wrong = differences(got, expected, bound)
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise AssertionError(
                    f"{sample.name} {sample.attrs}, array {number} of {got.dtype}{list(got.shape)}: {wrong.sum()} of "
                    f"{wrong.size} differ; at {at} {first.name} has {got[at]!r}, {second.name} {expected[at]!r}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", [*FILES, "chain.cuh"])
def test_every_kernel(pair, file, dtype):
    first, second = pair
    kernels = [k for k in table.instantiations((dtype,), ("int",)) if k.file == file]
    for backend in pair:
        compile_first(backend, kernels)
    names = launched_by(file, dtype)
    compare(first, second, [sample for sample in samples(table.dtype_of(dtype)) if sample.name in names])


@pytest.mark.full
def test_every_kernel_with_long_indices(pair, monkeypatch):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    first, second = (KernelBackend(b.name, b.xp, b.launcher, b.machine) for b in pair)  # plans are kept by backends
    for backend in (first, second):
        backend.launcher.compile(table.instantiations(("float",), ("long long",)))
    compare(first, second, samples(np.dtype(np.float32)))


# the list itself -----------------------------------------------------------------------------------------------------


class Recording(EmulatedLauncher):
    """Runs nothing and notes what it should have run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Any] = set()

    def launch(self, kernel: Any, *_: Any, **__: Any) -> None:
        self.seen.add(kernel)


def launches(dtype: str) -> dict[str, set[Any]]:
    """For each primitive the kernels that its samples launch."""
    found: dict[str, set[Any]] = {}
    backend = KernelBackend("emulated", np, Recording())
    for sample in samples(table.dtype_of(dtype)):
        backend.launcher.seen = found.setdefault(sample.name, set())
        outcome(backend, sample)
    return found


def launched_by(file: str, dtype: str) -> set[str]:
    """The primitives whose samples launch kernels of a file; chains are files of their own, with one header."""
    return {
        name
        for name, kernels in launches(dtype).items()
        if any((k.file if k.file in FILES else "chain.cuh") == file for k in kernels)
    }


@pytest.mark.parametrize("dtype", table.FLOATS)
def test_every_kernel_has_a_sample(dtype):
    seen = set().union(*launches(dtype).values())
    missing = sorted(str(k) for k in set(table.instantiations((dtype,), ("int",))) - seen)
    assert not missing, f"no sample in samples.py launches {missing[:5]} ({len(missing)} in all)"


def test_bounds_are_of_primitives_with_samples():
    assert not BOUNDS.keys() - {sample.name for sample in samples(np.dtype(np.float32))}


def test_a_difference_is_noticed():
    one = np.ones(4, np.float32)
    near = one + np.array([0, 2, 3, 9], np.float32) * np.float32(2.0**-23)
    assert differences(near, one, EXACT).tolist() == [False, True, True, True]
    assert differences(near, one, Bound(3)).tolist() == [False, False, False, True]
    assert differences(near - one, one - one, Bound(2, 1.0)).tolist() == [False, False, True, True]
    assert differences(np.float32([-0.0, np.nan]), np.float32([0.0, np.nan]), EXACT).tolist() == [True, False]
    half = np.array([1, 1 + 2.0**-10, 1 + 2.0**-9], np.float16)
    assert differences(half, half[:1].repeat(3), Bound(3)).tolist() == [False, False, True]
