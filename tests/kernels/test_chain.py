"""Chains of elementwise operations in one kernel give the bits that the operations give one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backprop.backends import layouts, table
from gpu_backprop.backends.launching.chain import Chain
from gpu_backprop.core.errors import KernelError

from .conftest import DTYPES, compile_first, draw, on

BIAS_RELU = Chain(2, (("add", 0, 1), ("relu", 2)))
SWISH_GATE = Chain(3, (("silu", 0), ("multiply", 3, 1), ("add", 4, 2), ("multiply", 5, 0)))
SELECT = Chain(3, (("greater", 0, 1), ("where", 3, 0, 2), ("leaky_relu", 4, 2)))
TRUTH = Chain(2, (("maximum", 0, 1), ("equal", 2, 0)))
NEIGHBOUR = Chain(2, (("nextafter", 0, 1), ("subtract", 2, 0)))
CHAINS = {
    "bias_relu": (BIAS_RELU, "xx"),
    "swish_gate": (SWISH_GATE, "xxx"),
    "select": (SELECT, "xxn"),
    "truth": (TRUTH, "xx"),
    "neighbour": (NEIGHBOUR, "xx"),
    "condition": (Chain(3, (("where", 0, 1, 2), ("exp", 3))), "bxx"),
}
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], Any]] = [
    ((0,), (0,), lambda a: a),
    ((1,), (1,), lambda a: a),
    ((33,), (33,), lambda a: a),
    ((256 * 8 + 1,), (), lambda a: a),
    ((5, 33), (33,), lambda a: a),
    ((5, 33), (5, 1), lambda a: a),
    ((5, 7), (7, 5), lambda a: a.T),
    ((3, 4, 5), (3, 1, 5), lambda a: a[::-1]),
    ((5, 7), (10, 14), lambda a: a[::2, ::-2]),
]


def operands(backend: Any, kinds: str, shape: Any, other: Any, view: Any, dtype: np.dtype) -> list[Any]:
    """Whole arrays but for the second, which is seen through the view; n: a number."""
    made: list[Any] = []
    for place, kind in enumerate(kinds):
        if kind == "n":
            made.append(0.25)
            continue
        x = draw(other if place == 1 else shape, dtype, place)
        made.append(on(backend, x > 0 if kind == "b" else x, view if place == 1 else lambda a: a))
    return made


def one_by_one(backend: Any, chain: Chain, values: list[Any]) -> np.ndarray:
    values = list(values)
    for name, *places in chain.steps:
        row = table.ELEMENTWISE[name]
        taken = [values[place] for place in places]
        values.append(backend.functions[name](*taken[: row.arrays], **dict(zip(row.numbers, taken[row.arrays :]))))
    return backend.to_host(values[-1])


def same_bits(first: np.ndarray, second: np.ndarray) -> None:
    assert (first.dtype, first.shape) == (second.dtype, second.shape)
    np.testing.assert_array_equal(first.astype(float), second.astype(float))
    if first.dtype != bool:
        np.testing.assert_array_equal(np.signbit(first.astype(float)), np.signbit(second.astype(float)))


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_has_the_bits_of_its_steps(backend, name):
    chain, kinds = CHAINS[name]
    codes = tuple({"x": "x", "n": "", "b": "?"}[kind] for kind in kinds)
    dtypes = DTYPES if name == "bias_relu" else ("float", "__nv_bfloat16")
    compile_first(backend, [chain.kernel(p, dtype, "int", codes) for p in table.PATTERNS for dtype in dtypes])
    for dtype, (shape, other, view) in itertools.product(dtypes, SHAPES):
        given = operands(backend, kinds, shape, other, view, table.dtype_of(dtype))
        same_bits(backend.to_host(backend.functions["chain"](*given, chain=chain)), one_by_one(backend, chain, given))


def test_a_chain_against_numpy(backend):
    x, bias = draw((6, 33), np.float32), draw((33,), np.float32, 1)
    result = backend.functions["chain"](on(backend, x), on(backend, bias), chain=BIAS_RELU)
    np.testing.assert_array_equal(backend.to_host(result), np.maximum(x + bias, 0))


def test_out_may_be_an_operand(backend):
    x, bias = draw((6, 33), np.float32), draw((33,), np.float32, 1)
    target = on(backend, x)
    assert backend.functions["chain"](target, on(backend, bias), chain=BIAS_RELU, out=target) is target
    np.testing.assert_array_equal(backend.to_host(target), np.maximum(x + bias, 0))


def test_out_may_overlap_an_operand(backend):
    memory = on(backend, draw((34,), np.float32))
    before = backend.to_host(memory).copy()
    bias = on(backend, draw((33,), np.float32, 1))
    backend.functions["chain"](memory[:33], bias, chain=BIAS_RELU, out=memory[1:])
    np.testing.assert_array_equal(backend.to_host(memory)[1:], np.maximum(before[:33] + backend.to_host(bias), 0))


def test_what_no_kernel_takes_runs_step_by_step(backend):
    x = np.arange(-3, 3)
    result = backend.functions["chain"](on(backend, x), on(backend, x * 0 + 1), chain=BIAS_RELU)
    np.testing.assert_array_equal(backend.to_host(result), np.maximum(x + 1, 0))
    deep = draw((2,) * 10, np.float32)
    view = on(backend, deep, lambda a: a.transpose(1, 0, 3, 2, 5, 4, 7, 6, 9, 8))
    result = backend.functions["chain"](on(backend, deep), view, chain=BIAS_RELU)
    same_bits(backend.to_host(result), one_by_one(backend, BIAS_RELU, [on(backend, deep), view]))


def test_grid_limit_index_type_and_order(remake, other_orders, monkeypatch):
    x, y = draw((70, 257), np.float32), draw((257, 70), np.float32, 1)
    results = []
    for settings_ in ({}, {"max_grid": 1}, *({"order": order, "seed": 5} for order in other_orders)):
        b = remake(**settings_)
        for view, shape in ((lambda a: a.T, y), (lambda a: a, x), (lambda a: a, x[0])):
            results.append(b.to_host(b.functions["chain"](on(b, x), on(b, shape, view), chain=BIAS_RELU)))
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, results[i % 3])
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    b = remake()
    for view, shape, expected in zip((lambda a: a.T, lambda a: a, lambda a: a), (y, x, x[0]), results):
        np.testing.assert_array_equal(
            b.to_host(b.functions["chain"](on(b, x), on(b, shape, view), chain=BIAS_RELU)), expected
        )


UNARY = [n for n, r in table.ELEMENTWISE.items() if r.arrays == 1 and not r.numbers and not r.truth]
BINARY = [n for n, r in table.ELEMENTWISE.items() if r.arrays == 2 and not r.numbers and not r.truth]


@st.composite
def chains(draw_: Any) -> Chain:
    inputs = draw_(st.integers(1, 4))
    steps: list[tuple[Any, ...]] = []
    for i in range(draw_(st.integers(1, 5))):
        name = draw_(st.sampled_from(UNARY + BINARY))
        values = st.integers(0, inputs + i - 1)
        steps.append((name, *(draw_(values) for _ in range(table.ELEMENTWISE[name].arrays))))
    return Chain(inputs, tuple(steps))


# not on a GPU: each example is a new kernel for the compiler, and the fixed chains run there
@pytest.mark.parametrize("backend", [pytest.param("emulated", marks=pytest.mark.emulated)], indirect=True)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(chains(), st.sampled_from(DTYPES))
def test_any_chain(backend, chain, dtype):
    with np.errstate(all="ignore"):
        given = operands(backend, "x" * chain.inputs, (5, 33), (33,), lambda a: a, table.dtype_of(dtype))
        same_bits(backend.to_host(backend.functions["chain"](*given, chain=chain)), one_by_one(backend, chain, given))


@pytest.mark.parametrize(
    ("inputs", "steps", "told"),
    [
        (1, (("frobnicate", 0),), "'frobnicate' is no elementwise operation"),
        (1, (("add", 0),), "step 0, add, takes 2 operands, not 1"),
        (1, (("relu", 0), ("add", 1, 2)), r"names operands \[1, 2\]; before it are 0 to 1"),
        (7, (("relu", 0),), "7 inputs and 1 steps; give 1 to 6 inputs"),
        (1, (), "1 inputs and 0 steps"),
    ],
)
def test_wrong_chains_are_named(inputs, steps, told):
    with pytest.raises(KernelError, match=told):
        Chain(inputs, steps)
