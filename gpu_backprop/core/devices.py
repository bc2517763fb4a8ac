"""Devices: names for backends, the default device, and moving the default for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..backends.base import Backend, Functions
from .errors import AllocationError, DeviceError


def check_size(name: str, shape: tuple[int, ...], itemsize: int, device: Device) -> None:
    """Raise AllocationError where an operation is asked for an array larger than its device's memory.

    Before anything is allocated: a system that promises more memory than it has ends the process that uses it.
    """
    size = itemsize
    for n in shape:
        size *= n or 1  # array modules refuse such shapes of empty arrays too
    if size > device.backend.memory and (size >= 1 << 63 or 0 not in shape):
        raise AllocationError(
            f"{name}: an array of shape {list(shape)} takes {size / 2**30:.3g} GiB, {device} has "
            f"{device.backend.memory / 2**30:.3g}; make it smaller, or work in parts"
        )


class Tables(NamedTuple):
    """What a Device hands out: its backend, and the backend's tables of functions."""

    functions: Functions
    native: Functions
    backend: Backend


class Device:
    """A place that arrays live on: "cpu", "cuda", "cuda:1" or "emulated".

    One object a name, so that devices compare by identity; equal to their names. As a context manager it is the
    default device of this thread inside the block.

    plain: the backend's own tables. functions, native, backend: the same, or what layers (see `layer`) made of them.
    """

    __slots__ = ("array_type", "backend", "functions", "name", "native", "plain")

    name: str
    backend: Backend
    functions: Functions
    native: Functions
    array_type: type

    def __init__(self, name: str, backend: Backend):
        self.name = name
        self.plain = Tables(backend.functions, backend.native or backend.functions, backend)
        self.functions, self.native, self.backend = self.plain
        self.array_type = backend.xp.ndarray

    def __repr__(self) -> str:
        return f"device({self.name!r})"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, str) and self.name == _canonical(other))

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Callable[..., Device], tuple[str]]:
        return device, (self.name,)

    def __enter__(self) -> Device:
        _local.stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _local.stack.pop()


class _Local(threading.local):
    def __init__(self) -> None:
        self.stack: list[Device] = []


_local = _Local()
_known: dict[str, Device] = {}
_default: Device | None = None
_lock = threading.Lock()


def _canonical(name: str) -> str:
    return "cuda" if name == "cuda:0" else name


def _make_backend(name: str) -> Backend:
    if name == "cpu":
        from ..backends import cpu

        return cpu.CpuBackend()
    if name == "emulated":
        from ..backends import emulated

        return emulated.backend()
    kind, _, index = name.partition(":")
    if kind == "cuda" and (index == "" or index.isdigit()):
        from ..backends import cuda

        return cuda.cuda_backend(int(index or 0))
    raise DeviceError(f'device: {name!r} is not a device; use "cpu", "cuda", "cuda:1" or "emulated"')


def device(spec: Any) -> Device:
    """The device that `spec` (a name or a Device) stands for, ready to use.

    Raises DeviceError when the name is unknown, or when CuPy, the driver, the GPU or the host compiler is missing.
    """
    if isinstance(spec, Device):
        return spec
    if not isinstance(spec, str):
        raise DeviceError(f'device: {spec!r} is not a device; use "cpu", "cuda", "cuda:1" or "emulated"')
    name = _canonical(spec)
    found = _known.get(name)
    if found is None:
        with _lock:
            found = _known.get(name)
            if found is None:
                found = Device(name, _make_backend(name))
                with _dressing:
                    _known[name] = found
                    _dress(found)
    return found


def default_device() -> Device:
    """The device of new arrays: CUDA when CuPy finds a usable GPU, else the CPU; GPU_BACKPROP_DEVICE overrides."""
    global _default
    if _local.stack:
        return _local.stack[-1]
    if _default is None:
        name = os.environ.get("GPU_BACKPROP_DEVICE")
        if not name:
            from ..backends import cuda

            name = "cuda" if cuda.cuda_status()[0] else "cpu"
        try:
            _default = device(name)
        except DeviceError as error:
            if "GPU_BACKPROP_DEVICE" not in os.environ:
                raise
            raise DeviceError(f"GPU_BACKPROP_DEVICE={name!r}: {error}") from None
    return _default


def chosen() -> Device | None:
    """The default device as far as somebody chose or asked for it; nothing is looked for."""
    return _local.stack[-1] if _local.stack else _default


def set_default_device(spec: Any) -> None:
    """Make `spec` the device of new arrays, in all threads."""
    global _default
    _default = device(spec)


def resolve(spec: Any) -> Device:
    """`spec` as a Device; None stands for the default device."""
    return default_device() if spec is None else device(spec)


def devices() -> list[str]:
    """The names of the devices that can be used here."""
    from ..backends import cuda, emulated

    count = cuda.cuda_status()[0]
    names = ["cpu", *("cuda" if i == 0 else f"cuda:{i}" for i in range(count))]
    return [*names, "emulated"] if emulated.available()[0] else names


def known() -> list[Device]:
    """The devices that were used."""
    return list(_known.values())


# layers --------------------------------------------------------------------------------------------------------------

Dress = Callable[[Device, Tables], Tables]
_layers: list[list[Dress]] = []  # the innermost first
_dressing = threading.Lock()


@contextmanager
def layer(dress: Dress) -> Iterator[None]:
    """Inside the block all devices hand out what `dress(device, tables)` makes of their tables.

    Layers lie over each other as they came. Each goes with its own block, in whatever order the blocks of several
    threads end; with the last one the tables are the backends' own again.
    """
    entry = [dress]  # one that can be told from all others
    with _dressing:
        _layers.append(entry)
        _dress(*_known.values())
    try:
        yield
    finally:
        with _dressing:
            _layers[:] = [e for e in _layers if e is not entry]
            _dress(*_known.values())


def _dress(*devices: Device) -> None:
    for device in devices:
        tables = device.plain
        for (dress,) in _layers:
            tables = dress(device, tables)
        device.functions, device.native, device.backend = tables


def synchronize(spec: Any = None) -> None:
    """Wait until all work on a device (the default one unless named) is done; its errors surface here."""
    resolve(spec).backend.synchronize()
