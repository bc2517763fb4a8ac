"""Data: the digits that come with the package, readers of plain files, and batches in an order that can be repeated.

X, y = gb.data.load_digits()
train, test = gb.data.stratified_split(X, y)
for x, labels in gb.data.DataLoader(gb.data.TensorDataset(*train), batch_size=32, shuffle=True, seed=0):
    ...
"""

from __future__ import annotations

from .digits import load_digits
from .files import read_csv, read_idx, read_npz
from .loader import DataLoader, TensorDataset
from .split import stratified_split

__all__ = ["DataLoader", "TensorDataset", "load_digits", "read_csv", "read_idx", "read_npz", "stratified_split"]
