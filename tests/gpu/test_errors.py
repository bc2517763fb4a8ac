"""Errors that arrive late, and use after fork. In processes of their own: after such an error a process has no GPU."""

from __future__ import annotations

import os

import pytest

from .conftest import child

pytestmark = pytest.mark.gpu

BROKEN = """if 1:
    import cupy
    import gpu_backprop as gb

    with gb.device("cuda"):
        x = gb.sqrt(gb.ones((1000,)) * 3)
        gb.synchronize()
        y = gb.exp(x)
        kernel = cupy.RawKernel('extern "C" __global__ void wild(float* p) {{ p[threadIdx.x] = 1.0f; }}', "wild")
        kernel((1,), (32,), (cupy.uint64(16),))
        for attempt in range(2):
            try:
                {surface}
            except gb.KernelError as error:
                print(error)
"""


@pytest.mark.parametrize("surface", ["gb.synchronize()", "y.numpy()", "y[0].item()", "y.sum().item()"])
def test_a_wild_pointer_is_told_with_the_last_operations(surface):
    said = child(BROKEN.format(surface=surface)).splitlines()
    assert len(said) == 2  # the second time, too: CUDA has no way back
    for line in said:
        assert "llegal" in line
        assert "multiply, sqrt" in line
        assert "exp" in line
        assert "start it again" in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_is_refused():
    code = """if 1:
        import os
        import gpu_backprop as gb

        with gb.device("cuda"):
            x = gb.ones((10,))
            assert (x + x).sum().item() == 20
            read, write = os.pipe()
            if os.fork() == 0:
                said = []
                for call in (lambda: x + x, lambda: gb.exp(x), lambda: gb.zeros((3,)), x.numpy, gb.synchronize):
                    try:
                        call()
                        said.append("nothing")
                    except gb.DeviceError as error:
                        said.append("forked" if "forked" in str(error) else str(error))
                os.write(write, ",".join(said).encode())
                os._exit(0)
            os.wait()
            print(os.read(read, 10000).decode())
            assert (x + x).sum().item() == 20  # the parent goes on
    """
    assert child(code).strip() == ",".join(["forked"] * 5)
