"""Primitives that move, repeat or view elements without computing anything new."""

from __future__ import annotations

from typing import Any

from .primitive import Primitive


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(i) for i in range(len(axes)))


def _pull_concat(g: Any, i: int, specs: Any, axis: int) -> Any:
    start = sum(spec.shape[axis] for spec in specs[:i])
    return g[(slice(None),) * axis + (slice(start, start + specs[i].shape[axis]),)]


def _stack(gs: tuple[Any, ...], axis: int) -> Any:
    shape = gs[0].shape
    return concat(*(g.reshape((*shape[:axis], 1, *shape[axis:])) for g in gs), axis=axis)


# an identity on the tape: a place where a gradient can be asked for
alias = Primitive("alias", "x", lambda g: g, gives="view", forward=lambda x: x)
astype = Primitive("astype", "x", lambda g: g, gives="out")  # the tape casts g back
broadcast_to = Primitive("broadcast_to", "x", lambda g: g, gives="view")  # the tape sums g down
concat = Primitive("concat", "*xs", _pull_concat, promotes="same")
copy = Primitive("copy", "x", lambda g: g)
flip = Primitive("flip", "x", lambda g, axis: flip(g, axis=axis), gives="view")
permute_dims = Primitive("permute_dims", "x", lambda g, axes: permute_dims(g, axes=_inverse(axes)), gives="view")
# 0 to n - 1, each as often as the n `repeats` say
repeat_indices = Primitive("repeat_indices", "repeats", gives="counted")
reshape = Primitive("reshape", "x", lambda g, x_spec: g.reshape(x_spec.shape), gives="view")
roll = Primitive("roll", "x", lambda g, shift, axis: roll(g, shift=tuple(-s for s in shift), axis=axis))
# a copy on another device; two backends take part, so the tape makes it itself (tape.transfer)
transfer = Primitive("transfer", "x", lambda g, source: g.to(source))
tril = Primitive("tril", "x", lambda g, k: tril(g, k=k))
triu = Primitive("triu", "x", lambda g, k: triu(g, k=k))
# every x[i] along an axis
unstack = Primitive("unstack", "x", lambda g, axis: _stack(g, axis), gives="view")
