"""Arrays handed in from outside, of every make: the right result, or one clear error; never a wrong result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import devices


def values(shape: tuple[int, ...] = (6, 8), dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(1).uniform(0.5, 2.0, shape).astype(dtype)


def unaligned(x: np.ndarray) -> np.ndarray:
    """The same values one byte off."""
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def field(x: np.ndarray) -> np.ndarray:
    """One field of a structured array: strides that are no whole number of elements."""
    records = np.zeros(x.shape, [("tag", "i1"), ("x", x.dtype)])
    records["x"] = x
    return records["x"]


MAKES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C order": lambda x: x,
    "Fortran order": np.asfortranarray,
    "transposed": lambda x: x.T,
    "every other": lambda x: x[::2, ::3],
    "one column": lambda x: x[:, 3],
    "negative strides": lambda x: x[::-1, ::-2],
    "zero strides": lambda x: np.broadcast_to(x[:1], (5, x.shape[1])),
    "overlapping windows": lambda x: np.lib.stride_tricks.sliding_window_view(x[0], 3),
    "wrong byte order": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "wrong byte order, transposed": lambda x: x.astype(x.dtype.newbyteorder(">")).T,
    "unaligned": unaligned,
    "read-only": read_only,
    "a field of records": field,
    "no elements": lambda x: x[:0],
    "no dimensions": lambda x: x[1, 2],
    "12 dimensions": lambda x: x.reshape(2, 3, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1),
    "12 dimensions, permuted": lambda x: x.reshape(2, 3, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1).transpose(range(11, -1, -1)),
    "a matrix": lambda x: np.asmatrix(x),
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "bool"])
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_any_make_gives_the_right_values(device, make, dtype):
    foreign = MAKES[make](values(dtype=dtype))
    before, plain = foreign.copy(), np.array(foreign.tolist(), foreign.dtype.newbyteorder("=")).reshape(foreign.shape)
    for read in (gb.tensor, gb.asarray):
        t = read(foreign)
        assert t.dtype == plain.dtype
        assert t.dtype.isnative
        np.testing.assert_array_equal(t.numpy(), plain)
        np.testing.assert_array_equal((t + t).numpy(), plain + plain)  # elementwise
        np.testing.assert_array_equal(gb.where(t > 1, t, 0 * t).numpy(), np.where(plain > 1, plain, 0 * plain))
        wide = np.asarray(plain, np.float64)
        if plain.ndim:
            np.testing.assert_allclose(t.astype("float64").sum(axis=0).numpy(), wide.sum(axis=0), rtol=1e-12)
            np.testing.assert_array_equal(t[::-1].numpy(), plain[::-1])
        if plain.ndim == 2:
            product = t.astype("float64") @ t.astype("float64").T
            np.testing.assert_allclose(product.numpy(), wide @ wide.T, rtol=1e-12)
    np.testing.assert_array_equal(foreign, before)


@pytest.mark.parametrize("make", [name for name in MAKES if name not in ("no elements", "no dimensions")])
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_any_make_gives_the_right_gradient(device, make):
    """d/dx sum(x^2 + softmax(x)) = 2x: the sum of a softmax is constant."""
    foreign = MAKES[make](values(dtype="f8"))
    x = gb.tensor(foreign, requires_grad=True)
    (x * x + gb.nn.functional.softmax(x, dim=-1)).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.array(foreign), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_tensor_is_a_copy(device, make):
    """Writes to one of them do not reach the other."""
    source = values()
    foreign = MAKES[make](source)
    expected = np.array(foreign)
    t = gb.tensor(foreign)
    source.flags.writeable = True
    source += 1
    np.testing.assert_array_equal(t.numpy(), expected)
    kept = np.array(foreign)
    t += 5
    np.testing.assert_array_equal(foreign, kept)
    np.testing.assert_array_equal(t.numpy(), expected + 5)


def test_read_only_memory_is_not_written(device):
    foreign = read_only(values())
    before = foreign.copy()
    t = gb.asarray(foreign)
    if device == "cuda":  # where it is a copy
        t += 1
        np.testing.assert_array_equal(foreign, before)
        np.testing.assert_array_equal(t.numpy(), before + 1)
        return
    with pytest.raises(gb.ShapeError, match=r"in-place add: .*read-only.*t\.copy\(\)"):
        t += 1
    with pytest.raises(gb.ShapeError, match=r"item assignment: .*read-only"):
        t[0] = 1
    with pytest.raises(gb.ShapeError, match=r"copy_: .*read-only"):
        t.copy_(t * 2)
    np.testing.assert_array_equal(foreign, before)


REFUSED = {
    "object": (np.array([1.0, None], object), r"data of dtype object cannot be a Tensor; give numbers or bools"),
    "numbers as objects": (np.array([1.0, 2.0], object), r"data of dtype object cannot be a Tensor"),
    "text": (np.array(["1", "2"]), r"data of dtype <U1 cannot be a Tensor"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), r"data of dtype datetime64\[D\] cannot be a Tensor"),
    "durations": (np.array([1], "m8[s]"), r"data of dtype timedelta64\[s\] cannot be a Tensor"),
    "records": (np.zeros(2, [("a", "f4")]), r"cannot be a Tensor"),
    "long complex": (np.array([1j], np.clongdouble), r"complex256 is not supported"),
    "long double": (np.zeros(2, np.longdouble), r"longdouble|float128.* is not supported"),
    "ragged lists": ([[1.0, 2.0], [3.0]], r"ragged.*make all rows equally long"),
    "masked": (np.ma.array([1.0, 2.0], mask=[False, True]), r"masked .*filled"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_a_tensor_is_named(device, what):
    data, told = REFUSED[what]
    for read in (gb.tensor, gb.asarray, lambda data: gb.ones(2) + data):
        with pytest.raises(gb.GpuBackpropError, match=told):
            read(data)


# writes to memory that is read in the same call ----------------------------------------------------------------------

OVERLAPS: dict[str, tuple[Callable, Callable]] = {  # where it goes, what is read
    "one further": (lambda a: a[1:], lambda a: a[:-1]),
    "one back": (lambda a: a[:-1], lambda a: a[1:]),
    "reversed": (lambda a: a[:], lambda a: a[::-1]),
    "transposed": (lambda a: a[:40, :40], lambda a: a[:40, :40].T),
    "a row everywhere": (lambda a: a[:], lambda a: a[1]),
    "a column everywhere": (lambda a: a[:], lambda a: a[:, 1:2]),
    "itself": (lambda a: a[:], lambda a: a[:]),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_assignment_reads_before_it_writes(device, overlap):
    target, source = OVERLAPS[overlap]
    host = values((50, 40))
    for write in ("[...]", "copy_", "+="):
        expected, t = host.copy(), gb.tensor(host)
        view, other = target(t), source(t)
        if write == "[...]":
            target(expected)[...] = source(host)
            view[...] = other
        elif write == "copy_":
            target(expected)[...] = source(host)
            view.copy_(other)
        else:
            target(expected)[...] += source(host)
            view += other
        np.testing.assert_array_equal(t.numpy(), expected, err_msg=write)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_results_given_a_place_among_the_operands(device, overlap):
    """What updates and captured programs call: primitive(..., out=)."""
    target, source = OVERLAPS[overlap]
    backend = devices.device(device).backend
    host = values((50, 40))
    expected, memory = host.copy(), backend.from_host(host)
    target(expected)[...] = source(host) * target(host)
    out = target(memory)
    assert backend.functions["multiply"](source(memory), out, out=out) is out
    np.testing.assert_array_equal(backend.to_host(memory), expected)


def test_a_foreign_place_for_a_result_is_refused(device):
    with pytest.raises(gb.DTypeError, match="add"):
        np.add(gb.ones(3), gb.ones(3), out=np.zeros(3, np.float32))
