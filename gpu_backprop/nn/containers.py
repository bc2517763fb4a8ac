"""Modules in a row."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from ..core.errors import DataError, DTypeError, ShapeError
from . import activations
from .layers import Dropout, Linear
from .module import Module
from .norms import BatchNorm1d, LayerNorm, RMSNorm

_NORMS: dict[str, type[Module]] = {"layer": LayerNorm, "rms": RMSNorm, "batch": BatchNorm1d}


class Sequential(Module):
    """Modules called one after the other; named "0", "1", ..., or as a dict names them."""

    def __init__(self, *modules: Any):
        self._order: tuple[Module, ...] = ()
        self._plan: tuple[tuple[Module, bool], ...] = ()
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Module):
            self._keep_order()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._keep_order()

    def _keep_order(self) -> None:
        order = tuple(v for v in vars(self).values() if isinstance(v, Module))
        plan: list[tuple[Module, bool]] = []  # each Module, and whether it runs the ReLU behind it too
        for module in order:
            if type(module) is activations.ReLU and plan and type(plan[-1][0]) is Linear and not plan[-1][1]:
                plan[-1] = (plan[-1][0], True)
            else:
                plan.append((module, False))
        super().__setattr__("_order", order)
        super().__setattr__("_plan", tuple(plan))

    def add_module(self, name: str, module: Module) -> None:
        """Put a Module at the end under a name."""
        if not isinstance(module, Module):
            raise DTypeError(
                f"Sequential: a {type(module).__name__} is not a Module; wrap functions in a Module's forward"
            )
        setattr(self, str(name), module)

    def append(self, module: Module) -> Any:
        """Put a Module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Any) -> Any:
        """Put Modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._order)

    def _names(self) -> list[str]:
        return [name for name, value in vars(self).items() if isinstance(value, Module)]

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(*self._order[index])
        return self._order[self._at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._names()[self._at(index)], module)

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Sequential: {index} is not one of its {len(self)} modules")
        return index % len(self)

    def forward(self, x: Any) -> Any:
        for module, fused in self._plan:
            x = module(x, relu=True) if fused else module(x)
        return x


class MLP(Sequential):
    """A multi-layer perceptron: Linear layers with an activation (and norm, and dropout) between them.

    sizes: numbers of inputs, of units of each hidden layer, of outputs. activation: "relu", "leaky_relu", "elu",
    "gelu", "silu", "softplus", "tanh" or "sigmoid". dropout: probability, after each activation. norm: "layer", "rms"
    or "batch", before each activation.
    """

    def __init__(
        self,
        sizes: Any,
        activation: str = "relu",
        dropout: float = 0.0,
        norm: str | None = None,
        device: Any = None,
        dtype: Any = None,
    ):
        try:
            self.sizes = [operator.index(n) for n in sizes]
        except TypeError:
            raise ShapeError(
                f"MLP: sizes={sizes!r} are not a list of integers; give [inputs, hidden ..., outputs]"
            ) from None
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ShapeError(
                f"MLP: sizes={self.sizes} describe no network; give [inputs, hidden ..., outputs], each at least 1"
            )
        if norm is not None and (not isinstance(norm, str) or norm not in _NORMS):
            raise DataError(f"MLP: norm={norm!r} is unknown; use {', '.join(map(repr, _NORMS))} or None")
        if not 0 <= dropout <= 1:
            raise DataError(f"MLP: dropout={dropout} is not a probability; use 0 to 1")
        self.activation = activation
        self.dropout = dropout
        self.norm = norm
        modules: list[Module] = []
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:])):
            if i:
                if norm is not None:
                    modules.append(_NORMS[norm](n_in, device=device, dtype=dtype))  # type: ignore[call-arg]
                modules.append(activations.by_name(activation))
                if dropout:
                    modules.append(Dropout(dropout))
            modules.append(Linear(n_in, n_out, device=device, dtype=dtype))
        if len(self.sizes) == 2:
            activations.by_name(activation)  # complain about the name all the same
        super().__init__(*modules)
