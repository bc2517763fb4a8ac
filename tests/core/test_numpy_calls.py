"""What happens when NumPy is handed a Tensor: its ufuncs are ours and keep the gradient, the rest says so."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb


def test_ufuncs_stay_on_the_tape(device) -> None:
    values = np.array([0.3, 0.7])
    x = gb.tensor(values, requires_grad=True)
    (np.sin(x) * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(values) * values + np.sin(values))


@pytest.mark.parametrize("name", ["arcsin", "absolute", "power", "arctan2", "maximum", "matmul", "rint", "exp"])
def test_ufuncs_by_numpys_names(name) -> None:
    function = getattr(np, name)
    arguments = [np.array([0.2, 0.9]), np.array([0.5, 0.4])][: function.nin]
    ours = function(*(gb.tensor(a) for a in arguments))
    assert isinstance(ours, gb.Tensor)
    np.testing.assert_allclose(ours.numpy(), function(*arguments), rtol=1e-12)


def test_arrays_and_scalars_on_the_left() -> None:
    t = gb.tensor([1.0, 2.0], requires_grad=True)
    for left in (np.array([3.0, 4.0], np.float32), np.float32(3), np.float32(3)[...]):
        out = left * t
        assert isinstance(out, gb.Tensor)
        assert out.requires_grad
        assert out.dtype == gb.float32
    np.testing.assert_allclose((np.eye(2) @ gb.tensor([[1.0], [2.0]])).numpy(), [[1], [2]])


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.stack([t, t]),
        lambda t: np.concatenate([t, t]),
        lambda t: np.mean(t),
        lambda t: np.add.reduce(t),
        lambda t: np.spacing(t),
        lambda t: np.add(np.ones(2), t, out=np.empty(2)),
    ],
)
def test_what_would_lose_the_gradient_is_refused(call) -> None:
    with pytest.raises(gb.DTypeError, match=r"numpy\.\w+: .*gpu_backprop's function"):
        call(gb.ones(2))
