"""What a tape holds, read without changing it: operations, leaves and constants with their values and gradients.

A tape keeps only what its rules need. A value that it does not keep is computed again from what it does keep; where
that is not possible (a constant was thrown away), it is None, "freed".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core import tape
from ..core.errors import DTypeError, TapeError
from ..core.tape import PICK, Node
from ..core.tensor import Tensor
from ..nn.parameter import Parameter
from ..ops import elementwise
from ..ops.primitive import Primitive
from .figures import number
from .formulas import formula

ELEMENTWISE = {p for p in vars(elementwise).values() if isinstance(p, Primitive)}


@dataclass(eq=False)
class Entry:
    """One operation, leaf or constant of a tape."""

    kind: str  # "operation", "parameter" (a leaf that requires grad), "constant" or "number"
    operation: str  # name of the primitive; of other kinds what the entry is called
    shape: tuple[int, ...]
    dtype: Any
    value: np.ndarray | None = None
    gradient: np.ndarray | None = None
    scope: str = ""
    inputs: list[tuple[str, Entry]] = field(default_factory=list)  # by the primitive's names for them
    local: list[np.ndarray | str | None] = field(default_factory=list)  # for each input d out / d input
    number: int = 0  # place in the order of the chain rule


def read(loss: Any, caller: str, names: Any = None) -> list[Entry]:
    """The entries below `loss` in the order of the chain rule: operations from the loss back, then the rest."""
    return _Reader(loss, caller, _names(names)).entries


def _names(names: Any) -> dict[int, str]:
    if names is None:
        return {}
    pairs = names.items() if isinstance(names, Mapping) else names.named_parameters()
    return {id(tensor): name for name, tensor in pairs}


class _Reader:
    def __init__(self, loss: Any, caller: str, names: dict[int, str]):
        if not isinstance(loss, Tensor):
            raise DTypeError(
                f"{caller}: a {type(loss).__name__} has no tape; give the Tensor that backward starts from"
            )
        if loss.node is None:
            raise TapeError(
                f"{caller}: nothing was recorded for this Tensor; compute it from one with requires_grad=True"
            )
        self.names = names
        self.nodes = tape.nodes([loss])
        if any(node.saved is None for node in self.nodes):
            raise TapeError(
                f"{caller}: the tape was freed by backward; call {caller} before it, or pass retain_graph=True to it"
            )
        self.values = self._recompute(loss)
        self.gradients = self._pull_back(loss, caller)
        self.of: dict[int, Entry] = {}  # by the id of the Node or Tensor
        self.kept: list[Any] = []  # Tensors whose id is in use
        self.entries: list[Entry] = []
        self.others: list[Entry] = []
        for node in reversed(self.nodes):
            self._operation(node)
        self.entries.reverse()
        self.others.reverse()
        self.others.sort(key=lambda e: e.kind != "parameter")
        self.entries += self.others
        for place, entry in enumerate(self.entries, 1):
            entry.number = place

    # values ----------------------------------------------------------------------------------------------------------

    def _recompute(self, loss: Tensor) -> dict[Node, Any]:
        """Raw arrays of the Nodes' outputs (a tuple for several), None where the tape has lost the way to them."""
        values: dict[Node, Any] = {loss.node: loss.array}
        for node in self.nodes:
            for x in _saved_inputs(node).values():
                if isinstance(x, Tensor) and x.node is not None:
                    values.setdefault(x.node, x.array)
            out = _saved_output(node)
            if out is not None:
                values.setdefault(node, out)
        with tape.no_grad():
            for node in reversed(self.nodes):
                if node not in values:
                    values[node] = self._run(node, values)
        return values

    def _run(self, node: Node, values: dict[Node, Any]) -> Any:
        if node.primitive is PICK:
            several = values.get(node.edges[0])  # type: ignore[arg-type]
            return None if several is None else several[node.attrs["i"]]
        saved = _saved_inputs(node)
        inputs = []
        for i, edge in enumerate(node.edges):
            value = (
                values.get(edge)
                if isinstance(edge, Node)
                else _array(edge if edge is not None else _constant(node, i, saved))
            )
            if value is None and not _was_none(node, i, saved):
                return None
            inputs.append(value)
        attrs = {name: value for name, value in node.attrs.items() if name != "outputs"}
        if node.primitive.name == "transfer":
            return node.device.backend.from_host(attrs["source"].backend.to_host(inputs[0]))
        if "run" in attrs:  # a checkpoint
            n = attrs["n_arguments"]
            given = [Tensor(x, node.device) if hasattr(x, "dtype") else x for x in inputs[:n]]
            return tuple(out.array for out in attrs["run"](given))
        for i in node.primitive.writes:  # a look at the tape changes nothing
            value = inputs[i]
            inputs[i] = None if value is None else value.copy()
        forward = node.primitive.forward or node.device.functions[node.primitive.name]
        result = forward(*inputs, **attrs)
        return result[0] if node.primitive.residuals else result

    # gradients -------------------------------------------------------------------------------------------------------

    def _pull_back(self, loss: Tensor, caller: str) -> dict[int, Any]:
        if loss.size != 1:
            raise TapeError(
                f"{caller}: a result of shape {list(loss.shape)} is not a scalar; reduce it first (t.sum())"
            )
        found: dict[int, Any] = {}
        leaves = list({id(e): e for node in self.nodes for e in node.edges if isinstance(e, Tensor)}.values())
        one = Tensor(loss.device.backend.xp.ones(loss.shape, loss.dtype), loss.device)

        def observe(node: Node, g: Any) -> None:
            found[id(node)] = g if isinstance(g, Tensor) else None

        gradients = tape.walk([loss], [one], targets=leaves, retain_graph=True, observe=observe)
        found.update((id(leaf), g) for leaf, g in zip(leaves, gradients))
        return found

    # entries ---------------------------------------------------------------------------------------------------------

    def _operation(self, node: Node) -> None:
        several = "outputs" in node.attrs
        shape, dtype = node.spec
        name = f"output {node.attrs['i']}" if node.primitive is PICK else node.primitive.name
        value = self.values[node]
        entry = Entry("operation", name, shape, dtype, None if several else _host(value, node.device), scope=node.scope)
        entry.gradient = _host_tensor(self.gradients.get(id(node)))
        saved = _saved_inputs(node)
        for i, edge in enumerate(node.edges):
            source = edge if edge is not None else _constant(node, i, saved)
            if source is None and _was_none(node, i, saved):
                continue
            entry.inputs.append((_input_name(node, i), self._input(node, i, source)))
            entry.local.append(_local(node, i, several) if edge is not None else None)
        self.of[id(node)] = entry
        self.entries.append(entry)

    def _input(self, node: Node, i: int, source: Any) -> Entry:
        if isinstance(source, (bool, int, float)):
            return Entry("number", number(source), (), None, np.asarray(source))
        if source is not None and id(source) in self.of:
            return self.of[id(source)]
        shape, dtype = node.specs[i]
        if source is None:  # thrown away
            entry = Entry("constant", "constant", shape, dtype)
        else:
            kind = "parameter" if source.requires_grad else "constant"
            entry = Entry(kind, self._name(node, i, source, kind), shape, dtype, _host_tensor(source))
            entry.gradient = _host_tensor(self.gradients.get(id(source)))
            entry.scope = node.scope
            self.of[id(source)] = entry
            self.kept.append(source)
        self.others.append(entry)
        return entry

    def _name(self, node: Node, i: int, tensor: Tensor, kind: str) -> str:
        """The name given; else what the module's operation calls it; else its kind."""
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        if kind == "parameter" and node.scope:
            own = _input_name(node, i)
            if own in ("weight", "bias"):
                return f"{node.scope}.{own}"
            if isinstance(tensor, Parameter):  # anything else is an input of the module, of which a gradient is wanted
                return f"{node.scope}.parameter"
        return "leaf" if kind == "parameter" else "constant"


def _input_name(node: Node, i: int) -> str:
    names = node.primitive.input_names
    return names[i].strip("_") if i < len(names) else node.primitive.rest or f"x{i}"


def _saved_inputs(node: Node) -> dict[int, Any]:
    keep = node.primitive.plan(node.mask)[0]
    found = {i: pair[0] for i, pair in zip(keep, node.saved)}  # type: ignore[arg-type]
    if node.primitive.rest and not node.primitive.variadic:
        first = len(node.primitive.input_names)
        found |= {first + k: pair[0] for k, pair in enumerate(node.saved[len(keep) :])}  # type: ignore[index]
    return found


def _saved_output(node: Node) -> Any:
    keep, keep_out, _ = node.primitive.plan(node.mask)
    if not keep_out or node.primitive is PICK:
        return None
    value, version = node.saved[len(keep)]  # type: ignore[index]
    return tuple(pair[0][0] for pair in value) if version is None else value[0]


def _constant(node: Node, i: int, saved: dict[int, Any]) -> Any:
    """An input without a gradient: saved, or remembered weakly and None if it is gone."""
    if i in saved:
        return saved[i]
    for position, value in node.unsaved:
        if position == i:
            return value() if callable(value) else value
    return None


def _was_none(node: Node, i: int, saved: dict[int, Any]) -> bool:
    return node.edges[i] is None and node.specs[i] is None and _constant(node, i, saved) is None


def _array(x: Any) -> Any:
    return x.array if isinstance(x, Tensor) else x


def _host(array: Any, device: Any) -> np.ndarray | None:
    return None if array is None else np.array(device.backend.to_host(array))


def _host_tensor(t: Tensor | None) -> np.ndarray | None:
    return None if t is None else _host(t.array, t.device)


def _local(node: Node, i: int, several: bool) -> np.ndarray | str:
    """d out / d input: numbers for an elementwise operation, else the rule in words."""
    primitive = node.primitive
    if primitive not in ELEMENTWISE or primitive.unfused is not None or several:
        return formula(node, i)
    values = tape._unpack(node)
    shape, dtype = node.spec
    values["g"] = Tensor(node.device.backend.xp.ones(shape, dtype), node.device)
    with tape.no_grad():
        slope = primitive.rules[i](*(values[name] for name in primitive.needs[i]))  # type: ignore[misc]
    return _host_tensor(slope)  # type: ignore[return-value]
