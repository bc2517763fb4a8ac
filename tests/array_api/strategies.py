"""What the comparisons with NumPy draw: arrays of many shapes (without elements too), dtypes and memory layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpu_backprop as gb

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
LISTS = hnp.array_shapes(min_dims=1, max_dims=1, min_side=0, max_side=8)
REAL = st.sampled_from(["float64", "float32", "float16", "int64", "int16", "uint8", "uint64", "bool"])
ALL = st.one_of(REAL, st.sampled_from(["complex64", "complex128"]))
# few different ones, so that there are ties, and what is special among floats
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 3.0, 7.0, np.inf, -np.inf, np.nan, -np.nan])


@st.composite
def arrays(draw: Any, shapes: Any = SHAPES, dtypes: Any = REAL, finite: bool = False) -> np.ndarray:
    """An array that is contiguous, transposed, reversed or a part of a larger one."""
    dtype = np.dtype(draw(dtypes))
    shape = draw(shapes)
    layout = draw(st.sampled_from(["whole", "transposed", "reversed", "every second"]))
    whole = (
        shape[::-1] if layout == "transposed" else tuple(2 * n for n in shape) if layout == "every second" else shape
    )
    numbers = NUMBERS.filter(np.isfinite) if finite or dtype.kind not in "fc" else NUMBERS
    if dtype.kind in "bu":
        numbers = numbers.map(abs)
    if dtype.kind == "c":
        numbers = st.builds(complex, numbers, numbers)
    x = draw(hnp.arrays(dtype, whole, elements=numbers.map(dtype.type), fill=st.nothing()))
    if layout == "transposed":
        return x.T
    if layout == "every second":
        return x[(slice(1, None, 2),) * x.ndim]
    return x[(slice(None, None, -1),) * x.ndim] if layout == "reversed" else x


def axes(x: np.ndarray) -> st.SearchStrategy[int]:
    return st.integers(-x.ndim, x.ndim - 1)


def same(found: Any, expected: Any, **tolerance: float) -> None:
    """Equal in values (NaNs too), dtype and shape; within a tolerance, if one is given."""
    expected = np.asarray(expected)
    assert isinstance(found, gb.Tensor)
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    if tolerance:
        np.testing.assert_allclose(found.numpy(), expected, strict=True, **tolerance)
    else:
        np.testing.assert_array_equal(found.numpy(), expected, strict=True)
