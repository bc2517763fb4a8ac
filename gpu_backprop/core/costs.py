"""What an operation costs at the least, by the shapes of its arrays: bytes moved, and operations of matrix products.

Bytes are what must be read and written once if nothing is kept in a cache: each operand (one that is given twice is
read once, one that is broadcast only as far as it has elements of its own), each result, and what is written in place.
A real memory may move more, or, where data are still in a cache, less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..ops.primitive import PRIMITIVES
from .calls import Call, Slot, address_of, arrays_in, is_array, owner_of


class Cost(NamedTuple):
    """Bytes read and written, floating-point operations, and (dtype, shape) of the operands.

    product: the dtype of a matrix product, else None.
    """

    nbytes: int
    flops: int
    operands: list[tuple[Any, tuple[int, ...]]]
    product: Any = None

    @property
    def words(self) -> str:
        return ", ".join(f"{dtype}{list(shape)}" for dtype, shape in self.operands)


# matrix products: how many products are summed up to one element of the result
DEPTH: dict[str, Callable[[Any], int]] = {
    **dict.fromkeys(
        ("matmul", "linear", "linear_relu", "linear_relu_mask", "linear_gelu_value", "matmul_relu_backward",
         "matmul_gelu_backward"),
        lambda first: first.shape[-1],
    ),
    **dict.fromkeys(
        ("linear_weight_gradient", "linear_gradients", "add_linear_weight_gradient"),
        lambda first: math.prod(first.shape[:-1]),
    ),
}  # fmt: skip
# read as much of their first operand as they give
GATHERS = ("embedding", "getitem", "reorder", "take", "take_along_axis")
UNREAD = {"class_indices": 0, "matmul_relu_backward": 2}  # the operand that is not looked at, but for its shape
ADDED_TO = ("add_linear_weight_gradient",)  # read what they write


def of_replay(call: Call) -> Cost:
    """Of a Program's call."""
    return _cost(call.name, call.args, call.attrs, [r for r in call.results if r is not None])


def of_call(name: str, args: tuple[Any, ...], attrs: dict[str, Any], result: Any) -> Cost | None:
    """Of a call on arrays that gave `result`; None if it gave views only, and so moved nothing."""
    attrs = dict(attrs)
    out = attrs.pop("out", None)
    if out is not None:
        return _cost(name, args, attrs, list(arrays_in(out)))
    if result is None:
        return _cost(name, args, attrs, [])
    owners = {id(owner_of(a)) for a in arrays_in((args, attrs))}
    made = [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None]
    fresh = [r for r in made if id(owner_of(r)) not in owners]
    return _cost(name, args, attrs, fresh) if fresh else None


def _cost(name: str, args: tuple[Any, ...], attrs: dict[str, Any], results: list[Any]) -> Cost:
    operands = list(arrays_in((args, attrs)))
    shapes = [(a.dtype, a.shape) for a in operands]
    if name == "write":
        return Cost(_written_by_index(*args), 0, shapes)
    read = {_place(a): size(a) for a in operands}
    written = results + _written_in_place(name, args, attrs)
    if name in GATHERS and operands:
        first = _place(operands[0])
        read[first] = min(read[first], sum(map(size, results)))
    elif name in UNREAD:
        read.pop(_place(args[UNREAD[name]]))
    elif name in ADDED_TO:
        read |= {_place(a): size(a) for a in results}
    elif attrs.get("master") is not None:
        read.pop(_place(args[0]))  # 16-bit parameters beside their float32 copy are only written
    flops = 0
    if name in DEPTH and results:
        flops = 2 * math.prod(results[0].shape) * DEPTH[name](args[0])
    moved = sum(read.values()) + sum(map(size, written))
    return Cost(moved, flops, shapes, results[0].dtype if flops else None)


def size(array: Any) -> int:
    """Bytes of an array's own elements: those of a broadcast axis are one."""
    own = (n for n, stride in zip(array.shape, array.strides) if stride)
    return math.prod(own) * array.dtype.itemsize if math.prod(array.shape) else 0


def _place(array: Any) -> Any:
    """What tells arrays apart by the memory that they view."""
    if isinstance(array, Slot):
        return id(array.value), array.offset, array.shape, array.strides
    return address_of(array), array.shape, array.strides


def _written_in_place(name: str, args: tuple[Any, ...], attrs: dict[str, Any]) -> list[Any]:
    """Operands that an operation writes too."""
    if name.endswith("_update"):  # parameters, gradients, states, hyperparameters, step counts
        found: Iterable[Any] = (args[0], *args[2:-2], args[-1], attrs.get("master"))
    elif name in PRIMITIVES:
        found = (args[i] for i in PRIMITIVES[name].writes)
    else:
        return []
    return [a for a in found if a is not None]


def _written_by_index(array: Any, index: Any, value: Any) -> int:
    """Bytes of array[index] = value."""
    indices = list(arrays_in(index))
    given = size(value) if is_array(value) or isinstance(value, Slot) else 0
    if indices:  # as many elements as there are indices, or values
        count = max(math.prod(getattr(value, "shape", ())), *(math.prod(i.shape) for i in indices))
        return count * array.dtype.itemsize + given + sum(map(size, indices))
    return _selected(array.shape, index) * array.dtype.itemsize + given


def _selected(shape: tuple[int, ...], index: Any) -> int:
    """How many elements an index of integers, slices, None and Ellipsis selects."""
    parts = [p for p in (index if isinstance(index, tuple) else (index,)) if p is not None]
    if Ellipsis in parts:
        i = parts.index(Ellipsis)
        parts[i : i + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    return math.prod(len(range(*p.indices(n))) for p, n in zip(parts, shape) if isinstance(p, slice))
