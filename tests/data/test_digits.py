"""The digits in the package, and splits that keep the classes' shares."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb


def test_digits_are_what_they_say():
    X, y = gb.data.load_digits()
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((1797, 64), np.float32, (1797,), np.int64)
    assert (X.min(), X.max()) == (0.0, 16.0)
    np.testing.assert_array_equal(X, np.round(X))
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    scaled, _ = gb.data.load_digits(scaled=True)
    np.testing.assert_array_equal(scaled * 16, X)


def test_digits_equal_scikit_learns():
    from sklearn import datasets

    X, y = datasets.load_digits(return_X_y=True)
    ours, labels = gb.data.load_digits()
    np.testing.assert_array_equal(ours, X)
    np.testing.assert_array_equal(labels, y)


def test_split_keeps_shares_and_loses_nothing():
    _, y = gb.data.load_digits()
    rows = np.arange(len(y))
    (train, y_train), (test, y_test) = gb.data.stratified_split(rows, y, test=0.2, seed=0)
    assert len(test) == round(0.2 * len(y))
    assert sorted([*train, *test]) == rows.tolist()
    np.testing.assert_array_equal(y_train, y[train])
    np.testing.assert_array_equal(y_test, y[test])
    assert np.abs(np.bincount(y_test) - 0.2 * np.bincount(y)).max() < 1
    assert not np.array_equal(train, np.sort(train))


def test_split_by_seed():
    y = np.repeat([0, 1, 2], 20)
    parts = [gb.data.stratified_split(np.arange(60), y, seed=s)[1][0].tolist() for s in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_split_of_rare_classes_and_tensors():
    y = np.array([0] * 9 + [7])
    (_, y_train), (_, y_test) = gb.data.stratified_split(np.eye(10), y, test=0.3)
    assert (len(y_train), len(y_test)) == (7, 3)
    assert 7 in y_train
    train, test = gb.data.stratified_split(gb.tensor(np.eye(10)), gb.tensor(y), test=0.3)
    assert isinstance(train[0], gb.Tensor)
    np.testing.assert_array_equal(test[1].numpy(), y_test)


def test_split_bad_input():
    with pytest.raises(gb.ShapeError, match="X has 3 rows and y 4"):
        gb.data.stratified_split(np.zeros(3), np.zeros(4))
    with pytest.raises(gb.ShapeError, match=r"\[4, 1\]"):
        gb.data.stratified_split(np.zeros(4), np.zeros((4, 1)))
    with pytest.raises(gb.DataError, match=r"test=1.5"):
        gb.data.stratified_split(np.zeros(4), np.zeros(4), test=1.5)
    with pytest.raises(gb.DataError, match="leaves a part empty"):
        gb.data.stratified_split(np.zeros(2), np.zeros(2), test=0.1)
