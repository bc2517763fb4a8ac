"""Splitting labelled data so that every class keeps its share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import DataError, ShapeError
from ..core.tensor import Tensor
from ..random import Generator


def stratified_split(X: Any, y: Any, test: float = 0.2, seed: int = 0) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Two pairs, (X, y) to train on and (X, y) to test on; the classes of y have the same shares in both.

    X and y are NumPy arrays or Tensors, and so are the parts. test: the share of rows to test on, of all rows rounded,
    handed out among the classes by largest remainder. The same seed gives the same split, in shuffled order.
    """
    if len(X) != len(y):
        raise ShapeError(f"stratified_split: X has {len(X)} rows and y {len(y)}; they must be equal")
    if not 0 < test < 1:
        raise DataError(
            f"stratified_split: test={test} is not a share of the rows; use a number between 0 and 1, such as 0.2"
        )
    labels = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.ndim != 1:
        raise ShapeError(f"stratified_split: y has shape {list(labels.shape)}; give one label a row")
    wanted = round(test * len(labels))
    if not 0 < wanted < len(labels):
        raise DataError(
            f"stratified_split: test={test} of {len(labels)} rows leaves a part empty; give more rows or another share"
        )
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = Generator(seed).permutation(len(labels), device="cpu").numpy()
    take = np.floor(counts * test).astype(int)
    remainders = counts * test - take
    take[np.argsort(-remainders, kind="stable")[: wanted - take.sum()]] += 1
    # the place of each row, in shuffled order, among the rows of its class
    shuffled = classes[order]
    place = np.empty(len(order), int)
    by_class = np.argsort(shuffled, kind="stable")
    place[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    tested = place < take[shuffled]
    return _rows(X, y, order[~tested]), _rows(X, y, order[tested])


def _rows(X: Any, y: Any, rows: np.ndarray) -> tuple[Any, Any]:
    X = X if isinstance(X, Tensor) or hasattr(X, "__cuda_array_interface__") else np.asarray(X)
    y = y if isinstance(y, Tensor) or hasattr(y, "__cuda_array_interface__") else np.asarray(y)
    return X[rows], y[rows]
