"""The command line: `gpu-backprop train | info | bench | diff`.

A user's error is one sentence on standard error and exit code 2; `--debug`, or GPU_BACKPROP_DEBUG=1, shows the
traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..core.errors import GpuBackpropError

INTERRUPTED = 130  # as shells say it of a program ended by Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process when None) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("GPU_BACKPROP_DEBUG", "") not in ("", "0")
    arguments = [a for a in arguments if a != "--debug"]
    try:
        import rich  # noqa: F401
        import typer
    except ImportError as error:
        return _fail(f'the command line needs {error.name}: run pip install "gpu-backprop[cli]"')
    from .app import app

    try:
        code = typer.main.get_command(app).main(arguments, prog_name="gpu-backprop", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted")
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        message = explain(error)
        if message is None:
            raise
        return _fail(message)


def explain(error: Exception) -> str | None:
    """What to tell the user of an error, or None if it is a fault of ours."""
    if isinstance(error, GpuBackpropError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory ({error or 'no more to be had'}); use a smaller network or batch, or fewer samples"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    if hasattr(error, "format_message"):  # an option or argument that typer does not understand
        command = getattr(getattr(error, "ctx", None), "command_path", "gpu-backprop")
        return f"{error.format_message().rstrip('.')}; see {command} --help"
    return None


def _fail(message: str) -> int:
    print(f"gpu-backprop: {' '.join(message.split())}", file=sys.stderr)
    return 2
