"""The measure of differences between devices."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gpu_backprop.core import agreement
from gpu_backprop.ops import elementwise, indexing, linalg, movement, neural, reduction, sorting
from gpu_backprop.ops.primitive import Primitive

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulp_is_the_distance_to_the_next_number(dtype):
    values = np.array([1.0, 1.5, 1.9, 2.0, 3e-4, 1e3, 0.0], dtype)
    tiny = np.nextafter(np.zeros(1, dtype), np.ones(1, dtype))  # the smallest number above 0
    values = np.concatenate([values, tiny, tiny * dtype(3)])
    after = np.nextafter(values, np.full_like(values, np.inf))
    expected = after.astype(np.float64) - values.astype(np.float64)
    np.testing.assert_array_equal(agreement.ulp(values.astype(np.float64), np.dtype(dtype)), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_function_is_measured_at_each_element(dtype):
    a = np.array([1e-3, 1.0, 100.0], dtype)
    b = a.copy()
    b[0] = np.nextafter(np.nextafter(a[:1], np.ones(1, dtype)), np.ones(1, dtype))[0]
    assert agreement.distance(a, b, "function") == (2.0, 1)
    assert agreement.distance(a, b, "whole")[0] < 1e-3  # beside 100


def test_a_sum_is_measured_at_its_terms():
    terms = np.array([1.0, -1.0, 2.0**-24], np.float32)
    exact, found = np.float32([2.0**-24]), np.float32([0.0])  # in the one order and in the other
    magnitudes = agreement.sum_of_magnitudes(lambda x: x.sum(keepdims=True), [terms], {})
    np.testing.assert_allclose(magnitudes, [2.0 + 2.0**-24])
    assert agreement.distance(exact, found, "sum", magnitudes) == (0.25, 1)
    assert agreement.distance(exact, found, "function")[0] == 2**23


def test_what_is_no_number():
    a = np.float32([np.nan, np.inf, -np.inf, 1.0])
    other_nan = a.view(np.uint32).copy()
    other_nan[0] += 1
    assert agreement.distance(a, other_nan.view(np.float32)) == (0.0, 0)
    for wrong in ([0, np.inf, -np.inf, 1], [np.nan, 1, -np.inf, 1], [np.nan, -np.inf, -np.inf, 1]):
        assert agreement.distance(a, np.float32(wrong)) == (np.inf, 1)


def test_zeros_of_either_sign_are_no_error_but_other_bits():
    assert agreement.distance(np.float32([0.0, 1.0]), np.float32([-0.0, 1.0]), "exact") == (0.0, 1)


def test_integers_are_counted():
    a, b = np.array([1, 2, 3]), np.array([1, 2, 4])
    assert agreement.distance(a, a.copy()) == (0.0, 0)
    assert agreement.distance(a, b) == (np.inf, 1)
    assert agreement.distance(a > 1, b > 3) == (np.inf, 1)


def test_other_shapes_and_dtypes_are_an_error():
    a = np.zeros((2, 3), np.float32)
    assert agreement.distance(a, np.zeros((3, 2), np.float32))[0] == np.inf
    assert agreement.distance(a, np.zeros((2, 3)))[0] == np.inf
    assert agreement.distance(a[:0], a[:0]) == (0.0, 0)


def test_every_name_in_the_table_is_an_operation():
    modules = (elementwise, indexing, linalg, movement, neural, reduction, sorting)
    known = {p.name for module in modules for p in vars(module).values() if isinstance(p, Primitive)}
    assert set(agreement.KIND) <= known


def test_bounds():
    assert agreement.bound_of("add", np.dtype("float32")) == 0
    assert agreement.bound_of("exp", np.dtype("float64")) == 8
    assert agreement.bound_of("matmul", np.dtype("float32")) == 32
    assert agreement.bound_of("an operation of tomorrow", np.dtype("float16")) == 2
    assert agreement.bound_of("softmax", np.dtype("int64")) == 0
