"""A run repeats bit for bit on its device, and starts from the same weights and drops the same units on another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.cli import main


def train_digits(device: str, folder: Path, *more: str) -> dict[str, np.ndarray]:
    """The weights after one epoch, with dropout and weight decay."""
    arguments = ["train", "--epochs", "1", "--dropout", "0.3", "--optimizer", "adamw", *more]
    assert main([*arguments, "--device", device, "--out", str(folder)]) == 0
    return {k: v.numpy() for k, v in gb.load(folder / "model.safetensors", device="cpu").state_dict().items()}


@pytest.mark.parametrize(
    "more", [("--limit", "256"), pytest.param((), marks=pytest.mark.full)], ids=["four steps", "all digits"]
)
def test_two_runs_on_digits_end_with_identical_weights(device, tmp_path, more):
    first, second = (train_digits(device, tmp_path / name, *more) for name in "ab")
    gb.manual_seed(0)
    start = gb.nn.MLP([64, 256, 128, 10], device="cpu").state_dict()
    assert first.keys() == second.keys()
    assert not all(np.array_equal(first[k], start[k].numpy()) for k in start)
    for k in first:
        assert first[k].tobytes() == second[k].tobytes(), k


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_every_device_drops_the_units_that_the_cpu_drops(device, p):
    """Through layers and steps: the units that come out as 0, and those whose gradient is 0, are the same ones."""

    def dropped(place: str) -> list[np.ndarray]:
        gb.manual_seed(5)
        layers = [gb.nn.Dropout(p), gb.nn.Dropout(p)]
        found = []
        for shape in ((33, 70), (1, 1000), (7,)):
            x = gb.ones(shape, device=place).requires_grad_()
            between = layers[0](x)
            y = layers[1](between)
            y.sum().backward()
            assert x.grad is not None
            found += [t.numpy() == 0 for t in (between, y, x.grad)]
        return found

    here, there = dropped("cpu"), dropped(device)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0 < here[0].mean() < here[1].mean() < 1
    assert not np.array_equal(here[0][:1, :7], here[6][:7])  # each draw is another one
