"""Indices out of range: what is wrong, said in one place for all backends.

On the CPU the error is raised at once; a kernel leaves the numbers behind, and the backend raises it at the next
synchronisation.
"""

from __future__ import annotations

from ..core.errors import DataError, GpuBackpropError, ShapeIndexError

# operation -> its error, and the sentence for an `index` at `place` that is not one of `limit`; last = limit - 1
FAULTS: dict[str, tuple[type[GpuBackpropError], str]] = {
    "cross_entropy": (
        DataError,
        "cross_entropy: label {index} in row {place} is not one of the {limit} classes 0..{last}; "
        "mend the labels, or set ignore_index={index} to leave such rows out",
    ),
    "embedding": (
        DataError,
        "embedding: index {index} is not one of the {limit} rows 0..{last}; mend the indices, or make the table longer",
    ),
    "getitem": (
        ShapeIndexError,
        "getitem: index {index} is out of bounds for axis {place} with size {limit}; "
        "use indices from minus the length to the length minus 1",
    ),
    "one_hot": (
        DataError,
        "one_hot: label {index} is not one of the {limit} classes 0..{last}; mend the labels, or raise num_classes",
    ),
    **{
        name: (
            ShapeIndexError,
            f"{name}: index {{index}} is out of bounds for axis {{place}} of length {{limit}}; "
            "use indices from minus the length to the length minus 1",
        )
        for name in ("take", "take_along_axis")
    },
}


def fault(operation: str, index: int, place: int, limit: int) -> GpuBackpropError:
    """The error for an index that is not one of `limit`; place: the row of a label, the axis of an index."""
    kind, sentence = FAULTS[operation]
    return kind(sentence.format(index=index, place=place, limit=limit, last=limit - 1))
