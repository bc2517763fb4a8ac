"""NumPy-style arrays with gradients, on NVIDIA GPUs (CuPy and hand-written CUDA kernels) and on the CPU (NumPy).

import gpu_backprop as gb

x = gb.tensor([1.0, 2.0, 3.0], requires_grad=True)
(x * x).sum().backward()
x.grad  # tensor([2., 4., 6.])
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from numpy import (
    bool_,
    complexfloating,
    errstate,
    floating,
    get_printoptions,
    inexact,
    integer,
    issubdtype,
    number,
    printoptions,
    set_printoptions,
    signedinteger,
    unsignedinteger,
)

from . import random
from .array_api.constants import e, inf, nan, newaxis, pi
from .array_api.creation_functions import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    tril,
    triu,
    zeros,
    zeros_like,
)
from .array_api.data_type_functions import astype, can_cast, finfo, iinfo, isdtype, result_type
from .array_api.data_types import (
    bool_ as bool,
)
from .array_api.data_types import (
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
from .array_api.elementwise_functions import *  # noqa: F403  (a table of primitives; see its __all__)
from .array_api.indexing_functions import take, take_along_axis
from .array_api.inspection import __array_namespace_info__
from .array_api.linear_algebra_functions import matmul, matrix_transpose, tensordot, vecdot
from .array_api.manipulation_functions import (
    broadcast_arrays,
    broadcast_shapes,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    moveaxis,
    permute_dims,
    repeat,
    reshape,
    roll,
    squeeze,
    stack,
    tile,
    unstack,
)
from .array_api.searching_functions import argmax, argmin, count_nonzero, nonzero, searchsorted, where
from .array_api.set_functions import isin, unique_all, unique_counts, unique_inverse, unique_values
from .array_api.sorting_functions import argsort, sort
from .array_api.statistical_functions import (
    cumulative_prod,
    cumulative_sum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from .array_api.utility_functions import all, any, diff
from .core import debug, errors
from .core.capture import capture
from .core.devices import Device, default_device, device, devices, set_default_device, synchronize
from .core.dtypes import get_default_dtype, set_default_dtype
from .core.errors import (
    AllocationError,
    CaptureError,
    CheckpointError,
    DataError,
    DeviceError,
    DTypeError,
    ExchangeError,
    GpuBackpropError,
    KernelError,
    ShapeError,
    TapeError,
)
from .core.gradients import (
    checkpoint,
    elementwise_grad,
    grad,
    gradcheck,
    hessian,
    hvp,
    jacobian,
    jvp,
    primitive,
    value_and_grad,
    vjp,
)
from .core.precision import get_matmul_precision, set_matmul_precision, tune_matmul
from .core.profiling import profile
from .core.tape import enable_grad, is_grad_enabled, no_grad
from .core.tensor import Tensor, tensor
from .core.tensor import Tensor as ndarray
from .numpy_api import methods as _methods
from .numpy_api.creation import *  # noqa: F403
from .numpy_api.elementwise import *  # noqa: F403
from .numpy_api.products import *  # noqa: F403
from .numpy_api.searching import *  # noqa: F403
from .numpy_api.shapes import *  # noqa: F403
from .numpy_api.statistics import *  # noqa: F403
from .random import manual_seed

if _TYPE_CHECKING:
    from . import data, interop, nn, optim, train, viz
    from .backends import emulated
    from .nn.serialization import load, save
    from .numpy_api import fft, linalg
    from .numpy_api.calculus import convolve, correlate, gradient, interp, polyval, trapezoid, unwrap
    from .numpy_api.einsum import einsum, einsum_path
    from .numpy_api.histograms import bincount, digitize, histogram, histogram_bin_edges
    from .numpy_api.padding import pad
    from .numpy_api.placing import apply_along_axis, delete, insert, select
    from .numpy_api.quantiles import median, nanmedian, nanpercentile, nanquantile, percentile, quantile
    from .numpy_api.without_nan import (
        nanargmax,
        nanargmin,
        nancumprod,
        nancumsum,
        nanmax,
        nanmean,
        nanmin,
        nanprod,
        nanstd,
        nansum,
        nanvar,
    )

__version__ = "0.1.0"
__array_api_version__ = "2025.12"

_LAZY_MODULES = {
    **{name: f".{name}" for name in ("data", "interop", "nn", "optim", "train", "viz")},
    **{name: f".numpy_api.{name}" for name in ("fft", "linalg")},
    "emulated": ".backends.emulated",
}
_LAZY_NAMES = {
    name: module
    for module, names in {
        ".nn.serialization": "load save",
        ".numpy_api.calculus": "convolve correlate gradient interp polyval trapezoid unwrap",
        ".numpy_api.einsum": "einsum einsum_path",
        ".numpy_api.histograms": "bincount digitize histogram histogram_bin_edges",
        ".numpy_api.padding": "pad",
        ".numpy_api.placing": "apply_along_axis delete insert select",
        ".numpy_api.quantiles": "median nanmedian nanpercentile nanquantile percentile quantile",
        ".numpy_api.without_nan": "nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd "
        "nansum nanvar",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> _Any:
    if name in _LAZY_MODULES:
        value: _Any = _importlib.import_module(_LAZY_MODULES[name], __name__)
    elif name in _LAZY_NAMES:
        value = getattr(_importlib.import_module(_LAZY_NAMES[name], __name__), name)
    elif name == "bfloat16":
        from .core.dtypes import bfloat16

        value = bfloat16().type
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(n for n in {*globals(), *_LAZY_MODULES, *_LAZY_NAMES, "bfloat16"} if not n.startswith("_"))
