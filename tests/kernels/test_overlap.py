"""Whether two arrays share memory, asked before every launch into a buffer: CuPy's arrays, by stand-ins of NumPy's."""

from __future__ import annotations

import itertools
import types
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import cuda
from gpu_backprop.backends.emulated import EmulatedLauncher
from gpu_backprop.backends.launching import shared


class CupyArray:
    """What of a CuPy array the launch code looks at; it has no interface dictionary, which is slow to build."""

    def __init__(self, array: np.ndarray):
        self.data = types.SimpleNamespace(ptr=array.__array_interface__["data"][0])
        self.shape, self.strides, self.size, self.flags = array.shape, array.strides, array.size, array.flags
        self.itemsize, self.nbytes = array.itemsize, array.nbytes


BASE = np.zeros((6, 8), np.float32)
VIEWS = {
    "all": BASE, "upper": BASE[:3], "lower": BASE[3:], "row": BASE[2], "column": BASE[:, 2], "backwards": BASE[::-1],
    "upper, backwards": BASE[2::-1, ::-2], "transposed": BASE.T, "one": BASE[5:, 7:], "none": BASE[:0],
    "broadcast": np.broadcast_to(BASE[4], (9, 8)), "other": np.zeros((6, 8), np.float32),
}  # fmt: skip


@pytest.mark.parametrize(("x", "y"), [*itertools.product(VIEWS, VIEWS)])
def test_overlap_is_numpys(x, y):
    got = shared.cupy_overlap(CupyArray(VIEWS[x]), CupyArray(VIEWS[y]))
    assert got == np.may_share_memory(VIEWS[x], VIEWS[y])


def launch_for_cupy() -> shared.Launch:
    launch = shared.Launch(types.SimpleNamespace(xp=None, launcher=None), lambda name: pytest.fail(name))
    launch.copy_to = lambda x: ("copied", x)
    return launch


def test_operands_that_overlap_the_result_are_copied():
    def same(x: str) -> Any:
        return CupyArray(VIEWS[x])

    out = CupyArray(BASE)
    crossing, apart, itself = same("backwards"), same("other"), same("all")
    assert launch_for_cupy().apart(out, [out, itself, apart, crossing, 2.0, None]) == [
        *(out, itself, apart, ("copied", crossing), 2.0, None)
    ]
    transposed = CupyArray(BASE[:, :6].T)  # begins where out does
    assert launch_for_cupy().apart(CupyArray(BASE[:, :6]), [transposed]) == [("copied", transposed)]


def test_a_write_from_memory_that_it_overwrites_is_copied_first(monkeypatch):
    """NumPy reads all before it writes, so a strict array stands for CuPy's, which must not be asked to."""

    class Strict(np.ndarray):
        def __setitem__(self, index: Any, value: Any) -> None:
            assert not np.may_share_memory(self, value)
            super().__setitem__(index, value)

    backend = cuda.KernelBackend("emulated", np, EmulatedLauncher())
    monkeypatch.setattr(backend, "xp", types.SimpleNamespace(ndarray=np.ndarray, may_share_memory=np.may_share_memory))
    x = np.arange(5.0).view(Strict)
    backend.write(x, slice(1, None), x[:-1])
    assert x.tolist() == [0, 0, 1, 2, 3]
    backend.write(x, ..., 7.0)
    assert x.tolist() == [7.0] * 5


def test_a_numpy_scalar_is_written_as_a_number(monkeypatch):
    """CuPy takes none."""

    class Strict(np.ndarray):
        def __setitem__(self, index: Any, value: Any) -> None:
            assert type(value) is float
            super().__setitem__(index, value)

    backend = cuda.KernelBackend("emulated", np, EmulatedLauncher())
    monkeypatch.setattr(backend, "xp", types.SimpleNamespace(ndarray=np.ndarray, may_share_memory=np.may_share_memory))
    x = np.zeros(3).view(Strict)
    backend.write(x, ..., np.float64(7))
    assert x.tolist() == [7.0] * 3
