"""Python in a child process whose kernels are built with AddressSanitizer and UndefinedBehaviorSanitizer.

Their libraries must be loaded before everything else, so it has to be a process of its own. The kernel tests so:

    python -m tests.emulator.sanitized -m pytest --capture=sys -m emulated tests/kernels

GPU_BACKPROP_TEST_FLOATS="float,__nv_bfloat16" limits them to these types. (--capture=sys: the sanitizers write to the
process's own stderr, and end it.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from gpu_backprop.backends import host_compiler

from ..conftest import require_tool

LIBRARIES = {"address": "libasan.so", "undefined": "libubsan.so"}


def environment(sanitizers: str) -> dict[str, str]:
    """The variables of a child whose kernels are built with these sanitizers ("address,undefined")."""
    program = host_compiler.compiler()[0]
    found = []
    for name in sanitizers.split(","):
        command = [program, f"-print-file-name={LIBRARIES[name]}"]
        found.append(subprocess.run(command, capture_output=True, text=True).stdout.strip())
        require_tool(os.path.isabs(found[-1]), f"{program} has no {LIBRARIES[name]}")
    return {
        **os.environ,
        "GPU_BACKPROP_EMULATED_SANITIZE": sanitizers,
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps memory to the end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # arrays of their own, not parts of Python's arenas
    }


def run_sanitized(sanitizers: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments under the sanitizers."""
    options = {"capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run([sys.executable, *arguments], env=environment(sanitizers), **options)


if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment("address,undefined"))
