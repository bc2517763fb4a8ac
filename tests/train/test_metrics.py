"""Metrics over batches of unequal size give what they give over all the data at once."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.train import METRICS, Metric
from gpu_backprop.train.history import CHUNK, Recorder
from gpu_backprop.train.metrics import as_metric, mean_of

SIZES = (7, 1, 32, 20)


def over_batches(metric: Metric, prediction: np.ndarray, target: np.ndarray, device: str) -> float:
    recorder = Recorder((metric,))
    start = 0
    for size in SIZES:
        p, t = (gb.tensor(a[start : start + size], device=device) for a in (prediction, target))
        recorder.add((gb.tensor(0.5, device=device), *metric.parts(p, t)), size, 0.1)
        start += size
    summary = recorder.summary()
    assert summary["loss"] == 0.5
    return summary[metric.name]


def draw(shape, seed=0):
    return gb.random.Generator(seed).normal(shape, dtype="float64", device="cpu").numpy()


def test_accuracy_of_scores(device):
    scores, labels = draw((60, 4)), np.arange(60) % 4
    expected = (scores.argmax(1) == labels).mean()
    assert 0 < expected < 1
    assert over_batches(METRICS["accuracy"], scores, labels, device) == pytest.approx(expected, abs=1e-6)


def test_accuracy_of_single_scores(device):
    scores = draw((60, 1))
    target = (draw((60, 1), 1) > 0).astype(np.float64)
    expected = ((scores > 0) == (target > 0.5)).mean()
    assert over_batches(METRICS["accuracy"], scores, target, device) == pytest.approx(expected, abs=1e-6)


def test_mae(device):
    a, b = draw((60, 2)), draw((60, 2), 1)
    assert over_batches(METRICS["mae"], a, b, device) == pytest.approx(np.abs(a - b).mean(), rel=1e-9)


def test_r2_is_that_of_all_data_not_a_mean_over_batches(device):
    target = draw((60, 1)) * 3 + np.repeat([100.0, -50.0, 30.0], 20)[:, None]
    prediction = target + draw((60, 1), 1)
    expected = 1 - ((prediction - target) ** 2).sum() / ((target - target.mean()) ** 2).sum()
    assert over_batches(METRICS["r2"], prediction, target, device) == pytest.approx(expected, rel=1e-9)


def test_r2_of_one_value_everywhere_is_not_a_number():
    value = over_batches(METRICS["r2"], np.zeros((60, 1)), np.ones((60, 1)), "cpu")
    assert np.isnan(value)


def test_a_function_is_a_metric():
    def largest(prediction, target):
        return abs(prediction - target).max().item()  # a plain number

    metric = as_metric(largest, METRICS.__getitem__)
    assert metric.name == "largest"
    a, b = draw((60, 1)), draw((60, 1), 1)
    errors = np.split(np.abs(a - b), np.cumsum(SIZES)[:-1])
    expected = np.average([e.max() for e in errors], weights=SIZES)
    assert over_batches(metric, a, b, "cpu") == pytest.approx(expected)


def test_recorder_packs_long_epochs_in_order():
    n = 2 * CHUNK + 3
    recorder = Recorder((METRICS["mae"],))
    for i in range(n):
        recorder.add((gb.tensor(float(i)), gb.tensor(2.0 * i)), 1, 0.1)
        if i == 300:
            assert recorder.summary()["loss"] == 150.0  # reading in the middle loses nothing
    steps = {}
    recorder.append_to(steps)
    assert steps["loss"] == list(range(n))
    assert steps["mae"] == [2.0 * i for i in range(n)]
    assert len(steps["samples_per_second"]) == n


def test_scalars_of_several_dtypes_are_read_together():
    recorder = Recorder((METRICS["mae"],))
    recorder.add((gb.tensor(0.1, dtype="float64"), gb.tensor(0.5, dtype="bfloat16")), 2, 0.1)
    assert recorder.summary() == {"loss": 0.1, "mae": 0.5}


def test_bad_input():
    with pytest.raises(gb.ShapeError, match=r"accuracy: prediction \[4, 3\] and target int64\[4, 1\]"):
        METRICS["accuracy"].parts(gb.zeros((4, 3)), gb.zeros((4, 1), dtype="int64"))
    for name in ("mae", "r2"):
        with pytest.raises(gb.ShapeError, match=rf"{name}: .*\[4, 1\].*\[4\].*reshape"):
            METRICS[name].parts(gb.zeros((4, 1)), gb.zeros(4))
    with pytest.raises(gb.ShapeError, match=r"metric 'raw'.*\[4\]"):
        mean_of("raw", lambda p, t: p - t).parts(gb.zeros(4), gb.zeros(4))
    with pytest.raises(gb.DTypeError, match="a float is not a metric"):
        as_metric(3.5, METRICS.__getitem__)
