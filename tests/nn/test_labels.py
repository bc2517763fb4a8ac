"""Integers as input: one-hot rows, and the row of an embedding that gets no gradient."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

F = gb.nn.functional


def test_one_hot(device):
    labels = np.array([[2, 0], [1, 2]])
    out = F.one_hot(gb.tensor(labels))
    np.testing.assert_array_equal(out.numpy(), np.eye(3, dtype=np.int64)[labels], strict=True)
    out = F.one_hot(gb.tensor(labels, dtype="uint8"), 300)
    np.testing.assert_array_equal(out.numpy(), np.eye(300, dtype=np.int64)[labels], strict=True)
    for dtype in ("float32", "float64", "float16", "bfloat16", "bool"):
        out = F.one_hot(labels, num_classes=4, dtype=dtype)  # a NumPy array
        assert out.dtype.name == dtype
        np.testing.assert_array_equal(out.astype("float64").numpy(), np.eye(4)[labels])
    assert F.one_hot(gb.zeros((0, 2), dtype="int64"), 3).shape == (0, 2, 3)
    assert F.one_hot(gb.tensor(1), np.int64(2)).tolist() == [0, 1]
    assert not out.requires_grad


def padded(padding_idx, rows=3):
    return F.embedding(gb.zeros(0, dtype="int64"), gb.ones((rows, 2)), padding_idx=padding_idx)


BAD = [
    (lambda: F.one_hot(gb.ones(3)), gb.DTypeError, "one_hot: labels of float32 are not integers"),
    (lambda: F.one_hot(gb.tensor([True])), gb.DTypeError, "one_hot: labels of bool are not integers"),
    (lambda: F.one_hot(gb.zeros(0, dtype="int64")), gb.DataError, "one_hot: without labels .* pass it"),
    (lambda: F.one_hot(gb.tensor([0]), 0), gb.DataError, "one_hot: num_classes=0 leaves no class"),
    (lambda: F.one_hot(gb.tensor([0, 3]), 3), gb.DataError, r"one_hot: label 3 is not one of the 3 classes 0\.\.2"),
    (lambda: F.one_hot(gb.tensor([0, -1])), gb.DataError, r"one_hot: label -1 is not one of the 1 classes 0\.\.0"),
    (lambda: F.one_hot(gb.tensor([-2, -7])), gb.DataError, "one_hot: label -7 is negative"),
    (lambda: F.one_hot(gb.tensor([0]), 2.5), gb.DTypeError, r"one_hot: num_classes 2\.5 is not made of integers"),
    (lambda: padded(3), gb.DataError, r"embedding: padding_idx=3 is not one of the 3 rows; use -3 to 2"),
    (lambda: padded(-4), gb.DataError, "embedding: padding_idx=-4 is not"),
    (lambda: padded(0.5), gb.DTypeError, r"embedding: padding_idx 0\.5 is not made of integers"),
    (lambda: padded(0, rows=0), gb.DataError, "embedding: padding_idx=0 for a table without rows; leave it out"),
    (lambda: F.embedding(gb.tensor([0]), gb.ones((0, 2))), gb.DataError, "embedding: index 0"),
    (lambda: F.embedding(gb.tensor([0, 3]), gb.ones((3, 2))), gb.DataError, r"index 3 is not one of the 3 rows 0\.\.2"),
    (lambda: F.embedding(gb.tensor([-1]), gb.ones((3, 2))), gb.DataError, "embedding: index -1"),
    (lambda: gb.take(gb.ones((3, 2)), gb.tensor([3]), axis=0), IndexError, "index 3 is out of bounds .*use indices"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case, device):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run().numpy()
    assert "\n" not in str(caught.value)


def test_the_row_of_padding_gets_no_gradient_of_any_order(device):
    weight = gb.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    index = np.array([1, 3, 1, 0])
    g = gb.tensor(np.random.default_rng(1).normal(size=(4, 3)), requires_grad=True)
    (first,) = gb.vjp(lambda w: F.embedding(gb.tensor(index), w, padding_idx=-1), weight)[1](g)
    expected = np.zeros((4, 3))
    np.add.at(expected, index, g.detach().numpy())
    expected[3] = 0
    np.testing.assert_allclose(first.detach().numpy(), expected, rtol=1e-15)
    direction = np.random.default_rng(2).normal(size=(4, 3))
    (first * gb.tensor(direction)).sum().backward()
    expected = direction[index]
    expected[index == 3] = 0
    np.testing.assert_array_equal(g.grad.numpy(), expected)


def test_repeated_indices_add_up_in_order(device):
    """Bit for bit what np.add.at gives."""
    index, g = np.random.default_rng(0).integers(0, 5, 200), np.random.default_rng(1).normal(size=(200, 7))
    weight = gb.zeros((5, 7), dtype="float32").requires_grad_()
    (F.embedding(gb.tensor(index), weight) * gb.tensor(g, dtype="float32")).sum().backward()
    expected = np.zeros((5, 7), np.float32)
    np.add.at(expected, index, g.astype(np.float32))
    np.testing.assert_array_equal(weight.grad.numpy(), expected)
