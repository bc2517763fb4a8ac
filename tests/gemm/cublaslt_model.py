"""What cuBLASLt documents of a matrix product, in NumPy: attributes and flat memory in, flat memory out.

    D = epilogue(alpha op(A) op(B) + beta C)

Element (i, j) of a column-major matrix lies at i + j * ld, matrix number b at b * batch_stride. The model knows nothing
of row-major arrays, nor of gpu_backprop: it reads a cublasLtMatmulDesc_t and four cublasLtMatrixLayout_t, given under
the names of NVIDIA's documentation (cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t, cublasLtMatmul), and refuses
what they forbid. It computes in float64 and rounds once to the type of D; TF32 rounds the operands before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

TYPES = {
    "CUDA_R_16F": np.dtype(np.float16),
    "CUDA_R_16BF": np.dtype(ml_dtypes.bfloat16),
    "CUDA_R_32F": np.dtype(np.float32),
    "CUDA_R_64F": np.dtype(np.float64),
}
# compute type -> scale type -> types of A and B, C and D, and bias, which here are one
SUPPORTED = {
    ("COMPUTE_32F", "CUDA_R_32F"): ("CUDA_R_16F", "CUDA_R_16BF", "CUDA_R_32F"),
    ("COMPUTE_32F_FAST_TF32", "CUDA_R_32F"): ("CUDA_R_32F",),
    ("COMPUTE_64F", "CUDA_R_64F"): ("CUDA_R_64F",),
}
# epilogue -> reads a bias, activation, its derivative's, writes a bias gradient of D's rows ("D"), A or B, uses aux
BIAS = ("BIAS", "RELU_BIAS", "RELU_AUX_BIAS", "GELU_BIAS", "GELU_AUX_BIAS")
MASKED = ("RELU_AUX_BIAS", "DRELU", "DRELU_BGRAD")
VALUED = ("GELU_AUX_BIAS", "DGELU", "DGELU_BGRAD")
BGRAD = ("DRELU_BGRAD", "DGELU_BGRAD", "BGRADA", "BGRADB")
EPILOGUES = ("DEFAULT", *BIAS, "DRELU", "DGELU", *BGRAD)


class Refused(Exception):
    """What cuBLASLt documents as invalid or not supported."""


@dataclass
class Matrix:
    """cublasLtMatrixLayout_t."""

    type: str
    rows: int
    cols: int
    ld: int
    order: str = "COL"
    batch_count: int = 1
    batch_stride: int = 0

    def check(self, name: str) -> None:
        require(self.order == "COL", f"{name}: only column-major is modelled")
        require(self.rows > 0 and self.cols > 0, f"{name}: empty")
        require(self.ld >= self.rows, f"{name}: ld {self.ld} is less than the {self.rows} rows")
        require(self.batch_count >= 1, f"{name}: batch count {self.batch_count}")
        require(max(self.rows, self.cols, self.ld) < 2**31, f"{name}: beyond int32")

    def places(self, batch: int) -> np.ndarray:
        """Where in flat memory the elements (i, j) of one matrix lie."""
        i, j = np.indices((self.rows, self.cols))
        return batch * self.batch_stride + i + j * self.ld

    def read(self, memory: np.ndarray, batch: int) -> np.ndarray:
        assert memory.dtype == TYPES[self.type], (memory.dtype, self.type)
        return memory[self.places(batch)].astype(np.float64)


@dataclass
class Operation:
    """cublasLtMatmulDesc_t; `bias` and `aux` are the memory that its pointers point to."""

    compute_type: str
    scale_type: str
    transa: str = "N"
    transb: str = "N"
    epilogue: str = "DEFAULT"
    bias: np.ndarray | None = None
    bias_batch_stride: int = 0
    aux: np.ndarray | None = None
    aux_ld: int = 0
    aux_batch_stride: int = 0


def require(condition: Any, message: str) -> None:
    if not condition:
        raise Refused(message)


def matmul(
    operation: Operation, alpha: float, a: np.ndarray, a_layout: Matrix, b: np.ndarray, b_layout: Matrix, beta: float,
    c: np.ndarray, c_layout: Matrix, d: np.ndarray, d_layout: Matrix,
) -> None:  # fmt: skip
    """cublasLtMatmul, strided batches included. Memory is flat arrays of the element type (a mask: of uint8)."""
    check(operation, beta, a_layout, b_layout, c_layout, d_layout)
    for batch in range(d_layout.batch_count):
        left, right = a_layout.read(a, batch), b_layout.read(b, batch)
        left = left.T if operation.transa == "T" else left
        right = right.T if operation.transb == "T" else right
        if operation.compute_type == "COMPUTE_32F_FAST_TF32":
            left, right = tf32(left), tf32(right)
        with np.errstate(all="ignore"):
            value = alpha * (left @ right)
            if beta:
                value = value + beta * c_layout.read(c, batch)
            value = epilogue(operation, value, left, right, batch)
            d[d_layout.places(batch)] = value.astype(d.dtype)


def check(operation: Operation, beta: float, a: Matrix, b: Matrix, c: Matrix, d: Matrix) -> None:
    for name, layout in (("A", a), ("B", b), ("C", c), ("D", d)):
        layout.check(name)
    allowed = SUPPORTED.get((operation.compute_type, operation.scale_type), ())
    require({a.type, b.type, c.type, d.type} <= set(allowed), "types are not supported together")
    require(len({a.type, b.type, c.type, d.type}) == 1, "types differ")
    require({operation.transa, operation.transb} <= {"N", "T"}, "operation")
    require(len({x.batch_count for x in (a, b, c, d)}) == 1, "batch counts differ")
    m, k = (a.rows, a.cols) if operation.transa == "N" else (a.cols, a.rows)
    k2, n = (b.rows, b.cols) if operation.transb == "N" else (b.cols, b.rows)
    require((k, m, n) == (k2, d.rows, d.cols) and (c.rows, c.cols) == (m, n), "sizes do not agree")
    name = operation.epilogue
    require(name in EPILOGUES, f"epilogue {name}")
    require((operation.bias is not None) == (name in BIAS + BGRAD), "a bias pointer, or none, is wanted")
    require((operation.aux is not None) == (name in MASKED + VALUED), "an aux pointer, or none, is wanted")
    if name in MASKED + VALUED:
        step = 128 if name in MASKED else 8
        require(operation.aux_ld % step == 0 and operation.aux_ld >= d.rows, f"aux ld {operation.aux_ld}")
        require(operation.aux_batch_stride % step == 0, f"aux batch stride {operation.aux_batch_stride}")
        require(d.batch_count == 1 or operation.aux_batch_stride, "the batch writes one aux over the other")
    # what nvmath.linalg.advanced refuses or works round
    require(k > 1 or not (name in BGRAD or name in ("DRELU", "DGELU")), "K = 1 under a backward epilogue")
    require(name != "BGRADB" or operation.transb == "T", "BGRADB wants op(B) = T")


def epilogue(operation: Operation, value: np.ndarray, left: np.ndarray, right: np.ndarray, batch: int) -> np.ndarray:
    """What becomes of one m x n result; writes aux and bias gradient."""
    name, at = operation.epilogue, batch * operation.bias_batch_stride
    if name in BIAS:
        assert operation.bias is not None
        value = value + operation.bias[at : at + len(value)].astype(np.float64)[:, None]
    if name == "RELU_AUX_BIAS":
        write_bits(operation, value > 0, batch)
    if name == "GELU_AUX_BIAS":
        assert operation.aux is not None
        operation.aux[values(operation, value.shape, batch)] = value.astype(operation.aux.dtype)
    if name in ("RELU_BIAS", "RELU_AUX_BIAS"):
        value = np.maximum(value, 0)
    if name in ("GELU_BIAS", "GELU_AUX_BIAS"):
        value = gelu(value)
    if name in ("DRELU", "DRELU_BGRAD"):
        value = np.where(read_bits(operation, value.shape, batch), value, 0)
    if name in ("DGELU", "DGELU_BGRAD"):
        assert operation.aux is not None
        value = value * gelu_slope(operation.aux[values(operation, value.shape, batch)].astype(np.float64))
    if name in BGRAD:
        assert operation.bias is not None
        total = left.sum(1) if name == "BGRADA" else right.sum(0) if name == "BGRADB" else value.sum(1)
        operation.bias[at : at + len(total)] = total.astype(operation.bias.dtype)
    return value


def values(operation: Operation, shape: tuple[int, int], batch: int) -> np.ndarray:
    i, j = np.indices(shape)
    return batch * operation.aux_batch_stride + i + j * operation.aux_ld


def write_bits(operation: Operation, positive: np.ndarray, batch: int) -> None:
    """One bit an element, at bit i + j * ld. Which bit of a byte comes first is not documented: here the lowest.

    It does not matter as long as only cuBLASLt reads what cuBLASLt wrote.
    """
    assert operation.aux is not None
    assert operation.aux.dtype == np.uint8
    number = values(operation, positive.shape, batch)
    np.bitwise_and.at(operation.aux, number // 8, ~(np.uint8(1) << (number % 8).astype(np.uint8)))
    np.bitwise_or.at(operation.aux, number // 8, positive.astype(np.uint8) << (number % 8).astype(np.uint8))


def read_bits(operation: Operation, shape: tuple[int, int], batch: int) -> np.ndarray:
    assert operation.aux is not None
    assert operation.aux.dtype == np.uint8
    number = values(operation, shape, batch)
    return (operation.aux[number // 8] >> (number % 8).astype(np.uint8) & 1).astype(bool)


def gelu(x: np.ndarray) -> np.ndarray:
    """cuBLASLt's GELU: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x: np.ndarray) -> np.ndarray:
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x**2)


def tf32(x: np.ndarray) -> np.ndarray:
    """float32 values to 10 bits of fraction, half to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = bits + 0xFFF + (bits >> 13 & 1) & 0xFFFFE000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
