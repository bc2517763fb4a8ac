"""Pictures: what is drawn, and that it is a PNG."""

from __future__ import annotations

import struct
import sys
from types import SimpleNamespace

import pytest

import gpu_backprop as gb
from gpu_backprop.viz import curves


def history(first=2.0, last=0.01):
    return SimpleNamespace(
        epochs={
            "loss": [first, 0.1, last],
            "accuracy": [0.5, 0.8, 0.9],
            "val_loss": [1.0, 0.5, 0.4],
            "lr": [0.1] * 3,
            "samples_per_second": [1.0] * 3,
            "seconds": [1.0] * 3,
        },
        steps={"loss": [2.5, 1.5, 0.2, 0.1, 0.05, 0.01]},
    )


def size_of_png(path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def test_training_curves(tmp_path):
    figure = curves.training(history(), tmp_path / "loss.png", "a title")
    width, height = size_of_png(tmp_path / "loss.png")
    assert width > 1000 > height > 300
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.get_lines()] == ["each step", "training", "validation"]
    steps, training, validation = loss.get_lines()
    assert training.get_xdata().tolist() == [1, 2, 3]
    assert training.get_ydata().tolist() == [2.0, 0.1, 0.01]
    assert validation.get_ydata().tolist() == [1.0, 0.5, 0.4]
    assert steps.get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]  # an epoch ends at its number
    assert [line.get_label() for line in accuracy.get_lines()] == ["training"]
    assert accuracy.get_title() == "accuracy"
    assert loss.get_yscale() == "log"
    assert loss.get_xlim() == accuracy.get_xlim()
    assert "a title" in figure.get_suptitle()
    assert gb.viz.curves is curves  # no import of its own needed


def test_one_epoch_counts_in_whole_epochs():
    one = history()
    one.epochs = {name: values[:1] for name, values in one.epochs.items()}
    loss, accuracy = curves.training(one).axes
    for axes in (loss, accuracy):
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [0, 1]


def test_scale_follows_the_fall_of_the_loss():
    assert curves.training(history(1.0, 0.9)).axes[0].get_yscale() == "linear"
    assert curves.training(history(float("nan"), -1.0)).axes[0].get_yscale() == "linear"


def test_bars(tmp_path):
    table = {
        "small": {"cpu": {"forward": 2.0, "step": 5.0}, "cuda": {"forward": 1.0, "step": 0.5}},
        "big": {"cpu": {"step": 9.0}},
    }
    figure = curves.bars(table, tmp_path / "bars.png", "times", "ms")
    size_of_png(tmp_path / "bars.png")
    small, big = figure.axes
    assert [[bar.get_height() for bar in group] for group in small.containers] == [[2.0, 5.0], [1.0, 0.5]]
    assert [text.get_text() for text in small.get_xticklabels()] == ["forward", "step"]
    assert small.get_ylabel() == "ms"
    assert big.get_title() == "big"
    lefts = [bar.get_x() for group in small.containers for bar in group]
    assert len(set(lefts)) == 4  # side by side, not one behind the other


def test_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        gb.GpuBackpropError, match=r'matplotlib is not installed; run pip install "gpu-backprop\[cli\]"'
    ):
        curves.training(history())
