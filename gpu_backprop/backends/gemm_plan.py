"""What cuBLASLt is asked for: every attribute of a matrix product, from shapes, strides and dtypes alone.

cuBLASLt computes on column-major matrices, where element (i, j) lies `i + j * ld` behind the first:

    D = epilogue(alpha op(A) op(B) + beta C)        op(A) (m, k), op(B) (k, n), C and D (m, n)

A row-major array is the column-major form of its transpose, and D^T = B^T A^T. So for a row-major result the operands
change places and nothing is copied; op() transposes an operand that lies the other way round. A bias runs along the
rows of cuBLASLt's D, which are then the columns of ours: what a linear layer wants.

Source of every rule below: NVIDIA's cuBLAS documentation, cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t and
cublasLtMatmul; what nvmath-python's nvmath.linalg.advanced refuses or works round is named where it is used.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.errors import KernelError, ShapeError
from .layouts import Dims, broadcast_strides, dense, merge

ALIGNED = 256  # bytes; cuBLASLt asks no more of a pointer
WORKSPACE = 32 << 20  # bytes a stream
INT_MAX = 2**31 - 1  # "usually only values that can be expressed as int32_t are supported"
MASK_BITS = 128  # the leading dimension of a ReLU mask, in bits, is a multiple of this
VALUE_STEP = 8  # and that of a kept GELU input, in elements, of this
AUX_ALIGNED = 16  # bytes: what both make of the distance between two rows


class Kind(NamedTuple):
    """cuBLASLt's names of a dtype: of the data, the arithmetic, and alpha and beta."""

    data: str
    compute: str
    scale: str
    bytes: int


# 16-bit floats add up in float32. `float32` is true float32: TF32 has to be allowed (see `plan`).
KINDS = {
    "float16": Kind("CUDA_R_16F", "COMPUTE_32F", "CUDA_R_32F", 2),
    "bfloat16": Kind("CUDA_R_16BF", "COMPUTE_32F", "CUDA_R_32F", 2),
    "float32": Kind("CUDA_R_32F", "COMPUTE_32F", "CUDA_R_32F", 4),
    "float64": Kind("CUDA_R_64F", "COMPUTE_64F", "CUDA_R_64F", 8),
}
TF32 = "COMPUTE_32F_FAST_TF32"


class Epilogue(NamedTuple):
    """What follows a product, seen from row-major arrays: first (m, k) @ second (k, n) = out (m, n)."""

    row_major: str  # cuBLASLt's name where the operands change places
    column_major: str | None = None  # and where the result is column-major; None: it cannot be had there
    bias: str = ""  # "input" (n,), or "gradient": written, (n,), or (m,) for "sum_first"
    aux: str = ""  # "mask" (bits, out > 0) or "value" (the input of GELU)
    aux_is: str = ""  # "output" of the forward pass, "input" of the backward pass
    adds: bool = False  # may the product be added to what `out` holds?

    @property
    def backward(self) -> bool:
        return self.aux_is == "input" or self.bias == "gradient"


EPILOGUES = {
    # name                 row-major           column-major
    "none": Epilogue("DEFAULT", "DEFAULT", adds=True),
    # out = first @ second + bias, and an activation of it; GELU is the tanh form
    "bias": Epilogue("BIAS", bias="input", adds=True),
    "bias_relu": Epilogue("RELU_BIAS", bias="input"),
    "bias_relu_mask": Epilogue("RELU_AUX_BIAS", bias="input", aux="mask", aux_is="output"),
    "bias_gelu": Epilogue("GELU_BIAS", bias="input"),
    "bias_gelu_value": Epilogue("GELU_AUX_BIAS", bias="input", aux="value", aux_is="output"),
    # out = (first @ second) times the slope of the activation; its sum over rows is the gradient of a bias
    "relu_backward": Epilogue("DRELU", aux="mask", aux_is="input"),
    "relu_backward_bias": Epilogue("DRELU_BGRAD", bias="gradient", aux="mask", aux_is="input"),
    "gelu_backward": Epilogue("DGELU", aux="value", aux_is="input"),
    "gelu_backward_bias": Epilogue("DGELU_BGRAD", bias="gradient", aux="value", aux_is="input"),
    # out = first @ second, and first summed over its columns, or second over its rows: both over k
    "sum_first": Epilogue("BGRADB", "BGRADA", bias="gradient", adds=True),
    "sum_second": Epilogue("BGRADA", "BGRADB", bias="gradient", adds=True),
}


class Operand(NamedTuple):
    """An array as a plan sees it: shape, strides in elements, and the power of two that divides its address."""

    shape: Dims
    strides: Dims
    alignment: int = ALIGNED


@dataclass(frozen=True, slots=True)
class Layout:
    """A cublasLtMatrixLayout_t. `ld` and `batch_stride` are in elements."""

    type: str
    rows: int
    cols: int
    ld: int
    batch_count: int
    batch_stride: int
    order: str = "COL"


@dataclass(frozen=True, slots=True)
class Plan:
    """Every attribute that `gemm.Library.run` sets, under cuBLASLt's names; C is D (same layout, same memory)."""

    swapped: bool  # A is the second operand, B the first
    copy_first: bool  # the operand has to be copied into C order before: no axis of its matrices is contiguous
    copy_second: bool
    transa: str
    transb: str
    a: Layout
    b: Layout
    d: Layout
    compute_type: str
    scale_type: str
    alpha: float
    beta: float
    epilogue: str
    bias: str  # "", "input" or "gradient"
    bias_length: int
    bias_batch_stride: int
    aux: str  # "", "mask" or "value"
    aux_is: str  # "", "output" or "input"
    aux_ld: int  # bits of a mask, elements of a value
    aux_batch_stride: int
    aux_bytes: int
    alignment_a: int
    alignment_b: int
    alignment_d: int
    alignment_bias: int
    alignment_aux: int
    workspace: int = WORKSPACE


class Unfit(NamedTuple):
    """Why cuBLASLt, or the wanted epilogue, does not fit; the caller takes another path."""

    reason: str


def alignment(address: int) -> int:
    """The largest power of two, up to 256, that divides an address."""
    return min(address & -address, ALIGNED) if address else ALIGNED


def mask_shape(rows: int, columns: int) -> Dims:
    """The shape, as uint8, of the ReLU mask of a row-major (rows, columns) result."""
    return rows, _round_up(columns, MASK_BITS) // 8


def value_shape(rows: int, columns: int) -> Dims:
    """The shape, in elements of the result, of the kept GELU input of a (rows, columns) result."""
    return rows, _round_up(columns, VALUE_STEP)


def plan(
    first: Operand,
    second: Operand,
    out: Operand,
    dtype: np.dtype,
    epilogue: str = "none",
    *,
    accumulate: bool = False,
    precision: str = "highest",
    bias_alignment: int = ALIGNED,
    aux_alignment: int = ALIGNED,
    aux_ld: int | None = None,
) -> Plan | Unfit:
    """The attributes of first (..., m, k) @ second (..., k, n) = out (..., m, n), or why it does not fit.

    dtype: that of all three. epilogue: a name in EPILOGUES. accumulate: out += instead of out =. precision: "high" lets
    float32 products round their operands to TF32 (10 bits of fraction). aux_ld: the distance between rows of an aux
    array that is there already, in bits of a mask or elements of a value; by default that of mask_shape or value_shape.

    Batch axes broadcast. Those that lie one behind the other become rows of one product where `second` has none, else
    one strided batch. Raises ShapeError where the shapes do not multiply, KernelError for an unknown epilogue.
    """
    if epilogue not in EPILOGUES:
        raise KernelError(f"gemm.plan: the epilogue {epilogue!r} is unknown; use one of {', '.join(EPILOGUES)}")
    return _plan(first, second, out, dtype.name, epilogue, accumulate, precision, bias_alignment, aux_alignment, aux_ld)


@functools.lru_cache(4096)
def _plan(
    first: Operand, second: Operand, out: Operand, dtype: str, epilogue: str, accumulate: bool, precision: str,
    bias_alignment: int, aux_alignment: int, aux_ld: int | None,
) -> Plan | Unfit:  # fmt: skip
    wanted = EPILOGUES[epilogue]
    m, n, k = _sizes(first, second, out)
    if dtype not in KINDS:
        return Unfit(f"cuBLASLt multiplies no {dtype}")
    if not math.prod(out.shape) or not k:
        return Unfit("an operand is empty")
    if dtype == "float64" and "gelu" in epilogue:  # 1e-8 from the formula, measured on an H200 with cuBLASLt 13.1
        return Unfit(f"{wanted.row_major} has float32's accuracy")
    if k == 1 and wanted.backward:  # DRELU and DGELU always, BGRADA and BGRADB before cuBLASLt 12.3.4
        return Unfit(f"{wanted.row_major} does not work with K = 1")
    if accumulate and not wanted.adds:
        return Unfit(f"{wanted.row_major} acts on the sum, so nothing can be accumulated")

    batch, sums_k = out.shape[:-2], epilogue in ("sum_first", "sum_second")
    copies = [orient(x) is None for x in (first, second)]
    if copies[0]:
        first = Operand(first.shape, dense(first.shape))
    if copies[1]:
        second = Operand(second.shape, dense(second.shape))
    folded = None if sums_k else _fold(first, second, out, batch)
    if folded:
        first, out = folded
        m, batch = out.shape[-2], ()
    strides = [broadcast_strides(x.shape[:-2], x.strides[:-2], batch) for x in (first, second, out)]
    counts, steps = merge(batch, strides)
    if len(counts) > 1:
        return Unfit("the batch axes do not lie at one stride")
    batch_count = counts[0] if counts else 1
    batch_strides = [s[0] if s else 0 for s in steps]
    if batch_count > 1 and wanted.bias == "gradient":
        return Unfit("a batch has no single bias gradient")
    if min(batch_strides) < 0 or (batch_count > 1 and batch_strides[2] == 0):
        return Unfit("a batch runs backwards, or over itself")

    way = orient(out)
    if way is None:
        return Unfit("no axis of the result is contiguous")
    swapped = way[0] == "row"
    name = wanted.row_major if swapped else wanted.column_major
    if name is None:
        return Unfit(f"{wanted.row_major} needs a row-major result")
    # For BGRADB nvmath-python works round a fault of the library by op(B) = T: the summed operand's other axis has to
    # be contiguous. We ask the same of A, and leave other layouts to the unfused path.
    ways = [_oriented(first, prefer_column=epilogue == "sum_first"), _oriented(second)]
    if sums_k and ways[epilogue == "sum_second"][0] != ("row" if epilogue == "sum_second" else "column"):
        return Unfit(f"{name} needs the summed operand contiguous across k")

    kind = KINDS[dtype]
    layouts = []
    for (rows, cols), (major, ld), stride in zip(((m, k), (k, n), (m, n)), (*ways, way), batch_strides, strict=True):
        shape = (cols, rows) if major == "row" else (rows, cols)
        layouts.append(Layout(kind.data, *shape, ld, batch_count, stride))
    if max(max(x.rows, x.cols, x.ld, x.batch_count) for x in layouts) > INT_MAX:
        return Unfit("a dimension exceeds 2^31 - 1")

    aux = _aux(wanted, (m, n), batch_count, kind.bytes, aux_ld, aux_alignment)
    if isinstance(aux, Unfit):
        return aux
    # what is column-major is what cuBLASLt means by N; where the operands change places, what is row-major
    transposes = ["N" if (major == "row") == swapped else "T" for major, _ in ways]
    order = (1, 0) if swapped else (0, 1)
    aligned = first.alignment, second.alignment
    return Plan(
        swapped=swapped,
        copy_first=copies[0],
        copy_second=copies[1],
        transa=transposes[order[0]],
        transb=transposes[order[1]],
        a=layouts[order[0]],
        b=layouts[order[1]],
        d=layouts[2],
        compute_type=TF32 if precision == "high" and dtype == "float32" else kind.compute,
        scale_type=kind.scale,
        alpha=1.0,
        beta=1.0 if accumulate else 0.0,
        epilogue=name,
        bias=wanted.bias,
        bias_length=0 if not wanted.bias else m if epilogue == "sum_first" else n,
        bias_batch_stride=0,
        aux=wanted.aux,
        aux_is=wanted.aux_is,
        aux_ld=aux[0],
        aux_batch_stride=aux[1],
        aux_bytes=aux[2],
        alignment_a=aligned[order[0]],
        alignment_b=aligned[order[1]],
        alignment_d=out.alignment,
        alignment_bias=bias_alignment if wanted.bias else ALIGNED,
        alignment_aux=aux_alignment if wanted.aux else ALIGNED,
    )


def _sizes(first: Operand, second: Operand, out: Operand) -> tuple[int, int, int]:
    """m, n, k; ShapeError where they do not agree."""
    shapes = first.shape, second.shape, out.shape
    try:
        batch = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
        (m, k), (k2, n) = first.shape[-2:], second.shape[-2:]
        if k != k2 or out.shape != (*batch, m, n):
            raise ValueError
    except ValueError:
        raise ShapeError("gemm.plan: {} @ {} does not give {}".format(*map(list, shapes))) from None
    return m, n, k


def orient(x: Operand, prefer_column: bool = False) -> tuple[str, int] | None:
    """How the matrices of an operand lie: ("row" or "column" major, leading dimension); None: neither way.

    An axis of length 1 has any stride, so a vector lies both ways; `prefer_column` says which is meant then.
    """
    (rows, cols), (down, across) = x.shape[-2:], x.strides[-2:]
    ways: list[tuple[str, int] | None] = []
    for name, outer, inner, step, unit in (("row", rows, cols, down, across), ("column", cols, rows, across, down)):
        fits = (inner == 1 or unit == 1) and (outer == 1 or step >= inner)
        ways.append((name, step if outer > 1 else inner) if fits else None)
    if prefer_column:
        ways.reverse()
    return ways[0] or ways[1]


def _oriented(x: Operand, prefer_column: bool = False) -> tuple[str, int]:
    """orient(x) of an operand that was copied where it lies neither way."""
    found = orient(x, prefer_column)
    assert found is not None
    return found


def _fold(first: Operand, second: Operand, out: Operand, batch: Dims) -> tuple[Operand, Operand] | None:
    """first and out with their batch axes as rows of one matrix, where `second` is the same for all of them."""
    steps = broadcast_strides(second.shape[:-2], second.strides[:-2], batch)
    if not batch or any(s for s, count in zip(steps, batch, strict=True) if count > 1):
        return None
    rows = (*batch, out.shape[-2])
    strides = [(*broadcast_strides(x.shape[:-2], x.strides[:-2], batch), x.strides[-2]) for x in (first, out)]
    counts, merged = merge(rows, strides)
    if len(counts) > 1:
        return None
    count = counts[0] if counts else 1
    both = [
        Operand((count, x.shape[-1]), (*(s or (x.shape[-1],)), x.strides[-1]), x.alignment)
        for x, s in zip((first, out), merged, strict=True)
    ]
    return None if None in map(orient, both) else (both[0], both[1])


def _aux(
    wanted: Epilogue, shape: tuple[int, int], batch_count: int, size: int, ld: int | None, aligned: int
) -> tuple[int, int, int] | Unfit:
    """Leading dimension, batch stride and bytes of the auxiliary matrix: one row of ours after the other."""
    if not wanted.aux:
        return 0, 0, 0
    rows, columns = shape
    step, bits = (MASK_BITS, 1) if wanted.aux == "mask" else (VALUE_STEP, 8 * size)
    ld = ld or _round_up(columns, step)
    if ld % step or ld < columns:
        return Unfit(f"{wanted.row_major} needs rows of the {wanted.aux} at a multiple of {step} from {columns} up")
    if aligned < AUX_ALIGNED:
        return Unfit(f"{wanted.row_major} needs the {wanted.aux} at a multiple of {AUX_ALIGNED} bytes")
    return ld, ld * rows if batch_count > 1 else 0, ld * rows * batch_count * bits // 8


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
