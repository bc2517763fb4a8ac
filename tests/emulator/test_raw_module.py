"""gb.emulated.RawModule: CuPy's arguments, several kernels of one source, and what is refused."""

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends.emulated import c_kernels
from gpu_backprop.core.errors import KernelError

pytestmark = pytest.mark.emulated

CODE = """
__device__ int launches;
template <class T> __global__ void scale(T* x, T factor) { x[threadIdx.x] *= factor * FACTOR; }
namespace inner { __global__ void fill(int* x) { x[threadIdx.x] = 7; } }
extern "C" __global__ void __launch_bounds__(32) count(int* out) {
    if (threadIdx.x == 0) { ++launches; out[0] = launches; }
}
extern "C" {
    // __global__ void not_there(int* x);
    __global__ void again(int* out) { if (threadIdx.x == 0) out[0] = ++launches; }
    __launch_bounds__(64) __global__ void reverse(float* x) {
        const float other = x[blockDim.x - 1 - threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = other;
    }
}
"""


def module(**arguments):
    expressions = ["scale<float>", "scale<double>", "inner::fill"]
    return gb.emulated.RawModule(code=CODE, options=("-DFACTOR=2",), name_expressions=expressions, **arguments)


def test_kernels_of_one_source():
    made = module()
    for dtype, name in ((np.float32, "scale<float>"), (np.float64, "scale<double>")):
        x = np.arange(4, dtype=dtype)
        made.get_function(name)((1,), (4,), (x, dtype(1.5)))
        assert x.tolist() == [0, 3, 6, 9]
    x = np.zeros(3, np.int32)
    made.get_function("inner::fill")((1,), (3,), (x,))
    assert x.tolist() == [7] * 3


def test_kernels_of_a_module_share_its_variables():
    made, out = module(), np.zeros(1, np.int32)
    made.get_function("count")((1,), (32,), (out,))
    before = out[0]
    made.get_function("again")((1,), (32,), (out,))
    assert out[0] == before + 1


def test_the_order_is_that_of_every_function():
    for order in gb.emulated.ORDERS:
        x = np.arange(64, dtype=np.float32)
        made = module(order=order, seed=3)
        made.get_function("reverse")((1,), (64,), (x,))
        assert x.tolist() == list(range(63, -1, -1))
        assert made.get_function("reverse").launcher.order == order


def test_c_kernels_are_found():
    assert c_kernels(CODE) == ["count", "again", "reverse"]
    assert c_kernels('extern "C" int f();\n__global__ void plain(int* x) {}') == []


def test_the_checks_are_those_of_a_raw_kernel():
    made = module()
    with pytest.raises(
        KernelError, match=r"kernel scale<float> of module\.cu: argument 0 points to f4, not to float64"
    ):
        made.get_function("scale<float>")((1,), (4,), (np.zeros(4), np.float32(1)))
    with pytest.raises(KernelError, match="wrote outside argument 0"):
        made.get_function("inner::fill")((1,), (4,), (np.zeros(3, np.int32),))
    with pytest.raises(KernelError, match=r"module\.cu:2"):
        gb.emulated.RawModule('\nextern "C" __global__ void f(int* x) { missing; }').get_function("f")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"path": "kernels.cubin"}, "path='kernels.cubin' is not emulated: read the file and pass its text as code="),
        ({"code": CODE, "backend": "nvcc"}, "backend='nvcc' is not emulated: leave it out"),
        ({"code": CODE, "translate_cucomplex": True}, "translate_cucomplex=True is not emulated"),
        ({"code": CODE, "enable_cooperative_groups": True}, "split the kernel where the whole grid must wait"),
        ({"code": CODE, "jitify": True}, "jitify=True is not emulated"),
        ({"code": CODE, "options": ("--use_fast_math",)}, "the option '--use_fast_math' is not understood"),
        ({}, "no code given"),
        ({"code": "__global__ void f(int* x) {}"}, 'has no kernel that is extern "C"'),
    ],
)
def test_what_is_not_emulated_is_refused(arguments, told):
    with pytest.raises(KernelError) as caught:
        gb.emulated.RawModule(**arguments)
    assert str(caught.value).startswith("RawModule: ")
    assert told in str(caught.value)


def test_a_kernel_that_cupy_would_not_find_is_not_found():
    with pytest.raises(KernelError, match=r"no kernel 'scale<int>' among scale<float>, .*name_expressions="):
        module().get_function("scale<int>")
    with pytest.raises(KernelError, match=r"get_global\('launches'\) is not emulated; pass an array"):
        module().get_global("launches")
    with pytest.raises(TypeError, match="'colour' is no argument of CuPy's"):
        module(colour="red")
    with pytest.raises(KernelError, match="RawKernel f: backend='nvcc' is not emulated"):
        gb.emulated.RawKernel(CODE, "f", backend="nvcc")
