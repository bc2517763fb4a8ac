"""Embedding rows; one-hot rows and accuracy have no gradient and are tested elsewhere."""

from __future__ import annotations

import numpy as np

import gpu_backprop as gb

from .base import Op, shaped

INDICES = np.array([[2, 0, 2], [1, 2, 3]])


def _embedding(label: str, padding_idx: int | None) -> Op:
    # the padding's row is a constant: its gradient is left out on purpose, so a difference must not see it
    used = INDICES[padding_idx != INDICES]
    return shaped(
        f"embedding {label}",
        lambda w: gb.nn.functional.embedding(gb.asarray(used, device=w.device), w, padding_idx),
        lambda w: w[used],
        [((4, 3),), ((5, 1),)],
        autograd=lambda w: w[used],
    )


EMBEDDINGS = [_embedding("rows", None), _embedding("padding", 3)]
