"""The methods that NumPy code calls on arrays, put on Tensor here: core does not know the functions that they are."""

from __future__ import annotations

from typing import Any, NoReturn

from ..array_api import elementwise_functions as elementwise
from ..array_api.indexing_functions import take
from ..array_api.manipulation_functions import repeat
from ..array_api.searching_functions import nonzero, searchsorted
from ..array_api.sorting_functions import argsort
from ..array_api.sorting_functions import sort as sorted_copy
from ..core.errors import MissingError, TapeError
from ..core.modes import modes
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from . import elementwise as more
from . import products, protocols, shapes, statistics

_OWN_MEMORY = "its memory is not handed out; use t.numpy() for the values, or DLPack (t.__dlpack__())"
_IN_PLACE = "it would write in place, unseen by the tape; use"
REFUSED = {
    "base": _OWN_MEMORY, "ctypes": _OWN_MEMORY, "data": _OWN_MEMORY, "flags": _OWN_MEMORY, "getbuffer": _OWN_MEMORY,
    "flat": "a flat iterator can be written through; use t.ravel()",
    "view": "the bytes are not read as another dtype; use t.astype(dtype), or t.numpy().view(dtype)",
    "resize": f"{_IN_PLACE} t.reshape(shape), or gb.pad(t, width)",
    "put": f"{_IN_PLACE} gb.where, or t[i] = value",
    "partition": f"{_IN_PLACE} gb.sort(t)", "argpartition": "use t.argsort()",
    "byteswap": _OWN_MEMORY, "setfield": _OWN_MEMORY, "getfield": _OWN_MEMORY, "setflags": _OWN_MEMORY,
    "dump": "use gb.save", "dumps": "use pickle.dumps(t)",
    "tofile": "use t.numpy().tofile(path)", "tobytes": "use t.numpy().tobytes()",
    "choose": "use gb.where", "compress": "use t[mask]",
}  # fmt: skip


def _missing(self: Tensor, name: str) -> NoReturn:
    """Called for names that a Tensor has not."""
    if name in REFUSED:
        raise MissingError(f"{name}: a Tensor is no NumPy array: {REFUSED[name]}")
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


def _write(name: str, t: Tensor, value: Any, instead: str) -> None:
    if modes.grad and (t.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        raise TapeError(
            f"{name}: a Tensor that requires grad cannot be written in place; use {instead}, "
            "or write inside `with gb.no_grad():`"
        )
    t.copy_(value)


def sort(self: Tensor, axis: int = -1, kind: Any = None) -> None:
    """Sort in place along `axis`, as NumPy's method does. Raises TapeError where grad is required: use gb.sort(t)."""
    _write("sort", self, sorted_copy(self.detach(), axis=axis), "gb.sort(t)")


def fill(self: Tensor, value: Any) -> None:
    """Write one value everywhere, in place. Raises TapeError where grad is required: use gb.full_like(t, value)."""
    _write("fill", self, asarray(value, device=self.device), "gb.full_like(t, value)")


def rounded(self: Tensor, ndigits: Any = None) -> Any:
    """round(t, 2) is a Tensor, t.round(2); round(t) is Python's integer, as of NumPy's scalars."""
    return round(self._real_item("round")) if ndigits is None else self.round(ndigits)


METHODS = {
    **{name: getattr(elementwise, name) for name in ("clip", "conj", "round")},
    **{name: getattr(products, name) for name in ("diagonal", "dot", "trace")},
    **{name: getattr(shapes, name) for name in ("flatten", "ravel", "swapaxes")},
    **{name: getattr(statistics, name) for name in ("cumprod", "cumsum")},
    **{f.__name__: f for f in (argsort, fill, nonzero, repeat, searchsorted, sort, take)},
    "__contains__": lambda self, value: bool((self == value).any()),
    "__divmod__": more.divmod,
    "__round__": rounded,
    "__rdivmod__": lambda self, other: more.divmod(other, self),
    "__getattr__": _missing,
    "__array_function__": protocols.array_function,
    "__array_ufunc__": protocols.array_ufunc,
}
PROPERTIES = {
    "imag": lambda self: ew.imag(self),
    "itemsize": lambda self: self.array.dtype.itemsize,
    "real": lambda self: ew.real(self),
    "strides": lambda self: self.array.strides,
}

METHODS["conjugate"] = METHODS["conj"]

for _name, _function in METHODS.items():
    setattr(Tensor, _name, _function)
for _name, _function in PROPERTIES.items():
    setattr(Tensor, _name, property(_function))
