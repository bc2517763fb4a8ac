"""Creation, and memory that is shared or copied."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb


def test_creation_functions(device: str) -> None:
    for found, expected in (
        (gb.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (gb.zeros(2, dtype="int8"), np.zeros(2, np.int8)),
        (gb.ones(()), np.ones((), np.float32)),
        (gb.full((2,), 7), np.full(2, 7)),
        (gb.full((2,), 0.5), np.full(2, 0.5, np.float32)),
        (gb.full((2,), True), np.full(2, True)),
        (gb.full((2,), np.float64(3)), np.full(2, 3.0)),
        (gb.arange(5), np.arange(5)),
        (gb.arange(1, 10, 3), np.arange(1, 10, 3)),
        (gb.arange(0.0, 1.0, 0.25), np.arange(0.0, 1.0, 0.25, np.float32)),
        (gb.arange(5, 0, -2), np.arange(5, 0, -2)),
        (gb.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
        (gb.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, endpoint=False, dtype=np.float32)),
        (gb.eye(3), np.eye(3, dtype=np.float32)),
        (gb.eye(2, 3, k=1), np.eye(2, 3, 1, dtype=np.float32)),
        (gb.zeros_like(gb.ones((2, 2), dtype="int32")), np.zeros((2, 2), np.int32)),
        (gb.ones_like(gb.ones(2), dtype="float64"), np.ones(2)),
        (gb.full_like(gb.ones(2), 3), np.full(2, 3, np.float32)),
    ):
        assert found.device == device
        np.testing.assert_array_equal(found.numpy(), expected, strict=True)
    assert gb.empty((3, 2)).shape == gb.empty_like(gb.ones((3, 2))).shape == (3, 2)


def test_tensor_copies_and_asarray_shares() -> None:
    source = np.ones(3)
    copied, shared = gb.tensor(source), gb.asarray(source)
    source[0] = 5
    assert copied.tolist() == [1, 1, 1]
    assert shared.tolist() == [5, 1, 1]
    assert gb.asarray(source, copy=True).array is not source
    t = gb.ones(2)
    assert gb.asarray(t) is t
    again = gb.tensor(t)
    again += 1
    assert t.tolist() == [1, 1]
    assert np.shares_memory(t.numpy(), t.array)


def test_a_copy_of_a_strided_view() -> None:
    source = np.arange(12.0).reshape(3, 4)
    assert gb.tensor(source.T[::2]).tolist() == source.T[::2].tolist()
    assert gb.tensor(source[::-1]).tolist() == source[::-1].tolist()


def test_nested_lists_of_tensors() -> None:
    x = gb.tensor([gb.tensor(1.0), gb.tensor(2.0)])
    assert x.tolist() == [1, 2]
    assert gb.tensor([[gb.tensor(1.0), 2.0], [3.0, 4.0]]).shape == (2, 2)
    assert gb.tensor([gb.ones(2), gb.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert gb.tensor([]).shape == (0,)
    assert gb.tensor([[], []]).shape == (2, 0)


def test_astype_and_copy() -> None:
    x = gb.tensor([1.7, -2.3])
    assert gb.astype(x, "int32").tolist() == [1, -2]
    assert x.astype("float32", copy=False) is x
    assert x.astype("float32") is not x
    assert x.to("float64").dtype == gb.float64
    y = x.copy()
    y += 1
    assert x.tolist() == pytest.approx([1.7, -2.3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gb.arange(0, 5, 0), gb.DataError, "step=0 never reaches the end"),
        (lambda: gb.linspace(0, 1, -1), gb.DataError, "num=-1 is negative"),
        (lambda: gb.linspace(0, float("inf"), 3), gb.DataError, "must be finite"),
        (lambda: gb.arange("a"), gb.DTypeError, "arange: start=0, stop='a', step=1 must be numbers"),
        (lambda: gb.linspace("a", 1, 3), gb.DTypeError, "start='a' and stop=1 must be numbers"),
        (lambda: gb.full((2,), 300, dtype="int8"), gb.DataError, "full: 300 does not fit into int8; use a wider dtype"),
        (lambda: gb.full((2,), 2**70), gb.DataError, "does not fit into int64"),
        (lambda: gb.eye(-1), gb.ShapeError, "negative length"),
        (lambda: gb.tensor(2**70), gb.GpuBackpropError, "tensor"),
        (lambda: gb.arange(float("inf")), gb.DataError, "stop=inf, step=1 must be finite"),
        (lambda: gb.linspace(0, 1, 3.5), gb.DTypeError, "linspace: num 3.5 is not made of integers"),
        (lambda: gb.full((2,), [1, 2, 3]), gb.DTypeError, r"full: \[1, 2, 3\] is not one number"),
        (lambda: gb.full_like(gb.ones(2), None), gb.DTypeError, "None is not one number; use gb.empty_like"),
        (lambda: gb.full((2,), "a"), gb.DTypeError, "cannot be a Tensor; give numbers"),
    ],
)
def test_bad_creation(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_constants() -> None:
    assert (gb.e, gb.pi, gb.inf) == (np.e, np.pi, np.inf)
    assert np.isnan(gb.nan)
    assert gb.newaxis is None


def test_every_function_has_a_docstring() -> None:
    for name in dir(gb):
        value = getattr(gb, name)
        if callable(value) and getattr(value, "__module__", "").startswith("gpu_backprop"):
            assert value.__doc__, name


def test_limits_may_be_tensors_of_no_axes() -> None:
    assert gb.linspace(gb.asarray(0.0), gb.asarray(1.0), 3).tolist() == [0, 0.5, 1]
    assert gb.arange(gb.asarray(3)).tolist() == [0, 1, 2]
    for make in (gb.arange, lambda t: gb.linspace(0, t, 3)):
        with pytest.raises(gb.TapeError, match=r"would lose its gradient.*t\.detach\(\)"):
            make(gb.tensor(3.0, requires_grad=True))
        with pytest.raises(gb.DTypeError, match="must be numbers"):
            make(gb.ones(2))
