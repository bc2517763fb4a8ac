"""Linear layers: a matrix product, and what follows it in our kernels."""

from __future__ import annotations

from ...core import dtypes
from ..base import Array
from .chain import Chain
from .shared import Function, Launch, c_name

BIAS_RELU = Chain(2, (("add", 0, 1), ("relu", 2)))


class LinearLaunches:
    """Functions that begin with a matrix product."""

    def __init__(self, launch: Launch, functions: dict[str, Function], product: Function):
        self.launch = launch
        self.product = product  # (first, second, out): by cuBLASLt if it can; False if not
        self.add, self.relu, self.chain = functions["add"], functions["relu"], functions["chain"]

    def linear(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        if dtypes.is_half(x.dtype) or c_name(x.dtype) is None:  # float32 inside, rounded once
            return self.launch.fallback("linear")(x, weight, bias, **({} if out is None else {"out": out}))
        shape = (*x.shape[:-1], weight.shape[0])
        if out is None:
            out = self.launch.backend.empty(shape, x.dtype)
        if self.product(x, weight.T, out):
            pass
        elif x.ndim > 2 and x.flags.c_contiguous and out.flags.c_contiguous:  # one product instead of a batch of them
            self.launch.xp.matmul(x.reshape(-1, x.shape[-1]), weight.T, out=out.reshape(-1, shape[-1]))
        else:
            self.launch.xp.matmul(x, weight.T, out=out)
        return out if bias is None else self.add(out, bias, out=out)

    def linear_relu(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        if bias is None or dtypes.is_half(x.dtype):
            out = self.linear(x, weight, bias, out)
            return self.relu(out, out=out)
        out = self.linear(x, weight, None, out)
        return self.chain(out, bias, chain=BIAS_RELU, out=out)
