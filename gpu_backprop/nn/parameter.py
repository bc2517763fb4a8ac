"""Parameter: a Tensor that a Module owns and an optimiser updates."""

from __future__ import annotations

from typing import Any

from ..core import devices, dtypes
from ..core.tensor import Tensor, asarray


class Parameter(Tensor):
    """A leaf Tensor that requires grad; an attribute of a Module that is one is found by `parameters()`.

    data: a Tensor, whose memory is taken over, or anything that `gb.asarray` takes.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True):
        data = asarray(data)
        super().__init__(data.array, data.device)
        if requires_grad:
            self.requires_grad_()

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # A copy of the values only: an optimiser's buffers and hooks belong to the original.
        copy = memo[id(self)] = Parameter(Tensor(self.array.copy(), self.device), self.requires_grad)
        return copy

    def __reduce__(self) -> Any:
        return _rebuild, (self.numpy().copy(), self.device, self.requires_grad)


def _rebuild(host: Any, device: devices.Device, requires_grad: bool) -> Parameter:
    return Parameter(Tensor(device.backend.from_host(host), device), requires_grad)


def empty(shape: tuple[int, ...], device: Any, dtype: Any) -> Tensor:
    """An uninitialised Tensor; None stands for the default device or float dtype."""
    place = devices.resolve(device)
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return Tensor(place.backend.empty(shape, kind), place)


def rehome(t: Tensor, device: devices.Device, dtype: Any) -> None:
    """Move a Tensor, with its gradient, to a device and (if it is floating) a dtype; the object stays the same.

    An optimiser that held it in a flat buffer notices at its next step.
    """
    target = dtype if dtype is not None and dtypes.is_floating(t.dtype) else t.dtype
    if device is t.device and target == t.dtype:
        return
    array = t.array
    if device is not t.device:
        array = device.backend.from_host(t.device.backend.to_host(array))
    if array.dtype != target:
        array = array.astype(target)
    grad = t.grad
    if grad is not None:
        grad = Tensor(grad.array, grad.device)
        rehome(grad, device, target)
    t._grad = None
    t.array = array
    t.device = device
    t.grad = grad
    t._bump_version()
    if t._extra is not None:
        t._extra.pop("grad_buffer", None)
