"""Hand-written kernels: where their source lies, how it becomes machine code, where that is kept, how it is launched.

    kernel = Kernel("elementwise.cu", "binary_contiguous<Add, float, int>")
    cubins("elementwise.cu", [kernel.expression], "sm_90")    # needs NVRTC and headers, but no GPU and no driver
    CudaLauncher().launch(kernel, grid=(80,), block=(256,), args=(x, y, out, np.int32(n)))

A launcher takes the kernel's arguments in the kernel's own order and types: arrays for pointers (None is the null
pointer), NumPy scalars by value, np.void or ctypes.Structure for structures by value. The emulated launcher
(emulated.py) has the same method and checks the types; CUDA cannot. A kernel's source is compiled with the macros
GB_HALF and GB_BFLOAT16 defined if its expression names these types.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import math
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DeviceError, KernelError

log = logging.getLogger("gpu_backprop")


@dataclass(frozen=True)
class Kernel:
    """One instantiation of a kernel: its file (in kernels/, or an absolute path) and the expression that names it."""

    file: str
    expression: str

    def __str__(self) -> str:
        return f"kernel {self.expression} of {Path(self.file).name}"


# --------------------------------------------------------------------------------------------------- source and headers


@functools.cache
def kernels_folder() -> Path:
    """The folder of the CUDA sources: inside the installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "kernels", package.parent / "kernels"):
        if (folder / "host" / "shims.h").is_file():
            return folder
    raise KernelError(f"the kernels' source is missing beside {package}; reinstall gpu-backprop")


@functools.cache
def cuda_include_folders() -> tuple[str, ...]:
    """Folders with CUDA's own headers: of the NVIDIA wheels, else of a CUDA installation; empty if there are none."""
    candidates: list[tuple[Path, ...]] = []
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("nvidia")
        for root in (spec and spec.submodule_search_locations) or ():
            candidates.append((Path(root, "cu13", "include"),))
            candidates.append((Path(root, "cuda_runtime", "include"), Path(root, "cuda_nvcc", "include")))  # CUDA 12
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if home:
            candidates.append((Path(home, "include"),))
    for folders in candidates:
        if all(any((f / header).is_file() for f in folders) for header in ("vector_types.h", "crt/host_defines.h")):
            return tuple(map(str, folders))
    return ()


def require_cuda_headers() -> tuple[str, ...]:
    folders = cuda_include_folders()
    if not folders:
        raise DeviceError(
            "CUDA's headers are missing: run `pip install nvidia-cuda-runtime nvidia-cuda-crt` "
            '(they come with `pip install "gpu-backprop[emulated]"`), or set CUDA_HOME'
        )
    return folders


def type_macros(expressions: Iterable[str]) -> list[str]:
    """The macros that let common.cuh read the headers of 16-bit types, for the expressions that name such a type."""
    text = " ".join(expressions)
    macros = {"GB_HALF": r"\b(__half|half|float16)\b", "GB_BFLOAT16": r"\b(__nv_bfloat16|nv_bfloat16|bfloat16)\b"}
    return [macro for macro, pattern in macros.items() if re.search(pattern, text)]


# ---------------------------------------------------------------------------------------------------------------- cache


def cache_folder() -> Path:
    """Where compiled kernels are kept: GPU_BACKPROP_CACHE_DIR, else gpu_backprop in the user's cache folder."""
    chosen = os.environ.get("GPU_BACKPROP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpu_backprop"


def digest(*parts: object) -> str:
    """A name for what was made of these parts; it changes when one of them does."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def source_digest(file: str) -> str:
    """A digest of a kernel file and of every header that it may include."""
    folder = kernels_folder()
    headers = sorted(folder.rglob("*.cuh")) + sorted((folder / "host").rglob("*"))
    paths = [folder / file, *(path for path in headers if path.is_file())]
    try:
        return digest(*((path.name, path.read_bytes()) for path in paths))
    except OSError as error:
        raise KernelError(f"the kernel file {file} cannot be read: {error}") from None


@contextlib.contextmanager
def workshop(folder: Path) -> Any:
    """A temporary folder beside what is to be published, so that publishing is one atomic rename."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    except OSError as error:
        raise KernelError(
            f"compiled kernels cannot be kept in {folder} ({error.strerror}); set GPU_BACKPROP_CACHE_DIR"
        ) from None
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


_announced = False


def announce(compiler: str) -> None:
    """Says once a process that kernels are being compiled, so that a first step that takes seconds is no riddle."""
    global _announced
    if not _announced:
        _announced = True
        text = f"compiling kernels with {compiler} on their first use; they are kept in {cache_folder()}"
        if log.hasHandlers():
            log.info(text)
        else:
            print(f"gpu_backprop: {text}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------- NVRTC


@dataclass(frozen=True)
class Cubin:
    """Machine code for one architecture, and the lowered names of those expressions in it that were asked for."""

    path: Path
    names: dict[str, str]


def cubins(file: str, expressions: Iterable[str], arch: str) -> list[Cubin]:
    """Instantiations of one kernel file for an architecture such as "sm_90"; what the cache lacks is compiled together.

    The cache has an entry for each expression, whatever it was compiled with: it tells the cubin and the lowered name.
    """
    folder = cache_folder() / "cubin"
    made_of = source_digest(file), arch, _nvrtc_version(), cuda_include_folders()
    entries = {e: folder / f"{digest(*made_of, type_macros([e]), e)}.json" for e in expressions}
    found: dict[Path, dict[str, str]] = {}
    missing = {}
    for expression, entry in entries.items():
        try:
            name, lowered = json.loads(entry.read_text())
        except (OSError, ValueError):
            missing[expression] = entry
            continue
        found.setdefault(folder / name, {})[expression] = lowered
    for gone in [path for path in found if not path.exists()]:
        missing |= {expression: entries[expression] for expression in found.pop(gone)}
    if missing:
        code, names = compile_cubin(file, tuple(missing), arch)
        path = folder / f"{digest(*(entry.name for entry in missing.values()))}.cubin"
        with workshop(folder) as place:
            (place / "code").write_bytes(code)
            os.replace(place / "code", path)
            for expression, entry in missing.items():  # the entries are published last: where they are, the code is
                (place / "entry").write_text(json.dumps([path.name, names[expression]]))
                os.replace(place / "entry", entry)
        found[path] = {expression: names[expression] for expression in missing}
    return [Cubin(path, names) for path, names in found.items()]


def compile_cubin(file: str, expressions: tuple[str, ...], arch: str) -> tuple[bytes, dict[str, str]]:
    """Machine code of instantiations of one kernel file, and their lowered names, from the compiler."""
    program, options = _cuda_core()
    announce("NVRTC")
    include = [str(kernels_folder()), *require_cuda_headers()]
    source = (kernels_folder() / file).read_text()
    macros = type_macros(expressions) or None
    settings = options(
        arch=arch, std="c++17", fma=False, include_path=include, define_macro=macros, name=Path(file).name
    )
    try:
        result = program(source, "c++", settings).compile("cubin", name_expressions=expressions)
    except Exception as error:
        raise KernelError(f"{file} does not compile for {arch}: {first_errors(str(error))}") from None
    return result.code, {str(name): _text(value) for name, value in result.symbol_mapping.items()}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def first_errors(text: str, limit: int = 1500) -> str:
    """A compiler's output from its first error on, cut to a length that can be read."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if "error" in line), 0)
    short = "\n".join(lines[first:])
    return short if len(short) <= limit else short[:limit] + " ..."


def _nvrtc_version() -> str:
    import importlib.metadata  # here, for it takes longer to import than all the rest of this file

    versions = []
    for name in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "cuda-core"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(versions)


_importing = threading.Lock()  # a thread that finds cuda.core half imported by another takes it for an older one


def _cuda_core() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """cuda.core's Program and ProgramOptions."""
    try:
        with _importing:
            try:
                from cuda.core import Program, ProgramOptions
            except ImportError:
                from cuda.core.experimental import Program, ProgramOptions  # its name before 1.0
    except ImportError as error:
        raise DeviceError(
            f"kernels cannot be compiled without cuda-core and its bindings ({error}): run "
            '`pip install "gpu-backprop[cuda13]"` '
            'or, for a driver older than 580, `pip install "gpu-backprop[cuda12]"`'
        ) from None
    return Program, ProgramOptions


def compile_report() -> tuple[bool, str]:
    """Whether NVRTC compiles a kernel on this machine, and with what, or why not (for `gpu-backprop info`)."""
    try:
        program, options = _cuda_core()
        require_cuda_headers()
        program("__global__ void probe() {}", "c++", options(arch="sm_75")).compile("cubin")
    except DeviceError as error:
        return False, str(error)
    except Exception as error:
        return False, f"NVRTC does not work ({error}): run `pip install nvidia-cuda-nvrtc`"
    return True, _nvrtc_version() or "NVRTC of a CUDA installation"


# ------------------------------------------------------------------------------------------------------------ launching


@dataclass(frozen=True)
class DeviceProperties:
    """What launch code asks of a device to choose its grids."""

    multiprocessors: int
    shared_bytes_per_block: int
    architecture: str  # "sm_90", or "host"


MAX_THREADS = 1024


def check_shape(kernel: Kernel, grid: Sequence[int], block: Sequence[int], max_grid: int) -> None:
    """Refuses grids and blocks that a GPU would refuse; `max_grid` is the launcher's limit on the first axis."""
    grid_limits, block_limits = (max_grid, 65535, 65535), (MAX_THREADS, MAX_THREADS, 64)
    for name, sizes, limits in (("grid", grid, grid_limits), ("block", block, block_limits)):
        if not 1 <= len(sizes) <= 3 or any(not 1 <= size <= limit for size, limit in zip(sizes, limits)):
            raise KernelError(
                f"{kernel}: a {name} of {tuple(sizes)} is outside 1 to {limits}; launch fewer, or in parts"
            )
    if math.prod(block) > MAX_THREADS:
        raise KernelError(f"{kernel}: a block of {tuple(block)} has more than {MAX_THREADS} threads")


def struct_bytes(value: Any) -> bytes:
    """The bytes of a structure that is passed by value."""
    return value.tobytes() if isinstance(value, np.generic) else bytes(value)


class CudaLauncher:
    """Launches kernels on the current CuPy device and stream; compiles and loads each one at its first launch."""

    max_grid = 2**31 - 1

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise DeviceError(f'CuPy is missing ({error}): run `pip install "gpu-backprop[cuda13]"`') from None
        self._cupy = cupy
        self._functions: dict[tuple[Kernel, int], Any] = {}
        self._modules: dict[tuple[Path, int], Any] = {}  # loaded cubins
        self._properties: dict[int, DeviceProperties] = {}

    @property
    def properties(self) -> DeviceProperties:
        """Of the current device."""
        device = self._cupy.cuda.runtime.getDevice()
        if device not in self._properties:
            found = self._cupy.cuda.runtime.getDeviceProperties(device)
            self._properties[device] = DeviceProperties(
                multiprocessors=found["multiProcessorCount"],
                shared_bytes_per_block=found.get("sharedMemPerBlockOptin", found["sharedMemPerBlock"]),
                architecture=f"sm_{found['major']}{found['minor']}",
            )
        return self._properties[device]

    def compile(self, kernels: Iterable[Kernel]) -> None:
        """Compiles and loads kernels ahead of their first launch, those of a file together."""
        files: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            files.setdefault(kernel.file, []).append(kernel)
        device = self._cupy.cuda.runtime.getDevice()
        for file, members in files.items():
            for cubin in cubins(file, [kernel.expression for kernel in members], self.properties.architecture):
                module = self._modules.get((cubin.path, device))
                if module is None:
                    module = self._modules[cubin.path, device] = self._cupy.RawModule(path=str(cubin.path))
                for expression, name in cubin.names.items():
                    self._functions[Kernel(file, expression), device] = module.get_function(name)

    def launch(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared: int = 0
    ) -> None:
        """Puts one launch on CuPy's current stream."""
        check_shape(kernel, grid, block, self.max_grid)
        key = kernel, self._cupy.cuda.runtime.getDevice()
        function = self._functions.get(key)
        if function is None:
            self.compile([kernel])
            function = self._functions[key]
        if shared > 32 * 1024:  # with the kernel's static shared memory it may pass the 48 KiB that need no leave
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, tuple(map(self._argument, args)), shared_mem=shared)

    def _argument(self, value: Any) -> Any:
        if value is None:
            return np.uint64(0)
        if isinstance(value, (self._cupy.ndarray, np.number, np.bool_)):
            return value
        raw = struct_bytes(value)  # CuPy passes a NumPy array of one element by value, whatever its type
        return np.frombuffer(raw, dtype=f"V{len(raw)}")
