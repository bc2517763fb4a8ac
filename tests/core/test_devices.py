"""Devices: names, the default, moving, mixing, and what is said when one is missing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import cuda

from ..conftest import require_emulated


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    env = {k: v for k, v in os.environ.items() if k != "GPU_BACKPROP_DEVICE"} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_devices_compare_with_their_names() -> None:
    d = gb.device("cpu")
    assert d is gb.device("cpu") is gb.device(d)
    assert d == "cpu"
    assert d != "cuda"
    assert str(d) == "cpu"
    assert repr(d) == "device('cpu')"
    assert {d: 1}["cpu"] == 1
    assert pickle.loads(pickle.dumps(d)) is d
    assert "cpu" in gb.devices()


@pytest.mark.parametrize("bad", ["gpu", "cuda:x", "cuda:-1", "", "CPU", 3, None])
def test_unknown_devices(bad: object) -> None:
    with pytest.raises(gb.DeviceError, match=r'is not a device; use "cpu", "cuda", "cuda:1" or "emulated"'):
        gb.device(bad)


def test_cuda_that_is_missing_says_what_is_missing() -> None:
    count, reason = cuda.cuda_status()[:2]
    if count:
        pytest.skip("there is a GPU here")
    for use in (
        lambda: gb.ones(3, device="cuda"),
        lambda: gb.tensor([1.0]).to("cuda"),
        lambda: gb.set_default_device("cuda"),
    ):
        with pytest.raises(gb.DeviceError) as found:
            use()
        text = str(found.value).lower()
        assert "cupy" in text or "driver" in text or "no device" in text or "no gpu" in text, text
        assert "install" in text or "use" in text, text
    assert "cuda" not in gb.devices()
    assert reason
    assert gb.default_device() == "cpu"


def test_the_environment_chooses_the_default_device() -> None:
    code = "import gpu_backprop as gb; print(gb.default_device(), gb.ones(1).device)"
    assert run(code, GPU_BACKPROP_DEVICE="cpu") == "cpu cpu"
    assert run(
        "import gpu_backprop as gb\ntry: gb.ones(1)\nexcept gb.DeviceError as e: print(e)", GPU_BACKPROP_DEVICE="tpu"
    ).startswith("GPU_BACKPROP_DEVICE='tpu': device: 'tpu' is not a device")


def test_blocks_set_the_default_device() -> None:
    require_emulated()
    with gb.device("emulated"):
        assert gb.ones(2).device == gb.tensor([1.0]).device == gb.arange(2).device == "emulated"
        with gb.device("cpu"):
            assert gb.zeros(1).device == "cpu"
        assert gb.asarray(np.ones(2)).device == "emulated"
    assert gb.ones(2).device == "cpu"


test_blocks_set_the_default_device = pytest.mark.emulated(test_blocks_set_the_default_device)


@pytest.mark.emulated
def test_moving_is_recorded() -> None:
    require_emulated()
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("emulated")
    assert y.device == "emulated"
    assert (y * y).device == "emulated"
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [2, 4]
    assert x.to("cpu") is x
    second = gb.grad(lambda x: gb.grad(lambda x: (x.to("emulated") ** 3).sum())(x).sum())(gb.tensor([1.0, 2.0]))
    assert (second.device, second.tolist()) == ("cpu", [6, 12])


@pytest.mark.emulated
def test_mixing_devices_is_refused() -> None:
    require_emulated()
    a, b = gb.ones(2), gb.ones(2, device="emulated")
    for mix in (
        lambda: a + b,
        lambda: b * a,
        lambda: a @ b,
        lambda: gb.where(a > 0, a, b),
        lambda: gb.concat([a, b]),
        lambda: a[gb.tensor([0], device="emulated")],
        lambda: b + np.ones(2, np.float32),
    ):
        with pytest.raises(gb.DeviceError, match=r"operands on cpu and emulated; move one with t\.to\('cpu'\)"):
            mix()
    with pytest.raises(gb.DeviceError, match=r"a value on emulated into a Tensor on cpu; use v\.to"):
        a[:] = b
    with pytest.raises(gb.DeviceError, match=r"a gradient on emulated for a Tensor on cpu"):
        a.grad = b
    with pytest.raises(gb.DeviceError):
        a += b
    with pytest.raises(gb.DeviceError, match="backward: a gradient on emulated for a result on cpu"):
        (gb.ones(2).requires_grad_() * 2).backward(b)
    assert (b + 1.0 + np.float32(1)).device == "emulated"  # scalars go where the array is


def test_synchronize() -> None:
    gb.synchronize()
    gb.synchronize("cpu")


def test_a_wrong_variable_is_named(monkeypatch) -> None:
    from gpu_backprop.core import devices

    monkeypatch.setattr(devices, "_default", None)
    monkeypatch.setenv("GPU_BACKPROP_DEVICE", "foo")
    with pytest.raises(gb.DeviceError, match=r"GPU_BACKPROP_DEVICE='foo': .*is not a device"):
        gb.zeros(2)


@pytest.mark.emulated
def test_arrays_of_others_go_to_the_default_device() -> None:
    require_emulated()
    with gb.device("emulated"):
        assert gb.sin(np.ones(2)).device == gb.asarray(np.ones(2)).device == "emulated"
        with pytest.raises(gb.DeviceError, match="operands on cpu and emulated"):
            gb.ones(2) + np.ones(2)  # a copy to another device is asked for, never made in silence
