"""Rewrites of captured programs: what becomes of which calls, and that the bits stay (or the bound holds)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_backprop as gb
from gpu_backprop.core.rewrites import REWRITES

from ..gemm import test_rewrites as in_products

F = gb.nn.functional
ROWS, WIDTH, OUT = 70, 5, 4  # more rows than are added up in one run


class Case(NamedTuple):
    """A function of x (ROWS, WIDTH), weight (OUT, WIDTH), bias (OUT,), and the names of its calls afterwards."""

    function: Callable[..., Any]
    before: list[str]
    after: list[str]
    exact: bool = True


def relu_then_gradients(x, weight, bias):
    def loss(w, b):
        return (F.relu(F.linear(x, w, b)) * x[:, :OUT]).sum()

    return gb.grad(loss, (0, 1))(weight, bias)


def relu_then_gradients_of_batches(x, weight, bias):
    x = x.reshape((ROWS // 10, 10, WIDTH))

    def loss(w, b):
        return (F.relu(F.linear(x, w, b)) * x[..., :OUT]).sum()

    return gb.grad(loss, (0, 1))(weight, bias)


def kept(x, weight, bias):
    product = x @ weight.T
    return product + bias, product


def weight_changes(x, weight, bias):
    product = x @ weight.T
    weight.copy_(weight * 0.5)
    return product + bias


CASES = {
    "matmul and bias": Case(lambda x, w, b: x @ w.T + b, ["matmul", "add"], ["linear"]),
    "bias first": Case(lambda x, w, b: b + x @ w.T, ["matmul", "add"], ["linear"]),
    "matmul, bias, relu": Case(lambda x, w, b: F.relu(x @ w.T + b), ["matmul", "add", "relu"], ["linear_relu"]),
    "linear and relu": Case(lambda x, w, b: F.relu(F.linear(x, w, b)), ["linear", "relu"], ["linear_relu"]),
    "without a bias": Case(lambda x, w, b: w @ x.T + 1.0,
                                ["matmul", "add"], ["matmul", "add"]),
    "the product is needed elsewhere": Case(kept, ["matmul", "add"], ["matmul", "add"]),
    "the weight changes in between": Case(
        weight_changes, ["matmul", "multiply", "add"], ["matmul", "multiply", "add"]
    ),
    "the gradient of a bias": Case(
        relu_then_gradients,
        ["linear", "relu", "sum", "write", "relu_backward", "linear_weight_gradient", "sum"],
        ["linear_relu", "multiply", "relu_bias_backward", "linear_weight_gradient"],
        exact=False,
    ),
    "the gradient of a bias, batches of rows": Case(
        relu_then_gradients_of_batches, [],
        ["linear_relu", "multiply", "relu_bias_backward", "linear_weight_gradient"],
        exact=False,
    ),
    "a chain": Case(
        lambda x, w, b: gb.tanh(x * 2.0 + 1.0) * x, ["multiply", "add", "tanh", "multiply"],
        ["multiply > add > tanh > multiply"],
    ),
    "a chain with a row": Case(
        lambda x, w, b: gb.exp(-(x - w[0])) / 3.0, ["subtract", "negative", "exp", "divide"],
        ["subtract > negative > exp > divide"],
    ),
    "a chain with a choice": Case(
        lambda x, w, b: gb.where(x > 0.5, x, -x) + x, ["greater", "negative", "where", "add"],
        ["negative > greater > where > add"],
    ),
    "activations with numbers": Case(
        lambda x, w, b: F.gelu(F.leaky_relu(x, 0.2) + 1.0, "tanh"), ["leaky_relu", "add", "gelu"],
        ["leaky_relu > add > gelu_tanh"],
    ),
    "two readers": Case(
        lambda x, w, b: (lambda t: t * t + t)(gb.exp(x)), ["exp", "multiply", "add"], ["exp", "multiply > add"]
    ),
    "another shape": Case(
        lambda x, w, b: gb.exp(w[0]) * x, ["exp", "multiply"], ["exp", "multiply"]
    ),
    "integers": Case(lambda x, w, b: (x > 0).astype("int64") + 1, ["greater", "astype", "add"],
                     ["greater", "astype", "add"]),
    "a square": Case(lambda x, w, b: (x + 1.0) * (x + 1.0), ["add", "add", "multiply"], ["add > add > multiply"]),
}  # fmt: skip


def operands(device: str, dtype: Any) -> list[Any]:
    rng = np.random.default_rng(5)
    shapes = ((ROWS, WIDTH), (OUT, WIDTH), (OUT,))
    return [gb.tensor(rng.standard_normal(s), device=device).astype(dtype) for s in shapes]


def run(case: Case, device: str, dtype: Any, level: str | None) -> tuple[list[Any], list[str]]:
    """Results of a second call, and the names of the Program's calls; level None: eagerly."""
    x, weight, bias = operands(device, dtype)
    second = (x * 0.5).detach()
    outside = [weight, bias]
    step = (lambda x: case.function(x, *outside)) if level is None else gb.capture(
        lambda x: case.function(x, *outside), rewrite=level
    )  # fmt: skip
    step(x)
    result = step(second)
    names = [] if level is None else [call.title for call in step.program.plan.calls]
    return list(result) if isinstance(result, tuple) else [result], names


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_rewrites_keep_the_bits(device, name, dtype):
    case = CASES[name]
    eager, _ = run(case, device, dtype, None)
    plain, before = run(case, device, dtype, "none")
    rewritten, after = run(case, device, dtype, "all")
    assert before == case.before or name.startswith("the gradient of a bias")
    assert after == case.after
    for a, b, c in zip(eager, plain, rewritten, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
        fused = "linear" in "".join(after) and "linear" not in before
        if (case.exact or device == "cpu") and not (fused and (dtype == "bfloat16" or device == "cuda")):
            assert a.numpy().tobytes() == c.numpy().tobytes()
        else:  # sums of ROWS numbers in another order, or rounded once in place of twice
            size = np.abs(a.numpy().astype(float)).max()
            error = np.abs(a.numpy().astype(float) - c.numpy().astype(float)).max()
            assert error <= ROWS * 2.0 ** -{"float32": 24, "float64": 53, "bfloat16": 8}[dtype] * size * 4


def test_exact_leaves_the_others_out(device):
    case = CASES["the gradient of a bias"]
    eager, _ = run(case, device, "float32", None)
    exact, names = run(case, device, "float32", "exact")
    assert ("relu_bias_backward" in names) is (device == "cpu")
    assert ("linear_relu" in names) is (device != "cuda")
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(eager, exact, strict=True))


def test_every_rewrite_is_met_by_a_case():
    made_by = {
        "product with bias": "linear", "product with bias, 16 bits": "linear", "product with relu": "linear_relu",
        "gradient with bias": "relu_bias_backward", "elementwise chain": " > ",
        "relu in products": "matmul_relu_backward", "gelu in products": "matmul_gelu_backward",
        "weight gradient added in its product": "add_linear_weight_gradient",
        "weight gradient with bias": "linear_gradients",
    }  # fmt: skip
    assert {row.name for row in REWRITES} == made_by.keys()
    met = [title for case in (*CASES.values(), *in_products.CASES.values()) for title in case.after]
    for sign in made_by.values():
        assert any(sign in title for title in met)


STEPS: list[Callable[[Any, Any, Any], Any]] = [
    lambda a, b, c: a + b, lambda a, b, c: a - c, lambda a, b, c: a * b, lambda a, b, c: gb.maximum(a, c),
    lambda a, b, c: gb.tanh(a), lambda a, b, c: gb.abs(b), lambda a, b, c: -a, lambda a, b, c: a * 0.3 + 1.0,
    lambda a, b, c: gb.where(a > c, a, b), lambda a, b, c: F.relu(a), lambda a, b, c: F.silu(a),
    lambda a, b, c: gb.full_like(a, 2.0), lambda a, b, c: gb.zeros_like(a).__iadd__(b.sum()),
    lambda a, b, c: a.sum(axis=0), lambda a, b, c: gb.exp(gb.minimum(b, 1.0)), lambda a, b, c: a.T.T,
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    program=st.lists(
        st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
        min_size=1, max_size=12,
    ),
    results=st.sets(st.integers(0, 12), min_size=1, max_size=3),
    rows=st.sampled_from([1, 3, 64]),
)  # fmt: skip
def test_drawn_programs_keep_their_bits(program, results, rows):
    """Any mixture of operations, results used any number of times, on the CPU."""
    rng = np.random.default_rng(0)
    outside = gb.tensor(rng.standard_normal(6).astype(np.float32))

    def function(x, y):
        values = [x, y, outside, x * y]
        for step, a, b, c in program:
            values.append(STEPS[step](*(values[i % len(values)] for i in (a, b, c))))
        return [values[i % len(values)] for i in sorted(results)]

    captured = gb.capture(function)
    for _ in range(2):
        x, y = (gb.tensor(rng.standard_normal((rows, 6)).astype(np.float32)) for _ in range(2))
        eager, replayed = function(x, y), captured(x, y)
        assert [t.numpy().tobytes() for t in eager] == [t.numpy().tobytes() for t in replayed]


def test_large_chains_run_in_blocks():
    rng = np.random.default_rng(1)
    row = gb.tensor(rng.standard_normal(100).astype(np.float32))
    function = lambda x: F.gelu((x + row) * 0.5) - x
    captured = gb.capture(function)
    for rows in (1000, 1000, 999):
        x = gb.tensor(rng.standard_normal((rows, 100)).astype(np.float32))
        assert captured(x).numpy().tobytes() == function(x).numpy().tobytes()
    assert captured.stats["operations"] == 1


@pytest.mark.parametrize("combine", [lambda t: t + t.mT, lambda t: t - t[::-1], lambda t: gb.exp(t) * gb.exp(t).mT])
def test_an_operand_that_a_view_of_it_meets(combine, device) -> None:  # type: ignore[no-untyped-def]
    step = gb.capture(lambda x: combine(x * 2))
    for seed in range(3):
        x = gb.tensor(np.random.default_rng(seed).normal(size=(5, 5)))
        np.testing.assert_array_equal(step(x).numpy(), combine(x * 2).numpy())
