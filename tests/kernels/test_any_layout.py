"""Shapes, strides, dtypes and axes as they come: what hypothesis draws, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backprop.backends import table

from .conftest import DTYPES, check, draw, on

lengths = st.sampled_from([0, 1, 2, 3, 5, 31, 33])
SETTINGS = settings(max_examples=100, deadline=None, derandomize=True)
EXACT = ("add", "copysign", "divide", "maximum", "minimum", "multiply", "relu_backward", "subtract")
FORMULAS = {name: getattr(np, name) for name in EXACT if hasattr(np, name)}
FORMULAS["relu_backward"] = lambda g, y: np.where(y > 0, g, 0)
REDUCTIONS = {"max": np.max, "mean": np.mean, "min": np.min, "sum": np.sum, "var": np.var}


@st.composite
def seen(draw_: Any) -> tuple[np.ndarray, Any]:
    """An array of up to 4 dimensions, and a view of it: permuted, thinned, reversed, shifted."""
    shape = tuple(draw_(st.lists(lengths, min_size=1, max_size=4).filter(lambda s: np.prod(s) <= 20_000)))
    order = draw_(st.permutations(range(len(shape))))
    starts = [draw_(st.integers(0, 1)) for _ in shape]
    steps = [draw_(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    cut = tuple(slice(start if step > 0 else None, None, step) for start, step in zip(starts, steps))
    x = draw(shape, table.dtype_of(draw_(st.sampled_from(DTYPES))))
    return x, lambda a: a.transpose(order)[cut]


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


@SETTINGS
@given(seen(), st.sampled_from(EXACT), st.data())
def test_elementwise(backend, drawn, name, data):
    """An operand that is seen through a view, beside one that broadcasts to it, into a result that may be strided."""
    base, view = drawn
    x, function = view(base), backend.functions[name]
    other = tuple(data.draw(st.sampled_from([n, 1])) for n in x.shape)[data.draw(st.integers(0, x.ndim)) :]
    y = draw(other, base.dtype, 1)
    expected = FORMULAS[name](x.astype(np.float64), y.astype(np.float64))
    given_ = on(backend, base, view), on(backend, y)
    check(backend.to_host(function(*given_)), expected, base.dtype, what=name)
    target = on(backend, np.zeros((*x.shape[:-1], 2 * x.shape[-1]), base.dtype))
    function(*given_, out=target[..., ::2])
    check(backend.to_host(target)[..., ::2], expected, base.dtype, what=name)
    assert not backend.to_host(target)[..., 1::2].any()


@SETTINGS
@given(seen(), st.sampled_from(sorted(REDUCTIONS)), st.data())
def test_reductions(backend, drawn, name, data):
    """Any axes of a view."""
    base, view = drawn
    x = view(base)
    axis = tuple(sorted(data.draw(st.sets(st.integers(0, x.ndim - 1)))))
    count = int(np.prod([x.shape[i] for i in axis]))
    if not count and name != "sum":
        return
    keepdims = data.draw(st.booleans())
    attrs = {"correction": 0.0} if name == "var" else {}
    found = backend.functions[name](on(backend, base, view), axis=axis, keepdims=keepdims, **attrs)
    expected = REDUCTIONS[name](wide(x), axis=axis, keepdims=keepdims)
    exact = name in ("max", "min")
    size = 0.0 if exact else np.abs(wide(x)).sum(axis=axis, keepdims=keepdims) / (1 if name == "sum" else count)
    size = np.maximum(size, 1.0) if name == "var" else size
    half = base.dtype.itemsize == 2
    check(backend.to_host(found), expected, base.dtype, 0.5 if exact else 1.51 if half else 8, size, name)
