"""Bridges to libraries that do not take Tensors by themselves; none of them is imported here."""

from . import scipy

__all__ = ["scipy"]
