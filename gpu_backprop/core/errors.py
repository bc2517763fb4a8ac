"""The errors of gpu_backprop: one hierarchy, each also the built-in error that it refines.

A message is one sentence that names the operation, what it received and what to do about it.
"""

from __future__ import annotations

import numpy as np


class GpuBackpropError(Exception):
    """Base class of every error that this library raises on purpose."""


class ShapeError(GpuBackpropError, ValueError):
    """Shapes, axes or lengths that do not fit the operation."""


class ShapeIndexError(ShapeError, IndexError):
    """An index outside an array: also an IndexError, so that iteration and `except IndexError` work."""


class DTypeError(GpuBackpropError, TypeError):
    """A dtype (or kind of object) that the operation does not take."""


class MissingError(GpuBackpropError, AttributeError):
    """An attribute of NumPy's arrays that a Tensor has not."""


class DeviceError(GpuBackpropError, RuntimeError):
    """A device that is unknown, missing or mixed with another."""


class AllocationError(DeviceError, MemoryError):
    """An array that does not fit into its device's memory."""


class TapeError(GpuBackpropError, RuntimeError):
    """A gradient that cannot be computed: nothing recorded, already freed, or overwritten."""


class CaptureError(GpuBackpropError, RuntimeError):
    """A step that cannot be captured into a Program."""


class KernelError(GpuBackpropError, RuntimeError):
    """A CUDA kernel that does not compile, launch or run to its end."""


class DataError(GpuBackpropError, ValueError):
    """Values out of their domain: labels, hyperparameters, files of data."""


class LinAlgError(DataError, np.linalg.LinAlgError):
    """A matrix that has not what was asked for (an inverse, a Cholesky factor); also NumPy's error of that name."""


class ExchangeError(DataError, BufferError):
    """Memory that cannot be shared with another library; a ValueError and, as DLPack wants it, a BufferError."""


class CheckpointError(GpuBackpropError, ValueError):
    """A saved model or state that does not fit what it is loaded into."""
