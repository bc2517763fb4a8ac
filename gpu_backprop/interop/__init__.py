"""Helpers beside other libraries, one file each: gpu_backprop.interop.einops, gpu_backprop.interop.scipy.

Most libraries need none: they find the array API, DLPack or NumPy's protocols on a Tensor (docs/neighbours.md).
"""
