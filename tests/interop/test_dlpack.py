"""PyTorch and JAX by DLPack, on the CPU: who shares, who copies, and what is refused. (On a GPU: tests/gpu.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32")
DTYPES += ("float64", "complex64", "complex128")
VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "every other column": lambda x: x[:, ::2],
    "one column": lambda x: x[:, 1],
    "backwards": lambda x: x[::-1],
    "empty": lambda x: x[:0],
}


def values() -> np.ndarray:
    return np.arange(12.0).reshape(3, 4)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="the peer is not installed")


@pytest.fixture
def jnp() -> Any:
    return pytest.importorskip("jax.numpy", reason="the peer is not installed")


def address(t: gb.Tensor) -> int:
    return t.array.__array_interface__["data"][0]


# PyTorch --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "backwards"])
def test_pytorch_and_a_tensor_write_into_the_same_memory(torch, view) -> None:
    ours = gb.asarray(values())
    theirs = torch.from_dlpack(VIEWS[view](ours))
    np.testing.assert_array_equal(theirs.numpy(), VIEWS[view](values()))
    theirs += 100
    np.testing.assert_array_equal(VIEWS[view](ours).numpy(), VIEWS[view](values()) + 100)
    back = gb.from_dlpack(theirs)
    back += 1
    assert theirs.tolist() == (VIEWS[view](values()) + 101).tolist()
    assert gb.asarray(theirs).array.strides == back.array.strides == theirs.numpy().strides


def test_gb_tensor_copies_what_pytorch_has(torch) -> None:
    theirs = torch.zeros(3)
    ours = gb.tensor(theirs)
    ours += 1
    assert theirs.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_survive_the_way_to_pytorch_and_back(torch, dtype) -> None:
    there = torch.from_dlpack(gb.ones(2, dtype=dtype))
    assert there.dtype is getattr(torch, dtype)
    assert gb.from_dlpack(there).dtype == dtype


def test_negative_strides_are_lent_as_a_copy(torch) -> None:
    """PyTorch would end the process."""
    ours = gb.asarray(values())[::-1]
    theirs = torch.from_dlpack(ours)
    np.testing.assert_array_equal(theirs.numpy(), values()[::-1])
    theirs.zero_()
    np.testing.assert_array_equal(ours.numpy(), values()[::-1])
    with pytest.raises(gb.ExchangeError, match=r"negative strides.*t\.copy\(\)"):
        ours.__dlpack__(copy=False)


def test_what_requires_grad_is_lent_as_a_copy(torch) -> None:
    """PyTorch does not heed DLPack's read-only flag: its write would give a wrong gradient."""
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    torch.from_dlpack(x).zero_()
    loss.backward()
    assert x.tolist() == [1, 2]
    assert x.grad is not None
    assert x.grad.tolist() == [2, 4]
    shared = torch.from_dlpack(x.detach())
    assert shared.data_ptr() == address(x)
    with pytest.raises(gb.ExchangeError, match=r"requires grad: .*use t\.detach\(\)"):
        x.__dlpack__(copy=False)


def test_what_pytorch_does_not_lend_is_an_error_that_tells_why(torch) -> None:
    refused = {
        "requires? grad": torch.ones(2, requires_grad=True),
        "[Cc]onj": torch.ones(2, dtype=torch.complex64).conj(),
        "float32 for bfloat16": torch.ones(2, dtype=torch.bfloat16),
    }
    for reason, theirs in refused.items():
        with pytest.raises(gb.ExchangeError, match=reason):
            gb.from_dlpack(theirs)
        if reason != "[Cc]onj":  # which PyTorch resolves for NumPy, or not
            with pytest.raises(gb.ExchangeError, match=r"gives no NumPy array .*convert it with its own library"):
                gb.asarray(theirs)
    with pytest.raises(gb.ExchangeError, match=r"bfloat16\[2\].*t\.astype"):
        torch.from_dlpack(gb.ones(2, dtype=gb.bfloat16))


def test_gradients_of_pytorchs_arrays(torch) -> None:
    """The same function differentiated by both, on one memory."""
    theirs = torch.linspace(0.1, 1, 9, dtype=torch.float64, requires_grad=True)
    ours = gb.from_dlpack(theirs.detach()).requires_grad_()
    (theirs.sin() * theirs.exp()).sum().backward()
    (gb.sin(ours) * gb.exp(ours)).sum().backward()
    assert ours.grad is not None
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-14)


# JAX ------------------------------------------------------------------------------------------------------------------


def test_an_array_of_jax_is_shared_and_not_written(jnp) -> None:
    theirs = jnp.arange(4.0)
    for ours in (gb.from_dlpack(theirs), gb.asarray(theirs)):
        assert address(ours) == theirs.unsafe_buffer_pointer()
        with pytest.raises(gb.ShapeError, match=r"item assignment: .*read-only.*t\.copy\(\)"):
            ours[0] = 5
        with pytest.raises(gb.ShapeError, match=r"in-place add: .*read-only.*t\.copy\(\)"):
            ours += 1
    for copy in (gb.from_dlpack(theirs, copy=True), gb.tensor(theirs), gb.asarray(theirs, copy=True)):
        copy += 1
        assert copy.tolist() == [1, 2, 3, 4]
    assert theirs.tolist() == [0, 1, 2, 3]


def test_jax_shares_what_is_aligned(jnp) -> None:
    """JAX copies memory that does not start at a multiple of 64 bytes."""
    memory = np.zeros(100 + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    ours = gb.asarray(memory[start : start + 100])
    theirs = jnp.from_dlpack(ours)
    assert theirs.unsafe_buffer_pointer() == address(ours)


@pytest.mark.parametrize("view", VIEWS)
def test_views_become_arrays_of_jax(jnp, view) -> None:
    ours = VIEWS[view](gb.asarray(values().astype(np.float32)))
    if view in ("every other column", "one column"):  # JAX takes no gaps by DLPack, and says so
        with pytest.raises(Exception, match="strid"):
            jnp.from_dlpack(ours)
        ours = ours.copy()
    np.testing.assert_array_equal(np.asarray(jnp.from_dlpack(ours)), ours.numpy())


def test_what_requires_grad_becomes_a_copy_of_jax(jnp) -> None:
    memory = gb.zeros(1024)
    x = memory.detach().requires_grad_()
    assert jnp.from_dlpack(x).unsafe_buffer_pointer() != address(x)


def test_gradients_of_jaxs_arrays(jnp) -> None:
    import jax

    theirs = jnp.linspace(0.1, 1, 9)
    ours = gb.from_dlpack(theirs).requires_grad_()
    (gb.sin(ours) * gb.exp(ours)).sum().backward()
    assert ours.grad is not None
    expected = jax.grad(lambda x: (jnp.sin(x) * jnp.exp(x)).sum())(theirs)
    np.testing.assert_allclose(ours.grad.numpy(), np.asarray(expected), rtol=1e-5)


def test_inside_jit_there_are_no_values(jnp) -> None:
    import jax

    with pytest.raises(gb.ExchangeError, match="Tracer gives no NumPy array"):
        jax.jit(lambda x: gb.asarray(x))(jnp.ones(2))
