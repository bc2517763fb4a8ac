"""What the CUDA launcher hands to CuPy, seen by a stand-in for CuPy (the real one runs in the tests marked `gpu`)."""

import ctypes
import sys
import types

import ml_dtypes
import numpy as np
import pytest

from gpu_backprop.backends import kernels
from gpu_backprop.backends.kernels import Cubin, CudaLauncher, Kernel
from gpu_backprop.core.errors import DeviceError, KernelError


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    """A module named cupy that records modules, functions and launches."""
    fake = types.ModuleType("cupy")
    fake.calls, fake.loaded = [], []
    fake.ndarray = type("ndarray", (), {})

    class Function:
        max_dynamic_shared_size_bytes = 48 * 1024

        def __init__(self, name):
            self.name = name

        def __call__(self, grid, block, args, *, shared_mem):
            fake.calls.append((self, grid, block, args, shared_mem))

    class RawModule:
        def __init__(self, *, path):
            fake.loaded.append(path)

        get_function = staticmethod(Function)

    fake.RawModule = RawModule
    properties = {"multiProcessorCount": 132, "sharedMemPerBlock": 49152, "major": 9, "minor": 0}
    properties["sharedMemPerBlockOptin"] = 232448
    runtime = types.SimpleNamespace(getDevice=lambda: 0, getDeviceProperties=lambda device: properties)
    fake.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", fake)

    def compiled(file, expressions, arch):
        assert arch == "sm_90"
        names = {expression: f"lowered {expression}" for expression in expressions}
        return [Cubin(tmp_path / f"{file}.cubin", names)]

    monkeypatch.setattr(kernels, "cubins", compiled)
    return fake


def test_arguments_reach_cupy_as_it_takes_them(cupy):
    array, shape = cupy.ndarray(), (ctypes.c_int * 6)(1, 2, 3, 4, 5, 6)
    launcher, kernel = CudaLauncher(), Kernel("a.cu", "f<float>")
    scalars = (np.int32(3), np.float64(2.5), np.bool_(True))
    launcher.launch(kernel, (5,), (256,), (array, None, *scalars, ml_dtypes.bfloat16(1.5), shape), shared=100)
    launcher.launch(kernel, (5,), (256,), (array,), shared=100_000)
    (function, grid, block, args, shared), second = cupy.calls
    assert (function.name, grid, block, shared) == ("lowered f<float>", (5,), (256,), 100)
    assert args[0] is array
    assert (args[1].dtype, args[1]) == (np.uint64, 0)  # the null pointer
    assert args[2:5] == scalars
    for passed, value in ((args[5], np.array(1.5, ml_dtypes.bfloat16)), (args[6], np.arange(1, 7, dtype=np.int32))):
        assert passed.size == 1  # by value
        assert passed.tobytes() == value.tobytes()
    assert second[0] is function
    assert len(cupy.loaded) == 1
    assert function.max_dynamic_shared_size_bytes == 100_000
    launcher.launch(kernel, (5,), (256,), (array,), shared=48 * 1024)  # and what the kernel itself declares
    assert function.max_dynamic_shared_size_bytes == 48 * 1024


def test_kernels_of_a_file_are_loaded_together(cupy):
    launcher = CudaLauncher()
    launcher.compile([Kernel("a.cu", "f"), Kernel("b.cu", "g"), Kernel("a.cu", "h")])
    assert len(cupy.loaded) == 2
    launcher.launch(Kernel("a.cu", "another of the same cubin"), (1,), (1,), ())
    assert len(cupy.loaded) == 2
    assert launcher.properties.multiprocessors == 132
    assert launcher.properties.shared_bytes_per_block == 232448


def test_grids_over_the_limits_are_refused(cupy):
    launcher, kernel = CudaLauncher(), Kernel("a.cu", "f<float>")
    for grid, block in [
        ((2**31,), (1,)),
        ((1, 65536), (1,)),
        ((0,), (1,)),
        ((1,), (1025,)),
        ((1,), (32, 33)),
        ((), (1,)),
    ]:
        with pytest.raises(KernelError, match=r"kernel f<float> of a\.cu"):
            launcher.launch(kernel, grid, block, ())
    launcher.max_grid = 7
    with pytest.raises(KernelError, match=r"outside 1 to \(7"):
        launcher.launch(kernel, (8,), (1,), ())
    assert not cupy.calls


def test_missing_cupy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="pip install"):
        CudaLauncher()
