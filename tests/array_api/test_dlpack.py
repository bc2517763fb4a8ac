"""DLPack: who shares memory, who copies, and what is refused."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

CPU = (1, 0)


def shares(a: Any, b: Any) -> bool:
    return np.shares_memory(np.asarray(a), np.asarray(b))


class Capsule:
    """What a reader gets from a Tensor that it asks in its own way."""

    def __init__(self, t: gb.Tensor, **how: Any):
        self.capsule = t.__dlpack__(**how)

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


class Owner:
    """Another library's array, of the protocol as it was (`new` False) or is."""

    def __init__(self, array: np.ndarray, new: bool = True, kind: int = 1, lends: bool = True):
        self.array, self.new, self.kind, self.lends = array, new, kind, lends
        self.asked: list[dict[str, Any]] = []

    def __dlpack__(self, **how: Any) -> Any:
        self.asked.append(how)
        if not self.new and set(how) - {"stream"}:
            raise TypeError("unexpected keyword")
        if not self.lends:
            raise BufferError("it requires a gradient")
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.kind, 0)


@pytest.mark.parametrize("how", [{}, {"max_version": (1, 0)}, {"max_version": (0, 8), "dl_device": CPU}])
def test_a_tensor_lends_its_memory(how: dict[str, Any], device: str) -> None:
    t = gb.arange(6.0).reshape((2, 3)).T
    if device == "cuda":
        pytest.skip("tests/gpu has it")
    assert t.__dlpack_device__() == CPU
    theirs = np.from_dlpack(Capsule(t, **how))
    assert shares(theirs, t.numpy())
    assert theirs.strides == t.numpy().strides
    assert not shares(np.from_dlpack(Capsule(t, copy=True, **how)), t.numpy())
    assert shares(np.from_dlpack(Capsule(t, copy=False, **how)), t.numpy())


def test_read_only_memory_is_lent_as_such_or_copied() -> None:
    t = gb.ones(1).broadcast_to((3,))
    theirs = np.from_dlpack(Capsule(t, max_version=(1, 0)))
    assert shares(theirs, t.numpy())
    assert not theirs.flags.writeable
    assert not shares(np.from_dlpack(Capsule(t)), t.numpy())
    with pytest.raises(gb.ExchangeError, match=r"read-only memory, which only DLPack 1\.0 can tell"):
        t.__dlpack__(copy=False)


def test_what_requires_grad_is_copied() -> None:
    t = gb.ones(3).requires_grad_()
    assert not shares(np.from_dlpack(Capsule(t, max_version=(1, 0))), t.numpy())
    with pytest.raises(gb.ExchangeError, match=r"its reader might write into it; use t\.detach\(\)"):
        t.__dlpack__(copy=False)
    assert shares(np.from_dlpack(Capsule(t.detach(), copy=False)), t.numpy())


def test_what_a_tensor_does_not_lend() -> None:
    class Kind(IntEnum):
        CPU = 1
        METAL = 8

    t = gb.ones(2)
    assert t.__dlpack__(dl_device=(Kind.CPU, 0)) is not None
    with pytest.raises(gb.ExchangeError, match=r"for a Tensor on cpu; ask for \(1, 0\)"):
        t.__dlpack__(dl_device=(Kind.METAL, 0))
    with pytest.raises(BufferError, match="stream=1 on cpu, which has no streams"):
        t.__dlpack__(stream=1)
    with pytest.raises(gb.ExchangeError, match=r"bfloat16\[2\]"):
        gb.ones(2, dtype="bfloat16").__dlpack__()


@pytest.mark.parametrize("new", [True, False])
def test_a_tensor_of_foreign_memory(new: bool) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = gb.from_dlpack(Owner(array, new))
    assert t.device == "cpu"
    assert shares(t.numpy(), array)
    assert shares(gb.from_dlpack(Owner(array, new), copy=False).numpy(), array)
    copied = gb.from_dlpack(Owner(array, new), copy=True)
    assert not shares(copied.numpy(), array)
    if new:  # NumPy takes what the old protocol lends for read-only
        t[0, 0] = 7
        assert array[0, 0] == 7
    assert gb.asarray(Owner(array, new), device="cpu").tolist() == array.tolist()


def test_foreign_memory_that_is_read_only() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    t = gb.from_dlpack(Owner(array))
    assert shares(t.numpy(), array)
    with pytest.raises(gb.ShapeError, match="read-only"):
        t += 1


def test_on_another_device(device: str) -> None:
    array = np.arange(3.0)
    t = gb.from_dlpack(Owner(array), device=device)
    assert t.device == device
    assert t.tolist() == [0, 1, 2]
    ours = gb.asarray(array, device=device, copy=True)
    again = gb.from_dlpack(ours)
    assert again.device == device
    again += 1
    assert ours.tolist() == [1, 2, 3]
    assert gb.from_dlpack(ours, copy=True).array is not ours.array
    assert gb.from_dlpack(ours, device="cpu").device == "cpu"


def test_what_does_not_lend() -> None:
    with pytest.raises(gb.ExchangeError, match=r"the Owner does not lend its memory \(it requires a gradient\)"):
        gb.from_dlpack(Owner(np.ones(2), lends=False))
    with pytest.raises(ValueError, match="of DLPack's device type 8 cannot be used here"):
        gb.from_dlpack(Owner(np.ones(2), kind=8))
    with pytest.raises(gb.DTypeError, match=r"a list has no __dlpack_device__; use gb\.asarray"):
        gb.from_dlpack([1, 2])
    with pytest.raises(gb.ExchangeError, match="longdouble"):
        gb.from_dlpack(np.ones(2, np.longdouble))


def test_an_owner_elsewhere_may_copy_to_the_cpu() -> None:
    owner = Owner(np.arange(3.0), kind=8)
    assert gb.from_dlpack(owner, device="cpu").tolist() == [0, 1, 2]
    assert owner.asked[-1]["dl_device"] == CPU


def test_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="the peer is not installed")
    theirs = torch.arange(6, dtype=torch.float32).reshape(2, 3).T
    ours = gb.from_dlpack(theirs)
    ours[0, 0] = 9
    assert theirs[0, 0] == 9
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr()
    assert back.stride() == theirs.stride()
    assert torch.from_dlpack(gb.ones(2, dtype="complex64").requires_grad_()).tolist() == [1, 1]


def test_jax() -> None:
    jax = pytest.importorskip("jax", reason="the peer is not installed")
    ours = gb.from_dlpack(jax.numpy.arange(4.0))
    assert ours.tolist() == [0, 1, 2, 3]
    assert jax.dlpack.from_dlpack(gb.ones(3) * 2).tolist() == [2, 2, 2]


def test_asarray_without_a_copy() -> None:
    array = np.ones(3)
    assert shares(gb.asarray(array, copy=False).numpy(), array)
    buffer = gb.asarray(memoryview(array), copy=False)
    assert shares(buffer.numpy(), array)
    assert buffer.dtype == gb.float64
    t = gb.ones(2)
    assert gb.asarray(t, copy=False) is t
    for call in (
        lambda: gb.asarray([1.0], copy=False),
        lambda: gb.asarray(1.0, copy=False),
        lambda: gb.asarray(array, dtype="float32", copy=False),
        lambda: gb.asarray(t, dtype="float64", copy=False),
    ):
        with pytest.raises(gb.DataError, match=r"copy=False, but a .* has to be copied here"):
            call()


def test_to_device(device: str) -> None:
    t = gb.ones(3, device="cpu").requires_grad_()
    moved = t.to_device(device)
    assert moved.device == device
    assert moved.to_device(gb.device("cpu"), stream=None).tolist() == [1, 1, 1]
    moved.sum().backward()
    assert t.grad.tolist() == [1, 1, 1]
    if device != "cuda":
        with pytest.raises(gb.DeviceError, match="has no streams; pass stream=None, not 1"):
            t.to_device(device, stream=1)


def test_a_captured_function_cannot_lend() -> None:
    with pytest.raises(gb.CaptureError, match="a value is needed in Python"):
        gb.capture(lambda x: x + np.from_dlpack(x).sum())(gb.ones(2))
