"""Schedulers against closed formulas, and that they reach the device."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.optim import lr_scheduler as sched

from .test_flat import make


def optimizer(lrs=(0.1, 1.0), cls=gb.optim.SGD, **options):
    return cls([{"params": make(((2,),)), "lr": lr} for lr in lrs], **options)


def curve(scheduler, steps):
    rates = [scheduler.get_last_lr()]
    for _ in range(steps):
        scheduler.step()
        rates.append(scheduler.get_last_lr())
    return np.array(rates)


def test_step_lr():
    t = np.arange(31)[:, None]
    rates = curve(sched.StepLR(optimizer(), step_size=7, gamma=0.3), 30)
    np.testing.assert_allclose(rates, np.array([0.1, 1.0]) * 0.3 ** (t // 7), rtol=1e-14)


def test_cosine_annealing():
    t = np.arange(41)[:, None]
    rates = curve(sched.CosineAnnealingLR(optimizer(), T_max=20, eta_min=0.01), 40)  # and up again
    np.testing.assert_allclose(
        rates, 0.01 + (np.array([0.1, 1.0]) - 0.01) * (1 + np.cos(np.pi * t / 20)) / 2, rtol=1e-12
    )


def test_linear_warmup():
    t = np.arange(21)[:, None]
    rates = curve(sched.LinearWarmup(optimizer(), total_iters=8), 20)
    np.testing.assert_allclose(rates, np.array([0.1, 1.0]) * (1 / 3 + 2 / 3 * np.minimum(t, 8) / 8), rtol=1e-14)


def test_linear_warmup_hands_over():
    opt = optimizer()
    rates = curve(sched.LinearWarmup(opt, 5, start_factor=0.0, after=sched.CosineAnnealingLR(opt, T_max=10)), 15)
    t = np.arange(16)
    shape = np.where(t < 5, t / 5, (1 + np.cos(np.pi * (t - 5) / 10)) / 2)
    np.testing.assert_allclose(rates, shape[:, None] * [0.1, 1.0], atol=1e-14)


def one_cycle(t, total, start, top, final, pct, linear):
    """Smith's cycle, written from its description: up over pct of the steps, down over the rest."""
    up = pct * total - 1
    part, a, b = (t / up, start, top) if t <= up else ((t - up) / (total - 1 - up), top, final)
    return a + (b - a) * (part if linear else (1 - math.cos(math.pi * part)) / 2)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("cls", [gb.optim.SGD, gb.optim.Adam])
def test_one_cycle(strategy, cls):
    opt = optimizer(cls=cls)
    scheduler = sched.OneCycleLR(opt, max_lr=[0.5, 2.0], total_steps=50, anneal_strategy=strategy, pct_start=0.4)
    for t in range(50):
        for group, top in zip(opt.param_groups, (0.5, 2.0)):
            linear = strategy == "linear"
            assert group["lr"] == pytest.approx(one_cycle(t, 50, top / 25, top, top / 25 / 1e4, 0.4, linear), rel=1e-12)
            momentum = group["betas"][0] if cls is gb.optim.Adam else group["momentum"]
            assert momentum == pytest.approx(one_cycle(t, 50, 0.95, 0.85, 0.95, 0.4, linear), rel=1e-12)
        if t < 49:
            scheduler.step()
    scheduler.step()  # one call too many is usual
    assert opt.param_groups[0]["lr"] == pytest.approx(0.5 / 25 / 1e4)
    with pytest.raises(gb.DataError, match="step 51 of a cycle of 50"):
        scheduler.step()


def test_one_cycle_in_three_phases():
    scheduler = sched.OneCycleLR(
        optimizer((1.0,)), 1.0, epochs=10, steps_per_epoch=10, three_phase=True, anneal_strategy="linear"
    )
    rates = curve(scheduler, 99)[:, 0]
    points = [0, 29, 58, 99], [0.04, 1.0, 0.04, 0.04 / 1e4]
    np.testing.assert_allclose(rates, np.interp(np.arange(100), *points), rtol=1e-9)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau(mode):
    opt = optimizer((1.0,))
    scheduler = sched.ReduceLROnPlateau(opt, mode, factor=0.5, patience=2, cooldown=1, min_lr=0.2, threshold=0.1)
    sign = 1 if mode == "max" else -1
    # 10 is the best; a tenth better would count, less does not. Three bad ones in a row are one too many.
    metrics = [10, 10 + sign * 0.5, 10, 10, 10, 10, 10, 10, 10 + sign * 2, 10, 10, 10, 10, 10, 10, 10]
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(scheduler.get_last_lr()[0])
    #        best  1  2  3:cut  cool 1 2 3:cut  better 1 2 3:cut to 0.2  then it stays
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_the_rate_reaches_the_device(device):
    p = make(((3,),))[0]
    start = p.numpy().copy()
    opt = gb.optim.SGD([p], lr=1.0)
    scheduler = sched.StepLR(opt, 1, gamma=0.5)
    for _ in range(3):
        p.grad = gb.ones_like(p)
        opt.step()
        scheduler.step()
    np.testing.assert_allclose(p.detach().numpy(), start - 1.75, rtol=1e-12)


SCHEDULERS = {
    "StepLR": lambda o: sched.StepLR(o, 3),
    "CosineAnnealingLR": lambda o: sched.CosineAnnealingLR(o, 12),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, 0.5, 20),
    "LinearWarmup": lambda o: sched.LinearWarmup(o, 4, after=sched.StepLR(o, 2)),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_state_dict_round_trip(name):
    one, two = optimizer(), optimizer((0.3, 0.4))
    a = SCHEDULERS[name](one)
    curve(a, 7)
    b = SCHEDULERS[name](two)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    assert b.get_last_lr() == a.get_last_lr()
    np.testing.assert_array_equal(curve(a, 9), curve(b, 9))


def test_plateau_state_dict_round_trip():
    one, two = optimizer(), optimizer()
    a, b = sched.ReduceLROnPlateau(one, patience=1), sched.ReduceLROnPlateau(two, patience=5)
    for _ in range(2):
        a.step(1.0)
    b.load_state_dict(a.state_dict())
    a.step(1.0), b.step(1.0)
    assert a.get_last_lr() == b.get_last_lr() == pytest.approx([0.01, 0.1])


def test_resuming_from_a_saved_optimiser():
    one = optimizer()
    curve(sched.StepLR(one, 2, 0.5), 4)
    resumed = sched.StepLR(one, 2, 0.5, last_epoch=4)
    np.testing.assert_allclose(resumed.get_last_lr(), [0.1 * 0.25, 0.25])


BAD = [
    (lambda: sched.StepLR("no", 3), gb.DTypeError, "a str is not an optimizer"),
    (lambda: sched.StepLR(optimizer(), 0), gb.DataError, "step_size=0 is not a positive integer"),
    (lambda: sched.StepLR(optimizer(), 3, last_epoch=5), gb.DataError, "no initial_lr to resume from"),
    (lambda: sched.CosineAnnealingLR(optimizer(), 2.5), gb.DataError, "T_max=2.5"),
    (lambda: sched.LinearWarmup(optimizer(), 3, start_factor=2.0), gb.DataError, "start_factor=2.0"),
    (lambda: sched.OneCycleLR(optimizer(), 1.0), gb.DataError, "the length is missing"),
    (lambda: sched.OneCycleLR(optimizer(), [1.0], 9), gb.DataError, "1 values of max_lr for 2 parameter groups"),
    (lambda: sched.OneCycleLR(optimizer(), 1.0, 9, anneal_strategy="up"), gb.DataError, "'up' is unknown"),
    (lambda: sched.OneCycleLR(optimizer(cls=gb.optim.Adagrad), 1.0, 9), gb.DataError, "Adagrad has no momentum"),
    (lambda: sched.ReduceLROnPlateau(optimizer(), "mid"), gb.DataError, "'mid' is unknown"),
    (lambda: sched.ReduceLROnPlateau(optimizer(), factor=1.0), gb.DataError, "factor=1.0"),
    (lambda: sched.StepLR(optimizer(), 3).load_state_dict({"x": 1}), gb.CheckpointError, "a state with"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)
