"""The methods of NumPy's arrays on Tensors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import gpu_backprop as gb

VALUES = np.array([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum(0),
        lambda x: x.mean(axis=1, keepdims=True),
        lambda x: x.mean(0, dtype=np.float32),
        lambda x: x.var(dtype=np.float64),
        lambda x: x.std(axis=1, dtype=np.float64, ddof=1),
        lambda x: x.prod(),
        lambda x: x.max(1),
        lambda x: x.min(axis=0),
        lambda x: x.std(axis=0, ddof=1),
        lambda x: x.var(0),
        lambda x: x.sum(0, where=[[True, False, True]], initial=2.0),
        lambda x: x.max(axis=1, initial=0.25, where=x < 1),
        lambda x: x.std(axis=1, where=x != 0.5),
        lambda x: (x > 1).all(where=x > 1),
        lambda x: x.argmax(1),
        lambda x: x.argmin(),
        lambda x: x.argsort(axis=0),
        lambda x: x.reshape(3, 2),
        lambda x: x.reshape((-1,), order="F"),
        lambda x: x.ravel(),
        lambda x: x.ravel("F"),
        lambda x: x.flatten(order="F"),
        lambda x: x.astype(np.float32),
        lambda x: x.dot(x.T),
        lambda x: x.dot(x[0]),
        lambda x: x.transpose(1, 0),
        lambda x: x[None].squeeze(),
        lambda x: x.clip(0, 1),
        lambda x: x.clip(max=1),
        lambda x: x.round(1),
        lambda x: x.cumsum(),
        lambda x: x.cumsum(axis=1),
        lambda x: x.cumprod(0),
        lambda x: x.repeat(2, axis=1),
        lambda x: x.repeat([1, 2], 0),
        lambda x: x.take([0, 5]),
        lambda x: x.take([0, 1], axis=1),
        lambda x: x.swapaxes(0, 1),
        lambda x: x.diagonal(),
        lambda x: x.diagonal(offset=1),
        lambda x: x.trace(),
        lambda x: x.copy(),
        lambda x: x.conj(),
        lambda x: x.conjugate(),
        lambda x: x.real,
        lambda x: (x + 1j * x).imag,
        lambda x: (x > 0).any(axis=0),
        lambda x: (x > -5).all(),
        lambda x: x.nonzero()[1],
        lambda x: x[1, ::-1].searchsorted(x[0]),
        lambda x: divmod(x, 0.75)[1],
        lambda x: divmod(2.0, x)[0],
        lambda x: x.T,
    ],
)  # fmt: skip
def test_methods(call, device) -> None:
    found, expected = call(gb.tensor(VALUES)), call(VALUES)
    assert isinstance(found, gb.Tensor)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, strict=True)


def test_values_and_numbers() -> None:
    t = gb.tensor(VALUES)
    assert t.tolist() == VALUES.tolist()
    for index in ((4,), (-1,), (1, 0), ((0, -2),)):
        assert t.item(*index) == VALUES.item(*index)
    for index, error in (((6,), IndexError), ((0, 3), IndexError), ((0.5,), gb.DTypeError), (((0,),), gb.ShapeError)):
        with pytest.raises(error):
            t.item(*index)
    with pytest.raises(gb.DTypeError, match="mean: dtype int64 is neither float nor complex"):
        t.mean(dtype=int)
    assert (t.itemsize, t.nbytes, t.strides) == (8, 48, (24, 8))
    assert 0.25 in t
    assert 7 not in t
    assert t.sum().item() == VALUES.sum()


def test_sort_and_fill_write_in_place(device) -> None:
    t, x = gb.tensor(VALUES), VALUES.copy()
    assert t.sort() is None
    x.sort()
    np.testing.assert_array_equal(t.numpy(), x)
    t.sort(axis=0)
    x.sort(axis=0)
    np.testing.assert_array_equal(t.numpy(), x)
    assert t.fill(3) is None
    assert t.tolist() == [[3.0] * 3] * 2
    leaf = gb.tensor(VALUES, requires_grad=True)
    with pytest.raises(gb.TapeError, match=r"sort: .* use gb.sort\(t\), or write inside"):
        leaf.sort()
    with pytest.raises(gb.TapeError, match=r"fill: .* gb.full_like"):
        leaf.fill(0)
    with gb.no_grad():
        leaf.sort()
    assert leaf.tolist() == np.sort(VALUES).tolist()


@pytest.mark.parametrize("name", ["view", "flat", "resize", "data", "tobytes", "flags", "partition", "choose", "put"])
def test_what_a_tensor_has_not_says_what_to_use(name) -> None:
    t = gb.ones(2)
    assert not hasattr(t, name)
    with pytest.raises(AttributeError, match=rf"{name}: a Tensor is no NumPy array: .*(use|handed out)") as found:
        getattr(t, name)
    assert isinstance(found.value, gb.GpuBackpropError)


def test_an_unknown_name_is_python_s_own_error() -> None:
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'summ'"):
        gb.ones(2).summ  # noqa: B018


# lists with Tensors --------------------------------------------------------------------------------------------------


def test_lists_with_tensors_stay_on_the_tape(device) -> None:
    x = gb.tensor([2.0, 3.0], requires_grad=True)
    for make in (gb.array, gb.asarray):

        def f(x: gb.Tensor, make=make) -> gb.Tensor:
            return make([[0.0, x[0]], [x[1] * x[0], 1]])

        assert f(x).tolist() == [[0, 2], [6, 1]]
        assert f(x).dtype == gb.float32
        assert gb.grad(lambda x, f=f: (f(x) * gb.asarray([[1, 2], [3, 4]])).sum())(x).tolist() == [11, 6]
    assert not gb.tensor([x[0], x[1]]).requires_grad  # a leaf of its own
    assert gb.array(x).requires_grad
    assert gb.asarray(x, copy=True).requires_grad
    with gb.no_grad():
        assert not gb.array([x[0], 1.0]).requires_grad
    with pytest.raises(gb.ShapeError, match=r"parts of shapes \[\[2\], \[\]\]; make all rows equally long"):
        gb.array([x, x[0]])


# pickle, copies and text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "complex64"])
def test_pickle_and_copies(dtype: str, device: str) -> None:
    t = gb.tensor([[1, 0], [3, 4]], dtype=dtype)[:, ::-1]
    for again in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t), copy.copy(t)):
        assert type(again) is gb.Tensor
        assert again.dtype == t.dtype
        assert again.device is t.device
        assert again.tolist() == t.tolist()
        assert not again.requires_grad


def test_a_leaf_keeps_what_it_is_and_its_gradient() -> None:
    t = gb.tensor([1.0, 2.0], requires_grad=True)
    (t * t).sum().backward()
    for again in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert again.requires_grad
        assert again.is_leaf
        assert again.grad.tolist() == [2.0, 4.0]
        again.grad.fill(0)
        with gb.no_grad():
            again.fill(0)
    assert t.tolist() == [1.0, 2.0]
    assert t.grad.tolist() == [2.0, 4.0]
    both = copy.deepcopy({"a": t, "b": [t]})
    assert both["a"] is both["b"][0]


def test_what_was_computed_has_no_copy_off_the_tape() -> None:
    out = gb.tensor([1.0], requires_grad=True) * 2
    for call in (pickle.dumps, copy.deepcopy):
        with pytest.raises(gb.TapeError, match=r"multiply.*use t.detach\(\)"):
            call(out)
    assert pickle.loads(pickle.dumps(out.detach())).tolist() == [2.0]


def test_text() -> None:
    t = gb.tensor([[1.0, 2.5], [3.0, -4.0]], requires_grad=True)
    assert repr(t) == "tensor([[ 1. ,  2.5],\n        [ 3. , -4. ]], requires_grad=True)"
    assert str(t) == str(np.array([[1.0, 2.5], [3.0, -4.0]], np.float32))
    assert f"{t[0]}" == "[1.  2.5]"
    assert repr(t * 2.0) == "tensor([[ 2.,  5.],\n        [ 6., -8.]], from=multiply)"
    assert repr(gb.asarray(np.arange(3.0))) == "tensor([0., 1., 2.], dtype=float64)"
    assert repr(gb.tensor([1, 2], dtype="int8")) == "tensor([1, 2], dtype=int8)"
    assert repr(gb.tensor([True])) == "tensor([ True])"
    assert repr(gb.zeros((0, 2))) == "tensor([], shape=(0, 2))"
    assert repr(gb.zeros(5000)) == "tensor([0., 0., 0., ..., 0., 0., 0.], shape=(5000,))"
    assert str(gb.tensor(2.5)) == "2.5"
    assert f"{gb.tensor(2.5):.2f}" == "2.50"
    with np.printoptions(precision=2):
        assert repr(gb.tensor([1.23456])) == "tensor([1.23])"


@pytest.mark.emulated
def test_text_names_the_device() -> None:
    assert repr(gb.tensor([1.0], device="emulated")) == "tensor([1.], device='emulated')"


def test_round_and_format_are_those_of_numbers() -> None:
    total = gb.sum(gb.tensor([1.234, 2.345], dtype="float64"))
    assert round(total, 2).item() == round(np.float64(3.579), 2) == 3.58
    assert isinstance(round(total, 2), gb.Tensor)
    assert (round(total), type(round(total))) == (4, int)
    assert round(gb.tensor([1.26, 2.34]), 1).tolist() == gb.tensor([1.3, 2.3]).tolist()
    assert round(gb.tensor(2.5)) == 2
    with pytest.raises(gb.ShapeError, match="holds 2 values"):
        round(gb.ones(2))
    with pytest.raises(
        gb.DTypeError, match=r"format: '\.2f' is for one number, not for shape \[2\]; use gb\.printoptions"
    ):
        f"{gb.ones(2):.2f}"
    assert f"{gb.ones(2):>9}" == "  [1. 1.]"


@pytest.mark.parametrize("other", [None, "a"])
def test_nothing_is_equal_to_none_or_to_a_string(other, device) -> None:
    t, host = gb.ones((2, 1), device=device), np.ones((2, 1))
    for found, expected in ((t == other, host == other), (t != other, host != other), (other == t, other == host)):
        assert found.device is t.device
        np.testing.assert_array_equal(found.numpy(), expected, strict=True)
