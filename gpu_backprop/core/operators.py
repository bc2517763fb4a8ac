"""Elementwise operations by the shortest way, and the operators of Tensors.

What `x + y` and `gb.exp(x)` do beside the arithmetic is Python, and for ten numbers most of the time. `one` and `two`
make functions for the ordinary case, operands of float32 or float64 alike on one device with nobody watching, without a
loop over operands; every other case goes through tape.apply, which they equal in all that can be seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..ops import elementwise as ew
from ..ops.primitive import Primitive
from . import tape
from .dtypes import float32, float64
from .errors import DTypeError, ShapeError
from .modes import modes
from .tape import Node
from .tensor import Tensor, matmul, operand

_new = object.__new__
_NO_ATTRS: dict[str, Any] = {}


def one(primitive: Primitive) -> Callable[[Any], Tensor]:
    """The function of a primitive with one operand."""
    name, no_gradient = primitive.name, primitive.no_gradient

    def function(x: Any, /) -> Tensor:
        if x.__class__ is not Tensor:
            return primitive(x)
        array = x.array
        dtype = array.dtype
        if (dtype is not float32 and dtype is not float64) or modes.watch is not None:
            return primitive(x)
        device = x.device
        try:
            result = device.native[name](array)
        except (ValueError, TypeError):
            return primitive(x)  # which says what was wrong
        if result.__class__ is not device.array_type:  # a number, where there are no axes
            result = device.backend.xp.asarray(result)
        out = _new(Tensor)
        out.array = result
        out.device = device
        out.node = out._grad = out._version_cell = out._extra = None
        out.requires_grad = False
        if x.requires_grad and modes.grad:
            if no_gradient:
                out._extra = {"made_by": name}
            else:
                out.requires_grad = True
                shape = array.shape
                keep, keep_out, _ = primitive.saves.get(1) or primitive.plan(1)
                saved: list[Any] = []
                if keep:
                    saved.append((x, 0 if x._version_cell is None else x._version_cell[0]))
                if keep_out:
                    out._version_cell = [0]
                    saved.append(((result, out._version_cell), 0))
                out.node = _node(primitive, 1, device, result, (x.node or x,), ((shape, dtype),), saved, ())
        return out

    return function


def two(primitive: Primitive) -> Callable[[Any, Any], Tensor]:
    """The function of a primitive with two operands."""
    name, no_gradient = primitive.name, primitive.no_gradient

    def general(x: Any, y: Any) -> Tensor:
        if x is None or y is None:  # which the tape takes for an operand left out
            raise DTypeError(f"{name}: None is no operand; give an array or a number")
        return primitive(x, y)

    def function(x: Any, y: Any, /) -> Tensor:
        if x.__class__ is not Tensor or modes.watch is not None:
            return general(x, y)
        first = x.array
        dtype = first.dtype
        if dtype is not float32 and dtype is not float64:
            return general(x, y)
        device = x.device
        if y.__class__ is Tensor:
            second = y.array
            if second.dtype is not dtype or y.device is not device:
                return general(x, y)
            mask = (1 if x.requires_grad else 0) | (2 if y.requires_grad else 0)
        elif y.__class__ is float:
            second = y
            mask = 1 if x.requires_grad else 0
        else:
            return general(x, y)
        try:
            result = device.native[name](first, second)
        except (ValueError, TypeError, OverflowError):
            return primitive(x, y)
        if result.__class__ is not device.array_type:
            result = device.backend.xp.asarray(result)
        out = _new(Tensor)
        out.array = result
        out.device = device
        out.node = out._grad = out._version_cell = out._extra = None
        out.requires_grad = False
        if mask and modes.grad:
            if no_gradient:
                out._extra = {"made_by": name}
            else:
                out.requires_grad = True
                out.node = _of_two(primitive, mask, x, y, first, second, out)
        return out

    return function


def _of_two(primitive: Primitive, mask: int, x: Tensor, y: Any, first: Any, second: Any, out: Tensor) -> Node:
    """What tape._record makes of two operands."""
    keep, keep_out, _ = primitive.saves.get(mask) or primitive.plan(mask)
    saved: list[Any] = []
    unsaved: tuple[Any, ...] = ()
    if 0 in keep:
        saved.append((x, 0 if x._version_cell is None else x._version_cell[0]))
    elif not mask & 1:
        unsaved = ((0, weakref.ref(x)),)
    spec: Any = None
    edge: Any = None
    if y.__class__ is Tensor:
        spec = (second.shape, second.dtype)
        if 1 in keep:
            saved.append((y, 0 if y._version_cell is None else y._version_cell[0]))
        elif not mask & 2:
            unsaved += ((1, weakref.ref(y)),)
        if mask & 2:
            edge = y.node or y
    elif 1 in keep:
        saved.append((y, 0))
    else:
        unsaved += ((1, y),)
    if keep_out:
        out._version_cell = [0]
        saved.append(((out.array, out._version_cell), 0))
    edges = ((x.node or x) if mask & 1 else None, edge)
    return _node(primitive, mask, out.device, out.array, edges, ((first.shape, first.dtype), spec), saved, unsaved)


def _node(
    primitive: Primitive, mask: int, device: Any, result: Any, edges: Any, specs: Any, saved: Any, unsaved: Any
) -> Node:
    node = _new(Node)
    node.primitive = primitive
    node.attrs = _NO_ATTRS
    node.mask = mask
    node.device = device
    node.sequence = next(tape.sequence)
    node.scope = modes.scope
    node.hooks = node.retained = None
    node.spec = (result.shape, result.dtype)
    node.edges = edges
    node.specs = specs
    node.saved = saved
    node.unsaved = unsaved
    return node


# ---------------------------------------------------------------------------------------------------------------------
# the operators of Tensors, by Python's names without underscores

_UNARY = {"neg": ew.negative, "abs": ew.abs, "invert": ew.bitwise_invert}
_COMPARISONS = {
    "lt": ew.less, "le": ew.less_equal, "gt": ew.greater, "ge": ew.greater_equal, "eq": ew.equal, "ne": ew.not_equal,
}  # fmt: skip
_ARITHMETIC = {
    "add": ew.add, "sub": ew.subtract, "mul": ew.multiply, "truediv": ew.divide, "floordiv": ew.floor_divide,
    "mod": ew.remainder, "pow": ew.pow, "and": ew.bitwise_and, "or": ew.bitwise_or, "xor": ew.bitwise_xor,
    "lshift": ew.bitwise_left_shift, "rshift": ew.bitwise_right_shift,
}  # fmt: skip


def _power(x: Tensor, exponent: Any, /) -> Tensor:
    """A square costs less than a power, and differentiates to less."""
    return _square(x) if exponent.__class__ is int and exponent == 2 else ew.pow(x, exponent)


def _compared(compare: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Any]:
    """With None and strings, which are equal to no array, Python's own answer."""

    def function(x: Any, other: Any, /) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else compare(x, other)

    return function


def _reflected(operation: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, other, /: operation(other, x)


def _write_result(operation: Any, x: Tensor, other: Any) -> Tensor:
    """`x op= other`: written in place when nothing is being recorded, else the functional result.

    Inside `no_grad` a leaf is written in place too, as training loops written by hand expect.
    """
    name = getattr(operation, "name", "matmul")
    y = other if isinstance(other, (int, float, complex)) else operand(other, x.device)
    if modes.grad and (x.requires_grad or (isinstance(y, Tensor) and y.requires_grad)):
        return operation(x, y)
    with tape.no_grad():
        result = operation(x, y)
    if result.shape != x.shape or result.dtype != x.dtype:
        raise (DTypeError if result.dtype != x.dtype else ShapeError)(
            f"in-place {name}: a result of {result.dtype}{list(result.shape)} does not fit into "
            f"{x.dtype}{list(x.shape)}; write t = gb.{name}(t, other), or cast first"
        )
    x._write(f"in-place {name}", ..., result.array)
    return x


def _in_place(operation: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, other, /: _write_result(operation, x, other)


def _define(name: str, function: Callable[..., Any]) -> None:
    function.__name__ = f"__{name}__"
    function.__qualname__ = f"Tensor.__{name}__"
    setattr(Tensor, f"__{name}__", function)


_square = one(ew.square)
for _name, _primitive in _UNARY.items():
    _define(_name, one(_primitive))
for _name, _primitive in _COMPARISONS.items():
    _define(_name, _compared(two(_primitive)) if _name in ("eq", "ne") else two(_primitive))
for _name, _primitive in _ARITHMETIC.items():
    _define(_name, _power if _name == "pow" else two(_primitive))
    _define(f"r{_name}", _reflected(two(_primitive)))
    _define(f"i{_name}", _in_place(_primitive))
_define("matmul", lambda x, other, /: matmul(x, other))
_define("rmatmul", _reflected(matmul))
_define("imatmul", _in_place(matmul))
