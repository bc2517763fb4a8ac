"""Matrix products by cuBLASLt, through nvmath-python's low-level bindings.

`plan` (gemm_plan.py) says what is asked for; `Library.run` is the only code that calls the bindings. For each plan it
makes the descriptors and chooses an algorithm once, and keeps both: a product costs one look-up, and the pointers of an
epilogue where there is one. The algorithm is chosen by the plan alone (its alignments included), so it can be chosen
before a stream captures (`prepare`): cuBLASLt's heuristic may fail during a capture.

nvmath-python is imported by `load`, when the first product on a CUDA device asks for it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import threading
from typing import Any, NamedTuple

import numpy as np

from ..core import precision
from ..core.errors import CaptureError, DeviceError, KernelError
from .gemm_plan import (
    ALIGNED,
    EPILOGUES,
    KINDS,
    WORKSPACE,
    Layout,
    Operand,
    Plan,
    Unfit,
    alignment,
    mask_shape,
    plan,
    value_shape,
)

__all__ = [
    "ALIGNED", "EPILOGUES", "KINDS", "WORKSPACE", "Bindings", "Layout", "Library", "NoAlgorithm", "Operand", "Plan",
    "Unfit", "alignment", "load", "mask_shape", "plan", "report", "value_shape",
]  # fmt: skip

KEPT = 2048  # plans whose descriptors are kept
TRIED = 16  # candidates that tuning times
ROUNDS = 5  # times each, after one that does not count
EXTRA = 256  # bytes beyond what the heuristic may use; nvmath-python adds 16 where there is an epilogue, for a fault
VERSION = 120_000  # cuBLASLt 12.0: all epilogues, batched or not

ENUMS = {
    "matmul_desc": "MatmulDescAttribute",
    "matrix_layout": "MatrixLayoutAttribute",
    "matmul_preference": "MatmulPreferenceAttribute",
}


class NoAlgorithm(KernelError):
    """cuBLASLt has no algorithm for a plan on this GPU; another path has to serve."""


class Bindings(NamedTuple):
    """What of nvmath-python is used, or what stands in for it."""

    lt: Any  # nvmath.bindings.cublasLt
    Operation: Any
    ComputeType: Any
    CudaDataType: Any


@functools.cache
def load() -> Bindings:
    """nvmath-python's bindings, with cuBLASLt found and new enough; DeviceError says what is missing. Cached."""
    if importlib.util.find_spec("nvmath") is None:
        raise DeviceError("nvmath-python is not installed")
    try:
        import nvmath
        from nvmath.bindings import cublas, cublasLt

        version = cublasLt.get_version()
    except Exception as error:  # whatever a broken installation raises: the reason is what the user needs
        raise DeviceError(f"nvmath-python does not start ({error})") from None
    if version < VERSION:
        raise DeviceError(f"cuBLASLt {version} is too old; 12.0 is needed")
    return Bindings(cublasLt, cublas.Operation, cublas.ComputeType, nvmath.CudaDataType)


def report() -> tuple[bool, str]:
    """Do products on CUDA go through cuBLASLt here? And what serves them, or what is missing. Never raises."""
    try:
        version = load().lt.get_version()
    except DeviceError as error:
        return False, str(error)
    from importlib import metadata  # takes longer to import than all of this

    number = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return True, f"cuBLASLt {number} through nvmath-python {metadata.version('nvmath-python')}"


class Prepared:
    """The descriptors of one plan and the algorithm chosen for it."""

    __slots__ = ("a", "algorithm", "alpha", "b", "beta", "d", "operation", "tuned")

    def __init__(self) -> None:
        self.operation = self.a = self.b = self.d = 0
        self.alpha = self.beta = self.algorithm = np.empty(0)
        self.tuned = False


class Library:
    """cuBLASLt on one device.

    bindings: what `load` gives. machine: a CudaMachine, or what stands in for it: `stream()` tells streams apart,
    `stream_handle()` is CUDA's number of the current one, `capturing()`, `empty(shape, dtype)`, `address(array)` and
    `seconds(work)`, which runs a function and times what it put on the stream.
    """

    def __init__(self, bindings: Bindings, machine: Any):
        self.bindings, self.lt, self.machine = bindings, bindings.lt, machine
        self.prepared: dict[Plan, Prepared] = {}
        self.refused: dict[Plan, str] = {}
        self.workspaces: dict[int, tuple[Any, int, int]] = {}  # a stream's: array, address, bytes
        self.attributes: dict[tuple[str, str], tuple[Any, Any, np.dtype]] = {}  # setter, number, type
        self.lock = threading.RLock()  # descriptors hold an epilogue's pointers from here to the launch
        self.process = os.getpid()
        try:
            self.handle = self.lt.create()
        except self.lt.cuBLASLtError as error:
            raise KernelError(f"cuBLASLt does not start ({error})") from error
        atexit.register(self.close)

    # the one way in ---------------------------------------------------------------------------------------------------

    def run(self, planned: Plan, first: int, second: int, out: int, bias: int = 0, aux: int = 0) -> None:
        """The product that `plan` says, put on the current stream; operands are addresses on the device.

        first, second, out: of arrays laid out as in the plan (those marked `copy_first`, `copy_second` as copies in C
        order). bias, aux: of an epilogue's. Raises NoAlgorithm if cuBLASLt has none (at once, the next
        time), CaptureError if none is chosen yet and the stream captures, KernelError for what cuBLASLt reports.
        """
        with self.lock:
            prepared = self.prepared.get(planned) or self.prepare(planned)
            workspace, size = self.workspace()
            if planned.bias:
                self.point(prepared, "BIAS_POINTER", bias)
            if planned.aux:
                self.point(prepared, "EPILOGUE_AUX_POINTER", aux)
            a, b = (second, first) if planned.swapped else (first, second)
            if precision.is_tuning_matmul() and not prepared.tuned and not self.machine.capturing():
                self.tune(planned, prepared, a, b, out)
            try:
                self.launch(prepared, prepared.algorithm, a, b, out, workspace, size)
            except self.lt.cuBLASLtError as error:
                raise KernelError(f"cuBLASLt: {error} at {describe(planned)}") from error

    def prepare(self, planned: Plan) -> Prepared:
        """Descriptors and algorithm for a planned, made now if they are not there; raises as `run` does."""
        with self.lock:
            if planned in self.refused:
                raise NoAlgorithm(self.refused[planned])
            found = self.prepared.get(planned)
            if found is not None:
                return found
            if self.machine.capturing():
                raise CaptureError(
                    f"the algorithm of {describe(planned)} is not chosen yet, and cannot be while a stream captures; "
                    "run the step once before"
                )
            made = Prepared()
            try:
                self.make_descriptors(planned, made)
                made.algorithm = self.heuristic(planned, made, 1)[0]
            except NoAlgorithm as error:
                self.refused[planned] = str(error)
                self.destroy(made)
                raise
            except self.lt.cuBLASLtError as error:
                self.destroy(made)
                raise KernelError(f"cuBLASLt: {error} at {describe(planned)}") from error
            if len(self.prepared) >= KEPT:
                self.destroy(self.prepared.pop(next(iter(self.prepared))))  # the oldest
            self.prepared[planned] = made
            return made

    def takes(self, planned: Plan | Unfit) -> bool:
        """Is there an algorithm for a plan? It is chosen now if it was not."""
        if isinstance(planned, Unfit):
            return False
        try:
            self.prepare(planned)
        except NoAlgorithm:
            return False
        return True

    def close(self) -> None:
        """Destroys all that was created. Runs at exit, but not in a forked child, whose parent owns it."""
        if self.process != os.getpid():
            return
        with self.lock:
            for prepared in self.prepared.values():
                self.destroy(prepared)
            if self.handle:
                self.lt.destroy(self.handle)
            self.prepared.clear()
            self.workspaces.clear()
            self.handle = 0
        atexit.unregister(self.close)

    # descriptors ------------------------------------------------------------------------------------------------------

    def make_descriptors(self, planned: Plan, made: Prepared) -> None:
        """Creates the descriptors; where one fails, `made` holds those before it."""
        lt, types = self.lt, self.bindings.CudaDataType
        made.operation = lt.matmul_desc_create(
            self.bindings.ComputeType[planned.compute_type], types[planned.scale_type]
        )
        for name, value in self.operation_attributes(planned):
            self.set_attribute("matmul_desc", made.operation, name, value)
        # before the heuristic, which reads their alignment off these pointers
        if planned.bias:
            self.point(made, "BIAS_POINTER", planned.alignment_bias)
        if planned.aux:
            self.point(made, "EPILOGUE_AUX_POINTER", planned.alignment_aux)
        for name in ("a", "b", "d"):
            layout: Layout = getattr(planned, name)
            descriptor = lt.matrix_layout_create(types[layout.type], layout.rows, layout.cols, layout.ld)
            setattr(made, name, descriptor)
            for attribute, value in (
                ("ORDER", lt.Order[layout.order]),
                ("BATCH_COUNT", layout.batch_count),
                ("STRIDED_BATCH_OFFSET", layout.batch_stride),
            ):
                self.set_attribute("matrix_layout", descriptor, attribute, value)
        scale = np.float64 if planned.scale_type == "CUDA_R_64F" else np.float32
        made.alpha, made.beta = np.array(planned.alpha, scale), np.array(planned.beta, scale)

    def operation_attributes(self, planned: Plan) -> list[tuple[str, Any]]:
        """Names in MatmulDescAttribute, and values, of all but the pointers."""
        operation = self.bindings.Operation
        attributes = [
            ("TRANSA", operation[planned.transa]),
            ("TRANSB", operation[planned.transb]),
            ("EPILOGUE", self.lt.Epilogue[planned.epilogue]),
        ]
        if planned.bias:
            attributes += [("BIAS_BATCH_STRIDE", planned.bias_batch_stride)]
        if planned.aux:
            attributes += [
                ("EPILOGUE_AUX_LD", planned.aux_ld),
                ("EPILOGUE_AUX_BATCH_STRIDE", planned.aux_batch_stride),
            ]
        return attributes

    def set_attribute(self, what: str, descriptor: int, name: str, value: Any) -> None:
        """One attribute of a descriptor, as a number of the type that cuBLASLt takes."""
        found = self.attributes.get((what, name))
        if found is None:
            attribute = getattr(self.lt, ENUMS[what])[name]
            dtype = np.dtype(getattr(self.lt, f"get_{what}_attribute_dtype")(attribute))
            found = self.attributes[what, name] = getattr(self.lt, f"{what}_set_attribute"), attribute, dtype
        set_to, attribute, dtype = found
        buffer = np.array(value, dtype)
        set_to(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)

    def point(self, prepared: Prepared, name: str, address: int) -> None:
        self.set_attribute("matmul_desc", prepared.operation, name, address)

    def destroy(self, prepared: Prepared) -> None:
        for layout in (prepared.d, prepared.b, prepared.a):
            if layout:
                self.lt.matrix_layout_destroy(layout)
        if prepared.operation:
            self.lt.matmul_desc_destroy(prepared.operation)
        prepared.operation = prepared.a = prepared.b = prepared.d = 0

    # algorithms -------------------------------------------------------------------------------------------------------

    def heuristic(self, planned: Plan, made: Prepared, count: int) -> list[np.ndarray]:
        """Up to `count` algorithms that cuBLASLt thinks right, the best first; NoAlgorithm where it has none."""
        lt, problem = self.lt, ""
        results = np.zeros(count, lt.matmul_heuristic_result_dtype)
        returned = np.zeros(1, np.int32)
        preference = lt.matmul_preference_create()
        try:
            for name, value in (
                ("MAX_WORKSPACE_BYTES", planned.workspace),
                ("MIN_ALIGNMENT_A_BYTES", planned.alignment_a),
                ("MIN_ALIGNMENT_B_BYTES", planned.alignment_b),
                ("MIN_ALIGNMENT_C_BYTES", planned.alignment_d),
                ("MIN_ALIGNMENT_D_BYTES", planned.alignment_d),
            ):
                self.set_attribute("matmul_preference", preference, name, value)
            lt.matmul_algo_get_heuristic(
                self.handle, made.operation, made.a, made.b, made.d, made.d, preference,
                count, results.ctypes.data, returned.ctypes.data,
            )  # fmt: skip
        except lt.cuBLASLtError as error:  # "not supported" comes as an error too
            problem = f" ({error})"
        finally:
            lt.matmul_preference_destroy(preference)
        found = [results["algo"][i : i + 1].copy() for i in range(returned[0]) if results["state"][i] == 0]
        if problem or not found:
            raise NoAlgorithm(f"cuBLASLt has no algorithm for {describe(planned)} on this GPU{problem}")
        return found

    def tune(self, planned: Plan, prepared: Prepared, a: int, b: int, out: int) -> None:
        """The fastest of cuBLASLt's candidates, each timed on the operands themselves."""
        workspace, size = self.workspace()
        if planned.beta:  # `out` must be added to once, so the trials have a result of their own
            scratch = self.machine.empty((extent(planned.d),), np.dtype(np.uint8))
            out = self.machine.address(scratch)
        best: tuple[float, np.ndarray] | None = None
        for algorithm in self.heuristic(planned, prepared, TRIED):
            work = functools.partial(self.launch, prepared, algorithm, a, b, out, workspace, size)
            try:
                work()
                seconds = min(self.machine.seconds(work) for _ in range(ROUNDS))
            except self.lt.cuBLASLtError:
                continue
            if best is None or seconds < best[0]:
                best = seconds, algorithm
        if best is not None:
            prepared.algorithm = best[1]
        prepared.tuned = True

    # launch -----------------------------------------------------------------------------------------------------------

    def workspace(self) -> tuple[int, int]:
        """Address and bytes of the current stream's workspace.

        A captured graph goes on using that of the stream it was captured on, so none is ever given back.
        """
        stream = self.machine.stream()
        found = self.workspaces.get(stream)
        if found is None:
            array = self.machine.empty((WORKSPACE + EXTRA,), np.dtype(np.uint8))
            found = self.workspaces[stream] = array, self.machine.address(array), WORKSPACE + EXTRA
        return found[1:]

    def launch(
        self, prepared: Prepared, algorithm: np.ndarray, a: int, b: int, out: int, workspace: int, size: int
    ) -> None:
        self.lt.matmul(
            self.handle, prepared.operation, prepared.alpha.ctypes.data, a, prepared.a, b, prepared.b,
            prepared.beta.ctypes.data, out, prepared.d, out, prepared.d, algorithm.ctypes.data, workspace, size,
            self.machine.stream_handle(),
        )  # fmt: skip


def describe(planned: Plan) -> str:
    """A plan in a few words, in row-major terms."""
    columns, rows = (planned.d.rows, planned.d.cols) if planned.swapped else (planned.d.cols, planned.d.rows)
    k = planned.a.cols if planned.transa == "N" else planned.a.rows
    batch = f" x {planned.d.batch_count}" if planned.d.batch_count > 1 else ""
    return f"the {planned.d.type} product {rows} x {k} x {columns}{batch}, epilogue {planned.epilogue}"


def extent(layout: Layout) -> int:
    """Bytes from the first element of a strided batch of matrices to behind its last."""
    size = next(kind.bytes for kind in KINDS.values() if kind.data == layout.type)
    return size * ((layout.batch_count - 1) * layout.batch_stride + (layout.cols - 1) * layout.ld + layout.rows)
