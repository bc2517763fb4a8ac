"""Embedding rows. One-hot rows and accuracy have no gradient and are tested elsewhere, as is the row that gets none."""

from __future__ import annotations

import numpy as np

import gpu_backprop as gb

from .base import Op, shaped

INDICES = np.array([[2, 0, 2], [1, 2, 3]])


EMBEDDINGS: list[Op] = [
    shaped(
        "embedding",
        lambda w: gb.nn.functional.embedding(gb.asarray(INDICES, device=w.device), w),
        lambda w: w[INDICES],
        [((4, 3),), ((5, 1),)],
        autograd=lambda w: w[INDICES],
    ),
]
