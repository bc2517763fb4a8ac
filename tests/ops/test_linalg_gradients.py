"""Gradients of linear algebra and Fourier transforms: central differences, HIPS autograd, other devices, odd places."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import tape
from gpu_backprop.ops import decompositions
from gpu_backprop.ops import fft as transforms
from gpu_backprop.ops.movement import tril
from gpu_backprop.ops.primitive import Primitive
from gpu_backprop.ops.reduction import prod_of_others

from ..conftest import DEVICES

linalg = gb.linalg


@dataclass(frozen=True)
class Case:
    """A function of arrays of these shapes; `reference` is the same one over HIPS autograd's arrays.

    kinds: "real", "complex" or both; those that autograd is right for. A function that computes something that is not
    unique returns what of it is.
    """

    name: str
    f: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    reference: Callable[..., Any] | None = None
    kinds: tuple[str, ...] = ("real", "complex")
    reference_kinds: tuple[str, ...] = ("real", "complex")

    def arrays(self, kind: str) -> list[np.ndarray]:
        random = np.random.default_rng(sum(map(ord, self.name)))
        made = [random.uniform(-1, 1, shape) for shape in self.shapes]
        return made if kind == "real" else [x + 1j * random.uniform(-1, 1, x.shape) for x in made]


def adjoint(x: Any) -> Any:
    return gb.conj(x.mT)


def hermitian(x: Any) -> Any:
    return x + adjoint(x)


def positive(x: Any) -> Any:
    return x @ adjoint(x) + gb.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def apart(x: Any) -> Any:
    """Far from singular, and with singular values and eigenvalues far from each other."""
    m, n = x.shape[-2:]
    diagonal = np.zeros((m, n))
    np.fill_diagonal(diagonal, 3.0 * np.arange(1, min(m, n) + 1))
    return x + gb.asarray(diagonal, device=x.device)


def of_svd(x: Any, full_matrices: bool = False) -> Any:
    """What does not depend on the phases of singular vectors, or on the columns that full_matrices adds."""
    U, S, Vh = linalg.svd(x, full_matrices=full_matrices)
    k = S.shape[-1]
    weights = gb.asarray(np.arange(1.0, k + 1), device=x.device)
    joint = (U[..., :k] * weights) @ Vh[..., :k, :]
    added = (U[..., k:] @ adjoint(U[..., k:]), adjoint(Vh[..., k:, :]) @ Vh[..., k:, :])
    return S, gb.abs(U[..., :k]) ** 2, gb.abs(Vh[..., :k, :]) ** 2, joint, *(added if full_matrices else ())


def of_qr(x: Any, mode: str = "reduced") -> Any:
    Q, R = linalg.qr(apart(x), mode=mode)
    k = min(x.shape[-2:])
    return Q[..., :k], R, *([Q[..., k:] @ adjoint(Q[..., k:])] if mode == "complete" else [])


def of_eigh(x: Any) -> Any:
    w, V = linalg.eigh(hermitian(apart(x)))
    return w, gb.abs(V) ** 2, (V * w[..., None, :] ** 2) @ adjoint(V)


def of_eig(x: Any) -> Any:
    w, V = linalg.eig(apart(x))
    return w, gb.abs(V) ** 2, V[..., :, None, :] * gb.conj(V)[..., None, :, :]


def norm(**options: Any) -> Callable[..., Any]:
    return lambda x: linalg.vector_norm(x, **options)


REAL = ("real",)
COMPLEX = ("complex",)
SQUARE, BATCH = (3, 3), (2, 3, 3)
CASES = [
    Case("det", linalg.det, (SQUARE,), anp.linalg.det),
    Case("det batch", linalg.det, (BATCH,), anp.linalg.det),
    Case("det 1", linalg.det, ((1, 1),)),
    Case("det empty", linalg.det, ((2, 0, 0),)),
    Case("slogdet", lambda x: tuple(linalg.slogdet(x)), (BATCH,)),
    Case("logabsdet", lambda x: linalg.slogdet(x)[1], (BATCH,), lambda x: anp.linalg.slogdet(x)[1], REAL),
    Case("inv", linalg.inv, (BATCH,), anp.linalg.inv),
    Case("solve vector", linalg.solve, (BATCH, (3,))),
    Case("solve", linalg.solve, (SQUARE, (3, 2)), anp.linalg.solve),
    Case("solve batches", linalg.solve, ((2, 1, 3, 3), (2, 3, 1))),
    Case("pinv tall", linalg.pinv, ((2, 4, 3),), anp.linalg.pinv, reference_kinds=REAL),
    Case("pinv wide", linalg.pinv, ((3, 4),), anp.linalg.pinv, reference_kinds=REAL),
    Case("pinv of rank 1", lambda x, y: linalg.pinv(x @ y), ((3, 1), (1, 4))),
    Case("matrix_power", lambda x: linalg.matrix_power(x, 5), (SQUARE,)),
    Case("matrix_power -2", lambda x: linalg.matrix_power(x, -2), (BATCH,)),
    Case("matrix_power 0", lambda x: linalg.matrix_power(x, 0), (BATCH,)),
    Case(
        "cholesky",
        lambda x: linalg.cholesky(positive(x)),
        (BATCH,),
        lambda x: anp.linalg.cholesky(x @ anp.swapaxes(x, -1, -2) + anp.eye(3)),
        reference_kinds=REAL,
    ),
    Case("cholesky upper", lambda x: linalg.cholesky(positive(x), upper=True), (SQUARE,)),
    Case("qr", of_qr, (BATCH,)),
    Case("qr tall", of_qr, ((4, 2),)),
    Case("qr wide", of_qr, ((2, 4),)),
    Case("qr complete", lambda x: of_qr(x, "complete"), ((4, 2),)),
    Case("qr complete wide", lambda x: of_qr(x, "complete"), ((2, 3),)),
    Case("svd", lambda x: of_svd(apart(x)), (BATCH,)),
    Case("svd tall", lambda x: of_svd(apart(x)), ((4, 2),)),
    Case("svd wide", lambda x: of_svd(apart(x)), ((2, 4),)),
    Case("svd full tall", lambda x: of_svd(apart(x), True), ((4, 2),)),
    Case("svd full wide", lambda x: of_svd(apart(x), True), ((2, 2, 4),)),
    Case("svd real signs", lambda x: tuple(linalg.svd(apart(x), full_matrices=False)), ((3, 2),), kinds=REAL),
    Case("svdvals", linalg.svdvals, ((2, 3, 4),), lambda x: anp.linalg.svd(x, compute_uv=False)),
    Case("eigh", of_eigh, (BATCH,)),
    Case("eigh real signs", lambda x: tuple(linalg.eigh(hermitian(apart(x)))), (SQUARE,), kinds=REAL),
    Case(
        "eigvalsh",
        lambda x: linalg.eigvalsh(hermitian(x)),
        (BATCH,),
        lambda x: anp.linalg.eigh(x + anp.swapaxes(anp.conj(x), -1, -2))[0],
    ),
    Case("eig", of_eig, (BATCH,)),
    Case("eig of complex pairs", lambda x: linalg.eig(x - x.mT)[0] ** 2, ((2, 2),), kinds=REAL),
    Case("eigvals", lambda x: linalg.eigvals(apart(x)), (SQUARE,)),
    Case("trace", lambda x: linalg.trace(x, offset=1), ((2, 3, 4),)),
    Case("trace of one", linalg.trace, (SQUARE,), anp.trace),
    Case("diagonal", lambda x: linalg.diagonal(x, offset=-1), ((2, 3, 4),)),
    Case("diagonal outside", lambda x: linalg.diagonal(x, offset=9), (SQUARE,)),
    Case("cross", linalg.cross, ((2, 3), (2, 3)), anp.cross),
    Case("cross axis", lambda x, y: linalg.cross(x, y, axis=-2), ((3, 2), (3, 1))),
    Case("outer", linalg.outer, ((3,), (2,)), anp.outer),
    Case("vecdot", linalg.vecdot, ((2, 3), (3,)), lambda x, y: anp.sum(anp.conj(x) * y, -1)),
    Case("vecdot axis", lambda x, y: linalg.vecdot(x, y, axis=-2), ((3, 2), (3, 2))),
    Case("norm 2", norm(), ((2, 3),), anp.linalg.norm),
    *(
        Case(f"norm {ord}", norm(ord=ord, axis=1, keepdims=True), ((2, 3),), reference)
        for ord, reference in (
            (1, lambda x: anp.sum(anp.abs(x), 1, keepdims=True)),
            (3, lambda x: anp.sum(anp.abs(x) ** 3, 1, keepdims=True) ** (1 / 3)),
            (0.5, lambda x: anp.sum(anp.abs(x) ** 0.5, 1, keepdims=True) ** 2),
            (-2, None),
            (0, None),
            (float("inf"), lambda x: anp.max(anp.abs(x), 1, keepdims=True)),
            (-float("inf"), None),
        )
    ),
    *(
        Case(f"matrix norm {ord}", lambda x, ord=ord: linalg.matrix_norm(x, ord=ord), ((2, 3, 4),))
        for ord in ("fro", "nuc", 1, -1, 2, -2, float("inf"), -float("inf"))
    ),
    Case("fft", lambda x: gb.fft.fft(x, n=5, axis=0), ((4, 2),), lambda x: anp.fft.fft(x, 5, 0)),
    Case("fft cut", lambda x: gb.fft.fft(x, n=3, norm="forward"), ((2, 4),)),
    Case("ifft", lambda x: gb.fft.ifft(x, norm="ortho"), ((2, 3),), lambda x: anp.fft.ifft(x, norm="ortho")),
    Case("fftn", lambda x: gb.fft.fftn(x, s=(3, 2), axes=(2, 0)), ((2, 2, 4),)),
    Case("ifftn", gb.fft.ifftn, ((2, 3),), anp.fft.ifftn),
    *(
        Case(f"{name} {n} {norm}", lambda x, f=f, n=n, norm=norm: f(x, n=n, norm=norm), ((2, 4),), kinds=kinds)
        for name, f, kinds in (
            ("rfft", gb.fft.rfft, REAL), ("ihfft", gb.fft.ihfft, REAL), ("irfft", gb.fft.irfft, COMPLEX),
            ("hfft", gb.fft.hfft, COMPLEX),
        )
        for n, norm in ((None, "backward"), (5, "ortho"), (3, "forward"), (1, "backward"), (2, "backward"))
    ),
    Case("rfftn", gb.fft.rfftn, ((2, 3, 4),), anp.fft.rfftn, REAL),
    Case("rfftn axes", lambda x: gb.fft.rfftn(x, s=(3, -1), axes=(2, 0), norm="ortho"), ((3, 1, 2),), kinds=REAL),
    Case("irfftn", lambda x: gb.fft.irfftn(x, s=(3, 5)), ((3, 2),), kinds=COMPLEX),
    Case("irfftn axes", lambda x: gb.fft.irfftn(x, axes=(1, 0), norm="forward"), ((3, 2),), kinds=COMPLEX),
    Case("shifts", lambda x: gb.fft.ifftshift(gb.fft.fftshift(x, axes=0)), ((3, 4),)),
]  # fmt: skip
EACH = [(case, kind) for case in CASES for kind in case.kinds]
each = pytest.mark.parametrize(("case", "kind"), EACH, ids=[f"{case.name}-{kind}" for case, kind in EACH])


def scalar(case: Case) -> Callable[..., gb.Tensor]:
    """A real number of all results: linear in them with different weights, and quadratic, so that g depends on them."""

    def loss(*xs: gb.Tensor) -> gb.Tensor:
        results = case.f(*xs)
        random = np.random.default_rng(5)
        total = gb.zeros((), dtype="float64", device=xs[0].device)
        for out in results if isinstance(results, tuple) else (results,):
            if not gb.isdtype(out.dtype, ("real floating", "complex floating")):
                continue
            weights = random.uniform(0.5, 1.5, out.shape) + 1j * random.uniform(0.5, 1.5, out.shape)
            size = gb.abs(out)
            total = total + gb.real((out * gb.asarray(weights, device=out.device)).sum()) + (size * size).sum() * 0.25
        return total

    return loss


def gradients(case: Case) -> Callable[..., Any]:
    return gb.grad(scalar(case), tuple(range(len(case.shapes))))


@each
def test_gradient_against_central_differences(case: Case, kind: str) -> None:
    inputs = tuple(gb.asarray(x) for x in case.arrays(kind))
    if inputs[0].size:
        assert gb.gradcheck(scalar(case), inputs)
    else:
        assert [g.shape for g in gradients(case)(*inputs)] == list(case.shapes)


@each
def test_second_gradient_against_central_differences(case: Case, kind: str) -> None:
    """Along one random direction v: the gradient of Re(v . G) is the derivative of the gradient G along v."""
    arrays = case.arrays(kind)
    random = np.random.default_rng(11)
    v = [random.normal(size=x.shape) + (1j * random.normal(size=x.shape) if kind == "complex" else 0) for x in arrays]

    def along(*xs: gb.Tensor) -> Any:
        return sum(gb.real((g * gb.asarray(d)).sum()) for g, d in zip(gradients(case)(*xs), v))

    found = gb.grad(along, tuple(range(len(arrays))))(*map(gb.asarray, arrays))
    step = 1e-6
    ahead, behind = (gradients(case)(*(gb.asarray(x + sign * d) for x, d in zip(arrays, v))) for sign in (step, -step))
    for h, a, b in zip(found, ahead, behind, strict=True):
        expected = (a.numpy() - b.numpy()) / (2 * step)
        scale = max(1.0, np.max(np.abs(expected), initial=0))
        np.testing.assert_allclose(h.numpy(), expected, rtol=1e-5, atol=1e-6 * scale, strict=True)


REFERENCES = [(case, kind) for case, kind in EACH if case.reference and kind in case.reference_kinds]


@pytest.mark.parametrize(("case", "kind"), REFERENCES, ids=[f"{case.name}-{kind}" for case, kind in REFERENCES])
def test_gradient_against_hips_autograd(case: Case, kind: str, device: str) -> None:
    arrays = case.arrays(kind)
    weights = np.random.default_rng(7).uniform(0.5, 1.5, np.shape(case.reference(*arrays)))
    expected = autograd.grad(lambda *xs: anp.sum(anp.real(case.reference(*xs) * weights)), tuple(range(len(arrays))))(
        *arrays
    )
    xs = [gb.asarray(x).requires_grad_() for x in arrays]
    gb.real((case.f(*xs) * gb.asarray(weights)).sum()).backward()
    for x, e in zip(xs, expected):
        np.testing.assert_allclose(x.grad.numpy(), e, rtol=1e-8, atol=1e-10, strict=True)


@pytest.mark.parametrize("device", DEVICES[1:], indirect=True)
@each
def test_other_devices_agree_with_the_cpu(case: Case, kind: str, device: str) -> None:
    if device == "cuda" and case.name.endswith("signs"):
        pytest.skip("cuSOLVER gives vectors other signs than LAPACK")

    def everything(place: str) -> list[np.ndarray]:
        with gb.device(place):
            xs = [gb.asarray(x).requires_grad_() for x in case.arrays(kind)]
            value = scalar(case)(*xs)
            first = tape.walk([value], [gb.ones_like(value)], targets=xs, create_graph=True)
            size = sum((gb.abs(g) ** 2).sum() for g in first)
            second = tape.walk([size], [gb.ones_like(size)], targets=xs) if size.requires_grad else []
            return [value.numpy(), *(g.numpy() for g in (*first, *second) if g is not None)]

    for found, expected in zip(everything(device), everything("cpu"), strict=True):
        scale = max(1.0, np.max(np.abs(expected), initial=0))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale, strict=True)


def test_every_primitive_has_a_case() -> None:
    recorded: set[Primitive] = set()
    for case, kind in EACH:
        xs = [gb.asarray(x).requires_grad_() for x in case.arrays(kind)]
        value = scalar(case)(*xs)
        first = tape.walk([value], [gb.ones_like(value)], targets=xs, create_graph=True)
        recorded |= {node.primitive for node in tape.nodes([value, *(g for g in first if g is not None)])}
    primitives = {
        p for module in (decompositions, transforms) for p in vars(module).values() if isinstance(p, Primitive)
    } - {prod_of_others, tril}
    assert {p.name for p in primitives if not p.no_gradient and p not in recorded} == set()


# where factors are not unique, or a function has a kink ---------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_determinants_of_singular_matrices(rank: int, kind: str, device: str) -> None:
    random = np.random.default_rng(rank)
    left, right = (
        random.uniform(-1, 1, (3, rank)) + (1j * random.uniform(-1, 1, (3, rank)) if kind == "complex" else 0)
        for _ in range(2)
    )
    x = left @ right.T
    expected = np.empty_like(x)
    for i, j in np.ndindex(3, 3):
        minor = np.delete(np.delete(x, i, 0), j, 1)
        expected[i, j] = (-1) ** (i + j) * (minor[0, 0] * minor[1, 1] - minor[0, 1] * minor[1, 0])
    f = gb.grad(lambda x: gb.real(linalg.det(x)))
    np.testing.assert_allclose(f(gb.asarray(x)).numpy(), expected, atol=1e-14)
    if device == "cpu":
        assert gb.gradcheck(f, gb.asarray(x))


ROTATION = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))[0]
EQUAL = {  # the last are equal but for rounding
    "all": np.eye(3),
    "all 0": np.zeros((3, 3)),
    "two": np.diag([2.0, 2.0, 1.0]),
    "two 0": np.ones((3, 3)),
    "two rounded": ROTATION @ np.diag([2.0, 2.0, 1.0]) @ ROTATION.T,
    "signs": np.diag([1.0, -1.0, 0.5]),
}


@pytest.mark.parametrize("x", EQUAL.values(), ids=EQUAL)
def test_equal_eigenvalues_and_singular_values_have_finite_gradients(x: np.ndarray, device: str) -> None:
    """Of losses that depend on their spaces only, the right ones."""
    weights = gb.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 3)))

    def projection(y: Any) -> Any:
        """On the eigenvectors of the largest eigenvalues, with a space of its own in each example."""
        w, V = linalg.eigh(y)
        top = V * (w > w.max() - 0.5)
        return ((top @ top.mT) * weights).sum()

    x = gb.asarray(x)
    for f in (
        lambda y: linalg.eigvalsh(y).sum(),
        lambda y: linalg.eigh(y)[0].sum(),
        lambda y: (linalg.eigvalsh(y) ** 3).sum(),
        lambda y: (linalg.svdvals(y) ** 2).sum(),
        lambda y: (linalg.svd(y)[1] ** 2).sum(),
        lambda y: linalg.det(y),
    ):
        assert gb.gradcheck(lambda y, f=f: f(y + y.mT), x, eps=1e-5)
    found = gb.grad(lambda y: projection(y + y.mT))(x).numpy()
    assert np.abs(found).max() < 100
    if np.ptp(np.linalg.eigvalsh(x.numpy())) > 0.5:  # else the space is the whole one and anything splits it
        assert gb.gradcheck(lambda y: projection(y + y.mT), x)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", ["cholesky", "eigh", "eigvalsh"])
def test_the_gradient_of_a_hermitian_matrix_is_hermitian(name: str, dtype: str) -> None:
    x = gb.asarray(np.random.default_rng(6).normal(size=(3, 3))).astype(dtype)
    x = x + gb.asarray(np.triu(np.ones((3, 3))) * (1j if dtype == "complex128" else 1))

    def loss(y: Any) -> Any:
        out = getattr(linalg, name)(y)
        return sum((gb.abs(part) ** 3).sum() for part in (out if isinstance(out, tuple) else (out,)))

    found = gb.grad(loss)(positive(x)).numpy()
    np.testing.assert_allclose(found, np.conj(found.T), rtol=1e-12)


def test_second_gradient_of_a_determinant_of_an_orthogonal_matrix() -> None:
    """All its singular values are equal, which does not matter."""
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    assert gb.gradcheck(gb.grad(linalg.det), gb.asarray(q))


ORDERS = (1, 2, 3, 0.5, 0, -1, -2, float("inf"), -float("inf"))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_norms_at_zero_have_gradient_zero(dtype: str, device: str) -> None:
    warnings.simplefilter("error")
    vector = gb.zeros((2, 3), dtype=dtype)
    for ord in ORDERS:
        first = gb.grad(lambda x, ord=ord: linalg.vector_norm(x, axis=-1, ord=ord).sum())
        np.testing.assert_array_equal(first(vector).numpy(), 0)
        second = gb.grad(lambda x, first=first: gb.real(first(x)).sum())(vector).numpy()
        np.testing.assert_array_equal(second, 0)
    for ord in ("fro", "nuc", 1, -1, 2, -2, float("inf"), -float("inf")):
        found = gb.grad(lambda x, ord=ord: linalg.matrix_norm(x, ord=ord))(vector)
        np.testing.assert_array_equal(found.numpy(), 0)


def test_norms_of_vectors_with_zeros_are_finite() -> None:
    x = gb.tensor([0.0, 3.0, -4.0], dtype="float64")
    np.testing.assert_allclose(gb.grad(linalg.vector_norm)(x).numpy(), [0, 0.6, -0.8], rtol=1e-15)
    for ord in ORDERS:
        found = gb.grad(lambda x, ord=ord: linalg.vector_norm(x, ord=ord))(x).numpy()
        assert np.isfinite(found).all()
        assert found[0] == 0


def test_nuclear_norm_of_a_matrix_of_rank_1() -> None:
    """Its singular values that are 0 add nothing: U V^H of the others."""
    u, v = np.array([[0.6], [0.8]]), np.array([[1.0, 0.0, 0.0]])
    found = gb.grad(lambda x: linalg.matrix_norm(x, ord="nuc"))(gb.asarray(5 * u @ v)).numpy()
    np.testing.assert_allclose(found[:, 0], u[:, 0], atol=1e-15)


def test_gradients_that_there_are_not(device: str) -> None:
    if device == "emulated":
        pytest.skip("NumPy's functions, as on the CPU")
    singular = gb.ones((2, 2), dtype="float64")
    with pytest.raises(linalg.LinAlgError, match=r"inv\(float64\[2, 2\]\): Singular matrix"):
        gb.grad(lambda x: linalg.slogdet(x)[1])(singular)
    with pytest.raises(linalg.LinAlgError, match="solve"):
        gb.grad(lambda x: linalg.qr(x)[1].sum())(gb.zeros((2, 2)))


@pytest.mark.parametrize("name", ["inv", "det", "cholesky", "svdvals", "eigvalsh", "vector_norm", "pinv"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_16_bit_floats_are_rounded_once(name: str, dtype: str) -> None:
    x = gb.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=dtype)
    f = gb.grad(lambda x: (getattr(linalg, name)(x) ** 2).sum())
    wide = gb.grad(lambda x: (getattr(linalg, name)(x).astype(dtype) ** 2).sum())
    found = f(x)
    assert found.dtype == x.dtype
    assert found.tolist() == wide(x.astype("float32")).astype(dtype).tolist()


def test_a_captured_step() -> None:
    """Factorizations record and replay."""
    x = gb.asarray(np.random.default_rng(4).uniform(-1, 1, (3, 3)))
    loss = scalar(Case("", lambda x: (linalg.det(x), *of_svd(apart(x)), gb.fft.rfft(x)), ((3, 3),)))
    step = gb.capture(gb.grad(loss))
    for scale in (1.0, 2.0, 0.5):
        np.testing.assert_allclose(step(x * scale).numpy(), gb.grad(loss)(x * scale).numpy(), rtol=1e-12)
