"""What kernels need of a multiprocessor, as the compiler reports it: registers, shared memory, spills. Needs no GPU."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ..core.errors import KernelError
from . import kernels
from .kernels import Kernel

PIECE = 150  # instantiations in one NVRTC call: enough to share the parsing, few enough to spread over threads


class Resources(NamedTuple):
    """Of one instantiation: registers a thread, bytes of static shared memory a block, bytes spilled a thread."""

    registers: int
    shared: int
    spills: int


def resources(wanted: Iterable[Kernel], arch: str) -> dict[Kernel, Resources]:
    """What ptxas says of these kernels for an architecture such as "sm_90"; kept in the cache of compiled kernels."""
    files: dict[str, list[str]] = {}
    for kernel in dict.fromkeys(wanted):
        files.setdefault(kernel.file, []).append(kernel.expression)
    pieces = [(file, group[i : i + PIECE], arch) for file, group in files.items() for i in range(0, len(group), PIECE)]
    kernels._cuda_core()  # imported here once, not by several threads at the same time
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results: list[Any] = list(pool.map(lambda piece: _compile(*piece), pieces))
    return {
        Kernel(file, expression): Resources(*numbers)
        for (file, _, _), result in zip(pieces, results)
        for expression, numbers in result.items()
    }


def _compile(file: str, expressions: list[str], arch: str) -> dict[str, list[int]]:
    program, options = kernels._cuda_core()
    macros = kernels.type_macros(expressions)
    key = kernels.digest(kernels.source_digest(file), expressions, arch, macros, kernels._nvrtc_version(), "resources")
    known = kernels.cache_folder() / "resources" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(known.read_text())
    folder = kernels.kernels_folder()
    settings = options(
        arch=arch, std="c++17", fma=False, include_path=[str(folder), *kernels.require_cuda_headers()],
        define_macro=macros or None, name=file, ptxas_options=["-v"],
    )  # fmt: skip
    log = io.StringIO()
    try:
        compiled = program((folder / file).read_text(), "c++", settings).compile(
            "cubin", name_expressions=expressions, logs=log
        )
    except Exception as error:
        raise KernelError(f"{file} does not compile for {arch}: {kernels.first_errors(str(error))}") from None
    found = {}
    for block in log.getvalue().split("Compiling entry function")[1:]:
        name = re.search(r"'(\w+)'", block)
        numbers = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", block, re.S)
        if not name or not numbers:
            raise KernelError(f"{file}: ptxas said something unexpected: {block[:300]}")
        stores, loads, registers = map(int, numbers.groups())
        shared = re.search(r"(\d+) bytes smem", block)
        found[name[1]] = [registers, int(shared[1]) if shared else 0, stores + loads]
    result = {e: found[kernels._text(compiled.symbol_mapping[e])] for e in expressions}
    with kernels.workshop(known.parent) as place:
        (place / "made").write_text(json.dumps(result))
        os.replace(place / "made", known)
    return result
