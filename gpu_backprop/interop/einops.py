"""Makes `einops.rearrange`, `reduce`, `repeat`, `pack`, `unpack` and `einsum` take Tensors: import this module.

    import gpu_backprop.interop.einops
    from einops import rearrange

(einops.array_api takes them without.) einops asks for the operations below by a class of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from einops._backends import AbstractBackend

from ..array_api import manipulation_functions as shapes
from ..core import dtypes
from ..core.tensor import Tensor, tensor
from ..numpy_api.einsum import einsum


class Backend(AbstractBackend):
    """What einops does with a Tensor."""

    framework_name = "gpu_backprop"

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor)

    def from_numpy(self, x: Any) -> Tensor:
        return tensor(x)

    def to_numpy(self, x: Tensor) -> Any:
        return x.numpy()

    def stack_on_zeroth_dimension(self, tensors: list[Tensor]) -> Tensor:
        return shapes.stack(tensors)

    def add_axis(self, x: Tensor, new_position: int) -> Tensor:
        return shapes.expand_dims(x, new_position)

    def tile(self, x: Tensor, repeats: Any) -> Tensor:
        return shapes.tile(x, repeats)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        return shapes.concat(tensors, axis=axis)

    def is_float_type(self, x: Tensor) -> bool:
        return dtypes.is_inexact(x.dtype)

    def einsum(self, pattern: str, *x: Tensor) -> Tensor:
        return einsum(pattern, *x)
