"""The optimiser updates against float64 code written from the formulas of torch.optim; reductions of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import layouts, table
from gpu_backprop.core.errors import DTypeError, ShapeError

from .conftest import DTYPES, OTHER_ORDERS, compile_first, draw, instantiations, on

LR, DECAY = 0.01, 0.1


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    flat = [table.reduction("reduce_rows", r, d, "int") for r in table.FLAT_REDUCTIONS.values() for d in DTYPES]
    compile_first(backend, instantiations("optimizer.cu") + flat)


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
    maximize: bool = False, view: slice = slice(None), master: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """One step from step count t - 1: (what the kernel made, what the formula makes, the step counts).

    With a master copy, in float32, the formula's parameters are the master, and "param" is left to the caller.
    """
    formula, options, numbers, flags, absent = CASES[case]
    kind = formula.__name__
    wide = np.dtype(np.float32) if master else dtype
    p, g = draw((n,), wide, 1), draw((n,), dtype, 2)
    state = {name: draw((n,), wide, 3 + i, 0.5, 1.0) for i, name in enumerate(STATE[kind])}
    if "grad_avg" in state:
        state["grad_avg"] = (state["grad_avg"].astype(np.float64) * 0.3).astype(wide)  # below the root of square_avg
    hyper = np.array([LR, DECAY, scale, skip, *numbers])
    counts = np.full(5, t - 1.0)
    on_device = {"param": on(backend, p.astype(dtype))}
    on_device |= {k: on(backend, v) for k, v in state.items() if k not in absent}
    if master:
        on_device["master"] = on(backend, p)
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
        **({"master": on_device["master"][view]} if master else {}),
        **flags,
    )
    weights = "master" if master else "param"
    expected = {weights: p.astype(np.float64)} | {k: v.astype(np.float64) for k, v in state.items() if k not in absent}
    if not skip:
        part = {k: v[view] for k, v in expected.items()}
        direction = g.astype(np.float64)[view] * scale * (-1 if maximize else 1)
        new = formula(part[weights], direction, part, t, **options)
        for k, v in (part | {weights: new}).items():
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


@pytest.mark.parametrize("order", OTHER_ORDERS)
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


# master copies -------------------------------------------------------------------------------------------------------


def run_master(backend, case, dtype, n, **options):
    """As `run`, with a master; what the kernel made of the parameters must be the rounded master."""
    got, expected, counts = run(backend, case, dtype, n, master=True, **options)
    view = options.get("view", slice(None))
    np.testing.assert_array_equal(got.pop("param")[view], got["master"][view].astype(dtype))
    assert all(v.dtype == np.float32 for v in got.values())
    return got, expected, counts


@pytest.mark.parametrize("dtype", table.HALVES)
@pytest.mark.parametrize("case", CASES)
def test_master_copies_follow_the_formula_in_float32(backend, case, dtype):
    dtype = table.dtype_of(dtype)
    for n, t in ((1, 1), (31, 2), (33, 1), (1000, 7), (2049, 1000)):
        got, expected, counts = run_master(backend, case, dtype, n, t=t)
        compare(got, expected, 1e-6)
        assert counts.tolist() == [t - 1, t, t, t, t - 1]
    compare(*run_master(backend, case, dtype, 70, t=3, scale=0.25, maximize=True)[:2], 1e-6)
    compare(*run_master(backend, case, dtype, 70, t=3, skip=1.0)[:2], 0.0)
    compare(*run_master(backend, case, dtype, 100, t=2, view=slice(3, 80))[:2], 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_master_copies_in_other_orders_grids_and_index_types(backend, remake, monkeypatch, case):
    dtype = table.dtype_of("__nv_bfloat16")
    first = run_master(backend, case, dtype, 3000, t=2)[0]
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    changed = [remake(max_grid=1)]
    if backend.name == "emulated":
        changed += [remake(order="reversed"), remake(order="shuffled", seed=1)]
    for b in changed:
        second = run_master(b, case, dtype, 3000, t=2)[0]
        for k in first:
            np.testing.assert_array_equal(first[k], second[k])


def test_a_master_copy_must_fit(backend):
    hyper, counts = on(backend, np.zeros(8)), on(backend, np.zeros(1))
    x, half = on(backend, np.zeros(4, np.float32)), on(backend, np.zeros(4, np.float16))
    update = backend.functions["sgd_update"]
    with pytest.raises(
        DTypeError, match="master copy of float32 beside parameters of float32; use float32 beside a 16"
    ):
        update(x, x, None, hyper, counts, first=0, count=1, master=x)
    with pytest.raises(DTypeError, match="master copy of float16 beside parameters of float16"):
        update(half, half, None, hyper, counts, first=0, count=1, master=half)
    with pytest.raises(ShapeError, match="contiguous run of 4 float32 like the parameters, not"):
        update(half, half, half, hyper, counts, first=0, count=1, master=x)


# reductions of gradients ---------------------------------------------------------------------------------------------

SIZES = (0, 1, 31, 32, 33, 1000, 8193, 40_000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_square_sum(backend, dtype):
    dtype = table.dtype_of(dtype)
    for n in SIZES:
        x = draw((n,), dtype, n)
        got = backend.to_host(backend.functions["square_sum"](on(backend, x)))
        assert got.dtype == (np.float64 if dtype.itemsize == 8 else np.float32)
        assert got.shape == ()
        exact = np.sum(x.astype(np.float64) ** 2)
        np.testing.assert_allclose(got, exact, rtol=1e-13 if dtype.itemsize == 8 else 1e-6, err_msg=str(n))
    large = on(backend, np.full(1000, 250.0).astype(dtype))  # the squares overflow float16
    assert float(backend.to_host(backend.functions["square_sum"](large))) == 62_500_000
    part = draw((1000,), dtype, 1)
    got = backend.to_host(backend.functions["square_sum"](on(backend, part, lambda a: a[3:])))
    np.testing.assert_allclose(got, np.sum(part.astype(np.float64)[3:] ** 2), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_any_nonfinite(backend, dtype, bad):
    dtype = table.dtype_of(dtype)
    largest = {8: 1.7e308, 4: 3.4e38, 2: 6e4}[dtype.itemsize]
    for n in SIZES:
        x = np.full(n, largest).astype(dtype)
        for at in (None, *{0, n // 2, n - 1} - {-1}):
            with_fault = x.copy()
            if at is not None and n:
                with_fault[at] = bad
            got = backend.to_host(backend.functions["any_nonfinite"](on(backend, with_fault)))
            assert got.dtype == bool
            assert got.shape == ()
            assert bool(got) == (at is not None and n > 0), (n, at)


def test_reductions_in_other_orders_grids_and_index_types(backend, remake, other_orders, monkeypatch):
    x = draw((40_000,), np.float32, 5)
    expected = backend.to_host(backend.functions["square_sum"](on(backend, x)))
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    one_block = remake(max_grid=1)
    np.testing.assert_allclose(one_block.to_host(one_block.functions["square_sum"](on(one_block, x))), expected, 1e-6)
    for order in other_orders:
        b = remake(order=order, seed=1)
        np.testing.assert_array_equal(b.to_host(b.functions["square_sum"](on(b, x))), expected)
        assert not b.to_host(b.functions["any_nonfinite"](on(b, x)))
    with pytest.raises(DTypeError, match="square_sum: a buffer of int64 holds no gradients"):
        backend.functions["square_sum"](on(backend, np.arange(3)))


def test_buffers_must_fit(backend):
    x = on(backend, np.zeros(4, np.float32))
    hyper, counts = on(backend, np.zeros(8)), on(backend, np.zeros(1))
    with pytest.raises(ShapeError, match="sgd_update: every buffer must be a contiguous run of 4 float32"):
        backend.functions["sgd_update"](x, x[:3], None, hyper, counts, first=0, count=1)
