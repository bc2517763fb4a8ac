"""Calls that are run with `xp` as NumPy, as gpu_backprop, and as NumPy handed Tensors.

CASES: (name, call, samples): `call(xp, *arrays)` for each sample, a tuple of shapes (drawn by numbers) or of arrays.
SMOOTH are checked for gradients of first and second order too. Values only: VALUES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    name: str
    call: Callable[..., Any]
    samples: Sequence[tuple[Any, ...]]
    alone: bool = False  # not one of those that NumPy hands over (np.array, or a name of NumPy's newest version)

    def __str__(self) -> str:
        return self.name


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Distinct values between -2 and 2, none near 0, 1 or another one."""
    random = np.random.default_rng([seed, *shape])
    n = math.prod(shape)
    values = -2 + 4 * (np.arange(n) + random.uniform(0.3, 0.7, n)) / max(n, 1)
    values = np.where(np.abs(values) < 0.02, 0.05, values)
    return random.permutation(values).reshape(shape)


def arrays(sample: tuple[Any, ...]) -> list[Any]:
    return [numbers(x, i) if isinstance(x, tuple) else x for i, x in enumerate(sample)]


X = [((2, 3),), ((4,),), ((2, 1, 3),)]
V = [((5,),)]
PAIR = [((2, 3), (2, 3)), ((2, 1), (3,))]
NAN = np.array([[1.5, math.nan, -0.5], [math.nan, 2.5, 0.75]])
MASK = np.array([[True, False, True, True], [False, True, True, False]])
ASCENDING = np.array([-2.0, -0.7, 0.1, 1.3, 2.1])

SMOOTH = [
    # products
    Case(
        "dot",
        lambda xp, a, b: xp.dot(a, b),
        [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 2)), ((2, 3), (4, 3, 2)), ((), (3,)), ((2, 0), (0, 2))],
    ),
    Case("inner", lambda xp, a, b: xp.inner(a, b), [((3,), (3,)), ((2, 3), (4, 3)), ((2,), ())]),
    Case("vdot", lambda xp, a, b: xp.vdot(a, b), [((2, 3), (3, 2)), ((4,), (4,))]),
    Case("outer", lambda xp, a, b: xp.outer(a, b), [((2,), (3,)), ((2, 2), (3,))]),
    Case("kron", lambda xp, a, b: xp.kron(a, b), [((2, 3), (2, 2)), ((2,), (2, 2)), ((2, 1, 2), (3,))]),
    Case("cross", lambda xp, a, b: xp.cross(a, b), [((3,), (3,)), ((2, 3), (3,))]),
    Case("cross axis", lambda xp, a, b: xp.cross(a, b, axis=0), [((3, 2), (3, 2))]),
    Case("cross axes", lambda xp, a, b: xp.cross(a, b, axisa=0, axisb=1, axisc=0), [((3, 2), (2, 3))]),
    Case("tensordot", lambda xp, a, b: xp.tensordot(a, b, axes=([1], [0])), [((2, 3), (3, 2))]),
    Case("tensordot integers", lambda xp, a, b: xp.tensordot(a, b, 1), [((2, 3), (3, 2))]),
    Case("diagonal", lambda xp, a: xp.diagonal(a, 1), [((3, 3),), ((2, 3, 4),)]),
    Case("diagonal axes", lambda xp, a: xp.diagonal(a, axis1=2, axis2=0), [((2, 3, 4),)]),
    Case("trace", lambda xp, a: xp.trace(a), [((3, 3),), ((2, 3, 4),)]),
    Case("linalg.norm", lambda xp, a: xp.linalg.norm(a), [((3,),), ((2, 3),), ((2, 2, 2),)]),
    Case("linalg.norm axis", lambda xp, a: xp.linalg.norm(a, axis=-1, keepdims=True), [((2, 3),)]),
    Case("linalg.norm 3", lambda xp, a: xp.linalg.norm(a, 3, 0), [((2, 3),)]),
    Case("linalg.norm 1 of matrices", lambda xp, a: xp.linalg.norm(a, 1, axis=(2, 0)), [((2, 3, 2),)]),
    Case("linalg.norm nuc", lambda xp, a: xp.linalg.norm(a, "nuc"), [((2, 3),)]),
    Case(
        "linalg.multi_dot",
        lambda xp, a, b, c: xp.linalg.multi_dot([a, b, c]),
        [((2, 3), (3, 4), (4, 2)), ((3,), (3, 4), (4,)), ((3,), (3, 2), (2, 2))],
    ),
    Case("linalg.cond", lambda xp, a: xp.linalg.cond(a), [((3, 3),)]),
    Case("linalg.cond 1", lambda xp, a: xp.linalg.cond(a, 1), [((3, 3),)]),
    Case("linalg.lstsq", lambda xp, a, b: xp.linalg.lstsq(a, b)[0], [((4, 2), (4,)), ((4, 2), (4, 3))]),
    Case("fft.fft2", lambda xp, a: abs(xp.fft.fft2(a)), [((2, 3),)]),
    # einsum
    Case("einsum ij,jk", lambda xp, a, b: xp.einsum("ij,jk", a, b), [((2, 3), (3, 2)), ((2, 1), (3, 2))]),
    Case("einsum ii", lambda xp, a: xp.einsum("ii", a), [((3, 3),)]),
    Case("einsum iji->ji", lambda xp, a: xp.einsum("iji->ji", a), [((2, 3, 2),)]),
    Case("einsum iij,j", lambda xp, a, b: xp.einsum("iij,j->i", a, b), [((2, 2, 3), (3,))]),
    Case("einsum ...i,...i", lambda xp, a, b: xp.einsum("...i,...i", a, b), [((2, 3), (3,)), ((2, 1, 3), (2, 3))]),
    Case("einsum i...->...", lambda xp, a: xp.einsum("i...->...", a), [((2, 3),), ((2,),)]),
    Case("einsum ba", lambda xp, a: xp.einsum("ba", a), [((2, 3),)]),
    Case("einsum outer", lambda xp, a, b: xp.einsum("i,j->ji", a, b), [((2,), (3,))]),
    Case("einsum hadamard", lambda xp, a, b: xp.einsum("ij,ji->ij", a, b), [((2, 3), (3, 2))]),
    Case(
        "einsum batch",
        lambda xp, a, b: xp.einsum("bik,bjk->bij", a, b),
        [((2, 3, 2), (2, 2, 2)), ((2, 0, 2), (2, 2, 2))],
    ),
    Case("einsum numbers", lambda xp, a, b: xp.einsum(",i", a, b), [((), (2,))]),
    Case("einsum of three", lambda xp, a, b, c: xp.einsum("ij,jk,kl->il", a, b, c), [((2, 3), (3, 2), (2, 2))]),
    Case(
        "einsum left to right",
        lambda xp, a, b, c: xp.einsum("ij,jk,k", a, b, c, optimize=False),
        [((2, 3), (3, 2), (2,))],
    ),
    Case("einsum lists", lambda xp, a, b: xp.einsum(a, [0, 1], b, [1, 2], [2, 0]), [((2, 3), (3, 2))]),
    Case("einsum lists and dots", lambda xp, a, b: xp.einsum(a, [..., 1], b, [1, ...]), [((2, 3), (3,))]),
    Case("einsum sums alone", lambda xp, a, b: xp.einsum("ij,k->k", a, b), [((2, 3), (2,))]),
    Case(
        "einsum four",
        lambda xp, a, b, c, d: xp.einsum("ea,fb,abcd,gc->efgd", a, b, d, c),
        [((2, 2), (2, 2), (2, 3), (2, 2, 3, 2))],
    ),
    # shapes
    Case("vstack", lambda xp, a, b: xp.vstack([a, b]), [((3,), (2, 3)), ((3,), (3,))]),
    Case("hstack", lambda xp, a, b: xp.hstack((a, b)), [((3,), (2,)), ((2, 3), (2, 1)), ((), ())]),
    Case("dstack", lambda xp, a, b: xp.dstack([a, b]), [((2, 3), (2, 3)), ((3,), (3,))]),
    Case("column_stack", lambda xp, a, b: xp.column_stack([a, b]), [((3,), (3, 2)), ((2,), (2,))]),
    Case("concatenate", lambda xp, a, b: xp.concatenate([a, b], 1), [((2, 3), (2, 1))]),
    Case("concatenate flat", lambda xp, a, b: xp.concatenate([a, b], axis=None), [((2, 3), (2, 1))]),
    Case("stack", lambda xp, a, b: xp.stack([a, b], -1), [((2, 3), (2, 3))]),
    Case("append", lambda xp, a, b: xp.append(a, b), [((2, 3), (2,))]),
    Case("block", lambda xp, a, b: xp.block([[a, b], [b, a]]), [((2, 2), (2, 2)), ((2,), (2,))]),
    Case("transpose", lambda xp, a: xp.transpose(a), X),
    Case("transpose axes", lambda xp, a: xp.transpose(a, (2, 0, 1)), [((2, 1, 3),)]),
    Case("swapaxes", lambda xp, a: xp.swapaxes(a, 0, -1), X),
    Case("rollaxis", lambda xp, a: xp.rollaxis(a, 2, 1), [((2, 1, 3),)]),
    Case("rollaxis back", lambda xp, a: xp.rollaxis(a, 0, 3), [((2, 1, 3),)]),
    Case("moveaxis", lambda xp, a: xp.moveaxis(a, 0, -1), X),
    Case("ravel", lambda xp, a: xp.ravel(a), X),
    Case("ravel F", lambda xp, a: xp.ravel(a, order="F"), X),
    Case("reshape F", lambda xp, a: xp.reshape(a, (3, -1), order="F"), [((2, 3),), ((2, 3, 2),)]),
    Case("atleast_1d", lambda xp, a: xp.atleast_1d(a), [((),), ((2,),)]),
    Case("atleast_2d", lambda xp, a: xp.atleast_2d(a), [((),), ((2,),), ((2, 1, 2),)]),
    Case("atleast_3d", lambda xp, a: xp.atleast_3d(a), [((),), ((2,),), ((2, 3),), ((2, 1, 1, 2),)]),
    Case("split", lambda xp, a: xp.split(a, 2)[1], [((4,),), ((4, 2),)]),
    Case("split at", lambda xp, a: xp.split(a, [1, 3], axis=-1)[1], [((4,),), ((2, 5),)]),
    Case("array_split", lambda xp, a: xp.array_split(a, 3)[1], [((4,),), ((5, 2),)]),
    Case("hsplit", lambda xp, a: xp.hsplit(a, 2)[0], [((4,),), ((3, 4),)]),
    Case("vsplit", lambda xp, a: xp.vsplit(a, 2)[0], [((4, 2),)]),
    Case("dsplit", lambda xp, a: xp.dsplit(a, [1])[1], [((2, 1, 3),)]),
    Case("flipud", lambda xp, a: xp.flipud(a), X),
    Case("fliplr", lambda xp, a: xp.fliplr(a), [((2, 3),)]),
    Case("rot90", lambda xp, a: xp.rot90(a), [((2, 3),), ((2, 3, 2),)]),
    Case(
        "rot90 others",
        lambda xp, a: xp.rot90(a, -1) + xp.rot90(a, 3) + xp.rot90(xp.rot90(a, 2), 5) + xp.rot90(a, 4).T,
        [((2, 3),)],
    ),
    Case("diag of a vector", lambda xp, a: xp.diag(a, -1), [((3,),), ((0,),)]),
    Case("diag above", lambda xp, a: xp.diag(a, 2), [((3,),)]),
    Case("diag of a matrix", lambda xp, a: xp.diag(a, 1), [((2, 3),)]),
    Case("diagflat", lambda xp, a: xp.diagflat(a), [((2, 2),)]),
    Case("vander", lambda xp, a: xp.vander(a), [((3,),)]),
    Case("vander increasing", lambda xp, a: xp.vander(a, 4, True), [((3,),)]),
    Case("pad", lambda xp, a: xp.pad(a, 1), X),
    Case("pad constant", lambda xp, a: xp.pad(a, ((1, 2), (0, 1)), constant_values=((1, 2), (3, 4))), [((2, 3),)]),
    *(
        Case(f"pad {mode}", lambda xp, a, mode=mode: xp.pad(a, ((2, 1), (0, 4)), mode=mode), [((2, 3),)])
        for mode in ("edge", "reflect", "symmetric", "wrap")
    ),
    Case("take", lambda xp, a: xp.take(a, [0, 1, 1]), X),
    Case("repeat", lambda xp, a: xp.repeat(a, 2, 0), X),
    Case("tile", lambda xp, a: xp.tile(a, (2, 1)), [((2, 3),)]),
    Case("roll", lambda xp, a: xp.roll(a, 1, 0), X),
    Case("sort", lambda xp, a: xp.sort(a, 0), X),
    Case("sort flat", lambda xp, a: xp.sort(a, axis=None), X),
    Case("expand_dims", lambda xp, a: xp.expand_dims(a, 0), X),
    Case("squeeze", lambda xp, a: xp.squeeze(a), X),
    Case("where", lambda xp, a, b: xp.where(a > b, a, b), PAIR),
    Case("array", lambda xp, a, b: xp.array([[a[0], b[1]], [b[0] * a[1], 2.0]]), [((2,), (2,))], alone=True),
    Case("copy", lambda xp, a: xp.copy(a), X),
    Case("extract", lambda xp, a: xp.extract(a > 0, a), X),
    # statistics
    Case("sum", lambda xp, a: xp.sum(a, 0), X),
    Case("mean", lambda xp, a: xp.mean(a, 0), X),
    Case("prod", lambda xp, a: xp.prod(a, 0), X),
    Case("max", lambda xp, a: xp.max(a, 0), X),
    Case("std", lambda xp, a: xp.std(a, 0, ddof=1), [((4, 2),), ((4,),)]),
    Case("var", lambda xp, a: xp.var(a, axis=0, ddof=1), [((4, 2),), ((4,),)]),
    Case("amax", lambda xp, a: xp.amax(a, axis=-1), X),
    Case("amin", lambda xp, a: xp.amin(a), X),
    Case("ptp", lambda xp, a: xp.ptp(a, axis=0), [((3, 2),), ((4,),)]),
    *(
        Case(
            f"{name} where",
            lambda xp, a, name=name, how=how: getattr(xp, name)(a, axis=1, where=xp.asarray(MASK), **how),
            [((2, 4),)],
        )
        for name, how in (
            *(("sum", {}), ("prod", {"keepdims": True}), ("mean", {}), ("max", {"initial": -0.1})),
            *(("amin", {"initial": 3.0}), ("std", {"ddof": 1}), ("var", {"keepdims": True})),
            *(("nansum", {}), ("nanmean", {}), ("nanvar", {}), ("nanmax", {"initial": -0.1})),
        )
    ),
    *(
        Case(f"{name} initial", lambda xp, a, b, name=name: getattr(xp, name)(a, 0, initial=b), [((2, 3), ())])
        for name in ("sum", "prod", "max", "min", "amax")
    ),
    Case("cumsum", lambda xp, a: xp.cumsum(a), X),
    Case("cumsum axis", lambda xp, a: xp.cumsum(a, -1), X),
    Case("cumprod", lambda xp, a: xp.cumprod(a, axis=0), X),
    Case("diff", lambda xp, a: xp.diff(a, 2, 0), [((4, 2),), ((4,),)]),
    Case("average", lambda xp, a: xp.average(a), X),
    Case("average weighted", lambda xp, a, b: xp.average(a, weights=b * b), [((2, 3), (2, 3))]),
    Case("average along", lambda xp, a, b: xp.average(a, axis=0, weights=b * b), [((2, 3), (2,)), ((2,), (2,))]),
    Case("median", lambda xp, a: xp.median(a), X),
    Case("median axis", lambda xp, a: xp.median(a, axis=0, keepdims=True), [((3, 2),), ((4, 2),)]),
    Case("quantile", lambda xp, a: xp.quantile(a, 0.3, axis=0), [((4, 2),), ((5,),)]),
    Case(
        "quantile axes", lambda xp, a: xp.quantile(a, np.array([[0.0, 0.6], [0.2, 1.0]]), axis=(0, 2)), [((2, 3, 2),)]
    ),
    Case("percentile", lambda xp, a: xp.percentile(a, [10, 90]), X),
    *(
        Case(f"quantile {method}", lambda xp, a, m=method: xp.quantile(a, [0.1, 0.37, 0.9], method=m), [((6,),)])
        for method in (
            *("lower", "higher", "nearest", "midpoint", "hazen", "weibull", "median_unbiased", "normal_unbiased"),
            "interpolated_inverted_cdf",
        )
    ),
    Case("cov", lambda xp, a: xp.cov(a), [((2, 4),), ((4,),)]),
    Case("cov of two", lambda xp, a, b: xp.cov(a, b, rowvar=False, ddof=0), [((4, 2), (4, 1)), ((4,), (4,))]),
    Case(
        "cov weighted",
        lambda xp, a: xp.cov(a, fweights=xp.asarray([1, 2, 1, 3]), aweights=xp.asarray([0.5, 1, 2, 1])),
        [((2, 4),)],
    ),
    Case("cov bias", lambda xp, a: xp.cov(a, bias=True, aweights=xp.asarray([0.5, 1, 2, 1])), [((2, 4),)]),
    Case("corrcoef", lambda xp, a: xp.corrcoef(a), [((2, 4),), ((3, 5),)]),
    Case("histogram weights", lambda xp, w: xp.histogram(np.array([0.1, 0.4, 0.35, 2.0]), 3, weights=w)[0], [((4,),)]),
    Case("bincount weights", lambda xp, w: xp.bincount(np.array([0, 3, 1, 1]), w, 6), [((4,),)]),
    # calculus
    Case("interp", lambda xp, x, fp: xp.interp(x, xp.asarray(ASCENDING), fp), [((6,), (5,)), ((2, 3), (5,))]),
    Case(
        "interp sides",
        lambda xp, x, fp: xp.interp(x * 2, xp.asarray(ASCENDING), fp, left=-1.0, right=2.0),
        [((6,), (5,))],
    ),
    Case("interp period", lambda xp, x, fp: xp.interp(x * 3, xp.asarray(ASCENDING), fp, period=4.5), [((6,), (5,))]),
    Case("interp points", lambda xp, s: xp.interp(xp.asarray([0.3, 0.9, 7.0]), xp.cumsum(s * s), s), [((5,),)]),
    Case("trapezoid", lambda xp, y: xp.trapezoid(y, dx=0.5), [((4,),), ((2, 3),)]),
    Case("trapezoid x", lambda xp, y, x: xp.trapezoid(y, x, axis=0), [((3, 2), (3,)), ((3, 2), (3, 2))]),
    Case("gradient", lambda xp, f: xp.gradient(f), [((4,),)]),
    Case("gradient axes", lambda xp, f: xp.gradient(f, 0.5, 2.0)[1], [((3, 4),)]),
    Case("gradient edges", lambda xp, f: xp.gradient(f, 0.5, axis=0, edge_order=2), [((4, 2),)]),
    Case("gradient uneven", lambda xp, f: xp.gradient(f, xp.asarray(ASCENDING)), [((5,),)]),
    Case(
        "gradient uneven edges", lambda xp, f: xp.gradient(f, xp.asarray(ASCENDING), axis=1, edge_order=2), [((2, 5),)]
    ),
    Case("polyval", lambda xp, p, x: xp.polyval(p, x), [((3,), (2, 2))]),
    *(
        Case(
            f"{name} {mode}",
            lambda xp, a, b, name=name, mode=mode: getattr(xp, name)(a, b, mode),
            [((5,), (3,)), ((4,), (2,)), ((2,), (5,)), ((3,), (4,))],
        )
        for name in ("convolve", "correlate")
        for mode in ("full", "same", "valid")
    ),
    # placing, sets and order
    Case("insert", lambda xp, a, b: xp.insert(a, 2, b), [((4,), ()), ((2, 3), (2,))]),
    Case("insert a row", lambda xp, a, b: xp.insert(a, -1, b, axis=1), [((2, 3), (2,)), ((2, 3), ())]),
    Case("insert several", lambda xp, a, b: xp.insert(a, [3, 0, 1], b, axis=1), [((2, 3), (2, 3)), ((2, 3), (3,))]),
    Case("insert one", lambda xp, a, b: xp.insert(a, [1], b, axis=1), [((2, 3), (2, 2)), ((2, 3), (2, 1))]),
    Case("insert slice", lambda xp, a, b: xp.insert(a, slice(0, 4, 2), b), [((4,), (2,))]),
    Case("delete", lambda xp, a: xp.delete(a, 1), X),
    Case("delete several", lambda xp, a: xp.delete(a, [0, -1], axis=1), [((2, 3),)]),
    Case("delete slice", lambda xp, a: xp.delete(a, slice(None, None, 2), -1), [((2, 3),)]),
    Case("delete mask", lambda xp, a: xp.delete(a, np.array([True, False, True]), axis=1), [((2, 3),)]),
    Case("select", lambda xp, a, b: xp.select([a > 1, a > 0], [a * a, b], 0.5), PAIR),
    Case("apply_along_axis", lambda xp, a: xp.apply_along_axis(lambda v: v[:2] * v.sum(), 1, a), [((2, 3, 2),)]),
    Case("apply_along_axis of numbers", lambda xp, a: xp.apply_along_axis(lambda v: (v * v).sum(), 0, a), X),
    Case("union1d", lambda xp, a, b: xp.union1d(a, b), [((2, 2), (3,))]),
    Case("intersect1d", lambda xp, a: xp.intersect1d(a, a[1:, ::-1]), [((3, 2),)]),
    Case("setdiff1d", lambda xp, a: xp.setdiff1d(a, a[1:]), [((3, 2),)]),
    Case("partition", lambda xp, a: xp.partition(a, 2)[..., 2], [((5,),), ((2, 3),)]),
    Case("partition flat", lambda xp, a: xp.partition(a, (0, -1), axis=None)[[0, -1]], X),
    Case("modf", lambda xp, a: xp.modf(a * 2)[0], X),
    Case("unwrap", lambda xp, a: xp.unwrap(a * 5), [((6,),), ((2, 3),)]),
    Case("unwrap axis", lambda xp, a: xp.unwrap(a * 3, 4.0, axis=0, period=1.5), [((4, 2),)]),
    Case("ix_", lambda xp, a: a[xp.ix_([2, 0], [True, False, True])], [((3, 3),)], alone=True),
    # by NumPy's keywords
    Case("quantile q", lambda xp, a: xp.quantile(a, q=0.3, overwrite_input=False, out=None), V),
    Case("percentile q", lambda xp, a: xp.percentile(a, q=30) + xp.nanpercentile(a, q=50, axis=0), V),
    Case("median overwrite_input", lambda xp, a: xp.median(a, overwrite_input=False), V),
    Case("interp fp", lambda xp, x, fp: xp.interp(x, xp=xp.asarray(ASCENDING), fp=fp), [((6,), (5,))]),
    Case("polyval x", lambda xp, p, x: xp.polyval(p, x=x), [((3,), (2,))]),
    Case("outer b", lambda xp, a, b: xp.outer(a, b=b), [((2,), (3,))]),
    Case("append values", lambda xp, a, b: xp.append(a, values=b), [((2,), (3,))]),
    Case("tile reps", lambda xp, a: xp.tile(a, reps=2), V),
    Case("matrix_power n", lambda xp, a: xp.linalg.matrix_power(a, n=2), [((2, 2),)]),
    Case("pinv rcond", lambda xp, a: xp.linalg.pinv(a, rcond=1e-9), [((3, 2),)]),
    # elementwise
    *(
        Case(name, lambda xp, a, name=name: getattr(xp, name)(a), X)
        for name in (
            *("absolute", "cbrt", "conjugate", "deg2rad", "degrees", "exp2", "fabs", "rad2deg", "radians", "sinc"),
            *("angle", "real_if_close", "arctan", "arcsinh", "square", "real"),
        )
    ),
    *(Case(name, lambda xp, a, name=name: getattr(xp, name)(a / 3), X) for name in ("arcsin", "arccos", "arctanh")),
    Case("arccosh", lambda xp, a: xp.arccosh(a * a + 1.5), X),
    *(
        Case(name, lambda xp, a, b, name=name: getattr(xp, name)(a, b), PAIR)
        for name in ("fmax", "fmin", "logaddexp2", "arctan2", "true_divide")
    ),
    Case("fmod", lambda xp, a, b: xp.fmod(a * 3, b), [((2, 3), (2, 3))]),
    Case("mod", lambda xp, a, b: xp.mod(a * 3, b), [((2, 3), (2, 3))]),
    Case("divmod", lambda xp, a, b: xp.divmod(a * 3, b)[1], [((2, 3), (2, 3))]),
    Case("power", lambda xp, a, b: xp.power(a * a, b), PAIR),
    Case("float_power", lambda xp, a, b: xp.float_power(a * a, b), PAIR),
    Case("heaviside", lambda xp, a, b: xp.heaviside(a, b), PAIR),
    Case("clip", lambda xp, a: xp.clip(a, -0.5, 1.0), X),
    Case("clip a_min", lambda xp, a: xp.clip(a, a_min=-0.5, a_max=None), X),
    # without NaN
    *(
        Case(
            name,
            lambda xp, a, name=name: getattr(xp, name)(xp.where(xp.isnan(xp.asarray(NAN)), np.nan, a), axis=0),
            [((2, 3),)],
        )
        for name in ("nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nancumsum", "nancumprod", "nanmedian")
    ),
    Case("nanvar", lambda xp, a: xp.nanvar(xp.where(a > 1, np.nan, a), ddof=1), [((2, 3),)]),
    Case("nanstd", lambda xp, a: xp.nanstd(xp.where(a > 1, np.nan, a), axis=1), [((2, 4),)]),
    *(
        Case(
            f"nanquantile {method}",
            lambda xp, a, m=method: xp.nanquantile(xp.where(a > 0.5, np.nan, a), [0.1, 0.37, 0.9], axis=0, method=m),
            [((6, 2),)],
        )
        for method in ("linear", "lower", "nearest", "midpoint", "hazen")
    ),
    Case(
        "nanpercentile",
        lambda xp, a: xp.nanpercentile(xp.where(a > 1, np.nan, a), [10, 90], axis=(0, 2), keepdims=True),
        [((2, 3, 2),)],
    ),
    Case("nan_to_num", lambda xp, a: xp.nan_to_num(xp.where(a > 1, np.nan, a), nan=3.0), X),
]

MIXED = np.array([1.0, -math.inf, math.nan, math.inf, 2.0, 1.0 + 1e-7])
COMPLEX = np.array([1 + 2j, 3.0, complex(math.nan, 1), -1 - 1j])
VALUES = [
    Case("isclose", lambda xp, a, b: xp.isclose(a, b), [(MIXED, MIXED[::-1].copy()), (MIXED, np.array(1.0))]),
    Case("isclose equal_nan", lambda xp, a: xp.isclose(a, a, equal_nan=True), [(MIXED,), (np.arange(3),)]),
    Case(
        "allclose",
        lambda xp, a: (xp.allclose(a, a * (1 + 1e-9)), xp.allclose(a, a + 1), xp.allclose(a, 1.0)),
        [((2, 3),)],
    ),
    Case(
        "array_equal",
        lambda xp, a: (xp.array_equal(a, a), xp.array_equal(a, a, equal_nan=True), xp.array_equal(a, a[1:])),
        [(MIXED,), (np.arange(3),)],
    ),
    Case("array_equiv", lambda xp, a: (xp.array_equiv(a, a[None]), xp.array_equiv(a, a[1:])), [((3,),)]),
    Case("argwhere", lambda xp, a: xp.argwhere(a > 0), [((2, 3),), ((),)]),
    Case("flatnonzero", lambda xp, a: xp.flatnonzero(a > 0), X),
    Case("where alone", lambda xp, a: xp.where(a > 0), X),
    Case(
        "unique",
        lambda xp, a: xp.unique(a, return_index=True, return_inverse=True, return_counts=True),
        [(np.array([3, 1, 3, 2]),)],
    ),
    Case("unique values", lambda xp, a: xp.unique(a), [(np.array([3.0, 1.0, 3.0, 2.0]),)]),
    Case(
        "bincount",
        lambda xp, a: xp.bincount(a, minlength=2),
        [(np.array([0, 4, 1, 1]),), (np.array([1], np.uint8),), (np.zeros(0, int),)],
    ),
    Case("digitize", lambda xp, a: xp.digitize(a, xp.asarray(ASCENDING)), [((6,),), (ASCENDING,)]),
    Case("pinv rcond", lambda xp, a: xp.linalg.pinv(a, rcond=0.7), [((3, 2),)]),
    Case("eigvalsh UPLO", lambda xp, a: (xp.linalg.eigvalsh(a, UPLO="U"), xp.linalg.eigvalsh(a, "L")), [((3, 3),)]),
    Case(
        "sets of integers",
        lambda xp, a, b: (
            *(xp.union1d(a, b), xp.intersect1d(a, b, return_indices=True), xp.setdiff1d(a, b)),
            *(xp.setdiff1d(a[:2], b, assume_unique=True), xp.setdiff1d(b, a)),
            xp.intersect1d(a[:2], b[:2], assume_unique=True, return_indices=True),
        ),
        [(np.array([5, 1, 5, 3]), np.array([[4, 5], [1, 1]])), (np.array([], int), np.array([1]))],
    ),
    Case(
        "lexsort",
        lambda xp, a, b: (xp.lexsort((a, b)), xp.lexsort((b,)), xp.lexsort((b, a, a))),
        [(np.array([3, 1, 2, 1]), np.array([0, 1, 0, 1])), ((2, 3), (2, 3))],
    ),
    Case("argpartition", lambda xp, a: xp.argpartition(a, 1)[..., 1], [((2, 3),)]),
    Case(
        "unravel_index",
        lambda xp, a: (xp.unravel_index(a, (2, 3, 4)), xp.unravel_index(a, (6, 5), order="F")),
        [(np.array([[22, 0], [7, 13]]),), (np.array(5),)],
    ),
    Case("modf of others", lambda xp, a: xp.modf(a), [(MIXED,), (np.arange(3),)]),
    Case("insert integers", lambda xp, a: xp.insert(a, [1, 1], [2.7, 3]), [(np.arange(4),)]),
    Case("insert mask", lambda xp, a: xp.insert(a, a > 0, a[a > 0], axis=0), [((4,),)], alone=True),
    Case("unwrap at half a turn", lambda xp, a: xp.unwrap(a), [(np.array([0, np.pi, 2 * np.pi, -np.pi]),)]),
    Case(
        "triangles",
        lambda xp: (xp.tril_indices(3), xp.tril_indices(2, -1, 4), xp.triu_indices(4, 2), xp.triu_indices(2, m=3)),
        [()],
        alone=True,
    ),
    Case("digitize bins", lambda xp, a: xp.digitize(a, bins=xp.asarray(ASCENDING)), [((6,),)]),
    Case(
        "eigh of the upper half", lambda xp, a: xp.linalg.eigh(a, UPLO="U")[0], [(COMPLEX[[0, 1, 3, 3]].reshape(2, 2),)]
    ),
    Case("digitize right", lambda xp, a: xp.digitize(a, xp.asarray(ASCENDING), right=True), [(ASCENDING,)]),
    Case(
        "digitize descending",
        lambda xp, a: (
            xp.digitize(a, xp.asarray(ASCENDING)[::-1]),
            xp.digitize(a, xp.asarray(ASCENDING)[::-1], right=True),
        ),
        [(ASCENDING,), ((6,),)],
    ),
    Case(
        "histogram",
        lambda xp, a: xp.histogram(a),
        [((20,),), ((3, 4),), (np.array([1.0, 1.0]),), (np.zeros(0),), (np.arange(7),)],
    ),
    Case("histogram edges", lambda xp, a: xp.histogram(a, bins=xp.asarray(ASCENDING)), [((20,),)]),
    Case("histogram range", lambda xp, a: xp.histogram(a, 4, (-1, 1), density=True), [((20,),)]),
    Case("histogram_bin_edges", lambda xp, a: xp.histogram_bin_edges(a, 3), [((20,),)]),
    Case("nanargmax", lambda xp, a: xp.nanargmax(a, axis=1), [(NAN,)]),
    Case("nanargmin", lambda xp, a: xp.nanargmin(a), [(NAN,)]),
    Case("nanmax of NaN", lambda xp, a: xp.nanmax(a, 0), [(np.array([[1.0, np.nan], [2.0, np.nan]]),)]),
    Case(
        "where of values",
        lambda xp, a: (
            *(xp.any(a > 0, 0, where=xp.asarray(MASK)), xp.all(a, axis=1, where=xp.asarray(MASK))),
            *(xp.sum(a, where=xp.asarray(MASK[:1])), xp.prod(a, 0, where=xp.asarray(MASK[:, 1:2]), initial=3)),
            *(xp.mean(a, where=xp.asarray(MASK)), xp.var(a, 0, where=xp.asarray(MASK), ddof=1)),
            *(xp.min(a, where=xp.asarray(MASK), initial=100), xp.mean(a, where=False), xp.sum(a, where=False)),
        ),
        [((2, 4),), (np.arange(8, dtype=np.int8).reshape(2, 4),), (np.array([[0, 1, np.nan, np.inf]] * 2),)],
    ),
    Case(
        "where of others",
        lambda xp, a: (
            *(xp.sum(a, 1, where=xp.asarray(MASK), initial=2), xp.mean(a, where=xp.asarray(MASK))),
            *(xp.var(a, 1, where=xp.asarray(MASK)), xp.all(a, where=xp.asarray(MASK))),
        ),
        [(np.exp(1j * np.arange(8)).reshape(2, 4),), ((np.arange(8).reshape(2, 4) % 3).astype(bool),)],
    ),
    Case(
        "initial of nothing",
        lambda xp, a: [
            getattr(xp, name)(a, axis, initial=2, keepdims=kept)
            for name in ("sum", "prod", "max", "min")
            for axis in (None, 0, -1)
            for kept in (False, True)
        ],
        [(np.zeros((0, 3)),), (np.zeros((3, 0), np.int16),), (np.zeros(0),), (np.arange(3.0),)],
    ),
    Case(
        "without NaN, where",
        lambda xp, a: [
            getattr(xp, name)(a, 0, where=xp.asarray(MASK[:, :3]), **how)
            for name, how in (
                *(
                    ("nansum", {"initial": 1}),
                    ("nanprod", {}),
                    ("nanmax", {"initial": 0.5}),
                    ("nanmin", {"initial": 9}),
                ),
                *(("nanmean", {}), ("nanstd", {}), ("nanvar", {"ddof": 1})),
            )
        ],
        [(NAN,), (np.arange(6).reshape(2, 3),)],
    ),
    Case(
        "nanmedian of nothing",
        lambda xp, a: [
            f(axis, keepdims)
            for axis in (None, 0, -1)
            for keepdims in (False, True)
            for f in (
                lambda axis, kept: xp.nanmedian(a, axis=axis, keepdims=kept),
                lambda axis, kept: xp.nanquantile(a, 0.3, axis=axis, keepdims=kept),
            )
        ],
        [(np.array([[1.0, np.nan, 4], [np.nan] * 3, [5, np.nan, 1]]),), (np.zeros((0, 3)),), (np.zeros(0),)],
    ),
    Case(
        "nanquantile of others",
        lambda xp, a: (xp.nanquantile(a, [[0.0, 0.4], [0.9, 1.0]]), xp.nanpercentile(a, 40, axis=0), xp.nanmedian(a)),
        [(np.arange(6).reshape(2, 3),), (np.array(3.0)[None],), (np.array([np.nan]),)],
    ),
    Case("median of NaN", lambda xp, a: xp.median(a, axis=0), [(NAN,)]),
    Case(
        "trapezoid and reciprocal of integers",
        lambda xp, a: (xp.trapezoid(a), xp.trapezoid(a, a, axis=0), xp.trapezoid(a, dx=2), xp.reciprocal(a)),
        [(np.array([100, 100, 3], np.int8),), (np.array([True, True, True]),), (np.arange(1, 4),), ((4,),)],
    ),
    Case("around", lambda xp, a: (xp.around(a, 2), xp.round(a * 100, -1), xp.rint(a), xp.fix(a)), [((2, 3),)]),
    Case("round integers", lambda xp, a: (xp.round(a, 1), xp.round(a, -1)), [(np.array([14, 15, -26]),)]),
    Case("isposinf", lambda xp, a: (xp.isposinf(a), xp.isneginf(a)), [(MIXED,)]),
    Case(
        "isreal",
        lambda xp, a: (xp.isreal(a), xp.iscomplex(a), xp.iscomplexobj(a), xp.isrealobj(a)),
        [(COMPLEX,), (MIXED,)],
    ),
    Case("angle", lambda xp, a: (xp.angle(a), xp.angle(a, deg=True)), [(COMPLEX,), ((3,),)]),
    Case(
        "real_if_close",
        lambda xp, a: (xp.real_if_close(a), xp.real_if_close(a * 1e-17, tol=1000)),
        [(COMPLEX,), (np.array([1 + 1e-16j]),)],
    ),
    Case(
        "conjugate",
        lambda xp, a: (xp.conjugate(a), xp.vdot(a, a), xp.dot(a, a), xp.inner(a, a), xp.real(a), xp.imag(a)),
        [(COMPLEX[[0, 1, 3]],)],
    ),
    Case(
        "correlate complex",
        lambda xp, a: (xp.correlate(a, a[:2], "full"), xp.convolve(a, a[:2]), xp.correlate(a[:2], a, "full")),
        [(COMPLEX[[0, 1, 3]],)],
    ),
    Case(
        "nan_to_num",
        lambda xp, a: (xp.nan_to_num(a), xp.nan_to_num(a, nan=1.0, posinf=2.0, neginf=3.0)),
        [(MIXED,), (COMPLEX,)],
    ),
    Case("cov complex", lambda xp, a: xp.cov(a), [(COMPLEX[[0, 1, 3, 3]].reshape(2, 2),)]),
    Case("fmax of NaN", lambda xp, a: (xp.fmax(a, 0.5), xp.fmin(a, a[::-1])), [(MIXED,)]),
    Case("heaviside at 0", lambda xp, a: xp.heaviside(a, 0.5), [(np.array([-1.0, 0.0, 2.0]),)]),
    Case("size and shape", lambda xp, a: (xp.size(a), xp.shape(a), xp.ndim(a), xp.size(a, 0)), X),
    Case("average returned", lambda xp, a: xp.average(a, axis=0, weights=[1.0, 2.0], returned=True), [((2, 3),)]),
    Case("argsort", lambda xp, a: (xp.argsort(a, 0), xp.argsort(a, axis=None), xp.argsort(a, kind="stable")), X),
    Case("zeros_like", lambda xp, a: (xp.zeros_like(a), xp.ones_like(a, dtype=np.int64), xp.full_like(a, 3)), X),
    Case("count_nonzero", lambda xp, a: xp.count_nonzero(a > 0, 0), X),
    Case(
        "einsum of integers",
        lambda xp, a: (xp.einsum("ij,kj", a, a), xp.einsum("ij->", a), xp.einsum("ij->ji", a)),
        [(np.arange(6, dtype=np.int8).reshape(2, 3),)],
    ),
    Case(
        "linalg.lstsq all",
        lambda xp, a, b: [x if i != 2 else int(x) for i, x in enumerate(xp.linalg.lstsq(a, b))],
        [((4, 2), (4,)), ((2, 4), (2, 2)), ((3, 3), (3,))],
    ),
    Case("tri", lambda xp: (xp.tri(3), xp.tri(2, 4, 1), xp.identity(2), xp.eye(2, 3)), [()], alone=True),
    Case(
        "spaces",
        lambda xp: (
            xp.logspace(0, 2, 5),
            xp.geomspace(1, 100, 3),
            xp.linspace(0, 1),
            xp.linspace(0, stop=1, num=5, retstep=True)[0],
            xp.indices((2, 3)),
            xp.zeros(2, int),
            xp.arange(0, 3, 1, float),
        ),
        [()],
        alone=True,
    ),
    Case(
        "array",
        lambda xp: (
            xp.array([[1, 2], [3, 4]]),
            xp.array(1.5, ndmin=2),
            xp.array([1, 2], xp.float64),
            xp.asarray([1.0, 2.0]),
            xp.asanyarray(3),
        ),
        [()],
        alone=True,
    ),
    Case("fromfunction", lambda xp: xp.fromfunction(lambda i, j: i + 2 * j, (2, 3)), [()], alone=True),
    Case(
        "integers",
        lambda xp, a, b: (
            *(getattr(xp, name)(a, b) for name in ("left_shift", "right_shift", "divmod", "fmod", "power")),
            *(xp.invert(a), xp.bitwise_not(b)),
        ),
        [(np.array([5, 6]), np.array([1, 2]))],
    ),
    Case("fft.of two axes", lambda xp, a: (xp.fft.ifft2(a), xp.fft.rfft2(a), xp.fft.irfft2(a, s=(2, 4))), [((2, 3),)]),
    Case("isscalar", lambda xp, a: (xp.isscalar(a), xp.isscalar(2.0), xp.isscalar(a[0])), [((2, 3),)], alone=True),
    Case("ascontiguousarray", lambda xp, a: xp.ascontiguousarray(a), X, alone=True),
    Case("einsum_path", lambda xp, a: len(xp.einsum_path("ij,jk,kl", a, a, a)[0]), [((2, 2),)]),
]
