"""Arrays in GPU memory that somebody else made, without a GPU: a stand-in for CuPy tells how they were asked for."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import borrowed
from gpu_backprop.core import devices
from gpu_backprop.core.errors import DataError, DTypeError
from gpu_backprop.core.tensor import _shares as shares


class Array(np.ndarray):
    """A CuPy array, as far as a Tensor looks at it when it is made; `data` is set per instance."""

    device = types.SimpleNamespace(id=1)
    address = 0x7F0000000000
    place: Any = None

    def __new__(cls, shape: Any, dtype: Any, place: Any, strides: Any) -> Array:
        array = np.zeros(shape, dtype).view(cls)
        array.place = place
        return array

    __cuda_array_interface__ = property(lambda self: {"data": (self.address, False)})

    @property
    def data(self) -> Any:  # type: ignore[override]
        memory = types.SimpleNamespace(ptr=self.address - 64, size=1024, device_id=1, _owner=None)
        return self.place or types.SimpleNamespace(ptr=self.address, mem=memory)


def make(address: int = 0x7F0000000000, strides: Any = None, dtype: str = "f4") -> Array:
    array = np.zeros((2, 3), dtype).view(Array)
    if strides is not None:
        array = np.lib.stride_tricks.as_strided(np.zeros(99, dtype), (2, 3), strides).view(Array)
    array.address = address
    return array


class Foreign:
    """Another library's array, in the ways that it can be asked for."""

    def __init__(self, array: Array, dlpack: bool, constant: bool = False):
        self.array = array
        self.__cuda_array_interface__ = {"data": (array.address, constant)}
        if dlpack:
            self.__dlpack__ = lambda **_: None
            self.__dlpack_device__ = lambda: (2, 1)


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
        if data.array.dtype == "c8":
            raise NotImplementedError("complex32")
        return data.array

    cuda = types.SimpleNamespace(
        UnownedMemory=lambda ptr, size, owner, device: types.SimpleNamespace(ptr=ptr, size=size, _owner=owner),
        MemoryPointer=lambda memory, offset: types.SimpleNamespace(mem=memory, ptr=memory.ptr + offset),
    )
    cupy = types.SimpleNamespace(ndarray=Array, asarray=asarray, from_dlpack=from_dlpack, cuda=cuda)
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


def test_from_dlpack(asked):
    array = make()
    assert gb.from_dlpack(Foreign(array, True)).array is array
    assert asked == ["from_dlpack"]
    with pytest.raises(gb.ExchangeError, match=r"does not lend its memory \(it requires a gradient\)"):
        gb.from_dlpack(Foreign(make(dtype="u1"), True))
    copied = gb.from_dlpack(Foreign(array, True), copy=True).array
    assert not np.shares_memory(copied, array)


@pytest.mark.parametrize("dlpack", [True, False])
def test_what_another_library_takes_for_constant_stays_so(asked, dlpack):
    """Its memory remembers, for views have the same; a view that repeats elements shows it by its strides."""
    array = make()
    found = gb.asarray(Foreign(array, dlpack, constant=True)).array
    assert found.data.ptr == array.address
    assert found.data.mem._owner.owner.size == 1024  # kept alive

    def view(place: Any, strides: tuple[int, int], shape: tuple[int, int] = (2, 3)) -> Any:
        return types.SimpleNamespace(shape=shape, size=math.prod(shape), strides=strides, data=place)

    assert not borrowed.is_writable(view(found.data, (12, 4)))
    assert borrowed.is_writable(view(array.data, (12, 4)))
    assert not borrowed.is_writable(view(array.data, (0, 4)))
    assert not borrowed.is_constant(view(array.data, (0, 4)))  # whoever reads it sees that it repeats
    assert borrowed.is_writable(view(array.data, (0, 4), (2, 0)))  # as CuPy lays out what has no elements


def test_who_cannot_say_lends_for_reading(asked):
    """By DLPack alone; but PyTorch's array interface raises for what it does not describe."""
    silent = Foreign(make(), True)
    del silent.__cuda_array_interface__
    assert isinstance(gb.asarray(silent).array.data.mem._owner, borrowed.ReadOnly)
    silent.__array__ = lambda *_, **__: pytest.fail("copied through the CPU")  # JAX's of bfloat16 have it
    assert isinstance(gb.asarray(silent).array.data.mem._owner, borrowed.ReadOnly)
    torch = Foreign(make(), True)
    torch.__cuda_array_interface__ = {}
    assert not isinstance(gb.asarray(torch).array.data.mem._owner, borrowed.ReadOnly)


def test_cupys_view_of_a_tensor_that_may_only_be_read(asked, gpu):
    """CuPy takes the memory of a Tensor without its flag; a Tensor made of that looks for the owner."""
    lent = make()
    lent.flags.writeable = False
    for owner, constant in ((gb.Tensor(lent, gpu), True), (gb.Tensor(make(), gpu), False), (None, False)):
        array = make()
        array.place = types.SimpleNamespace(
            ptr=array.address, mem=types.SimpleNamespace(ptr=array.address, size=24, device_id=1, _owner=owner)
        )
        assert isinstance(gb.asarray(array).array.data.mem._owner, borrowed.ReadOnly) is constant


@pytest.mark.parametrize("dlpack", [True, False])
def test_copy_false_shares(asked, gpu, dlpack, monkeypatch):
    monkeypatch.setattr(devices, "device", lambda name: gpu)
    array = make(Array.address + 64)
    for data in (array, Foreign(array, dlpack)):
        assert gb.asarray(data, copy=False).array.data.ptr == array.address
    elsewhere = gb.Tensor(make(), gpu)  # as where the dtype had to change
    for data in (array, Foreign(array, dlpack), np.ones((2, 3), "f4"), [[1.0] * 3] * 2):
        assert not shares(elsewhere, data)


def test_what_cupy_has_no_dtype_for(asked):
    with pytest.raises(DTypeError, match=r"does not become an array of CuPy's \(complex32\)"):
        gb.asarray(Foreign(make(dtype="c8"), True))


class Lent(np.ndarray):
    """A CuPy array, as far as one lends it; a call gives what it was asked for."""

    def __dlpack__(self, **how: Any) -> Any:  # type: ignore[override]
        return self, how


@pytest.fixture
def gpu() -> devices.Device:
    """A device of a backend on a GPU that never was."""
    backend = devices.device("cpu").backend
    stand_in = types.SimpleNamespace(
        xp=types.SimpleNamespace(ndarray=Lent), dlpack_device=(2, 1), native=None, functions={"copy": np.ndarray.copy},
        run=backend.run, to_host=np.asarray, is_writable=backend.is_writable,
    )  # fmt: skip
    return devices.Device("cuda:1", stand_in)  # type: ignore[arg-type]


def test_a_tensor_on_a_gpu_lends_what_cupy_lends(gpu):
    t = gb.Tensor(np.ones(3).view(Lent), gpu)
    assert t.__dlpack_device__() == (2, 1)
    array, how = t.__dlpack__(stream=7, max_version=(1, 0))
    assert array is t.array
    assert how == {"stream": 7, "max_version": (1, 0)}
    assert t.__dlpack__(dl_device=(2, 1))[1] == {"dl_device": (2, 1)}
    assert t.__dlpack__(dl_device=(1, 0))[1] == {"dl_device": (1, 0)}  # CuPy copies
    assert not np.shares_memory(t.__dlpack__(copy=True)[0], t.array)
    with pytest.raises(BufferError, match="copy=False for a Tensor on cuda:1: the CPU cannot read it"):
        t.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(gb.ExchangeError, match=r"ask for \(2, 1\) or \(1, 0\)"):
        t.__dlpack__(dl_device=(2, 0))


def test_what_requires_grad_on_a_gpu_is_copied(gpu):
    t = gb.Tensor(np.ones(3).view(Lent), gpu).requires_grad_()
    assert not np.shares_memory(t.__dlpack__()[0], t.array)
    with pytest.raises(gb.ExchangeError, match=r"its reader might write into it; use t\.detach\(\)"):
        t.__dlpack__(copy=False)
    assert t.detach().__dlpack__(copy=False)[0] is t.array


def test_what_may_only_be_read_on_a_gpu_is_copied(gpu):
    array = np.ones(3).view(Lent)
    array.flags.writeable = False
    t = gb.Tensor(array, gpu)
    assert not np.shares_memory(t.__dlpack__()[0], array)
    with pytest.raises(gb.ExchangeError, match=r"memory that may only be read; use t\.copy\(\)"):
        t.__dlpack__(copy=False)


def test_the_cuda_array_interface(gpu):
    assert gb.Tensor(make(), gpu).__cuda_array_interface__ == {"data": (Array.address, False)}
    constant = make()
    constant.flags.writeable = False
    assert gb.Tensor(constant, gpu).__cuda_array_interface__ == {"data": (Array.address, True)}
    assert not hasattr(gb.Tensor(make(), gpu).requires_grad_(), "__cuda_array_interface__")
    assert not hasattr(gb.ones(3), "__cuda_array_interface__")
