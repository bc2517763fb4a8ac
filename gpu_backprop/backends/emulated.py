"""CUDA kernels on the CPU: their own source, compiled by the host's C++ compiler, every CUDA thread on a fibre.

`backend()` is the device "emulated": the launch code of cuda.py over NumPy arrays and the EmulatedLauncher. `RawKernel`
and `RawModule` run kernels of the user's own with CuPy's arguments. The launcher checks what a GPU would not: argument
types, writes outside an array, misaligned accesses, barriers that some threads never reach, wrong warp masks, and
memory that nobody filled (it reads as NaN). Linux only. docs/emulated.md tells the whole of it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DeviceError, KernelError
from . import kernels as source
from .emulated_launcher import ORDERS, EmulatedLauncher, Parameter
from .host_compiler import available, library_folder
from .kernels import Kernel

__all__ = ["ORDERS", "EmulatedLauncher", "RawFunction", "RawKernel", "RawModule", "available", "backend"]


@functools.cache
def backend() -> Any:
    """The device "emulated"."""
    usable, reason = available()
    if not usable:
        raise DeviceError(reason)
    from .cuda import KernelBackend

    return KernelBackend("emulated", np, EmulatedLauncher())


class RawFunction:
    """A compiled kernel of the user's own: `function((grid,), (block,), (arguments,), shared_mem=bytes)`, as CuPy's."""

    def __init__(self, kernel: Kernel, launcher: EmulatedLauncher):
        self.name = kernel.expression
        self.kernel = kernel
        self.launcher = launcher

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        parameters = self.launcher.bind(self.kernel).parameters
        converted = [as_declared(parameter, value) for parameter, value in zip(parameters, args)]
        self.launcher.launch(self.kernel, tuple(grid), tuple(block), (*converted, *args[len(converted) :]), shared_mem)


class RawKernel(RawFunction):
    """A CUDA kernel of the user's own, run on the CPU with the emulator's checks; called as cupy.RawKernel is.

        kernel = gb.emulated.RawKernel(source, "saxpy", order="shuffled", seed=1)
        kernel((grid,), (block,), (x, y, out, np.int32(n)))

    Arguments are NumPy arrays and scalars; a Python int fits any integer parameter, a Python float a double. `options`
    are definitions, "-DNAME=value". `order` is the order in which threads run, one of ORDERS ("shuffled" by `seed`): a
    sound kernel gives the same bits in all of them. Raises KernelError for what the checks find, and for what CuPy can
    do and this cannot.
    """

    def __init__(
        self, code: str, name: str, options: Sequence[str] = (), backend: str = "nvrtc", *, order: str = "forward",
        seed: int = 0, **others: Any,
    ) -> None:  # fmt: skip
        what = f"RawKernel {name}"
        refuse(what, backend=backend, **others)
        super().__init__(Kernel(keep_source(what, code, options, name), name), EmulatedLauncher(order, seed))


class RawModule:
    """CUDA source with several kernels in it; made and asked as cupy.RawModule is.

        module = gb.emulated.RawModule(code=source, name_expressions=["scale<float>", "scale<double>"])
        module.get_function("scale<float>")((grid,), (block,), (x, np.int32(n)))

    code: the source. options, order, seed: as RawKernel has them. name_expressions: the templated (or C++) kernels to
    compile; those that are extern "C" need no mention. Kernels of one module share its __device__ variables. Raises
    KernelError where CuPy would not find a kernel, or can do what this cannot.
    """

    def __init__(
        self, code: str | None = None, *, path: str | None = None, options: Sequence[str] = (), backend: str = "nvrtc",
        name_expressions: Sequence[str] | None = None, order: str = "forward", seed: int = 0, **others: Any,
    ) -> None:  # fmt: skip
        refuse("RawModule", path=path, backend=backend, **others)
        if code is None:
            raise KernelError("RawModule: no code given; pass the CUDA source as code=")
        self.name_expressions = tuple(name_expressions or ())
        self.launcher = EmulatedLauncher(order, seed)
        names = list(dict.fromkeys([*self.name_expressions, *c_kernels(code)]))
        if not names:
            raise KernelError('RawModule: the code has no kernel that is extern "C"; name others in name_expressions=')
        # the names are part of the source: a library that holds others of them would have variables of its own
        file = keep_source("RawModule", f"// {names}\n#line 1\n{code}", options, "module")
        self._kernels = {name: Kernel(file, name) for name in names}

    def compile(self, log_stream: Any = None) -> None:
        """Compiles all kernels of the module; get_function does so when it is first called."""
        missing = [kernel for kernel in self._kernels.values() if not self.launcher.is_bound(kernel)]
        if missing:
            self.launcher.compile(self._kernels.values())

    def get_function(self, name: str) -> RawFunction:
        """The kernel of this name: one of name_expressions, letter by letter, or one that is extern "C"."""
        if name not in self._kernels:
            raise KernelError(
                f"RawModule: no kernel {name!r} among {', '.join(self._kernels)}; "
                'name it in name_expressions=, or make it extern "C"'
            )
        self.compile()
        return RawFunction(self._kernels[name], self.launcher)

    def get_global(self, name: str) -> Any:
        raise KernelError(f"RawModule: get_global({name!r}) is not emulated; pass an array to the kernel instead")


# What CuPy takes and the emulator does not: its default there, and what to do here.
NOT_EMULATED = {
    "path": (None, "read the file and pass its text as code=; a cubin or PTX cannot run on a CPU"),
    "backend": ("nvrtc", "leave it out; the host's C++ compiler takes NVRTC's and nvcc's place"),
    "translate_cucomplex": (False, "use a struct of two floats; there is no cuComplex on the CPU"),
    "enable_cooperative_groups": (False, "split the kernel where the whole grid must wait; blocks run one by one"),
    "jitify": (False, "leave it out; the host's C++ headers are found without it"),
}


def refuse(what: str, **given: Any) -> None:
    """Raises for arguments that are CuPy's but cannot be had here."""
    for name, value in given.items():
        if name not in NOT_EMULATED:
            raise TypeError(f"{what}: {name!r} is no argument of CuPy's")
        default, remedy = NOT_EMULATED[name]
        if value != default:
            raise KernelError(f"{what}: {name}={value!r} is not emulated: {remedy}")


def keep_source(what: str, code: str, options: Sequence[str], name: str) -> str:
    """Puts a user's source into the cache, as a file that the host compiler can read; returns its path."""
    lines = []
    for option in options:
        definition = re.fullmatch(r"-D\s*(\w+)(?:=(.*))?", option)
        if definition:
            lines.append(f"#define {definition[1]} {1 if definition[2] is None else definition[2]}")
        elif not re.match(r"--?std=", option):
            raise KernelError(f"{what}: the option {option!r} is not understood; only -DNAME=value is")
    # the one declaration that a host compiler cannot read
    code = re.sub(
        r"extern\s+__shared__\s+((?:__align__\(\d+\)\s*)?)([\w:<>, ]+?)\s*\b(\w+)\s*\[\s*\]\s*;",
        r"DYNAMIC_SHARED(\2, \3);",
        code,
    )
    text = "\n".join([*lines, "#line 1", code])
    path = library_folder() / "sources" / source.digest(text) / (re.sub(r"\W+", "_", name).strip("_") + ".cu")
    if not path.exists():
        with source.workshop(path.parent) as place:
            (place / "source").write_text(text)
            os.replace(place / "source", path)
    return str(path)


def c_kernels(code: str) -> list[str]:
    """Names of the kernels that are extern "C": those declared so one by one, and those in a block that is."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", code, flags=re.DOTALL)
    names = []
    for start in re.finditer(r'extern\s*"C"\s*(\{?)', code):
        depth, text = int(bool(start[1])), ""
        for letter in code[start.end() :]:
            text += letter
            depth += (letter == "{") - (letter == "}")
            if depth == 0 and letter in "};":  # the end of the block, or of the one declaration
                break
        names += re.findall(r"__global__\s+(?:[\w\s]|__launch_bounds__\s*\([^)]*\))*?\b(?!__)(\w+)\s*\(", text)
    return names


def as_declared(parameter: Parameter, value: Any) -> Any:
    """A Python number as the NumPy scalar that the parameter wants, where that loses nothing."""
    kind = parameter.code[0]
    if parameter.pointer or isinstance(value, np.generic):
        return value
    if isinstance(value, (bool, int)) and kind in "iub":
        dtype = np.dtype(bool if kind == "b" else parameter.code)
        if kind == "b" or np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return dtype.type(value)
    if isinstance(value, float) and parameter.code == "f8":
        return np.float64(value)
    return value
