"""https://data-apis.org/array-api/latest/extensions/linear_algebra_functions.html

`gpu_backprop.linalg`. Matrices are the last two axes; the axes before them are batches, which broadcast. Integers are
taken for numbers of the default float dtype; 16-bit floats are computed in float32, gradients too, and rounded once. A
matrix that has no such inverse or factor raises `LinAlgError`. What a gradient is where a factor is not unique:
ops/decompositions.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import dtypes
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.errors import LinAlgError as LinAlgError
from ..core.tape import without_gradient
from ..core.tensor import Tensor, as_operands, asarray, operand
from ..ops import decompositions, elementwise
from ..ops.movement import concat
from ..ops.reduction import as_choice, as_integer, normalize_axis
from .linear_algebra_functions import *  # noqa: F403  (the standard has them in both namespaces)
from .manipulation_functions import broadcast_shapes

__all__ = [
    *("LinAlgError", "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul"),
    *("matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve"),
    *("svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm"),
]


class EigResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    Q: Tensor
    R: Tensor


class SlogdetResult(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


class SVDResult(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


# ---------------------------------------------------------------------------------------------------------------------
# operands


def _in_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `function` its array operands, those named x, in one float or complex dtype of at least 32 bits a number.

    Results of float32 come back in 16 bits if that is what the operands promote to.
    """
    code = function.__code__
    count = sum(name.startswith("x") for name in code.co_varnames[: code.co_posonlyargcount])

    @functools.wraps(function)
    def run(*operands: Any, **options: Any) -> Any:
        if len(operands) < count:
            return function(*operands, **options)  # which says what is missing
        arrays = _tensors(function.__name__, *operands[:count])
        dtype = _float_dtype(*arrays)
        wide = dtypes.float32 if dtypes.is_half(dtype) else dtype
        result = function(*(x.astype(wide, copy=False) for x in arrays), *operands[count:], **options)
        if wide == dtype:
            return result
        return (
            type(result)(*(_narrow(r, dtype) for r in result)) if isinstance(result, tuple) else _narrow(result, dtype)
        )

    return run


def _tensors(name: str, *operands: Any) -> list[Tensor]:
    return [asarray(x) for x in as_operands(name, operands)]


def _float_dtype(*arrays: Tensor) -> Any:
    dtype = dtypes.result_type(*arrays)
    return dtype if dtypes.is_inexact(dtype) else dtypes.get_default_dtype()


def _narrow(x: Tensor, dtype: Any) -> Tensor:
    return x.astype(dtype) if x.dtype == dtypes.float32 else x


def _matrices(name: str, x: Tensor, square: bool = False) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"{name}: shape {list(x.shape)} is no matrix; give at least two axes")
    if square and x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: the matrices of shape {list(x.shape)} are not square; make the last two axes equal")
    return x


def _square(name: str, x: Tensor) -> Tensor:
    return _matrices(name, x, square=True)


# ---------------------------------------------------------------------------------------------------------------------
# products and diagonals


def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The cross products of vectors of 3 coordinates, which lie along `axis`, counted from the back."""
    x1, x2 = _tensors("cross", x1, x2)
    axis = as_integer("cross", "axis", axis)
    n = min(x1.ndim, x2.ndim)
    if not -n <= axis < 0 or x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ShapeError(
            f"cross: axis {axis} of shapes {list(x1.shape)} and {list(x2.shape)} must be one from the back (negative), "
            "of length 3 in both"
        )
    dtype = dtypes.result_type(x1, x2)
    wide = dtypes.float32 if dtypes.is_half(dtype) else dtype
    after = (slice(None),) * (-1 - axis)
    (a0, a1, a2), (b0, b1, b2) = (
        [x.astype(wide, copy=False)[(..., slice(i, i + 1), *after)] for i in range(3)] for x in (x1, x2)
    )
    parts = (a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0)
    return concat(*parts, axis=parts[0].ndim + axis).astype(dtype, copy=False)


def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """The diagonal `offset` places above the main one (below it when negative), of each matrix; empty if outside."""
    x = _matrices("diagonal", asarray(x))
    m, n = x.shape[-2:]
    offset = as_integer("diagonal", "offset", offset)
    length = max(0, min(m, n - offset) if offset >= 0 else min(m + offset, n))
    start = offset if offset >= 0 else -offset * n
    # one step down and one to the right are n + 1 elements
    places = slice(start, start + (length - 1) * (n + 1) + 1, n + 1) if length else slice(0)
    return x.reshape((*x.shape[:-2], m * n))[..., places]


def trace(x: Tensor, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of diagonals; see `diagonal` for `offset`, and `sum` for `dtype`."""
    return diagonal(_matrices("trace", asarray(x)), offset=offset).sum(axis=-1, dtype=dtype)


def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The products of each element of the vector x1 with each one of x2: shapes (n,) and (m,) give (n, m)."""
    x1, x2 = _tensors("outer", x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"outer: shapes {list(x1.shape)} and {list(x2.shape)} are not both vectors; flatten them")
    return x1[:, None] * x2


def matrix_power(x: Tensor, /, n: int) -> Tensor:
    """Square matrices to an integer power; a negative one is that of the inverse."""
    n = as_integer("matrix_power", "n", n)
    return _power(x, n)


@_in_floats
def _power(x: Tensor, n: int, /) -> Tensor:
    x = _square("matrix_power", x)
    if n == 0:  # on the tape, with a gradient of 0
        return elementwise.where(asarray(False, device=x.device), x, decompositions.identity(x))
    power, n = decompositions.inv(x) if n < 0 else x, abs(n)
    while n % 2 == 0:
        power, n = power @ power, n // 2
    result = power
    while n > 1:
        power, n = power @ power, n // 2
        result = result @ power if n % 2 else result
    return result


# ---------------------------------------------------------------------------------------------------------------------
# determinants, inverses and systems of equations


@_in_floats
def det(x: Tensor, /) -> Tensor:
    """The determinants of square matrices. The gradient is right for singular ones too (it is that of cofactors)."""
    return decompositions.det(_square("det", x))


@_in_floats
def slogdet(x: Tensor, /) -> SlogdetResult:
    """`sign`, of modulus 1 or 0, and `logabsdet`: the determinant is sign * exp(logabsdet), and may be out of range.

    A singular matrix has the sign 0 and logabsdet -inf, and no gradient: LinAlgError.
    """
    return SlogdetResult(*decompositions.slogdet(_square("slogdet", x)))


@_in_floats
def inv(x: Tensor, /) -> Tensor:
    """The inverses of square matrices; LinAlgError for a singular one."""
    return decompositions.inv(_square("inv", x))


@_in_floats
def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """X in x1 X = x2: of shapes (..., M, M) and (..., M, K), or (M,) for one vector beside all matrices.

    LinAlgError for a singular matrix.
    """
    _square("solve", x1)
    is_vector = x2.ndim == 1
    if x2.ndim == 0 or x2.shape[0 if is_vector else -2] != x1.shape[-1]:
        raise ShapeError(
            f"solve: {list(x1.shape)} and {list(x2.shape)}; the right side must be of shape ({x1.shape[-1]},) "
            f"or (..., {x1.shape[-1]}, K)"
        )
    result = decompositions.solve(x1, x2[:, None] if is_vector else x2)
    return result[..., 0] if is_vector else result


def _rtol(x: Tensor, rtol: Any) -> Any:
    """Which part of the largest singular value counts as nothing; by default rounding errors of the dtype of `x`."""
    if rtol is not None:
        return float(rtol) if isinstance(rtol, (int, float)) else operand(rtol, x.device).detach()
    return max(x.shape[-2:]) * dtypes.epsilon(dtypes.real_of(_float_dtype(x)))


def pinv(x: Tensor, /, rcond: Any = None, *, rtol: Any = None) -> Tensor:
    """The Moore-Penrose pseudo-inverses: shape (..., M, N) gives (..., N, M).

    rtol (NumPy's `rcond` too): singular values up to `rtol` times the largest count as 0; a number or an array, one of
        each matrix. By default max(M, N) times the epsilon of the dtype.

    The gradient is that among matrices of the same rank (Golub & Pereyra 1973); where the rank changes there is none.
    """
    x = _matrices("pinv", asarray(x))
    if rcond is not None and rtol is not None:
        raise DataError(f"pinv: rcond={rcond} and rtol={rtol} are one thing; give one of them")
    share = _rtol(x, rcond if rtol is None else rtol)
    if isinstance(share, Tensor) and broadcast_shapes(share.shape, x.shape[:-2]) != x.shape[:-2]:
        raise ShapeError(f"pinv: rtol of shape {list(share.shape)} for {list(x.shape)}; give one number a matrix")
    return _pinv(x, rtol=share)


@_in_floats
def _pinv(x: Tensor, /, *, rtol: Any) -> Tensor:
    return decompositions.pinv(x, rtol)


def matrix_rank(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """How many singular values are above `rtol` times the largest, as `pinv` has it, in int64."""
    given = _matrices("matrix_rank", asarray(x))
    x = given.detach()
    rtol = _rtol(x, rtol)
    values = svdvals(x.astype(dtypes.float32) if dtypes.is_half(x.dtype) else x)
    cutoff = values[..., :1] * (rtol[..., None] if isinstance(rtol, Tensor) else rtol)
    return without_gradient((values > cutoff).sum(axis=-1), given, name="matrix_rank")


# ---------------------------------------------------------------------------------------------------------------------
# factorizations


@_in_floats
def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """Lower triangular L with x = L L^H, or upper triangular U with x = U^H U, of Hermitian positive definite matrices.

    Reads the lower half of x only (the upper one for U); the gradient is Hermitian as x is. LinAlgError where x is not
    positive definite.
    """
    x = _square("cholesky", x)
    if upper:
        return elementwise.conjugate(decompositions.cholesky(elementwise.conjugate(x.mT)).mT)
    return decompositions.cholesky(x)


@_in_floats
def qr(x: Tensor, /, *, mode: str = "reduced") -> QRResult:
    """`Q` with orthonormal columns and upper triangular `R`, whose diagonal is real: x = Q R.

    Shape (..., M, N) gives (..., M, K) and (..., K, N), where K is min(M, N) if mode is "reduced" and M if "complete".
    The gradient needs the first min(M, N) columns of x to be independent: else LinAlgError.
    """
    as_choice("qr", "mode", mode, ("reduced", "complete"))
    return QRResult(*decompositions.qr(_matrices("qr", x), mode=mode))


@_in_floats
def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVDResult:
    """`U`, `S` and `Vh`: x = U diag(S) Vh, with orthonormal columns of U and rows of Vh, and S in descending order.

    Shape (..., M, N) gives (..., M, K), (..., min(M, N)) and (..., L, N), where K and L are M and N with
    `full_matrices`, else min(M, N). A loss must not depend on the choice that equal singular values, the columns that
    full_matrices adds and the phases of complex vectors leave open: the gradient knows nothing of it.
    """
    return SVDResult(*decompositions.svd(_matrices("svd", x), full_matrices=bool(full_matrices)))


@_in_floats
def svdvals(x: Tensor, /) -> Tensor:
    """The singular values in descending order; the gradient is finite for equal ones, and 0 for those that are 0."""
    return decompositions.svdvals(_matrices("svdvals", x))


def _lower(name: str, x: Tensor, half: str) -> Tensor:
    """Hermitian matrices of which the lower half is to be read."""
    if as_choice(name, "UPLO", half, ["L", "U"]) == "U":
        x = elementwise.conjugate(_matrices(name, x).mT)
    return _square(name, x)


@_in_floats
def eigh(x: Tensor, /, UPLO: str = "L") -> EighResult:
    """`eigenvalues` (real, ascending) and `eigenvectors` (orthonormal columns) of Hermitian matrices.

    Reads the lower half of x only ("U" as `UPLO`: the upper); the gradient is Hermitian as x is. A loss must not depend
    on the choice of vectors (their phase, and the basis of those of equal eigenvalues): the gradient knows nothing of
    it.
    """
    return EighResult(*decompositions.eigh(_lower("eigh", x, UPLO)))


@_in_floats
def eigvalsh(x: Tensor, /, UPLO: str = "L") -> Tensor:
    """The real eigenvalues of Hermitian matrices, ascending; equal ones have gradients too. Reads what `eigh` does."""
    return decompositions.eigvalsh(_lower("eigvalsh", x, UPLO))


@_in_floats
def eig(x: Tensor, /) -> EigResult:
    """Complex `eigenvalues` and `eigenvectors` (columns of length 1) of square matrices, in no particular order.

    The gradient needs independent eigenvectors, else LinAlgError; a loss must not depend on the phase of a vector.
    """
    return EigResult(*decompositions.eig(_square("eig", x)))


@_in_floats
def eigvals(x: Tensor, /) -> Tensor:
    """The complex eigenvalues of square matrices, in the order of `eig`."""
    return decompositions.eig(_square("eigvals", x))[0]


# ---------------------------------------------------------------------------------------------------------------------
# norms: all of them 0 at 0, with gradient 0 there


@_in_floats
def vector_norm(x: Tensor, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """(sum |x|^ord)^(1 / ord) over `axis`, for any number `ord`; inf and -inf are max |x| and min |x|, 0 counts."""
    if isinstance(ord, bool) or not isinstance(ord, (int, float)):
        raise DTypeError(f"vector_norm: ord {ord!r} is not a number")
    over = {"axis": axis, "keepdims": keepdims}
    if ord == 2:
        return elementwise.sqrt_of_variance(_square_of_size(x).sum(**over))
    size = elementwise.abs(x)
    if ord == math.inf:
        return _largest(size, **over)
    if ord == -math.inf:
        return size.min(**over)
    if ord == 1:
        return size.sum(**over)
    none = elementwise.equal(size, 0)
    if ord == 0:
        return elementwise.where(none, size, 1).sum(**over)
    # at 0 a power has no slope, or an endless one: such elements and sums get the gradient 0
    powers = elementwise.where(none, 0.0 if ord > 0 else math.inf, elementwise.where(none, 1, size) ** ord)
    total = powers.sum(**over)
    none = elementwise.equal(total, 0)
    root = elementwise.where(none, 1, total) ** (1 / ord)
    return elementwise.where(none, 0.0 if ord > 0 else math.inf, root)


def _square_of_size(x: Tensor) -> Tensor:
    if x.dtype.kind != "c":
        return elementwise.square(x)
    return elementwise.square(elementwise.real(x)) + elementwise.square(elementwise.imag(x))


def _largest(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """The maximum of numbers that are not negative; of none it is 0, as their sum."""
    none = any(x.shape[i] == 0 for i in normalize_axis("max", axis, x.ndim))
    return x.sum(axis=axis, keepdims=keepdims) if none else x.max(axis, keepdims)


_ORDERS = ("fro", None, "nuc", 2, -2, 1, -1, math.inf, -math.inf)


@_in_floats
def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of each matrix, by `ord`: "fro" (or None) that of Frobenius, "nuc" the sum of the singular values, 2 and
    -2 the largest and the smallest one, 1 and -1 the largest and the smallest sum of sizes in a column, inf and -inf in
    a row.
    """
    _matrices("matrix_norm", x)
    if not isinstance(ord, (str, int, float, type(None))) or ord not in _ORDERS:
        raise DataError(f'matrix_norm: ord {ord!r} is unknown; use "fro", "nuc", 1, -1, 2, -2, inf or -inf')
    if ord in ("fro", None):
        result = vector_norm(x, axis=(-2, -1))
    elif ord in ("nuc", 2, -2):
        values = svdvals(x)
        result = values.sum(axis=-1) if ord == "nuc" else _extreme(values, ord)
    else:
        result = _extreme(elementwise.abs(x).sum(axis=-2 if ord in (1, -1) else -1), ord)
    return result[..., None, None] if keepdims else result


def _extreme(x: Tensor, ord: Any) -> Tensor:
    return _largest(x, -1, False) if ord > 0 else x.min(axis=-1)
