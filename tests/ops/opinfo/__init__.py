"""The one list of operations that drives every check of operations, as PyTorch's OpInfo does.

An `Op` is a function over Tensors, samples of its inputs inside its domain, the same function over NumPy float64
arrays, and, where HIPS autograd has it, over autograd's arrays. test_ops.py checks from this list: values in float64
and rounded dtypes, gradients and double gradients against central differences and against autograd.
test_every_primitive_is_listed fails when a primitive with a gradient is missing here.

Samples keep away from kinks and ties (a central difference across one is no derivative); ties have their own test.
"""

from .activations import ACTIVATIONS
from .base import Op
from .elementwise import ELEMENTWISE
from .embeddings import EMBEDDINGS
from .losses import LOSSES
from .movement import INDEXING, MOVEMENT
from .neural import NEURAL
from .normalization import NORMALIZATION
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .scans import SCANS
from .sorting import SORTING
from .values_only import VALUES_ONLY

__all__ = ["OPS", "Op"]

OPS: list[Op] = [
    *ELEMENTWISE,
    *ACTIVATIONS,
    *REDUCTIONS,
    *PRODUCTS,
    *NEURAL,
    *LOSSES,
    *EMBEDDINGS,
    *NORMALIZATION,
    *MOVEMENT,
    *INDEXING,
    *SORTING,
    *SCANS,
    *VALUES_ONLY,
]
