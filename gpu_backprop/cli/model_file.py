"""A user's file that says what to train: `model()`, `batch()` and, if need be, `loss(prediction, target)`."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import nn
from ..core.errors import DataError


class ModelFile:
    """The functions of a file. Raises DataError when it is not there, does not run, or lacks a name."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise DataError(f"--model {str(path)!r}: there is no such file; give the path of a Python file")
        self._functions = self._run()
        for name in ("model", "batch"):
            if not callable(self._functions.get(name)):
                raise DataError(f"--model {str(path)!r} defines no function {name}(); see gpu-backprop diff --help")

    def _run(self) -> dict[str, Any]:
        loader = importlib.machinery.SourceFileLoader("gpu_backprop_model_file", str(self.path))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[loader.name] = module  # dataclasses look their module up
        sys.path.insert(0, str(self.path.parent.resolve()))  # as `python FILE.py` does
        try:
            with self.blamed("the file"):
                loader.exec_module(module)
        finally:
            sys.path.pop(0)
        return vars(module)

    @contextmanager
    def blamed(self, part: str) -> Iterator[None]:
        """Whatever is raised inside the block is told as a fault of this part of the file, with the line."""
        try:
            yield
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == str(self.path)]
            line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
            where = f" in line {line}" if line else ""
            reason = str(error.msg if isinstance(error, SyntaxError) else error).strip()
            raise DataError(
                f"--model {str(self.path)!r}: {part} raised {type(error).__name__}{where}{reason and ': '}{reason}"
            ) from error

    def model(self) -> nn.Module:
        with self.blamed("model()"):
            model = self._functions["model"]()
        if not isinstance(model, nn.Module):
            raise DataError(f"--model {str(self.path)!r}: model() gave a {type(model).__name__}, not a gb.nn.Module")
        if next(model.parameters(), None) is None:
            raise DataError(f"--model {str(self.path)!r}: model() gave a Module without parameters; nothing to train")
        return model

    def batch(self) -> tuple[Any, Any]:
        with self.blamed("batch()"):
            pair = self._functions["batch"]()
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(f"--model {str(self.path)!r}: batch() gave no pair; return inputs, target")
        return pair[0], pair[1]

    def loss(self, target: Any) -> Any:
        """The file's loss; without one, by the target: classes (integers) or quantities."""
        found = self._functions.get("loss")
        if found is None:
            return nn.CrossEntropyLoss() if target.dtype.kind in "iu" else nn.MSELoss()
        if not callable(found):
            raise DataError(f"--model {str(self.path)!r}: loss is a {type(found).__name__}, not a function")
        return found
