"""How kernels are compiled for the CPU and kept: cache, batches, several processes, missing tools, sanitizers."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gpu_backprop.backends import emulated, host_compiler, kernels
from gpu_backprop.backends.emulated import EmulatedLauncher, RawKernel
from gpu_backprop.backends.kernels import Kernel
from gpu_backprop.core.errors import DeviceError, KernelError

from .sanitized import run_sanitized

pytestmark = pytest.mark.emulated

CACHED = ("compiler", "compile_flags", "runtime", "sanitizers")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache folder, and nothing remembered of the tools."""

    def forget():
        for name in CACHED:
            getattr(host_compiler, name).cache_clear()
        kernels.cuda_include_folders.cache_clear()

    monkeypatch.setenv("GPU_BACKPROP_CACHE_DIR", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache"
    monkeypatch.undo()
    forget()


FILL = "template <class T, int value> __global__ void fill(T* x) { x[threadIdx.x] = T(value); }"


def source_file(folder, text=FILL):
    path = folder / "fill.cu"
    path.write_text(text)
    return str(path)


def fill(launcher, kernel):
    x = np.zeros(4, np.float32)
    launcher.launch(kernel, (1,), (4,), (x,))
    return x.tolist()


def test_a_kernel_is_compiled_once(fresh, tmp_path, monkeypatch):
    kernel = Kernel(source_file(tmp_path), "fill<float, 3>")
    assert fill(EmulatedLauncher(), kernel) == [3] * 4
    monkeypatch.setattr(host_compiler, "_run_compiler", lambda *arguments: pytest.fail("compiled again"))
    assert fill(EmulatedLauncher(), kernel) == [3] * 4
    assert not list(fresh.rglob(".making-*"))


def test_changed_source_is_compiled_again(fresh, tmp_path):
    kernel = Kernel(source_file(tmp_path), "fill<float, 3>")
    assert fill(EmulatedLauncher(), kernel) == [3] * 4
    source_file(tmp_path, FILL.replace("T(value)", "T(value) + 1"))
    assert fill(EmulatedLauncher(), kernel) == [4] * 4


def test_a_batch_is_one_compilation_found_by_each_kernel(fresh, tmp_path, monkeypatch):
    file = source_file(tmp_path)
    batch = [Kernel(file, f"fill<float, {value}>") for value in range(40)]
    EmulatedLauncher().compile(batch)
    assert len({os.stat(host_compiler.library_path(kernel)).st_ino for kernel in batch}) == 1
    monkeypatch.setattr(host_compiler, "_run_compiler", lambda *arguments: pytest.fail("compiled again"))
    assert fill(EmulatedLauncher(), batch[17]) == [17] * 4


def test_compilation_is_quick(fresh, tmp_path):
    host_compiler.runtime()
    start = time.perf_counter()
    EmulatedLauncher().compile([Kernel(source_file(tmp_path), "fill<float, 3>")])
    assert time.perf_counter() - start < 3  # 0.2 s on an idle machine


CHILD = """
import sys
import numpy as np
from gpu_backprop.backends.emulated import EmulatedLauncher
from gpu_backprop.backends.kernels import Kernel
for value in range(3):
    x = np.zeros(4, np.float32)
    EmulatedLauncher().launch(Kernel(sys.argv[1], f"fill<float, {value}>"), (1,), (4,), (x,))
    assert x.tolist() == [value] * 4
"""


def test_processes_compile_at_the_same_time(fresh, tmp_path):
    file = source_file(tmp_path)
    children = [subprocess.Popen([sys.executable, "-c", CHILD, file], stderr=subprocess.PIPE) for _ in range(3)]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors.decode()
        assert errors.count(b"compiling kernels") <= 1  # said once a process
    assert len(list((fresh / "emulated").glob("*.so"))) == 4  # the runtime and three kernels
    assert not list(fresh.rglob(".making-*"))


def test_source_that_does_not_compile(fresh, tmp_path):
    with pytest.raises(KernelError, match=r"kernel wrong of wrong\.cu does not compile") as caught:
        RawKernel("\n__global__ void wrong(float* x) { x[0] = missing; }", "wrong")((1,), (1,), (None,))
    assert "wrong.cu:2" in str(caught.value)
    assert "missing" in str(caught.value)
    with pytest.raises(KernelError, match="absent"):
        RawKernel(FILL, "absent")((1,), (1,), (None,))
    with pytest.raises(KernelError, match=r"no_such_file\.cu cannot be read"):
        EmulatedLauncher().compile([Kernel("no_such_file.cu", "f")])


def test_missing_tools_are_named(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    usable, reason = emulated.available()
    assert not usable
    assert "no-such-compiler" in reason
    with pytest.raises(DeviceError, match="install g"):
        emulated.backend.__wrapped__()
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(kernels, "cuda_include_folders", lambda: ())
    for name in CACHED:
        getattr(host_compiler, name).cache_clear()
    usable, reason = emulated.available()
    assert not usable
    assert "pip install nvidia-cuda-runtime nvidia-cuda-crt" in reason
    monkeypatch.setattr(sys, "platform", "darwin")
    host_compiler.compiler.cache_clear()
    with pytest.raises(DeviceError, match="Linux only"):
        host_compiler.compiler()


def test_a_cache_that_cannot_be_written_is_named(fresh, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPU_BACKPROP_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(KernelError, match="set GPU_BACKPROP_CACHE_DIR"):
        EmulatedLauncher().compile([Kernel(source_file(tmp_path), "fill<float, 3>")])


def test_cxx_chooses_the_compiler(fresh, monkeypatch):
    monkeypatch.setenv("CXX", f"{host_compiler.compiler()[0]} -DFROM_CXX=5")
    host_compiler.compiler.cache_clear()
    x = np.zeros(1, np.int32)
    RawKernel("__global__ void f(int* x) { x[0] = FROM_CXX; }", "f")((1,), (1,), (x,))
    assert x[0] == 5


SANITIZED = """
import sys
import numpy as np
from gpu_backprop.backends.emulated import EmulatedLauncher, RawKernel
code = '''
__global__ void sum(const float* x, float* out, int n) {
    __shared__ float part[32];
    float v = threadIdx.x < n ? x[threadIdx.x] : 0;
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}'''
empty = EmulatedLauncher().empty
x, out = empty(100, np.float32), empty(3, np.float32)
x[:] = 1
kernel = RawKernel(code, "sum", order="shuffled")
kernel((3,), (128,), (x, out, 100))
assert (out == 100).all(), out
try:
    kernel((1,), (128,), (x, np.zeros(1), 100))
except Exception as error:
    print("refused:", error, file=sys.stderr)
print("sound", file=sys.stderr, flush=True)
kernel((3,), (128,), (x, out, 101))
print("not noticed", file=sys.stderr)
"""


def test_address_sanitizer_finds_reads_outside_an_array():
    child = run_sanitized("address", "-c", SANITIZED)
    assert "refused: kernel sum of sum.cu: argument 1" in child.stderr
    assert "sound" in child.stderr
    assert "not noticed" not in child.stderr
    assert "AddressSanitizer: heap-buffer-overflow" in child.stderr
    assert "sum.cu:4" in child.stderr
    assert child.returncode
