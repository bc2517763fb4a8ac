"""How exactly, and how carefully chosen, matrix products run on CUDA. Process-wide; other devices need no choice."""

from __future__ import annotations

from typing import Any

from .errors import DataError

PRECISIONS = ("highest", "high")
_precision = "highest"
_tuning = False


def set_matmul_precision(precision: str) -> None:
    """What float32 matrix products on CUDA may round, by PyTorch's names: "highest" (nothing) or "high".

    "high" lets the GPU round the operands to TF32 (10 bits of fraction; sums stay float32), several times as fast from
    Ampere on. It acts where products go through cuBLASLt (`gpu-backprop info` says so). Raises DataError for a name
    that is neither.
    """
    global _precision
    if precision not in PRECISIONS:
        raise DataError(
            f'set_matmul_precision: {precision!r} is unknown; use "highest" or "high"; cast to bfloat16 for less'
        )
    _precision = precision


def get_matmul_precision() -> str:
    """ "highest" or "high"; see set_matmul_precision."""
    return _precision


def tune_matmul(enabled: bool = True) -> None:
    """Choose the algorithm of each matrix product on CUDA by timing cuBLASLt's candidates, not by its first guess.

    Captured functions also time whether the gradient of an activation, and of a bias, is better made by the product
    before it or by a kernel of ours; without this it is the kernel.

    Costs some tens of products at the first use of a shape, layout and alignment; the choice is kept while the process
    lives, also after `tune_matmul(False)`. Another run may choose otherwise, and so round otherwise.
    """
    global _tuning
    _tuning = _flag(enabled)


def is_tuning_matmul() -> bool:
    """Are algorithms timed? See tune_matmul."""
    return _tuning


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"tune_matmul: {value!r} is neither True nor False")
    return value
