"""Batches of arrays, in an order that a seed decides and a state dict can go back to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random
from ..core import devices
from ..core.errors import CheckpointError, DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import indexing


class TensorDataset:
    """Arrays whose first axis counts samples: NumPy or CuPy arrays, or Tensors; `dataset[i]` is sample i of each.

    NumPy arrays and lists stay on the CPU unless `device` is given; arrays on a GPU stay where they are. Memory is
    shared where it can be.
    """

    def __init__(self, *arrays: Any, device: Any = None):
        if not arrays:
            raise DataError("TensorDataset: no arrays; give at least one, such as TensorDataset(X, y)")
        self.tensors = tuple(_as_tensor(a, device) for a in arrays)
        lengths = [len(t) if t.ndim else None for t in self.tensors]
        if None in lengths or len(set(lengths)) > 1:
            shapes = ", ".join(str(list(t.shape)) for t in self.tensors)
            raise ShapeError(
                f"TensorDataset: arrays of shapes {shapes}; their first axes, which count samples, must be equal"
            )

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def to(self, device: Any) -> TensorDataset:
        """The same data on another device."""
        return TensorDataset(*(t.to(devices.device(device)) for t in self.tensors))


def _as_tensor(data: Any, device: Any) -> Tensor:
    if device is None and not isinstance(data, Tensor) and not hasattr(data, "__cuda_array_interface__"):
        device = "cpu"
    return asarray(data, device=device)


class DataLoader:
    """Walks over a dataset in batches, as tuples of Tensors on the dataset's device; each loop is an epoch.

    dataset: a TensorDataset, or a tuple of arrays to make one of.
    batch_size: samples a batch; the last batch of an epoch may be smaller.
    shuffle: another order in every epoch. Epoch e of seed s has the same order on every device and in every process.
    drop_last: leave out a last batch that is smaller.
    seed: decides the orders; by default it is drawn from this thread's generator, so `gb.manual_seed` decides them.

    Shuffling and batching happen on the device that holds the data. `state_dict()` says which epoch and batch comes
    next, also in the middle of a loop; after `load_state_dict` the next loop starts there.
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, drop_last: bool = False, seed: int | None = None
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise DataError(
                f"DataLoader: batch_size={batch_size!r} is not a number of samples; use an integer of at least 1"
            )
        if isinstance(dataset, tuple):
            dataset = TensorDataset(*dataset)
        if not isinstance(dataset, TensorDataset):
            kind = type(dataset).__name__
            raise DTypeError(f"DataLoader: a {kind} is not a dataset; give a TensorDataset or a tuple of arrays")
        if not len(dataset):
            raise DataError("DataLoader: the dataset has 0 samples; give at least one")
        if drop_last and batch_size > len(dataset):
            raise DataError(
                f"DataLoader: batch_size={batch_size} with drop_last leaves no batch of {len(dataset)} samples; "
                "use a smaller batch_size or drop_last=False"
            )
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        if seed is None:
            seed = int(random.default_generator().words(1)[0]) if shuffle else 0
        self._stream = random.Generator(seed)
        self._epoch = 0  # that the next loop runs
        self._first = 0  # batch that the next loop starts with
        self._place = (0, 0)  # epoch and batch that come next

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        epoch, first, count = self._epoch, self._first, len(self)
        self._epoch, self._first = epoch + 1, 0
        tensors = self.dataset.tensors
        orders = self._orders(epoch) if self.shuffle else {}
        for batch in range(first, count):
            self._place = (epoch, batch + 1) if batch + 1 < count else (epoch + 1, 0)
            rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            if self.shuffle:
                yield tuple(indexing.take(t, orders[t.device][rows], axis=0) for t in tensors)
            else:
                yield tuple(t[rows] for t in tensors)

    def _orders(self, epoch: int) -> dict[devices.Device, Tensor]:
        """The order of an epoch on each device that holds data.

        Epochs own equal stretches of the stream one after the other, so any epoch's order can be drawn at once.
        """
        n = len(self.dataset)
        key, _ = self._stream.get_state()
        self._stream.set_state((key, epoch * -(-n // 4)))
        order = self._stream.permutation(n, device="cpu")
        return {t.device: order.to(t.device) for t in self.dataset.tensors}

    def state_dict(self) -> dict[str, Any]:
        """Where this loader stands: the key of its orders, and the epoch and batch that come next."""
        key, _ = self._stream.get_state()
        epoch, batch = self._place
        return {"key": list(key), "epoch": epoch, "batch": batch, **self._layout()}

    def _layout(self) -> dict[str, Any]:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict()` was taken: the next loop starts with that epoch and batch."""
        missing = sorted({"key", "epoch", "batch", *self._layout()} - set(state))
        if missing:
            raise CheckpointError(
                f"DataLoader.load_state_dict: no {', '.join(missing)} in the state; give what state_dict() returned"
            )
        for name, value in self._layout().items():
            if state[name] != value:
                raise CheckpointError(
                    f"DataLoader.load_state_dict: {name} is {state[name]} in the state, {value} here; make them equal"
                )
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch < len(self):
            raise CheckpointError(
                f"DataLoader.load_state_dict: there is no batch {batch} of epoch {epoch}; an epoch has {len(self)}"
            )
        key = state["key"]
        self._stream.set_state(((int(key[0]), int(key[1])), 0))
        self._epoch, self._first = epoch, batch
        self._place = (epoch, batch)
