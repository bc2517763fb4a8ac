"""`gpu-backprop info`: what this machine has for gpu_backprop, and what it lacks."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

from .. import __version__
from ..backends import emulated, kernels
from ..backends.cuda_machine import cuda_status, driver_version, install_line, product_status
from ..core import devices
from ..core.errors import GpuBackpropError
from .output import Output

PACKAGES = (
    "numpy",
    "ml-dtypes",
    "safetensors",
    "cuda-core",
    "nvidia-cuda-nvrtc",
    "nvmath-python",
    "matplotlib",
    "rich",
)
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def run(json_line: bool = False) -> dict[str, Any]:
    output = Output(json_line)
    found = gather()
    output.facts("versions", found["versions"].items())
    for name, facts in found["devices"].items():
        default = " (the default)" if name == found["default_device"] else ""
        output.facts(f"device {name}{default}", ((k, _readable(k, v)) for k, v in facts.items() if k != "device"))
    compiles, emulates = found["kernels"]["nvrtc"], found["kernels"]["host compiler"]
    output.facts(
        "kernels",
        [
            ("for a GPU", f"compile here, with {compiles['with']}" if compiles["works"] else "do not compile here"),
            ("on the CPU", f"run here, with {emulates['with']}" if emulates["works"] else "do not run here"),
            ("cache", found["kernels"]["cache"]),
        ],
    )
    output.facts("matrix products", [("on a GPU", found["matrix products"]["with"])])
    if found["missing"]:
        output.facts("missing", found["missing"].items())
    output.result(found)
    return found


def gather() -> dict[str, Any]:
    """Everything that the command prints."""
    missing = {}
    count, reason = cuda_status()
    if not count:
        missing["cuda"] = reason
    compiles, compiled_with = kernels.compile_report()
    if not compiles:
        named = "pip install" in compiled_with
        missing["kernels for a GPU"] = compiled_with if named else f"{compiled_with}; `{install_line()}` brings it"
    emulates, emulated_with = emulated.available()
    if not emulates:
        missing["device emulated"] = emulated_with if sys.platform == "linux" else "runs on Linux only"
    cublaslt, multiplied_with = product_status()
    places = {}
    for name in devices.devices():
        try:
            places[name] = devices.device(name).backend.info()
        except GpuBackpropError as error:
            missing[f"device {name}"] = str(error)
    return {
        "versions": versions(),
        "devices": places,
        "default_device": _default_device(missing),
        "kernels": {
            "nvrtc": {"works": compiles, "with": compiled_with if compiles else None},
            "host compiler": {"works": emulates, "with": emulated_with if emulates else None},
            "cache": str(kernels.cache_folder()),
        },
        "matrix products": {"cuBLASLt": cublaslt, "with": multiplied_with},
        "missing": missing,
    }


def versions() -> dict[str, str]:
    found = {"gpu_backprop": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        found[package] = _version(package)
    found["cupy"] = next((v for v in map(_version, CUPY) if v != "not installed"), "not installed")
    driver = driver_version()
    found["NVIDIA driver"] = f"speaks CUDA {driver // 1000}.{driver % 1000 // 10}" if driver else "not found"
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _default_device(missing: dict[str, str]) -> str | None:
    try:
        return devices.default_device().name
    except GpuBackpropError as error:  # GPU_BACKPROP_DEVICE names one that is not there
        missing["default device"] = str(error)
        return None


def _readable(name: str, value: Any) -> str:
    """Bytes in GiB; CUDA's integer versions as major.minor."""
    if isinstance(value, int) and name.startswith("memory"):
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, int) and name in ("driver", "CUDA runtime"):
        return f"CUDA {value // 1000}.{value % 1000 // 10}"
    return str(value)
