"""The choice of access patterns: plain arithmetic, checked against NumPy's own views. Runs everywhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backprop.backends import layouts


def offsets(shape, strides):
    """Where each element lies, in the order in which a kernel visits them."""
    return [
        sum(i * s for i, s in zip(index, strides, strict=True))
        for index in itertools.product(*(range(n) for n in shape))
    ]


@st.composite
def views(draw):
    """A view of an array of up to 4 dimensions: axes permuted, reversed, thinned, broadcast."""
    base = np.zeros(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)), np.int8)
    view = base.transpose(draw(st.permutations(range(base.ndim))))
    steps = draw(st.lists(st.sampled_from([1, 2, -1]), min_size=view.ndim, max_size=view.ndim))
    view = view[tuple(slice(None, None, step) for step in steps)]
    if draw(st.booleans()):
        view = np.broadcast_to(view, (draw(st.integers(1, 3)), *view.shape))
    return view


@settings(max_examples=200, deadline=None)
@given(views())
def test_merging_visits_the_same_elements_in_the_same_order(view):
    dense = layouts.dense(view.shape)
    sizes, (first, second) = layouts.merge(view.shape, [dense, view.strides])
    assert offsets(sizes, first) == offsets(view.shape, dense)
    assert offsets(sizes, second) == offsets(view.shape, view.strides)
    assert all(n > 1 for n in sizes)


@settings(max_examples=200, deadline=None)
@given(views(), st.data())
def test_splitting_visits_every_reduced_element_of_every_result(view, data):
    axes = tuple(data.draw(st.sets(st.integers(0, view.ndim - 1))))
    for any_order in (False, True):
        (kept, kept_steps), (reduced, steps) = layouts.split_axes(view.shape, view.strides, axes, any_order)
        rest = [i for i in range(view.ndim) if i not in axes]
        expected = offsets([view.shape[i] for i in rest], [view.strides[i] for i in rest])
        assert offsets(kept, kept_steps) == expected
        inside = offsets([view.shape[i] for i in sorted(axes)], [view.strides[i] for i in sorted(axes)])
        found = offsets(reduced, steps)
        assert sorted(found) == sorted(inside)
        assert any_order or found == inside


@settings(max_examples=100, deadline=None)
@given(views())
def test_memory_order_is_found_where_there_is_one(view):
    axes = layouts.memory_order(view.shape, [view.strides])
    dense = sorted(offsets(view.shape, view.strides)) == list(range(view.size))
    dense = dense and all(s >= 0 for n, s in zip(view.shape, view.strides, strict=True) if n > 1)
    assert (axes is not None) == dense
    if axes is not None:
        walked = view.transpose(axes)
        assert offsets(walked.shape, walked.strides) == list(range(view.size))


@pytest.mark.parametrize(
    ("shape", "operands", "expected"),
    [
        ((), [()], "contiguous"),
        ((6,), [(1,), (1,)], "contiguous"),
        ((6,), [(1,), (0,)], "rows"),
        ((2, 3), [(3, 1), (0, 1)], "rows"),
        ((2, 3), [(3, 1), (1, 0)], "rows"),
        ((2, 3), [(3, 1), (1, 2)], "strided"),
        ((6,), [(2,), (1,)], "strided"),
        ((2,) * 8, [(1,) * 8], "strided"),
        ((2,) * 9, [(1,) * 9], None),
    ],
)
def test_patterns(shape, operands, expected):
    assert layouts.pattern(shape, operands) == expected


def test_index_type_by_reach():
    small, large = layouts.INT_LIMIT - 1, layouts.INT_LIMIT
    assert layouts.index_type((small,), [(1,)]) == "int"
    assert layouts.index_type((large,), [(1,)]) == "long long"
    assert layouts.index_type((2,), [(1,), (large,)]) == "long long"  # few elements, far apart
    assert layouts.index_type((2,), [(1,), (-large,)]) == "long long"
    assert layouts.index_type((small,), [(1,), (0,)]) == "int"


def test_broadcast_strides():
    x = np.zeros((3, 1, 5), np.int8)
    spread = np.broadcast_to(x, (2, 3, 4, 5))
    assert layouts.broadcast_strides(x.shape, x.strides, spread.shape) == spread.strides
