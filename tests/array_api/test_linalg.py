"""The linalg extension against NumPy in float64: values, shapes without elements, dtypes, errors."""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpu_backprop as gb
from gpu_backprop.backends import generic_linalg
from gpu_backprop.core import dtypes

linalg = gb.array_api.linalg  # gb.linalg has NumPy's names beside it
INF = float("inf")

SIGNATURES = """
cholesky(x, /, *, upper=False)
cross(x1, x2, /, *, axis=-1)
det(x, /)
diagonal(x, /, *, offset=0)
eig(x, /)
eigh(x, /, UPLO='L')
eigvals(x, /)
eigvalsh(x, /, UPLO='L')
inv(x, /)
matmul(x1, x2, /)
matrix_norm(x, /, *, keepdims=False, ord='fro')
matrix_power(x, /, n)
matrix_rank(x, /, *, rtol=None)
matrix_transpose(x, /)
outer(x1, x2, /)
pinv(x, /, rcond=None, *, rtol=None)
qr(x, /, *, mode='reduced')
slogdet(x, /)
solve(x1, x2, /)
svd(x, /, *, full_matrices=True)
svdvals(x, /)
tensordot(x1, x2, /, axes=2)
trace(x, /, *, offset=0, dtype=None)
vecdot(x1, x2, /, *, axis=-1)
vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
"""


def signature(function: Any) -> str:
    """Names, kinds and defaults of the parameters."""
    parameters = inspect.signature(function).parameters.values()
    return f"{function.__name__}{inspect.Signature([p.replace(annotation=p.empty) for p in parameters])}"


def test_names_and_signatures_of_the_standard() -> None:
    names = [line.partition("(")[0] for line in SIGNATURES.split("\n") if line]
    assert "\n".join(signature(getattr(linalg, name)) for name in names) == SIGNATURES.strip()
    assert sorted(linalg.__all__) == sorted([*names, "LinAlgError"])
    for name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):
        assert getattr(linalg, name) is getattr(gb, name)


# values --------------------------------------------------------------------------------------------------------------

SQUARES = ((3, 3), (2, 3, 3), (2, 1, 2, 2), (1, 1), (0, 0), (2, 0, 0), (0, 2, 2))
MATRICES = (*SQUARES, (4, 2), (2, 4), (2, 4, 3), (0, 3), (3, 0), (2, 0, 3), (0, 3, 2))


def numbers(shape: tuple[int, ...], kind: str = "real", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    x = random.uniform(-1, 1, shape)
    return x if kind == "real" else x + 1j * random.uniform(-1, 1, shape)


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


def hermitian(x: np.ndarray) -> np.ndarray:
    return x + adjoint(x)


def positive(x: np.ndarray) -> np.ndarray:
    return x @ adjoint(x) + np.eye(x.shape[-1])


def check(found: gb.Tensor, expected: Any, digits: float = 1e-12) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=digits, atol=digits, strict=True)


OF_SQUARES = {
    "det": (linalg.det, np.linalg.det, None),
    "inv": (linalg.inv, np.linalg.inv, None),
    "slogdet sign": (lambda x: linalg.slogdet(x).sign, lambda x: np.linalg.slogdet(x).sign, None),
    "slogdet": (lambda x: linalg.slogdet(x).logabsdet, lambda x: np.linalg.slogdet(x).logabsdet, None),
    "cholesky": (linalg.cholesky, np.linalg.cholesky, positive),
    "cholesky upper": (
        lambda x: linalg.cholesky(x, upper=True),
        lambda x: np.linalg.cholesky(x, upper=True),
        positive,
    ),
    "eigvalsh": (linalg.eigvalsh, np.linalg.eigvalsh, hermitian),
    **{
        f"power {n}": (lambda x, n=n: linalg.matrix_power(x, n), lambda x, n=n: np.linalg.matrix_power(x, n), None)
        for n in (0, 1, 2, 3, 5, 8, 11, -1, -3)
    },
}  # fmt: skip
OF_MATRICES = {
    "pinv": (linalg.pinv, np.linalg.pinv),
    "pinv rtol": (lambda x: linalg.pinv(x, rtol=0.5), lambda x: np.linalg.pinv(x, rtol=0.5)),
    "matrix_rank": (linalg.matrix_rank, np.linalg.matrix_rank),
    "matrix_rank rtol": (lambda x: linalg.matrix_rank(x, rtol=0.5), lambda x: np.linalg.matrix_rank(x, rtol=0.5)),
    "svdvals": (linalg.svdvals, np.linalg.svdvals),
    "matrix_transpose": (linalg.matrix_transpose, np.linalg.matrix_transpose),
    **{
        f"diagonal {k}": (lambda x, k=k: linalg.diagonal(x, offset=k), lambda x, k=k: np.linalg.diagonal(x, offset=k))
        for k in (0, 1, -1, 2, -3, 9, -9)
    },
    **{
        f"trace {k}": (lambda x, k=k: linalg.trace(x, offset=k), lambda x, k=k: np.linalg.trace(x, offset=k))
        for k in (0, 1, -2, 9)
    },
    **{
        f"matrix_norm {ord}": (
            lambda x, ord=ord: linalg.matrix_norm(x, ord=ord, keepdims=ord in (2, "fro")),
            lambda x, ord=ord: np.linalg.matrix_norm(x, ord=ord, keepdims=ord in (2, "fro")),
        )
        for ord in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)
    },
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", ["real", "complex"])


@kinds
@pytest.mark.parametrize("name", OF_SQUARES)
def test_of_square_matrices(name: str, kind: str, device: str) -> None:
    ours, numpys, prepare = OF_SQUARES[name]
    for shape in SQUARES:
        x = numbers(shape, kind) + 2 * np.eye(shape[-1])
        x = prepare(x) if prepare else x
        check(ours(gb.asarray(x)), numpys(x))


@kinds
@pytest.mark.parametrize("name", OF_MATRICES)
def test_of_matrices(name: str, kind: str, device: str) -> None:
    ours, numpys = OF_MATRICES[name]
    for shape in MATRICES:
        x = numbers(shape, kind)
        try:
            expected = numpys(x)
        except ValueError:
            with pytest.raises(gb.ShapeError):
                ours(gb.asarray(x))
            continue
        check(ours(gb.asarray(x)), expected)


@kinds
def test_factors(kind: str, device: str) -> None:
    """Of the right shapes and kinds, and their product is the matrix."""
    for shape in MATRICES:
        x = numbers(shape, kind)
        *batch, m, n = shape
        k = min(m, n)
        for mode, full in (("reduced", False), ("complete", True)):
            q, r = (part.numpy() for part in linalg.qr(gb.asarray(x), mode=mode))
            u, s, vh = (part.numpy() for part in linalg.svd(gb.asarray(x), full_matrices=full))
            assert q.shape == u.shape == (*batch, m, m if full else k)
            assert r.shape == (*batch, m if full else k, n)
            assert vh.shape == (*batch, n if full else k, n)
            assert (q.dtype, r.dtype, u.dtype, s.dtype, vh.dtype) == (*[x.dtype] * 3, np.float64, x.dtype)
            np.testing.assert_allclose(q @ r, x, atol=1e-14)
            np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], x, atol=1e-14)
            np.testing.assert_array_equal(r, np.triu(r))
            np.testing.assert_array_equal(np.diagonal(r, axis1=-2, axis2=-1).imag, 0)
            np.testing.assert_array_less(-1e-30, s[..., :-1] - s[..., 1:])
            for columns in (q, u, adjoint(vh)):
                eye = np.broadcast_to(np.eye(columns.shape[-1]), (*batch, *[columns.shape[-1]] * 2))
                np.testing.assert_allclose(adjoint(columns) @ columns, eye, atol=1e-14)


@kinds
def test_eigenvectors(kind: str, device: str) -> None:
    for shape in SQUARES:
        x = numbers(shape, kind)
        w, v = (part.numpy() for part in linalg.eigh(gb.asarray(hermitian(x))))
        assert (w.dtype, v.dtype) == (np.float64, x.dtype)
        np.testing.assert_allclose(hermitian(x) @ v, v * w[..., None, :], atol=1e-13)
        np.testing.assert_allclose(adjoint(v) @ v, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-13)
        for result in (linalg.eig(gb.asarray(x)), linalg.eig(gb.asarray(hermitian(x)))):
            w, v = (part.numpy() for part in result)
            assert w.dtype == v.dtype == np.complex128
        w, v = (part.numpy() for part in linalg.eig(gb.asarray(x)))
        np.testing.assert_allclose(x @ v, v * w[..., None, :], atol=1e-13)
        np.testing.assert_allclose(np.linalg.norm(v, axis=-2), 1, atol=1e-13)
        check(linalg.eigvals(gb.asarray(x)), w)


@kinds
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 3), (3,)),
        ((2, 3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((2, 3, 3), (3, 2)),
        ((2, 1, 3, 3), (4, 3, 1)),
        ((3, 3), (2, 3, 0)),
        ((0, 0), (0,)),
        ((0, 0), (0, 2)),
        ((0, 2, 2), (2,)),
        ((2, 2, 2), (2, 2)),
    ],
)
def test_solve(a: tuple[int, ...], b: tuple[int, ...], kind: str, device: str) -> None:
    x, y = numbers(a, kind), numbers(b)
    check(linalg.solve(gb.asarray(x), gb.asarray(y)), np.linalg.solve(x, y))


@kinds
def test_products(kind: str, device: str) -> None:
    for a, b, axis in (((3,), (3,), -1), ((2, 3), (3,), -1), ((3, 2), (4, 3, 1), -2), ((0, 3), (3,), -1)):
        x, y = numbers(a, kind), numbers(b, kind, 1)
        expected = np.sum(np.conj(x) * y, axis=axis)
        check(linalg.vecdot(gb.asarray(x), gb.asarray(y), axis=axis), expected)
        expected = np.linalg.cross(*np.broadcast_arrays(x, y), axis=axis)
        check(linalg.cross(gb.asarray(x), gb.asarray(y), axis=axis), expected)
    x, y = numbers((3,), kind), numbers((0,), kind)
    check(linalg.outer(gb.asarray(x), gb.asarray(x)), np.outer(x, x))
    check(linalg.outer(gb.asarray(x), gb.asarray(y)), np.outer(x, y))
    x, y = numbers((2, 3, 4), kind), numbers((4, 3, 2), kind)
    for axes in (0, 1, ((0, -2), (2, 1)), ([2], [0]), (0, 2)):
        check(linalg.tensordot(gb.asarray(x), gb.asarray(y), axes=axes), np.tensordot(x, y, axes=axes))


def test_integers_keep_their_dtypes(device: str) -> None:
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    for ours, expected in (
        (linalg.vecdot(gb.asarray(x), gb.asarray(x)), np.linalg.vecdot(x, x)),
        (linalg.cross(gb.asarray(x), gb.asarray(x[0])), np.linalg.cross(x, x[0])),
        (linalg.outer(gb.asarray(x[0]), gb.asarray(x[1])), np.linalg.outer(x[0], x[1])),
        (linalg.diagonal(gb.asarray(x)), np.linalg.diagonal(x)),
        (linalg.trace(gb.asarray(x)), np.linalg.trace(x)),
        (linalg.trace(gb.asarray(x), dtype=gb.float64), np.linalg.trace(x, dtype=np.float64)),
        (linalg.matmul(gb.asarray(x), gb.asarray(x.T)), x @ x.T),
    ):
        np.testing.assert_array_equal(ours.numpy(), expected, strict=True)
    assert linalg.inv(gb.asarray(np.eye(2, dtype=int))).dtype == gb.get_default_dtype()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-3, 3)),
    st.sampled_from([1, 2, 3, 0, -1, -2, 0.5, 2.5, -1.5, INF, -INF]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_vector_norm(x: np.ndarray, ord: float, keepdims: bool, is_complex: bool, data: st.DataObject) -> None:
    axes = st.lists(st.integers(-x.ndim, x.ndim - 1), min_size=1, unique_by=lambda a: a % x.ndim).map(tuple)
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1) | axes)
    z = x * (1 - 2j) if is_complex else x
    with np.errstate(all="ignore"):
        expected = np.linalg.vector_norm(z, axis=axis, keepdims=keepdims, ord=ord)
    found = linalg.vector_norm(gb.asarray(z), axis=axis, keepdims=keepdims, ord=ord).numpy()
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-12, strict=True)


def test_vector_norm_of_nothing_and_of_special_values(device: str) -> None:
    for values in ([], [np.nan, 1.0], [np.inf, 1.0], [0.0, 1.0]):
        x = np.array(values)
        for ord in (1, 2, 3, 0, 0.5, -1, -2, INF, -INF):
            if not values and ord == -INF:
                with pytest.raises(gb.ShapeError):
                    linalg.vector_norm(gb.asarray(x), ord=ord)
                continue
            with np.errstate(all="ignore"):
                expected = np.linalg.vector_norm(x, ord=ord)
            np.testing.assert_allclose(linalg.vector_norm(gb.asarray(x), ord=ord).numpy(), expected, rtol=1e-14)


def test_tolerances_of_each_matrix(device: str) -> None:
    x = np.stack([np.diag([1.0, 0.1, 0.01])] * 2)
    rtol = gb.tensor([0.05, 0.5], dtype="float64")
    assert linalg.matrix_rank(gb.asarray(x), rtol=rtol).tolist() == [2, 1]
    check(linalg.pinv(gb.asarray(x), rtol=rtol), np.stack([np.diag([1.0, 10, 0]), np.diag([1.0, 0, 0])]))
    check(linalg.pinv(gb.asarray(x), rtol=rtol.tolist()), linalg.pinv(gb.asarray(x), rtol=rtol).numpy())
    almost = gb.tensor(np.diag([1.0, 2.0**-8]))  # as far apart as numbers that bfloat16 takes for equal
    ranks = {dtype: linalg.matrix_rank(almost.astype(dtype)).item() for dtype in ("bfloat16", "float16", "float32")}
    assert ranks == {"bfloat16": 1, "float16": 2, "float32": 2}
    assert linalg.matrix_rank(almost**5).item() == 2
    assert linalg.matrix_rank((almost**5).astype("complex64")).item() == 1


# dtypes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "complex64"])
def test_results_are_rounded_once(dtype: str, device: str) -> None:
    x = gb.asarray(positive(numbers((3, 3)))).astype(dtype)
    exact = x.numpy().astype(np.complex128 if dtype == "complex64" else np.float64)
    real = {"complex64": "float32"}.get(dtype, dtype)
    widest = "complex64" if dtype in ("float16", "bfloat16", "float32") else dtype
    tolerance = max(dtypes.epsilon(np.dtype(real) if real != "bfloat16" else dtypes.bfloat16()), 1e-5)
    for found, expected, wanted in (
        (linalg.det(x), np.linalg.det(exact), dtype),
        (linalg.inv(x), np.linalg.inv(exact), dtype),
        (linalg.solve(x, x), np.linalg.solve(exact, exact), dtype),
        (linalg.cholesky(x), np.linalg.cholesky(exact), dtype),
        (linalg.slogdet(x).logabsdet, np.linalg.slogdet(exact)[1], real),
        (linalg.slogdet(x).sign, np.linalg.slogdet(exact)[0], dtype),
        (linalg.eigh(x).eigenvalues, np.linalg.eigvalsh(exact), real),
        (linalg.eigvalsh(x), np.linalg.eigvalsh(exact), real),
        (linalg.svd(x).S, np.linalg.svdvals(exact), real),
        (linalg.svdvals(x), np.linalg.svdvals(exact), real),
        (linalg.pinv(x), np.linalg.pinv(exact), dtype),
        (linalg.matrix_power(x, 3), np.linalg.matrix_power(exact, 3), dtype),
        (linalg.matrix_norm(x), np.linalg.matrix_norm(exact), real),
        (linalg.vector_norm(x, ord=3), np.linalg.vector_norm(exact, ord=3), real),
        (linalg.cross(x, x[0]), np.linalg.cross(exact, exact[0]), dtype),
        (linalg.trace(x), np.trace(exact), dtype),
    ):
        assert found.dtype.name == wanted
        expected = np.asarray(expected)
        np.testing.assert_allclose(
            found.numpy().astype(expected.dtype), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max() / 8
        )
    assert linalg.eig(x).eigenvectors.dtype.name == linalg.eigvals(x).dtype.name == widest
    for part in (*linalg.qr(x), linalg.svd(x).U, linalg.svd(x).Vh, linalg.eigh(x).eigenvectors):
        assert part.dtype.name == dtype


def test_operands_promote() -> None:
    half, brain, single = (gb.eye(2, dtype=d) for d in ("float16", "bfloat16", "float32"))
    assert linalg.solve(half, brain).dtype == gb.float32
    assert linalg.solve(single, gb.eye(2, dtype="complex128")).dtype == gb.complex128
    assert linalg.solve(half, gb.ones(2, dtype="int32")).dtype == gb.float16 or gb.float64


# errors --------------------------------------------------------------------------------------------------------------


def test_matrices_that_have_no_such_factor() -> None:
    singular = gb.ones((2, 2))
    for call, message in (
        (lambda: linalg.inv(singular), r"inv\(float32\[2, 2\]\): Singular matrix; gb\.linalg\.pinv"),
        (lambda: linalg.matrix_power(singular, -1), "Singular matrix"),
        (lambda: linalg.solve(singular, gb.ones(2)), r"solve\(float32\[2, 2\], float32\[2, 1\]\): Singular matrix"),
        (lambda: linalg.cholesky(-singular), "cholesky.* not positive definite; its eigenvalues must be positive"),
        (lambda: linalg.svd(singular * gb.nan), "svd.* did not converge; look for NaN"),
    ):
        for error in (linalg.LinAlgError, np.linalg.LinAlgError, gb.DataError):
            with pytest.raises(error, match=message):
                call()


def test_operands_that_do_not_fit() -> None:
    matrix, wide, vector = gb.eye(2), gb.ones((2, 3)), gb.ones(3)
    for call, error, message in (
        (lambda: linalg.det(wide), gb.ShapeError, r"det: .*\[2, 3\] are not square"),
        (lambda: linalg.cholesky(vector), gb.ShapeError, r"cholesky: shape \[3\] is no matrix"),
        (lambda: linalg.pinv(vector), gb.ShapeError, "pinv: .* no matrix"),
        (lambda: linalg.trace(vector), gb.ShapeError, "trace: .* no matrix"),
        (lambda: linalg.matrix_norm(vector), gb.ShapeError, "matrix_norm: .* no matrix"),
        (lambda: linalg.solve(matrix, vector), gb.ShapeError, r"solve: .*\(2,\) or \(\.\.\., 2, K\)"),
        (lambda: linalg.solve(matrix, gb.ones(())), gb.ShapeError, "solve"),
        (lambda: linalg.solve(gb.ones((2, 3, 2, 2)), gb.ones((2, 2, 1))), gb.ShapeError, "solve.*broadcast"),
        (lambda: linalg.cross(matrix, matrix), gb.ShapeError, "cross: axis -1 .* of length 3"),
        (lambda: linalg.cross(vector, vector, axis=0), gb.ShapeError, "cross: axis 0 .*negative"),
        (lambda: linalg.outer(vector, matrix), gb.ShapeError, "outer: .* not both vectors"),
        (lambda: linalg.qr(matrix, mode="full"), gb.DataError, "qr: mode='full'; use 'reduced'"),
        (lambda: linalg.matrix_norm(matrix, ord=3), gb.DataError, "matrix_norm: ord 3 is unknown"),
        (lambda: linalg.vector_norm(vector, ord="fro"), gb.DTypeError, "vector_norm: ord 'fro' is not a number"),
        (lambda: linalg.vector_norm(vector, axis=1), gb.ShapeError, "axis 1"),
        (lambda: linalg.matrix_power(matrix, 0.5), gb.DTypeError, "matrix_power: n 0.5"),
        (lambda: linalg.tensordot(matrix, matrix, axes=((0,), (0, 1))), gb.ShapeError, "tensordot: axes"),
        (lambda: linalg.tensordot(matrix, matrix, axes="ab"), gb.DTypeError, "tensordot: axes 'ab'"),
        (lambda: linalg.inv("text"), gb.DTypeError, "inv: "),
        (lambda: linalg.inv(), TypeError, "missing 1 required positional argument"),
        (lambda: linalg.solve(matrix), TypeError, "missing 1 required positional argument"),
    ):
        with pytest.raises(error, match=message):
            call()


# where CuPy differs --------------------------------------------------------------------------------------------------


class LikeCupy:
    """NumPy with what CuPy has not: no broadcasting in solve, no transforms without elements, errors only if wanted."""

    def __init__(self) -> None:
        self.wanted = False
        self.linalg = types.SimpleNamespace(
            **{name: getattr(np.linalg, name) for name in ("inv", "det", "svd")}, solve=self.solve, qr=np.linalg.qr,
            cholesky=self.cholesky, eig=self.eig,
        )  # fmt: skip
        self.fft = types.SimpleNamespace(
            **{name: self.with_elements(getattr(np.fft, name)) for name in ("fftn", "ifftn", "rfftn", "irfft")}
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @contextlib.contextmanager
    def errstate(self, linalg: str) -> Any:
        self.wanted = linalg == "raise"
        yield
        self.wanted = False

    def eig(self, x: np.ndarray) -> None:
        raise RuntimeError("geev is not available")

    def asnumpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def solve(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        assert a.shape[:-1] == b.shape[:-1]
        return np.linalg.solve(a, b)

    def cholesky(self, x: np.ndarray) -> np.ndarray:
        try:
            return np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            if self.wanted:
                raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER. devInfo = [1].") from None
            return x * np.nan

    def with_elements(self, function: Any) -> Any:
        def run(x: np.ndarray, *args: Any, **options: Any) -> np.ndarray:
            assert x.size
            return function(x, *args, **options)

        return run


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    xp = LikeCupy()
    monkeypatch.setitem(sys.modules, "cupyx", xp)
    return generic_linalg.table(xp)


def test_every_function_is_of_a_library(functions: dict[str, Any]) -> None:
    assert {*generic_linalg.FACTORIZATIONS, *generic_linalg.TRANSFORMS, "identity"} == set(functions)


def test_what_cupy_leaves_to_us(functions: dict[str, Any]) -> None:
    with pytest.raises(np.linalg.LinAlgError, match="Matrix is not positive definite"):
        functions["cholesky"](-np.eye(2))
    a, b = numbers((2, 1, 3, 3)), numbers((4, 3, 2))
    np.testing.assert_allclose(functions["solve"](a, b), np.linalg.solve(a, b), rtol=1e-12)
    for mode in ("reduced", "complete"):
        for shape in ((4, 2), (2, 4), (2, 3, 3)):
            z = numbers(shape, "complex")
            q, r = functions["qr"](z, mode=mode)
            np.testing.assert_allclose(np.diagonal(r, axis1=-2, axis2=-1).imag, 0, atol=1e-15)
            np.testing.assert_allclose(q @ r, z, atol=1e-14)
            np.testing.assert_allclose(
                adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*shape[:-2], *[q.shape[-1]] * 2)), atol=1e-14
            )
    q, r = functions["qr"](np.zeros((2, 2), complex), mode="reduced")
    assert np.isfinite(q).all()
    w, v = functions["eig"](a)
    np.testing.assert_allclose(a @ v, v * w[..., None, :], atol=1e-14)
    nothing = np.zeros((0, 4))
    for name, options, shape in (
        ("fft", {}, (0, 4)), ("ifft", {}, (0, 4)), ("rfft", {}, (0, 3)), ("irfft", {"n": 6}, (0, 6))
    ):  # fmt: skip
        assert functions[name](nothing, axes=(1,), norm="ortho", **options).shape == shape


@pytest.mark.parametrize("name", ["svd", "svdvals", "pinv", "matrix_rank"])
def test_singular_values_of_infinities(name: str) -> None:
    """LAPACK's iteration does not come to an end on this matrix."""
    x = gb.asarray([[0.0, 100.0, 3.0], [-math.inf, 3.0, 2.5], [0.0, 3.0, 100.0]], dtype="float64")
    with pytest.raises(gb.GpuBackpropError, match="did not converge"):
        getattr(gb.linalg, name)(x)
