"""Bad input: one sentence that names the function, what it was given, and what to do."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

M, V = gb.ones((2, 3)), gb.ones(3)
E, S, D, T, I = gb.GpuBackpropError, gb.ShapeError, gb.DataError, gb.DTypeError, IndexError  # noqa: E741


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gb.dot(M, M), S, r"dot: axis 1 of \[2, 3\] and axis 0 of \[2, 3\] .* make them equally long"),
        (lambda: gb.inner(M, gb.ones(2)), S, r"inner: axis 1 of \[2, 3\]"),
        (lambda: gb.trace(V), S, "trace: shape .* is no matrix; give at least two axes"),
        (lambda: gb.diagonal(M, axis1=1, axis2=1), S, "diagonal: axis1 and axis2 are both 1; name two axes"),
        (lambda: gb.cross(M, gb.ones((2, 2))), S, "cross: .* of length 3 in both"),
        (lambda: gb.einsum(), T, r'einsum: no operands; give subscripts and arrays, as in gb.einsum\("ij,jk->ik"'),
        (lambda: gb.einsum("ij", M, M), S, "einsum: subscripts for 1 operands beside 2 arrays; give one each"),
        (lambda: gb.einsum("ijk", M), S, "einsum: subscripts 'ijk' for an operand of 2 axes; give one index an axis"),
        (lambda: gb.einsum("i...j...", M), D, r"einsum: subscripts 'i...j...'; use letters, and ... once an operand"),
        (lambda: gb.einsum("i1", M), D, "einsum: subscripts 'i1'; use letters"),
        (lambda: gb.einsum("ij,jk", M, M), S, r"einsum: index 'j' is 3 long and, .* \[2, 3\], 2; make the lengths"),
        (lambda: gb.einsum("ii", M), S, "einsum: index 'i' is 2 long"),
        (lambda: gb.einsum("ij->ik", M), D, "einsum: the output's subscripts 'ik' name 'k', which no operand has"),
        (lambda: gb.einsum("ij->ii", M), D, "einsum: the output's subscripts 'ii' name an index twice"),
        (lambda: gb.einsum("...j->j", M), D, r"einsum: .* lack the \.\.\. that an operand has; add it"),
        (lambda: gb.einsum("ij,jk,kl", M, V[:, None], V[None], optimize=3), D, "einsum: optimize=3; use True, False"),
        (lambda: gb.vstack([]), S, "vstack: no arrays given; give at least one"),
        (lambda: gb.block([[]]), S, "block: lists that are empty or unequally deep; nest all blocks equally"),
        (lambda: gb.split(V, 2), S, "split: 3 elements do not divide into 2 equal parts; use gb.array_split"),
        (lambda: gb.split(V, 0), D, "split: 0 parts; use 1 to"),
        (lambda: gb.split(V, 1.5), T, "split: number of parts 1.5 is not made of integers"),
        (lambda: gb.vsplit(V, 3), S, "vsplit: shape .* has fewer than 2 axes; use gb.split"),
        (lambda: gb.rot90(M, axes=(0, 0)), S, r"rot90: axes \(0, 0\) are one; name two"),
        (lambda: gb.ravel(M, "K"), D, "ravel: order='K'; use 'C'"),
        (lambda: M.reshape(6, order="A"), D, "reshape: order='A'; use 'C'"),
        (lambda: gb.swapaxes(M, 0, 2), I, "swapaxes: axis 2 of an array with 2 axes"),
        (lambda: gb.diag(gb.ones((1, 1, 1))), S, "diag: shape .* give a vector or a matrix"),
        (lambda: gb.vander(M), S, "vander: shape .* is not a vector"),
        (lambda: gb.geomspace(-1, 1), D, "geomspace: start=-1.0 and stop=1.0 must be finite, of one sign"),
        (lambda: gb.pad(M, -1), D, "pad: pad_width -1 is negative; cut with a slice instead"),
        (lambda: gb.pad(M, 1, mode="mean"), D, "pad: mode='mean'; use 'constant', 'edge'"),
        (lambda: gb.pad(M, 1, stat_length=2), D, "pad: 'stat_length' is not available with mode='constant'"),
        (lambda: gb.pad(M, (1, 2, 3)), S, "pad: pad_width .* for 2 axes; give one value, a pair"),
        (lambda: gb.pad(M, 0.5), T, "pad: pad_width 0.5 is not made of integers"),
        (lambda: gb.pad(M[:0], 1, mode="edge"), S, "pad: axis 0 of shape .* is empty"),
        (lambda: gb.quantile(V, 1.5), D, "quantile: the share 1.5 is not between 0 and all"),
        (lambda: gb.percentile(V, [50, -1]), D, "percentile: the share .* is not between"),
        (lambda: gb.quantile(V, 0.5, method="best"), D, "quantile: method='best'; use 'hazen', 'higher'"),
        (lambda: gb.quantile(V, 0.5, weights=V), T, "quantile: weights is not available; leave it out"),
        (lambda: gb.median(V[:0]), S, "median: no element over axis None of shape"),
        (lambda: gb.nanquantile(V, 1.5), D, "nanquantile: the share 1.5 is not between 0 and all"),
        (lambda: gb.nanmedian(V + 1j), T, "nanmedian: complex64 has no order; use gb.real"),
        (lambda: gb.max(M, where=M > 0), D, "max: where may leave nothing to choose from; give initial"),
        (lambda: gb.sum(M, where=V), T, "sum: where of float32 is no mask; give bools, such as where != 0"),
        (
            lambda: gb.mean(V, where=M > 0),
            S,
            r"mean: where of shape \[2, 3\] for an array of shape \[3\]; .* broadcasts",
        ),
        (lambda: gb.nanvar(M, where=[True] * 2), S, r"nanvar: where of shape \[2\] for an array of shape \[2, 3\]"),
        (lambda: M.sum(initial=[1.0, 2.0]), S, r"sum: initial of shape \[2\]; give one number"),
        (lambda: M.sum(initial=1j), T, "would drop the imaginary part"),
        (lambda: gb.var(M, ddof="1", where=M > 0), T, "var: correction '1' is not a real number"),
        (lambda: gb.average(M, axis=0, weights=V), S, "average: weights of shape .* or one weight for each element"),
        (lambda: gb.bincount(V), T, "bincount: float32.* give a vector of integers"),
        (lambda: gb.bincount(gb.asarray([-1, 2])), D, "bincount: -1 is negative; use integers of at least 0"),
        (lambda: gb.bincount(gb.asarray([1, 2]), V), S, "bincount: weights of shape .* give one each"),
        (lambda: gb.histogram(V, bins=0), D, "histogram: bins=0; use at least 1"),
        (lambda: gb.histogram(V, bins="auto"), D, "histogram: bins='auto'; give a number of bins"),
        (lambda: gb.histogram(V, bins=[2, 1]), D, "histogram: the edges of bins must be one ascending vector"),
        (lambda: gb.histogram(V * gb.nan), D, "histogram: a range from nan to nan; give range="),
        (
            lambda: gb.histogram(V, weights=M),
            S,
            "histogram: weights of another shape than .* give one for each",
        ),
        (lambda: gb.cov(gb.ones((1, 1, 1))), S, "cov: shape .* give a matrix of variables by observations"),
        (lambda: gb.cov(M, aweights=M), S, "cov: weights of shapes .* for 3 observations"),
        (lambda: gb.nanargmax(V * gb.nan), D, "nanargmax: nothing but NaN in a slice; leave it out"),
        (lambda: gb.interp(V, V, M), S, "interp: points of shapes .* give two equally long vectors"),
        (lambda: gb.interp(V, V, V, period=0), D, "interp: period=0; use another, or None"),
        (lambda: gb.gradient(V[:1]), S, "gradient: 1 samples along axis 0; edge_order=1 needs 2"),
        (lambda: gb.gradient(V, edge_order=3), D, "gradient: edge_order=3; use 1 or 2"),
        (lambda: gb.gradient(M, 1, 2, 3), D, "gradient: 3 distances for 2 axes"),
        (lambda: gb.gradient(V, [0.0, 1.0]), S, r"gradient: \[2\] coordinates for 3 samples"),
        (lambda: gb.convolve(V, M), S, "give two vectors"),
        (lambda: gb.correlate(V, V, "most"), D, "correlate: mode='most'; use 'full', 'same' or 'valid'"),
        (lambda: gb.linalg.norm(gb.ones((1, 1, 1)), 2), S, "norm: axis=None of shape .* name one axis or two"),
        (lambda: gb.linalg.multi_dot([M]), S, "multi_dot: shapes .* give two or more matrices"),
        (lambda: gb.unique(M, axis=0), T, "unique: axis is not available"),
        (lambda: gb.where(M, 1), T, "where: a condition and one array; give both x1 and x2, or neither"),
        (lambda: gb.round(V, 0.5), T, "round: decimals 0.5 is not made of integers"),
        (lambda: gb.array([[1.0], [2.0, 3.0]]), S, "ragged"),
        (lambda: gb.array([1.0], copy=False), D, "copy=False, but a list has to be copied"),
        (lambda: gb.isclose(M, gb.ones(2)), S, "broadcast"),
        (lambda: gb.isclose("a", M), T, "isclose: .*cannot be a Tensor"),
    ],
)
def test_bad_input(call, error: type[Exception], words: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(error, match=words) as found:
        call()
    assert isinstance(found.value, gb.GpuBackpropError)
