"""Primitives that move, repeat or view elements without computing anything new."""

from __future__ import annotations

from typing import Any

from .primitive import Primitive


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axes.index(i) for i in range(len(axes)))


def _pull_concat(g: Any, i: int, specs: Any, axis: int) -> Any:
    start = sum(spec.shape[axis] for spec in specs[:i])
    return g[(slice(None),) * axis + (slice(start, start + specs[i].shape[axis]),)]


# an identity on the tape: a place where a gradient can be asked for
alias = Primitive("alias", "x", lambda g: g, gives="view", forward=lambda x: x)
astype = Primitive("astype", "x", lambda g: g, gives="out")  # the tape casts g back
broadcast_to = Primitive("broadcast_to", "x", lambda g: g, gives="view")  # the tape sums g down
concat = Primitive("concat", "*xs", _pull_concat, promotes="same")
copy = Primitive("copy", "x", lambda g: g)
flip = Primitive("flip", "x", lambda g, axis: flip(g, axis=axis), gives="view")
permute_dims = Primitive("permute_dims", "x", lambda g, axes: permute_dims(g, axes=_inverse(axes)), gives="view")
reshape = Primitive("reshape", "x", lambda g, x_spec: g.reshape(x_spec.shape), gives="view")
# a copy on another device; two backends take part, so the tape makes it itself (tape.transfer)
transfer = Primitive("transfer", "x", lambda g, source: g.to(source))
