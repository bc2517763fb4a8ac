"""The fft extension against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpu_backprop as gb
from gpu_backprop.array_api import fft

from .test_linalg import numbers, signature

SIGNATURES = """
fft(x, /, n=None, axis=-1, norm='backward')
ifft(x, /, n=None, axis=-1, norm='backward')
fftn(x, /, s=None, axes=None, norm='backward')
ifftn(x, /, s=None, axes=None, norm='backward')
rfft(x, /, n=None, axis=-1, norm='backward')
irfft(x, /, n=None, axis=-1, norm='backward')
rfftn(x, /, s=None, axes=None, norm='backward')
irfftn(x, /, s=None, axes=None, norm='backward')
hfft(x, /, n=None, axis=-1, norm='backward')
ihfft(x, /, n=None, axis=-1, norm='backward')
fftfreq(n, /, d=1.0, dtype=None, device=None)
rfftfreq(n, /, d=1.0, dtype=None, device=None)
fftshift(x, /, axes=None)
ifftshift(x, /, axes=None)
"""
REAL_INPUT = ("rfft", "ihfft", "rfftn")
ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY_AXES = ("fftn", "ifftn", "rfftn", "irfftn")
NORMS = st.sampled_from(["backward", "ortho", "forward"])
SHAPES = hnp.array_shapes(max_dims=3, max_side=6)


def test_names_and_signatures_of_the_standard() -> None:
    assert "\n".join(signature(getattr(gb.fft, name)) for name in fft.__all__) == SIGNATURES.strip()


def compare(name: str, x: np.ndarray, **options: Any) -> None:
    """With NumPy's, in double and in single precision."""
    expected = getattr(np.fft, name)(x, **options)
    scale = np.max(np.abs(expected), initial=1)
    function = getattr(gb.fft, name)
    np.testing.assert_allclose(function(gb.asarray(x), **options).numpy(), expected, atol=1e-14 * scale, strict=True)
    single = x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)
    found = function(gb.asarray(single), **options).numpy()
    assert found.dtype == (np.complex64 if expected.dtype.kind == "c" else np.float32)
    np.testing.assert_allclose(found, expected, atol=2e-6 * scale)


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, norm=NORMS, data=st.data())
@pytest.mark.parametrize("name", ONE_AXIS)
def test_transforms_over_one_axis(name: str, shape: tuple[int, ...], norm: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = data.draw(st.none() | st.integers(1, 9))
    if n is None and name in ("irfft", "hfft") and shape[axis] == 1:
        n = 1  # else a result without elements
    compare(name, numbers(shape, "real" if name in REAL_INPUT else "complex"), n=n, axis=axis, norm=norm)


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, norm=NORMS, data=st.data())
@pytest.mark.parametrize("name", MANY_AXES)
def test_transforms_over_many_axes(name: str, shape: tuple[int, ...], norm: str, data: st.DataObject) -> None:
    ndim = len(shape)
    axes = data.draw(
        st.none() | st.lists(st.integers(-ndim, ndim - 1), min_size=1, unique_by=lambda a: a % ndim).map(tuple)
    )
    s = None
    if axes is not None:
        s = data.draw(st.none() | st.tuples(*[st.integers(1, 7) for _ in axes]))
    last = shape[-1 if axes is None else axes[-1]]
    if s is None and name == "irfftn" and last == 1:
        shape = tuple(2 if i == (-1 if axes is None else axes[-1]) % ndim else n for i, n in enumerate(shape))
    compare(name, numbers(shape, "real" if name in REAL_INPUT else "complex"), s=s, axes=axes, norm=norm)


@pytest.mark.parametrize("name", [*ONE_AXIS, *MANY_AXES])
def test_transforms_on_each_device(name: str, device: str) -> None:
    kind = "real" if name in REAL_INPUT else "complex"
    compare(name, numbers((2, 3, 4), kind), **({"n": 5, "axis": 1} if name in ONE_AXIS else {"axes": (2, 0)}))
    compare(name, numbers((0, 4), kind), **({} if name in ONE_AXIS else {"axes": (1,)}))  # no transforms at all


def test_real_numbers_and_integers_where_complex_ones_are_expected() -> None:
    x = np.arange(4.0)
    np.testing.assert_allclose(gb.fft.fft(gb.asarray(x)).numpy(), np.fft.fft(x), strict=True)
    np.testing.assert_allclose(gb.fft.irfft(gb.asarray(x)).numpy(), np.fft.irfft(x), strict=True, atol=1e-15)
    assert gb.fft.fft(gb.arange(4)).dtype == gb.complex64
    assert gb.fft.rfft(gb.arange(4)).dtype == gb.complex64
    for dtype in ("float16", "bfloat16"):
        assert gb.fft.rfft(gb.ones(4, dtype=dtype)).dtype == gb.complex64
    np.testing.assert_allclose(
        gb.fft.fftn(gb.ones((2, 3)), s=(2, -1), axes=(0, 1)).numpy(), np.fft.fftn(np.ones((2, 3))), atol=1e-6
    )


def test_frequencies(device: str) -> None:
    for n in (*range(1, 8), 100):
        for ours, numpys in ((gb.fft.fftfreq, np.fft.fftfreq), (gb.fft.rfftfreq, np.fft.rfftfreq)):
            found = ours(n, d=0.25)
            assert found.device == gb.default_device()
            np.testing.assert_array_equal(found.numpy(), numpys(n, 0.25).astype(np.float32), strict=True)
            np.testing.assert_array_equal(ours(n, d=0.3, dtype=gb.float64).numpy(), numpys(n, 0.3), strict=True)
    assert gb.fft.fftfreq(3, device="cpu").device.name == "cpu"


@pytest.mark.parametrize("axes", [None, 0, -1, (0, 1), (1,), ()])
def test_shifts(axes: Any, device: str) -> None:
    for shape in ((3, 4), (1, 5), (0, 3), (2, 3, 4)):
        x = numbers(shape)
        for ours, numpys in ((gb.fft.fftshift, np.fft.fftshift), (gb.fft.ifftshift, np.fft.ifftshift)):
            np.testing.assert_array_equal(ours(gb.asarray(x), axes=axes).numpy(), numpys(x, axes=axes), strict=True)


def test_bad_input() -> None:
    x, z = gb.ones((2, 3)), gb.ones((2, 3), dtype="complex64")
    for call, error, message in (
        (lambda: gb.fft.rfft(z), gb.DTypeError, "rfft: complex64 is not real; use gb.fft.fft"),
        (lambda: gb.fft.fft(x, norm="other"), gb.DataError, "fft: norm='other'; use 'backward'"),
        (lambda: gb.fft.hfft(x, norm=2), gb.DataError, "hfft: norm"),
        (lambda: gb.fft.fft(x, n=0), gb.ShapeError, "fft: a transform of 0 elements along axis 1"),
        (lambda: gb.fft.fft(x, n=2.5), gb.DTypeError, "fft: n 2.5 is not made of integers"),
        (lambda: gb.fft.fft(x, axis=2), gb.ShapeError, "fft: axis 2 of an array with 2 axes"),
        (lambda: gb.fft.fft(gb.ones(())), gb.ShapeError, "fft: axis -1"),
        (lambda: gb.fft.irfft(gb.ones(1)), gb.ShapeError, "irfft: a result of 0 elements"),
        (lambda: gb.fft.fftn(x, axes=(0, -2)), gb.ShapeError, "fftn: axis .* names an axis twice"),
        (lambda: gb.fft.fftn(x, s=(2,), axes=(0, 1)), gb.ShapeError, "fftn: s .* not equally many"),
        (lambda: gb.fft.rfftn(x, axes=()), gb.ShapeError, "rfftn: no axis to transform"),
        (lambda: gb.fft.fftfreq(0), gb.DataError, "fftfreq: n=0 samples"),
        (lambda: gb.fft.fftfreq(4, dtype="int32"), gb.DTypeError, "fftfreq: int32 is not a float dtype"),
    ):
        with pytest.raises(error, match=message):
            call()
