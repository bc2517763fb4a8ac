"""The model against cuBLASLt itself, on a GPU; and, so that this file is known to work, against its stand-in.

What the model takes from the documentation, and what it assumes beyond (NaN passes a ReLU), holds once these tests have
run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import gemm
from gpu_backprop.core import devices

from . import cublaslt_model as model
from .bindings import Machine, bindings
from .test_plan import DTYPES, Placed, aux_for, execute, place, planned, wide


class Place(NamedTuple):
    """Where products run: the library, and how a host array gets there and back."""

    library: gemm.Library
    send: Any
    fetch: Any


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def at(request: Any) -> Iterator[Place]:
    if request.param == "stand-in":
        library = gemm.Library(bindings(), Machine())
        yield Place(library, np.copy, np.asarray)
        library.close()
        return
    machine = devices.device("cuda").backend.machine
    if machine.gemm is None:
        pytest.skip(gemm.report()[1])
    yield Place(machine.gemm, machine.xp.asarray, machine.to_host)


def normal(shape: Any, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def both(
    at: Place, epilogue: str, first: Placed, second: Placed, out: Placed, bias: Any, aux: Any, **options: Any
) -> tuple[np.ndarray, Any, Any]:
    """The plan on the library; out, bias and aux as that left them. The model's are in the arguments afterwards."""
    address = at.library.machine.address
    there = [at.send(x.memory) for x in (first, second, out)]
    extra = [None if x is None else at.send(x) for x in (bias, aux)]
    plan = planned(first, second, out, epilogue, **options)
    at.library.run(plan, *map(address, there), *(0 if x is None else address(x) for x in extra))
    execute(plan, first, second, out, bias, aux)
    return at.fetch(there[2]), *(None if x is None else at.fetch(x) for x in extra)


def close(got: np.ndarray, expected: np.ndarray, dtype: np.dtype, terms: int, loose: float = 1.0) -> None:
    """Sums of `terms` products of numbers around 1, added up in any order, rounded to dtype."""
    fine = 2.0**-24 if dtype.itemsize < 8 else 2.0**-53
    room = loose * (8 * fine * terms + float(ml_dtypes.finfo(dtype).eps))
    expected = expected.astype(float)
    np.testing.assert_allclose(got.astype(float), expected, rtol=room, atol=room * max(1.0, np.abs(expected).max()))


def may_lack(error: Exception, dtype: np.dtype, size: tuple[int, ...]) -> None:
    """Skips where the library may well have no epilogue: float64, and rows that are no whole number of 16 bytes."""
    if dtype == np.float64 or any(n % 8 for n in size):
        pytest.skip(str(error))
    raise error


SIZES = [(16, 32, 128), (5, 3, 129), (64, 256, 200), (1, 2, 1), (33, 17, 8)]  # m, k, n
LAYOUTS = [("C", "C", "C"), ("C", "F", "C"), ("F", "C", "C"), ("F", "F", "F"), ("padded C", "padded F", "padded C")]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("lies", LAYOUTS, ids=str)
@pytest.mark.parametrize("accumulate", [False, True])
def test_products(at, dtype, size, lies, accumulate):
    m, k, n = size
    first, second = place(normal((m, k), 0), dtype, lies[0]), place(normal((k, n), 1), dtype, lies[1])
    out = place(normal((m, n), 2), dtype, lies[2])
    got, _, _ = both(at, "none", first, second, out, None, None, accumulate=accumulate)
    close(got, out.memory, dtype, k)


@pytest.mark.parametrize("lead", [((3,), (3,)), ((3,), ()), ((), (3,)), ((2, 3), (2, 3))], ids=str)
def test_batches(at, lead):
    dtype = np.dtype(np.float32)
    first, second = place(normal((*lead[0], 5, 7), 0), dtype), place(normal((*lead[1], 7, 6), 1), dtype, "F")
    out = place(np.zeros((*np.broadcast_shapes(*lead), 5, 6)), dtype)
    got, _, _ = both(at, "none", first, second, out, None, None)
    close(got, out.memory, dtype, 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_a_layer_and_what_comes_back(at, dtype, size, name):
    """aux is the library's own on both ways; whether an epilogue exists is the library's to say, so none may be had."""
    if name == "gelu" and dtype == np.float64:
        pytest.skip("has float32's accuracy, so it is not used")
    m, k, n = size
    first, second = place(normal((m, k), 0), dtype), place(normal((k, n), 1), dtype, "F")
    bias = normal(n, 2).astype(dtype)
    forward = f"bias_{name}_{'mask' if name == 'relu' else 'value'}"
    try:
        out, aux = place(np.zeros((m, n)), dtype), aux_for(forward, m, n, dtype)
        got, _, kept = both(at, forward, first, second, out, bias, aux)
        close(got, out.memory, dtype, k, 4)
        g, weight = place(normal((m, 8), 3), dtype), place(normal((8, n), 4), dtype)
        dx, db = place(np.zeros((m, n)), dtype), np.zeros(n, dtype)
        address = at.library.machine.address
        there = [at.send(x) for x in (g.memory, weight.memory, dx.memory, db, kept)]
        at.library.run(planned(g, weight, dx, f"{name}_backward_bias"), *map(address, there))
    except gemm.NoAlgorithm as error:
        may_lack(error, dtype, size)
    pre = wide(first) @ wide(second) + bias.astype(float)
    sure = np.abs(pre) > 1e-2  # the sign of what is nearly 0 may differ
    slope = (pre > 0).astype(float) if name == "relu" else model.gelu_slope(pre.astype(dtype).astype(float))
    expected = wide(g) @ wide(weight) * slope
    got = at.fetch(there[2])[: m * n].reshape(m, n)
    close(np.where(sure, got, 0), np.where(sure, expected, 0).astype(dtype), dtype, 8, 4)
    if sure.all() or name == "gelu":
        close(at.fetch(there[3]), expected.sum(0).astype(dtype), dtype, 8 * m, 8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("epilogue", ["bias", "bias_relu", "sum_first", "sum_second"])
@pytest.mark.parametrize("size", SIZES[:4], ids=str)
def test_biases_and_sums(at, dtype, epilogue, size):
    m, k, n = size
    first = place(normal((m, k), 0), dtype, "F" if epilogue == "sum_first" else "C")
    second, out = place(normal((k, n), 1), dtype), place(np.zeros((m, n)), dtype)
    bias = normal(m if epilogue == "sum_first" else n, 2).astype(dtype)
    expected = bias.copy()
    try:
        got, vector, _ = both(at, epilogue, first, second, out, expected, None)
    except gemm.NoAlgorithm as error:
        may_lack(error, dtype, size)
    close(got, out.memory, dtype, k, 2)
    close(vector, expected, dtype, k, 2)


def test_addresses_that_are_hardly_aligned(at):
    """Operands that begin one element behind an aligned address."""
    for dtype in DTYPES:
        first, second = place(normal((9, 7), 0), dtype), place(normal((7, 5), 1), dtype)
        out = place(np.zeros((9, 5)), dtype)
        there = [at.send(np.concatenate([np.zeros(1, dtype), x.memory])) for x in (first, second, out)]
        addresses = [at.library.machine.address(x) + dtype.itemsize for x in there]
        plan = gemm.plan(
            *(x.operand._replace(alignment=gemm.alignment(a)) for x, a in zip((first, second, out), addresses)), dtype
        )
        assert isinstance(plan, gemm.Plan)
        assert plan.alignment_d == dtype.itemsize
        at.library.run(plan, *addresses)
        execute(plan, first, second, out)
        close(at.fetch(there[2])[1:], out.memory, dtype, 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(4, 4, 8), (16, 2, 16), (128, 64, 256)], ids=str)
@pytest.mark.parametrize("epilogue", ["bias", "bias_relu_mask"])
def test_nan_passes(at, epilogue, size, dtype):
    """The library's RELU_BIAS makes 0 of it in some kernels, so it is not used."""
    m, k, n = size
    first, second = place(normal((m, k), 0), dtype), place(normal((k, n), 1), dtype)
    first.view[1, 1] = np.nan
    out, bias = place(np.zeros((m, n)), dtype), np.zeros(n, dtype)
    try:
        got, _, _ = both(at, epilogue, first, second, out, bias, aux_for(epilogue, m, n, dtype))
    except gemm.NoAlgorithm as error:
        may_lack(error, dtype, size)
    found = np.isnan(got[: m * n].reshape(m, n).astype(float)).all(1)
    assert found.tolist() == [row == 1 for row in range(m)]


def test_tf32(at):
    dtype, results = np.dtype(np.float32), []
    for precision in ("highest", "high"):
        first, second = place(normal((64, 64), 0), dtype), place(normal((64, 64), 1), dtype)
        out = place(np.zeros((64, 64)), dtype)
        got, _, _ = both(at, "none", first, second, out, None, None, precision=precision)
        close(got, out.memory, dtype, 64, 64 if precision == "high" else 1)  # operands may be cut off, not rounded
        results.append(np.abs(got[: 64 * 64].reshape(64, 64) - wide(first) @ wide(second)).max())
    assert results[0] < 1e-4


def test_tuned_products_are_the_same_products(at, monkeypatch):
    monkeypatch.setattr(Machine, "seconds", lambda self, work: work() or 1.0)
    gb.tune_matmul(True)
    try:
        dtype = np.dtype(np.float32)
        first, second = place(normal((70, 80), 0), dtype), place(normal((80, 90), 1), dtype)
        out = place(normal((70, 90), 2), dtype)
        got, _, _ = both(at, "none", first, second, out, None, None, accumulate=True)
        close(got, out.memory, dtype, 80)
    finally:
        gb.tune_matmul(False)


@pytest.mark.gpu
def test_a_captured_product_replays():
    """CuPy refuses its own cuBLAS calls while a stream captures; ours are recorded."""
    backend = devices.device("cuda").backend
    if backend.machine.gemm is None:
        pytest.skip(gemm.report()[1])
    xp, functions = backend.xp, backend.functions
    with xp.cuda.Stream(non_blocking=True) as stream:
        x, weight, bias = (xp.asarray(normal(s, 0), xp.float32) for s in ((32, 64), (16, 64), (16,)))
        out = xp.empty((32, 16), xp.float32)
        functions["linear_relu"](x, weight, bias, out=out)
        stream.synchronize()
        stream.begin_capture()
        functions["linear_relu"](x, weight, bias, out=out)
        graph = stream.end_capture()
        x *= 2
        out.fill(0)
        graph.launch(stream)
        stream.synchronize()
        expected = np.maximum(x.get().astype(float) @ weight.get().T + bias.get(), 0)
        np.testing.assert_allclose(out.get(), expected, rtol=1e-4, atol=1e-4)
