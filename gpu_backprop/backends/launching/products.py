"""Matrix products by cuBLASLt, where the device has it (gemm.py) and where it fits; elsewhere as linear.py has them.

`matmul`, `linear`, `linear_relu` and `linear_weight_gradient` are primitives. The others are for whoever sees more of a
step than one primitive, as the rewrites of a Program do: two primitives in one product, equal to them but for the
rounding between the two, where cuBLASLt has an epilogue that fits; the two one after the other where it has not.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ...core import precision
from .. import gemm
from ..base import Array
from .linear import LinearLaunches
from .shared import Function, Launch, c_name, element_strides


class ProductLaunches:
    """Functions that begin with a matrix product."""

    def __init__(self, launch: Launch, functions: dict[str, Function]):
        self.launch, self.others = launch, functions
        self.machine = launch.backend.machine
        self.unfused = LinearLaunches(launch, functions, self.product)
        self.functions: dict[str, Function] = {
            # primitives
            "matmul": self.matmul,
            "linear": self.linear,
            "linear_relu": self.linear_relu,
            "linear_weight_gradient": self.linear_weight_gradient,
            # two of them in one product
            "linear_relu_mask": self.linear_relu_mask,
            "matmul_relu_backward": self.matmul_relu_backward,
            "linear_gelu_value": self.linear_gelu_value,
            "matmul_gelu_backward": self.matmul_gelu_backward,
            "linear_gradients": self.linear_gradients,
            "add_linear_weight_gradient": self.add_linear_weight_gradient,
        }

    def product(
        self, first: Array, second: Array, out: Array, epilogue: str = "none", *, bias: Array | None = None,
        aux: Array | None = None, accumulate: bool = False,
    ) -> bool:  # fmt: skip
        """first @ second into `out`, by cuBLASLt; False, and nothing done, where that or the epilogue does not fit.

        bias: (n,), or what a bias gradient is written to. aux: (rows, ...), a mask or the input of GELU.
        """
        library: gemm.Library | None = self.machine.gemm
        if library is None:
            return False
        address = self.launch.address
        planned = plan_of(first, second, out, epilogue, address, bias=bias, aux=aux, accumulate=accumulate)
        if isinstance(planned, gemm.Unfit):
            return False
        first = self.launch.contiguous(first) if planned.copy_first else first
        second = self.launch.contiguous(second) if planned.copy_second else second
        addresses = [0 if x is None else address(x) for x in (bias, aux)]
        try:
            library.run(planned, address(first), address(second), address(out), *addresses)
        except gemm.NoAlgorithm:
            return False
        return True

    def usable(self, x: Array) -> bool:
        """May products of x go through cuBLASLt at all?"""
        return self.machine.gemm is not None and c_name(x.dtype) is not None

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.launch.backend.empty(shape, np.dtype(dtype))

    def rows(self, x: Array) -> Array:
        """All axes but the last as one."""
        return x if x.ndim == 2 else self.launch.contiguous(x).reshape(-1, x.shape[-1])

    # primitives ------------------------------------------------------------------------------------------------------

    def matmul(self, x: Array, y: Array, out: Array | None = None) -> Array:
        if self.usable(x):
            shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
            result = self.empty(shape, x.dtype) if out is None else out
            if self.product(x, y, result):
                return result
        return self.launch.fallback("matmul")(x, y, **into(out))

    def linear(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        result = self.layer(x, weight, bias, out, "none" if bias is None else "bias")
        return self.unfused.linear(x, weight, bias, out) if result is None else result

    def linear_relu(self, x: Array, weight: Array, bias: Array | None, out: Array | None = None) -> Array:
        # not by the epilogue RELU_BIAS, which makes 0 of a NaN (float16, cuBLASLt 13.1 on an H200)
        result = self.layer(x, weight, bias, out, "none" if bias is None else "bias")
        if result is not None:
            return self.others["relu"](result, out=result)
        return self.unfused.linear_relu(x, weight, bias, out)

    def layer(
        self, x: Array, weight: Array, bias: Array | None, out: Array | None, epilogue: str, aux: Array | None = None
    ) -> Array | None:
        """x @ weight.T and its epilogue; None where it does not fit."""
        if not self.usable(x):
            return None
        result = self.empty((*x.shape[:-1], weight.shape[0]), x.dtype) if out is None else out
        rows = (x[None], result[None]) if x.ndim == 1 else (x, result)
        return result if self.product(rows[0], weight.T, rows[1], epilogue, bias=bias, aux=aux) else None

    def linear_weight_gradient(self, g: Array, x: Array, out: Array | None = None) -> Array:
        if self.usable(g):
            g_rows, x_rows = self.rows(g), self.rows(x)
            result = self.empty((g.shape[-1], x.shape[-1]), g.dtype) if out is None else out
            if self.product(g_rows.T, x_rows, result):
                return result
        return self.launch.fallback("linear_weight_gradient")(g, x, **into(out))

    # two primitives in one product -----------------------------------------------------------------------------------
    # each gives two arrays, into the two of `out` if given

    def linear_relu_mask(
        self, x: Array, weight: Array, bias: Array, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array | None]:
        """linear_relu(x, weight, bias), and the bits (result > 0) that matmul_relu_backward reads in its place.

        The mask is uint8, of gemm.mask_shape(rows, columns); None, and not written, where the epilogue does not fit.
        """
        y, mask = out or (None, None)
        if self.usable(x) and x.size:
            if mask is None:
                mask = self.empty(gemm.mask_shape(math.prod(x.shape[:-1]), weight.shape[0]), np.uint8)
            result = self.layer(x, weight, bias, y, "bias_relu_mask", mask)
            if result is not None:
                return result, mask
        return self.linear_relu(x, weight, bias, y), None

    def matmul_relu_backward(
        self, g: Array, weight: Array, y: Array, mask: Array | None, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """relu_bias_backward(g @ weight, y): the gradients behind a linear layer of a ReLU with a bias before it.

        g (..., out), weight (out, n), y (..., n): the ReLU's output; mask: what linear_relu_mask gave with it, or None.
        """
        found = None if mask is None else self.activation_gradients(g, weight, "relu_backward_bias", mask, out)
        return found or self.both(self.others["relu_bias_backward"](self.matmul(g, weight), y), out)

    def linear_gelu_value(
        self, x: Array, weight: Array, bias: Array, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """gelu(linear(x, weight, bias), "tanh"), and the input of that GELU as (rows, n), its rows maybe padded.

        The second of `out` is of gemm.value_shape(rows, n).
        """
        n = weight.shape[0]
        y, kept = out or (None, None)
        if self.usable(x) and x.size:
            if kept is None:
                kept = self.empty(gemm.value_shape(math.prod(x.shape[:-1]), n), x.dtype)
            result = self.layer(x, weight, bias, y, "bias_gelu_value", kept)
            if result is not None:
                return result, kept[:, :n]
        value = self.linear(x, weight, bias)
        y = self.others["gelu"](value, approximate="tanh", **into(y))
        rows = value.reshape(-1, n)
        return y, rows if kept is None else self.launch.copy_to(rows, out=kept[:, :n])

    def matmul_gelu_backward(
        self, g: Array, weight: Array, value: Array, out: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """gelu_backward(g @ weight, value, "tanh") and its sum over rows; value: what linear_gelu_value gave."""
        found = self.activation_gradients(g, weight, "gelu_backward_bias", value, out)
        if found is not None:
            return found
        dx = self.matmul(g, weight)
        dx = self.others["gelu_backward"](self.rows(dx), value, approximate="tanh").reshape(dx.shape)
        return self.both((dx, self.others["sum"](self.rows(dx), axis=(0,), keepdims=False)), out)

    def activation_gradients(
        self, g: Array, weight: Array, epilogue: str, aux: Array, out: tuple[Array, Array] | None
    ) -> tuple[Array, Array] | None:
        """(g @ weight) times the slope of an activation, and its sum over rows; None where it does not fit."""
        if not self.usable(g):
            return None
        n = weight.shape[1]
        dx, db = out or (self.empty((*g.shape[:-1], n), g.dtype), self.empty((n,), g.dtype))
        if not dx.flags.c_contiguous:
            return None
        rows = dx.reshape(-1, n) if dx.size else dx  # a view: dx is contiguous
        return (dx, db) if self.product(self.rows(g), weight, rows, epilogue, bias=db, aux=aux) else None

    def linear_gradients(self, g: Array, x: Array, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """linear_weight_gradient(g, x), and g summed over its rows: the gradient of a bias."""
        dw, db = out or (None, None)
        if self.usable(g):
            made = self.empty((g.shape[-1], x.shape[-1]), g.dtype) if dw is None else dw
            total = self.empty((g.shape[-1],), g.dtype) if db is None else db
            if self.product(self.rows(g).T, self.rows(x), made, "sum_first", bias=total):
                return made, total
        total = self.others["sum"](self.rows(g), axis=(0,), keepdims=False, **into(db))
        return self.linear_weight_gradient(g, x, dw), total

    def both(self, made: tuple[Array, Array], out: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """Two results, where they are wanted."""
        if out is None:
            return made
        return self.launch.copy_to(made[0], out=out[0]), self.launch.copy_to(made[1], out=out[1])

    def add_linear_weight_gradient(self, g: Array, x: Array, out: Array) -> Array:
        """out += linear_weight_gradient(g, x), rounded once where cuBLASLt adds."""
        if self.usable(g) and self.product(self.rows(g).T, self.rows(x), out, accumulate=True):
            return out
        return self.others["add"](out, self.linear_weight_gradient(g, x), out=out)


def plan_of(
    first: Any, second: Any, out: Any, epilogue: str, address: Function, *, bias: Any = None, aux: Any = None,
    accumulate: bool = False,
) -> gemm.Plan | gemm.Unfit:  # fmt: skip
    """What cuBLASLt is asked for. Of arrays, or of what has their shape, strides and dtype; address(x) says where."""
    if any(x.dtype != out.dtype for x in (first, second, bias) if x is not None) or c_name(out.dtype) is None:
        return gemm.Unfit("the dtypes differ, or cuBLASLt does not multiply them")
    if bias is not None and bias.shape[0] > 1 and element_strides(bias) != (1,):
        return gemm.Unfit("the bias is not contiguous")
    a, b, d = (operand(x, address) for x in (first, second, out))
    if a is None or b is None or d is None:
        return gemm.Unfit("strides are no whole number of elements")
    bias_at, aux_at = (gemm.alignment(0 if x is None else address(x)) for x in (bias, aux))
    # the distance between rows, in bits of a mask and elements of a value
    masked = aux is not None and aux.dtype == np.uint8
    aux_ld = None if aux is None else aux.strides[0] * 8 if masked else aux.strides[0] // aux.dtype.itemsize
    return gemm.plan(
        a, b, d, out.dtype, epilogue, accumulate=accumulate, precision=precision.get_matmul_precision(),
        bias_alignment=bias_at, aux_alignment=aux_at, aux_ld=aux_ld,
    )  # fmt: skip


# Epilogues that cuBLASLt 13.1 runs as a kernel of its own behind the product, on an H200 at a quarter of the bandwidth
# that ours reach: so they are taken only where they win a race.
APART = frozenset(("relu_backward_bias", "gelu_backward_bias", "sum_first"))
RACES = 5


@functools.lru_cache(1024)
def is_quicker(
    backend: Any, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype, epilogue: str
) -> bool:  # fmt: skip
    """Does a product with an epilogue of APART take less time than the functions that it stands for?

    first, second: the shapes of its operands. Timed on memory of its own; the answer is kept.
    """
    functions = backend.functions
    (m, k), n = first, second[-1]
    x, y, dx, db = (backend.empty(shape, dtype) for shape in (first, second, (m, n), (n,)))
    if epilogue == "sum_first":
        g, dw, total = backend.empty((k, m), dtype), dx, backend.empty((m,), dtype)
        fused = lambda: functions["linear_gradients"](g, y, out=(dw, total))
        apart = lambda: (
            functions["linear_weight_gradient"](g, y, out=dw),
            functions["sum"](g, axis=(0,), keepdims=False, out=total),
        )
    elif epilogue == "relu_backward_bias":
        value, mask = backend.empty((m, n), dtype), backend.empty(gemm.mask_shape(m, n), np.dtype(np.uint8))
        fused = lambda: functions["matmul_relu_backward"](x, y, value, mask, out=(dx, db))
        apart = lambda: functions["relu_bias_backward"](functions["matmul"](x, y), value, out=(dx, db))
    else:
        value = backend.empty(gemm.value_shape(m, n), dtype)[:, :n]
        fused = lambda: functions["matmul_gelu_backward"](x, y, value, out=(dx, db))
        apart = lambda: (
            functions["gelu_backward"](functions["matmul"](x, y), value, approximate="tanh", out=dx),
            functions["sum"](dx, axis=(0,), keepdims=False, out=db),
        )
    times = {fused: math.inf, apart: math.inf}
    for _ in range(1 + RACES):  # the first compiles, and chooses algorithms; both run in turn
        times = {work: min(seconds, backend.machine.seconds(work)) for work, seconds in times.items()}
    return times[fused] < times[apart]


def operand(x: Any, address: Function) -> gemm.Operand | None:
    strides = element_strides(x)
    return None if strides is None else gemm.Operand(x.shape, strides, gemm.alignment(address(x)))


def into(out: Array | None) -> dict[str, Array]:
    """`out` as a keyword argument, if there is one."""
    return {} if out is None else {"out": out}
