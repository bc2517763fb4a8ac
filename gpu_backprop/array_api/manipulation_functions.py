"""https://data-apis.org/array-api/latest/API_specification/manipulation_functions.html"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core import dtypes
from ..core.devices import check_size
from ..core.errors import DTypeError, ShapeError
from ..core.tensor import Tensor, as_operands, asarray
from ..ops import indexing, movement
from ..ops.reduction import as_integer, as_integers, normalize_axis, one_axis

__all__ = [
    *("broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis"),
    *("permute_dims", "repeat", "reshape", "roll", "squeeze", "stack", "tile", "unstack"),
]


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """The arrays, each with its dtype, as read-only views of the shape that they broadcast to."""
    tensors = as_operands("broadcast_arrays", arrays) if arrays else ()
    device = next((t.device for t in tensors if isinstance(t, Tensor)), None)
    made = [asarray(t, device=None if isinstance(t, Tensor) else device) for t in tensors]
    shape = broadcast_shapes(*(t.shape for t in made))
    return tuple(t.broadcast_to(shape) for t in made)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to. Raises ShapeError when there is none."""
    found: list[int] = []
    given = [as_integers("broadcast_shapes", "shape", s) for s in shapes]
    for shape in given:
        found = [1] * (len(shape) - len(found)) + found
        for i, n in enumerate(shape, len(found) - len(shape)):
            if n < 0 or 1 != n != found[i] != 1:
                raise ShapeError(
                    f"broadcast_shapes: {', '.join(str(list(s)) for s in given)} do not broadcast; "
                    "make them equal, or 1 where they differ"
                )
            found[i] = n if found[i] == 1 else found[i]
    return tuple(found)


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """A read-only view with axes of length 1 (and new leading axes) repeated."""
    return asarray(x).broadcast_to(as_integers("broadcast_to", "shape", shape))


def _sequence(name: str, arrays: Any) -> tuple[Tensor, ...]:
    if not hasattr(arrays, "__iter__") or isinstance(arrays, (set, frozenset, dict)):
        raise DTypeError(f"{name}: {arrays!r} is not a sequence of arrays; give a list of them")
    made = as_operands(name, tuple(arrays))
    if any(x is None for x in made):
        raise DTypeError(f"{name}: None is no array; leave it out")
    device = next((x.device for x in made if isinstance(x, Tensor)), None)
    if all(isinstance(x, Tensor) for x in made):
        return made
    dtype = dtypes.result_type(*made)  # numbers and lists take that of the arrays
    return tuple(x if isinstance(x, Tensor) else asarray(x, dtype=dtype, device=device) for x in made)


def concat(arrays: Sequence[Tensor], /, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along an axis that exists (all flattened first when axis is None)."""
    tensors = _sequence("concat", arrays)
    if not tensors:
        raise ShapeError("concat: no arrays given; give at least one")
    if axis is None:
        tensors, axis = tuple(t.reshape(-1) for t in tensors), 0
    return movement.concat(*tensors, axis=one_axis("concat", axis, tensors[0].ndim))


def expand_dims(x: Tensor, /, axis: int | tuple[int, ...]) -> Tensor:
    """`x` with a new axis of length 1 at each position in `axis`, counted in the result."""
    x = asarray(x)
    axes = as_integers("expand_dims", "axis", axis)
    n = x.ndim + len(axes)
    new = normalize_axis("expand_dims", axes, n)
    rest = iter(x.shape)
    return x.reshape(tuple(1 if i in new else next(rest) for i in range(n)))


def flip(x: Tensor, /, axis: Any = None) -> Tensor:
    """The order of elements reversed along `axis` (all axes when None)."""
    x = asarray(x)
    return movement.flip(x, axis=normalize_axis("flip", axis, x.ndim))


def moveaxis(x: Tensor, /, source: Any, destination: Any) -> Tensor:
    """A view with the axes of `source` at the places of `destination`, the others in their order."""
    x = asarray(x)
    sources, places = (
        [one_axis("moveaxis", a, x.ndim) for a in as_integers("moveaxis", "axes", axes)]
        for axes in (source, destination)
    )
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise ShapeError(f"moveaxis: axes {source} to {destination}; name equally many, each once")
    order = [i for i in range(x.ndim) if i not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return movement.permute_dims(x, axes=tuple(order))


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """A view with the axes in another order."""
    return asarray(x).permute_dims(axes)


def _spread(x: Tensor, times: tuple[int, ...], after: bool) -> Tensor:
    """A copy with each axis repeated, each element `after` itself or all of them after all."""
    pairs = [(n, r) if after else (r, n) for n, r in zip(x.shape, times)]
    ones = [(n, 1) if after else (1, n) for n in x.shape]
    check_size("repeat" if after else "tile", tuple(n * r for n, r in zip(x.shape, times)), x.dtype.itemsize, x.device)
    wide = x.reshape(sum(ones, ())).broadcast_to(sum(pairs, ()))
    return movement.copy(wide).reshape(tuple(n * r for n, r in pairs))


def repeat(x: Tensor, /, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element `repeats` times along `axis` (the flattened array when None).

    repeats: an integer, or integers, one for each element along the axis (or one for all). An array of them has to be
    looked at, for which a GPU is waited for, and which gb.capture refuses.
    """
    x = asarray(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = one_axis("repeat", axis, x.ndim)
    if not (isinstance(repeats, (list, tuple)) or getattr(repeats, "ndim", False)):
        times = as_integer("repeat", "repeats", repeats)
        if times < 0:
            raise ShapeError(f"repeat: repeats={times} is negative; use 0 or more")
        return _spread(x, tuple(times if i == axis else 1 for i in range(x.ndim)), after=True)
    _, counts = as_operands("repeat", (x, repeats))
    if counts.size and counts.dtype.kind not in "iu":
        raise DTypeError(f"repeat: repeats of {counts.dtype} are not integers; use t.astype(gb.int64)")
    if counts.shape not in ((1,), (x.shape[axis],)):
        raise ShapeError(
            f"repeat: repeats of shape {list(counts.shape)} for {x.shape[axis]} elements; give one for each, or one"
        )
    counts = counts.astype("int64", copy=False).broadcast_to((x.shape[axis],))
    return indexing.take(x, movement.repeat_indices(counts), axis=axis)


def reshape(x: Tensor, /, shape: tuple[int, ...], order: str = "C", *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape; one length may be -1. order: "C", the last axis fastest, or "F"."""
    x = asarray(x)
    return x.copy().reshape(shape, order=order) if copy else x.reshape(shape, order=order)


def roll(x: Tensor, /, shift: Any, axis: Any = None) -> Tensor:
    """A copy with elements moved `shift` places towards the end along `axis`, those that fall off put in in front.

    axis: an integer, a tuple, or None for the flattened array. shift: an integer, or one for each axis.
    """
    x = asarray(x)
    if axis is None:
        return roll(x.reshape(-1), shift, axis=0).reshape(x.shape)
    shifts = as_integers("roll", "shift", shift)
    axes = [one_axis("roll", a, x.ndim) for a in as_integers("roll", "axis", axis)]
    if len(shifts) != len(axes):
        if 1 not in (len(shifts), len(axes)):
            raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes; give one for each")
        shifts, axes = shifts * len(axes), axes * len(shifts)
    total: dict[int, int] = {}
    for a, s in zip(axes, shifts):
        total[a] = (total.get(a, 0) + s) % (x.shape[a] or 1)
    return movement.roll(x, shift=tuple(total.values()), axis=tuple(total))


def squeeze(x: Tensor, /, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the named axes, which must be of length 1; without all such axes when None."""
    return asarray(x).squeeze(axis)


def stack(arrays: Sequence[Tensor], /, axis: int = 0) -> Tensor:
    """The arrays, all of one shape, along a new axis."""
    tensors = _sequence("stack", arrays)
    if not tensors:
        raise ShapeError("stack: no arrays given; give at least one")
    if any(t.shape != tensors[0].shape for t in tensors):
        raise ShapeError(f"stack: shapes {[list(t.shape) for t in tensors]} differ; all must be equal")
    axis = one_axis("stack", axis, tensors[0].ndim + 1)
    return movement.concat(*(expand_dims(t, axis=axis) for t in tensors), axis=axis)


def tile(x: Tensor, /, reps: Any) -> Tensor:
    """`x` laid out `reps[i]` times along axis i; whichever has fewer axes is given leading ones of length 1."""
    x, times = asarray(x), as_integers("tile", "repetitions", reps)
    if any(r < 0 for r in times):
        raise ShapeError(f"tile: repetitions {times} are negative; use 0 or more")
    n = max(x.ndim, len(times))
    return _spread(x.reshape((1,) * (n - x.ndim) + x.shape), (1,) * (n - len(times)) + times, after=False)


def unstack(x: Tensor, /, axis: int = 0) -> tuple[Tensor, ...]:
    """Views of all x[i] along `axis`, which they lack."""
    x = asarray(x)
    axis = one_axis("unstack", axis, x.ndim)
    return movement.unstack(x, axis=axis) if x.shape[axis] else ()
