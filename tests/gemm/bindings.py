"""Stand-ins for nvmath-python's bindings and for the machine: descriptors are numbers, products the model's.

`Bindings` records every call, keeps what is created until it is destroyed, and carries out `matmul` by the model on the
memory that the addresses name: so whatever is set wrong gives a wrong product, or none.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
from typing import Any

import numpy as np

from gpu_backprop.backends import gemm

from . import cublaslt_model as model

# the names and numbers of nvmath-python 1.0 (test_real_bindings.py holds them against an installed one)
Operation = enum.IntEnum("Operation", {"N": 0, "T": 1})
ComputeType = enum.IntEnum("ComputeType", {"COMPUTE_32F": 68, "COMPUTE_32F_FAST_TF32": 77, "COMPUTE_64F": 70})
CudaDataType = enum.IntEnum("CudaDataType", {"CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14})
Order = enum.IntEnum("Order", {"COL": 0, "ROW": 1})
Epilogue = enum.IntEnum(
    "Epilogue",
    {
        "DEFAULT": 1, "BIAS": 4, "RELU_BIAS": 6, "RELU_AUX_BIAS": 134, "DRELU": 136, "DRELU_BGRAD": 152,
        "GELU_BIAS": 36, "GELU_AUX_BIAS": 164, "DGELU": 192, "DGELU_BGRAD": 208, "BGRADA": 256, "BGRADB": 512,
    },
)  # fmt: skip
MatmulDescAttribute = enum.IntEnum(
    "MatmulDescAttribute",
    {
        "TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8, "BIAS_BATCH_STRIDE": 10,
        "EPILOGUE_AUX_POINTER": 11, "EPILOGUE_AUX_LD": 12, "EPILOGUE_AUX_BATCH_STRIDE": 13,
    },
)  # fmt: skip
MatrixLayoutAttribute = enum.IntEnum("MatrixLayoutAttribute", {"ORDER": 1, "BATCH_COUNT": 5, "STRIDED_BATCH_OFFSET": 6})
MatmulPreferenceAttribute = enum.IntEnum(
    "MatmulPreferenceAttribute",
    {
        "MAX_WORKSPACE_BYTES": 1, "MIN_ALIGNMENT_A_BYTES": 5, "MIN_ALIGNMENT_B_BYTES": 6, "MIN_ALIGNMENT_C_BYTES": 7,
        "MIN_ALIGNMENT_D_BYTES": 8,
    },
)  # fmt: skip
DTYPES = {
    MatmulDescAttribute: dict.fromkeys(MatmulDescAttribute, np.int64)
    | dict.fromkeys((MatmulDescAttribute.TRANSA, MatmulDescAttribute.TRANSB), np.int32)
    | {MatmulDescAttribute.EPILOGUE: np.uint32},
    MatrixLayoutAttribute: {
        MatrixLayoutAttribute.ORDER: np.int32, MatrixLayoutAttribute.BATCH_COUNT: np.int32,
        MatrixLayoutAttribute.STRIDED_BATCH_OFFSET: np.int64,
    },
    MatmulPreferenceAttribute: dict.fromkeys(MatmulPreferenceAttribute, np.uint32)
    | {MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES: np.uint64},
}  # fmt: skip


class cuBLASLtError(Exception):
    pass


def memory(address: int, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` elements of memory, from an address on."""
    buffer = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(buffer, dtype)


class CublasLt:
    """nvmath.bindings.cublasLt, as far as gemm.Library uses it.

    unsupported: epilogues that the heuristic has nothing for. candidates: how many algorithms it has for the others.
    """

    Epilogue, Order, cuBLASLtError = Epilogue, Order, cuBLASLtError
    MatmulDescAttribute, MatrixLayoutAttribute = MatmulDescAttribute, MatrixLayoutAttribute
    MatmulPreferenceAttribute = MatmulPreferenceAttribute
    matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
    matmul_heuristic_result_dtype = np.dtype(
        [("algo", matmul_algo_dtype), ("workspace_size", "<u8"), ("state", "<i4"), ("waves_count", "<f4"),
         ("reserved", "<i4", (4,))]
    )  # fmt: skip

    def __init__(self, unsupported: tuple[str, ...] = (), candidates: int = 1):
        self.unsupported, self.candidates = unsupported, candidates
        self.invalid: tuple[int, ...] = ()  # candidates whose state is no success
        self.numbers = itertools.count(1000)
        self.alive: dict[int, tuple[str, dict[str, Any]]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.algorithms: list[int] = []  # that ran
        self.fails: str | None = None  # the function that fails next

    # life and death

    def make(self, kind: str, **facts: Any) -> int:
        self.called(f"{kind}_create", facts)
        number = next(self.numbers)
        self.alive[number] = kind, facts
        return number

    def end(self, kind: str, number: int) -> None:
        self.called(f"{kind}_destroy", number)
        assert self.alive.pop(number)[0] == kind

    def called(self, name: str, facts: Any = None) -> None:
        self.calls.append((name, facts))
        if self.fails == name:
            self.fails = None
            raise cuBLASLtError(f"{name} fails")

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    def get_version(self) -> int:
        return 130100

    def create(self) -> int:
        return self.make("handle")

    def destroy(self, handle: int) -> None:
        self.end("handle", handle)

    def matmul_desc_create(self, compute_type: int, scale_type: int) -> int:
        return self.make(
            "matmul_desc", compute_type=ComputeType(compute_type).name, scale_type=CudaDataType(scale_type).name
        )

    def matmul_desc_destroy(self, number: int) -> None:
        self.end("matmul_desc", number)

    def matrix_layout_create(self, type: int, rows: int, cols: int, ld: int) -> int:
        return self.make("matrix_layout", type=CudaDataType(type).name, rows=rows, cols=cols, ld=ld)

    def matrix_layout_destroy(self, number: int) -> None:
        self.end("matrix_layout", number)

    def matmul_preference_create(self) -> int:
        return self.make("matmul_preference")

    def matmul_preference_destroy(self, number: int) -> None:
        self.end("matmul_preference", number)

    # attributes

    def get_matmul_desc_attribute_dtype(self, attribute: int) -> Any:
        return DTYPES[MatmulDescAttribute][attribute]

    def get_matrix_layout_attribute_dtype(self, attribute: int) -> Any:
        return DTYPES[MatrixLayoutAttribute][attribute]

    def get_matmul_preference_attribute_dtype(self, attribute: int) -> Any:
        return DTYPES[MatmulPreferenceAttribute][attribute]

    def matmul_desc_set_attribute(self, number: int, attribute: int, buffer: int, size: int) -> None:
        self.set("matmul_desc", MatmulDescAttribute(attribute), number, buffer, size)

    def matrix_layout_set_attribute(self, number: int, attribute: int, buffer: int, size: int) -> None:
        self.set("matrix_layout", MatrixLayoutAttribute(attribute), number, buffer, size)

    def matmul_preference_set_attribute(self, number: int, attribute: int, buffer: int, size: int) -> None:
        self.set("matmul_preference", MatmulPreferenceAttribute(attribute), number, buffer, size)

    def set(self, kind: str, attribute: Any, number: int, buffer: int, size: int) -> None:
        dtype = np.dtype(DTYPES[type(attribute)][attribute])
        assert size == dtype.itemsize
        value = int(memory(buffer, 1, dtype)[0])
        self.called(f"{kind}_set_attribute", (attribute.name, value))
        found, facts = self.alive[number]
        assert found == kind
        facts[attribute.name] = value

    # work

    def matmul_algo_get_heuristic(
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int, wanted: int, results: int,
        returned: int,
    ) -> None:  # fmt: skip
        asked = {"operation": operation, "a": a, "b": b, "c": c, "d": d, "preference": preference}
        facts = {name: dict(self.facts(number)) for name, number in asked.items()}
        self.called("matmul_algo_get_heuristic", facts)
        assert self.alive[handle][0] == "handle"
        if Epilogue(facts["operation"]["EPILOGUE"]).name in self.unsupported:
            raise cuBLASLtError("NOT_SUPPORTED")
        table = memory(results, wanted, self.matmul_heuristic_result_dtype)
        found = min(wanted, self.candidates)
        for i in range(found):
            table["algo"]["data_"][i] = i + 1
            table["state"][i] = i + 1 in self.invalid
        memory(returned, 1, np.dtype(np.int32))[0] = found

    def matmul(
        self, handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int, beta: int, c: int,
        c_layout: int, d: int, d_layout: int, algo: int, workspace: int, size: int, stream: int,
    ) -> None:  # fmt: skip
        self.called("matmul", {"stream": stream, "workspace": workspace, "size": size, "a": a, "b": b, "c": c, "d": d})
        assert workspace % 256 == 0
        assert size >= gemm.WORKSPACE
        self.algorithms.append(int(memory(algo, 1, self.matmul_algo_dtype)["data_"][0, 0]))
        matrices = [self.matrix(number) for number in (a_layout, b_layout, c_layout, d_layout)]
        memories = [
            memory(address, extent(matrix), model.TYPES[matrix.type])
            for address, matrix in zip((a, b, c, d), matrices, strict=True)
        ]
        facts = self.facts(operation)
        scale = model.TYPES[facts["scale_type"]]
        model.matmul(
            self.operation(facts, matrices[3]), float(memory(alpha, 1, scale)[0]), memories[0], matrices[0],
            memories[1], matrices[1], float(memory(beta, 1, scale)[0]), memories[2], matrices[2], memories[3],
            matrices[3],
        )  # fmt: skip

    def facts(self, number: int) -> dict[str, Any]:
        return self.alive[number][1]

    def matrix(self, number: int) -> model.Matrix:
        facts = self.facts(number)
        return model.Matrix(
            facts["type"], facts["rows"], facts["cols"], facts["ld"], Order(facts["ORDER"]).name,
            facts["BATCH_COUNT"], facts["STRIDED_BATCH_OFFSET"],
        )  # fmt: skip

    def operation(self, facts: dict[str, Any], d: model.Matrix) -> model.Operation:
        name = Epilogue(facts["EPILOGUE"]).name
        result = model.Operation(
            facts["compute_type"], facts["scale_type"], Operation(facts["TRANSA"]).name,
            Operation(facts["TRANSB"]).name, name,
        )  # fmt: skip
        dtype = model.TYPES[d.type]
        if facts.get("BIAS_POINTER"):
            length = d.cols if name == "BGRADB" else d.rows
            result.bias_batch_stride = facts["BIAS_BATCH_STRIDE"]
            reach = length + (d.batch_count - 1) * result.bias_batch_stride
            result.bias = memory(facts["BIAS_POINTER"], reach, dtype)
        if facts.get("EPILOGUE_AUX_POINTER"):
            result.aux_ld, result.aux_batch_stride = facts["EPILOGUE_AUX_LD"], facts["EPILOGUE_AUX_BATCH_STRIDE"]
            reach = (d.batch_count - 1) * result.aux_batch_stride + (d.cols - 1) * result.aux_ld + d.rows
            masked = name in model.MASKED
            result.aux = memory(
                facts["EPILOGUE_AUX_POINTER"],
                -(-reach // 8) if masked else reach,
                np.dtype(np.uint8) if masked else dtype,
            )
        return result


def extent(matrix: model.Matrix) -> int:
    return (matrix.batch_count - 1) * matrix.batch_stride + (matrix.cols - 1) * matrix.ld + matrix.rows


def bindings(**settings: Any) -> gemm.Bindings:
    return gemm.Bindings(CublasLt(**settings), Operation, ComputeType, CudaDataType)


class Machine:
    """The machine that a Library asks: host memory, one stream at a time, candidates whose times are given."""

    def __init__(self, times: dict[int, float] | None = None):
        self.current, self.captures = 1, False
        self.times = times or {}
        self.made = 0

    def stream(self) -> int:
        return self.current

    def stream_handle(self) -> int:
        return self.current * 16

    def capturing(self) -> bool:
        return self.captures

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        self.made += 1
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        block = np.full(size + 256, 0xA5, np.uint8)
        start = -block.ctypes.data % 256
        return block[start : start + size].view(dtype).reshape(shape)

    def address(self, array: np.ndarray) -> int:
        return array.ctypes.data

    def seconds(self, work: Any) -> float:
        work()
        return self.times[work.args[1]["data_"][0, 0]]
