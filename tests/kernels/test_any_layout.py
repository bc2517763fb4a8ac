"""Shapes, strides, dtypes and axes as they come: what hypothesis draws, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backprop.backends import table

from .conftest import DTYPES, check, draw, on

lengths = st.sampled_from([0, 1, 2, 3, 5, 31, 33])
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def views(draw_: Any) -> tuple[tuple[int, ...], Any]:
    """The shape of a base array of up to 4 dimensions, and a view of it: permuted, thinned, reversed, shifted."""
    shape = tuple(draw_(st.lists(lengths, min_size=1, max_size=4).filter(lambda s: np.prod(s) <= 20_000)))
    order = draw_(st.permutations(range(len(shape))))
    starts = [draw_(st.integers(0, 1)) for _ in shape]
    steps = [draw_(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    cut = tuple(slice(start if step > 0 else None, None, step) for start, step in zip(starts, steps))
    return shape, lambda a: a.transpose(order)[cut]


def bits_as_float(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@SETTINGS
@given(views(), st.sampled_from(DTYPES), st.data())
def test_elementwise(backend, drawn, dtype, data):
    """An operand that is seen through a view, beside one that broadcasts to it, into a result that may be strided."""
    (shape, view), dtype = drawn, table.dtype_of(dtype)
    x = draw(shape, dtype)
    seen = view(x)
    other = tuple(data.draw(st.sampled_from([n, 1])) for n in seen.shape)[data.draw(st.integers(0, seen.ndim)) :]
    y = draw(other, dtype, 1)
    expected = bits_as_float(seen) * bits_as_float(y)
    given_ = on(backend, x, view), on(backend, y)
    check(backend.to_host(backend.functions["multiply"](*given_)), expected, dtype)
    wide = on(backend, np.zeros((*seen.shape[:-1], 2 * seen.shape[-1]), dtype))
    backend.functions["multiply"](*given_, out=wide[..., ::2])
    check(backend.to_host(wide)[..., ::2], expected, dtype)
    assert not backend.to_host(wide)[..., 1::2].any()


@SETTINGS
@given(views(), st.sampled_from(DTYPES), st.data())
def test_reductions(backend, drawn, dtype, data):
    """A sum and a maximum over any axes of a view."""
    (shape, view), dtype = drawn, table.dtype_of(dtype)
    x = draw(shape, dtype)
    seen = view(x)
    axis = tuple(sorted(data.draw(st.sets(st.integers(0, seen.ndim - 1)))))
    keepdims = data.draw(st.booleans())
    size = bits_as_float(abs(bits_as_float(seen)).sum(axis=axis, keepdims=keepdims))
    total = backend.functions["sum"](on(backend, x, view), axis=axis, keepdims=keepdims)
    expected = bits_as_float(seen).sum(axis=axis, keepdims=keepdims)
    check(backend.to_host(total), expected, dtype, 8 if dtype.itemsize > 2 else 1.51, size)
    if all(seen.shape[i] for i in axis):
        top = backend.functions["max"](on(backend, x, view), axis=axis, keepdims=keepdims)
        check(backend.to_host(top), bits_as_float(seen).max(axis=axis, keepdims=keepdims), dtype)
