"""Module: parameters, buffers and other Modules under names, and a forward function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..core import devices, dtypes, tape
from ..core.errors import CheckpointError, DTypeError, ShapeError
from ..core.modes import Attributes, modes
from ..core.tensor import Tensor, asarray, zero_grad
from .parameter import Parameter, rehome

_set = object.__setattr__


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"LoadResult(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module(Attributes):
    """Base class of layers and networks: subclass it, assign parts in `__init__`, write `forward`.

    Attributes that are Parameters or Modules are found by themselves; other Tensors that belong to the state are named
    by `register_buffer`. While a Module runs, operations are recorded under its path (`MLP.2`) for pictures.
    """

    training: bool
    _buffers: dict[str, bool]  # name -> is it part of the state_dict?
    _name: str  # under which the last parent knows this Module; its class's name where there is none

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        self = super().__new__(cls)
        _set(self, "training", True)
        _set(self, "_buffers", {})
        _set(self, "_name", cls.__name__)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            _set(value, "_name", name)
        super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward function; write def forward(self, x)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer = modes.scope
        modes.scope = f"{outer}.{self._name}" if outer else self._name
        try:
            return self.forward(*args, **kwargs)
        finally:
            modes.scope = outer

    # parts -----------------------------------------------------------------------------------------------------------

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make a Tensor that is not trained part of the Module: it moves along and, if persistent, is saved."""
        self._buffers[name] = persistent
        setattr(self, name, None if tensor is None else asarray(tensor))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as assigning the attribute."""
        setattr(self, name, param)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules that are attributes of this one, each once."""
        seen = set()
        for name, value in vars(self).items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """Modules that are attributes of this one."""
        return (child for _, child in self.named_children())

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This Module and all below it with their paths, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This Module and all below it."""
        return (module for _, module in self.named_modules())

    def _own(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        if kind == "parameters":
            return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))
        named = ((name, getattr(self, name, None)) for name in self._buffers)
        return ((name, value) for name, value in named if value is not None)

    def _named(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, value in module._own(kind):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their paths, each once; with `recurse=False` only this Module's own."""
        return self._named("parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once; what an optimiser is given."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their paths."""
        return self._named("buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Tensors that belong to the state but are not trained."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    # modes and places ------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Any:
        """Set the training mode (dropout drops, batch norm uses the batch) here and below; returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Any:
        """Set the evaluation mode here and below; returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Train the parameters or, with False, freeze them; returns self."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or make them zero)."""
        for p in self.parameters():
            if set_to_none:
                p.grad = None
            else:
                zero_grad(p)

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call `fn` on every Module below this one, then on this one; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> Any:
        """Move parameters and buffers to a device and cast floating ones to a dtype, in place; returns self.

        `to("cuda")`, `to(gb.float64)`, `to("cuda", "bfloat16")`, `to(device=..., dtype=...)`.
        """
        for arg in args:
            if arg is None:
                continue
            if isinstance(arg, devices.Device) or (isinstance(arg, str) and arg not in dtypes.NAMES):
                device = arg
            else:
                dtype = arg
        place = None if device is None else devices.device(device)
        kind = None if dtype is None else dtypes.as_dtype(dtype)
        if kind is not None and not dtypes.is_floating(kind):
            raise DTypeError(f"Module.to: {kind} is not a float dtype; use float32, float64, float16 or bfloat16")
        for module in self.modules():
            for own in ("parameters", "buffers"):
                for _, value in module._own(own):
                    rehome(value, place or value.device, kind)
        return self

    def cpu(self) -> Any:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> Any:
        """`to("cuda")`, or another CUDA device, by name or number."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device)

    def float(self) -> Any:
        """`to("float32")`."""
        return self.to("float32")

    def double(self) -> Any:
        """`to("float64")`."""
        return self.to("float64")

    def half(self) -> Any:
        """`to("float16")`."""
        return self.to("float16")

    def bfloat16(self) -> Any:
        """`to("bfloat16")`."""
        return self.to("bfloat16")

    # state -----------------------------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers in PyTorch's order; shared ones under all their names."""
        for name, value in self._own("parameters"):
            yield prefix + name, value
        for name, value in self._own("buffers"):
            if self._buffers[name]:
                yield prefix + name, value
        for name, child in vars(self).items():
            if isinstance(child, Module):
                yield from child._state(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by path; the Tensors share the Module's memory."""
        return {name: value.detach() for name, value in self._state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values into parameters and buffers, in place and cast to their dtype.

        Raises CheckpointError that lists every missing, unexpected and mis-shaped key, before anything is written;
        `strict=False` lets keys be missing or unexpected, and returns them.
        """
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                f"{type(self).__name__}.load_state_dict: a {type(state_dict).__name__} is not a state; give a dict"
            )
        own = dict(self._state())
        given = {k: v if isinstance(v, Tensor) else asarray(v, device="cpu") for k, v in state_dict.items()}
        missing = [k for k in own if k not in given]
        unexpected = [k for k in given if k not in own]
        shapes = [
            f"{k} (saved {list(given[k].shape)}, here {list(t.shape)})"
            for k, t in own.items()
            if k in given and given[k].shape != t.shape
        ]
        problems = [f"other shapes: {', '.join(shapes)}"] if shapes else []
        if strict:
            problems = [
                *([f"missing: {', '.join(missing)}"] if missing else []),
                *([f"unexpected: {', '.join(unexpected)}"] if unexpected else []),
                *problems,
            ]
        if problems:
            raise CheckpointError(f"{type(self).__name__}.load_state_dict: {'; '.join(problems)}")
        with tape.no_grad():
            for key, value in given.items():
                if key in own:
                    own[key].copy_(value.detach())
        return LoadResult(missing, unexpected)

    # how it looks ----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr; for subclasses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        # a Module under two names stands under both, as it is called twice
        children = ((name, value) for name, value in vars(self).items() if isinstance(value, Module))
        parts = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in children]
        if not parts:
            return f"{type(self).__name__}({extra})"
        lines = [*([extra] if extra else []), *parts]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def take_in(module: Module, x: Any, like: Tensor) -> Tensor:
    """The input of a layer as a Tensor of the dtype of its parameters: floats are cast, integers refused."""
    if not isinstance(x, Tensor):
        x = asarray(x, device=like.device)
    if x.array.dtype != like.array.dtype:
        if not dtypes.is_floating(x.dtype):
            raise DTypeError(
                f"{type(module).__name__}: an input of {x.dtype} for parameters of {like.dtype}; "
                f"cast it with x.astype({like.dtype.name!r})"
            )
        x = x.astype(like.array.dtype)
    return x


def positive(module: Module, name: str, value: Any) -> int:
    """A constructor's argument that must be an integer of at least 1."""
    try:
        if not isinstance(value, bool) and value.__index__() >= 1:
            return value.__index__()
    except (AttributeError, TypeError):
        pass
    raise ShapeError(f"{type(module).__name__}: {name}={value!r} is not a positive integer; give at least 1")
