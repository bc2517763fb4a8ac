"""Factorizations and Fourier transforms over any array module, alike on NumPy and CuPy.

CuPy reports what cuSOLVER did not manage (a matrix that is singular, or not positive definite) only if told to, takes
no broadcasting in `solve`, and fails on some arrays without elements; its pseudo-inverses are computed here, as NumPy's
are. Matrices are the last two axes, of a float or complex dtype of at least 32 bits a number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

# Names of primitives: those that cuSOLVER computes, and those that cuFFT does.
FACTORIZATIONS = (
    *("cholesky", "cofactor", "det", "eig", "eigh", "eigvalsh", "inv", "pinv", "qr", "slogdet", "solve", "svd"),
    "svdvals",
)
TRANSFORMS = ("fft", "ifft", "rfft", "irfft")
# NumPy's words; CuPy has cuSOLVER's error number
_FAILURES = {
    "cholesky": "Matrix is not positive definite",
    **dict.fromkeys(("inv", "solve"), "Singular matrix"),
    **dict.fromkeys(("eig", "eigh", "eigvalsh"), "Eigenvalues did not converge"),
    **dict.fromkeys(("svd", "svdvals", "pinv", "cofactor"), "SVD did not converge"),
}


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of CuPy's, with failures as errors of NumPy's. To see them it waits for the device."""

    @functools.wraps(function)
    def run(*arrays: Any, **attrs: Any) -> Any:
        import cupyx

        with cupyx.errstate(linalg="raise"):
            try:
                return function(*arrays, **attrs)
            except np.linalg.LinAlgError as error:
                raise np.linalg.LinAlgError(_FAILURES.get(function.__name__, str(error))) from None

    return run


def table(xp: Any) -> dict[str, Callable[..., Any]]:
    """Primitive name -> function over arrays of `xp`, for ops/decompositions.py and ops/fft.py."""

    def adjoint(x):
        return xp.conj(xp.swapaxes(x, -1, -2))

    def identity(x):
        return xp.eye(x.shape[-1], dtype=x.dtype)

    def cholesky(x):
        return xp.linalg.cholesky(x)

    def det(x):
        return xp.linalg.det(x)

    def slogdet(x):
        return tuple(xp.linalg.slogdet(x))

    def singular(x, **attrs):
        # LAPACK's iteration does not end on some matrices with infinities
        if xp is np and not np.isfinite(x).all():
            raise np.linalg.LinAlgError(_FAILURES["svd"])
        return xp.linalg.svd(x, **attrs)

    def cofactor(x):
        u, s, vh = singular(x, full_matrices=False)
        s = s[..., None, :] * (1 - identity(s)) + identity(s)  # in row i, 1 in the place of s_i
        scale = xp.linalg.det(u) * xp.linalg.det(vh)
        return scale[..., None, None] * xp.matmul(xp.conj(u) * xp.prod(s, axis=-1)[..., None, :], xp.conj(vh))

    def inv(x):
        return xp.linalg.inv(x)

    def solve(a, b):
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (xp.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
        return xp.linalg.solve(a, b) if b.size else xp.empty(b.shape, b.dtype)

    def pinv(x, rtol):
        u, s, vh = singular(x, full_matrices=False)
        rtol = xp.asarray(rtol, dtype=s.dtype)[..., None]
        kept = s > rtol * (s[..., :1] if s.size else 0)
        inverse = xp.where(kept, 1 / xp.where(kept, s, s.dtype.type(1)), s.dtype.type(0))
        return xp.matmul(adjoint(vh) * inverse[..., None, :], adjoint(u))

    def qr(x, mode):
        return tuple(xp.linalg.qr(x, mode=mode))  # R's diagonal is real on both

    def svd(x, full_matrices):
        u, s, vh = singular(x, full_matrices=full_matrices)
        if not x.size and full_matrices:  # CuPy's are uninitialised where the batch is empty, as they may be
            u, vh = (xp.broadcast_to(xp.eye(a.shape[-1], dtype=a.dtype), a.shape).copy() for a in (u, vh))
        return u, s, vh

    def svdvals(x):
        return singular(x, compute_uv=False)

    def eigh(x):
        return tuple(xp.linalg.eigh(x))

    def eigvalsh(x):
        return xp.linalg.eigvalsh(x)

    def eig(x):
        dtype = np.result_type(x.dtype, np.complex64)
        if not x.size:
            return xp.empty(x.shape[:-1], dtype), xp.empty(x.shape, dtype)
        try:
            parts = xp.linalg.eig(x)
        except RuntimeError:  # cuSOLVER before 11.7, of CUDA 12.6, has no such function
            parts = map(xp.asarray, np.linalg.eig(xp.asnumpy(x)))
        return tuple(part.astype(dtype, copy=False) for part in parts)

    def fft(x, axes, norm):
        return xp.fft.fftn(x, axes=axes, norm=norm) if x.size else x.copy()

    def ifft(x, axes, norm):
        return xp.fft.ifftn(x, axes=axes, norm=norm) if x.size else x.copy()

    def rfft(x, axes, norm):
        if x.size:
            return xp.fft.rfftn(x, axes=axes, norm=norm)
        shape = [n // 2 + 1 if i == axes[-1] else n for i, n in enumerate(x.shape)]
        return xp.empty(shape, np.result_type(x.dtype, np.complex64))

    def irfft(x, axes, n, norm):
        if not x.size:
            return xp.empty([n if i == axes[-1] else m for i, m in enumerate(x.shape)], x.real.dtype)
        # one after the other, as NumPy does: cuFFT's transform over several axes expects Hermitian symmetry in all
        if len(axes) > 1:
            x = xp.fft.ifftn(x, axes=axes[:-1], norm=norm)
        return xp.fft.irfft(x, n, axis=axes[-1], norm=norm)

    functions = (
        identity, cholesky, det, slogdet, cofactor, inv, solve, pinv, qr, svd, svdvals, eigh, eigvalsh,
        eig, fft, ifft, rfft, irfft,
    )  # fmt: skip
    return {f.__name__: f if xp is np else _checked(f) for f in functions}
