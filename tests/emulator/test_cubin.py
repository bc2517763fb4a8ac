"""The way to the GPU as far as it goes without one: NVRTC compiles, names are found, the cache holds."""

import numpy as np
import pytest

from gpu_backprop.backends import kernels
from gpu_backprop.backends.kernels import compile_report, cubins
from gpu_backprop.core.errors import DeviceError, KernelError

CODE = """
#ifdef GB_HALF
#include <cuda_fp16.h>
#endif
template <class T> struct Twice { __device__ static T of(T x) { return x + x; } };
template <class F, class T> __global__ void map(const T* x, T* out, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) out[i] = F::of(x[i]);
}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("GPU_BACKPROP_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "map.cu"
    path.write_text(CODE)
    return str(path)


@pytest.mark.compile
@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_120"])
def test_cubin_without_a_gpu(file, arch):
    expressions = ["map<Twice<float>, float>", "map<Twice<__half>, __half>"]
    (cubin,) = cubins(file, expressions, arch)
    assert set(cubin.names) == set(expressions)
    code = cubin.path.read_bytes()
    assert code.startswith(b"\x7fELF")
    for name in cubin.names.values():
        assert name.encode() in code


FLOAT, DOUBLE, HALF = (f"map<Twice<{t}>, {t}>" for t in ("float", "double", "__half"))


@pytest.mark.compile
def test_each_kernel_of_a_batch_comes_from_the_cache(file, monkeypatch):
    """Alone, in another order, beside others and with fewer macros than the batch was compiled with."""
    (first,) = cubins(file, [FLOAT, HALF], "sm_90")
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "_cuda_core", lambda: pytest.fail("compiled again"))
        assert cubins(file, [HALF, FLOAT], "sm_90") == [first]
        for expression in (FLOAT, HALF):
            (alone,) = cubins(file, [expression], "sm_90")
            assert (alone.path, alone.names) == (first.path, {expression: first.names[expression]})
        for other in ((DOUBLE, "sm_90"), (FLOAT, "sm_80")):
            with pytest.raises(pytest.fail.Exception):
                cubins(file, [other[0]], other[1])
    compiled = []
    compile_cubin = kernels.compile_cubin
    monkeypatch.setattr(kernels, "compile_cubin", lambda *args: compiled.append(args[1]) or compile_cubin(*args))
    known, new = cubins(file, [DOUBLE, FLOAT], "sm_90")
    assert compiled == [(DOUBLE,)]
    assert (known.path, list(known.names), list(new.names)) == (first.path, [FLOAT], [DOUBLE])
    assert new.names[DOUBLE].encode() in new.path.read_bytes()


@pytest.mark.compile
def test_a_cache_that_lost_something_is_mended(file):
    (first,) = cubins(file, [FLOAT], "sm_90")
    first.path.unlink()
    assert cubins(file, [FLOAT], "sm_90") == [first]
    assert first.path.exists()
    (entry,) = first.path.parent.glob("*.json")
    entry.write_text("{")
    assert cubins(file, [FLOAT], "sm_90") == [first]


@pytest.mark.compile
def test_source_that_does_not_compile(file):
    with pytest.raises(KernelError, match=r"map\.cu does not compile for sm_90") as caught:
        cubins(file, ["map<Thrice<float>, float>"], "sm_90")
    assert "Thrice" in str(caught.value)


@pytest.mark.compile
def test_report_of_a_machine_that_compiles():
    works, text = compile_report()
    assert works
    assert "nvrtc" in text.lower()


def test_report_names_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cuda.core", None)
    monkeypatch.setitem(__import__("sys").modules, "cuda.core.experimental", None)
    works, text = compile_report()
    assert not works
    assert 'pip install "gpu-backprop[cuda13]"' in text
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "cuda_include_folders", lambda: ())
    with pytest.raises(DeviceError, match="pip install nvidia-cuda-runtime"):
        kernels.require_cuda_headers()


def test_headers_of_16_bit_types_only_where_named():
    assert kernels.type_macros(["map<Add, float, int>"]) == []
    assert kernels.type_macros(["map<Add, __half>", "map<halfway>"]) == ["GB_HALF"]
    assert kernels.type_macros(["map<Cast<__nv_bfloat16>, float>", "map<half>"]) == ["GB_HALF", "GB_BFLOAT16"]


def test_structures_are_passed_as_their_bytes():
    value = np.array((1, 2.5), np.dtype([("n", "i4"), ("x", "f4")]))[()]
    assert kernels.struct_bytes(value) == b"\x01\x00\x00\x00\x00\x00\x20\x40"
