"""Elementwise operations by the shortest way, and the operators of Tensors.

What `x + y` and `gb.exp(x)` do beside the arithmetic is Python, and for ten numbers most of the time. `one` and `two`
make functions for the ordinary case, operands of float32 or float64 alike on one device with nobody watching, without a
loop over operands and without a call; every other case goes through tape.apply, which they equal in all that can be
seen (tests/core/test_operators.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from ..ops import elementwise as ew
from ..ops import indexing
from ..ops.primitive import Primitive
from . import tape
from .dtypes import bool_, float32, float64
from .errors import DTypeError, ShapeError, TapeError
from .modes import modes
from .tape import Node, sequence
from .tensor import Tensor, as_operands, filled, matmul

_new = object.__new__
_NO_ATTRS: dict[str, Any] = {}


def one(primitive: Primitive) -> Callable[[Any], Tensor]:
    """The function of a primitive with one operand."""
    name, no_gradient = primitive.name, primitive.no_gradient
    if primitive.gives != "out":  # `real` of a real array, say, is a view of it
        return lambda x, /: primitive(x)
    keep, keep_out, _ = primitive.plan(1)

    def function(x: Any, /) -> Tensor:
        if x.__class__ is not Tensor or modes.watch is not None:
            return primitive(x)
        array = x.array
        dtype = array.dtype
        if dtype is not float32 and dtype is not float64:
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
        if not x.requires_grad or not modes.grad:
            return out
        if no_gradient:
            out._extra = {"made_by": name}
            return out
        out.requires_grad = True
        saved: list[Any] = []
        if keep:
            cell = x._version_cell
            saved.append((x, 0 if cell is None else cell[0]))
        if keep_out:
            out._version_cell = [0]
            saved.append(((result, out._version_cell), 0))
        out.node = node = _new(Node)
        node.primitive = primitive
        node.attrs = _NO_ATTRS
        node.mask = 1
        node.device = device
        node.sequence = next(sequence)
        node.scope = modes.scope
        node.hooks = node.retained = None
        node.spec = (result.shape, result.dtype)
        node.edges = (x.node or x,)
        node.specs = ((array.shape, dtype),)
        node.saved = saved
        node.unsaved = ()
        return out

    return function


def two(primitive: Primitive) -> Callable[[Any, Any], Tensor]:
    """The function of a primitive with two operands."""
    name, no_gradient = primitive.name, primitive.no_gradient
    plans = [primitive.plan(mask)[:2] for mask in range(4)]

    def general(x: Any, y: Any) -> Tensor:
        if x is None or y is None:  # which the tape takes for an operand left out
            raise DTypeError(f"{name}: None is no operand; give an array or a number")
        return primitive(x, y)

    def function(x: Any, y: Any, /) -> Tensor:
        if modes.watch is not None:
            return general(x, y)
        mask = 0
        if x.__class__ is Tensor:
            first, device = x.array, x.device
            dtype = first.dtype
            if x.requires_grad:
                mask = 1
            if y.__class__ is Tensor:
                second = y.array
                if second.dtype is not dtype or y.device is not device:
                    return general(x, y)
                if y.requires_grad:
                    mask |= 2
            elif y.__class__ is float or y.__class__ is int:
                second = y
            elif dtype is not float32 and dtype is not float64:
                return general(x, y)
            elif y.__class__ is float64.type or y.__class__ is float32.type:  # NumPy's; beside these, like Python's
                y = second = float(y)
            else:
                return general(x, y)
        elif y.__class__ is Tensor and (x.__class__ is float or x.__class__ is int):
            first, second, device = x, y.array, y.device
            dtype = second.dtype
            if y.requires_grad:
                mask = 2
        else:
            return general(x, y)
        if dtype is not float32 and dtype is not float64:
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
        if not mask or not modes.grad:
            return out
        if no_gradient:
            out._extra = {"made_by": name}
            return out
        out.requires_grad = True
        keep, keep_out = plans[mask]
        saved: list[Any] = []
        unsaved: tuple[Any, ...] = ()
        spec_x: Any = None
        spec_y: Any = None
        if first is x:  # a number
            if 0 in keep:
                saved.append((x, 0))
            else:
                unsaved = ((0, x),)
        else:
            spec_x = (first.shape, dtype)
            if 0 in keep:
                cell = x._version_cell
                saved.append((x, 0 if cell is None else cell[0]))
            elif not mask & 1:
                unsaved = ((0, ref(x)),)
        if second is y:
            if 1 in keep:
                saved.append((y, 0))
            else:
                unsaved += ((1, y),)
        else:
            spec_y = (second.shape, dtype)
            if 1 in keep:
                cell = y._version_cell
                saved.append((y, 0 if cell is None else cell[0]))
            elif not mask & 2:
                unsaved += ((1, ref(y)),)
        if keep_out:
            out._version_cell = [0]
            saved.append(((result, out._version_cell), 0))
        out.node = node = _new(Node)
        node.primitive = primitive
        node.attrs = _NO_ATTRS
        node.mask = mask
        node.device = device
        node.sequence = next(sequence)
        node.scope = modes.scope
        node.hooks = node.retained = None
        node.spec = (result.shape, result.dtype)
        node.edges = ((x.node or x) if mask & 1 else None, (y.node or y) if mask & 2 else None)
        node.specs = (spec_x, spec_y)
        node.saved = saved
        node.unsaved = unsaved
        return out

    return function


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
    return _square(x) if exponent.__class__ is int and exponent == 2 else _pow(x, exponent)


def _compared(compare: Callable[[Any, Any], Tensor], other_is: bool) -> Callable[[Any, Any], Tensor]:
    """With None and strings, which no number is equal to, `other_is` of each element, as in NumPy."""

    def function(x: Any, other: Any, /) -> Tensor:
        if other is None or isinstance(other, str):
            return filled(x.shape, bool_, other_is, x.device)
        return compare(x, other)

    return function


def _reflected(operation: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, other, /: operation(other, x)


def _write_result(operation: Any, x: Tensor, other: Any) -> Tensor:
    """`x op= other`: written in place when nothing is being recorded, else the functional result.

    Inside `no_grad` a leaf is written in place too, as training loops written by hand expect. As in NumPy the result
    may be of a wider dtype of the same kind: int32 += int64 stays int32. Raises TapeError for a view whose base is in
    use, which a new Tensor would not reach.
    """
    name = getattr(operation, "name", "matmul")
    y = as_operands(f"in-place {name}", (x, other))[1]
    if modes.grad and (x.requires_grad or (isinstance(y, Tensor) and y.requires_grad)):
        if _is_view_in_use(x):
            raise TapeError(
                f"in-place {name}: a view cannot be written where a gradient is required, and the Tensor that it is a "
                f"part of would not change; write t = gb.{name}(t, other) for a new Tensor, or gb.where for the whole"
            )
        return operation(x, y)
    with tape.no_grad():
        result = operation(x, y)
    fits = result.dtype == x.dtype or np.can_cast(result.dtype, x.dtype, "same_kind")
    if result.shape != x.shape or not fits:
        raise (ShapeError if fits else DTypeError)(
            f"in-place {name}: a result of {result.dtype}{list(result.shape)} does not fit into "
            f"{x.dtype}{list(x.shape)}; write t = gb.{name}(t, other), or cast first"
        )
    x._write(f"in-place {name}", ..., result.array)
    return x


def _is_view_in_use(x: Tensor) -> bool:
    """Does somebody beside `x` hold the memory that it is a part of?

    Tensors of one memory have one version cell, so that its references count them; a view of a temporary is alone. Of
    what is on the tape, only x[...] counts: h.reshape(...) is mostly the one name of what it holds.
    """
    if (
        x._version_cell is None
        or x.array.base is None
        or (x.node is not None and x.node.primitive is not indexing.view)
    ):
        return False
    return sys.getrefcount(x._version_cell) > 2  # of `x`, and of the call; a local name counts in some Pythons only


def _in_place(operation: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda x, other, /: _write_result(operation, x, other)


def _define(name: str, function: Callable[..., Any]) -> None:
    function.__name__ = f"__{name}__"
    function.__qualname__ = f"Tensor.__{name}__"
    setattr(Tensor, f"__{name}__", function)


_square, _pow = one(ew.square), two(ew.pow)
for _name, _primitive in _UNARY.items():
    _define(_name, one(_primitive))
for _name, _primitive in _COMPARISONS.items():
    _define(_name, _compared(two(_primitive), _name == "ne") if _name in ("eq", "ne") else two(_primitive))
for _name, _primitive in _ARITHMETIC.items():
    _define(_name, _power if _name == "pow" else two(_primitive))
    _define(f"r{_name}", _reflected(two(_primitive)))
    _define(f"i{_name}", _in_place(_primitive))
_define("matmul", lambda x, other, /: matmul(x, other))
_define("rmatmul", _reflected(matmul))
_define("imatmul", _in_place(matmul))
