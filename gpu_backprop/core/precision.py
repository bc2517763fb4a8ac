"""How exactly matrix products run on CUDA. Process-wide; other devices need no choice."""

from __future__ import annotations

from .errors import DataError

PRECISIONS = ("highest", "high")
_precision = "highest"


def set_matmul_precision(precision: str) -> None:
    """What float32 matrix products on CUDA may round, by PyTorch's names: "highest" (nothing) or "high".

    "high" lets the GPU round the operands to TF32 (10 bits of fraction; sums stay float32), several times as fast from
    Ampere on. It acts where products go through cuBLASLt (`gpu-backprop info` says so). Raises DataError for a name
    that is neither.
    """
    global _precision
    if precision not in PRECISIONS:
        raise DataError(
            f'set_matmul_precision: {precision!r} is unknown; use "highest" or "high" '
            "(for bfloat16 products, cast to it)"
        )
    _precision = precision


def get_matmul_precision() -> str:
    """ "highest" or "high"; see set_matmul_precision."""
    return _precision
