"""Matrix products. Operands have at least two axes here; array_api handles vectors."""

from __future__ import annotations

from typing import Any

from .elementwise import relu_backward
from .primitive import Primitive, tail
from .reduction import sum


def mT(x: Any) -> Any:
    """The last two axes exchanged."""
    n = x.ndim
    return x.permute_dims((*range(n - 2), n - 1, n - 2))


def _rows(x: Any) -> Any:
    """All axes but the last as one."""
    return x if x.ndim == 2 else x.reshape((-1, x.shape[-1]))


matmul = Primitive(
    "matmul", "x y",
    lambda g, y: matmul(g, mT(y)),
    lambda g, x: matmul(mT(x), g),
    promotes="same", gives="out",
)  # fmt: skip

# g^T x, summed over all axes but the last: (..., out) and (..., in) give (out, in)
linear_weight_gradient = Primitive(
    "linear_weight_gradient", "g_ x",
    lambda g, x: linear(x, g, None),
    lambda g, g_: matmul(g_ if g_.ndim > 1 else _rows(g_), g),
    promotes="same", gives="out",
)  # fmt: skip

# x (..., in) @ weight (out, in)^T + bias (out,), as torch.nn.Linear lays it out
linear = Primitive(
    "linear", "x weight bias",
    lambda g, weight: matmul(g if g.ndim > 1 else _rows(g), weight),
    tail(linear_weight_gradient, lambda g, x: (g, x)),
    tail(sum, lambda g: (_rows(g),), axis=(0,), keepdims=False),
    promotes="same", gives="out",
)  # fmt: skip

# relu_backward(g, out), and its sum over all axes but the last: the gradient of a bias, in the same pass
relu_bias_backward = Primitive(
    "relu_bias_backward", "g_ out_",
    lambda g, out_: relu_backward(g[0] + g[1], out_),
    None,
    gives="out",
)  # fmt: skip

# relu(linear(x)), which is where most of a network's time outside its products goes
linear_relu = Primitive(
    "linear_relu", "x weight bias",
    lambda g, weight: matmul(g[0] if g[0].ndim > 1 else _rows(g[0]), weight),
    tail(linear_weight_gradient, lambda g, x: (g[0], x)),
    lambda g: g[1],
    before=lambda g, out, mask: relu_bias_backward(g, out) if mask & 0b100 else (relu_backward(g, out), None),
    promotes="same", gives="out",
)  # fmt: skip
