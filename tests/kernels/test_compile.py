"""Every kernel compiles for every architecture, and none spills registers. Needs NVRTC, but no GPU and no driver.

sm_90: all operations, patterns, dtypes and both index types. The other architectures: each operation in one pattern,
and each pattern and reduction, in float32 and bfloat16.
"""

from __future__ import annotations

import io
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gpu_backprop.backends import kernels, table
from gpu_backprop.core.errors import DeviceError

from ..conftest import require_tool

pytestmark = pytest.mark.compile

PIECE = 150  # instantiations in one NVRTC call: enough to share the parsing, few enough to spread over threads


def resources(file: str, expressions: list[str], arch: str) -> dict[str, dict[str, int]]:
    """Registers and spills of each instantiation, from ptxas; kept in the cache beside the compiled kernels."""
    program, options = kernels._cuda_core()
    macros = kernels.type_macros(expressions)
    key = kernels.digest(kernels.source_digest(file), expressions, arch, macros, kernels._nvrtc_version())
    known = kernels.cache_folder() / "resources" / f"{key}.json"
    if known.exists():
        return json.loads(known.read_text())
    folder = kernels.kernels_folder()
    settings = options(
        arch=arch, std="c++17", fma=False, include_path=[str(folder), *kernels.require_cuda_headers()],
        define_macro=macros or None, name=file, ptxas_options=["-v"],
    )  # fmt: skip
    log = io.StringIO()
    source = (folder / file).read_text()
    compiled = program(source, "c++", settings).compile("cubin", name_expressions=expressions, logs=log)
    found = {}
    for block in log.getvalue().split("Compiling entry function")[1:]:
        name = re.search(r"'(\w+)'", block)
        numbers = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", block, re.S)
        assert name, block
        assert numbers, block
        stores, loads, registers = map(int, numbers.groups())
        found[name[1]] = {"spills": stores + loads, "registers": registers}
    lowered = {e: kernels._text(compiled.symbol_mapping[e]) for e in expressions}
    result = {expression: found[symbol] for expression, symbol in lowered.items()}
    with kernels.workshop(known.parent) as place:
        (place / "made").write_text(json.dumps(result))
        os.replace(place / "made", known)
    return result


def compile_all(wanted: list[kernels.Kernel], arch: str) -> dict[str, dict[str, int]]:
    files: dict[str, list[str]] = {}
    for kernel in dict.fromkeys(wanted):
        files.setdefault(kernel.file, []).append(kernel.expression)
    pieces = [(file, group[i : i + PIECE], arch) for file, group in files.items() for i in range(0, len(group), PIECE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results: list[Any] = list(pool.map(lambda piece: resources(*piece), pieces))
    return {expression: numbers for result in results for expression, numbers in result.items()}


@pytest.fixture(scope="module", autouse=True)
def nvrtc():
    try:
        kernels._cuda_core()
        kernels.require_cuda_headers()
    except DeviceError as error:
        require_tool(False, str(error))


def check(found: dict[str, dict[str, int]], wanted: list[kernels.Kernel]) -> None:
    assert found.keys() == {kernel.expression for kernel in wanted}
    spilling = {expression: numbers for expression, numbers in found.items() if numbers["spills"]}
    assert not spilling, spilling
    # blocks of 256 threads: with 128 registers at least two of them share a multiprocessor
    greedy = {expression: numbers["registers"] for expression, numbers in found.items() if numbers["registers"] > 128}
    assert not greedy, greedy


@pytest.mark.parametrize(
    ("dtype", "index"),
    [
        pytest.param(dtype, index, marks=[pytest.mark.full] if index != "int" and dtype != "float" else [])
        for dtype in table.FLOATS
        for index in table.INDICES
    ],
)
def test_everything_for_sm_90(dtype, index):
    wanted = list(table.instantiations((dtype,), (index,)))
    check(compile_all(wanted, "sm_90"), wanted)


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120"])
def test_other_architectures(arch):
    wanted = [
        kernel
        for kernel in table.instantiations(("float", "__nv_bfloat16"), ("int",))
        if not re.match(r"map_(rows|strided)<(?!Add,)", kernel.expression)
    ]
    check(compile_all(wanted, arch), wanted)


def test_what_does_not_compile_says_where():
    """The test above can fail: a kernel that does not exist, and one with an error in it."""
    with pytest.raises(Exception, match="Sideways"):
        resources("elementwise.cu", ["map_contiguous<Sideways, float, int>"], "sm_90")
