"""Operations without a gradient."""

from __future__ import annotations

import numpy as np

import gpu_backprop as gb

from .base import binary, shaped, unary

VALUES_ONLY = [
    *(
        binary(name, getattr(np, name), gradient=False)
        for name in (
            "equal",
            "greater",
            "greater_equal",
            "less",
            "less_equal",
            "not_equal",
            "logical_and",
            "logical_or",
        )
    ),
    binary("logical_xor", np.logical_xor, gradient=False),
    *(
        unary(name, getattr(np, name), gradient=False)
        for name in ("isfinite", "isinf", "isnan", "signbit", "logical_not")
    ),
    *(
        shaped(
            f"{name} {axis}",
            lambda x, n=name, a=axis: getattr(gb, n)(x, axis=a),
            lambda x, n=name, a=axis: getattr(np, n)(x, axis=a),
            [((2, 3),), ((4, 1),)],
            gradient=False,
        )
        for name in ("argmax", "argmin", "any", "all")
        for axis in (None, 1)
    ),
]
