"""Writes in place: all augmented operators, views, and one-sentence errors where a write cannot be."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import gpu_backprop as gb

OPERATORS = ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"]
INTEGER_OPERATORS = ["iadd", "iand", "ior", "ixor", "ilshift", "irshift", "ifloordiv", "imod"]


@pytest.mark.parametrize("name", OPERATORS)
def test_augmented_operators_write_through_views(device, name) -> None:
    host = np.array([3.0, 5.0, 7.0])
    t = gb.tensor(host)
    view, version = t[1:], t.version
    result = getattr(operator, name)(view, 2.0)
    assert result is view
    host[1:] = getattr(operator, name)(host[1:], 2.0)
    np.testing.assert_array_equal(t.numpy(), host)
    assert t.version > version


@pytest.mark.parametrize("name", INTEGER_OPERATORS)
def test_augmented_integer_operators_write_through_views(device, name) -> None:
    host = np.array([3, 5, 7])
    t = gb.tensor(host)
    view = t[1:]
    assert getattr(operator, name)(view, 2) is view
    host[1:] = getattr(operator, name)(host[1:], 2)
    np.testing.assert_array_equal(t.numpy(), host)


def test_augmented_matmul() -> None:
    t, factor = gb.tensor([[1.0, 2.0], [3.0, 4.0]]), gb.tensor([[0.0, 1.0], [1.0, 0.0]])
    same = t
    t @= factor
    assert t is same
    np.testing.assert_array_equal(t.numpy(), [[2, 1], [4, 3]])


def test_a_repeated_view_cannot_be_written(device) -> None:
    ones = gb.ones(3)
    x = ones.broadcast_to((2, 3))
    with pytest.raises(gb.ShapeError, match=r"in-place add: .*read-only.*t\.copy\(\)"):
        x += 1
    with pytest.raises(gb.ShapeError, match=r"item assignment: .*read-only.*t\.copy\(\)"):
        x[:, 1:][0] = 2
    with pytest.raises(gb.ShapeError, match=r"copy_: .*read-only"):
        x.copy_(gb.zeros((2, 3)))
    assert ones.tolist() == [1, 1, 1]


def test_copy_of_another_shape() -> None:
    with pytest.raises(gb.ShapeError, match=r"copy_: .*make the shapes fit"):
        gb.ones(3).copy_(gb.ones(4))


@pytest.mark.emulated
def test_an_index_on_another_device() -> None:
    t = gb.zeros(3, device="cpu")
    with pytest.raises(gb.DeviceError, match="item assignment: an index on another device"):
        t[gb.tensor([0, 1], device="emulated")] = 1.0


def test_a_wider_dtype_of_the_same_kind_is_written_as_in_numpy(device):
    for own, other in (("int32", "int64"), ("float32", "float64")):
        t = gb.ones(3, dtype=own, device=device)
        t += gb.ones(3, dtype=other, device=device)
        assert t.dtype == own
        assert t.tolist() == [2, 2, 2]
    for own, other in (("int32", "float32"), ("float32", "complex64")):
        t = gb.ones(3, dtype=own, device=device)
        with pytest.raises(gb.DTypeError, match=rf"in-place add: a result of \w+\[3\] does not fit into {own}\[3\]"):
            t += gb.ones(3, dtype=other, device=device)


def test_lists_with_tensors_on_the_tape_are_not_written() -> None:
    """Their gradient would be lost, as that of a Tensor would."""
    v = gb.tensor([1.0, 2.0], requires_grad=True)
    for index, value in ((slice(None), [v[0] * 3, v[1]]), (slice(None), (1.0, v[1])), ([0], [v[0]])):
        y = gb.ones(2)
        with pytest.raises(gb.TapeError, match=r"item assignment: .*use gb\.where"):
            y[index] = value
        assert y.tolist() == [1, 1]
        with gb.no_grad():
            y[index] = value
    matrix = gb.ones((2, 2))
    with pytest.raises(gb.TapeError, match="item assignment"):
        matrix[...] = [[1.0, 2.0], [v[0], 4.0]]
    with pytest.raises(gb.TapeError, match="fill: "):
        gb.ones(2).fill([v[0]])


def test_a_view_on_the_tape_is_not_written_past_its_base(device) -> None:
    a = gb.tensor([2.0, 3.0], requires_grad=True, device=device)
    c = gb.ones(3, device=device)
    v, row, b = c[:2], c.reshape((1, 3))[0, :2], a * 2
    for view, other in ((v, a), (row, a), (b[:1], 5), (c.detach()[:2], a)):
        with pytest.raises(gb.TapeError, match=r"in-place multiply: a view .* t = gb\.multiply\(t, other\)"):
            view *= other
    with pytest.raises(gb.TapeError, match="in-place"):
        c[:2] += a
    for part in gb.stack([b, b]):
        with pytest.raises(gb.TapeError, match="in-place"):
            part -= 1
    assert c.tolist() == [1, 1, 1]
    with gb.no_grad():
        v *= a
    assert c.tolist() == [2, 3, 1]


def test_a_view_of_nothing_else_in_use_becomes_a_new_tensor(device) -> None:
    a = gb.tensor([2.0, 3.0], requires_grad=True, device=device)
    h, total, flat = (a * a)[:1], gb.zeros(4, device=device)[:2], gb.exp(a * 0).reshape((2, 1))
    h += 1
    total += a
    flat += 1
    (h.sum() + total.sum() + flat.sum()).backward()
    assert (h.tolist(), total.tolist(), flat.tolist()) == ([5], [2, 3], [[2], [2]])
    assert a.grad.tolist() == [5, 1]


@pytest.mark.parametrize(
    ("dtype", "value", "error", "words"),
    [
        ("float32", 1j, gb.DTypeError, "complex128 into float32; use gb.real"),
        ("float32", np.complex64(1j), gb.DTypeError, "complex64 into float32; use gb.real"),
        ("int64", float("nan"), gb.DataError, "nan is no int64; use a float dtype"),
        ("int64", float("inf"), gb.DataError, "inf is no int64; use a float dtype"),
        ("int8", 300, gb.DataError, r"\(Tensor of int8\); use a wider dtype"),
        ("int64", 2**70, gb.DataError, r"\(Tensor of int64\); use a wider dtype"),
    ],
)
def test_numbers_that_a_dtype_does_not_hold(dtype, value, error, words) -> None:
    t = gb.zeros(2, dtype=dtype)
    with pytest.raises(error, match=f"item assignment: .*{words}"):
        t[0] = value
    assert t.tolist() == [0, 0]
