"""Every operation of opinfo: values, gradients and double gradients, on each device."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import warnings
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop import ops
from gpu_backprop.core import dtypes, tape
from gpu_backprop.ops import decompositions, elementwise, fft, neural
from gpu_backprop.ops.primitive import Primitive

from .opinfo import OPS, Op

DIFFERENTIABLE = [op for op in OPS if op.gradient]

each_op = pytest.mark.parametrize("op", OPS, ids=str)
each_differentiable = pytest.mark.parametrize("op", DIFFERENTIABLE, ids=str)


def test_names_are_unique() -> None:
    assert len({op.name for op in OPS}) == len(OPS)


def tensors(sample: tuple[np.ndarray, ...], dtype: Any = "float64", device: str | None = None) -> list[gb.Tensor]:
    return [
        gb.tensor(x, dtype=dtype if x.dtype.kind == "f" else None, device=device, requires_grad=x.dtype.kind == "f")
        for x in sample
    ]


def floats(sample: tuple[np.ndarray, ...]) -> list[int]:
    return [i for i, x in enumerate(sample) if x.dtype.kind == "f"]


def weighted(op: Op, xs: list[Any], dtype: Any = "float64") -> gb.Tensor:
    """A scalar of the result: its sum with fixed weights that are all different."""
    out = op.f(*xs)
    weights = np.random.default_rng(7).uniform(0.5, 1.5, out.shape)
    return (out * gb.tensor(weights, dtype=dtype, device=out.device)).sum()


# values --------------------------------------------------------------------------------------------------------------


@each_op
def test_value_in_float64(op: Op, device: str) -> None:
    for sample in op.samples if device == "cpu" else op.samples[:2]:
        found = op.f(*tensors(sample)).numpy()
        expected = np.asarray(op.reference(*sample))
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@each_op
def test_value_in_rounded_dtypes(op: Op, dtype: str) -> None:
    check_rounded_value(op, dtype, "cpu")


@pytest.mark.full  # three times the kernels to compile
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@each_op
def test_value_in_rounded_dtypes_by_kernels(op: Op, dtype: str, device: str) -> None:
    check_rounded_value(op, dtype, device)


def check_rounded_value(op: Op, dtype: str, device: str) -> None:
    """The float64 reference of the rounded inputs, rounded once: equal but for an ulp (more where terms add up)."""
    for sample in op.samples if device == "cpu" else op.samples[:1]:
        xs = tensors(sample, dtype, device)
        rounded = [x.numpy().astype(np.float64) if x.dtype.kind not in "biu" else x.numpy() for x in xs]
        found = op.f(*xs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(op.reference(*rounded))
        if expected.dtype.kind in "biu":
            np.testing.assert_array_equal(found.numpy(), expected, strict=True)
            continue
        assert found.dtype.name == ("float32" if op.wide else dtype)
        ulps = 1.01 if op.half and dtype != "float32" else 8
        np.testing.assert_allclose(
            found.numpy().astype(np.float64),
            expected,
            rtol=ulps * dtypes.epsilon(found.dtype),
            atol=(4 if op.half else 8) * 2.0**-24,
            strict=True,
        )


# gradients -----------------------------------------------------------------------------------------------------------


def compare_devices(op: Op, device: str, dtype: str = "float64") -> None:
    """Value, gradient and gradient of the squared gradient on a device against the CPU's."""
    sample = op.samples[0]

    def everything(place: str) -> list[np.ndarray]:
        with gb.device(place):
            xs = tensors(sample, dtype, place)
            value = weighted(op, xs, dtype)
            firsts = tape.walk(
                [value], [gb.ones_like(value)], targets=[xs[i] for i in floats(sample)], create_graph=True
            )
            scalar = functools.reduce(lambda a, b: a + b, [(g * g).sum() for g in firsts if g is not None])
            seconds = (
                tape.walk([scalar], [gb.ones_like(scalar)], targets=[xs[i] for i in floats(sample)])
                if scalar.requires_grad
                else []
            )
            return [value.numpy(), *(g.numpy() for g in firsts), *(g.numpy() for g in seconds if g is not None)]

    for found, expected in zip(everything(device), everything("cpu"), strict=True):
        scale = max(1.0, float(np.max(np.abs(expected.astype(np.float64)), initial=0)))
        tolerance = 64 * dtypes.epsilon(found.dtype)
        np.testing.assert_allclose(
            found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance * scale
        )


@each_differentiable
def test_gradient_against_central_differences(op: Op, device: str) -> None:
    if device != "cpu":
        compare_devices(op, device)
        assert gb.gradcheck(op.f, tuple(gb.asarray(x) for x in op.samples[-1]))
        return
    for sample in op.samples:
        assert gb.gradcheck(op.f, tuple(gb.asarray(x) for x in sample))


@each_differentiable
def test_double_gradient_against_central_differences(op: Op, device: str) -> None:
    """The derivative of every vector-Jacobian product with respect to the cotangent and to the inputs."""
    for sample in op.samples if device == "cpu" else op.samples[-1:]:
        which = floats(sample)
        out = op.reference(*sample)
        cotangent = np.random.default_rng(3).uniform(0.5, 1.5, np.shape(out))

        def pulled(g: gb.Tensor, *xs: gb.Tensor, which: list[int] = which) -> Any:
            def f(*chosen: gb.Tensor) -> gb.Tensor:
                full = list(xs)
                for i, x in zip(which, chosen):
                    full[i] = x
                return op.f(*full)

            return gb.vjp(f, *(xs[i] for i in which))[1](g)

        assert gb.gradcheck(pulled, (gb.asarray(cotangent), *(gb.asarray(x) for x in sample)))


@pytest.mark.parametrize("op", [op for op in DIFFERENTIABLE if op.autograd], ids=str)
def test_gradient_against_hips_autograd(op: Op, device: str) -> None:
    for sample in op.samples:
        if any(x.size == 0 for x in sample):
            continue  # autograd's own vjps fail on some empty arrays
        out = np.asarray(op.reference(*sample))
        weights = np.random.default_rng(7).uniform(0.5, 1.5, out.shape)

        def loss(*xs: Any, weights: np.ndarray = weights) -> Any:
            return anp.sum(op.autograd(*xs) * weights)

        expected = autograd.grad(loss, tuple(range(len(sample))))(*sample)
        xs = tensors(sample, "float64", device)
        weighted(op, xs, "float64").backward()
        for x, e in zip(xs, expected):
            np.testing.assert_allclose(x.grad.numpy(), e, rtol=1e-9, atol=1e-11, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@each_differentiable
def test_gradient_in_rounded_dtypes(op: Op, dtype: str) -> None:
    """A gradient has its input's dtype and agrees with the float64 gradient at the rounded inputs."""
    for sample in op.samples[:2]:
        xs = tensors(sample, dtype)
        exact = [gb.tensor(x, dtype="float64", requires_grad=True) if x.requires_grad else x for x in xs]
        if any(not np.array_equal(a.numpy(), b.numpy()) for a, b in zip(xs, exact)):
            raise AssertionError("rounded inputs are not exact in float64")
        weighted(op, xs, dtype).backward()
        weighted(op, exact).backward()
        for x, e in zip(xs, exact):
            if x.grad is None:
                assert e.grad is None
                continue
            assert x.grad.dtype == x.dtype
            expected = e.grad.numpy()
            scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
            tolerance = 24 * dtypes.epsilon(x.dtype)
            np.testing.assert_allclose(
                x.grad.numpy().astype(np.float64), expected, rtol=tolerance, atol=tolerance * scale
            )


@pytest.mark.parametrize("name", ["maximum", "minimum", "max", "min"])
def test_ties_share_the_gradient(name: str) -> None:
    if name.endswith("imum"):
        x = gb.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = gb.tensor([1.0, 3.0, 2.0], requires_grad=True)
        getattr(gb, name)(x, y).sum().backward()
        first = [0.5, 0.0, 1.0] if name == "maximum" else [0.5, 1.0, 0.0]
        assert x.grad.tolist() == first
        assert y.grad.tolist() == [1 - v for v in first]
        z = gb.tensor([1.0], requires_grad=True)
        (getattr(gb, name)(z, 1.0) + getattr(gb, name)(1.0, z)).sum().backward()
        assert z.grad.tolist() == [1.0]
    else:
        x = gb.tensor([[2.0, 2.0, 2.0], [1.0, 1.0, 5.0]], requires_grad=True)
        getattr(gb, name)(x if name == "max" else -x, axis=1).sum().backward()
        sign = 1 if name == "max" else -1
        third = float(np.float32(1) / np.float32(3))
        assert x.grad.tolist() == [[sign * third] * 3, [0.0, 0.0, float(sign)]]


@pytest.mark.parametrize("power", [0, 0.0, 1, 1.0, 2, 2.0, 3])
def test_powers_at_zero_have_finite_derivatives(power: float) -> None:
    x = gb.tensor([0.0, 1.0])
    first = gb.grad(lambda x: (x**power).sum())
    second = gb.grad(lambda x: first(x).sum())
    third = gb.grad(lambda x: second(x).sum())
    p = float(power)
    assert first(x).tolist() == [1.0 if p == 1 else 0.0, p]
    assert second(x).tolist() == [2.0 if p == 2 else 0.0, p * (p - 1)]
    assert third(x).tolist() == [6.0 if p == 3 else 0.0, p * (p - 1) * (p - 2)]


# completeness --------------------------------------------------------------------------------------------------------


def modules_of(package: Any) -> list[Any]:
    return [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]


def all_primitives() -> set[Primitive]:
    """But for those of test_linalg_gradients.py."""
    modules = [m for m in modules_of(ops) if m not in (decompositions, fft)]
    return {p for module in modules for p in vars(module).values() if isinstance(p, Primitive)}


def primitives_checked(op: Op) -> set[Primitive]:
    """What is on the tape of the value and of its gradient: all that the double gradient check goes through."""
    sample = op.samples[0]
    xs = tensors(sample)
    out = op.f(*xs)
    g = gb.ones(out.shape, dtype="float64").requires_grad_()
    firsts = tape.walk([out], [g], targets=[x for x in xs if x.requires_grad], create_graph=True)
    return {node.primitive for node in tape.nodes([out, *(t for t in firsts if t is not None)])}


def test_every_primitive_is_listed() -> None:
    checked: set[Primitive] = set()
    for op in DIFFERENTIABLE:
        checked |= primitives_checked(op)
    missing = {p.name for p in all_primitives() if not p.no_gradient and p not in checked}
    assert not missing, f"add to tests/ops/opinfo: {sorted(missing)}"


def test_every_public_function_without_gradient_is_listed() -> None:
    source = {name for name in dir(gb) if isinstance(getattr(elementwise, name, None), Primitive)}
    listed = {op.name for op in OPS} | {"clip"}
    bitwise = {name for name in source if name.startswith("bitwise_")}
    assert source - listed - bitwise == set()


# integers and bools --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["and", "or", "xor", "left_shift", "right_shift"])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_bitwise(name: str, dtype: str, device: str) -> None:
    a, b = np.array([1, 6, 12, 255], dtype), np.array([3, 5, 2, 1], dtype)
    reference = getattr(np, name if "shift" in name else f"bitwise_{name}")
    found = getattr(gb, f"bitwise_{name}")(gb.asarray(a, device=device), gb.asarray(b, device=device))
    np.testing.assert_array_equal(found.numpy(), reference(a, b), strict=True)


def test_bitwise_invert_and_bools(device: str) -> None:
    assert (~gb.asarray(np.array([0, 5]), device=device)).tolist() == [-1, -6]
    a, b = gb.asarray(np.array([True, True, False])), gb.asarray(np.array([True, False, False]))
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_nextafter(device: str, dtype: str) -> None:
    """The neighbour in the dtype itself, not in the float32 that 16-bit floats compute in."""
    x = np.array([1.0, -2.0, 0.0], gb.tensor(0.0, dtype=dtype).dtype)
    up = np.array([np.inf, -np.inf, 1.0], x.dtype)
    np.testing.assert_array_equal(gb.nextafter(gb.asarray(x), gb.asarray(up)).numpy(), np.nextafter(x, up), strict=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "equal", "less", "abs", "sum", "max"])
def test_integers_follow_numpy(name: str, dtype: str, device: str) -> None:
    a, b = np.array([[3, 7], [0, 2]]).astype(dtype), np.array([5, 1]).astype(dtype)
    ours, theirs = getattr(gb, name), getattr(np, name)
    if name in ("abs", "sum", "max"):
        found, expected = ours(gb.asarray(a)), theirs(a)
    else:
        found, expected = ours(gb.asarray(a), gb.asarray(b)), theirs(a, b)
    np.testing.assert_array_equal(found.numpy(), expected, strict=True)
    assert dtypes.as_dtype(found.dtype) == found.dtype


# labels --------------------------------------------------------------------------------------------------------------

CROSS_ENTROPY = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}


@pytest.mark.parametrize("bad", [4, -1, 10**9])
def test_a_label_out_of_range_is_an_error(bad: int, device: str) -> None:
    """At once on the CPU, at the next synchronisation elsewhere; never an access outside the array."""
    x = gb.ones((3, 4)).requires_grad_()
    with pytest.raises(gb.DataError, match=rf"label {bad} .*ignore_index={bad}" if device == "cpu" else "label"):
        neural.softmax_cross_entropy(x, gb.tensor([0, bad, 2]), None, **CROSS_ENTROPY).item()
    gb.synchronize()
    legal = CROSS_ENTROPY | {"ignore_index": bad}
    assert np.isfinite(neural.softmax_cross_entropy(x, gb.tensor([0, bad, 2]), None, **legal).item())


def test_nothing_that_counts_gives_nan_and_sum_gives_zero() -> None:
    x, labels = gb.ones((2, 3)), gb.tensor([-100, -100])
    assert np.isnan(neural.softmax_cross_entropy(x, labels, None, **CROSS_ENTROPY).item())
    assert neural.softmax_cross_entropy(x, labels, None, **(CROSS_ENTROPY | {"reduction": "sum"})).item() == 0


def test_large_logits_neither_overflow_nor_lose_the_loss() -> None:
    x = gb.tensor([[1000.0, 0.0], [-1000.0, 1000.0]], requires_grad=True)
    loss = neural.softmax_cross_entropy(x, gb.tensor([0, 0]), None, **CROSS_ENTROPY)
    loss.backward()
    assert loss.item() == 1000
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [-0.5, 0.5]])
    assert gb.logsumexp(x, axis=1).tolist() == [1000, 1000]
    np.testing.assert_allclose(neural.softmax(x, axis=1).numpy(), [[1, 0], [0, 1]])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "softplus", "gelu", "elu"])
def test_activations_far_out_are_finite(name: str) -> None:
    options = {"softplus": {"beta": 1.0, "threshold": 20.0}, "gelu": {"approximate": "none"}, "elu": {"alpha": 1.0}}
    x = gb.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(elementwise, name)(x, **options.get(name, {}))
        y.sum().backward()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()
