"""Models in files: weights in the safetensors format, the architecture as JSON in its metadata. No code, no pickle.

The architecture is a tree of {"class", "arguments", "children"}; arguments are those of the class's constructor, read
from attributes of the same name (or from a method `config()`), children the Modules inside a Sequential.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from typing import Any

from ..core import devices, dtypes
from ..core.errors import CheckpointError, GpuBackpropError
from ..core.tensor import Tensor
from .containers import Sequential
from .module import Module
from .parameter import rehome

FORMAT = "gpu_backprop 1"
_classes: dict[str, type[Module]] = {}


def register(cls: type[Module]) -> type[Module]:
    """Let `gb.save` and `gb.load` handle a Module class of your own, under its name; a decorator.

    Its constructor is called with the attributes that have its arguments' names; or write a method `config()` that
    returns the arguments as a dict of numbers, strings, booleans and lists.
    """
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise CheckpointError(f"register: {cls!r} is not a Module class; decorate the class itself")
    known = _builtin(cls.__name__) or _classes.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise CheckpointError(f"register: another class is called {cls.__name__}; rename one of them")
    _classes[cls.__name__] = cls
    return cls


def _builtin(name: Any) -> type[Module] | None:
    from .. import nn

    found = getattr(nn, name, None) if isinstance(name, str) and name in nn.__all__ else None
    is_class = isinstance(found, type) and issubclass(found, Module) and found is not Module
    return found if is_class else None


def save(model: Module, path: Any) -> None:
    """Write a model, its architecture and its weights, to a file that `gb.load` reads.

    The file is replaced at once, never half written. Raises CheckpointError for classes that are not registered and
    for places that cannot be written.
    """
    if not isinstance(model, Module):
        raise CheckpointError(f"save: a {type(model).__name__} is not a model; pass a gb.nn.Module")
    target = _path("save", path)
    architecture = json.dumps({"model": _describe(model, type(model).__name__), "training": model.training})
    arrays, aliases = {}, {}
    first: dict[int, str] = {}
    for name, t in model._state():
        if id(t) in first:
            aliases[name] = first[id(t)]
        else:
            first[id(t)] = name
            # safetensors writes memory as it lies: a contiguous copy, whatever the layout
            arrays[name] = t.device.backend.to_host(t.array).copy(order="C")
    metadata = {"format": FORMAT, "architecture": architecture, "aliases": json.dumps(aliases)}
    from safetensors.numpy import save as to_bytes

    _write(target, to_bytes(arrays, metadata=metadata))


def _path(caller: str, path: Any) -> str:
    try:
        return os.fspath(path)
    except TypeError:
        raise CheckpointError(f"{caller}: {path!r} is not a path; give a string or a pathlib.Path") from None


def _write(path: str, data: bytes) -> None:
    """Write beside the target, then rename."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".save-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise CheckpointError(f"save: {path} cannot be written ({error.strerror}); choose another place") from None


def load(path: Any, device: Any = None) -> Any:
    """The model that `gb.save` wrote, in the mode (training or evaluation) it was saved in.

    device: where its parameters go; the default device unless named. Raises CheckpointError for files that are missing,
    damaged, or hold no model of this library.
    """
    place = devices.resolve(device)
    name = _path("load", path)
    arrays, metadata = _read(name)
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format named")
        raise CheckpointError(
            f"load: {name} holds no model of this library ({found}); read plain weights with safetensors and "
            "model.load_state_dict(...)"
        )
    try:
        tree = json.loads(metadata["architecture"])
        aliases = json.loads(metadata["aliases"])
        with devices.device("cpu"):
            model = _build(tree["model"])
        for alias, first in aliases.items():
            arrays[alias] = arrays[first]
            _tie(model, alias, first)
        for key, t in model._state():
            if key in arrays:
                rehome(t, t.device, arrays[key].dtype)
        model.load_state_dict({k: Tensor(a, devices.device("cpu")) for k, a in arrays.items()})
        model.train(bool(tree["training"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"load: {name}: {error}") from None
        reason = f"{error}" if isinstance(error, GpuBackpropError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"load: {name} describes a model that cannot be built ({reason}); save it again"
        ) from error
    return model.to(place)


def _read(path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    from safetensors import SafetensorError, deserialize, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
        with open(path, "rb") as handle:
            entries = deserialize(handle.read())
    except FileNotFoundError:
        raise CheckpointError(f"load: {path} does not exist; check the path") from None
    except OSError as error:
        raise CheckpointError(f"load: {path} cannot be read ({error.strerror or error}); check the path") from None
    except SafetensorError as error:
        raise CheckpointError(f"load: {path} is not a safetensors file, or is damaged ({error})") from None
    return {key: _array(path, key, entry) for key, entry in entries}, metadata


_NAMES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def _array(path: str, key: str, entry: dict[str, Any]) -> Any:
    """The raw bytes of an entry as an array; bfloat16 too, which safetensors' own NumPy reader refuses."""
    if entry["dtype"] not in _NAMES:
        raise CheckpointError(f"load: {path}: {key} is of dtype {entry['dtype']}, which arrays here cannot hold")
    backend = devices.device("cpu").backend
    array = backend.empty(tuple(entry["shape"]), dtypes.as_dtype(_NAMES[entry["dtype"]]))
    array.reshape(-1).view("uint8")[...] = memoryview(entry["data"])
    return array


def _describe(module: Module, path: str) -> dict[str, Any]:
    """The tree of a Module."""
    cls = type(module)
    if (_builtin(cls.__name__) or _classes.get(cls.__name__)) is not cls:
        raise CheckpointError(
            f"save: {path} is of the class {cls.__name__}, which gb.load could not build; save model.state_dict() with "
            f"safetensors, or register the class (@gb.nn.register)"
        )
    tree: dict[str, Any] = {"class": cls.__name__, "arguments": _arguments(module, path)}
    if isinstance(module, Sequential):
        tree["children"] = {n: _describe(m, f"{path}.{n}") for n, m in zip(module._names(), module)}
    return tree


def _arguments(module: Module, path: str) -> dict[str, Any]:
    """The constructor's arguments, from attributes or `config()`."""
    if hasattr(module, "config"):
        values = dict(module.config())
    else:
        values = {}
        for name, parameter in inspect.signature(type(module).__init__).parameters.items():
            if name in ("self", "device", "dtype") or parameter.kind in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            ):
                continue
            if not hasattr(module, name):
                raise CheckpointError(
                    f"save: {path} has no attribute {name!r} for its constructor's argument of that name; keep it in "
                    f"self.{name}, or write a method config() that returns the arguments"
                )
            value = getattr(module, name)
            # the argument `bias` says whether there is a bias, the attribute is the bias
            values[name] = (
                value is not None if isinstance(parameter.default, bool) and not isinstance(value, bool) else value
            )
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = {"tensor": list(value.shape)}  # the values are in the state
    try:
        return json.loads(json.dumps(values))
    except (TypeError, ValueError):
        raise CheckpointError(
            f"save: an argument of {path} cannot be written as JSON ({values}); write a method config() that returns "
            "numbers, strings, booleans and lists"
        ) from None


def _build(tree: dict[str, Any]) -> Module:
    """The Module of a tree."""
    name = tree["class"]
    cls = _builtin(name) or _classes.get(name)
    if cls is None:
        raise CheckpointError(f"the class {name!r} is not known here; register it (@gb.nn.register) before loading")
    arguments = {
        k: _placeholder(v) if isinstance(v, dict) and "tensor" in v else v for k, v in tree["arguments"].items()
    }
    module = cls(**arguments)
    if "children" in tree:
        children = {n: _build(child) for n, child in tree["children"].items()}
        for stale in set(module._names()) - set(children):  # type: ignore[attr-defined]
            delattr(module, stale)
        for child_name, child in children.items():
            setattr(module, child_name, child)
    return module


def _placeholder(value: dict[str, Any]) -> Tensor:
    place = devices.device("cpu")
    array = place.backend.empty(tuple(value["tensor"]), dtypes.get_default_dtype())
    array[...] = 0
    return Tensor(array, place)


def _tie(model: Module, alias: str, first: str) -> None:
    """Give two places in the model the same parameter."""

    def owner(path: str) -> tuple[Module, str]:
        *modules, name = path.split(".")
        module: Any = model
        for part in modules:
            module = getattr(module, part)
        return module, name

    source, source_name = owner(first)
    target, target_name = owner(alias)
    setattr(target, target_name, getattr(source, source_name))
