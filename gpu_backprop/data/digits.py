"""Handwritten digits that come with the package, so that a first run needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import read_npz


def load_digits(scaled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of handwritten digits: X of shape (1797, 64), float32, and the digits y of shape (1797,), int64.

    A row of X is an 8x8 image row by row. Its pixels are the source's integers from 0 (paper) to 16 (ink), as floats,
    the same as from scikit-learn's function of this name; with `scaled=True` they run from 0 to 1.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
    (1998), https://doi.org/10.24432/C50P49, licence CC BY 4.0; its test part, as scikit-learn ships it (see DIGITS.md).
    """
    arrays = read_npz(Path(__file__).with_name("digits.npz"))
    images = arrays["images"].astype(np.float32)
    return images / 16 if scaled else images, arrays["labels"].astype(np.int64)
