"""Factorizations of matrices (the last two axes), and their gradients.

Sources: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008 (inverse, determinant, eigh, singular values); I. Murray, "Differentiation of the Cholesky
decomposition", arXiv:1602.07527; M. Seeger et al., "Auto-differentiating linear algebra", arXiv:1710.08717 (QR);
J. Townsend, "Differentiating the singular value decomposition", 2016, and Z.-Q. Wan & S.-X. Zhang, "Automatic
differentiation for complex valued SVD", arXiv:1909.02659; G. Golub & V. Pereyra, "The differentiation of
pseudo-inverses and nonlinear least squares problems", 1973; C. Boeddeker et al., "On the computation of complex-valued
gradients", arXiv:1701.00392 (eig). Below A is the matrix and G the adjoint of a result as these papers have it, with
dL = Re tr(G^H dA): the conjugate of the engine's `g`. Rules that conjugate do so to pass from one to the other.

Where a factor is not unique, its gradient is that of a loss that does not depend on the choice:
- Of equal eigenvalues or singular values (as near as EQUAL says) any basis of their space will do, and the gradient
  takes it for fixed: right for losses of the values and of projections on whole spaces, and always finite.
  (Not for a function of the matrix, as V f(w) V^H: its derivative there is f'(w), which no pair of vectors shows.)
- The columns that full_matrices=True or mode="complete" adds may be any basis of the rest.
- A column of complex vectors may be turned by any phase.
A singular value is taken for one that cannot turn negative: at 0 its gradient is 0, as that of abs is.
"""

from __future__ import annotations

from typing import Any

from ..core.dtypes import epsilon
from .elementwise import abs, conjugate, less_equal, sign, where
from .linalg import mT
from .movement import concat, tril
from .primitive import Primitive
from .reduction import prod_of_others

EQUAL = 8  # units in the last place of the largest


def _H(x: Any) -> Any:
    """The conjugate transpose."""
    return conjugate(mT(x))


def _diagonal(x: Any) -> Any:
    """Matrices with the vectors x on their diagonals."""
    return x[..., None, :] * identity(x)


def _inverse(x: Any, largest: Any) -> Any:
    """1 / x, and 0 where x is next to nothing beside `largest`."""
    nothing = less_equal(abs(x), largest * (EQUAL * epsilon(largest.dtype)))
    return where(nothing, 0, 1 / where(nothing, 1, x))


def _largest(x: Any) -> Any:
    """max |x| of each vector, as a matrix of one element."""
    return abs(x).max(axis=-1, keepdims=True)[..., None] if x.size else x[..., None]


def _inverse_gaps(x: Any) -> Any:
    """1 / (x_j - x_i) in row i and column j, and 0 where the two are equal."""
    return _inverse(x[..., None, :] - x[..., :, None], _largest(x))


# determinants, inverses and systems of equations ----------------------------------------------------------------------


def _pull_cofactor(g: Any, x: Any) -> Any:
    """The derivative of cofactors, by products of all singular values but two: right for any rank.

    With A = U S V^H, cof(A + dA) = c conj(U) cof(S + P) conj(V^H), where P = U^H dA V and c = det(U V^H). To first
    order cof_ii = sum_k E_ik P_kk and cof_ij = -E_ij P_ji, with E_ij (E_ii = 0) the product of all s but s_i and s_j.
    """
    U, S, Vh = svd(x, full_matrices=False)
    eye = identity(S)
    E = prod_of_others(S[..., None, :] * (1 - eye) + eye, axis=(S.ndim,)) * (1 - eye)
    N = _H(U) @ g @ _H(Vh)
    on_diagonal = (E @ (N * identity(N)).sum(axis=-1)[..., None])[..., 0]
    inner = _diagonal(on_diagonal) - E * mT(N)
    return (det(U) * det(Vh))[..., None, None] * (conjugate(U) @ inner @ conjugate(Vh))


def _pull_pinv(g: Any, x: Any, out: Any) -> Any:
    """Golub & Pereyra's, which is that among matrices of the same rank: what rtol cut off stays zero."""
    Gh, Ph = mT(g), _H(out)
    left, right = (Gh @ out) @ Ph, Ph @ (out @ Gh)
    return conjugate(left - x @ (out @ left) + right - (right @ out) @ x - Ph @ _H(Gh) @ Ph)


def _pull_slogdet(g: Any, x: Any, out: Any) -> Any:
    """d log det A = tr(A^-1 dA). Its real part is that of logabsdet; its imaginary part, times i sign, that of sign."""
    to_sign, scale = g
    if x.dtype.kind == "c":
        turn = to_sign * out[0]
        scale = scale + (turn - conjugate(turn)) * 0.5
    return scale[..., None, None] * mT(inv(x))


# det A A^-T, which singular matrices have too
cofactor = Primitive("cofactor", "x", _pull_cofactor)
det = Primitive("det", "x", lambda g, x: g[..., None, None] * cofactor(x))
inv = Primitive("inv", "x", lambda g, out: -(mT(out) @ g @ mT(out)))
pinv = Primitive("pinv", "x rtol", _pull_pinv, None)
slogdet = Primitive("slogdet", "x", _pull_slogdet)
solve = Primitive(
    "solve", "a b",
    lambda g, out: -(g @ mT(out)),
    lambda g: g,
    before=lambda g, a: solve(mT(a), g),
    promotes="same",
)  # fmt: skip

# triangular factors ---------------------------------------------------------------------------------------------------


def _lower_half(x: Any) -> Any:
    """What lies below the diagonal, and half of the diagonal."""
    return (tril(x, k=0) + tril(x, k=-1)) * 0.5


def _pull_cholesky(g: Any, out: Any) -> Any:
    """Murray's, made Hermitian: the input is, though only its lower half is read."""
    Lh = _H(out)
    half = _lower_half(Lh @ conjugate(g))
    left = solve(Lh, half + _H(half))
    return mT(solve(Lh, _H(left))) * 0.5


def _pull_qr(g: Any, out: Any, mode: str) -> Any:
    """Seeger et al.'s, for full column rank. A wide matrix is [A1 A2] = Q [R1 R2], where R2 = Q^H A2."""
    (Q, R), (G, G_R) = out, map(conjugate, g)
    m, n = Q.shape[-2], R.shape[-1]
    if m > n and mode == "complete":  # the columns that were added turn with the others, to stay orthogonal to them
        Q, added, G, G_added = Q[..., :n], Q[..., n:], G[..., :n], G[..., n:]
        G = G - added @ (_H(G_added) @ Q)
        R, G_R = R[..., :n, :], G_R[..., :n, :]
    if m < n:
        G = G + Q @ (R[..., m:] @ _H(G_R[..., m:]))
    R1 = R[..., :m]
    half = _lower_half(R1 @ _H(G_R[..., :m]) - _H(G) @ Q)
    first = mT(solve(R1, _H(G + Q @ (half + _H(half)))))
    return concat(first, conjugate(Q @ G_R[..., m:]), axis=first.ndim - 1) if m < n else first


cholesky = Primitive("cholesky", "x", _pull_cholesky)
qr = Primitive("qr", "x", _pull_qr)

# eigenvalues and singular values --------------------------------------------------------------------------------------


def _pull_eigh(g: Any, out: Any) -> Any:
    """Giles', made Hermitian: the input is, though only its lower half is read."""
    w, V = out
    inner = _diagonal(g[0]) + _inverse_gaps(w) * (_H(V) @ conjugate(g[1]))
    return conjugate(V @ ((inner + _H(inner)) * 0.5) @ _H(V))


def _pull_eigvalsh(g: Any, x: Any) -> Any:
    V = eigh(x)[1]
    return conjugate((V * g[..., None, :]) @ _H(V))


def _pull_eig(g: Any, out: Any) -> Any:
    """Boeddeker et al.'s eq. 4.77, with eigenvectors of length 1: what would change it is taken away."""
    w, V = out
    Vh = _H(V)
    M = Vh @ conjugate(g[1])
    M_ii = M * identity(M)
    inner = conjugate(_inverse_gaps(w)) * (M - Vh @ V @ (M_ii + conjugate(M_ii)) * 0.5) + _diagonal(conjugate(g[0]))
    return conjugate(solve(Vh, inner @ Vh))


def _pull_svd(g: Any, out: Any, full_matrices: bool) -> Any:
    """Wan & Zhang's for distinct singular values, and Townsend's terms of the kernels of A and A^H."""
    U, S, Vh = out
    V, G_U, G_V = _H(Vh), conjugate(g[0]), mT(g[2])
    m, n, k = U.shape[-2], V.shape[-2], S.shape[-1]
    (U, U_added), (V, V_added), (G_U, G_U_added), (G_V, G_V_added) = (
        (x[..., :k], x[..., k:]) for x in (U, V, G_U, G_V)
    )
    largest = _largest(S)
    turn_U, turn_V = _H(U) @ G_U, _H(V) @ G_V
    row, column = S[..., None, :], S[..., :, None]
    F = _inverse_gaps(S) * _inverse(row + column, largest)
    inverse = _inverse(row, largest)
    inner = (turn_U - _H(turn_U)) * F * row + column * (F * (turn_V - _H(turn_V))) + _diagonal(g[1] * sign(S))
    if U.dtype.kind == "c":  # the phases of U and V turn against each other
        inner = inner + (turn_U - _H(turn_U)) * identity(S) * inverse * 0.5
    left = U @ inner
    if m > k:
        rest = G_U - U @ turn_U
        if full_matrices:
            rest = rest - U_added @ (_H(G_U_added) @ U)
        left = left + rest * inverse
    result = left @ _H(V)
    if n > k:
        rest = G_V - V @ turn_V
        if full_matrices:
            rest = rest - V_added @ (_H(G_V_added) @ V)
        result = result + U @ _H(rest * inverse)
    return conjugate(result)


def _pull_svdvals(g: Any, x: Any) -> Any:
    U, S, Vh = svd(x, full_matrices=False)
    return conjugate((U * (g * sign(S))[..., None, :]) @ Vh)


eig = Primitive("eig", "x", _pull_eig)
eigh = Primitive("eigh", "x", _pull_eigh)
eigvalsh = Primitive("eigvalsh", "x", _pull_eigvalsh)
svd = Primitive("svd", "x", _pull_svd)
svdvals = Primitive("svdvals", "x", _pull_svdvals)

# for the rules --------------------------------------------------------------------------------------------------------

identity = Primitive("identity", "x")  # (n, n), for x of shape (..., n)
