"""The emulator's own tests: every test here needs a host C++ compiler and CUDA's headers."""

import os

import pytest

from gpu_backprop.backends import emulated


@pytest.fixture(autouse=True)
def _needs_a_compiler(request):
    usable, reason = emulated.available()
    if not usable and request.node.get_closest_marker("emulated"):
        refuse = pytest.fail if os.environ.get("GPU_BACKPROP_REQUIRE_TOOLS") == "1" else pytest.skip
        refuse(reason)
