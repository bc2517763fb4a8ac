"""Array functions and operators against NumPy, driven by hypothesis: indexing, reductions, movement, broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpu_backprop as gb

FEW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FLOATS = st.floats(-100, 100, width=32)
DTYPES = st.sampled_from(["float64", "float32", "int64", "int32", "uint8", "bool"])


def arrays(shapes: Any = SHAPES, dtypes: Any = DTYPES) -> st.SearchStrategy[np.ndarray]:
    def of(pair: tuple[str, tuple[int, ...]]) -> st.SearchStrategy[np.ndarray]:
        dtype, shape = pair
        return hnp.arrays(dtype, shape, elements=FLOATS if dtype.startswith("f") else None)

    return st.tuples(dtypes, shapes).flatmap(of)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(float(np.prod(shape))).reshape(shape)


def same(found: gb.Tensor, expected: Any, **tolerance: float) -> None:
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    np.testing.assert_allclose(found.numpy(), expected, strict=True, **({"rtol": 0} | tolerance))


# indexing ------------------------------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_basic_indexing(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    x = numbered(shape)
    same(gb.tensor(x)[index], x[index])


@FEW
@given(st.data())
def test_integer_array_indexing(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    index = data.draw(
        hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    )
    x = numbered(shape)
    check_index_gradient(x, index)


@FEW
@given(st.data())
def test_mixed_indexing(data: st.DataObject) -> None:
    """Integers, slices, None, integer arrays and masks in one index."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    length = data.draw(st.integers(1, 3))
    index: list[Any] = []
    for n in shape:
        kind = data.draw(st.sampled_from(["integer", "slice", "array", "mask", "new"]))
        if kind == "new":
            index.append(None)
            kind = "slice"
        if kind == "integer":
            index.append(data.draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            index.append(data.draw(st.slices(n)))
        elif kind == "array":
            index.append(np.array(data.draw(st.lists(st.integers(-n, n - 1), min_size=length, max_size=length))))
        else:
            mask = np.zeros(n, bool)
            mask[data.draw(st.lists(st.integers(0, n - 1), min_size=0, max_size=n))] = True
            index.append(mask)
    x = numbered(shape)
    try:
        x[tuple(index)]
    except IndexError:  # arrays of lengths that do not broadcast
        with pytest.raises(IndexError, match="getitem"):
            gb.tensor(x)[tuple(index)]
        return
    check_index_gradient(x, tuple(index))


def check_index_gradient(x: np.ndarray, index: Any) -> None:
    """The value, and the adjoint: g scattered back, repeated indices adding up."""
    t = gb.tensor(x, requires_grad=True)
    found = t[index]
    same(found, x[index])
    weights = np.arange(1.0, 1 + found.size).reshape(found.shape)
    (found * weights).sum().backward()
    expected = np.zeros_like(x)
    np.add.at(expected, index, weights)
    same(t.grad, expected)


@FEW
@given(st.data())
def test_masks_and_assignment(data: st.DataObject) -> None:
    x = data.draw(arrays(dtypes=st.sampled_from(["float64", "int64"])))
    mask = data.draw(hnp.arrays(bool, x.shape))
    same(gb.tensor(x)[gb.tensor(mask)], x[mask])
    written, y = gb.tensor(x), x.copy()
    written[mask] = 7
    y[mask] = 7
    same(written, y)
    index = data.draw(hnp.basic_indices(x.shape, allow_newaxis=False))
    written[index], y[index] = 3, 3
    same(written, y)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (5, r"getitem\(float32\[3, 2\]\).*index 5 is out of bounds.*3"),
        ((0, 0, 0), "too many indices"),
        ([0, 7], "index 7 is out of bounds"),
        (np.array([True, False]), "boolean index did not match"),
        ("a", "'a' cannot index; use integers, slices"),
        (1.5, "1.5 cannot index"),
        (np.array([0.5]), "an array of float64 cannot index; use integers, bools or slices"),
        ((slice(None), [[0, 1], [2]]), "ragged"),
    ],
)
def test_bad_indices(index: Any, words: str) -> None:
    with pytest.raises(gb.GpuBackpropError, match=words) as found:
        gb.ones((3, 2))[index]
    assert isinstance(found.value, (IndexError, TypeError, ValueError))


# reductions ----------------------------------------------------------------------------------------------------------

AXES = st.one_of(st.none(), st.integers(-3, 3), st.lists(st.integers(-3, 3), max_size=3).map(tuple))


@FEW
@given(
    x=arrays(),
    axis=AXES,
    keepdims=st.booleans(),
    name=st.sampled_from(["sum", "prod", "max", "min", "any", "all", "mean", "var"]),
)
def test_reductions(x: np.ndarray, axis: Any, keepdims: bool, name: str) -> None:
    reference = getattr(np, name)
    t = gb.tensor(x)
    if x.ndim == 0 and axis not in (None, ()):  # NumPy lets a number have axis 0; the standard does not
        with pytest.raises(gb.ShapeError, match=f"{name}: axis .* of an array with 0 axes; leave axis out"):
            getattr(gb, name)(t, axis=axis, keepdims=keepdims)
        return
    with np.errstate(all="ignore"):
        try:
            expected = reference(x, axis=axis, keepdims=keepdims)
        except ValueError:
            with pytest.raises(gb.ShapeError, match=name):
                getattr(gb, name)(t, axis=axis, keepdims=keepdims)
            return
        if name in ("mean", "var") and x.dtype.kind != "f":
            expected = np.asarray(expected, np.float32)  # the default dtype
        if x.size == 0 and name in ("mean", "var"):
            return  # NaN with a warning
        found = getattr(gb, name)(t, axis=axis, keepdims=keepdims)
        tolerance = 1e-5 if np.asarray(expected).dtype == np.float32 else 1e-12
        atol = tolerance * 100 if name in ("sum", "mean", "var") else 0.0
        same(found, expected, rtol=tolerance, atol=atol * (100 if name == "var" else 1))
        method = getattr(t, name)(axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(method.numpy(), found.numpy())


@FEW
@given(
    x=arrays(),
    axis=st.one_of(st.none(), st.integers(-3, 3)),
    keepdims=st.booleans(),
    name=st.sampled_from(["argmax", "argmin"]),
)
def test_arg_reductions(x: np.ndarray, axis: Any, keepdims: bool, name: str) -> None:
    try:
        if x.ndim == 0 and axis is not None:
            raise ValueError
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    except ValueError:
        with pytest.raises(gb.ShapeError, match=name):
            getattr(gb, name)(gb.tensor(x), axis=axis, keepdims=keepdims)
        return
    same(getattr(gb, name)(gb.tensor(x), axis=axis, keepdims=keepdims), expected)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "sum", "mean"])
def test_nan_takes_part(name: str, device: str) -> None:
    x = np.array([[1.0, np.nan, 3.0, np.nan], [4.0, 2.0, 9.0, 2.0]])
    np.testing.assert_array_equal(getattr(gb, name)(gb.tensor(x), axis=1).numpy(), getattr(np, name)(x, axis=1))


def test_infinities(device: str) -> None:
    x = gb.tensor([[-np.inf, -np.inf], [np.inf, 1.0], [-np.inf, 2.0]], dtype="float64")
    assert gb.logsumexp(x, axis=1).tolist() == [-np.inf, np.inf, 2.0]
    assert gb.max(x, axis=1).tolist() == [-np.inf, np.inf, 2.0]
    assert gb.isnan(gb.maximum(gb.tensor([np.nan, 1.0]), gb.tensor([1.0, np.nan]))).all()


@FEW
@given(
    x=arrays(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), st.just("float64")),
    axis=st.integers(0, 2),
    name=st.sampled_from(["sum", "mean", "max", "var", "prod"]),
)
def test_gradients_of_reductions_of_any_layout(x: np.ndarray, axis: int, name: str) -> None:
    """A transposed input has the transposed gradient."""
    if axis >= x.ndim:
        return
    f = getattr(gb, name)
    with np.errstate(all="ignore"):
        a = gb.grad(lambda t: f(t, axis=axis).sum())(gb.tensor(x))
        b = gb.grad(lambda t: f(t.T, axis=x.ndim - 1 - axis).sum())(gb.tensor(x))
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


# broadcasting and operators ------------------------------------------------------------------------------------------


@FEW
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    name=st.sampled_from(["add", "multiply", "maximum", "less"]),
)
def test_broadcasting_and_its_adjoint(shapes: hnp.BroadcastableShapes, name: str) -> None:
    a, b = (numbered(s) - 3.3 * i for i, s in enumerate(shapes.input_shapes))
    x, y = gb.tensor(a, requires_grad=True), gb.tensor(b, requires_grad=True)
    out = getattr(gb, name)(x, y)
    same(out, getattr(np, name)(a, b))
    assert out.shape == shapes.result_shape
    if name == "multiply":
        out.sum().backward()
        repeated = np.broadcast_to(b, out.shape)
        lead = tuple(range(out.ndim - a.ndim))
        stretched = tuple(i + len(lead) for i, n in enumerate(a.shape) if n == 1 and out.shape[i + len(lead)] != 1)
        same(x.grad, repeated.sum(axis=lead + stretched, keepdims=True).reshape(a.shape), rtol=1e-12)


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(
        gb.ShapeError, match=r"add\(float32\[2, 3\], float32\[4\]\):.*make the shapes equal, or 1 where they differ"
    ):
        gb.ones((2, 3)) + gb.ones(4)


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b, "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b, "@": lambda a, b: a @ b,
}  # fmt: skip


@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize(
    ("left", "right"),
    [("tensor", "tensor"), ("tensor", "numpy"), ("tensor", "scalar"), ("numpy", "tensor"), ("scalar", "tensor")],
)
def test_operators_with_every_partner(symbol: str, left: str, right: str) -> None:
    if symbol == "@" and "scalar" in (left, right):
        with pytest.raises(gb.ShapeError, match="matmul: an operand is a scalar; use \\* instead"):
            gb.ones(3) @ 2 if right == "scalar" else 2 @ gb.ones(3)
        return
    integers = symbol in "&|^<<>>" and symbol not in "<>"
    values = np.array([3, 2, 5]) if integers else np.array([3.0, 2.0, 5.0])
    scalar = 2 if integers else 2.0
    partner = {"tensor": lambda: gb.tensor(values), "numpy": lambda: values, "scalar": lambda: scalar}
    plain = {"tensor": values, "numpy": values, "scalar": scalar}
    operator = OPERATORS[symbol]
    found = operator(partner[left](), partner[right]())
    assert isinstance(found, gb.Tensor)
    same(found, operator(plain[left], plain[right]), rtol=1e-12)


def test_numpy_scalars_on_either_side() -> None:
    x = gb.ones(3)
    for found in (np.float32(2) * x, x * np.float32(2), np.float32(2) + x):
        assert isinstance(found, gb.Tensor)
        assert found.dtype == gb.float32
    assert (np.float64(2) * x).dtype == gb.float64  # a NumPy scalar has a dtype of its own
    assert isinstance(np.ones(3) - x, gb.Tensor)


def test_python_protocols() -> None:
    x = gb.tensor([[1.5, 2.0]])
    assert len(x) == 1
    assert [row.tolist() for row in x] == [[1.5, 2.0]]
    assert float(x[0, 0]) == 1.5
    assert int(x[0, 1]) == 2
    assert bool(x[0, 1])
    assert range(5)[gb.tensor(2)] == 2
    assert gb.arange(4)[gb.tensor(1) :].tolist() == [1, 2, 3]
    assert gb.zeros((gb.tensor(2), np.int64(3))).shape == (2, 3)
    assert f"{x[0, 0]:.2f}" == "1.50"
    assert np.asarray(x).tolist() == [[1.5, 2.0]]
    assert np.sin(x).dtype == np.float32
    assert "1.5" in repr(x)
    assert abs(-x).tolist() == (+x).tolist() == [[1.5, 2.0]]
    assert {x: 1}[x] == 1
    with pytest.raises(gb.ShapeError, match=r"bool: shape \[1, 2\] holds 2 values; use t.any\(\) or t.all\(\)"):
        bool(x)
    with pytest.raises(gb.ShapeError, match=r"item: shape \[1, 2\] holds 2 values"):
        x.item()
    with pytest.raises(TypeError, match="a scalar array has no length"):
        len(gb.tensor(1.0))
    with pytest.raises(TypeError, match="cannot be iterated over"):
        iter(gb.tensor(1.0))
    with pytest.raises(TypeError, match="is not an integer"):
        range(5)[gb.tensor(2.0)]


# movement ------------------------------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_movement(data: st.DataObject) -> None:
    x = data.draw(arrays())
    t, n = gb.tensor(x), x.ndim
    axes = data.draw(st.permutations(range(n)))
    same(gb.permute_dims(t, tuple(axes)), np.transpose(x, axes))
    same(t.T, x.T)
    same(gb.flip(t), np.flip(x))
    same(gb.reshape(t, (-1,)) if x.size else t.reshape(0), x.reshape(-1))
    if n:
        axis = data.draw(st.integers(-n, n - 1))
        same(gb.flip(t, axis=axis), np.flip(x, axis))
        same(gb.concat([t, t], axis=axis), np.concatenate([x, x], axis))
        same(gb.expand_dims(t, axis=axis), np.expand_dims(x, axis))
        same(gb.squeeze(gb.expand_dims(t, axis=axis), axis=axis), x)
        indices = (
            data.draw(
                hnp.arrays(
                    "int64",
                    hnp.array_shapes(max_dims=2, max_side=3),
                    elements=st.integers(-x.shape[axis], x.shape[axis] - 1),
                )
            )
            if x.shape[axis]
            else np.zeros(0, int)
        )
        same(gb.take(t, gb.tensor(indices), axis=axis), np.take(x, indices, axis))
    same(gb.stack([t, t], axis=-1), np.stack([x, x], -1))
    same(gb.broadcast_to(t, (2, *x.shape)), np.broadcast_to(x, (2, *x.shape)))
    same(gb.squeeze(gb.expand_dims(t, axis=0), axis=0), x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gb.reshape(x, (4, 2)), r"reshape\(float32\[2, 3\]\)"),
        (lambda x: gb.permute_dims(x, (0, 0)), r"axes \(0, 0\) do not name each of the 2 axes of \[2, 3\] once"),
        (lambda x: gb.squeeze(x, axis=0), r"axis 0 of shape \[2, 3\] is not of length 1"),
        (lambda x: gb.broadcast_to(x, (3, 2)), r"broadcast_to\(float32\[2, 3\]\)"),
        (lambda x: gb.concat([x, gb.ones((3, 3))], axis=1), r"concat\(float32\[2, 3\], float32\[3, 3\]\)"),
        (lambda x: gb.concat([]), "no arrays given; give at least one"),
        (lambda x: gb.stack([x, gb.ones(2)]), r"shapes \[\[2, 3\], \[2\]\] differ; all must be equal"),
        (lambda x: gb.stack([]), "no arrays given"),
        (lambda x: gb.sum(x, axis=2), "sum: axis 2 of an array with 2 axes; use -2 to 1"),
        (lambda x: gb.sum(x, axis=(0, -2)), "names an axis twice"),
        (lambda x: gb.matmul(x, x), r"matmul: \[2, 3\] @ \[2, 3\]: the last axis of the left \(3\)"),
        (lambda x: gb.matmul(gb.ones((2, 1, 3)), gb.ones((3, 3, 1))), r"matmul"),
        (lambda x: gb.tensordot(x, x, axes=3), "axes=3 for shapes"),
        (lambda x: gb.tensordot(x, x, axes=([0], [1])), "differ in length"),
        (lambda x: gb.vecdot(x, gb.ones((2, 2))), "differ in length"),
        (lambda x: gb.vecdot(x, gb.ones(3), axis=-2), r"axis -2 for shapes \[2, 3\] and \[3\]; use -1 to -1"),
        (lambda x: gb.vecdot(x, gb.tensor(1.0)), "a scalar has no axis"),
        (lambda x: gb.take(x, gb.tensor([5]), axis=0), "index 5 is out of bounds for axis 0 of length 2"),
        (lambda x: gb.max(gb.zeros((0, 3)), axis=0), "max"),
        (
            lambda x: gb.argmax(gb.zeros((0, 3)), axis=0),
            r"no element to choose from in shape \[0, 3\]; give at least one",
        ),
        (lambda x: gb.expand_dims(x, axis=4), "axis 4 of an array with 3 axes"),
        (lambda x: gb.zeros((2, -1)), "negative length"),
        (lambda x: gb.tensor([[1.0], [1.0, 2.0]]), "ragged"),
        (lambda x: x.mT.sum() + gb.tensor(1.0).mT, "no two axes to exchange"),
    ],
)
def test_shapes_that_do_not_fit(call: Any, words: str) -> None:
    with pytest.raises(gb.ShapeError, match=words):
        call(gb.ones((2, 3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: gb.tensor("abc"), "cannot be a Tensor; give numbers or bools"),
        (lambda x: gb.tensor([None]), "cannot be a Tensor"),
        (lambda x: x + "a", "add: .*cannot be a Tensor"),
        (lambda x: x + None, "add"),
        (lambda x: gb.exp("a"), "exp: .*cannot be a Tensor"),
        (lambda x: gb.exp(None), "exp"),
        (lambda x: x & x, r"bitwise_and\(float32\[2, 3\], float32\[2, 3\]\)"),
        (lambda x: ~x, r"bitwise_invert\(float32\[2, 3\]\)"),
        (lambda x: gb.take(x, gb.tensor([0.0]), axis=0), "indices must be an integer array; use t.astype"),
        (lambda x: gb.clip(gb.arange(3), 0.5, 2), "a float bound 0.5 for an array of int64"),
        (lambda x: gb.arange(3) ** -1, "pow"),
        (lambda x: gb.sum(x, axis="a"), "sum.*axis"),
        (lambda x: gb.sum(x, axis=0.5), "sum.*axis"),
        (lambda x: x.reshape("a"), "reshape"),
        (lambda x: gb.zeros("a"), "zeros.*shape"),
        (lambda x: gb.zeros((2.5,)), "zeros.*shape"),
        (lambda x: x.to(None), "None is not a data type"),
        (lambda x: x.permute_dims(("a", 0)), "permute_dims: axes .* is not made of integers"),
        (lambda x: gb.concat(3), "concat: 3 is not a sequence of arrays"),
        (lambda x: gb.random.uniform("ab"), "random: shape 'ab' is not made of integers"),
        (lambda x: gb.random.integers(0.5, 3), "integers: range .* is not made of integers"),
        (
            lambda x: gb.ones(2, dtype="uint8") * -1,
            r"multiply\(uint8\[2\], -1\): .*; cast the array to a wider dtype first",
        ),
        (lambda x: x["a":], "slice bound 'a' is not made of integers"),
        (lambda x: x.reshape(2.5, 2), "reshape: shape .*2.5, 2.* is not made of integers"),
        (lambda x: gb.broadcast_to(x, 3.0), "broadcast_to: shape 3.0"),
        (lambda x: gb.ones(3, dtype="uint8") + 300, r"add\(uint8\[3\], 300\)"),
    ],
)
def test_objects_that_do_not_fit(call: Any, words: str) -> None:
    with pytest.raises(gb.GpuBackpropError, match=words):
        call(gb.ones((2, 3)))
