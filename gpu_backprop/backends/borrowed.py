"""Memory on a GPU that another library owns, and memory that may not be written.

CuPy's arrays have no flag of that. Of a borrowed array its memory remembers it, which all views of it share; of a view
that repeats elements (broadcast_to) its strides show it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.errors import DataError, DTypeError, ExchangeError


class ReadOnly(NamedTuple):
    """The owner of memory that its library takes for constant, as JAX does."""

    owner: Any


def adopt(data: Any) -> Any:
    """An array of CuPy's or another library's in GPU memory, as a CuPy array that shares it.

    By DLPack where there is a choice: only there the owner makes our stream wait for the work on its own.
    """
    import cupy

    known = isinstance(data, cupy.ndarray)
    try:
        array = cupy.from_dlpack(data) if hasattr(data, "__dlpack__") and not known else cupy.asarray(data)
    except BufferError as error:
        raise ExchangeError(
            f"tensor: the {type(data).__name__} does not lend its memory ({error}); give a copy"
        ) from None
    except (NotImplementedError, TypeError, ValueError) as error:
        raise DTypeError(
            f"tensor: the {type(data).__name__} does not become an array of CuPy's ({error}); give another dtype"
        ) from None
    steps = (stride for n, stride in zip(array.shape, array.strides, strict=True) if n > 1)
    if any(distance % array.itemsize for distance in (array.data.ptr, *steps)):
        raise DataError(
            f"tensor: the {type(data).__name__} at address {array.data.ptr:#x}, of strides {array.strides}, is not "
            f"aligned to its {array.itemsize} bytes an element; give a copy (t.clone() in PyTorch, x.copy() in CuPy)"
        )
    memory = array.data.mem
    # A CuPy array may have come from a Tensor that may only be read; JAX's of bfloat16 have no interface to say so.
    says = _says_constant(getattr(memory, "_owner", None) if known else data)
    if says is False or (says is None and known):
        return array
    constant = cupy.cuda.UnownedMemory(memory.ptr, memory.size, ReadOnly(memory), memory.device_id)
    place = cupy.cuda.MemoryPointer(constant, array.data.ptr - memory.ptr)
    return cupy.ndarray(array.shape, array.dtype, place, array.strides)


def _says_constant(data: Any) -> bool | None:
    """May nobody write into this array, by its CUDA array interface? (CuPy does not ask.) None: it has none."""
    try:
        return bool(data.__cuda_array_interface__["data"][1])
    except AttributeError:
        return None
    except Exception:  # PyTorch's reasons not to describe an array, which it lends by DLPack all the same
        return False


def is_constant(array: Any) -> bool:
    """Does the owner of an array's memory take it for constant?"""
    if isinstance(array, np.ndarray):
        return not array.flags.writeable
    return isinstance(getattr(array.data.mem, "_owner", None), ReadOnly)


def is_writable(array: Any) -> bool:
    """May an array of NumPy or CuPy be written into?"""
    if isinstance(array, np.ndarray):
        return array.flags.writeable
    repeats = array.size and any(step == 0 and n > 1 for n, step in zip(array.shape, array.strides, strict=True))
    return not repeats and not is_constant(array)
