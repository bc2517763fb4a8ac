"""The gradient behind a bias and an activation in one pass has the bits of two."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_backprop.backends import layouts, table

from .conftest import DTYPES, check, compile_first, draw, instantiations, on

NUMBERS = {"negative_slope": 0.125, "alpha": 1.5, "beta": 2.0, "threshold": 6.0}
SHAPES = ((1, 1), (1, 31), (32, 33), (1000, 3), (7, 257))


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("bias.cu"))


def numbers_of(name):
    return {number: NUMBERS[number] for number in table.ELEMENTWISE[name].numbers}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", table.BIAS_BACKWARD)
def test_gradients_of_activation_and_bias(backend, name, dtype):
    dtype = table.dtype_of(dtype)
    for shape in SHAPES:
        g, y = on(backend, draw(shape, dtype)), on(backend, draw(shape, dtype, 1, 0.1, 0.9))
        dx, db = backend.functions["activation_bias_backward"](g, y, gradient=name, **numbers_of(name))
        single = backend.functions[name](g, y, **numbers_of(name))
        total = backend.functions["sum"](single, axis=(0,), keepdims=False)
        np.testing.assert_array_equal(backend.to_host(dx), backend.to_host(single))
        np.testing.assert_array_equal(backend.to_host(db), backend.to_host(total))


def test_against_numpy(backend):
    g, y = draw((40, 33), np.float32), draw((40, 33), np.float32, 1)
    dx, db = backend.functions["activation_bias_backward"](on(backend, g), on(backend, y), gradient="relu_backward")
    expected = np.where(y > 0, g, 0).astype(np.float64)
    check(backend.to_host(dx), expected, g.dtype)
    check(backend.to_host(db), expected.sum(0), g.dtype, 8, np.abs(expected).sum(0).max())


def test_transposed_operands(backend):
    g, y = draw((33, 7), np.float32), draw((33, 7), np.float32, 1)
    given = (on(backend, g, lambda a: a.T), on(backend, y, lambda a: a.T))
    dx, _ = backend.functions["activation_bias_backward"](*given, gradient="tanh_backward")
    np.testing.assert_array_equal(backend.to_host(dx), (g * (1 - y * y)).T)


def test_grid_limit_index_type_and_order(remake, other_orders, monkeypatch):
    g, y = draw((300, 70), np.float32), draw((300, 70), np.float32, 1)

    def results(**settings):
        b = remake(**settings)
        pair = b.functions["activation_bias_backward"](on(b, g), on(b, y), gradient="relu_backward")
        return [b.to_host(x) for x in pair]

    expected = results()
    for order in other_orders:
        for first, second in zip(expected, results(order=order, seed=5)):
            np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(results(max_grid=1)[0], expected[0])
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    for first, second in zip(expected, results()):
        np.testing.assert_array_equal(first, second)
