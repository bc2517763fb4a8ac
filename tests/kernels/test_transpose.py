"""Transposed copies, bit for bit what NumPy copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import layouts, table

from .conftest import DTYPES, compile_first, draw, instantiations, on

VIEWS: dict[str, tuple[tuple[int, ...], Any]] = {
    "one tile": ((32, 32), lambda x: x.T),
    "tiles": ((33, 1000), lambda x: x.T),
    "a narrow side": ((31, 8), lambda x: x.T),
    "batches": ((3, 40, 33), lambda x: x.transpose(0, 2, 1)),
    "batches between": ((40, 3, 33), lambda x: x.T),
    "batches outside": ((40, 3, 33), lambda x: x.transpose(1, 2, 0)),
    "merged axes": ((40, 5, 7), lambda x: x.transpose(1, 2, 0)),
    "pitched": ((40, 50), lambda x: x[:, 3:36].T),
    "unaligned": ((40 * 33 + 1,), lambda x: x[1:].reshape(40, 33).T),
    "reversed": ((40, 33), lambda x: x[::-1].T),
}


@pytest.fixture(scope="module", autouse=True)
def compiled(backend):
    compile_first(backend, instantiations("transpose.cu"))


def words(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def copied(backend: Any, x: np.ndarray, view: Any) -> np.ndarray:
    """The copy, made into a part of a larger array whose rest must stay."""
    seen = view(x)
    whole = np.full((*seen.shape[:-1], seen.shape[-1] + 2), 7, x.dtype)
    target = on(backend, whole)
    out = target[..., 1:-1]
    assert backend.functions["copy"](on(backend, x, view), out=out) is out
    result = backend.to_host(target)
    assert (result[..., [0, -1]] == 7).all()
    return result[..., 1:-1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", VIEWS)
def test_views(backend, case, dtype):
    shape, view = VIEWS[case]
    x = draw(shape, table.dtype_of(dtype))
    x.reshape(-1)[:4] = np.nan, -0.0, np.inf, 1e-40
    x.reshape(-1).view(f"u{x.itemsize}")[0] |= 1  # a NaN with a payload
    np.testing.assert_array_equal(words(copied(backend, x, view)), words(view(x)))


@pytest.mark.parametrize("case", VIEWS)
def test_tiles_are_used(remake, case):
    files: list[str] = []
    recording = remake(launch=lambda kernel, *_: files.append(kernel.file))
    shape, view = VIEWS[case]
    x = on(recording, draw(shape, np.float32), view)
    recording.functions["copy"](x, out=recording.empty(x.shape, x.dtype))
    assert files == ["transpose.cu"]


def test_what_is_no_transposition(backend):
    for shape, view in (((7, 40), lambda x: x.T), ((40, 33), lambda x: x[:, ::2].T), ((0, 9), lambda x: x.T)):
        x = draw(shape, np.float32)
        np.testing.assert_array_equal(copied(backend, x, view), view(x))
    four = draw((3, 9, 4, 10), np.float32)
    np.testing.assert_array_equal(copied(backend, four, lambda x: x.T), four.T)


def test_into_its_own_memory(backend):
    x = draw((33, 33), np.float32)
    there = on(backend, x)
    backend.functions["copy"](there.T, out=there)
    np.testing.assert_array_equal(backend.to_host(there), x.T)


def test_grid_limit_index_type_and_order(remake, other_orders, monkeypatch):
    x = draw((3, 70, 40), np.float32)

    def view(a: Any) -> Any:
        return a.transpose(0, 2, 1)

    for settings in ({"max_grid": 1}, *({"order": order, "seed": 5, "max_grid": 2} for order in other_orders)):
        np.testing.assert_array_equal(copied(remake(**settings), x, view), view(x))
    monkeypatch.setattr(layouts, "INT_LIMIT", 0)
    np.testing.assert_array_equal(copied(remake(), x, view), view(x))
