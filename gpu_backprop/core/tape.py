"""The tape: what was computed, and the walk back along it.

`apply` runs a primitive and, when someone upstream needs a gradient, records a Node. There is no global list: a Node is
kept alive by the Tensors and Nodes that came out of it, and knows the Nodes that its inputs came from. `walk` visits
Nodes in reverse order of recording and hands each one's gradient to the rules of its primitive.

A Node holds what its rules named (input Tensors, the output's array, residuals), never its own output Tensor: so there
are no reference cycles, and a forward pass that is thrown away is gone at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from ..ops import elementwise, movement
from ..ops.primitive import Primitive, Spec, Tail
from . import dtypes
from .errors import (
    AllocationError,
    DataError,
    DeviceError,
    DTypeError,
    GpuBackpropError,
    LinAlgError,
    ShapeError,
    ShapeIndexError,
    TapeError,
)
from .modes import modes
from .tensor import Tensor, as_operands, filled

_new = object.__new__
sequence = count()


class Node:
    """One recorded operation.

    edges: for each input the Node it came from, the leaf Tensor itself, or None where no gradient is wanted.
    saved: pairs (value, version) for the inputs, output and residuals that `primitive.plan(mask)` lists;
        None once the walk has freed them.
    spec, specs: (shape, dtype) of the output, and of each input that is a Tensor.
    unsaved: what is known of the inputs that were not saved: (position, weak reference or number).
    """

    __slots__ = (
        *("attrs", "device", "edges", "hooks", "mask", "primitive", "retained"),
        *("saved", "scope", "sequence", "spec", "specs", "unsaved"),
    )

    primitive: Primitive
    attrs: dict[str, Any]
    edges: Sequence[Node | Tensor | None]
    mask: int
    saved: Sequence[Any] | None
    specs: Sequence[Any]
    spec: Any
    device: Any
    sequence: int
    scope: str
    hooks: list[Callable[[Any], Any]] | None
    retained: weakref.ref[Tensor] | None
    unsaved: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"<node {self.sequence} {self.primitive.name}>"


class _Pick(Primitive):
    """Chooses one output of a primitive with several; the walk gathers their gradients in the parent's slots."""


PICK = _Pick("pick", "outputs", None)


# ---------------------------------------------------------------------------------------------------------------------
# recording


def apply(primitive: Primitive, /, *inputs: Any, **attrs: Any) -> Any:
    """Run a primitive on Tensors (and Python scalars, or None for an optional input), recording it if need be."""
    arrays = []
    mask = 0
    bit = 1
    device: Any = None
    dtype: Any = None
    odd = False
    for x in inputs:
        if isinstance(x, Tensor):
            array = x.array
            arrays.append(array)
            if device is None:
                device = x.device
                dtype = array.dtype
            else:
                if x.device is not device:
                    raise _mixed_devices(primitive, inputs)
                if array.dtype is not dtype and primitive.promotes:
                    odd = True
            if x.requires_grad:
                mask |= bit
        else:
            arrays.append(x)
            if x is not None and (x.__class__ is not float or dtype is None or dtype.kind != "f"):
                odd = True
        bit <<= 1
    if device is None or odd or (primitive.takes_floats and dtype.kind != "f"):
        coerced = _coerce(primitive, inputs)
        if coerced is not inputs:
            return apply(primitive, *coerced, **attrs)
    try:
        if primitive.forward is None:
            # Only 16-bit floats (computed in float32 on the CPU) and complex numbers (whose special values are looked
            # after) need more than the native functions: NumPy numbers them behind float64, which is 12.
            functions = device.functions if dtype.num > 12 else device.native
            result = functions[primitive.name](*arrays, **attrs)
        else:
            result = device.backend.run(primitive.forward, arrays, attrs)
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise _explain(primitive, inputs, error) from error
    residuals: tuple[Any, ...] = ()
    for i in primitive.writes:
        if inputs[i] is not None:
            inputs[i]._bump_version()
    if primitive.residuals:
        result, *residuals = result  # type: ignore[assignment]
    elif type(result) is tuple:
        return _record_many(primitive, inputs, attrs, mask if modes.grad else 0, device, result)
    if type(result) is not device.array_type:
        result = device.backend.xp.asarray(result)
    out = _new(Tensor)
    out.array = result
    out.device = device
    out.node = out._grad = out._version_cell = out._extra = None
    out.requires_grad = False
    if primitive.gives == "view":
        _share_version(inputs[0], out)
    if mask and modes.grad:
        if primitive.no_gradient:
            out._extra = {"made_by": primitive.name}
        elif result.dtype.kind not in "biu":
            out.requires_grad = True
            out.node = _record(primitive, inputs, attrs, mask, out, residuals)
    elif dtype.kind in "biu":
        without_gradient(out, *inputs)
    if modes.watch is not None:
        modes.watch(primitive.name, out, inputs, False)
    return out


def _record(
    primitive: Primitive, inputs: Sequence[Any], attrs: dict[str, Any], mask: int, out: Tensor, residuals: Sequence[Any]
) -> Node:
    """The Node of an operation whose inputs of the bits in `mask` need a gradient."""
    keep, keep_out, keep_residuals = primitive.saves.get(mask) or primitive.plan(mask)
    edges: list[Any] = []
    specs: list[Any] = []
    saved: list[Any] = []
    unsaved: tuple[Any, ...] = ()
    for i, x in enumerate(inputs):
        edge = None
        if isinstance(x, Tensor):
            array = x.array
            specs.append((array.shape, array.dtype))
            if x.requires_grad:
                edge = x.node or x
            if i in keep:
                saved.append((x, 0 if x._version_cell is None else x._version_cell[0]))
            elif edge is None:
                # A constant that no rule needs is remembered weakly: a listing shows it while it lives.
                unsaved += ((i, weakref.ref(x)),)
        else:
            specs.append(None)
            if i in keep:
                saved.append((x, 0))
            else:
                unsaved += ((i, x),)
        edges.append(edge)
    if keep_out:
        # The output's array and version cell, not the Tensor, whose node is this one.
        if out._version_cell is None:
            out._version_cell = [0]
        saved.append(((out.array, out._version_cell), out._version_cell[0]))
    for i in keep_residuals:
        saved.append((residuals[i], 0))
    if primitive.rest and not primitive.variadic:
        saved += [
            (x, 0 if x._version_cell is None else x._version_cell[0]) for x in inputs[len(primitive.input_names) :]
        ]
    node = _new(Node)
    node.primitive = primitive
    node.attrs = attrs
    node.mask = mask
    node.device = out.device
    node.sequence = next(sequence)
    node.scope = modes.scope
    node.hooks = node.retained = None
    node.spec = (out.array.shape, out.array.dtype)
    node.edges = edges
    node.specs = specs
    node.saved = saved
    node.unsaved = unsaved
    return node


def _record_many(
    primitive: Primitive, inputs: Sequence[Any], attrs: dict[str, Any], mask: int, device: Any, results: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    """The Tensors of a primitive with several outputs; on the tape each is a PICK of one Node."""
    outs = tuple(Tensor(r if type(r) is device.array_type else device.backend.xp.asarray(r), device) for r in results)
    if primitive.gives == "view":
        for out in outs:
            _share_version(inputs[0], out)
    if mask and primitive.no_gradient:
        for out in outs:
            out._extra = {"made_by": primitive.name}
    elif mask:
        node = _record(primitive, inputs, attrs, mask, outs[0], ())
        node.attrs = {**attrs, "outputs": tuple((o.shape, o.dtype) for o in outs)}
        keep, keep_out, _ = primitive.plan(mask)
        if keep_out:  # a rule that names `out` gets the tuple
            for out in outs:
                out._version_cell = out._version_cell or [0]
            node.saved[len(keep)] = tuple(((o.array, o._version_cell), o._version_cell[0]) for o in outs), None  # type: ignore[index]
        _pick_outputs(node, outs)
    if modes.watch is not None:
        for out in outs:
            modes.watch(primitive.name, out, inputs, False)
    return outs


def _pick_outputs(node: Node, outs: Iterable[Tensor]) -> None:
    for i, out in enumerate(outs):
        if dtypes.is_inexact(out.dtype):
            pick = _record(PICK, (), {"i": i}, 0, out, ())
            pick.edges = (node,)
            pick.specs = (pick.spec,)
            out.node = pick
            out.requires_grad = True


def without_gradient(out: Tensor, *inputs: Any, name: str = "") -> Tensor:
    """Integers or bools that remember which operation had no gradient, for the error of who asks for it: `name`, of
    inputs that require grad, or else what the inputs remember."""
    if modes.grad and out.array.dtype.kind in "biu":
        for x in inputs:
            made_by = _made_by(x) or (name if isinstance(x, Tensor) and x.requires_grad else None)
            if made_by:
                out._extra = {"made_by": made_by}
                break
    return out


def _made_by(x: Any) -> str | None:
    return x._extra.get("made_by") if isinstance(x, Tensor) and x._extra is not None else None


def transfer(x: Tensor, device: Any) -> Tensor:
    """A copy of `x` on another device, recorded; the gradient goes back the same way."""
    out = Tensor(device.backend.from_host(x.device.backend.to_host(x.array)), device)
    if x.requires_grad and modes.grad:
        out.requires_grad = True
        out.node = _record(movement.transfer, (x,), {"source": x.device}, 1, out, ())
    return out


def _share_version(base: Tensor, view: Tensor) -> None:
    if base._version_cell is None:
        base._version_cell = [0]
    view._version_cell = base._version_cell


def _coerce(primitive: Primitive, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with foreign objects made Tensors and, from `promotes_from` on, brought to one dtype."""
    inputs = as_operands(primitive.name, inputs)
    if not primitive.promotes:
        return inputs
    start = primitive.promotes_from
    operands = [x for x in inputs[start:] if x is not None]
    if not any(isinstance(x, Tensor) for x in operands):
        return inputs
    target = dtypes.result_type(*operands)
    if primitive.takes_floats and not dtypes.is_inexact(target):
        target = dtypes.get_default_dtype()
    if primitive.promotes == "real" and target.kind == "c":
        raise DTypeError(
            f"{primitive.name}({_describe(inputs)}): not defined for complex numbers; use gb.real, gb.imag or gb.abs"
        )
    cast = tuple(x.astype(target) if isinstance(x, Tensor) and x.array.dtype != target else x for x in inputs[start:])
    if all(a is b for a, b in zip(cast, inputs[start:])):
        return inputs
    return inputs[:start] + cast


def _describe(inputs: Iterable[Any]) -> str:
    return ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, Tensor) else repr(x) for x in inputs)


def _explain(primitive: Primitive, inputs: Sequence[Any], error: Exception) -> Exception:
    """An array module's error as one of ours, naming the operation and what it received."""
    if isinstance(error, GpuBackpropError):
        return error
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    message = f"{primitive.name}({_describe(inputs)}): {reason}"
    if isinstance(error, MemoryError):
        return AllocationError(f"{message}; make the arrays smaller, or work in parts")
    if isinstance(error, OverflowError):
        return DataError(f"{message}; cast the array to a wider dtype first")
    message += next((f"; {remedy}" for sign, remedy in _REMEDIES if sign in reason), "")
    if isinstance(error, np.linalg.LinAlgError):
        return LinAlgError(message)
    if isinstance(error, IndexError):
        return ShapeIndexError(message)
    return DTypeError(message) if isinstance(error, TypeError) else ShapeError(message)


_REMEDIES = (
    ("core dimension", "the axes that are multiplied and summed must be of equal length"),
    ("not aligned", "the axes that are multiplied and summed must be of equal length"),
    ("broadcast", "make the shapes equal, or 1 where they differ"),
    ("reshape", "the number of elements must stay the same"),
    ("zero-size", "give at least one element"),
    ("must match exactly", "make the other axes equal"),
    ("Singular matrix", "gb.linalg.pinv takes any matrix"),
    ("positive definite", "its eigenvalues must be positive; add to its diagonal"),
    ("converge", "look for NaN and infinity in it"),
    ("out of bounds", "use indices from minus the length to the length minus 1"),
)


def _mixed_devices(primitive: Primitive, inputs: Sequence[Any]) -> DeviceError:
    names = sorted({x.device.name for x in inputs if isinstance(x, Tensor)})
    return DeviceError(f"{primitive.name}: operands on {' and '.join(names)}; move one with t.to({names[0]!r})")


@contextmanager
def set_grad_mode(enabled: bool) -> Iterator[None]:
    """Recording on or off in this thread inside the block; also a decorator."""
    before = modes.grad
    modes.grad = enabled
    try:
        yield
    finally:
        modes.grad = before


def no_grad() -> Any:
    """Nothing is recorded in this thread inside the block. `with gb.no_grad():`, or `@gb.no_grad()` on a function."""
    return set_grad_mode(False)


def enable_grad() -> Any:
    """Recording is on in this thread inside the block, also within no_grad."""
    return set_grad_mode(True)


def is_grad_enabled() -> bool:
    """True when operations of this thread are recorded."""
    return modes.grad


# ---------------------------------------------------------------------------------------------------------------------
# walking back


def walk(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    targets: Sequence[Tensor] | None = None,
    create_graph: bool = False,
    retain_graph: bool = False,
    observe: Callable[[Node, Tensor], None] | None = None,
) -> list[Tensor | None]:
    """Pull gradients back from outputs, visiting Nodes in reverse order of recording.

    With `targets`, returns the gradient for each of them (None where there is no path) and touches no `.grad`;
    without, adds to the `.grad` of every leaf. `create_graph` records the walk itself. `observe` sees every Node with
    its gradient.
    """
    found: dict[Any, Tensor] = {}
    wanted = None if targets is None else {t.node or t for t in targets}
    useful = None if wanted is None else _leading_to(wanted, outputs)
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []
    late: dict[Tensor, Tensor] = {}
    in_place = wanted is None and not create_graph
    before = modes.grad, modes.watch, modes.scope, modes.backward
    modes.grad, modes.backward = create_graph, True
    tells_scope = modes.recorder is not None or modes.profile is not None
    watch = None
    if modes.recorder is None:  # which sees everything
        watch, modes.watch = modes.watch, None  # a gradient is judged whole, not by the operations of its rule

    def deliver(edge: Any, gradient: Tensor) -> None:
        if edge.__class__ is Node:
            if edge in pending:
                pending[edge] = pending[edge] + gradient
            else:
                pending[edge] = gradient
                heappush(heap, (-edge.sequence, edge))
        elif wanted is not None:
            if edge in wanted:
                found[edge] = found[edge] + gradient if edge in found else gradient
        elif edge._extra is not None and "hooks" in edge._extra:
            late[edge] = late[edge] + gradient if edge in late else gradient
        else:
            edge._accumulate_grad(gradient, create_graph)

    try:
        for output, gradient in zip(outputs, gradients):
            if output.requires_grad:
                deliver(output.node or output, gradient)
        while heap:
            node = heappop(heap)[1]
            if tells_scope:
                modes.scope = node.scope
            g = pending.pop(node)
            if node.hooks is not None or node.retained is not None or observe is not None:
                g = _show(node, g, wanted is None, create_graph, observe)
            if wanted is not None:
                if node in wanted:
                    found[node] = g  # what was asked for is where the walk ends
                    continue
                if node not in useful:  # type: ignore[operator]
                    continue
            if node.saved is None:
                raise TapeError(
                    f"backward: the tape of {node.primitive.name!r} was freed by an earlier backward; "
                    "pass retain_graph=True to that one, or run the forward pass again"
                )
            primitive = node.primitive
            if primitive is PICK:
                _gather(node, g, pending, heap)
            elif primitive.__class__ is not Primitive or primitive.unfused is not None:
                for edge, pulled in zip(node.edges, pull(node, g, create_graph)):
                    if edge is not None and pulled is not None:
                        if watch is not None:
                            _judge(watch, node, pulled, [*g] if g.__class__ is list else [g])
                        deliver(edge, pulled)
            else:
                values = _unpack(node)
                values["g"] = g if g.__class__ is not list else _dense(g, node)
                if primitive.before is not None:
                    before_rule, pick = primitive.before
                    values["mask"] = node.mask
                    values["g"] = before_rule(*pick(values))
                edges, specs = node.edges, node.specs
                for i, rule, pick, is_tail in (
                    _every(primitive, values, edges) if primitive.variadic else primitive.pulls
                ):
                    edge = edges[i]
                    if edge is None or (useful is not None and edge not in useful):
                        continue
                    needed = pick(values)
                    if is_tail and in_place and _write(rule, needed, edge):  # type: ignore[arg-type]
                        if watch is not None:
                            _judge(watch, node, edge.grad, needed)  # type: ignore[union-attr]
                        continue
                    gradient = rule(*needed)
                    if not isinstance(gradient, Tensor):
                        raise DTypeError(
                            f"backward: a rule of {primitive.name!r} returned a {type(gradient).__name__}; "
                            "it must return a Tensor"
                        )
                    if watch is not None:
                        _judge(watch, node, gradient, needed)
                    shape, dtype = specs[i]
                    array = gradient.array
                    if array.dtype is not dtype or array.shape != shape:
                        gradient = unbroadcast(gradient, specs[i])
                    deliver(edge, gradient)
            if not (retain_graph or create_graph):
                node.saved = None
                node.edges = node.unsaved = ()
        for leaf, gradient in late.items():
            for hook in leaf._extra["hooks"]:  # type: ignore[index]
                gradient = _hooked(hook, gradient)
            leaf._accumulate_grad(gradient, create_graph)
    finally:
        modes.grad, modes.watch, modes.scope, modes.backward = before
    return [] if targets is None else [found.get(t.node or t) for t in targets]


def _show(node: Node, g: Any, deposit: bool, create_graph: bool, observe: Any) -> Any:
    """Hand a Node's whole gradient to those who asked to see it; a hook may replace it."""
    for hook in node.hooks or ():
        g = _hooked(hook, g)
    tensor = None if node.retained is None else node.retained()
    if tensor is not None and deposit:
        tensor._accumulate_grad(g, create_graph)
    if observe is not None:
        observe(node, g)
    return g


def _hooked(hook: Callable[[Any], Any], g: Any) -> Any:
    """What a hook makes of a gradient."""
    if isinstance(g, Tensor) and g._version_cell is None:
        g._version_cell = [0]  # the hook may keep it, so nobody else takes its memory for their own
    replaced = hook(g)
    if replaced is None:
        return g
    if not isinstance(replaced, Tensor):
        raise DTypeError(f"hook: returned a {type(replaced).__name__}; return a Tensor like the gradient, or None")
    if isinstance(g, Tensor) and (replaced.shape != g.shape or replaced.device is not g.device):
        raise ShapeError(
            f"hook: returned shape {list(replaced.shape)} on {replaced.device} for a gradient of shape "
            f"{list(g.shape)} on {g.device}; they must be equal"
        )
    return replaced


def _every(primitive: Primitive, values: dict[str, Any], edges: Sequence[Any]) -> Iterator[Any]:
    """The one rule of a primitive with any number of inputs, for each of them."""
    for _, rule, pick, is_tail in primitive.pulls:
        for i in range(len(edges)):
            values["i"] = i
            yield i, rule, pick, is_tail


def _judge(watch: Any, node: Node, gradient: Any, needed: Sequence[Any]) -> None:
    """Show a gradient to the watcher, in the module that its Node was recorded in."""
    needed = [t for x in needed for t in (x if x.__class__ is tuple else (x,))]  # `before` may give g a tuple
    before, modes.scope = modes.scope, node.scope
    try:
        watch(node.primitive.name, gradient, needed, True)
    finally:
        modes.scope = before


def unbroadcast(gradient: Tensor, spec: Any) -> Tensor:
    """A gradient in the shape and dtype of the input it belongs to: broadcasting and promotion are undone here.

    A real input beside complex ones gets the real part: what changes a loss L by dL = Re(gradient * dx).
    """
    shape, dtype = spec
    array = gradient.array
    if array.shape != shape:
        lead = array.ndim - len(shape)
        axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and array.shape[i + lead] != 1))
        gradient = gradient.sum(axis=axes, keepdims=True).reshape(shape) if axes else gradient.reshape(shape)
    if gradient.array.dtype.kind == "c" and dtype.kind != "c":
        gradient = elementwise.real(gradient)
    return gradient if gradient.array.dtype is dtype or gradient.array.dtype == dtype else gradient.astype(dtype)


def _write(rule: Tail, needed: Sequence[Any], leaf: Any) -> bool:
    """Compute a leaf's first gradient straight into its place in an optimiser's flat buffer, if it has one."""
    if leaf.__class__ is Node or leaf._grad is not None or leaf._extra is None:
        return False
    buffer = leaf._extra.get("grad_buffer")
    if buffer is None or "hooks" in leaf._extra:
        return False
    out = buffer.array
    dtype = out.dtype
    arrays = []
    for x in rule.arguments(*needed):
        array = x.array
        if array.dtype is not dtype and array.dtype != dtype:
            return False
        arrays.append(array)
    if modes.recorder is not None:
        modes.recorder.consults(leaf)
    buffer.renew()
    device = leaf.device
    functions = device.functions if dtype.num > 12 else device.native
    functions[rule.primitive.name](*arrays, out=out, **rule.attrs)
    leaf._grad = buffer
    return True


def _unpack(node: Node) -> dict[str, Any]:
    """What the rules of a Node may name, with what was saved checked against later writes."""
    primitive = node.primitive
    names = primitive.input_names
    values: dict[str, Any] = {**primitive.defaults, **node.attrs} if primitive.defaults else dict(node.attrs)
    for i, name in primitive.spec_names:
        values[name] = Spec(*node.specs[i])
    if primitive.variadic:
        values["specs"] = [Spec(*spec) for spec in node.specs]
    keep, keep_out, keep_residuals = primitive.saves[node.mask]
    saved = iter(node.saved)  # type: ignore[arg-type]
    for i in keep:
        value, version = next(saved)
        values[names[i]] = value
        if isinstance(value, Tensor) and value._version_cell is not None:
            _intact(node, value, version)
    if keep_out:
        value, version = next(saved)
        if version is None:  # several outputs
            outs = tuple(_output(node, *pair) for pair in value)
            _pick_outputs(node, outs)
            values["out"] = outs
        else:
            values["out"] = out = _output(node, value, version)
            out.node = node
            out.requires_grad = True
    for i in keep_residuals:
        values[primitive.residuals[i]] = Tensor(next(saved)[0], node.device)
    if primitive.rest and not primitive.variadic:
        values[primitive.rest] = [_intact(node, *pair) for pair in saved]
    return values


def _output(node: Node, value: tuple[Any, list[int]], version: int) -> Tensor:
    """A saved output, unless it was written to since."""
    out = Tensor(value[0], node.device)
    out._version_cell = value[1]
    if out._version_cell[0] != version:
        raise _overwritten(node, "output")
    return out


def _intact(node: Node, value: Any, version: int) -> Any:
    """A saved input, unless it was written to since."""
    if isinstance(value, Tensor) and value._version_cell is not None and value._version_cell[0] != version:
        raise _overwritten(node, f"input of shape {list(value.shape)}")
    return value


def _overwritten(node: Node, what: str) -> TapeError:
    return TapeError(
        f"backward: the {what} of {node.primitive.name!r} was changed in place after it was recorded; "
        "write to a copy (t.copy()), or run backward first"
    )


def _gather(pick: Node, g: Tensor, pending: dict[Node, Any], heap: list[tuple[int, Node]]) -> None:
    """Put the gradient of one output into the slots of the Node with several outputs."""
    (node,) = pick.edges
    slots = pending.get(node)  # type: ignore[arg-type]
    if slots is None:
        slots = pending[node] = [None] * len(node.attrs["outputs"])  # type: ignore[index,union-attr]
        heappush(heap, (-node.sequence, node))  # type: ignore
    i = pick.attrs["i"]
    slots[i] = g if slots[i] is None else slots[i] + g  # a rule that named this output has picked it again


def _dense(slots: list[Any], node: Node) -> tuple[Tensor, ...]:
    """The gradients of all outputs of a Node, zeros where none arrived."""
    return tuple(
        filled(spec[0], spec[1], 0, node.device) if g is None else g for g, spec in zip(slots, node.attrs["outputs"])
    )


def pull(node: Node, g: Tensor, create_graph: bool) -> list[Tensor | None]:
    """The gradients of a fused primitive's inputs, through its unfused form."""
    primitive = node.primitive
    if primitive.unfused is None:
        return primitive.pull(node, g, create_graph)  # type: ignore[attr-defined]
    values = _unpack(node)
    inputs = [values[name] for name in primitive.input_names]
    with enable_grad():
        stems = [x._stem() if edge is not None else x for x, edge in zip(inputs, node.edges)]
        out = primitive.unfused(*stems, **node.attrs)
    targets = [s for s, edge in zip(stems, node.edges) if edge is not None]
    gradients = iter(walk([out], [unbroadcast(g, (out.shape, out.dtype))], targets=targets, create_graph=create_graph))
    result: list[Tensor | None] = []
    for spec, edge in zip(node.specs, node.edges):
        gradient = next(gradients) if edge is not None else None
        result.append(None if gradient is None else unbroadcast(gradient, spec))
    return result


def _leading_to(wanted: set[Any], outputs: Sequence[Tensor]) -> set[Any]:
    """The Nodes (and leaves) below `outputs` from which a wanted one can be reached."""
    useful = set(wanted)
    for node in reversed(nodes(outputs)):
        if any(edge in useful for edge in node.edges if edge is not None):
            useful.add(node)
    return useful


def nodes(outputs: Iterable[Tensor]) -> list[Node]:
    """All Nodes below `outputs`, in reverse order of recording."""
    seen = {t.node for t in outputs if t.node is not None}
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if edge.__class__ is Node and edge not in seen:
                seen.add(edge)  # type: ignore[arg-type]
                stack.append(edge)  # type: ignore[arg-type]
    return sorted(seen, key=lambda node: -node.sequence)


def has_gradient(caller: str, outputs: Sequence[Tensor]) -> None:
    """TapeError when no result can have a gradient, for its dtype or for the operation that made it."""
    makers = [_made_by(o) for o in outputs]
    if outputs and not any(made_by is None and dtypes.is_inexact(o.dtype) for o, made_by in zip(outputs, makers)):
        source = f"{makers[0]!r}, which has" if makers[0] else f"operations of {outputs[0].dtype}, which have"
        raise TapeError(
            f"{caller}: the result comes from {source} no gradient; "
            "differentiate the values that it tells of (docs/gradients.md lists such operations)"
        )


def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add d(sum of outputs * gradients)/d(leaf) to the `.grad` of every leaf below `outputs`."""
    has_gradient("backward", outputs)
    seeds = []
    for output, gradient in zip(outputs, gradients):
        if not output.requires_grad:
            raise TapeError(
                "backward: the result does not depend on anything that requires grad; "
                "make an input with requires_grad=True, and run outside gb.no_grad()"
            )
        if gradient is None:
            if output.array.size != 1:
                raise TapeError(
                    f"backward: a result of shape {list(output.shape)} is not a scalar; "
                    "reduce it first (t.sum()), or pass gradient= of the same shape"
                )
            if output.dtype.kind == "c":
                raise TapeError(
                    "backward: a complex result has no one gradient; make it real first (gb.real, gb.imag, gb.abs), "
                    "or pass gradient="
                )
            seeds.append(filled(output.shape, output.dtype, 1, output.device))
            continue
        if gradient.shape != output.shape:
            raise ShapeError(
                f"backward: gradient of shape {list(gradient.shape)} for a result of shape {list(output.shape)}; "
                "they must be equal"
            )
        if gradient.device is not output.device:
            raise DeviceError(
                f"backward: a gradient on {gradient.device} for a result on {output.device}; use g.to(t.device)"
            )
        seeds.append(unbroadcast(gradient if create_graph else gradient.detach(), (output.shape, output.dtype)))
    walk(outputs, seeds, retain_graph=retain_graph, create_graph=create_graph)


Primitive.__call__ = apply  # type: ignore[method-assign,assignment]
