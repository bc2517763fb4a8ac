"""Every kernel compiles for every architecture, and none spills registers. Needs NVRTC, but no GPU and no driver.

sm_90: all operations, patterns, dtypes and both index types. The other architectures: each operation in one pattern,
and each pattern and reduction, in float32 and bfloat16. Without --full, less of it: all operations and patterns in two
dtypes, and each once in float64, with 64-bit offsets, and for the oldest and the newest architecture.
"""

from __future__ import annotations

import re

import pytest

from gpu_backprop.backends import kernels, table
from gpu_backprop.backends.launching.chain import Chain
from gpu_backprop.backends.resources import resources
from gpu_backprop.core.errors import DeviceError, KernelError

from ..conftest import require_tool

pytestmark = pytest.mark.compile

EVERY_TIME = [("float", "int"), ("__nv_bfloat16", "int")]


@pytest.fixture(scope="module", autouse=True)
def nvrtc():
    try:
        kernels._cuda_core()
        kernels.require_cuda_headers()
    except DeviceError as error:
        require_tool(False, str(error))


def check(wanted: list[kernels.Kernel], arch: str) -> None:
    found = resources(wanted, arch)
    assert found.keys() == set(wanted)
    spilling = {str(kernel): numbers for kernel, numbers in found.items() if numbers.spills}
    assert not spilling, spilling
    # blocks of 256 threads: with 128 registers at least two of them share a multiprocessor
    greedy = {str(kernel): numbers for kernel, numbers in found.items() if numbers.registers > 128}
    assert not greedy, greedy


@pytest.mark.parametrize(
    ("dtype", "index"),
    [
        pytest.param(dtype, index, marks=[] if (dtype, index) in EVERY_TIME else [pytest.mark.full])
        for dtype in table.FLOATS
        for index in table.INDICES
    ],
)
def test_everything_for_sm_90(dtype, index):
    check(list(table.instantiations((dtype,), (index,))), "sm_90")


@pytest.mark.parametrize(
    ("arch", "dtype", "index"),
    [
        pytest.param("sm_90", "__half", "int", marks=pytest.mark.full),
        ("sm_90", "double", "int"),
        ("sm_90", "float", "long long"),
        ("sm_75", "__nv_bfloat16", "int"),
        ("sm_120", "float", "int"),
        *(
            pytest.param(arch, dtype, "int", marks=pytest.mark.full)
            for arch in ("sm_75", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120")
            for dtype in ("float", "__nv_bfloat16")
        ),
    ],
)
def test_each_operation_and_each_pattern(arch, dtype, index):
    wanted = [
        kernel
        for kernel in table.instantiations((dtype,), (index,))
        if not re.match(r"map_(rows|strided)<(?!Add,)", kernel.expression)
    ]
    # where 64-bit offsets and long formulas meet, registers are scarcest
    wanted += [kernel for kernel in table.instantiations(indices=("long long",)) if kernel.file == "optimizer.cu"]
    check(wanted, arch)


def test_what_does_not_compile_says_where():
    """The test above can fail: a kernel that does not exist, and one with an error in it."""
    with pytest.raises(KernelError, match="Sideways"):
        resources([kernels.Kernel("elementwise.cu", "map_contiguous<Sideways, float, int>")], "sm_90")


def test_generated_chains():
    """A short chain, and one with as many inputs as there may be, in all patterns."""
    long = Chain(6, (("multiply", 0, 1), ("add", 6, 2), ("gelu_none", 7), ("multiply", 8, 3), ("where", 9, 4, 5)))
    wanted = [
        chain.kernel(pattern, dtype, "int", ("x",) * chain.inputs)
        for chain in (Chain(2, (("add", 0, 1), ("relu", 2))), long)
        for pattern in table.PATTERNS
        for dtype in table.FLOATS
    ]
    check(wanted, "sm_90")
