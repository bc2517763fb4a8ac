"""Captured steps whose products take in what follows them: which do, which do not, and what becomes of the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends.launching import products
from gpu_backprop.core import dtypes, precision, rewrites
from gpu_backprop.core.calls import Call
from gpu_backprop.core.costs import of_replay

from .test_launch import epilogues

pytestmark = pytest.mark.emulated

F = gb.nn.functional
ROWS, WIDTH, HIDDEN, OUT = 9, 5, 12, 4
FUSED = (
    *("linear_relu_mask", "matmul_relu_backward", "linear_gelu_value", "matmul_gelu_backward"),
    *("linear_gradients", "add_linear_weight_gradient"),
)


def network(activation: Callable[[Any], Any], *more: int) -> Callable[..., Any]:
    """Gradients of a network of two layers, and what `more` picks of its values: input, hidden before and after."""

    def gradients(x, w1, b1, w2, b2):
        values = []

        def loss(*parameters):
            w1, b1, w2, b2 = parameters
            before = F.linear(x, w1, b1)
            hidden = activation(before)
            values[:] = x, before, hidden
            return gb.square(F.linear(hidden, w2, b2)).sum()

        found = gb.grad(loss, (0, 1, 2, 3))(w1, b1, w2, b2)
        return [*found, *(values[i].detach() for i in more)]

    return gradients


def two_readers(x, w1, b1, w2, b2):
    def loss(w1, b1, w2):
        hidden = F.relu(F.linear(x, w1, b1))
        return gb.square(F.linear(hidden, w2)).sum() + gb.square(F.linear(hidden, w2 * 2.0)).sum()

    return gb.grad(loss, (0, 1, 2))(w1, b1, w2)


def frozen_bias(x, w1, b1, w2, b2):
    return gb.grad(lambda w1, w2: gb.square(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)).sum(), (0, 1))(w1, w2)


def batches_of_rows(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda x, *rest: network(activation)(x.reshape((3, x.shape[0] // 3, -1)), *rest)


def no_bias(x, w1, b1, w2, b2):
    return gb.grad(lambda w1, w2: gb.square(F.linear(F.relu(F.linear(x, w1)), w2)).sum(), (0, 1))(w1, w2)


def added(x, w1, b1, w2, b2):
    """The second call finds a gradient there, and adds to it; so does every replay of it."""
    w2.requires_grad_()
    gb.square(F.linear(F.tanh(F.linear(x, w1, b1)), w2)).sum().backward()
    return [w2.grad * 1.0]


class Case(NamedTuple):
    """A function of x, two weights and two biases; the calls afterwards, as far as they are fused, in any order."""

    function: Callable[..., Any]
    after: list[str]
    rows: int = ROWS
    out: int = OUT


def tanh_gelu(x):
    return F.gelu(x, "tanh")


RELU = ["linear_relu_mask", "matmul_relu_backward"]
GELU = ["linear_gelu_value", "matmul_gelu_backward"]
CASES = {
    "relu": Case(network(F.relu), [*RELU, "linear_gradients"]),
    "relu, and its output is wanted": Case(network(F.relu, 2), [*RELU, "linear_gradients"]),
    "relu of batches": Case(batches_of_rows(F.relu), [*RELU, "linear_gradients"]),
    "gelu": Case(network(tanh_gelu), [*GELU, "linear_gradients"]),
    "gelu, and its output is wanted": Case(network(tanh_gelu, 2), [*GELU, "linear_gradients"]),
    "gelu of batches": Case(batches_of_rows(tanh_gelu), [*GELU, "linear_gradients"]),
    "a gradient is added": Case(added, ["add_linear_weight_gradient"]),
    # the slope of an activation stays apart
    "gelu, and its input is wanted": Case(network(tanh_gelu, 1), ["linear_gradients"] * 2),
    "gelu by erf": Case(network(F.gelu), ["linear_gradients"] * 2),
    "another activation": Case(network(F.silu), ["linear_gradients"] * 2),
    "one output: the product is over K = 1": Case(network(F.relu), ["linear_gradients"], out=1),
    "one output, gelu": Case(network(tanh_gelu), ["linear_gradients"] * 2, out=1),
    "one row: the weights' product is over K = 1": Case(network(F.relu), RELU, rows=1),
    "dropout between": Case(network(lambda x: F.dropout(F.relu(x), 0.5)), ["linear_gradients"]),
    "two layers read it": Case(two_readers, []),
    "the bias is frozen": Case(frozen_bias, []),
    "no bias": Case(no_bias, []),
}


def operands(case: Case, dtype: Any) -> list[Any]:
    rng = np.random.default_rng(5)
    shapes = (case.rows, WIDTH), (HIDDEN, WIDTH), (HIDDEN,), (case.out, HIDDEN), (case.out,)
    return [gb.tensor(rng.standard_normal(s), device="emulated").astype(dtype) for s in shapes]


def run(case: Case, dtype: Any, level: str) -> tuple[list[np.ndarray], Any]:
    """Results of a third call, and its Program."""
    x, *parameters = operands(case, dtype)
    gb.manual_seed(3)
    step = gb.capture(lambda x: case.function(x, *parameters), rewrite=level)
    for part in (1.0, 0.7, 0.5):
        found = step((x * part).detach())
    return [t.numpy().astype(float) for t in found], step.program


def fused(calls: list[Call]) -> list[str]:
    return [call.name for call in calls if call.name in FUSED]


def close(found: np.ndarray, expected: np.ndarray, dtype: Any, n: int) -> None:
    """The bound of docs/capture.md, with the largest number in the place of the sum of all magnitudes."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=n * dtypes.epsilon(np.dtype(dtype)) * abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64", dtypes.bfloat16()], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_what_is_fused_and_what_is_not(backend, name, dtype):
    case, expected = CASES[name], CASES[name].after
    if dtype == "float64" and GELU[0] in expected:  # cuBLASLt's GELU has float32's accuracy
        expected = CASES["gelu, and its input is wanted"].after
    plain, before = run(case, dtype, "none")
    exact, kept = run(case, dtype, "exact")
    rewritten, after = run(case, dtype, "all")
    assert fused(before.plan.calls) == fused(kept.plan.calls) == []
    assert sorted(fused(after.plan.calls)) == sorted(expected)
    backward = {"DRELU_BGRAD": RELU[1], "DGELU_BGRAD": GELU[1], "BGRADB": "linear_gradients"}
    assert backward.keys() & epilogues(backend) == {e for e, made in backward.items() if made in expected}
    work, less = (list(map(of_replay, program.plan.calls)) for program in (before, after))
    assert sum(cost.flops for cost in work) == sum(cost.flops for cost in less)
    assert sum(cost.nbytes for cost in work) > sum(cost.nbytes for cost in less)
    for a, b, c in zip(plain, exact, rewritten, strict=True):
        np.testing.assert_array_equal(a, b)
        close(c, a, dtype, HIDDEN)


@pytest.mark.parametrize(
    ("missing", "apart"),
    [("RELU_AUX_BIAS", RELU), ("DRELU_BGRAD", RELU), ("GELU_AUX_BIAS", GELU), ("DGELU_BGRAD", GELU),
     ("BGRADB", ["linear_gradients"])],
)  # fmt: skip
def test_what_the_gpu_lacks_is_not_asked_of_it(backend, missing, apart):
    """Then the calls stay apart, both halves of a pair, and a replay does not fall back from what was planned."""
    backend.machine.gemm.lt.unsupported = (missing,)
    for name in ("relu", "gelu"):
        _, program = run(CASES[name], "float32", "all")
        assert not set(apart) & {*fused(program.plan.calls)}
        assert {*CASES[name].after} - {*apart, "linear_gradients"} == {*fused(program.plan.calls)} - {
            "linear_gradients"
        }


@pytest.mark.parametrize("winner", ["the product", "our kernels"])
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_an_epilogue_that_may_run_apart_has_to_win_a_race(backend, monkeypatch, name, winner):
    """Without tuning it is not even timed."""
    asked = []

    def seconds(work):  # of the two in turn, the product first
        work()
        asked.append(work)
        return 1.0 if len(asked) % 2 == (winner == "the product") else 2.0

    monkeypatch.setattr(backend.machine, "seconds", seconds, raising=False)
    monkeypatch.delattr(backend, "prefers")
    products.is_quicker.cache_clear()
    assert fused(run(CASES[name], "float32", "all")[1].plan.calls) == []
    assert asked == []
    monkeypatch.setattr(precision, "_tuning", True)
    monkeypatch.setattr(backend.machine.gemm, "tune", lambda *planned: None)
    made = fused(run(CASES[name], "float32", "all")[1].plan.calls)
    assert sorted(made) == (sorted(CASES[name].after) if winner == "the product" else [])
    assert asked
    count = len(asked)
    run(CASES[name], "float32", "all")
    assert len(asked) == count  # the answer is kept
    products.is_quicker.cache_clear()


def test_without_cublaslt_nothing_is_fused(backend, monkeypatch):
    monkeypatch.setattr(backend.machine, "gemm", None)
    assert fused(run(CASES["relu"], "float32", "all")[1].plan.calls) == []


def test_a_mask_that_is_not_written_after_all_is_not_read(backend):
    """The library has the epilogue when the step is captured, and refuses it afterwards: the same gradients."""
    expected, _ = run(CASES["relu"], "float32", "all")
    x, *parameters = operands(CASES["relu"], "float32")
    step = gb.capture(lambda x: CASES["relu"].function(x, *parameters))
    step(x)
    assert RELU[0] in fused(step.program.plan.calls)
    library = backend.machine.gemm
    forward = [plan for plan in library.prepared if plan.epilogue == "RELU_AUX_BIAS"]
    for plan in forward:
        library.destroy(library.prepared.pop(plan))
        library.refused[plan] = "gone"
    for found, wanted in zip(step((x * 0.5).detach()), expected, strict=True):
        close(found.numpy(), wanted, "float32", HIDDEN)


# calls between ------------------------------------------------------------------------------------------------------

# case, a call behind which something is written, which of its operands (-1: its result), and what then stays apart
WRITTEN = [
    ("relu", "matmul", 0, RELU),
    ("relu", "matmul", 1, RELU),
    ("relu", "linear", -1, RELU),
    ("relu", "relu", -1, RELU),
    ("gelu", "matmul", 0, GELU),
    ("gelu", "matmul", 1, GELU),
    ("gelu", "linear", 0, GELU),
    ("gelu", "linear", -1, GELU),
    ("gelu", "gelu_backward", -1, GELU),
    ("relu", "linear_weight_gradient", 0, [*RELU, "linear_gradients"]),  # the product would be made later
    ("relu", "sum", -1, []),
    ("a gradient is added", "linear_weight_gradient", 0, ["add_linear_weight_gradient"]),
]


# the same for what is wanted as a result too
READ = [
    ("relu", "matmul", RELU),
    ("relu", "linear", RELU),
    ("gelu", "linear", GELU),
    ("gelu", "matmul", GELU),
    ("gelu", "gelu_backward", []),
    ("a gradient is added", "linear_weight_gradient", ["add_linear_weight_gradient"]),
]


def plain_calls(name: str) -> list[Call]:
    return run(CASES[name], "float32", "none")[1].plan.calls


def rewritten(calls: list[Call], results: Any = ()) -> set[str]:
    return {*fused(rewrites.rewrite([replace(call) for call in calls], results, "all"))}


@pytest.mark.parametrize(("name", "behind", "which", "apart"), WRITTEN)
def test_what_is_written_between_keeps_calls_apart(backend, name, behind, which, apart):
    calls = plain_calls(name)
    assert rewritten(calls) == {*CASES[name].after}
    i = next(i for i, call in enumerate(calls) if call.name == behind)
    written = calls[i].results[0] if which < 0 else calls[i].args[which]
    write = Call("write", backend.write, calls[i].device, (written, ..., 1.0), {}, writes=(written,))
    assert rewritten([*calls[: i + 1], write, *calls[i + 1 :]]) == {*CASES[name].after} - {*apart}


@pytest.mark.parametrize(("name", "call", "apart"), READ)
def test_what_is_read_elsewhere_keeps_calls_apart(backend, name, call, apart):
    calls = plain_calls(name)
    (wanted,) = next(c.results for c in calls if c.name == call)
    assert rewritten(calls, [wanted]) == {*CASES[name].after} - {*apart}


# gradients that add up ----------------------------------------------------------------------------------------------


def accumulation(level: str, dtype: Any) -> tuple[list[np.ndarray], list[str]]:
    """Gradients of two backward passes into an optimiser's buffers."""
    with gb.device("emulated"):
        gb.manual_seed(0)
        model = gb.nn.MLP([WIDTH, HIDDEN, OUT]).to(dtype=dtype)
        optimizer = gb.optim.SGD(model.parameters(), lr=0.0)

        def step(x):
            optimizer.zero_grad()
            gb.square(model(x)).sum().backward()
            gb.square(model(x * 2.0)).sum().backward()

        captured = gb.capture(step, rewrite=level)
        x = gb.random.normal((ROWS, WIDTH)).astype(dtype)
        for _ in range(3):
            captured(x)
        return [p.grad.numpy().astype(float) for p in model.parameters()], fused(captured.program.plan.calls)


@pytest.mark.parametrize("dtype", ["float32", dtypes.bfloat16()], ids=str)
def test_weight_gradients_are_added_by_their_product(backend, dtype):
    plain, before = accumulation("none", dtype)
    summed, after = accumulation("all", dtype)
    assert before == []
    assert after.count("add_linear_weight_gradient") == 2
    assert after.count("linear_gradients") == 1  # of the first pass
    assert any(plan.beta == 1.0 for plan in backend.machine.gemm.prepared)
    for a, b in zip(plain, summed, strict=True):
        close(b, a, dtype, ROWS)


# a network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", dtypes.bfloat16()], ids=str)
@pytest.mark.parametrize(("activation", "pair"), [("relu", RELU), ("gelu", GELU)])
def test_digits_train_alike(backend, activation, pair, dtype):
    """The gradients of a first step within the bound, and then a training that is as good."""
    (images, labels), _ = gb.data.stratified_split(*gb.data.load_digits())

    def train(level: str) -> tuple[list[np.ndarray], list[float], list[str]]:
        with gb.device("emulated"):
            gb.manual_seed(0)
            act = gb.nn.ReLU if activation == "relu" else lambda: gb.nn.GELU("tanh")
            layers = gb.nn.Linear(64, 48), act(), gb.nn.Linear(48, 20), act(), gb.nn.Linear(20, 10)
            model = gb.nn.Sequential(*layers).to(dtype=dtype)
            optimizer = gb.optim.Adam(model.parameters(), lr=0.01)

            @gb.capture(rewrite=level)
            def step(x, y):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                return loss

            losses, first = [], []
            for i in range(40):
                batch = slice(32 * i, 32 * i + 32)
                x, y = (gb.tensor(np.asarray(a)[batch]) for a in (images, labels))
                losses.append(step(x.astype(dtype), y).item())
                first = first or [p.grad.numpy().astype(float) for p in model.parameters()]
            return first, losses, fused(step.program.plan.calls)

    plain, expected, none = train("none")
    gradients, losses, names = train("all")
    assert none == []
    assert sorted(names) == sorted([*pair, *pair, "linear_gradients"])
    for a, b in zip(plain, gradients, strict=True):
        close(b, a, dtype, 64)
    assert math.isclose(losses[0], expected[0], rel_tol=1e-2)
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert abs(np.mean(losses[-5:]) - np.mean(expected[-5:])) < 0.1 * np.mean(expected[-5:])
