"""Reductions and their gradients. A primitive takes `axis` as a tuple of axes counted from the front."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

from ..core.errors import DataError, DTypeError, ShapeError, ShapeIndexError, TapeError
from ..core.modes import modes
from .elementwise import conjugate, equal, exp
from .primitive import Primitive


def spread(value: Any, shape: tuple[int, ...], axis: tuple[int, ...] | int | None, keepdims: bool) -> Any:
    """A reduced value given back its reduced axes, each of length 1, ready to broadcast to `shape`."""
    if keepdims:
        return value
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return value.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _pull_sum(g, x_spec, axis, keepdims):
    return spread(g, x_spec.shape, axis, keepdims).broadcast_to(x_spec.shape)


def _pull_mean(g, x_spec, axis, keepdims):
    return spread(g * (1.0 / count_reduced(x_spec.shape, axis)), x_spec.shape, axis, keepdims).broadcast_to(
        x_spec.shape
    )


def _pull_extremum(g, x, out, axis, keepdims):
    """Ties share the gradient evenly."""
    ties = equal(x, spread(out, x.shape, axis, keepdims)).astype(g.dtype)
    count = sum(ties, axis=axis, keepdims=True)
    return spread(g, x.shape, axis, keepdims) * ties / count


def _pull_prod(g, x, axis, keepdims):
    """d prod / d x_i is the product of the others, which is right with any number of zeros too."""
    others = prod_of_others(x, axis=axis)
    return spread(g, x.shape, axis, keepdims) * others


def _prod_of_others_unfused(x, axis):
    """Products of all elements before and of all after each, along the reduced axes laid out as one.

    Built from slices and products by doubling, so that it differentiates, zeros included.
    """
    rest = tuple(i for i in range(x.ndim) if i not in axis)
    order = rest + axis
    inverse = tuple(order.index(i) for i in range(x.ndim))
    moved = x.permute_dims(order)
    shape = moved.shape
    n = 1
    for i in axis:
        n *= x.shape[i]
    flat = moved.reshape((*shape[: len(rest)], n))
    before, after, step = _shift(flat, 1), _shift(flat, -1), 1
    while step < n:
        before = before * _shift(before, step)
        after = after * _shift(after, -step)
        step *= 2
    return (before * after).reshape(shape).permute_dims(inverse)


def _shift(x, by: int):
    """x moved by `by` places along its last axis (right when positive), ones moving in."""
    from .movement import concat

    n = x.shape[-1]
    width = by if by > 0 else -by
    pad = x[..., :width].detach() ** 0  # 1 for infinities and NaNs too
    if width >= n:
        return pad
    return concat(pad, x[..., :-width], axis=x.ndim - 1) if by > 0 else concat(x[..., width:], pad, axis=x.ndim - 1)


def _pull_logsumexp(g, x, out, axis, keepdims):
    return spread(g, x.shape, axis, keepdims) * exp(x - spread(out, x.shape, axis, keepdims))


def _pull_var(g, x, axis, correction, keepdims):
    n = count_reduced(x.shape, axis)
    centred = conjugate(x - mean(x, axis=axis, keepdims=True))
    return spread(g, x.shape, axis, keepdims) * centred * (2.0 / (n - correction) if n != correction else float("nan"))


def count_reduced(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    """How many elements are reduced to one; at least 1."""
    n = 1
    for i in axis:
        n *= shape[i]
    return n or 1


all = Primitive("all", "x")
any = Primitive("any", "x")
argmax = Primitive("argmax", "x")
argmin = Primitive("argmin", "x")
count_nonzero = Primitive("count_nonzero", "x")
logsumexp = Primitive("logsumexp", "x", _pull_logsumexp, promotes="real", gives="out")
max = Primitive("max", "x", _pull_extremum, gives="out")
mean = Primitive("mean", "x", _pull_mean, promotes="float", gives="out")
min = Primitive("min", "x", _pull_extremum, gives="out")
prod = Primitive("prod", "x", _pull_prod, gives="out")
prod_of_others = Primitive("prod_of_others", "x", unfused=_prod_of_others_unfused)
sum = Primitive("sum", "x", _pull_sum, gives="out")
var = Primitive("var", "x", _pull_var, promotes="float")


def as_integers(name: str, what: str, values: Any) -> tuple[int, ...]:
    """`values` (an integer, or a tuple or list of them) as a tuple of Python integers."""
    if type(values) is int:
        return (values,)
    several = _are_several(values)
    try:
        if bool in map(type, values if several else (values,)):  # which index() takes
            raise TypeError
        return tuple(map(index, values)) if several else (index(values),)
    except TypeError:
        raise DTypeError(f"{name}: {what} {values!r} is not made of integers; use integers") from None


def _are_several(values: Any) -> bool:
    if isinstance(values, type):  # NumPy's scalar types have an attribute `ndim`
        return False
    return isinstance(values, (tuple, list, range)) or bool(getattr(values, "ndim", 0))


def as_integer(name: str, what: str, value: Any) -> int:
    """`value`, one integer, as Python's."""
    if _are_several(value):
        raise DTypeError(f"{name}: {what} {value!r} is not made of integers; use one integer")
    return as_integers(name, what, value)[0]


def as_constant(name: str, what: str, value: Any, instead: str = "") -> Any:
    """`value`, refused if it is a Tensor whose gradient would be lost here; instead: how it would not be."""
    if getattr(value, "requires_grad", False) and modes.grad:
        raise TapeError(
            f"{name}: a Tensor that requires grad would lose its gradient as {what}; use t.detach()"
            + (instead and f", or {instead}")
        )
    return value


def as_real(name: str, what: str, value: Any, instead: str = "") -> float:
    """`value`, one real number, as Python's float; see `as_constant`."""
    if value.__class__ is float:
        return value
    as_constant(name, what, value, instead)
    try:
        if isinstance(value, (str, bytes)) or getattr(value, "ndim", False):
            raise TypeError
        return float(value)
    except TypeError:
        raise DTypeError(f"{name}: {what} {value!r} is not a real number; use one") from None
    except OverflowError:
        raise DataError(f"{name}: {what} {value} is too large for a float; use a smaller one") from None


def as_choice(name: str, what: str, value: Any, choices: Iterable[str]) -> str:
    """`value`, one of the words that an operation knows."""
    if not isinstance(value, str) or value not in choices:
        *first, last = map(repr, choices)
        raise DataError(f"{name}: {what}={value!r}; use {', '.join(first)} or {last}")
    return value


def normalize_axis(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (None, an int or a tuple of ints, negative from the back) as a sorted tuple of axes from the front."""
    if axis is None:
        return tuple(range(ndim))
    axes = as_integers(name, "axis", axis)
    result = set()
    for a in axes:
        if not -ndim <= a < ndim:
            remedy = f"use {-ndim} to {ndim - 1}" if ndim else "leave axis out"
            raise ShapeIndexError(f"{name}: axis {a} of an array with {ndim} axes; {remedy}")
        result.add(a % ndim)
    if len(result) != len(axes):
        raise ShapeError(f"{name}: axis {tuple(axes)} names an axis twice; name each once")
    return tuple(sorted(result))


def one_axis(name: str, axis: Any, ndim: int) -> int:
    """`axis`, one integer, counted from the front."""
    return normalize_axis(name, as_integer(name, "axis", axis), ndim)[0]


def reduce(primitive: Primitive, x: Any, axis: Any = None, keepdims: bool = False, **attrs: Any) -> Any:
    """Apply a reduction over `axis`, which may be None, an int or a tuple."""
    shape = x.shape
    axes = tuple(range(len(shape))) if axis is None else normalize_axis(primitive.name, axis, len(shape))
    return primitive(x, axis=axes, keepdims=bool(keepdims), **attrs)


def arg_reduce(primitive: Primitive, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """argmax or argmin over one axis, or over all elements in C order when axis is None."""
    if axis is not None:
        axis = one_axis(primitive.name, axis, x.ndim)
    if (x.size if axis is None else x.shape[axis]) == 0:
        raise ShapeError(f"{primitive.name}: no element to choose from in shape {list(x.shape)}; give at least one")
    return primitive(x, axis=axis, keepdims=bool(keepdims))
