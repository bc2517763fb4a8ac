"""Arrays in GPU memory that somebody else made, without a GPU: a stand-in for CuPy tells how they were asked for."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import devices
from gpu_backprop.core.errors import DataError, DTypeError


class Array(np.ndarray):
    """A CuPy array, as far as a Tensor looks at it when it is made; `data` is set per instance."""

    device = types.SimpleNamespace(id=1)
    address = 0x7F0000000000

    __cuda_array_interface__ = property(lambda self: {"data": (self.address, False)})
    data = property(lambda self: types.SimpleNamespace(ptr=self.address))  # type: ignore[assignment]


def make(address: int = 0x7F0000000000, strides: Any = None, dtype: str = "f4") -> Array:
    array = np.zeros((2, 3), dtype).view(Array)
    if strides is not None:
        array = np.lib.stride_tricks.as_strided(np.zeros(99, dtype), (2, 3), strides).view(Array)
    array.address = address
    return array


class Foreign:
    """Another library's array, in the ways that it can be asked for."""

    def __init__(self, array: Array, dlpack: bool):
        self.array = array
        self.__cuda_array_interface__: dict[str, Any] = {}
        if dlpack:
            self.__dlpack__ = lambda **_: None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions of CuPy's that were called."""
    calls: list[str] = []

    def asarray(data: Any) -> Array:
        calls.append("asarray")
        return data if isinstance(data, Array) else data.array

    def from_dlpack(data: Any) -> Array:
        calls.append("from_dlpack")
        if data.array.dtype.kind == "u":
            raise BufferError("it requires a gradient")
        return data.array

    cupy = types.SimpleNamespace(ndarray=Array, asarray=asarray, from_dlpack=from_dlpack)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    cpu, device = devices.device("cpu"), devices.device
    monkeypatch.setattr(devices, "device", lambda name: cpu if name == "cuda:1" else device(name))
    return calls


def test_dlpack_is_preferred_for_its_stream(asked):
    for data, way in ((Foreign(make(), True), "from_dlpack"), (Foreign(make(), False), "asarray"), (make(), "asarray")):
        gb.asarray(data)
        assert asked.pop() == way


@pytest.mark.parametrize("dlpack", [True, False])
def test_misaligned_elements_are_refused(asked, dlpack):
    for array in (make(0x7F0000000002), make(strides=(14, 4)), make(0x7F0000000004, dtype="f8")):
        with pytest.raises(DataError, match=r"Foreign at address 0x7f\d+, .*not aligned .*t\.clone\(\)"):
            gb.asarray(Foreign(array, dlpack))
    gb.asarray(Foreign(make(0x7F0000000004), dlpack))  # to the element is enough
    gb.asarray(Foreign(make(0x7F0000000001, dtype="i1"), dlpack))


def test_what_cannot_be_lent(asked):
    with pytest.raises(DataError, match=r"does not lend its memory \(it requires a gradient\); give a copy"):
        gb.asarray(Foreign(make(dtype="u1"), True))
    with pytest.raises(DTypeError):
        gb.asarray(Foreign(make(dtype="c32"), True))


def test_memory_that_is_not_on_a_gpu_has_no_cuda_array_interface():
    assert not hasattr(gb.ones(3), "__cuda_array_interface__")


def test_the_interface_of_memory_on_a_gpu(monkeypatch):
    cpu = devices.device("cpu")
    monkeypatch.setattr(cpu.backend, "dlpack_device", (2, 0))
    assert gb.Tensor(make(), cpu).__cuda_array_interface__ == {"data": (Array.address, False)}
    assert not hasattr(gb.Tensor(make(), cpu).requires_grad_(), "__cuda_array_interface__")
