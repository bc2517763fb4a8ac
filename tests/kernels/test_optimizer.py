"""The optimiser updates against plain float64 code written from the formulas of torch.optim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import layouts, table
from gpu_backprop.core.errors import ShapeError

from .conftest import DTYPES, compile_first, draw, instantiations, on

LR, DECAY = 0.01, 0.1


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("optimizer.cu"))


# the formulas: step(p, g, state, t, **options) returns p and changes state -------------------------------------------


def sgd(p, g, s, t, momentum=0.0, dampening=0.0, nesterov=False):
    g = g + DECAY * p
    if momentum:
        s["momentum_buffer"] = g if t == 1 else momentum * s["momentum_buffer"] + (1 - dampening) * g
        g = g + momentum * s["momentum_buffer"] if nesterov else s["momentum_buffer"]
    return p - LR * g


def adam(p, g, s, t, beta1=0.9, beta2=0.999, eps=1e-8, decoupled=False, amsgrad=False):
    if decoupled:
        p = p - LR * DECAY * p
    else:
        g = g + DECAY * p
    s["exp_avg"] = beta1 * s["exp_avg"] + (1 - beta1) * g
    s["exp_avg_sq"] = second = beta2 * s["exp_avg_sq"] + (1 - beta2) * g * g
    if amsgrad:
        s["max_exp_avg_sq"] = second = np.maximum(s["max_exp_avg_sq"], second)
    return p - LR * (s["exp_avg"] / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + eps)


def rmsprop(p, g, s, t, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    g = g + DECAY * p
    s["square_avg"] = spread = alpha * s["square_avg"] + (1 - alpha) * g * g
    if centered:
        s["grad_avg"] = alpha * s["grad_avg"] + (1 - alpha) * g
        spread = spread - s["grad_avg"] ** 2
    move = g / (np.sqrt(spread) + eps)
    if momentum:
        s["momentum_buffer"] = move = momentum * s["momentum_buffer"] + move
    return p - LR * move


def adagrad(p, g, s, t, lr_decay=0.1, eps=1e-10):
    g = g + DECAY * p
    s["state_sum"] = s["state_sum"] + g * g
    return p - LR / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["state_sum"]) + eps)


STATE = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "rmsprop": ("square_avg", "grad_avg", "momentum_buffer"),
    "adagrad": ("state_sum",),
}
# (formula, its options, numbers of hyper from place 4 on, flags of the kernel, state that is None)
CASES: dict[str, tuple[Any, dict[str, Any], tuple[float, ...], dict[str, bool], tuple[str, ...]]] = {
    "sgd": (sgd, {}, (0.0, 0.0), {"nesterov": False}, ("momentum_buffer",)),
    "sgd momentum": (sgd, {"momentum": 0.9}, (0.9, 0.0), {"nesterov": False}, ()),
    "sgd dampening": (sgd, {"momentum": 0.9, "dampening": 0.3}, (0.9, 0.3), {"nesterov": False}, ()),
    "sgd nesterov": (sgd, {"momentum": 0.9, "nesterov": True}, (0.9, 0.0), {"nesterov": True}, ()),
    "adam": (adam, {}, (0.9, 0.999, 1e-8), {"decoupled": False}, ("max_exp_avg_sq",)),
    "adamw": (adam, {"decoupled": True}, (0.9, 0.999, 1e-8), {"decoupled": True}, ("max_exp_avg_sq",)),
    "amsgrad": (adam, {"amsgrad": True}, (0.9, 0.999, 1e-8), {"decoupled": False}, ()),
    "rmsprop": (rmsprop, {}, (0.99, 1e-8, 0.0), {}, ("grad_avg", "momentum_buffer")),
    "rmsprop centered": (rmsprop, {"centered": True}, (0.99, 1e-8, 0.0), {}, ("momentum_buffer",)),
    "rmsprop momentum": (rmsprop, {"centered": True, "momentum": 0.9}, (0.99, 1e-8, 0.9), {}, ()),
    "adagrad": (adagrad, {}, (0.1, 1e-10), {}, ()),
}


def run(
    backend: Any, case: str, dtype: np.dtype, n: int, t: int = 1, scale: float = 1.0, skip: float = 0.0,
    maximize: bool = False, view: slice = slice(None),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """One step from step count t - 1: (what the kernel made, what the formula makes, the step counts)."""
    formula, options, numbers, flags, absent = CASES[case]
    kind = formula.__name__
    p, g = draw((n,), dtype, 1), draw((n,), dtype, 2)
    state = {name: draw((n,), dtype, 3 + i, 0.5, 1.0) for i, name in enumerate(STATE[kind])}
    if "grad_avg" in state:
        state["grad_avg"] = (state["grad_avg"].astype(np.float64) * 0.3).astype(dtype)  # below the root of square_avg
    hyper = np.array([LR, DECAY, scale, skip, *numbers])
    counts = np.full(5, t - 1.0)
    on_device = {"param": on(backend, p)} | {k: on(backend, v) for k, v in state.items() if k not in absent}
    hyper_, counts_ = on(backend, hyper), on(backend, counts)
    arrays = [None if k in absent else on_device[k][view] for k in STATE[kind]]
    backend.functions[f"{kind}_update"](
        on_device["param"][view],
        on(backend, g)[view],
        *arrays,
        hyper_,
        counts_,
        first=1,
        count=3,
        maximize=maximize,
        **flags,
    )
    expected = {"param": p.astype(np.float64)} | {k: v.astype(np.float64) for k, v in state.items() if k not in absent}
    if not skip:
        part = {k: v[view] for k, v in expected.items()}
        direction = g.astype(np.float64)[view] * scale * (-1 if maximize else 1)
        new = formula(part["param"], direction, part, t, **options)
        for k, v in (part | {"param": new}).items():
            expected[k][view] = v
    return {k: backend.to_host(v) for k, v in on_device.items()}, expected, backend.to_host(counts_)


def compare(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for k in got:
        np.testing.assert_allclose(got[k].astype(np.float64), expected[k], rtol=tolerance, atol=tolerance, err_msg=k)


TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_formula(backend, case, dtype):
    dtype = table.dtype_of(dtype)
    for n, t in ((1, 1), (31, 2), (33, 1), (1000, 7), (2049, 1000)):
        got, expected, counts = run(backend, case, dtype, n, t)
        compare(got, expected, TOLERANCE[dtype.name])
        assert counts.tolist() == [t - 1, t, t, t, t - 1]  # only the entries of this run advance


@pytest.mark.parametrize("case", CASES)
def test_gradient_scale_and_maximize(backend, case):
    got, expected, _ = run(backend, case, np.dtype(np.float64), 70, 3, scale=0.25, maximize=True)
    compare(got, expected, 1e-13)


@pytest.mark.parametrize("case", CASES)
def test_skip_changes_nothing(backend, case):
    got, expected, counts = run(backend, case, np.dtype(np.float32), 70, 3, skip=1.0)
    compare(got, expected, 0.0)
    assert counts.tolist() == [2.0] * 5


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_starts_anywhere(backend, case):
    """A slice that is not aligned to 16 bytes; what lies around it stays."""
    got, expected, _ = run(backend, case, np.dtype(np.float32), 100, 2, view=slice(3, 80))
    compare(got, expected, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_many_steps_follow_the_formula(backend, case):
    """20 steps in float64, state and step counts carried along by the device."""
    formula, options, numbers, flags, absent = CASES[case]
    kind, n = formula.__name__, 40
    p = draw((n,), np.float64, 1)
    names = [k for k in STATE[kind] if k not in absent]
    device = {k: on(backend, np.zeros(n)) for k in names}
    state = {k: np.zeros(n) for k in names}
    param, hyper, counts = (
        on(backend, p),
        on(backend, np.array([LR, DECAY, 1.0, 0.0, *numbers])),
        on(backend, np.zeros(1)),
    )
    for t in range(1, 21):
        g = draw((n,), np.float64, 100 + t)
        arrays = [device.get(k) for k in STATE[kind]]
        backend.functions[f"{kind}_update"](param, on(backend, g), *arrays, hyper, counts, first=0, count=1, **flags)
        p = formula(p, g, state, t, **options)
    # a centred second moment starts as a difference of nearly equal numbers
    tolerance = 1e-6 if options.get("centered") else 1e-12
    np.testing.assert_allclose(backend.to_host(param), p, rtol=tolerance, atol=tolerance)
    assert backend.to_host(counts).tolist() == [20.0]


def test_optimisers_agree_with_each_other(backend):
    """Adam without memory (beta 0) is RMSprop without memory is Adagrad's first step: each moves by lr * sign(g)."""
    n, g = 33, draw((33,), np.float64, 2)
    results = []
    for kind, numbers in (("adam", (0.0, 0.0, 0.0)), ("rmsprop", (0.0, 0.0, 0.0)), ("adagrad", (0.0, 0.0))):
        param, hyper = on(backend, np.ones(n)), on(backend, np.array([LR, 0.0, 1.0, 0.0, *numbers]))
        arrays = [on(backend, np.zeros(n)) for _ in STATE[kind]]
        if kind == "adam":
            arrays[2] = None
        if kind == "rmsprop":
            arrays[1:] = [None, None]
        counts = on(backend, np.zeros(1))
        backend.functions[f"{kind}_update"](param, on(backend, g), *arrays, hyper, counts, first=0, count=1)
        results.append(backend.to_host(param))
    for result in results:
        np.testing.assert_allclose(result, 1 - LR * np.sign(g), rtol=1e-14)


@pytest.mark.parametrize("order", ["reversed", "shuffled", "greedy"])
@pytest.mark.parametrize("case", CASES)
def test_thread_order_changes_nothing(backend, remake, case, order):
    first = run(backend, case, np.dtype(np.float32), 3000, 2)[0]
    second = run(remake(order=order, seed=1), case, np.dtype(np.float32), 3000, 2)[0]
    for k in first:
        np.testing.assert_array_equal(first[k], second[k])


@pytest.mark.parametrize("case", CASES)
def test_grid_limit_and_long_index_type(remake, monkeypatch, case):
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    got, expected, _ = run(remake(max_grid=1), case, np.dtype(np.float32), 3000, 2)
    compare(got, expected, 1e-6)


def test_buffers_must_fit(backend):
    x = on(backend, np.zeros(4, np.float32))
    hyper, counts = on(backend, np.zeros(8)), on(backend, np.zeros(1))
    with pytest.raises(ShapeError, match="sgd_update: every buffer must be a contiguous run of 4 float32"):
        backend.functions["sgd_update"](x, x[:3], None, hyper, counts, first=0, count=1)
