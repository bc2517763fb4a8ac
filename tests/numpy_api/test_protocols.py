"""What happens when NumPy is handed a Tensor: its functions are ours and keep the gradient; what cannot be says so."""

from __future__ import annotations

import types

import numpy as np
import pytest

import gpu_backprop as gb


def test_ufuncs_stay_on_the_tape(device) -> None:
    values = np.array([0.3, 0.7])
    x = gb.tensor(values, requires_grad=True)
    (np.sin(x) * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(values) * values + np.sin(values))


def test_functions_stay_on_the_tape(device) -> None:
    values = np.array([0.3, 0.7])
    x = gb.tensor(values, requires_grad=True)
    np.linalg.norm(np.concatenate([x, np.cumsum(x)])).backward()
    a, b = values
    n = np.sqrt(a * a + b * b + a * a + (a + b) ** 2)
    np.testing.assert_allclose(x.grad.numpy(), [(2 * a + a + b) / n, (b + a + b) / n])
    assert np.mean(x).device == device


@pytest.mark.parametrize("name", ["arcsin", "absolute", "power", "arctan2", "maximum", "matmul", "rint", "exp", "cbrt"])
def test_ufuncs_by_numpys_names(name) -> None:
    function = getattr(np, name)
    arguments = [np.array([0.2, 0.9]), np.array([0.5, 0.4])][: function.nin]
    ours = function(*(gb.tensor(a) for a in arguments))
    assert isinstance(ours, gb.Tensor)
    np.testing.assert_allclose(ours.numpy(), function(*arguments), rtol=1e-12)


MATRIX = np.array([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.add.reduce(t),
        lambda t: np.add.reduce(t, axis=1, keepdims=True),
        lambda t: np.multiply.reduce(t, axis=None),
        lambda t: np.maximum.reduce(t),
        lambda t: np.minimum.reduce(t, 1),
        lambda t: np.logical_and.reduce(t > 0),
        lambda t: np.logical_or.reduce(t > 0, axis=1),
        lambda t: np.add.accumulate(t),
        lambda t: np.multiply.accumulate(t, axis=1),
        lambda t: np.subtract.outer(t, t[0]),
        lambda t: np.add(t, t, dtype=np.float32),
        lambda t: np.sum(a=t, axis=0),
        lambda t: np.sum(t, 1, where=MATRIX > 0, initial=0.5),
        lambda t: np.add.reduce(t, axis=1, where=t > 0),
        lambda t: np.maximum.reduce(t, initial=0.0, where=MATRIX < 1),
        lambda t: np.logical_or.reduce(t > 0, where=MATRIX < 1),
        lambda t: np.mean(t, dtype=np.float32, out=None),
        lambda t: np.clip(t, a_min=0, a_max=1),
        lambda t: np.max(t, 1),
        lambda t: np.repeat(t, repeats=2, axis=1),
        lambda t: np.round(t, decimals=1),
        lambda t: np.zeros_like(t),
        lambda t: np.linalg.svd(t, compute_uv=True, full_matrices=False)[1],
        lambda t: np.fft.fft(t, 4, 0),
        lambda t: np.fft.fft(t, norm=None),
    ],
)
def test_options(call) -> None:
    found, expected = call(gb.tensor(MATRIX)), call(MATRIX)
    assert isinstance(found, gb.Tensor)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-12, strict=True)


def test_arrays_and_scalars_on_either_side() -> None:
    t = gb.tensor([1.0, 2.0], requires_grad=True)
    for other in (np.array([3.0, 4.0], np.float32), np.float32(3), np.float32(3)[...], [3.0, 4.0]):
        for out in (other * t, t * other, other - t, t**other):
            assert isinstance(out, gb.Tensor)
            assert out.requires_grad
            assert out.dtype == gb.float32
    for other in (np.array([3.0, 4.0]), np.float64(3)):  # wider, as in NumPy 2
        out = other / t
        assert out.dtype == (np.float64(3) / np.ones(2, np.float32)).dtype == gb.float64
        assert gb.grad(lambda t: (other / t).sum())(t).dtype == gb.float32  # noqa: B023
    np.testing.assert_allclose((np.eye(2) @ gb.tensor([[1.0], [2.0]])).numpy(), [[1], [2]])
    assert (np.array([1.0, 5.0]) == t).tolist() == [True, False]
    assert (np.float32(2) > t).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: np.spacing(t), r"numpy.spacing: not available for a Tensor; use gpu_backprop's functions"),
        (lambda t: np.subtract.reduce(t), r"numpy.subtract.reduce: not available"),
        (lambda t: np.add.at(t, [0], 1), r"numpy.add.at: not available"),
        (lambda t: np.add.reduceat(t, [0]), r"numpy.add.reduceat: not available"),
        (lambda t: np.add(np.ones(2), t, out=np.empty(2)), r"numpy.add: out= .*write a = a \+ t"),
        (lambda t: np.ones(2).__iadd__(t), r"numpy.add: out= .*write a = a \+ t"),
        (lambda t: np.add(t, t, where=np.array([True, False])), r"numpy.add: .*'where'.*use gpu_backprop's functions"),
        (lambda t: np.logical_or.reduce(t, initial=3), r"numpy.logical_or.reduce: .*'initial'.*t.detach\(\).numpy\(\)"),
        (lambda t: np.mean(t, out=np.empty(())), r"numpy.mean: out= would write"),
        (lambda t: np.i0(t), r"numpy.i0: not available for a Tensor; use gpu_backprop's"),
        (lambda t: np.linalg.tensorinv(t), r"numpy.linalg.tensorinv: not available"),
        (lambda t: np.save("nowhere.npy", t), r"numpy.save: not available"),
        (lambda t: np.copyto(t, 1), r"numpy.copyto: not available for a Tensor; use .*t\.detach\(\)\.numpy\(\)"),
        (lambda t: np.frompyfunc(abs, 1, 1)(t), r"this ufunc is not NumPy's and does not take Tensors"),
    ],
)
def test_what_would_lose_the_gradient_is_refused(call, words) -> None:
    with pytest.raises(gb.DTypeError, match=words):
        call(gb.ones(2))


def test_errors_of_ours_stay_what_they_are() -> None:
    with pytest.raises(gb.ShapeError, match="concat"):
        np.concatenate([gb.ones((2, 3)), gb.ones((2, 2))])
    with pytest.raises(gb.ShapeError, match="axis 5"):
        np.sum(gb.ones(2), axis=5)


def test_questions_about_memory() -> None:
    """Which numpy.random asks of what it permutes."""
    t = gb.ones(3)
    assert np.may_share_memory(t, t[:2])
    assert np.shares_memory(t.numpy(), t)
    assert not np.shares_memory(t[:1], t[1:])
    assert sorted(np.random.default_rng(0).permutation(gb.arange(3))) == [0, 1, 2]
    assert sorted(np.random.permutation(gb.arange(3))) == [0, 1, 2]  # noqa: NPY002
    with pytest.raises(gb.TapeError, match="this Tensor requires grad, which its values"):
        np.random.permutation(t.requires_grad_())  # noqa: NPY002


def test_other_arrays_have_their_turn() -> None:
    class Other:
        def __array_function__(self, function, types, args, kwargs):
            return "theirs"

    assert np.concatenate([gb.ones(2), Other()]) == "theirs"


def test_no_copy_from_a_gpu_in_passing(monkeypatch) -> None:
    t = gb.ones(2)
    monkeypatch.setattr(type(t.device), "name", "cuda", raising=False)
    with pytest.raises(gb.DTypeError, match=r"call t.numpy\(\) .* GPU_BACKPROP_DEVICE=cpu"):
        np.asarray(t)


def test_values_that_would_leave_the_tape_unseen() -> None:
    """As when SciPy makes NumPy arrays of its arguments: part of a gradient would be missing, and nobody would know."""
    t = gb.ones(2, dtype="float64")
    t.requires_grad_()
    for call in (np.asarray, np.array, lambda t: np.asarray(t * 2)):
        with pytest.raises(gb.TapeError, match=r"requires grad, .* call t.detach\(\).numpy\(\)"):
            call(t)
    assert np.asarray(t.detach()).tolist() == [1, 1]
    assert np.shares_memory(np.asarray(t.detach()), t.numpy())
    with gb.no_grad():
        assert np.asarray(t).tolist() == [1, 1]
        assert not np.asarray(t).flags.writeable


def test_names_mean_what_they_mean_in_numpy() -> None:
    """Names that NumPy and we both have, beyond the standard and numpy_api: none is handed over by chance."""
    both = {n for n in dir(gb) if callable(getattr(gb, n)) and callable(getattr(np, n, None))}
    rooms = (*vars(gb.array_api).values(), *vars(gb.numpy_api).values())  # all of them, now that all names were read
    modules = [m for m in rooms if isinstance(m, types.ModuleType)]
    both -= {name for m in modules for name in getattr(m, "__all__", ())}
    both = {n for n in both if getattr(gb, n) is not getattr(np, n)}
    assert both == {"load", "save", "ndarray"}  # np.load takes no arrays; protocols.py leaves out np.save
