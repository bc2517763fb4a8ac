"""DLPack: memory that two array libraries share, handed over in a capsule.

https://data-apis.org/array-api/latest/design_topics/data_interchange.html

The capsules are NumPy's and CuPy's, which know the structure; here is decided who shares, who copies, and what cannot
be had.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..backends import borrowed
from . import devices, dtypes
from .errors import DTypeError, ExchangeError, MissingError
from .modes import modes
from .tensor import Tensor, wrap_cuda

HOST = (1, 0)  # kDLCPU
_HOST_KINDS = (1, 3)  # kDLCPU, kDLCUDAHost (page-locked memory)
_CUDA_KINDS = (2, 13)  # kDLCUDA, kDLCUDAManaged


def lend(
    t: Tensor, stream: Any, max_version: tuple[int, int] | None, dl_device: tuple[Any, int] | None, copy: bool | None
) -> Any:
    """A capsule of the memory of `t`; see Tensor.__dlpack__."""
    own = t.__dlpack_device__()
    asked = own if dl_device is None else _numbers(dl_device)
    if asked not in (own, HOST):
        raise ExchangeError(f"__dlpack__: dl_device={dl_device} for a Tensor on {t.device}; ask for {own} or {HOST}")
    if t.requires_grad:  # a reader's write would go unseen by the tape, and not all heed DLPack's read-only flag
        if copy is False:
            raise ExchangeError(
                "__dlpack__: copy=False for a Tensor that requires grad: its reader might write into it; use t.detach()"
            )
        copy = True
    backwards = any(step < 0 for step in t.array.strides)  # PyTorch ends the process over negative strides
    if backwards and copy is False:
        raise ExchangeError("__dlpack__: copy=False for negative strides, which not every reader takes; use t.copy()")
    copy = True if backwards else copy
    if own == HOST:
        if stream is not None:
            raise ExchangeError(f"__dlpack__: stream={stream!r} on {t.device}, which has no streams; pass None")
        return _lend_host(t.detach().numpy(), max_version, copy)
    if modes.recorder is not None:
        modes.recorder.needs_value("memory is handed to another library")
    if copy is False and asked == HOST:
        raise ExchangeError(f"__dlpack__: copy=False for a Tensor on {t.device}: the CPU cannot read it")
    array = t.array
    if asked != HOST and not t.device.backend.is_writable(array):  # which CuPy's DLPack cannot tell
        if copy is False:
            raise ExchangeError("__dlpack__: copy=False for memory that may only be read; use t.copy()")
        copy = True
    if asked != HOST and copy:
        array = t.device.functions["copy"](array)
    more = {"stream": stream, "max_version": max_version, "dl_device": dl_device and asked}
    given = {name: value for name, value in more.items() if value is not None}
    # by `run`, behind whatever another stream still does to the array
    return t.device.backend.run(lambda array: array.__dlpack__(**given), [array], {})


def cuda_interface(t: Tensor) -> dict[str, Any]:
    """https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html"""
    if t.__dlpack_device__() == HOST or t.requires_grad:
        raise MissingError("__cuda_array_interface__: only of a Tensor on a GPU that does not require grad")
    if modes.recorder is not None:
        modes.recorder.needs_value("memory is handed to another library")
    interface = t.device.backend.run(lambda array: array.__cuda_array_interface__, [t.array], {})
    return interface | {"data": (interface["data"][0], borrowed.is_constant(t.array))}


def _lend_host(array: np.ndarray, max_version: tuple[int, int] | None, copy: bool | None) -> Any:
    if not array.flags.writeable and not copy and (max_version is None or max_version[0] < 1):
        if copy is False:
            raise ExchangeError(
                "__dlpack__: read-only memory, which only DLPack 1.0 can tell; ask with max_version=(1, 0), or "
                "leave copy=False out"
            )
        array = array.copy()
    try:
        return array.__dlpack__(max_version=max_version, copy=copy)
    except BufferError as error:
        raise ExchangeError(f"__dlpack__: {array.dtype}{list(array.shape)}: {error}; use t.astype first") from None


def borrow(x: Any, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor of the memory of `x`; see array_api's from_dlpack."""
    target = None if device is None else devices.device(device)
    if isinstance(x, Tensor):
        return _settle(x.detach(), target, copy)
    if not hasattr(x, "__dlpack_device__"):
        raise DTypeError(f"from_dlpack: a {type(x).__name__} has no __dlpack_device__; use gb.asarray")
    kind, index = _numbers(x.__dlpack_device__())
    if kind in _HOST_KINDS:
        return _settle(Tensor(_borrow_host(x, None, copy), devices.device("cpu")), target, copy)
    if target is not None and target.backend.dlpack_device == HOST and copy is not False:
        try:  # some owners copy to the CPU themselves
            return _settle(Tensor(_borrow_host(x, "cpu", copy), devices.device("cpu")), target, None)
        except ExchangeError:
            if kind not in _CUDA_KINDS:
                raise
    if kind not in _CUDA_KINDS:
        raise ExchangeError(f"from_dlpack: memory of DLPack's device type {kind} cannot be used here; copy it to a CPU")
    devices.device(f"cuda:{index}")  # says what is missing, if it cannot be used
    return _settle(wrap_cuda(x), target, copy)


def has_dlpack_alone(x: Any) -> bool:
    """Is DLPack the way to an array that has it: no NumPy array can be had, or only by a copy from a GPU?"""
    if not hasattr(x, "__array__"):
        return True
    try:
        return _numbers(x.__dlpack_device__())[0] in _CUDA_KINDS
    except Exception:  # of JAX's tracers, which have no device; NumPy's way says it better
        return False


def _borrow_host(x: Any, move: Literal["cpu"] | None, copy: bool | None) -> np.ndarray:
    try:
        try:
            array = np.from_dlpack(x, device=move, copy=copy)
        except TypeError:  # of an owner that knows neither argument: it shares
            array = np.from_dlpack(x)
            array = array.copy() if copy else array
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ExchangeError(
            f"from_dlpack: the {type(x).__name__} does not lend its memory ({error}); give a copy, another "
            "dtype (float32 for bfloat16), or its NumPy array"
        ) from None
    dtypes.as_dtype(array.dtype)
    return array


def _settle(t: Tensor, target: devices.Device | None, copy: bool | None) -> Tensor:
    """`t` where it is wanted, in memory of its own or not."""
    if target is None or target is t.device:
        return t.copy().detach() if copy else t
    array = target.backend.from_host(t.device.backend.to_host(t.array), copy=bool(copy))
    if copy is False and array is not t.array:
        raise ExchangeError(f"from_dlpack: copy=False, but memory on {t.device} is not on {target}; leave copy out")
    return Tensor(array, target)


def _numbers(dl_device: Any) -> tuple[int, int]:
    kind, index = dl_device
    return int(getattr(kind, "value", kind)), int(index)
