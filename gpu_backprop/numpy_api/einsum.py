"""Einstein's summation convention: diagonals, sums, and one matrix product for each pair of operands."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..array_api.linalg import diagonal
from ..core.errors import DataError, DTypeError, ShapeError
from ..core.tensor import Tensor, matmul
from .operands import tensors

__all__ = ["einsum", "einsum_path"]

Labels = tuple[Any, ...]  # of an operand's axes: letters, and numbers for those under an ellipsis, from the back


def einsum(*operands: Any, dtype: Any = None, optimize: Any = True) -> Tensor:
    """The sums of products that subscripts name: `einsum("ij,jk->ik", a, b)` or `einsum(a, [0, 1], b, [1, 2], [0, 2])`.

    NumPy's subscripts: an index that the output lacks is summed over; one that an operand has twice walks its diagonal;
    `...` stands for axes that broadcast; without `->` the output has the indices that occur once, in alphabetical
    order. optimize: the order in which more than two operands are multiplied, as `numpy.einsum_path` takes it: True
    and "greedy" look for a cheap one, "optimal" for the cheapest, False goes from left to right; or a path.
    """
    terms, output, arrays = _parsed("einsum", operands)
    if dtype is not None:
        arrays = [x.astype(dtype, copy=False) for x in arrays]
    lengths = _lengths(terms, output, arrays)
    named = [_cut(x, labels, lengths) for x, labels in zip(arrays, terms)]
    for i, (x, labels) in enumerate(named):
        others = set(output).union(*(other for j, (_, other) in enumerate(named) if j != i))
        named[i] = _summed(x, labels, others)
    for pair in _order(tuple(labels for _, labels in named), output, lengths, optimize):
        chosen = [named.pop(i) for i in sorted(pair, reverse=True)][::-1]
        keep = set(output).union(*(labels for _, labels in named))
        result = chosen[0]
        for n, other in enumerate(chosen[1:], 2):
            result = _product(result, other, keep.union(*(labels for _, labels in chosen[n:])))
        named.append(_summed(*result, keep))
    ((out, labels),) = named
    return _permuted(out, labels, output)


def einsum_path(*operands: Any, optimize: Any = "greedy") -> tuple[list[Any], str]:
    """NumPy's plan for such a sum, and a report of its cost."""
    terms, output, arrays = _parsed("einsum_path", operands)
    lengths = _lengths(terms, output, arrays)
    return np.einsum_path(*_dummies(tuple(terms), output, lengths), optimize=optimize)


# ---------------------------------------------------------------------------------------------------------------------
# subscripts


def _parsed(name: str, operands: Sequence[Any]) -> tuple[list[Labels], Labels, list[Tensor]]:
    """The labels of each operand's axes, those of the output, and the operands."""
    if not operands:
        raise DTypeError(f'{name}: no operands; give subscripts and arrays, as in gb.{name}("ij,jk->ik", a, b)')
    if isinstance(operands[0], str):
        left, arrow, right = operands[0].replace(" ", "").partition("->")
        written, target = [_letters(name, term) for term in left.split(",")], _letters(name, right) if arrow else None
        arrays = list(operands[1:])
    else:
        pairs, odd = divmod(len(operands), 2)
        arrays = list(operands[: 2 * pairs : 2])
        written, target = [tuple(s) for s in operands[1 : 2 * pairs : 2]], tuple(operands[-1]) if odd else None
    if len(written) != len(arrays) or not arrays:
        raise ShapeError(f"{name}: subscripts for {len(written)} operands beside {len(arrays)} arrays; give one each")
    made = tensors(name, *arrays)
    terms = [_spelled(name, labels, x.ndim) for labels, x in zip(written, made)]
    hidden = tuple(range(-max((sum(isinstance(k, _Hidden) for k in t) for t in terms), default=0), 0))
    dots = tuple(map(_Hidden, hidden))
    if target is None:
        count = Counter(label for term in terms for label in term)
        once = sorted(k for k, n in count.items() if n == 1 and not isinstance(k, _Hidden))
        return terms, (*dots, *once), made
    if Ellipsis in target:
        place = target.index(Ellipsis)
        output: Labels = (*target[:place], *dots, *target[place + 1 :])
    elif dots:
        raise DataError(f"{name}: the output's subscripts {_text(target)} lack the ... that an operand has; add it")
    else:
        output = target
    if len(set(output)) != len(output) or Ellipsis in output:
        raise DataError(f"{name}: the output's subscripts {_text(target)} name an index twice; name each once")
    unknown = set(output) - {label for term in terms for label in term}
    if unknown:
        raise DataError(f"{name}: the output's subscripts {_text(target)} name {_text(unknown)}, which no operand has")
    return terms, output, made


class _Hidden(int):
    """The label of an axis under an ellipsis, counted from the back."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and int(self) == int(other)

    def __hash__(self) -> int:
        return hash(("...", int(self)))


def _letters(name: str, term: str) -> Labels:
    before, dots, after = term.partition("...")
    if not all(c in string.ascii_letters for c in before + after):
        raise DataError(f"{name}: subscripts {term!r}; use letters, and ... once an operand")
    return (*before, Ellipsis, *after) if dots else tuple(before)


def _spelled(name: str, labels: Labels, ndim: int) -> Labels:
    """Labels with those under an ellipsis written out."""
    rest = ndim - len(labels)
    if Ellipsis in labels:
        rest += 1
        place = labels.index(Ellipsis)
        labels = (*labels[:place], *map(_Hidden, range(-rest, 0)), *labels[place + 1 :])
    if len(labels) != ndim or rest < 0:
        raise ShapeError(f"{name}: subscripts {_text(labels)} for an operand of {ndim} axes; give one index an axis")
    return labels


def _text(labels: Any) -> str:
    return repr("".join(str(k) for k in labels if not isinstance(k, _Hidden)))


def _lengths(terms: Sequence[Labels], output: Labels, arrays: Sequence[Tensor]) -> dict[Any, int]:
    """How long each index is; axes of length 1 broadcast."""
    lengths: dict[Any, int] = {}
    for labels, x in zip(terms, arrays):
        own: dict[Any, int] = {}
        for label, n in zip(labels, x.shape):
            known = lengths.setdefault(label, n)
            if own.setdefault(label, n) != n or (1 not in (n, known) and n != known):
                raise ShapeError(
                    f"einsum: index {_text([label]) if not isinstance(label, _Hidden) else '...'} is {known} long and, "
                    f"in an operand of shape {list(x.shape)}, {n}; make the lengths equal"
                )
            if known == 1:
                lengths[label] = n
    return lengths


def _order(
    terms: tuple[Labels, ...], output: Labels, lengths: dict[Any, int], optimize: Any
) -> Sequence[tuple[int, ...]]:
    if len(terms) == 1:
        return ()
    if isinstance(optimize, (list, tuple)) and optimize and optimize[0] == "einsum_path":
        return optimize[1:]
    if len(terms) == 2 or optimize is False:
        return ((0, 1), *((0, n) for n in range(len(terms) - 2, 0, -1)))
    if not isinstance(optimize, (bool, str)):
        raise DataError(f"einsum: optimize={optimize!r}; use True, False, 'greedy', 'optimal' or a path")
    return _path(terms, output, tuple(lengths.items()), optimize if isinstance(optimize, str) else "greedy")


@lru_cache(maxsize=1024)
def _path(
    terms: tuple[Labels, ...], output: Labels, lengths: tuple[tuple[Any, int], ...], optimize: str
) -> Sequence[tuple[int, ...]]:
    return np.einsum_path(*_dummies(terms, output, dict(lengths)), optimize=optimize)[0][1:]


def _dummies(terms: tuple[Labels, ...], output: Labels, lengths: dict[Any, int]) -> list[Any]:
    """Arguments for NumPy's planner: arrays of these shapes, which hold one number each."""
    number = {label: i for i, label in enumerate(lengths)}
    made: list[Any] = []
    for labels in terms:
        made += [np.broadcast_to(0.0, [lengths[k] for k in labels]), [number[k] for k in labels]]
    return [*made, [number[k] for k in output]]


# ---------------------------------------------------------------------------------------------------------------------
# steps


def _cut(x: Tensor, labels: Labels, lengths: dict[Any, int]) -> tuple[Tensor, Labels]:
    """An operand without the axes that broadcast, and with the diagonals of labels that it has twice."""
    wide = [i for i, k in enumerate(labels) if x.shape[i] == lengths[k] or labels.count(k) > 1]
    if len(wide) < x.ndim:
        x, labels = x.reshape(tuple(x.shape[i] for i in wide)), tuple(labels[i] for i in wide)
    while len(set(labels)) < len(labels):
        i = next(i for i, k in enumerate(labels) if k in labels[:i])
        first = labels.index(labels[i])
        rest = tuple(j for j in range(x.ndim) if j not in (first, i))
        x = diagonal(x.permute_dims((*rest, first, i)))
        labels = (*(labels[j] for j in rest), labels[i])
    return x, labels


def _summed(x: Tensor, labels: Labels, keep: set[Any]) -> tuple[Tensor, Labels]:
    """Summed over the axes whose labels nobody else wants."""
    axes = tuple(i for i, k in enumerate(labels) if k not in keep)
    return (x.sum(axis=axes, dtype=x.dtype), tuple(k for k in labels if k in keep)) if axes else (x, labels)


def _product(left: tuple[Tensor, Labels], right: tuple[Tensor, Labels], keep: set[Any]) -> tuple[Tensor, Labels]:
    """Two operands multiplied, and summed over the labels that only they have."""
    (x, ours), (y, theirs) = left, right
    both = tuple(k for k in ours if k in theirs and k in keep)
    over = tuple(k for k in ours if k in theirs and k not in keep)
    rows, columns = tuple(k for k in ours if k not in theirs), tuple(k for k in theirs if k not in ours)
    x, y = _permuted(x, ours, both + rows + over), _permuted(y, theirs, both + over + columns)
    b, r, c = len(both), len(rows), len(columns)
    shape = (*x.shape[: b + r], *y.shape[y.ndim - c :])
    if not over:
        x = _reshaped(x, (*x.shape, *(1,) * c))
        y = _reshaped(y, (*y.shape[:b], *(1,) * r, *y.shape[b:]))
        return x * y, both + rows + columns
    n = math.prod(x.shape[b + r :])
    x = _reshaped(x, (*x.shape[:b], math.prod(x.shape[b : b + r]), n))
    y = _reshaped(y, (*y.shape[:b], n, math.prod(y.shape[y.ndim - c :])))
    return _reshaped(matmul(x, y), shape), both + rows + columns


def _permuted(x: Tensor, labels: Labels, order: Labels) -> Tensor:
    return x if labels == order else x.permute_dims(tuple(labels.index(k) for k in order))


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else x.reshape(shape)
