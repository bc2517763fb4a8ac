"""Sampled functions: between samples, their slopes and their areas; polynomials and convolutions."""

from __future__ import annotations

import math
from typing import Any

from ..array_api.creation_functions import arange, zeros_like
from ..array_api.manipulation_functions import concat
from ..array_api.searching_functions import searchsorted
from ..array_api.sorting_functions import argsort
from ..array_api.statistical_functions import cumulative_sum
from ..array_api.utility_functions import diff
from ..core import dtypes
from ..core.devices import check_size
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, asarray
from ..ops import elementwise as ew
from ..ops import indexing, reduction
from .operands import floats, tensors

__all__ = ["convolve", "correlate", "gradient", "interp", "polyval", "trapezoid", "unwrap"]


def interp(x: Any, /, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None) -> Tensor:
    """The piecewise linear function through the points (xp, fp), xp ascending, at `x`; differentiable in all three.

    Before the first point it is `left` (fp[0] when None), behind the last one `right` (fp[-1]). period: of `xp` and
    `x`, which are then taken modulo it.
    """
    x, xp, fp = (floats(t) for t in tensors("interp", x, xp, fp))
    if "c" in (x.dtype.kind, xp.dtype.kind):
        raise DTypeError(f"interp: points of {x.dtype} and {xp.dtype} have no order; use gb.real, gb.imag or gb.abs")
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ShapeError(
            f"interp: points of shapes {list(xp.shape)} and {list(fp.shape)}; give two equally long vectors"
        )
    if period is not None:
        period = reduction.as_real("interp", "period", period)
        if not period:
            raise DataError("interp: period=0; use another, or None")
        x, xp = x % abs(period), xp % abs(period)
        order = argsort(xp)
        xp, fp = (indexing.take(t, order, axis=0) for t in (xp, fp))
        xp = concat([xp[-1:] - abs(period), xp, xp[:1] + abs(period)])
        fp = concat([fp[-1:], fp, fp[:1]])
    if xp.size == 1:
        out = zeros_like(x) + fp[0]
    else:
        place = searchsorted(xp, x.detach(), side="right") - 1
        place = ew.clip(place, 0, xp.size - 2)
        inside = ew.clip(x, xp[0], xp[-1])
        (x0, x1), (y0, y1) = ((indexing.take(t, place, axis=0), indexing.take(t, place + 1, axis=0)) for t in (xp, fp))
        width = ew.where(ew.equal(x0, x1), 1, x1 - x0)  # of points at one place the last one counts
        slope = (y1 - y0) / width
        at_point = ew.logical_and(ew.equal(inside, x0), ew.logical_not(ew.isfinite(slope)))
        out = y0 + (inside - x0) * ew.where(at_point, 0, slope)  # beside an infinite value, a point has its own
        out = ew.where(ew.greater_equal(x, xp[-1]), fp[-1], out)
    if left is not None and period is None:
        out = ew.where(ew.less(x, xp[0]), left, out)
    if right is not None and period is None:
        out = ew.where(ew.greater(x, xp[-1]), right, out)
    return out


def trapezoid(y: Any, /, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    """The area below samples `y` along `axis`, by trapezoids of the widths between `x`, or `dx`.

    As in NumPy, sums and widths are in the dtypes of `y` and `x`: cast bools and narrow integers first.
    """
    y = asarray(y)
    place = reduction.one_axis("trapezoid", axis, y.ndim)
    width = dx
    if x is not None:
        y, x = tensors("trapezoid", y, x)
        width = diff(x).reshape((-1, *(1,) * (y.ndim - place - 1))) if x.ndim == 1 else diff(x, axis=axis)
    lead = (slice(None),) * place
    return ((y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]) * width * 0.5).sum(axis=axis)


def unwrap(p: Any, /, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi) -> Tensor:
    """Angles along `axis` with multiples of `period` added, so that no step is greater than half of it (or than
    `discont`, if that is more). Signed integers stay integers where the period is one."""
    p, size = asarray(p), reduction.as_real("unwrap", "period", period)
    dtype = dtypes.result_type(p, period)
    p = floats(p) if dtype.kind in "bu" else p.astype(dtype, copy=False)
    if dtype.kind == "i":
        size = int(period)
    if not size:
        raise DataError("unwrap: period=0; use another")
    half = size // 2 if dtype.kind == "i" else size / 2
    widest = size / 2 if discont is None else reduction.as_real("unwrap", "discont", discont)
    place = reduction.one_axis("unwrap", axis, p.ndim)
    step = diff(p.detach(), axis=place)
    inside = ew.remainder(step + half, size) - half
    if 2 * half == size:
        inside = ew.where(ew.logical_and(ew.equal(inside, -half), ew.greater(step, 0)), half, inside)
    turns = ew.where(ew.less(ew.abs(step), widest), 0, inside - step)
    lead = (slice(None),) * place
    return concat(
        [p[(*lead, slice(0, 1))], p[(*lead, slice(1, None))] + cumulative_sum(turns, axis=place, dtype=turns.dtype)],
        axis=place,
    )


def gradient(f: Any, /, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Slopes of samples along each axis: second-order differences inside, of first or second order at the edges.

    varargs: the distance of samples, for all axes or for each; or their coordinates, a vector for each axis. Returns
    a Tensor for one axis, a list for several. The formulas for unequal distances are those of B. Fornberg, Mathematics
    of Computation 51, 1988.
    """
    f = floats(f)
    axes = reduction.normalize_axis("gradient", axis, f.ndim)
    if axis is not None:  # in the order given
        axes = tuple(a % f.ndim for a in reduction.as_integers("gradient", "axis", axis))
    if reduction.as_integer("gradient", "edge_order", edge_order) not in (1, 2):
        raise DataError(f"gradient: edge_order={edge_order}; use 1 or 2")
    one_for_all = not varargs or (len(varargs) == 1 and asarray(varargs[0]).ndim == 0)
    if len(varargs) != len(axes) and not one_for_all:
        raise DataError(
            f"gradient: {len(varargs)} distances for {len(axes)} axes; give one number for all, or one each"
        )
    spacings = [*varargs] if len(varargs) == len(axes) else [*(varargs or (1.0,))] * len(axes)
    out = [_slopes(f, a, h, edge_order) for a, h in zip(axes, spacings)]
    return out[0] if len(out) == 1 else out


def _slopes(f: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ShapeError(f"gradient: {n} samples along axis {axis}; edge_order={edge_order} needs {edge_order + 1}")
    after = (1,) * (f.ndim - axis - 1)

    def part(start: int | None, stop: int | None) -> Tensor:
        return f[(slice(None),) * axis + (slice(start, stop),)]

    f, coordinates = tensors("gradient", f, spacing)
    if not coordinates.ndim:
        steps = None
    else:
        if coordinates.shape != (n,):
            raise ShapeError(f"gradient: {list(coordinates.shape)} coordinates for {n} samples along axis {axis}")
        steps = (coordinates[1:] - coordinates[:-1]).reshape((-1, *after))
    h = spacing
    first, last = part(1, 2) - part(0, 1), part(-1, None) - part(-2, -1)
    if steps is None:
        inner = (part(2, None) - part(None, -2)) / (h * 2.0)
        if edge_order == 1:
            first, last = first / h, last / h
        else:
            first = (part(0, 1) * -1.5 + part(1, 2) * 2.0 - part(2, 3) * 0.5) / h
            last = (part(-3, -2) * 0.5 - part(-2, -1) * 2.0 + part(-1, None) * 1.5) / h
        return concat([first, inner, last], axis=axis)
    a, b = steps[:-1], steps[1:]
    inner = (
        part(None, -2) * (-b / (a * (a + b))) + part(1, -1) * ((b - a) / (a * b)) + part(2, None) * (a / (b * (a + b)))
    )
    if edge_order == 1:
        return concat([first / steps[:1], inner, last / steps[-1:]], axis=axis)
    a, b = steps[:1], steps[1:2]
    first = (
        part(0, 1) * (-(a * 2 + b) / (a * (a + b)))
        + part(1, 2) * ((a + b) / (a * b))
        - part(2, 3) * (a / (b * (a + b)))
    )
    a, b = steps[-2:-1], steps[-1:]
    last = (
        part(-3, -2) * (b / (a * (a + b)))
        - part(-2, -1) * ((a + b) / (a * b))
        + part(-1, None) * ((b * 2 + a) / (b * (a + b)))
    )
    return concat([first, inner, last], axis=axis)


def polyval(p: Any, /, x: Any) -> Tensor:
    """The polynomial of coefficients `p`, the highest power's first, at `x` (Horner's scheme)."""
    given = x
    p, x = tensors("polyval", p, x)
    out = zeros_like(x if len(p) else asarray(given, device=x.device))
    for coefficient in p:
        out = out * x + coefficient
    return out


def convolve(a: Any, /, v: Any, mode: str = "full") -> Tensor:
    """The discrete convolution of two vectors: "full", "same" (of the longer one) or "valid" (where they overlap)."""
    a, v = tensors("convolve", a, v)
    return correlate(a, ew.conjugate(v)[::-1], mode) if len(v) <= len(a) else convolve(v, a, mode)


def correlate(a: Any, /, v: Any, mode: str = "valid") -> Tensor:
    """The sums of products of `a`, moved along, with `v` conjugated, for two vectors; modes as in `convolve`."""
    a, v = tensors("correlate", a, v)
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(f"correlate: shapes {list(a.shape)} and {list(v.shape)}; give two vectors")
    reduction.as_choice("correlate", "mode", mode, ("full", "same", "valid"))
    if len(v) > len(a):
        return ew.conjugate(correlate(v, a, mode))[::-1]
    n, m = len(a), len(v)
    before = {"full": m - 1, "same": m // 2, "valid": 0}[mode]
    total = {"full": n + m - 1, "same": n, "valid": n - m + 1}[mode]
    padded = indexing.scatter_view(a, index=(slice(before, before + n),), shape=(total + m - 1,)) if before else a
    check_size("correlate", (total, m), 8, a.device)
    places = arange(total, device=a.device).reshape((total, 1)) + arange(m, device=a.device)
    windows, v = indexing.take(padded, places, axis=0), ew.conjugate(v)
    if not before or not dtypes.is_inexact(v.dtype):
        return windows @ v
    inside = ew.logical_and(places >= before, places < before + n)
    weights = ew.where(inside, v, 0)  # an infinite one, beside what was put round `a`, would be NaN
    return (windows[:, None, :] @ weights[:, :, None]).reshape(-1)
