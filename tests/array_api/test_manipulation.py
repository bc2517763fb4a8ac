"""Functions that move, repeat or choose elements, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpu_backprop as gb

from .strategies import ALL, FEW, LISTS, SHAPES, arrays, axes, same


@FEW
@given(x=arrays(dtypes=ALL), data=st.data())
def test_moveaxis(x: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, x.ndim))
    source, destination = (
        tuple(a - data.draw(st.sampled_from([0, x.ndim])) for a in data.draw(st.permutations(range(x.ndim)))[:count])
        for _ in range(2)
    )
    same(gb.moveaxis(gb.asarray(x), source, destination), np.moveaxis(x, source, destination))
    if count:
        same(gb.moveaxis(gb.asarray(x), source[0], destination[0]), np.moveaxis(x, source[0], destination[0]))


@FEW
@given(x=arrays(dtypes=ALL), data=st.data())
def test_repeat(x: np.ndarray, data: st.DataObject) -> None:
    t = gb.asarray(x)
    axis = data.draw(st.one_of(st.none(), axes(x))) if x.ndim else None
    n = x.size if axis is None else x.shape[axis]
    times = data.draw(st.integers(0, 3))
    same(gb.repeat(t, times, axis=axis), np.repeat(x, times, axis=axis))
    each = data.draw(hnp.arrays(data.draw(st.sampled_from(["int64", "uint8"])), (n,), elements=st.integers(0, 3)))
    expected = np.repeat(x, each.astype(int), axis=axis)
    same(gb.repeat(t, gb.asarray(each), axis=axis), expected)
    same(gb.repeat(t, each.tolist(), axis=axis), expected)
    same(gb.repeat(t, gb.asarray([times]), axis=axis), np.repeat(x, times, axis=axis))
    same(gb.repeat(t, gb.asarray(times), axis=axis), np.repeat(x, times, axis=axis))


@FEW
@given(x=arrays(dtypes=ALL), data=st.data())
def test_roll(x: np.ndarray, data: st.DataObject) -> None:
    shifts = st.integers(-(10**20), 10**20) if data.draw(st.booleans()) else st.integers(-5, 5)
    shift = data.draw(shifts)
    same(gb.roll(gb.asarray(x), shift), np.roll(x.reshape(-1), shift % (x.size or 1)).reshape(x.shape))
    if x.ndim:
        some = data.draw(st.lists(axes(x), min_size=1, max_size=4).map(tuple))
        places = tuple(data.draw(st.integers(-5, 5)) for _ in some)
        same(gb.roll(gb.asarray(x), places, axis=some), np.roll(x, places, some))
        same(gb.roll(gb.asarray(x), places[0], axis=some), np.roll(x, places[0], some))


@FEW
@given(x=arrays(dtypes=ALL), times=st.lists(st.integers(0, 3), max_size=4).map(tuple))
def test_tile(x: np.ndarray, times: tuple[int, ...]) -> None:
    same(gb.tile(gb.asarray(x), times), np.tile(x, times))


@FEW
@given(x=arrays(dtypes=ALL), data=st.data())
def test_unstack(x: np.ndarray, data: st.DataObject) -> None:
    if not x.ndim:
        with pytest.raises(gb.ShapeError, match="unstack: axis 0 of an array with 0 axes"):
            gb.unstack(gb.asarray(x))
        return
    axis = data.draw(axes(x))
    found = gb.unstack(gb.asarray(x), axis=axis)
    assert isinstance(found, tuple)
    assert len(found) == x.shape[axis]
    for f, e in zip(found, np.moveaxis(x, axis, 0)):
        same(f, e)


@FEW
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=3, max_dims=3), others=SHAPES)
def test_broadcasting(shapes: hnp.BroadcastableShapes, others: tuple[int, ...]) -> None:
    assert gb.broadcast_shapes(*shapes.input_shapes) == shapes.result_shape
    kinds = ["int8", "float32", "complex64"]
    found = gb.broadcast_arrays(*(gb.ones(s, dtype=d) for s, d in zip(shapes.input_shapes, kinds)))
    assert isinstance(found, tuple)
    assert [(t.shape, t.dtype.name) for t in found] == [(shapes.result_shape, d) for d in kinds]
    try:
        expected = np.broadcast_shapes(shapes.input_shapes[0], others)
    except ValueError:
        with pytest.raises(gb.ShapeError, match=r"broadcast_shapes: .* do not broadcast; make them"):
            gb.broadcast_shapes(shapes.input_shapes[0], others)
        return
    assert gb.broadcast_shapes(shapes.input_shapes[0], others) == expected


def test_broadcasting_nothing_and_numbers() -> None:
    assert gb.broadcast_shapes() == ()
    assert gb.broadcast_shapes(3, (2, 1)) == (2, 3)
    assert gb.broadcast_arrays() == ()
    assert [t.tolist() for t in gb.broadcast_arrays(gb.tensor([1, 2]), 3)] == [[1, 2], [3, 3]]


@FEW
@given(xs=st.lists(arrays(LISTS, ALL), max_size=4), indexing=st.sampled_from(["xy", "ij"]))
def test_meshgrid(xs: list[np.ndarray], indexing: str) -> None:
    found = gb.meshgrid(*map(gb.asarray, xs), indexing=indexing)
    assert isinstance(found, tuple)
    for f, e in zip(found, np.meshgrid(*xs, indexing=indexing), strict=True):
        same(f, e)


@FEW
@given(x=arrays(dtypes=ALL), k=st.integers(-5, 5), name=st.sampled_from(["tril", "triu"]))
def test_triangles(x: np.ndarray, k: int, name: str) -> None:
    if x.ndim < 2:
        with pytest.raises(gb.ShapeError, match=f"{name}: shape .* is not a matrix"):
            getattr(gb, name)(gb.asarray(x), k=k)
        return
    same(getattr(gb, name)(gb.asarray(x), k=k), getattr(np, name)(x, k=k))


@FEW
@given(data=st.data())
def test_take_along_axis(data: st.DataObject) -> None:
    """Values, and the adjoint: what is taken twice adds up, axes that broadcast are summed."""
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, min_side=1, max_side=3))
    n = max(map(len, shapes.input_shapes))
    first, second = ((1,) * (n - len(s)) + s for s in shapes.input_shapes)
    axis = data.draw(st.integers(-n, n - 1))
    length, count = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 4))
    first, second = (
        tuple(m if i == axis % n else s for i, s in enumerate(shape)) for shape, m in ((first, length), (second, count))
    )
    x = data.draw(arrays(st.just(first), st.sampled_from(["float64", "complex128"]), finite=True))
    dtype = data.draw(st.sampled_from(["int64", "int8"]))
    indices = data.draw(hnp.arrays(dtype, second, elements=st.integers(-length, length - 1)))

    t = gb.tensor(x, requires_grad=True)
    found = gb.take_along_axis(t, gb.asarray(indices), axis=axis)
    others = np.broadcast_shapes(*(tuple(1 if i == axis % n else m for i, m in enumerate(s)) for s in (first, second)))
    wide = tuple(count if i == axis % n else m for i, m in enumerate(others))
    places = [np.broadcast_to(np.arange(m).reshape([-1 if j == i else 1 for j in range(n)]) % first[i], wide)
              for i, m in enumerate(wide)]  # fmt: skip
    places[axis % n] = np.broadcast_to(indices, wide)
    same(found, x[tuple(places)])
    weights = np.arange(1.0, 1 + found.size).reshape(wide)
    gb.real((found * weights).sum()).backward()
    expected = np.zeros_like(x)
    np.add.at(expected, tuple(places), weights)
    same(t.grad, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int64", "complex64"])
def test_every_dtype_on_every_device(dtype: str, device: str) -> None:
    """Repeated indices add up in float32 for 16-bit floats, and round once."""
    x = gb.tensor(np.arange(6.0).reshape(2, 3), dtype=dtype, device=device)
    i = gb.tensor([[2, 2, -3, 2], [0, 1, 1, 1]], device=device)
    assert gb.take_along_axis(x, i).tolist() == [[2, 2, 0, 2], [3, 4, 4, 4]]
    assert gb.tile(x, (1, 2)).tolist() == np.tile(np.arange(6.0).reshape(2, 3), (1, 2)).tolist()
    assert gb.roll(x, 1, axis=1).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert gb.tril(x).tolist() == [[0, 0, 0], [3, 4, 0]]
    assert gb.repeat(x, [1, 0, 2], axis=1).tolist() == [[0, 2, 2], [3, 5, 5]]
    assert [t.tolist() for t in gb.unstack(x, axis=1)] == [[0, 3], [1, 4], [2, 5]]
    if dtype != "int64":
        x.requires_grad_()
        out = gb.take_along_axis(x, i)
        out.backward(gb.full_like(out, 1.5 if dtype != "bfloat16" else 1.0078125))
        each = 1.5 if dtype != "bfloat16" else 1.0078125
        assert x.grad.tolist() == (np.array([[1, 0, 3], [1, 3, 0]]) * each).astype(x.dtype).tolist()


def test_an_index_outside_is_an_error(device: str) -> None:
    with pytest.raises(gb.ShapeError, match="index 3 is out of bounds for axis 1"):
        gb.take_along_axis(gb.ones((2, 3), device=device), gb.tensor([[0], [3]], device=device), axis=1).numpy()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gb.moveaxis(x, 0, 2), "moveaxis: axis 2 of an array with 2 axes"),
        (lambda x: gb.moveaxis(x, (0, 0), (0, 1)), "moveaxis: axes .*; name equally many, each once"),
        (lambda x: gb.moveaxis(x, (0, 1), 0), "moveaxis: axes .*; name equally many"),
        (lambda x: gb.repeat(x, -1), "repeat: repeats=-1 is negative; use 0 or more"),
        (lambda x: gb.repeat(x, 1.5), "repeat: repeats 1.5 is not made of integers"),
        (lambda x: gb.repeat(x, [1, 2]), r"repeat: repeats of shape \[2\] for 6 elements; give one for each, or one"),
        (lambda x: gb.repeat(x, [0.5] * 6), "repeat: repeats of float32 are not integers"),
        (lambda x: gb.repeat(x, [1, -1, 1], axis=1), "repeat_indices.*negative"),
        (lambda x: gb.roll(x, (1, 2, 3), axis=(0, 1)), "roll: 3 shifts for 2 axes; give one for each"),
        (lambda x: gb.roll(x, 1, axis=2), "roll: axis 2"),
        (lambda x: gb.tile(x, (2, -1)), r"tile: repetitions \(2, -1\) are negative"),
        (lambda x: gb.tile(x, 1.5), "tile: repetitions 1.5 is not made of integers"),
        (lambda x: gb.unstack(x, axis=3), "unstack: axis 3"),
        (lambda x: gb.broadcast_arrays(x, gb.ones(2)), "broadcast_shapes: .* do not broadcast"),
        (lambda x: gb.broadcast_shapes((2, -1)), "broadcast_shapes"),
        (lambda x: gb.meshgrid(x), "meshgrid: shapes .*; give arrays of one axis"),
        (lambda x: gb.meshgrid(x, indexing="yx"), "meshgrid: indexing='yx'; use 'xy' or 'ij'"),
        (lambda x: gb.tril(x, k=0.5), "tril: k 0.5 is not made of integers"),
        (lambda x: gb.take_along_axis(x, gb.tensor([0])), "take_along_axis: indices of shape .* same number of axes"),
        (lambda x: gb.take_along_axis(x, x), "take_along_axis: indices must be an integer array"),
        (lambda x: gb.take_along_axis(x, gb.zeros((3, 1), dtype="int64")), "take_along_axis"),
        (lambda x: gb.expand_dims(x, axis=4), "expand_dims: axis 4"),
        (lambda x: gb.concat([x, x], axis=(0, 1)), "concat: axis .* is not made of integers"),
    ],
)
def test_bad_input(call: Callable[[gb.Tensor], Any], words: str) -> None:
    with pytest.raises(gb.GpuBackpropError, match=words):
        call(gb.ones((2, 3)))


# what is written into ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gb.tile(x, (1, 1)),
        lambda x: gb.repeat(x, 1, axis=0),
        lambda x: gb.roll(x, 0, axis=0),
        lambda x: gb.meshgrid(x[0])[0],
        lambda x: gb.tril(x, k=9),
        lambda x: gb.diff(x, n=0),
        lambda x: gb.sort(x[:, :1], axis=0),
    ],
)
def test_a_result_is_a_copy_that_can_be_written(call: Callable[[gb.Tensor], gb.Tensor], device: str) -> None:
    x = gb.ones((2, 3), device=device)
    call(x)[...] = 7
    assert x.tolist() == [[1.0] * 3] * 2


def test_a_write_into_an_unstacked_view_is_seen_by_the_tape(device: str) -> None:
    x = gb.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    w = gb.ones((2, 2), device=device).requires_grad_()
    loss = (x * w).sum()
    first, _ = gb.unstack(x)
    first[0] = 9.0
    assert x.tolist() == [[9.0, 2.0], [3.0, 4.0]]
    with pytest.raises(gb.TapeError, match="'multiply' was changed in place"):
        loss.backward()
