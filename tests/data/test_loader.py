"""TensorDataset and DataLoader: order, seeds, places in the middle of an epoch, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.data import DataLoader, TensorDataset


def rows(loader) -> list[list[int]]:
    return [x.numpy().astype(int).ravel().tolist() for (x,) in loader]


def flat(loader) -> list[int]:
    return [row for batch in rows(loader) for row in batch]


def test_dataset_indexing_and_memory():
    X, y = np.arange(6.0, dtype=np.float32).reshape(3, 2), np.array([1, 2, 3])
    dataset = TensorDataset(X, y)
    assert len(dataset) == 3
    x, label = dataset[1]
    assert x.tolist() == [2.0, 3.0]
    assert label.item() == 2
    assert all(t.device == "cpu" for t in dataset.tensors)
    X[1] = 9
    assert dataset[1][0].tolist() == [9.0, 9.0]  # shared, not copied


def test_plain_order_and_the_last_batch():
    data = np.arange(10)
    loader = DataLoader(TensorDataset(data), batch_size=4)
    assert len(loader) == 3
    assert rows(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    dropping = DataLoader((data,), batch_size=4, drop_last=True)
    assert len(dropping) == 2
    assert rows(dropping) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(DataLoader((data,), batch_size=5)) == 2


def test_shuffle_is_a_permutation_that_differs_by_epoch():
    loader = DataLoader((np.arange(50),), batch_size=8, shuffle=True, seed=3)
    first, second = flat(loader), flat(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != sorted(first)


def test_arrays_stay_together():
    X = np.arange(40.0).reshape(20, 2)
    for x, y in DataLoader((X, np.arange(20)), batch_size=6, shuffle=True, seed=1):
        np.testing.assert_array_equal(x.numpy()[:, 0], 2 * y.numpy())


def test_seed_decides_the_order():
    def order(seed):
        loader = DataLoader((np.arange(30),), batch_size=7, shuffle=True, seed=seed)
        return rows(loader) + rows(loader)

    assert order(5) == order(5)
    assert order(5) != order(6)
    gb.manual_seed(1)
    a, b = order(None), order(None)
    gb.manual_seed(1)
    assert order(None) == a
    assert a != b


def test_every_epoch_owns_its_stretch_of_the_stream():
    # epoch e sorts the words that start at block e * ceil(n / 4) of the seed's stream
    loader = DataLoader((np.arange(10),), batch_size=10, shuffle=True, seed=42)
    words = np.random.Philox(42).random_raw(24)
    assert rows(loader)[0] == np.argsort(words[:10], kind="stable").tolist()
    assert rows(loader)[0] == np.argsort(words[12:22], kind="stable").tolist()


@pytest.mark.parametrize("stop", [1, 3, 6, 9])
def test_going_on_in_the_middle_of_an_epoch(stop):
    def make(seed):
        return DataLoader((np.arange(20),), batch_size=4, shuffle=True, seed=seed)

    def endless(loader):
        while True:
            yield from loader

    loader = make(9)
    walk = endless(loader)
    for _ in range(stop):
        next(walk)
    state = json.loads(json.dumps(loader.state_dict()))
    expected = [next(walk)[0].tolist() for _ in range(8)]
    other = make(1)  # the state brings the order along
    other.load_state_dict(state)
    resumed = endless(other)
    assert [next(resumed)[0].tolist() for _ in range(8)] == expected


def test_an_abandoned_loop_does_not_shorten_the_next():
    loader = DataLoader((np.arange(12),), batch_size=4, shuffle=True, seed=0)
    for _ in loader:
        break
    assert sorted(flat(loader)) == list(range(12))


def test_state_of_another_loader_is_refused():
    loader = DataLoader((np.arange(12),), batch_size=4, shuffle=True, seed=0)
    state = loader.state_dict()
    with pytest.raises(gb.CheckpointError, match="batch_size is 4 in the state, 3 here"):
        DataLoader((np.arange(12),), batch_size=3, shuffle=True).load_state_dict(state)
    with pytest.raises(gb.CheckpointError, match="no batch in the state"):
        loader.load_state_dict({k: v for k, v in state.items() if k != "batch"})
    with pytest.raises(gb.CheckpointError, match="no batch 7"):
        loader.load_state_dict({**state, "batch": 7})


def test_batches_on_another_device_are_made_there(device):
    here = DataLoader((np.arange(30.0),), batch_size=8, shuffle=True, seed=2)
    there = DataLoader(TensorDataset(np.arange(30.0), device=device), batch_size=8, shuffle=True, seed=2)
    assert all(x.device == device for (x,) in there)
    there.load_state_dict(here.state_dict())
    assert rows(here) == rows(there)


def test_bad_input():
    with pytest.raises(gb.DataError, match="no arrays"):
        TensorDataset()
    with pytest.raises(gb.ShapeError, match=r"shapes \[3\], \[4\]"):
        TensorDataset(np.zeros(3), np.zeros(4))
    with pytest.raises(gb.ShapeError, match=r"\[\]"):
        TensorDataset(np.float32(1))
    with pytest.raises(gb.DataError, match="0 samples"):
        DataLoader((np.zeros((0, 4)),))
    for size in (0, -1, 2.5, True, "8"):
        with pytest.raises(gb.DataError, match="batch_size="):
            DataLoader((np.zeros(4),), batch_size=size)
    with pytest.raises(gb.DataError, match="leaves no batch of 4 samples"):
        DataLoader((np.zeros(4),), batch_size=5, drop_last=True)
    with pytest.raises(gb.DTypeError, match="a list is not a dataset"):
        DataLoader([1, 2, 3])
    with pytest.raises(gb.DataError, match="seed"):
        DataLoader((np.zeros(4),), shuffle=True, seed=-1)
