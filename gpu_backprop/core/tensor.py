"""Tensor: an array on a device, its gradient, and its place on the tape."""

from __future__ import annotations

import importlib
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import borrowed
from ..ops import elementwise as ew
from ..ops import indexing, linalg, movement, reduction
from . import devices, dtypes
from .errors import DataError, DeviceError, DTypeError, ExchangeError, ShapeError, ShapeIndexError, TapeError
from .modes import Attributes, modes

_new = object.__new__


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    Made by `gb.tensor` and the creation functions, and by every operation. Arithmetic, comparison and indexing
    follow NumPy; gradients flow through all of them to the Tensors made with `requires_grad=True`.
    """

    __slots__ = ("__weakref__", "_extra", "_grad", "_version_cell", "array", "device", "node", "requires_grad")

    array: Any  # the raw array of the device's backend
    device: devices.Device
    node: Any  # tape.Node that made it; None for a leaf
    requires_grad: bool
    _grad: Tensor | None
    _version_cell: list[int] | None  # counts in-place writes; shared with views, made when first wanted
    _extra: dict[str, Any] | None  # hooks, grad_buffer

    # put here by numpy_api/methods.py
    __array_function__: Callable[..., Any]
    __array_ufunc__: Callable[..., Any]
    argsort: Callable[..., Tensor]
    clip: Callable[..., Tensor]
    conj: Callable[..., Tensor]
    cumprod: Callable[..., Tensor]
    cumsum: Callable[..., Tensor]
    diagonal: Callable[..., Tensor]
    dot: Callable[..., Tensor]
    fill: Callable[..., None]
    flatten: Callable[..., Tensor]
    imag: Tensor
    nonzero: Callable[..., tuple[Tensor, ...]]
    ravel: Callable[..., Tensor]
    real: Tensor
    repeat: Callable[..., Tensor]
    round: Callable[..., Tensor]
    searchsorted: Callable[..., Tensor]
    sort: Callable[..., None]
    swapaxes: Callable[..., Tensor]
    take: Callable[..., Tensor]
    trace: Callable[..., Tensor]

    def __init__(self, array: Any, device: devices.Device):
        self.array = array
        self.device = device
        self.node = self._grad = self._version_cell = self._extra = None
        self.requires_grad = False

    # what it is ------------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def __len__(self) -> int:
        if not self.array.ndim:
            raise DTypeError("len: a scalar array has no length; use t.item() for its value")
        return self.array.shape[0]

    def __repr__(self) -> str:
        return _representation(self)

    def __str__(self) -> str:
        return str(self.device.backend.to_host(self.array))

    def __format__(self, spec: str) -> str:
        if spec and not self.ndim:
            return format(self.item(), spec)
        try:
            return format(str(self), spec)
        except ValueError:
            raise DTypeError(
                f"format: {spec!r} is for one number, not for shape {list(self.shape)}; use gb.printoptions, or t[i]"
            ) from None

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        if self.node is not None:
            raise TapeError(
                f"pickle, copy: a Tensor computed by {_maker(self.node)!r} cannot leave the tape that holds its "
                "gradient; use t.detach(), or t.copy(), which is recorded"
            )
        return _restored, (self.device.backend.to_host(self.array), self.device, self.requires_grad, self.grad)

    # values in Python ------------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: on the CPU the same memory (read-only when grad is required), else a copy."""
        host = self.device.backend.to_host(self.array)
        if self.requires_grad:
            host = host.view()
            host.flags.writeable = False
        return host

    def item(self, *index: Any) -> Any:
        """The one value of a Tensor of size 1, or one at an index (of all, or one an axis): a Python number."""
        if index:
            several = len(index) > 1 or isinstance(index[0], (tuple, list))
            places = reduction.as_integers("item", "index", index if len(index) > 1 else index[0])
            return (self.detach()[places] if several else self.detach().reshape(-1)[places]).item()
        if self.array.size != 1:
            raise ShapeError(f"item: shape {list(self.shape)} holds {self.size} values; use t.numpy() or t.tolist()")
        return self.device.backend.to_host(self.array).item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.device.backend.to_host(self.array).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.device.name.startswith("cuda"):
            raise DTypeError(
                f"numpy.asarray: this Tensor is on {self.device}; call t.numpy() to copy it to the CPU, "
                "or run with GPU_BACKPROP_DEVICE=cpu"
            )
        if self.requires_grad and modes.grad:
            raise TapeError(
                "numpy.asarray: this Tensor requires grad, which its values in a NumPy array would lose unseen; "
                "call t.detach().numpy(), or convert it inside `with gb.no_grad():`"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The module whose functions take this Tensor; DataError for a revision of the standard that is not here."""
        package = __name__.partition(".")[0]
        if api_version in (None, sys.modules[package].__array_api_version__):
            return sys.modules[package]
        if api_version not in ("2021.12", "2022.12", "2023.12", "2024.12"):
            raise DataError(f"__array_namespace__: api_version={api_version!r}; the newest one here is '2025.12'")
        return importlib.import_module(f"{package}.array_api.revision_2024_12")

    def __dlpack__(
        self,
        /,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule of this Tensor's memory, for another library's from_dlpack.

        stream: the reader's stream on CUDA, which will wait for the work under way. max_version: the version of DLPack
        that the reader knows. dl_device: (1, 0) for a copy on the CPU. copy: True for a copy in any case, False for an
        error where one is needed: of what requires grad, so that no write goes unseen by the tape (lend t.detach() to
        share), and of negative strides, which not every reader takes. Raises ExchangeError (a BufferError).
        """
        from .exchange import lend

        return lend(self, stream, max_version, dl_device, copy)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The memory on the GPU, for cupy.asarray, Numba and others.

        A Tensor elsewhere has no such attribute, nor has one that requires grad: lend t.detach(). (CuPy then leaves
        `cupy_array * t` to Tensors, and the gradient is not lost.)
        """
        from .exchange import cuda_interface

        return cuda_interface(self)

    def __dlpack_device__(self, /) -> tuple[int, int]:
        """DLPack's device type (1: CPU, 2: CUDA) and number."""
        return self.device.backend.dlpack_device

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(f"bool: shape {list(self.shape)} holds {self.size} values; use t.any() or t.all()")
        return bool(self.item())

    def __int__(self) -> int:
        return int(self._real_item("int"))

    def __float__(self) -> float:
        return float(self._real_item("float"))

    def _real_item(self, name: str) -> Any:
        value = self.item()
        if isinstance(value, complex):
            raise DTypeError(f"{name}: {value} is a complex number; use gb.real(t), gb.imag(t) or gb.abs(t)")
        return value

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"index: a Tensor of {self.dtype} is not an integer; use t.astype(gb.int64)")
        return int(self.item())

    # moving and casting ----------------------------------------------------------------------------------------------

    def to(self, target: Any) -> Tensor:
        """This Tensor on another device ("cuda", a Device) or in another dtype; itself if it is there already."""
        if isinstance(target, devices.Device) or (isinstance(target, str) and _is_device_name(target)):
            device = devices.device(target)
            if device is self.device:
                return self
            from . import tape

            return tape.transfer(self, device)
        return self.astype(target, copy=False)

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """This Tensor on another device, itself if it is there; `stream`, CuPy's or CUDA's number, to copy on."""
        device = devices.device(device)
        gpu = device if device.backend.dlpack_device != (1, 0) else self.device
        with gpu.backend.on_stream(stream):
            return self.to(device)

    def astype(self, dtype: Any, copy: bool = True) -> Tensor:
        """A copy in another dtype; with `copy=False` itself if it has the dtype already."""
        dtype = dtypes.as_dtype(dtype)
        if self.array.dtype.kind == "c" and dtype.kind not in "cb":
            raise DTypeError(f"astype: {self.dtype} to {dtype} would drop the imaginary part; use gb.real(t) first")
        return self if not copy and dtype == self.array.dtype else movement.astype(self, dtype=dtype)

    def copy(self) -> Tensor:
        """A copy with its own memory, recorded."""
        return movement.copy(self)

    def detach(self) -> Tensor:
        """The same memory, off the tape."""
        if modes.recorder is not None:
            modes.recorder.meets(self)
        out = Tensor(self.array, self.device)
        if self._version_cell is None:
            self._version_cell = [0]
        out._version_cell = self._version_cell
        return out

    def _stem(self) -> Tensor:
        """A Tensor of the same values that a gradient can be asked for: on the tape if this one is, else a new leaf."""
        if self.requires_grad:
            return movement.alias(self)
        out = self.detach()
        out.requires_grad_()
        return out

    # gradients -------------------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` left here; None until written. A non-leaf keeps one after `retain_grad()`."""
        if modes.recorder is not None:
            modes.recorder.consults(self)
        gradient = self._grad
        return gradient.lend() if isinstance(gradient, GradBuffer) else gradient

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if modes.recorder is not None:
            modes.recorder.replace_grads([self])
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad: a {type(value).__name__} is not a Tensor; assign a Tensor or None")
            buffer = self._extra.get("grad_buffer") if self._extra else None
            if buffer is not None and value.array is buffer.array:
                value = buffer  # what `grad` lent out comes back
                assert value is not None
            if value.shape != self.shape:
                raise ShapeError(f"grad: shape {list(value.shape)} for a Tensor of shape {list(self.shape)}")
            if value.device is not self.device:
                raise DeviceError(
                    f"grad: a gradient on {value.device} for a Tensor on {self.device}; use g.to(t.device)"
                )
        self._grad = value

    @property
    def is_leaf(self) -> bool:
        """True when no recorded operation made it."""
        return self.node is None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for gradients of this leaf (or, with False, no longer)."""
        if requires_grad and not dtypes.is_inexact(self.dtype):
            raise DTypeError(f"requires_grad: {self.dtype} has no gradients; use t.astype(gb.float32)")
        if self.node is not None and not requires_grad:
            raise TapeError("requires_grad: a computed Tensor cannot be taken off the tape; use t.detach()")
        self.requires_grad = bool(requires_grad)
        return self

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the derivative of this Tensor with respect to every leaf below it to the leaf's `.grad`.

        gradient: what this Tensor's own gradient is, of its shape; may be left out for a real scalar (then 1).
        retain_graph: keep the tape for another backward. create_graph: record the backward pass, for second
        derivatives. Raises TapeError when nothing was recorded, the tape was freed, or a saved value was overwritten.
        """
        from .tape import backward

        if gradient is not None and not isinstance(gradient, Tensor):
            gradient = tensor(gradient, dtype=self.dtype, device=self.device)
        backward([self], [gradient], retain_graph, create_graph)

    def retain_grad(self) -> None:
        """Keep the gradient of this computed Tensor in `.grad` when backward passes it."""
        if not self.requires_grad:
            raise TapeError("retain_grad: this Tensor does not require grad; nothing will flow through it")
        if self.node is not None:
            self.node.retained = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` when backward has this Tensor's whole gradient; what it returns replaces it.

        Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise TapeError("register_hook: this Tensor does not require grad; nothing will flow through it")
        if self.node is not None:
            if self.node.hooks is None:
                self.node.hooks = []
            hooks = self.node.hooks
        else:
            self._extra = self._extra or {}
            hooks = self._extra.setdefault("hooks", [])

        def remove() -> None:
            if hook in hooks:
                hooks.remove(hook)
                Attributes.mark = object()

        hooks.append(hook)
        Attributes.mark = object()
        return remove

    def _accumulate_grad(self, gradient: Tensor, create_graph: bool) -> None:
        """Add a gradient to `.grad` (the walk calls this).

        The first write goes into the optimiser's flat buffer if there is one; else the Tensor is kept, copied if its
        memory is also someone else's.
        """
        if create_graph:
            self._grad = gradient if self._grad is None else self._grad + gradient
            return
        buffer = self._extra.get("grad_buffer") if self._extra else None
        if modes.recorder is not None:
            modes.recorder.consults(self)
        if self._grad is None:
            if buffer is not None:
                buffer.renew()
                self.device.backend.write(buffer.array, ..., gradient.array)
                self._grad = buffer
            else:
                shared = gradient.array.base is not None or gradient._version_cell is not None or gradient.requires_grad
                copy = self.device.functions["copy"]
                self._grad = Tensor(copy(gradient.array) if shared else gradient.array, self.device)
                gradient._version_cell = self._grad._version_cell = gradient._version_cell or [
                    0
                ]  # a second leaf that is handed it will copy
        elif self._grad is buffer or (modes.recorder is not None and modes.recorder.keeps_grad(self)):
            add = self.device.functions["add"]
            add(self._grad.array, gradient.array, out=self._grad.array)
            self._grad._bump_version()
        else:
            self._grad = (self._grad + gradient).detach()

    # in-place writes -------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """How often the memory was written to in place, through this Tensor or a view of it."""
        return 0 if self._version_cell is None else self._version_cell[0]

    def _bump_version(self) -> None:
        """Count an in-place write."""
        if self._version_cell is None:
            self._version_cell = [1]
        else:
            self._version_cell[0] += 1
        if modes.recorder is not None:
            modes.recorder.bumped(self._version_cell)

    def copy_(self, source: Any) -> Tensor:
        """Overwrite the values in place (off the tape) with those of `source`, broadcast to this shape."""
        if self.requires_grad and modes.grad:
            raise TapeError("copy_: this Tensor requires grad; write inside `with gb.no_grad():`, or use gb.where")
        value = source if isinstance(source, Tensor) else tensor(source, device=self.device)
        self._write("copy_", ..., value.detach().to(self.device).astype(self.dtype, copy=False).array)
        return self

    def _write(self, name: str, index: Any, value: Any) -> None:
        """array[index] = value, counted, and with an array module's complaint as one of ours."""
        if modes.recorder is not None:
            modes.recorder.meets(self)
        backend, shape = self.device.backend, list(self.shape)
        if not backend.is_writable(self.array):
            raise ShapeError(
                f"{name}: assignment destination is read-only (Tensor of shape {shape}); write to a copy (t.copy())"
            )
        try:
            backend.write(self.array, index, value)
        except IndexError as error:
            raise ShapeIndexError(f"{name}: {error} (Tensor of shape {shape})") from error
        except OverflowError as error:
            raise DataError(f"{name}: {error} (Tensor of {self.dtype}); use a wider dtype") from error
        except (ValueError, TypeError) as error:
            raise ShapeError(f"{name}: {error} (Tensor of shape {shape}); make the shapes fit") from error
        self._bump_version()

    def __setitem__(self, index: Any, value: Any) -> None:
        raw = as_operands("item assignment", (self, value))[1]
        if modes.grad and (self.requires_grad or (isinstance(raw, Tensor) and raw.requires_grad)):
            raise TapeError(
                "item assignment: a Tensor that requires grad cannot be written in place; "
                "use gb.where(mask, new, t), or write inside `with gb.no_grad():`"
            )
        template, arrays = split_index(self, index)
        if isinstance(raw, Tensor):
            raw = raw.detach()
            if raw.device is not self.device:
                raise DeviceError(
                    f"item assignment: a value on {raw.device} into a Tensor on {self.device}; use v.to(t.device)"
                )
            raw = raw.array
        found = raw.dtype if hasattr(raw, "dtype") else np.dtype(type(raw))
        if found.kind == "c" and self.dtype.kind != "c":
            raise DTypeError(f"item assignment: {found} into {self.dtype}; use gb.real(v), gb.imag or gb.abs")
        if isinstance(raw, float) and self.dtype.kind in "iu" and not math.isfinite(raw):
            raise DataError(f"item assignment: {raw} is no {self.dtype}; use a float dtype")
        if any(a.device is not self.device for a in arrays):
            raise DeviceError(f"item assignment: an index on another device than {self.device}; use i.to(t.device)")
        self._write("item assignment", indexing.fill(template, tuple(a.array for a in arrays)), raw)

    # indexing --------------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        template, arrays = split_index(self, index)
        if arrays:
            return indexing.gather(self, *arrays, index=template)
        return indexing.view(self, index=template)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise DTypeError("iter: a scalar array cannot be iterated over; use t.item()")
        return (self[i] for i in range(self.shape[0]))

    # shape -----------------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any, order: str = "C") -> Tensor:
        """The same elements in another shape; one length may be -1. order: "C", the last axis fastest, or "F"."""
        target = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        lengths = reduction.as_integers("reshape", "shape", target)
        if isinstance(order, str) and order == "C":
            return movement.reshape(self, shape=lengths)
        reduction.as_choice("reshape", "order", order, ("C", "F"))
        return movement.reshape(self.T, shape=lengths[::-1]).T

    def broadcast_to(self, shape: tuple[int, ...]) -> Tensor:
        """A read-only view with axes of length 1 (and new leading axes) repeated."""
        return self if self.array.shape == tuple(shape) else movement.broadcast_to(self, shape=tuple(shape))

    def permute_dims(self, axes: tuple[int, ...]) -> Tensor:
        """A view with the axes in another order."""
        n = self.ndim
        axes = reduction.as_integers("permute_dims", "axes", axes)
        order = tuple(a % n if n and -n <= a < n else a for a in axes)
        if sorted(order) != list(range(n)):
            raise ShapeError(f"permute_dims: axes {axes} do not name each of the {n} axes of {list(self.shape)} once")
        return movement.permute_dims(self, axes=order)

    def transpose(self, *axes: Any) -> Tensor:
        """A view with the axes reversed, or in the order given."""
        if not axes:
            return movement.permute_dims(self, axes=tuple(range(self.ndim))[::-1])
        return self.permute_dims(axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        if self.ndim < 2:
            raise ShapeError(f"mT: shape {list(self.shape)} has no two axes to exchange")
        return linalg.mT(self)

    def squeeze(self, axis: Any = None) -> Tensor:
        """Without axes of length 1: those named, or all."""
        axes = reduction.normalize_axis("squeeze", axis, self.ndim)
        if axis is None:
            axes = tuple(i for i in axes if self.shape[i] == 1)
        elif any(self.shape[i] != 1 for i in axes):
            raise ShapeError(f"squeeze: axis {axis} of shape {list(self.shape)} is not of length 1")
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if i not in axes))

    # reductions ------------------------------------------------------------------------------------------------------

    # where and initial are as in NumPy: bools that broadcast to this shape, and a number that a reduction begins with

    def sum(
        self, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Tensor:
        """The sum over `axis`; small integers and bools add up as int64 (unsigned as uint64)."""
        return _accumulated(reduction.sum, self, axis, dtype, keepdims, initial, where)

    def prod(
        self, axis: Any = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Tensor:
        """The product over `axis`; small integers and bools multiply as int64 (unsigned as uint64)."""
        return _accumulated(reduction.prod, self, axis, dtype, keepdims, initial, where)

    def mean(self, axis: Any = None, keepdims: bool = False, where: Any = True, *, dtype: Any = None) -> Tensor:
        """The arithmetic mean over `axis`, computed in `dtype` if one is given."""
        if dtype is not None:
            self = in_floats("mean", self, dtype)
        if where is not True:
            return _masked().mean(self, axis, keepdims, where)
        return reduction.reduce(reduction.mean, self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
        """The largest value over `axis`; NaN if there is one. `where` needs `initial`."""
        if where is not True or initial is not None:
            return _masked().reduced(reduction.max, self, axis, keepdims, initial, where)
        return reduction.reduce(reduction.max, self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Tensor:
        """The smallest value over `axis`; NaN if there is one. `where` needs `initial`."""
        if where is not True or initial is not None:
            return _masked().reduced(reduction.min, self, axis, keepdims, initial, where)
        return reduction.reduce(reduction.min, self, axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False, where: Any = True) -> Tensor:
        """True where some value over `axis` is not zero."""
        if where is not True:
            return _masked().reduced(reduction.any, self, axis, keepdims, None, where)
        return reduction.reduce(reduction.any, self, axis, keepdims)

    def all(self, axis: Any = None, keepdims: bool = False, where: Any = True) -> Tensor:
        """True where no value over `axis` is zero."""
        if where is not True:
            return _masked().reduced(reduction.all, self, axis, keepdims, None, where)
        return reduction.reduce(reduction.all, self, axis, keepdims)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Index of the first largest value along `axis` (in C order over all when None)."""
        return reduction.arg_reduce(reduction.argmax, self, axis, keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Index of the first smallest value along `axis` (in C order over all when None)."""
        return reduction.arg_reduce(reduction.argmin, self, axis, keepdims)

    def var(
        self, axis: Any = None, correction: float = 0.0, keepdims: bool = False, *, ddof: Any = None, where: Any = True,
        dtype: Any = None,
    ) -> Tensor:  # fmt: skip
        """The variance over `axis`: squared deviations from the mean, over n - correction (NumPy's word is ddof)."""
        if dtype is not None:
            self = in_floats("var", self, dtype)
        if ddof is not None and reduction.as_real("var", "correction", correction):
            raise DataError(f"var: correction={correction} and ddof={ddof} are one thing; give one of them")
        freedom = reduction.as_real("var", "correction", correction if ddof is None else ddof)
        if where is not True:
            return _masked().var(self, axis, freedom, keepdims, where)
        return reduction.reduce(reduction.var, self, axis, keepdims, correction=freedom)

    def std(
        self, axis: Any = None, correction: float = 0.0, keepdims: bool = False, *, ddof: Any = None, where: Any = True,
        dtype: Any = None,
    ) -> Tensor:  # fmt: skip
        """The standard deviation over `axis`: the square root of `var`."""
        return ew.sqrt_of_variance(self.var(axis, correction, keepdims, ddof=ddof, where=where, dtype=dtype))

    # operators -------------------------------------------------------------------------------------------------------

    __pos__ = copy
    if TYPE_CHECKING:  # core/operators.py makes them

        def _unary(self) -> Tensor: ...
        def _binary(self, other: Any) -> Tensor: ...

        __abs__ = __neg__ = __invert__ = _unary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = _binary
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _binary
        __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __rand__ = __ror__ = __rxor__ = __rlshift__ = _binary
        __rrshift__ = __iand__ = __ior__ = __ixor__ = __ilshift__ = __irshift__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = _binary

        def __eq__(self, other: object) -> Any: ...
        def __ne__(self, other: object) -> Any: ...


class GradBuffer(Tensor):
    """A place in an optimiser's flat gradient buffer, where backward writes a leaf's gradient over the last one.

    Users see it through a Tensor that is lent to them. One that they still hold when the next gradient comes gets its
    own copy of the old values first, so that a gradient which was kept stays what it was.
    """

    __slots__ = ("lent",)

    lent: weakref.ref[Tensor] | None

    def __init__(self, array: Any, device: devices.Device):
        super().__init__(array, device)
        self.lent = None

    def lend(self) -> Tensor:
        """A Tensor of this memory."""
        known = None if self.lent is None else self.lent()
        if known is None:
            known = self.detach()
            self.lent = weakref.ref(known)
        return known

    def renew(self) -> None:
        """Part from what was lent out; called before a new gradient is written."""
        known = None if self.lent is None else self.lent()
        if known is not None:
            known.array = self.device.plain.functions["copy"](known.array)  # a replay renews by itself
            known._version_cell = [known.version]
            self._version_cell = None
        self.lent = None
        self._bump_version()
        if modes.recorder is not None:
            modes.recorder.renewed.append(self)


# ---------------------------------------------------------------------------------------------------------------------
# helpers of the methods


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product, vectors and batches included; see array_api.linear_algebra.matmul."""
    x, y = as_operands("matmul", (x, y))
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)) or not x.ndim or not y.ndim:
        raise ShapeError("matmul: an operand is a scalar; use * instead")
    left = x.reshape((1, *x.shape)) if x.ndim == 1 else x
    right = y.reshape((*y.shape, 1)) if y.ndim == 1 else y
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: {list(x.shape)} @ {list(y.shape)}: the last axis of the left ({left.shape[-1]}) "
            f"and the {'only' if y.ndim == 1 else 'second last'} axis of the right ({right.shape[-2]}) must be equal"
        )
    out = linalg.matmul(left, right)
    if x.ndim == 1:
        out = out.reshape((*out.shape[:-2], out.shape[-1]))
    return out.reshape(out.shape[:-1]) if y.ndim == 1 else out


def accumulating(x: Tensor, dtype: Any) -> Tensor:
    """`x` in the dtype that its sums and products have."""
    if dtype is not None:
        return x.astype(dtype, copy=False)
    kind = x.dtype.kind
    if kind in "bi":
        return x.astype(dtypes.int64, copy=False)
    return x.astype(dtypes.uint64, copy=False) if kind == "u" else x


def in_floats(name: str, x: Any, dtype: Any) -> Tensor:
    """`x` in a float or complex dtype, if one is given."""
    if dtype is not None and not dtypes.is_inexact(dtypes.as_dtype(dtype)):
        raise DTypeError(f"{name}: dtype {dtypes.as_dtype(dtype)} is neither float nor complex; cast the result")
    return asarray(x, dtype=dtype)


def _accumulated(primitive: Any, x: Tensor, axis: Any, dtype: Any, keepdims: bool, initial: Any, where: Any) -> Tensor:
    x = accumulating(x, dtype)
    if where is not True or initial is not None:
        out = _masked().reduced(primitive, x, axis, keepdims, initial, where)
    else:
        out = reduction.reduce(primitive, x, axis, keepdims)
    return out.astype(x.dtype, copy=False)  # NumPy and CuPy widen small integers even if asked for them


def _masked() -> Any:
    from . import masked  # which is made of Tensors

    return masked


def split_index(x: Tensor, index: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """An index as a template with Holes and the index arrays that go into them (see ops/indexing.py)."""
    arrays: list[Tensor] = []
    template: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if part is None or part is Ellipsis:
            template.append(part)
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            template.append(int(part))
        elif isinstance(part, slice):
            bounds = (part.start, part.stop, part.step)
            template.append(
                slice(*(v if v is None else reduction.as_integers("index", "slice bound", v)[0] for v in bounds))
            )
        else:
            array = part if isinstance(part, Tensor) else _index_array(part, x.device)
            if array.dtype.kind not in "biu":
                raise DTypeError(f"index: an array of {array.dtype} cannot index; use integers, bools or slices")
            template.append(indexing.Hole(len(arrays)))
            arrays.append(array)
    return tuple(template), arrays


def _index_array(part: Any, device: devices.Device) -> Tensor:
    if isinstance(part, (list, tuple)) and not part:
        return tensor(part, dtype=dtypes.int64, device=device)
    if isinstance(part, (list, tuple, np.ndarray, bool, np.bool_)) or hasattr(part, "__array__"):
        return tensor(part, device=device)
    raise ShapeIndexError(f"index: {part!r} cannot index; use integers, slices, None, ..., masks or integer arrays")


def _is_device_name(name: str) -> bool:
    return name in ("cpu", "emulated") or name.partition(":")[0] == "cuda"


def _representation(t: Tensor) -> str:
    host = t.device.backend.to_host(t.array)
    notes = [np.array2string(host, separator=", ", prefix="tensor(")]
    summarized = host.size > np.get_printoptions()["threshold"]
    if summarized or (not host.size and host.shape != (0,)):  # as NumPy's
        notes.append(f"shape={host.shape}")
    default = dtypes.get_default_dtype()
    if t.dtype not in (default, dtypes.complex_of(default), dtypes.int64, dtypes.bool_):
        notes.append(f"dtype={t.dtype}")
    if t.device.name != "cpu":
        notes.append(f"device='{t.device}'")
    if t.node is not None:
        notes.append(f"from={_maker(t.node)}")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return f"tensor({', '.join(notes)})"


def _maker(node: Any) -> str:
    """The name of the operation that a Node stands for, also where it picks one of several outputs."""
    return (node.edges[0] if node.primitive.name == "pick" and node.edges else node).primitive.name


def _restored(host: np.ndarray, device: devices.Device, requires_grad: bool, grad: Tensor | None) -> Tensor:
    """A leaf out of a pickle."""
    t = Tensor(device.backend.from_host(host), device)
    t.requires_grad = requires_grad
    t._grad = grad
    return t


# ---------------------------------------------------------------------------------------------------------------------
# making Tensors


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with its own copy of `data`: a number, nested lists, a NumPy or CuPy array, or a Tensor.

    Python floats get the default float dtype (float32), complex numbers the complex dtype of such parts, integers
    int64; arrays keep their dtype. The device is the data's own for arrays on a GPU and for Tensors, else the default
    one. Raises ShapeError for ragged lists and DTypeError for strings and objects.
    """
    out = _make(data, dtype, device, copy=True)
    return out.requires_grad_() if requires_grad else out


def filled(shape: tuple[int, ...], dtype: np.dtype, value: float, device: devices.Device) -> Tensor:
    """A new Tensor with one value everywhere."""
    array = device.backend.empty(shape, dtype)
    device.backend.write(array, ..., value)
    return Tensor(array, device)


def zero_grad(p: Tensor) -> None:
    """Make the gradient of a leaf, if it has one, zero: in its memory where that may be written."""
    grad = p._grad
    if grad is None:
        return
    if grad.node is not None or not grad.device.backend.is_writable(grad.array):
        p.grad = filled(p.shape, p.dtype, 0, p.device)
    else:
        grad.device.backend.write(grad.array, ..., 0)
        grad._bump_version()


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`obj` as a Tensor; shares memory with an array on the same device unless `copy` is True.

    With `copy=False` it shares, or raises DataError. A Tensor, or nested lists with Tensors among numbers, stay on the
    tape (gb.tensor makes a leaf of its own).
    """
    if isinstance(obj, Tensor):
        out = obj if device is None else obj.to(devices.device(device))
        out = out if dtype is None else out.astype(dtype, copy=False)
        out = out.copy() if copy and out is obj else out
    elif modes.grad and isinstance(obj, (list, tuple)) and any(t.requires_grad for t in _tensors_in(obj)):
        leaves: list[Any] = []
        _lists(obj, leaves)
        target = dtypes.result_type(*leaves) if dtype is None else dtypes.as_dtype(dtype)
        out = _stacked(obj, target, _device_of(obj) if device is None else devices.device(device))
    else:
        out = _make(obj, dtype, device, copy=bool(copy))
    if copy is False and not _shares(out, obj):
        raise DataError(f"asarray: copy=False, but a {type(obj).__name__} has to be copied here; leave copy out")
    return out


def _shares(t: Tensor, obj: Any) -> bool:
    """Does a Tensor that asarray made without need of a copy lie in the memory of what it was given?"""
    if t is obj:
        return True
    if t.device.backend.dlpack_device != (1, 0):
        if not isinstance(obj, Tensor):
            lends = hasattr(obj, "__dlpack_device__") and tuple(obj.__dlpack_device__()) == t.__dlpack_device__()
            if not lends and not hasattr(obj, "__cuda_array_interface__"):
                return False
            obj = wrap_cuda(obj)
        return obj.device is t.device and (obj.array.data.ptr == t.array.data.ptr or not t.size)
    if not hasattr(obj, "__array__"):
        try:
            obj = memoryview(obj)
        except TypeError:
            return False
    return np.shares_memory(t.array, np.asarray(obj)) or not t.size


def _make(data: Any, dtype: Any, device: Any, copy: bool) -> Tensor:
    target = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, Tensor):
        place = data.device if device is None else devices.device(device)
        moved = data.detach().to(place)
        out = moved.astype(target or moved.dtype, copy=copy and place is data.device)
        return out
    if hasattr(data, "__cuda_array_interface__"):
        return _make(wrap_cuda(data), dtype, device, copy)
    if hasattr(data, "__dlpack__") and not isinstance(data, np.ndarray):
        from .exchange import borrow, has_dlpack_alone

        if has_dlpack_alone(data):
            lent = borrow(data)
            stays = device is None and lent.__dlpack_device__() != (1, 0)  # what is on a GPU
            return _make(lent, dtype, None if stays else devices.resolve(device), copy)
    host = _host_array(data, target)
    if device is None and isinstance(data, (list, tuple)) and data and _holds_tensors(data):
        device = _device_of(data)
    place = devices.resolve(device)
    fresh = host is not data and host.base is None and not isinstance(data, np.ndarray)
    return Tensor(place.backend.from_host(host, copy=copy and not fresh), place)


def wrap_cuda(data: Any) -> Tensor:
    """A CuPy array (or another array in GPU memory) as a Tensor that shares its memory."""
    array = borrowed.adopt(data)
    dtypes.as_dtype(array.dtype)
    return Tensor(array, devices.device(f"cuda:{array.device.id}"))


def _host_array(data: Any, target: np.dtype | None) -> np.ndarray:
    """`data` as a NumPy array of a supported dtype, without a copy if it is one already."""
    if isinstance(data, (list, tuple)) and data and _holds_tensors(data):
        leaves: list[Any] = []
        data = _lists(data, leaves)
        target = target or dtypes.result_type(*leaves)
    if hasattr(data, "filled") and np.ma.is_masked(data):
        raise DataError("tensor: a masked array lacks values; give data.filled(value), or leave those rows out")
    try:
        host = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested lists are ragged ({error}); make all rows equally long") from None
    except OverflowError:
        raise DataError("tensor: an integer does not fit into 64 bits; use floats") from None
    except (TypeError, RuntimeError) as error:  # of an array of another library
        raise ExchangeError(
            f"tensor: a {type(data).__name__} gives no NumPy array ({error}); convert it with its own library first"
        ) from None
    if host.dtype.kind not in "biufc" and not dtypes.is_bfloat16(host.dtype):
        raise DTypeError(f"tensor: data of dtype {host.dtype} cannot be a Tensor; give numbers or bools")
    if target == dtypes.uint64 and host.dtype.kind == "f" and isinstance(data, (list, tuple)):
        exact = np.asarray(data, object)  # NumPy takes integers above 2^63 beside others for floats
        host = exact.astype(target) if all(type(v) is int and v >= 0 for v in exact.flat) else host
    if target is None:
        is_array = _is_array(data) or host.base is not None  # a buffer's: a memoryview's, an array.array's
        kinds = {} if is_array else {"f": float, "c": complex}  # whose dtype follows the default one
        target = dtypes.as_dtype(kinds.get(host.dtype.kind, host.dtype))
    if host.dtype.kind == "c" and target.kind not in "cb":
        raise DTypeError(f"tensor: {host.dtype} to {target} would drop the imaginary part; give data.real")
    if target.kind in "iu" and host.dtype.kind == "f" and not _is_array(data) and not np.isfinite(host).all():
        raise DataError(f"tensor: NaN and infinity are no {target}; use a float dtype")
    made = host
    if host.dtype != target or not host.dtype.isnative:
        with np.errstate(invalid="warn" if _is_array(data) else "ignore"):  # of numbers beyond the dtype, refused below
            made = host.astype(target)
    whole = target.kind in "iu" and host.dtype.kind in "iuf"
    if whole and made is not host and not _is_array(data) and not (made == np.trunc(host)).all():
        raise DataError(f"tensor: a number does not fit into {target}; use a wider dtype")
    return made


def _is_array(data: Any) -> bool:
    return isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__array__")


def _holds_tensors(data: Any) -> bool:
    first = data[0]
    return isinstance(first, Tensor) or (isinstance(first, (list, tuple)) and bool(first) and _holds_tensors(first))


def _device_of(data: Any) -> devices.Device:
    """The device of the Tensors in nested lists."""
    first, *others = {t.device for t in _tensors_in(data)}
    if others:
        names = sorted(device.name for device in (first, *others))
        raise DeviceError(f"tensor: Tensors on {' and '.join(names)} in one list; move some with t.to({names[0]!r})")
    return first


def _tensors_in(data: Any) -> Iterator[Tensor]:
    for part in data:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, (list, tuple)):
            yield from _tensors_in(part)


def _stacked(data: Any, dtype: np.dtype, device: devices.Device) -> Tensor:
    """Nested lists of Tensors and numbers as one Tensor, recorded."""
    if not isinstance(data, (list, tuple)):
        return asarray(data, dtype=dtype, device=device)
    parts = [_stacked(part, dtype, device) for part in data]
    if not parts:
        return tensor(data, dtype=dtype, device=device)
    if any(part.shape != parts[0].shape for part in parts):
        raise ShapeError(f"asarray: parts of shapes {[list(p.shape) for p in parts]}; make all rows equally long")
    return movement.concat(*(part.reshape((1, *part.shape)) for part in parts), axis=0)


def _lists(data: Any, leaves: list[Any]) -> Any:
    """Nested lists of Tensors as nested lists of numbers; what they held goes to `leaves`."""
    if isinstance(data, (list, tuple)):
        return [_lists(d, leaves) for d in data]
    leaves.append(data)
    return data.tolist() if isinstance(data, Tensor) else data


def _dtype_beside(numbers: Any, arrays: list[np.dtype]) -> np.dtype | None:
    """Of nested lists of floats: what one of them becomes beside arrays of these dtypes. None: the default."""
    if not arrays or next(_tensors_in(numbers), None) is not None:
        return None
    try:
        host = np.asarray(numbers)
    except (ValueError, TypeError, OverflowError):  # which asarray tells in words
        return None
    if not host.size or host.dtype.kind not in "fc":
        return None
    return dtypes.result_type(*arrays, 0.0 if host.dtype.kind == "f" else 0j)


def operand(x: Any, device: devices.Device) -> Tensor:
    """A foreign operand as a Tensor: a NumPy scalar goes where the others are, an array stays where it is."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        return _make(x, None, device if x.ndim == 0 else "cpu", copy=False)
    if isinstance(x, (list, tuple)):  # which may hold Tensors that are on the tape
        return asarray(x, device=device)
    return _make(x, None, device, copy=False)


def as_operands(name: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of an operation with everything but Tensors, Python numbers and None made a Tensor.

    With no Tensor among them all go to the default device, numbers too. Beside Tensors a NumPy array is on the CPU: to
    use it with a Tensor elsewhere, somebody has to move one of them.
    """
    device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
    if device is not None and all(isinstance(x, (Tensor, int, float, complex)) or x is None for x in inputs):
        return inputs
    place = device or devices.default_device()
    arrays = [x.dtype for x in inputs if isinstance(x, (Tensor, np.ndarray))]

    def made_of(x: Any) -> Any:
        if isinstance(x, (Tensor, type(None))) or type(x) in (bool, int, float, complex):
            return x
        if isinstance(x, (list, tuple)):
            return asarray(x, dtype=_dtype_beside(x, arrays), device=place)
        return _make(x, None, place, copy=False) if device is None else operand(x, place)

    try:
        made = tuple(made_of(x) for x in inputs)
        if not any(isinstance(x, Tensor) for x in made):
            made = tuple(x if x is None else operand(x, place) for x in made)
            if made and all(x is None for x in made):
                raise DTypeError("None is no operand; give an array or a number")
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None
    return made
