"""The stand-in against nvmath-python itself, where that is installed. Needs no GPU: names, numbers and widths only."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from gpu_backprop.backends import cuda_machine, gemm

from . import bindings as stand_in

nvmath = pytest.importorskip("nvmath", reason="nvmath-python is not installed: its names cannot be compared")

from nvmath.bindings import cublas, cublasLt  # noqa: E402

ENUMS = {
    "Operation": cublas.Operation,
    "ComputeType": cublas.ComputeType,
    "CudaDataType": nvmath.CudaDataType,
    **{
        name: getattr(cublasLt, name)
        for name in ("Epilogue", "Order", "MatmulDescAttribute", "MatrixLayoutAttribute", "MatmulPreferenceAttribute")
    },
}


@pytest.mark.parametrize("name", list(ENUMS))
def test_names_and_numbers(name):
    for member in getattr(stand_in, name):
        assert ENUMS[name][member.name] == member


def test_every_name_in_a_plan_is_one_of_the_librarys():
    for epilogue in gemm.EPILOGUES.values():
        assert epilogue.row_major in cublasLt.Epilogue.__members__
        assert epilogue.column_major is None or epilogue.column_major in cublasLt.Epilogue.__members__
    for kind in gemm.KINDS.values():
        assert kind.data in nvmath.CudaDataType.__members__
        assert kind.scale in nvmath.CudaDataType.__members__
        assert kind.compute in cublas.ComputeType.__members__
    assert "COMPUTE_32F_FAST_TF32" in cublas.ComputeType.__members__


@pytest.mark.parametrize("what", ["matmul_desc", "matrix_layout", "matmul_preference"])
def test_types_of_attributes(what):
    enum = getattr(stand_in, {"matmul_desc": "MatmulDescAttribute", "matrix_layout": "MatrixLayoutAttribute",
                              "matmul_preference": "MatmulPreferenceAttribute"}[what])  # fmt: skip
    for member in enum:
        assert np.dtype(getattr(cublasLt, f"get_{what}_attribute_dtype")(member)) == stand_in.DTYPES[enum][member]


def test_structures():
    assert cublasLt.matmul_heuristic_result_dtype == stand_in.CublasLt.matmul_heuristic_result_dtype
    assert cublasLt.matmul_algo_dtype == stand_in.CublasLt.matmul_algo_dtype
    assert issubclass(cublasLt.cuBLASLtError, Exception)


def test_functions_take_what_the_stand_in_takes():
    """The bindings are compiled: their docstrings begin with the signature."""
    for name, function in inspect.getmembers(stand_in.CublasLt, inspect.isfunction):
        real = getattr(cublasLt, name, None)
        if real is None or name.startswith("_"):
            continue  # a helper of the stand-in
        takes = len(inspect.signature(function).parameters) - 1
        inside = real.__doc__.strip().split("(", 1)[1].split(")", 1)[0]
        assert takes == (inside.count(",") + 1 if inside else 0), (name, inside)


@pytest.mark.skipif(cuda_machine.driver_version() > 0, reason="there is a driver")
def test_without_a_driver_the_report_says_so():
    gemm.load.cache_clear()
    works, text = gemm.report()
    assert not works
    assert "driver" in text
