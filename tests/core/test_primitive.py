"""The user's own differentiable operations: around NumPy functions, and around a CUDA kernel of the user's."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import tape

X = np.array([0.5, -1.5, 2.0])


softsign = gb.primitive(lambda x: x / (1 + abs(x)), vjp=lambda g, x: g / (1 + gb.abs(x)) ** 2, name="softsign")


def test_one_input(device: str) -> None:
    x = gb.tensor(X, requires_grad=True)
    y = softsign(x)
    np.testing.assert_allclose(y.numpy(), X / (1 + abs(X)))
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 / (1 + abs(X)) ** 2)
    assert "from=softsign" in repr(y)


def test_it_is_checked_and_differentiates_twice() -> None:
    assert gb.gradcheck(softsign, X)
    assert gb.gradcheck(gb.grad(lambda x: softsign(x).sum()), X)


def test_a_wrong_rule_is_found() -> None:
    def cube(x):
        return x**3

    wrong = gb.primitive(cube, vjp=lambda g, x: g * 2 * x**2)
    with pytest.raises(gb.TapeError, match=r"gradcheck: cube at input 0 \[\d\].*central difference"):
        gb.gradcheck(wrong, X)


def test_several_inputs_promote_and_broadcast() -> None:
    def scaled(x, y):
        return np.multiply(x, y)

    f = gb.primitive(scaled, vjp=[lambda g, y: g * y, lambda g, x: g * x])
    a, b = gb.ones((2, 3), dtype="float32").requires_grad_(), gb.tensor(X, requires_grad=True)
    f(a, b).sum().backward()
    assert (a.grad.dtype, a.grad.shape) == (gb.float32, (2, 3))
    assert (b.grad.dtype, b.grad.tolist()) == (gb.float64, [2, 2, 2])
    assert gb.gradcheck(f, (np.ones((2, 3)), X))


def test_an_input_without_a_gradient() -> None:
    def pick(x, i):
        return x[i]

    def put(g, i, x_spec):
        return gb.where(gb.arange(x_spec.shape[0]) == i, g, 0.0)

    f = gb.primitive(pick, vjp=[put, None], name="pick one")
    x = gb.tensor(X, requires_grad=True)
    f(x, 1).backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_attributes_and_their_defaults() -> None:
    def swish(x, beta=2.0, *, shift=0.0):
        return x / (1 + np.exp(-beta * x)) + shift

    def pull(g, x, beta):
        s = 1 / (1 + gb.exp(-beta * x))
        return g * (s + beta * x * s * (1 - s))

    f = gb.primitive(swish, vjp=pull)
    for call in (lambda x: f(x, beta=1.5), lambda x: f(x, beta=1.5, shift=1.0), f):
        assert gb.gradcheck(call, X)
        assert gb.gradcheck(lambda x, call=call: gb.grad(lambda x: call(x).sum())(x), X)
    np.testing.assert_allclose(f(gb.tensor(X), shift=1.0).numpy(), swish(X) + 1)


def test_several_outputs() -> None:
    def polar(x, y):
        return np.hypot(x, y), np.arctan2(y, x)

    f = gb.primitive(
        polar,
        vjp=[
            lambda g, x, y: g[0] * x / gb.hypot(x, y) - g[1] * y / (x * x + y * y),
            lambda g, x, y: g[0] * y / gb.hypot(x, y) + g[1] * x / (x * x + y * y),
        ],
    )
    x, y = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    assert gb.gradcheck(f, (x, y))
    assert gb.gradcheck(lambda x, y: f(x, y)[1], (x, y))  # the gradient of the other output is zero
    assert gb.gradcheck(lambda x, y: gb.grad(lambda x, y: (f(x, y)[0] * f(x, y)[1]).sum(), (0, 1))(x, y), (x, y))


def test_a_rule_of_several_outputs_may_name_them() -> None:
    def both(x):
        return np.exp(x), np.exp(-x)

    f = gb.primitive(both, vjp=lambda g, out: g[0] * out[0] - g[1] * out[1])
    assert gb.gradcheck(f, X)
    assert gb.gradcheck(gb.grad(lambda x: (f(x)[0] * f(x)[1] + f(x)[0] ** 2).sum()), X)


def test_integer_outputs_have_no_gradient() -> None:
    def top(x):
        return x.max(axis=0), x.argmax(axis=0)

    def pull(g, x):
        return g[0] * (x == x.max(axis=0)).astype(x.dtype)

    f = gb.primitive(top, vjp=pull)
    x = gb.tensor(X, requires_grad=True)
    value, index = f(x)
    assert value.requires_grad
    assert not index.requires_grad
    assert index.item() == 2
    value.backward()
    assert x.grad.tolist() == [0, 0, 1]


def test_without_a_rule_nothing_is_recorded() -> None:
    f = gb.primitive(np.sign)
    assert not f(gb.tensor(X, requires_grad=True)).requires_grad


def test_only_what_the_rule_names_is_saved() -> None:
    double = gb.primitive(lambda x: x * 2, vjp=lambda g: g * 2)
    y = double(gb.tensor(X, requires_grad=True))
    assert list(y.node.saved) == []


def test_what_is_refused() -> None:
    with pytest.raises(gb.DTypeError, match="2 rules for the inputs x; give one for each, or None"):
        gb.primitive(lambda x: x, vjp=[lambda g: g, lambda g: g], name="two")
    with pytest.raises(gb.DTypeError, match="a rule asks for 'z'; it may name g, out, out_spec, x, x_spec"):
        gb.primitive(lambda x: x, vjp=lambda g, z: g, name="asks")
    bad_shape = gb.primitive(lambda x: x * 2, vjp=lambda g: gb.ones(7), name="misfit")
    with pytest.raises(gb.ShapeError):
        bad_shape(gb.tensor(X, requires_grad=True)).sum().backward()
    number = gb.primitive(lambda x: x * 2, vjp=lambda g: 2.0, name="number")
    with pytest.raises(gb.DTypeError, match="a rule of 'number' returned a float; it must return a Tensor"):
        number(gb.tensor(X, requires_grad=True)).sum().backward()


def test_errors_inside_name_the_operation() -> None:
    def sensitive(x):
        if x.min() < 0:
            raise ValueError("a negative number")
        return x

    with pytest.raises(gb.ShapeError, match=r"sensitive\(float64\[3\]\): a negative number"):
        gb.primitive(sensitive)(gb.tensor(X))


SAXPY = r"""
extern "C" __global__ void saxpy(const float* x, const float* y, float a, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a * x[i] + y[i];
}
"""


@pytest.mark.emulated
def test_around_a_cuda_kernel() -> None:
    from ..conftest import require_emulated

    require_emulated()
    kernel = gb.emulated.RawKernel(SAXPY, "saxpy")

    def forward(x, y, a):
        out = np.empty_like(x)
        kernel((-(-x.size // 64),), (64,), (x, y, np.float32(a), out, np.int32(x.size)))
        return out

    saxpy = gb.primitive(lambda x, y, a=1.0: forward(x, y, a), vjp=[lambda g, a: g * a, lambda g: g], name="saxpy")
    with gb.device("emulated"):
        x = gb.tensor(np.arange(100, dtype=np.float32), requires_grad=True)
        y = gb.ones(100).requires_grad_()
        out = saxpy(x, y, a=3.0)
        np.testing.assert_array_equal(out.numpy(), 3 * np.arange(100, dtype=np.float32) + 1)
        (out * out).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 6 * out.numpy())
        np.testing.assert_allclose(y.grad.numpy(), 2 * out.numpy())
        second = gb.grad(lambda x: (gb.grad(lambda x: (saxpy(x, y, a=3.0) ** 3).sum())(x)).sum())(x)
        np.testing.assert_allclose(second.numpy(), 54 * out.numpy(), rtol=1e-6)
    assert tape.modes.grad


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gb.primitive(lambda: 1.0), "takes no arrays"),
        (lambda: gb.primitive(np.abs, vjp=np.sign), "a rule must be a Python function"),
        (lambda: gb.primitive(lambda x: None)(gb.ones(2)), "returned a NoneType"),
        (lambda: gb.primitive(lambda x: [1.0])(gb.ones(2)), "returned a list"),
        (lambda: gb.primitive(lambda x: x)(gb.ones(2)), "returned its own input"),
    ],
)
def test_functions_that_cannot_be_primitives(make, words) -> None:
    with pytest.raises(gb.DTypeError, match=words):
        make()
