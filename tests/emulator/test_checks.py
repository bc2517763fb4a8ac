"""What the emulator notices of a wrong launch or a wrong kernel, and what it says."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends.emulated import EmulatedLauncher, RawKernel
from gpu_backprop.backends.guards import guarded_empty
from gpu_backprop.core.errors import KernelError

pytestmark = pytest.mark.emulated


def fails(kernel, *args, grid=(1,), block=(1,)):
    with pytest.raises(KernelError) as caught:
        kernel(grid, block, args)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------------- memory

WRITE = RawKernel("__global__ void put(char* x, long long i, char value) { x[i] = value; }", "put")


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("size", [1, 10, 256, 1001])
@pytest.mark.parametrize("distance", [0, 1, 7, 255])
def test_writes_outside_an_array_are_noticed(guarded, size, distance):
    array = guarded_empty(size, np.uint8) if guarded else np.empty(size, np.uint8)
    array[:] = 7
    message = fails(WRITE, array, size + distance, 1)
    assert "kernel put" in message
    assert f"argument 0 (uint8 array of shape ({size},))" in message
    assert f"{distance} bytes past its memory's end (offset {size + distance} of {size})" in message
    message = fails(WRITE, array, -1 - distance, 1)
    assert f"{1 + distance} bytes before its memory begins" in message
    assert (array == 7).all()
    WRITE((1,), (1,), (array, size - 1, 1))  # the zones are whole again
    assert array[-1] == 1


def test_views_of_guarded_arrays_are_guarded():
    put = RawKernel("__global__ void put_float(float* x, int i) { x[i] = 1; }", "put_float")
    view = guarded_empty((4, 8), np.float32).T[2:, 1:]  # begins at element 10 of 32
    put((1,), (1,), (view, 21))
    assert "4 bytes, the first 0 bytes past its memory's end (offset 128 of 128)" in fails(put, view, 22)


def test_overlapping_unguarded_arrays_stay_overlapping():
    kernel = RawKernel("__global__ void copy(const int* x, int* y, int* z) { y[0] = x[1]; z[0] = y[0] + 1; }", "copy")
    memory = np.arange(10, dtype=np.int32)
    kernel((1,), (1,), (memory[3:6], memory[4:7], memory[9:]))
    assert memory.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 5]
    kernel((1,), (1,), (memory[3:6], memory[3:5], memory[4:5]))  # y[0] is x[0]
    assert memory.tolist() == [0, 1, 2, 4, 5, 5, 6, 7, 8, 5]


def test_unset_memory_is_nan_in_all_float_types():
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        assert np.isnan(EmulatedLauncher().empty((5, 3), dtype).astype(np.float64)).all()
    array = guarded_empty((3, 5), np.float32)
    assert array.flags.c_contiguous
    assert array.ctypes.data % 256 == 0
    assert guarded_empty((0, 4), np.float64).shape == (0, 4)
    assert guarded_empty((), np.float64).shape == ()


def test_faults_do_not_end_the_process():
    deep = RawKernel(
        """
        __device__ int depth(volatile int* x, int n) { volatile char space[4096]; space[n % 4096] = 1;
            return n == 0 ? x[0] : depth(x, n - 1) + space[5]; }
        __global__ void deep(int* x, int n) { x[0] = depth(x, n); }
        """,
        "deep",
    )
    deep((1,), (1,), (np.zeros(1, np.int32), 10))
    assert "bytes of stack" in fails(deep, np.zeros(1, np.int32), 100)
    claim = RawKernel("__global__ void claim(int* x) { assert(x[0] == 3); }", "claim")
    claim((1,), (1,), (np.full(1, 3, np.int32),))
    assert "assertion failed at claim.cu:1: x[0] == 3" in fails(claim, np.full(1, 4, np.int32))


# ------------------------------------------------------------------------------------------------------------ arguments

TYPES = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
struct Shape { int n; long long strides[2]; };
__global__ void types(const float* f, double* d, bool* b, const __half* h, const __nv_bfloat16* g, const void* any,
                      int i, unsigned long long u, float s, double t, bool c, __half hs, __nv_bfloat16 gs,
                      Shape shape) {
    d[0] = f[0] + float(h[0]) + float(g[0]) + *static_cast<const int*>(any) + b[0];
    d[1] = i + double(u) + s + t + c + float(hs) + float(gs) + shape.n + shape.strides[1];
}
"""


class Shape(ctypes.Structure):
    _fields_ = (("n", ctypes.c_int), ("strides", ctypes.c_longlong * 2))


def arguments():
    bfloat16 = ml_dtypes.bfloat16
    arrays = [np.full(1, 0.5, np.float32), np.zeros(2), np.ones(1, bool), np.full(1, 2, np.float16)]
    arrays += [np.full(1, 4, bfloat16), np.full(1, 8, np.int32)]
    scalars = [np.int32(-1), np.uint64(2**40), np.float32(0.25), np.float64(0.125), np.bool_(True), np.float16(2)]
    return [*arrays, *scalars, bfloat16(4), Shape(10, (0, 100))]


def test_arguments_of_every_type():
    kernel, args = RawKernel(TYPES, "types"), arguments()
    kernel((1,), (1,), args)
    assert args[1].tolist() == [15.5, -1 + 2**40 + 0.375 + 1 + 2 + 4 + 110]
    dtype = np.dtype({"names": ["n", "s"], "formats": ["i4", ("i8", 2)], "offsets": [0, 8], "itemsize": 24})
    args[13] = np.array((10, (0, 100)), dtype)[()]
    args[1][:] = 0
    kernel((1,), (1,), args)
    assert args[1][1] == -1 + 2**40 + 0.375 + 1 + 2 + 4 + 110


@pytest.mark.parametrize(
    ("number", "value", "told"),
    [
        (0, np.zeros(1), "points to f4, not to float64"),
        (0, np.zeros(1, np.int32), "points to f4, not to int32"),
        (0, np.zeros(1, ">f4"), "points to f4, not to >f4"),
        (0, [1.0], "takes an array or None, not list"),
        (0, np.float32(1), "takes an array or None, not float32"),
        (1, np.zeros(1, object), "points to f8, not to object"),
        (3, np.zeros(1, ml_dtypes.bfloat16), "points to f2, not to bfloat16"),
        (5, np.zeros(1, object), "not to object"),
        (6, np.int64(1), "is of type i4, not int64"),
        (6, np.zeros(1, np.int32), "is of type i4, not int32"),
        (6, 2**31, "is of type i4, not int"),
        (8, 1.5, "is of type f4, not float"),
        (8, np.float64(1.5), "is of type f4, not float64"),
        (11, ml_dtypes.bfloat16(1), "is of type f2, not bfloat16"),
        (13, b"short", "is of type V24, not bytes"),
    ],
)
def test_arguments_of_wrong_types_are_refused(number, value, told):
    args = arguments()
    args[number] = value
    message = fails(RawKernel(TYPES, "types"), *args)
    assert f"kernel types of types.cu: argument {number} " in message
    assert told in message


def test_other_wrong_launches():
    kernel = RawKernel(TYPES, "types")
    assert "takes 14 arguments, not 13" in fails(kernel, *arguments()[:-1])
    args = arguments()
    args[1].flags.writeable = False
    assert "argument 1 is a read-only array" in fails(kernel, *args)
    args = arguments()
    args[0].flags.writeable = False  # the kernel's pointer is const
    kernel((1,), (1,), args)
    assert "a grid of (0,) is outside" in fails(kernel, *args, grid=(0,))
    assert "a grid of (1, 65536) is outside" in fails(kernel, *args, grid=(1, 65536))
    assert "more than 1024 threads" in fails(kernel, *args, block=(1024, 2))
    assert "a block of (1, 1, 65) is outside" in fails(kernel, *args, block=(1, 1, 65))
    with pytest.raises(KernelError, match="dynamic shared memory"):
        kernel((1,), (1,), args, shared_mem=10**6)
    kernel.launcher.max_grid = 4
    kernel((4,), (1,), args)
    assert "a grid of (5,) is outside 1 to (4," in fails(kernel, *args, grid=(5,))
    with pytest.raises(KernelError, match="thread order 'sideways'"):
        EmulatedLauncher(order="sideways")
    with pytest.raises(KernelError, match="option '--use_fast_math'"):
        RawKernel(TYPES, "types", ("--use_fast_math",))


def test_raw_kernel_options_and_templates():
    code = "template <class T> __global__ void fill(T* x) { x[threadIdx.x] = VALUE; }"
    x = np.zeros(3)
    RawKernel(code, "fill<double>", ("-DVALUE=2.5", "--std=c++17"))((1,), (3,), (x,))
    assert x.tolist() == [2.5] * 3


def test_raw_kernel_in_a_primitive():
    code = """
    extern "C" __global__ void cube(const float* x, float* y, int n) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) y[i] = x[i] * x[i] * x[i];
    }
    """
    kernel = RawKernel(code, "cube")

    def forward(x):
        y = np.empty_like(x)
        kernel((x.size // 64 + 1,), (64,), (x, y, x.size))
        return y

    cube = gb.primitive(forward, vjp=lambda g, x: 3 * x * x * g)
    with gb.device("emulated"):
        x = gb.tensor(np.linspace(-2, 2, 100, dtype=np.float32), requires_grad=True)
        cube(x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 3 * x.numpy() ** 2, rtol=1e-6)
