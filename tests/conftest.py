"""What all tests share: the devices that a test runs on, and `--full`.

A test that takes the fixture `device` runs once on each device: "cpu" always; "emulated" (marked `emulated`) where a
host C++ compiler is; "cuda" (marked `gpu`) where a GPU is. GPU_BACKPROP_REQUIRE_TOOLS=1 turns a missing tool from a
skip into a failure; a missing GPU is always a skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("GPU_BACKPROP_DEVICE", "cpu")  # a test that wants another device names it

import gpu_backprop as gb
from gpu_backprop.backends import cuda, emulated

DEVICES = [
    "cpu",
    pytest.param("emulated", marks=pytest.mark.emulated),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


def require_tool(present: bool, reason: str) -> None:
    """Skip the running test when a tool is absent; fail it where the environment promises the tool."""
    if present:
        return
    if os.environ.get("GPU_BACKPROP_REQUIRE_TOOLS") == "1":
        pytest.fail(f"GPU_BACKPROP_REQUIRE_TOOLS=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require_emulated() -> None:
    require_tool(*emulated.available())


def require_cuda() -> None:
    count, reason = cuda.cuda_status()[:2]
    if not count:
        pytest.skip(reason)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device, which is the default one while the test runs."""
    {"cpu": lambda: None, "emulated": require_emulated, "cuda": require_cuda}[request.param]()
    with gb.device(request.param):
        yield request.param


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if "full" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="too long for every run; pass --full"))
