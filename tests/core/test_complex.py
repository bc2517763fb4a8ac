"""Complex numbers: dtypes, values, and gradients in JAX's convention, dL = Re(g dz)."""

from __future__ import annotations

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import gpu_backprop as gb

RANDOM = np.random.default_rng(3)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.3, 1.2, shape) + 1j * RANDOM.uniform(0.3, 1.2, shape)


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        (lambda: gb.tensor(1j), "complex64"),
        (lambda: gb.tensor([1.0, 2j]), "complex64"),
        (lambda: gb.tensor(np.array(1j)), "complex128"),
        (lambda: gb.zeros(2, dtype=complex), "complex64"),
        (lambda: gb.ones(2) * 1j, "complex64"),
        (lambda: 1j - gb.ones(2, dtype="float64"), "complex128"),
        (lambda: gb.ones(2, dtype="bfloat16") + 1j, "complex64"),
        (lambda: gb.arange(3) * 1j, "complex64"),
        (lambda: gb.ones(2, dtype="complex64") * 2.0, "complex64"),
        (lambda: gb.ones(2, dtype="complex64") * gb.ones(2, dtype="float64"), "complex128"),
        (lambda: gb.exp(gb.ones(2, dtype="complex64")), "complex64"),
        (lambda: gb.abs(gb.ones(2, dtype="complex64")), "float32"),
        (lambda: gb.real(gb.ones(2, dtype="complex128")), "float64"),
        (lambda: gb.var(gb.ones(2, dtype="complex64")), "float32"),
        (lambda: gb.where(gb.tensor([True]), gb.ones(1), 2j), "complex64"),
    ],
)
def test_dtypes(made, dtype: str, device: str) -> None:
    assert made().dtype.name == dtype


def test_the_default_complex_dtype_follows_the_default_float_dtype() -> None:
    gb.set_default_dtype("float64")
    try:
        assert gb.tensor(1j).dtype == gb.zeros(1, dtype=complex).dtype == (gb.arange(2) * 1j).dtype == gb.complex128
    finally:
        gb.set_default_dtype("float32")


def test_values_in_python(device: str) -> None:
    z = gb.tensor(3 + 4j)
    assert complex(z) == z.item() == 3 + 4j
    assert gb.abs(z).item() == 5
    assert complex(gb.tensor(2.0)) == 2
    assert z.astype("bool").item() is True
    for convert in (float, int):
        with pytest.raises(gb.DTypeError, match=r"complex number; use gb\.real"):
            convert(z)
    with pytest.raises(gb.DTypeError, match=r"complex64 to float32 would drop the imaginary part; use gb\.real"):
        z.astype("float32")


def test_in_place_writes(device: str) -> None:
    z = gb.zeros(3, dtype="complex64")
    z += 1j
    z[0] = 2 - 1j
    assert z.tolist() == [2 - 1j, 1j, 1j]


HOLOMORPHIC = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p"),
    *("log2", "negative", "reciprocal", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
)


@pytest.mark.parametrize("name", [*HOLOMORPHIC, "abs", "conj", "imag", "real", "sign"])
def test_gradients_of_functions(name: str, device: str) -> None:
    f = getattr(gb, name)
    for signs in (1, -1, np.array([1j, -1j])):
        x = numbers(2) * signs
        assert gb.gradcheck(f, x)
        assert gb.gradcheck(lambda z: gb.abs(gb.grad(lambda t: gb.real(f(t) * (1 + 2j)).sum())(z)), x, rtol=1e-3)


@pytest.mark.parametrize("name", ["add", "divide", "multiply", "pow", "subtract"])
def test_gradients_of_operators(name: str, device: str) -> None:
    f = getattr(gb, name)
    real = RANDOM.uniform(0.5, 1.5, 2)
    for inputs in ((numbers(2), numbers(2)), (real, numbers(2)), (numbers(2, 2), real)):
        assert gb.gradcheck(f, inputs)
    for number in (1.5, -2.0, 2, 0.5 - 1j, 1j):
        assert gb.gradcheck(lambda z, number=number: f(z, number), numbers(2))
        assert gb.gradcheck(lambda z, number=number: f(number, z), numbers(2))
    assert gb.gradcheck(lambda x: f(x, 1 - 2j), real)  # the tape takes the real part
    assert gb.gradcheck(lambda x: f(2j, x), real)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(axis=0),
        lambda x: gb.mean(x),
        lambda x: gb.prod(x, axis=1),
        lambda x: gb.var(x, axis=0, correction=1),
        lambda x: gb.std(x),
        lambda x: x @ x.T,
        lambda x: x[gb.tensor([0, 1, 0])],
        lambda x: gb.take(x, gb.tensor([1, 1]), axis=1),
        lambda x: gb.concat([x, gb.real(x)]),
        lambda x: gb.where(gb.tensor([True, False]), x, x * 2),
        lambda x: gb.flip(x.T.reshape(-1)),
    ],
)
def test_gradients_of_other_operations(f, device: str) -> None:
    assert gb.gradcheck(f, numbers(2, 2))


def test_gradients_are_those_of_hips_autograd() -> None:
    z, w = numbers(3, 3), numbers(3)

    def loss(m):
        return lambda z, w: m.sum(m.abs(m.exp(z) @ w) * m.real(w) + m.imag(m.conj(w) * m.tanh(w)))

    expected = autograd.grad(loss(anp), (0, 1))(z, w)
    for found, value in zip(gb.grad(loss(gb), (0, 1))(gb.tensor(z), gb.tensor(w)), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), value, rtol=1e-12)


def test_the_convention() -> None:
    z = gb.tensor([3 + 4j], dtype="complex128", requires_grad=True)
    gb.abs(z).sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), [0.6 - 0.8j], rtol=1e-15)  # dL/dx - i dL/dy
    assert gb.vjp(gb.imag, gb.tensor([1j]))[1](gb.ones(1))[0].tolist() == [-1j]


def test_jvp() -> None:
    z, direction = numbers(2), numbers(2)
    for f in (gb.abs, gb.conj, gb.tanh):
        _, found = gb.jvp(f, (gb.tensor(z),), (gb.tensor(direction),))
        step = 1e-6
        sides = [f(gb.tensor(z + s * direction)).numpy() for s in (step, -step)]
        np.testing.assert_allclose(found.numpy(), (sides[0] - sides[1]) / (2 * step), rtol=1e-7)


def test_a_complex_result_has_no_one_gradient() -> None:
    z = gb.tensor(1j, requires_grad=True)
    with pytest.raises(gb.TapeError, match=r"a complex result has no one gradient; make it real first \(gb.real"):
        (z * z).backward()
    (z * z).backward(gradient=1)
    assert z.grad.item() == 2j
    with pytest.raises(gb.DTypeError, match="returned a complex number; make it real"):
        gb.grad(lambda x: x * x)(z)


def test_gradcheck_sees_a_wrong_conjugate() -> None:
    wrong = gb.primitive(lambda x: x * x, vjp=lambda g, x: g * gb.conj(x) * 2)
    with pytest.raises(gb.TapeError, match="the rule is wrong"):
        gb.gradcheck(wrong, numbers(2))


@pytest.mark.parametrize(
    "call",
    [gb.nn.functional.sigmoid, gb.nn.functional.relu, gb.logsumexp, gb.floor, lambda z: gb.atan2(z, z),
     lambda z: gb.nn.functional.softmax(z, 0)],
)  # fmt: skip
def test_what_is_not_defined_for_complex_numbers(call, device: str) -> None:
    with pytest.raises(gb.DTypeError):
        call(gb.tensor([1j, 2]))


def test_captured(device: str) -> None:
    f = gb.capture(lambda z: gb.real(z * gb.conj(z)) + gb.imag(gb.exp(z)))
    for _ in range(3):
        z = numbers(4)
        np.testing.assert_allclose(f(gb.tensor(z)).numpy(), (z * z.conj()).real + np.exp(z).imag, rtol=1e-12)
