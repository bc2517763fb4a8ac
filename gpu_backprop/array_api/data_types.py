"""https://data-apis.org/array-api/latest/API_specification/data_types.html

The types of NumPy's scalars, as NumPy's own names: equal to the dtypes of Tensors, taken wherever a dtype is wanted,
and called they make a scalar. bfloat16 is of ml_dtypes, and comes at its first use (gpu_backprop/__init__.py).
"""

from numpy import (
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = [
    "bool_",
    "complex64",
    "complex128",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
