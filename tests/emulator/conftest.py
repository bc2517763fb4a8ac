"""The emulator's own tests: every test here needs a host C++ compiler and CUDA's headers."""

import pytest

from ..conftest import require_emulated


@pytest.fixture(autouse=True)
def _needs_a_compiler(request):
    if request.node.get_closest_marker("emulated"):
        require_emulated()
