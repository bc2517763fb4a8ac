"""Movement and indexing."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np

import gpu_backprop as gb
from gpu_backprop.ops import movement

from .base import Op, shaped

MOVEMENT = [
    shaped("alias", lambda x: movement.alias(x), np.positive, [((2, 3),), ((),)]),
    shaped("asarray", lambda x: gb.asarray(x) * 2, lambda x: x * 2, [((2, 3),)]),
    shaped("astype", lambda x: x.astype(x.dtype), np.positive, [((2, 3),), ((),)]),
    shaped("copy", lambda x: x.copy(), np.copy, [((2, 3),), ((),)]),
    shaped("transfer", lambda x: gb.core.tape.transfer(x, x.device) * 2, lambda x: x * 2, [((2, 3),)]),
    shaped(
        "broadcast_to",
        lambda x: gb.broadcast_to(x, (2, 3, 2)),
        lambda x: np.broadcast_to(x, (2, 3, 2)),
        [((3, 1),), ((),), ((2, 1, 2),)],
    ),
    shaped(
        "concat",
        lambda *xs: gb.concat(xs, axis=-1),
        lambda *xs: np.concatenate(xs, -1),
        [((2, 1), (2, 3), (2, 0)), ((3,), (1,))],
        autograd=lambda *xs: anp.concatenate(xs, axis=-1),
    ),
    shaped("concat flat", lambda *xs: gb.concat(xs, axis=None), lambda *xs: np.concatenate(xs, None), [((2, 1), (3,))]),
    shaped(
        "stack",
        lambda *xs: gb.stack(xs, axis=1),
        lambda *xs: np.stack(xs, 1),
        [((2, 2), (2, 2)), ((3,), (3,))],
        autograd=lambda *xs: anp.stack(xs, axis=1),
    ),
    shaped(
        "expand_dims",
        lambda x: gb.expand_dims(x, axis=(0, -1)),
        lambda x: np.expand_dims(x, (0, -1)),
        [((2, 3),), ((),)],
    ),
    shaped("squeeze", lambda x: gb.squeeze(x, axis=1), lambda x: np.squeeze(x, 1), [((2, 1, 3),)]),
    shaped("flip", lambda x: gb.flip(x, axis=(0, -1)), lambda x: np.flip(x, (0, -1)), [((2, 3),), ((2, 0, 2),)]),
    shaped("flip all", lambda x: gb.flip(x), np.flip, [((2, 3),)]),
    shaped(
        "permute_dims",
        lambda x: gb.permute_dims(x, (2, 0, 1)),
        lambda x: np.transpose(x, (2, 0, 1)),
        [((2, 3, 1),)],
        autograd=lambda x: anp.transpose(x, (2, 0, 1)),
    ),
    shaped(
        "moveaxis",
        lambda x: gb.moveaxis(x, (0, -1), (1, 0)),
        lambda x: np.moveaxis(x, (0, -1), (1, 0)),
        [((2, 3, 1),), ((1, 2, 2, 3),)],
        autograd=lambda x: anp.moveaxis(x, (0, -1), (1, 0)),
    ),
    *(
        shaped(
            f"repeat {axis}",
            lambda x, a=axis: gb.repeat(x, 3, axis=a),
            lambda x, a=axis: np.repeat(x, 3, axis=a),
            [((2, 3),), ((1, 2, 2),), ((2, 0),)],
            autograd=None if axis == -1 else lambda x, a=axis: anp.repeat(x, 3, axis=a),  # it fails there
        )
        for axis in (None, 0, -1)
    ),
    shaped("repeat never", lambda x: gb.repeat(x, 0, axis=1), lambda x: np.repeat(x, 0, axis=1), [((2, 3),)]),
    shaped(
        "repeat by an array",
        lambda x: gb.repeat(x, [2, 0, 1], axis=-1),
        lambda x: np.repeat(x, [2, 0, 1], axis=-1),
        [((2, 3),), ((3,),)],
    ),
    *(
        shaped(
            f"roll {axis}",
            lambda x, s=shift, a=axis: gb.roll(x, s, axis=a),
            lambda x, s=shift, a=axis: np.roll(x, s, axis=a),
            [((2, 3),), ((4, 1),), ((2, 0),)],
            autograd=None if isinstance(axis, tuple) else lambda x, s=shift, a=axis: anp.roll(x, s, axis=a),
        )
        for shift, axis in ((2, None), (-1, 0), ((1, -5), (0, -1)), ((1, 1), (1, 1)))
    ),
    shaped(
        "tile",
        lambda x: gb.tile(x, (2, 1, 2)),
        lambda x: np.tile(x, (2, 1, 2)),
        [((2, 3),), ((2,),), ((1, 2, 1, 2),), ((),)],
    ),
    shaped(
        "tile every axis",
        lambda x: gb.tile(x, (3, 2)),
        lambda x: np.tile(x, (3, 2)),
        [((2, 3),)],
        autograd=lambda x: anp.tile(x, (3, 2)),
    ),
    shaped(
        "unstack",
        lambda x: gb.concat([t * t for t in gb.unstack(x, axis=1)[::2]], axis=0),
        lambda x: np.concatenate([x[:, i] * x[:, i] for i in range(0, x.shape[1], 2)], 0),
        [((2, 3),), ((2, 3, 2),), ((2, 1),)],
        half=False,
    ),
    shaped(
        "broadcast_arrays",
        lambda x, y: gb.stack(gb.broadcast_arrays(x, y)),
        lambda x, y: np.stack(np.broadcast_arrays(x, y)),
        [((2, 1), (3,)), ((), (2, 2))],
    ),
    *(
        shaped(
            f"meshgrid {indexing}",
            lambda x, y, z, i=indexing: gb.stack(gb.meshgrid(x, y, z, indexing=i)),
            lambda x, y, z, i=indexing: np.stack(np.meshgrid(x, y, z, indexing=i)),
            [((2,), (3,), (1,)), ((), (2,), (2,))],
        )
        for indexing in ("xy", "ij")
    ),
    *(
        shaped(
            f"{name} {k}",
            lambda x, n=name, k=k: getattr(gb, n)(x, k=k),
            lambda x, n=name, k=k: getattr(np, n)(x, k=k),
            [((3, 3),), ((2, 2, 3),), ((2, 0),)],
            autograd=lambda x, n=name, k=k: getattr(anp, n)(x, k=k),
        )
        for name in ("tril", "triu")
        for k in (0, -1, 2)
    ),
    shaped("T", lambda x: x.T * x.T, lambda x: x.T * x.T, [((2, 3),), ((2, 3, 2),)]),
    shaped(
        "matrix_transpose",
        lambda x: gb.matrix_transpose(x),
        lambda x: np.swapaxes(x, -1, -2),
        [((2, 3),), ((2, 3, 2),)],
    ),
    shaped(
        "reshape",
        lambda x: gb.reshape(x, (3, -1)),
        lambda x: np.reshape(x, (3, -1)),
        [((2, 3),), ((3, 4),)],
        autograd=lambda x: anp.reshape(x, (3, -1)),
    ),
    shaped("reshape of a transpose", lambda x: x.T.reshape(-1), lambda x: x.T.reshape(-1), [((2, 3),)]),
    shaped(
        "reused input", lambda x: x * x + x, lambda x: x * x + x, [((2, 3),)], autograd=lambda x: x * x + x, half=False
    ),
]

# indexing ------------------------------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, False, True]])
INDICES: list[tuple[str, Any]] = [
    ("integer", 1),
    ("negative", (-1, -2)),
    ("slice", (slice(None), slice(None, None, 2))),
    ("reversed", slice(None, None, -1)),
    ("new axis", (None, Ellipsis, 0)),
    ("empty slice", slice(2, 2)),
    ("mask", MASK),
    ("row mask", np.array([False, True])),
    ("no rows", np.array([False, False])),
    ("repeated", np.array([0, 1, 1, 0, 1])),
    ("list", [1, 0]),
    ("empty list", []),
    ("two arrays", (np.array([0, 1, 1]), np.array([2, 0, 0]))),
    ("two broadcast", (np.array([[0], [1]]), np.array([2, 0]))),
    ("columns", (slice(None), np.array([0, -1, 0]))),
    ("integer and array", (1, np.array([0, 2, 2]))),
    ("apart", (np.array([0, 1]), None, np.array([0, 2]))),
    ("0-d array", np.array(1)),
    ("True", True),
    ("strides down", (slice(None, None, -1), slice(2, None, -2))),
    ("mask and slice", (np.array([True, False]), slice(None, None, -1))),
    ("slice and mask", (Ellipsis, np.array([True, False, True]))),
    ("mask and array", (np.array([True, True]), np.array([2, 2]))),
    ("array and new axis", (np.array([1, 1, 0]), None, slice(1, 3))),
    ("negative array", (np.array([-1, -2, -1]), -1)),
    ("2-d array", np.array([[0, 1], [1, 1]])),
]


def _indexing() -> list[Op]:
    ops = [
        shaped(
            f"getitem {label}",
            lambda x, i=index: x[i],
            lambda x, i=index: x[i],
            [((2, 3),)],
            autograd=lambda x, i=index: x[i],
        )
        for label, index in INDICES
    ]
    for label, axis, indices in (
        ("rows", 0, np.array([2, 0, 2])),
        ("columns", -1, np.array([[1, 0], [1, -1]])),
        ("nothing", 1, np.zeros(0, int)),
    ):
        ops.append(
            shaped(
                f"take {label}",
                lambda x, i=indices, a=axis: gb.take(x, gb.asarray(i, device=x.device), axis=a),
                lambda x, i=indices, a=axis: np.take(x, i, axis=a),
                [((3, 2),)],
            )
        )
    for label, shapes, axis, indices in (
        ("rows", [((3, 2),)], 0, np.array([[2, 0], [2, -2], [2, 1], [0, 1]])),
        ("columns", [((2, 3),)], -1, np.array([[1, 1], [-1, 0]])),
        ("broadcast", [((3, 1),), ((3, 2),)], 0, np.array([[2, 0]])),
        ("broadcast x", [((1, 3),)], 1, np.array([[2, 0], [1, 1]])),
        ("nothing", [((3, 2),)], 1, np.zeros((3, 0), int)),
    ):
        ops.append(
            shaped(
                f"take_along_axis {label}",
                lambda x, i=indices, a=axis: gb.take_along_axis(x, gb.asarray(i, device=x.device), axis=a),
                lambda x, i=indices, a=axis: _along(x, i, a),
                shapes,
            )
        )
    return ops


def _along(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """np.take_along_axis of what is broadcast first."""
    others = np.broadcast_shapes(*(tuple(np.delete(a.shape, axis)) for a in (x, indices)))
    wide = (np.broadcast_to(a, np.insert(others, axis % x.ndim, a.shape[axis])) for a in (x, indices))
    return np.take_along_axis(*wide, axis)


INDEXING = _indexing()
