"""CuPy, and whoever else has arrays on the GPU: the same memory, no copies."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb

from .conftest import WORK, slow

pytestmark = pytest.mark.gpu


def pointer(array) -> int:
    return array.__cuda_array_interface__["data"][0]


def test_a_cupy_array_becomes_a_tensor_without_a_copy(cupy):
    array = cupy.arange(12, dtype=cupy.float32).reshape(3, 4)
    for view in (array, array.T, array[::2, 1:]):
        tensor = gb.asarray(view)
        assert tensor.device == "cuda"
        assert pointer(tensor.array) == pointer(view)
        assert tensor.array.strides == view.strides
    array[0, 0] = 50
    assert gb.asarray(array)[0, 0].item() == 50
    assert pointer(gb.tensor(array).array) != pointer(array)  # gb.tensor copies


def test_a_tensor_is_a_cupy_array_without_a_copy(cupy):
    tensor = gb.ones((4, 5))
    for array in (cupy.asarray(tensor), cupy.from_dlpack(tensor)):
        array *= 2
        assert pointer(array) == pointer(tensor.array)
    assert tensor.numpy().tolist() == [[4.0] * 5] * 4
    for view in (tensor.T, tensor[::2, 1:]):
        assert cupy.asarray(view).strides == cupy.from_dlpack(view).strides == view.array.strides
        assert pointer(cupy.asarray(view)) == pointer(view.array)


def test_from_dlpack_shares_what_cupy_has(cupy):
    array = cupy.arange(12, dtype=cupy.float32).reshape(3, 4)
    for view in (array, array.T, array[::2, 1:]):
        tensor = gb.from_dlpack(view)
        assert tensor.device == "cuda"
        assert pointer(tensor.array) == pointer(view)
    assert pointer(gb.from_dlpack(array, copy=True).array) != pointer(array)
    with pytest.raises(gb.ExchangeError, match="copy=False"):
        gb.from_dlpack(array, device="cpu", copy=False)
    assert gb.from_dlpack(array, device="cpu").numpy().tolist() == array.get().tolist()


def test_what_requires_grad_is_not_shared_with_cupy(cupy):
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    assert not hasattr(x, "__cuda_array_interface__")
    copy = cupy.from_dlpack(x)
    copy *= 0
    assert x.tolist() == [1.0, 2.0]
    assert pointer(cupy.asarray(x.detach())) == pointer(x.array)
    product = cupy.asarray([3.0, 4.0], dtype=cupy.float32) * x  # CuPy leaves it to Tensors
    product.sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("borrow", ["asarray", "from_dlpack"])
def test_another_stream_waits_for_the_work_on_ours(cupy, borrow):
    stream = cupy.cuda.Stream(non_blocking=True)
    tensor = slow() * 3
    with stream:
        array = getattr(cupy, borrow)(tensor) + 1
    stream.synchronize()
    assert (array == 4).all()


@pytest.mark.parametrize("borrow", [gb.asarray, gb.from_dlpack])
def test_our_stream_waits_for_the_work_on_anothers(cupy, borrow):
    """By DLPack and by the interface, an array of another library's; CuPy's own are used where they are made."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    with torch.cuda.stream(torch.cuda.Stream()):
        theirs = torch.ones(WORK, WORK, device="cuda")
        for _ in range(20):
            theirs = theirs @ theirs / WORK
        ours = borrow(theirs) + 1
    assert (ours.numpy() == 2).all()


def test_gradients_of_cupy_arrays(cupy):
    array = cupy.linspace(0, 1, 100, dtype=cupy.float32)
    x = gb.asarray(array).requires_grad_()
    (gb.sin(x) * x).sum().backward()
    expected = cupy.cos(array) * array + cupy.sin(array)
    cupy.testing.assert_allclose(x.grad.array, expected, rtol=1e-5, atol=1e-6)


def test_tensors_of_torch(cupy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    theirs = torch.arange(6, dtype=torch.float32, device="cuda")
    ours = gb.asarray(theirs)
    assert pointer(ours.array) == theirs.data_ptr()
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr()
    torch.cuda.synchronize()
    assert (ours * 2).numpy().tolist() == [0, 2, 4, 6, 8, 10]


def test_arrays_of_jax(cupy):
    """Shared, and not to be written, as on the CPU; ours are copied only where JAX cannot share them."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    if not any(d.platform == "gpu" for d in jax.devices()):
        pytest.skip("this JAX has no CUDA")
    theirs = jax.numpy.arange(6, dtype="float32").reshape(2, 3)
    for ours in (gb.asarray(theirs), gb.from_dlpack(theirs)):
        assert ours.device == "cuda"
        assert pointer(ours.array) == theirs.unsafe_buffer_pointer()
        for view in (ours, ours.T, ours[0]):
            with pytest.raises(gb.ShapeError, match=r"read-only .*t\.copy\(\)"):
                view[0] = 5
            assert cupy.from_dlpack(view).data.ptr != view.array.data.ptr
            with pytest.raises(gb.ExchangeError, match="may only be read"):
                view.__dlpack__(copy=False)
        x = ours.requires_grad_()
        (gb.sin(x) * x).sum().backward()
        expected = jax.grad(lambda x: (jax.numpy.sin(x) * x).sum())(theirs)
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5)
    mine = gb.tensor(theirs)
    mine[0, 0] = 5
    assert np.asarray(theirs)[0, 0] == 0
    back = jax.numpy.from_dlpack(mine)
    assert back.unsafe_buffer_pointer() == pointer(mine.array)
    np.testing.assert_array_equal(back, mine.numpy())


def test_dlpack(cupy):
    tensor = gb.arange(6.0).reshape((2, 3)).T
    assert tensor.__dlpack_device__() == (2, 0)
    theirs = cupy.from_dlpack(tensor)
    assert pointer(theirs) == pointer(tensor.array)
    assert theirs.strides == tensor.array.strides
    ours = gb.from_dlpack(theirs)
    assert pointer(ours.array) == pointer(theirs)
    assert pointer(gb.from_dlpack(theirs, copy=True).array) != pointer(theirs)
    for host in (np.from_dlpack(tensor, device="cpu"), gb.from_dlpack(theirs, device="cpu").numpy()):
        np.testing.assert_array_equal(host, np.arange(6.0).reshape(2, 3).T)
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    leaf = tensor.copy().requires_grad_()
    assert pointer(cupy.from_dlpack(leaf)) != pointer(leaf.array)  # nobody writes into what needs a gradient
    host = gb.from_dlpack(np.ones(3), device="cuda")
    assert host.device == "cuda"


def test_to_device_on_a_stream(cupy):
    tensor = gb.ones(1000)
    stream = cupy.cuda.Stream(non_blocking=True)
    for on in (stream, stream.ptr, 1, 2, None):
        assert tensor.to_device("cpu", stream=on).sum().item() == 1000
        assert gb.ones(10, device="cpu").to_device("cuda", stream=on).sum().item() == 10


def test_complex_numbers(cupy):
    random = np.random.default_rng(0)
    z = random.normal(size=(3, 4)) + 1j * random.normal(size=(3, 4))
    t = gb.asarray(z, device="cuda")
    for f in (gb.exp, gb.tanh, gb.expm1, gb.sqrt, gb.conj, gb.real, gb.imag, gb.abs, gb.sign, lambda t: t @ t.T):
        np.testing.assert_allclose(f(t).numpy(), f(gb.asarray(z, device="cpu")).numpy(), rtol=1e-12)
        assert gb.gradcheck(f, t)
    assert gb.gradcheck(lambda t: t[gb.asarray([0, 1, 0], device="cuda")], t)


def test_a_kernel_of_the_users_own(cupy):
    kernel = cupy.RawKernel(
        """extern "C" __global__ void cube(const float* x, float* y, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) y[i] = x[i] * x[i] * x[i];
        }""",
        "cube",
    )

    def forward(x):
        y = cupy.empty_like(x)
        kernel((x.size // 256 + 1,), (256,), (x, y, np.int32(x.size)))
        return y

    cube = gb.primitive(forward, vjp=lambda g, x: g * 3 * x * x)
    assert gb.grad(lambda x: cube(x).sum())(gb.tensor([1.0, 2.0, 3.0])).tolist() == [3.0, 12.0, 27.0]
