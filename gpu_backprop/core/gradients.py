"""Functions of functions: grad, jacobian, hessian, vjp, jvp, hvp, checkpoint, gradcheck; and the user's primitives.

All of them are reverse mode. What they return is recorded whenever something that they touched requires grad (an
argument, or a Tensor that the function closes over), so a loss may contain `gb.grad(f)(x)` of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ops import elementwise, movement
from ..ops.primitive import Primitive
from ..ops.reduction import as_integer, as_integers
from . import dtypes, tape, tree
from .errors import DTypeError, ShapeError, TapeError
from .modes import modes
from .tensor import Tensor, asarray, filled, tensor


def _name(f: Any) -> str:
    return f.name if isinstance(f, Primitive) else getattr(f, "__name__", type(f).__name__)


class _Trace:
    """One run of `f` on stems of its chosen arguments, and the tape that it left."""

    def __init__(self, caller: str, f: Callable[..., Any], argnums: Sequence[int], args: Sequence[Any], kwargs: Any):
        self.caller = caller
        self.outer = modes.grad
        for i in argnums:
            if not -len(args) <= i < len(args):
                raise ShapeError(
                    f"{caller}: argnums {i}, but {_name(f)} was called with {len(args)} positional arguments"
                )
        if len({i % len(args) for i in argnums}) < len(argnums):
            raise ShapeError(f"{caller}: argnums {tuple(argnums)} name an argument twice; name each once")
        chosen = [tree.as_tensors(args[i]) for i in argnums]
        leaves, self.rebuild = tree.flatten(chosen)
        for leaf in leaves:
            if not dtypes.is_inexact(leaf.dtype):
                raise DTypeError(
                    f"{caller}: an argument of {leaf.dtype} has no gradient; pass floats, or choose others with argnums"
                )
        with tape.enable_grad():
            self.stems = [leaf._stem() if self.outer else leaf.detach()._stem() for leaf in leaves]
            full = list(args)
            for i, value in zip(argnums, self.rebuild(self.stems)):
                full[i] = value
            self.result = f(*full, **kwargs)

    def pull(self, outputs: list[Tensor], seeds: list[Tensor], create: bool | None = None) -> list[Tensor]:
        """Gradients of the stems. Recorded when anything else below `outputs` requires grad."""
        if create is None:
            create = self.outer and self._touches_others(outputs, seeds)
        found = tape.walk(outputs, seeds, targets=self.stems, create_graph=create, retain_graph=True)
        return [zeros_like(stem) if g is None else g for stem, g in zip(self.stems, found)]

    def _touches_others(self, outputs: list[Tensor], seeds: list[Tensor]) -> bool:
        own = {id(stem) for stem in self.stems if stem.node is None}
        if any(stem.node is not None for stem in self.stems) or any(s.requires_grad for s in seeds):
            return True
        return any(
            isinstance(edge, Tensor) and id(edge) not in own for node in tape.nodes(outputs) for edge in node.edges
        )


def zeros_like(t: Tensor) -> Tensor:
    return filled(t.shape, t.dtype, 0, t.device)


def ones_like(t: Tensor) -> Tensor:
    return filled(t.shape, t.dtype, 1, t.device)


def _in_form(argnums: Any, gradients: Sequence[Any]) -> Any:
    """The one gradient of one argument, a tuple of those of several."""
    return tuple(gradients) if np.ndim(argnums) else gradients[0]


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    argnum: int | Sequence[int] | None = None,
) -> Callable[..., Any]:
    """A function that returns `(f(...), gradient)`.

    The gradient has the form of argument number `argnums` (a Tensor, or nested lists, tuples and dicts of Tensors),
    or is a tuple of such for several; `argnum`, as HIPS autograd names it, is the same. That of a complex x + iy is
    df/dx - i df/dy. With `has_aux`, f returns `(loss, aux)` and the result is `((loss, aux), gradient)`. Raises
    ShapeError when the loss is not a scalar, and DTypeError when it is complex.
    """
    which = argnums if argnum is None else argnum
    numbers = as_integers("grad", "argnums", which)

    def run(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("grad", f, numbers, args, kwargs)
        loss, aux = trace.result if has_aux else (trace.result, None)
        if not isinstance(loss, Tensor):
            raise DTypeError(f"grad: {_name(f)} returned a {type(loss).__name__}; it must return a scalar Tensor")
        if loss.size != 1:
            raise ShapeError(
                f"grad: {_name(f)} returned shape {list(loss.shape)}; reduce it to a scalar, or use gb.vjp"
            )
        tape.has_gradient("grad", [loss])
        if loss.dtype.kind == "c":
            raise DTypeError(
                f"grad: {_name(f)} returned a complex number; make it real (gb.real, gb.imag, gb.abs), or use gb.vjp"
            )
        gradients = trace.rebuild(trace.pull([loss], [ones_like(loss)]))
        value = _settled(loss, trace)
        if has_aux:
            parts, rebuild = tree.flatten(aux)
            aux = rebuild([part if part.node is None else _settled(part, trace) for part in parts])
        gradient = _in_form(which, gradients)
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return run


def _settled(result: Tensor, trace: _Trace) -> Tensor:
    """A value as the caller's mode wants it: recorded only if it hangs on something of the caller's."""
    return result if trace.outer and trace._touches_others([result], []) else result.detach()


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    argnum: int | Sequence[int] | None = None,
) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function `f` (and aux, with `has_aux`).

    See `value_and_grad`. `gb.grad(gb.grad(f))` is the second derivative.
    """
    both = value_and_grad(f, argnums, has_aux, argnum=argnum)

    def run(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`(f(*primals), pull)`, where `pull(cotangent)` is the tuple of vector-Jacobian products, one for each primal.

    f may return a nest of Tensors; the cotangent then has the same form. pull may be called more than once.
    """
    trace = _Trace("vjp", f, range(len(primals)), primals, {})
    outputs, rebuild = tree.flatten(trace.result)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        tape.has_gradient("vjp", outputs)
        seeds, _ = tree.flatten(tree.as_tensors(cotangent))
        if [s.shape for s in seeds] != [o.shape for o in outputs]:
            raise ShapeError(
                f"vjp: cotangent of shapes {[list(s.shape) for s in seeds]} for results of shapes "
                f"{[list(o.shape) for o in outputs]}; they must be equal"
            )
        return tuple(trace.rebuild(trace.pull(outputs, seeds)))

    return rebuild([_settled(o, trace) for o in outputs]), pull


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`(f(*primals), J v)`: the Jacobian times the tangents, by differentiating the (linear) vjp once more.

    https://j-towns.github.io/2017/06/12/A-new-trick.html
    """
    trace = _Trace("jvp", f, range(len(primals)), primals, {})
    outputs, rebuild = tree.flatten(trace.result)
    tape.has_gradient("jvp", outputs)
    directions, _ = tree.flatten(tree.as_tensors(list(tangents)))
    if [d.shape for d in directions] != [s.shape for s in trace.stems]:
        raise ShapeError(
            f"jvp: tangents of shapes {[list(d.shape) for d in directions]} for primals of shapes "
            f"{[list(s.shape) for s in trace.stems]}; they must be equal"
        )
    with tape.enable_grad():
        dummies = [zeros_like(o).requires_grad_() for o in outputs]
        pulled = trace.pull(outputs, dummies, create=True)
    create = trace.outer and trace._touches_others(outputs, directions)
    found = tape.walk(pulled, directions, targets=dummies, create_graph=create, retain_graph=True)
    products = [zeros_like(o) if p is None else p for o, p in zip(outputs, found)]
    return rebuild([_settled(o, trace) for o in outputs]), rebuild(products)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of the scalar function `f` at `primals` times `tangents`, one product for each primal."""
    _, products = jvp(grad(f, tuple(range(len(primals)))), primals, tangents)
    return products


def elementwise_grad(
    f: Callable[..., Any], argnum: int | Sequence[int] = 0, *, holomorphic: bool = False
) -> Callable[..., Any]:
    """A function that returns the derivative of each element of `f(x)` with respect to its own element of `x`.

    For an f that works element by element: it is the gradient of the sum, in the form of argument number `argnum`, or
    a tuple of such for several. Complex numbers and `holomorphic` are as in `jacobian`.
    """
    numbers = as_integers("elementwise_grad", "argnum", argnum)

    def run(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("elementwise_grad", f, numbers, args, kwargs)
        out = _one_tensor("elementwise_grad", f, trace.result)
        return _in_form(argnum, trace.rebuild(_derivatives(trace, out, ones_like(out), holomorphic)))

    return run


def jacobian(
    f: Callable[..., Any], argnum: int | Sequence[int] = 0, *, holomorphic: bool = False
) -> Callable[..., Any]:
    """A function that returns the derivatives of all elements of `f(x)` with respect to all of `x`.

    x is argument number `argnum`, a Tensor or a nest of them; the result has its form (or is a tuple of such for
    several), with Tensors of the shape of f(x) followed by that of x. By one vector-Jacobian product an element of
    f(x); by two where x is real and f(x) complex, for its real and its imaginary part. Of a real f(x) with respect to
    a complex x + iy it is df/dx - i df/dy, as `grad` has it. A complex function of complex numbers has one derivative
    only if it is holomorphic, which the caller has to promise: DTypeError without `holomorphic=True`.
    """
    numbers = as_integers("jacobian", "argnum", argnum)

    def run(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("jacobian", f, numbers, args, kwargs)
        out = _one_tensor("jacobian", f, trace.result)
        rows = [_derivatives(trace, out, _unit(out, i), holomorphic) for i in range(out.size)]
        if not rows:
            kinds = [dtypes.result_type(stem, out) if _turns(stem, out) else stem.dtype for stem in trace.stems]
            made = [filled(out.shape + x.shape, kind, 0, x.device) for x, kind in zip(trace.stems, kinds)]
            return _in_form(argnum, trace.rebuild(made))
        made = [
            movement.concat(*(row.reshape((1, *stem.shape)) for row in column), axis=0).reshape(out.shape + stem.shape)
            for stem, column in zip(trace.stems, zip(*rows))
        ]
        return _in_form(argnum, trace.rebuild(made))

    return run


def hessian(f: Callable[..., Any], argnum: int = 0, *, holomorphic: bool = False) -> Callable[..., Any]:
    """A function that returns the second derivatives of `f(x)`: the Jacobian of the Jacobian.

    x is argument number `argnum`, one Tensor; the result has the shape of f(x) followed twice by that of x. `hvp` is
    the product with a vector, without the matrix.
    """
    argnum = as_integer("hessian", "argnum", argnum)
    return jacobian(jacobian(f, argnum, holomorphic=holomorphic), argnum, holomorphic=holomorphic)


def _derivatives(trace: _Trace, out: Tensor, seed: Tensor, holomorphic: bool) -> list[Tensor]:
    """What `seed` (of ones and zeros) pulls back to each stem: with respect to real ones both parts of a complex `out`.

    With J = A + iB, the pull of a real x is Re(seed J): A of 1, and B of -i.
    """
    if out.dtype.kind == "c" and not holomorphic and any(stem.dtype.kind == "c" for stem in trace.stems):
        raise DTypeError(
            f"{trace.caller}: a complex result of complex arguments has one derivative only where the function is "
            "holomorphic; say holomorphic=True, or take its parts (gb.real, gb.imag)"
        )
    found = trace.pull([out], [seed])
    if not any(_turns(stem, out) for stem in trace.stems):
        return found
    turned = trace.pull([out], [seed * -1j])
    return [a + 1j * b if _turns(stem, out) else a for stem, a, b in zip(trace.stems, found, turned)]


def _turns(stem: Tensor, out: Tensor) -> bool:
    return out.dtype.kind == "c" and stem.dtype.kind != "c"


def _unit(like: Tensor, i: int) -> Tensor:
    """Zeros of the shape of a Tensor, with 1 as element i of all."""
    host = np.zeros(like.shape, like.dtype)
    host.flat[i] = 1
    return tensor(host, device=like.device)


def _one_tensor(caller: str, f: Any, result: Any) -> Tensor:
    if not isinstance(result, Tensor):
        raise DTypeError(f"{caller}: {_name(f)} returned a {type(result).__name__}; it must return one Tensor")
    return result


# ---------------------------------------------------------------------------------------------------------------------
# checkpoint


class _Recompute(Primitive):
    """One node for a whole function: it saves the inputs only, and runs the function again on the way back.

    The inputs are the arguments (the first `n_arguments`) and the leaves that the function closes over.
    """

    def pull(self, node: tape.Node, g: Tensor | list[Any], create_graph: bool) -> list[Tensor | None]:
        inputs = [tape._intact(node, *pair) for pair in node.saved]  # type: ignore[union-attr]
        seeds = list(tape._dense(g, node)) if isinstance(g, list) else [g]
        n = node.attrs["n_arguments"]
        with tape.enable_grad():
            stems = [x._stem() if edge is not None else x for x, edge in zip(inputs[:n], node.edges)]
            outputs = node.attrs["run"](stems)
        targets = [s for s, edge in zip([*stems, *inputs[n:]], node.edges) if edge is not None]
        pairs = [(o, s) for o, s in zip(outputs, seeds) if o.requires_grad]
        found = iter(
            tape.walk([o for o, _ in pairs], [s for _, s in pairs], targets=targets, create_graph=create_graph)
        )
        return [next(found) if edge is not None else None for edge in node.edges]


def checkpoint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`f(*args, **kwargs)`, keeping none of its intermediate values: the backward pass computes them again.

    Gradients reach the arguments and the leaves that f closes over (a module's parameters). Random numbers drawn
    inside are drawn again from the same place. Returns what f returns: a Tensor or a nest of Tensors. Raises TapeError
    when f closes over a computed Tensor, which must be an argument.
    """
    if not modes.grad:
        return f(*args, **kwargs)
    arguments, rebuild = tree.flatten(args)
    generator = modes.generator
    state = generator.get_state() if generator is not None else None
    stems = [x._stem() if x.requires_grad else x for x in arguments]
    start = next(tape.sequence)
    outputs, form = tree.flatten(f(*rebuild(stems), **kwargs))
    if not outputs:
        raise DTypeError(f"checkpoint: {_name(f)} returned no Tensor; return at least one")
    if generator is None and modes.generator is not None:  # f drew this thread's first numbers
        generator, state = modes.generator, (modes.generator.key, 0)

    own = {id(s.node) for s in stems}
    closed: dict[int, Tensor] = {}
    for node in tape.nodes(outputs):
        for edge in node.edges if node.sequence > start else ():
            if isinstance(edge, Tensor):
                closed[id(edge)] = edge
            elif edge is not None and edge.sequence < start and id(edge) not in own:
                raise TapeError(
                    f"checkpoint: {_name(f)} closes over a computed Tensor (from {edge.primitive.name!r}); "
                    "pass it as an argument"
                )

    def run(values: list[Tensor]) -> list[Tensor]:
        if state is None:
            return tree.flatten(f(*rebuild(values), **kwargs))[0]
        others, now = modes.generator, generator.get_state()  # backward may run in another thread
        modes.generator = generator
        generator.set_state(state)
        try:
            return tree.flatten(f(*rebuild(values), **kwargs))[0]
        finally:
            generator.set_state(now)
            modes.generator = others

    inputs = (*arguments, *closed.values())
    mask = sum(1 << i for i, x in enumerate(inputs) if x.requires_grad)
    if not mask:
        return form(outputs)
    primitive = _Recompute("checkpoint", " ".join(f"x{i}" for i in range(len(inputs))), *[_never] * len(inputs))
    primitive.saves[mask] = (tuple(range(len(inputs))), False, ())
    attrs = {"run": run, "n_arguments": len(arguments)}
    results = tuple(o.array for o in outputs)
    return form(list(tape._record_many(primitive, inputs, attrs, mask, outputs[0].device, results)))


def _never(g: Any) -> Any:
    raise AssertionError("checkpoint pulls gradients itself")


# ---------------------------------------------------------------------------------------------------------------------
# the user's own primitives


def primitive(
    forward: Callable[..., Any],
    vjp: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None = None,
    name: str | None = None,
) -> Primitive:
    """A differentiable operation of your own, around any function over raw arrays.

    forward: takes the raw arrays of the Tensors (NumPy's on the CPU and emulated devices, CuPy's on CUDA) and any
        keyword attributes, and returns a new array or a tuple of them. It must not write to its inputs.
    vjp: one rule for each input, or None where there is no gradient; a single function for a single input. A rule says
        by its parameter names what it needs: `g`, the gradient of the result (a tuple for several results); `out`, the
        result; the inputs and attributes by their names in `forward`; `x_spec`, an input's shape and dtype. It is
        written with gb operations, so that it can be differentiated again.

        softsign = gb.primitive(lambda x: x / (1 + abs(x)), vjp=lambda g, x: g / (1 + abs(x)) ** 2)
    """
    import inspect

    parameters = inspect.signature(forward).parameters.values()
    inputs = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    rules = vjp if isinstance(vjp, (tuple, list)) else (vjp,) if vjp is not None else ()
    label = name or _name(forward)
    if not inputs:
        raise DTypeError(f"primitive {label!r}: the forward function takes no arrays; give it at least one input")
    if any(rule is not None and not hasattr(rule, "__code__") for rule in rules):
        raise DTypeError(f"primitive {label!r}: a rule must be a Python function, whose parameters say what it needs")
    if len(rules) not in (0, len(inputs)):
        raise DTypeError(
            f"primitive {label!r}: {len(rules)} rules for the inputs {', '.join(inputs)}; give one for each, or None"
        )
    from ..ops.primitive import parameter_names

    attributes = {p.name for p in parameters} - set(inputs)
    known = {"g", "out", "out_spec", *inputs, *(f"{i}_spec" for i in inputs), *attributes}
    for rule in rules:
        for wanted in parameter_names(rule):
            if wanted not in known:
                raise DTypeError(
                    f"primitive {label!r}: a rule asks for {wanted!r}; it may name {', '.join(sorted(known))}"
                )

    def run(*arrays: Any, **attrs: Any) -> Any:
        if len(arrays) != len(inputs):
            raise TypeError(f"takes {len(inputs)} inputs ({', '.join(inputs)}), not {len(arrays)}; name the attributes")
        result = forward(*arrays, **attrs)
        for out in result if isinstance(result, tuple) and result else (result,):
            if not hasattr(out, "dtype") or not hasattr(out, "shape"):
                raise TypeError(
                    f"the forward function returned a {type(out).__name__}; return an array or a tuple of them"
                )
            if any(out is array for array in arrays):
                raise TypeError("the forward function returned its own input; return a copy")
        return result

    run.__name__ = label  # for listings and profiles
    made = Primitive(label, " ".join(inputs), *rules, promotes="same" if len(inputs) > 1 else "", forward=run)
    made.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return made


# ---------------------------------------------------------------------------------------------------------------------
# checking


def _wide(dtype: np.dtype) -> Any:
    """The dtype that gradcheck computes in."""
    return np.complex128 if dtype.kind == "c" else np.float64 if dtypes.is_floating(dtype) else dtype


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    table: bool = False,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `f` with central differences, (f(x + eps) - f(x - eps)) / (2 eps), in float64.

    f takes the Tensors in `inputs` (one, or a tuple) and returns a Tensor or a nest of them, of any shapes: its
    results are summed with fixed random weights, the real part of that where they are complex. Complex inputs are
    moved along both axes. Returns True, or raises TapeError naming the worst element. With
    `table=True` prints index, analytic, numeric and relative error of every element.
    """
    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    values = [asarray(x) for x in given]
    base = [t.numpy().astype(_wide(t.dtype)) for t in values]
    places = [t.device for t in values]
    floats = [i for i, t in enumerate(values) if dtypes.is_inexact(t.dtype)]
    if not floats:
        raise DTypeError("gradcheck: no input is of a float or complex dtype; there is nothing to differentiate")
    weights: list[np.ndarray] = []

    def loss(*args: Any) -> Tensor:
        outputs = [o for o in tree.flatten(f(*args))[0] if dtypes.is_inexact(o.dtype)]
        if not weights:
            random = np.random.default_rng(seed)
            for o in outputs:
                weight = random.uniform(0.5, 1.5, o.shape)
                weights.append(weight + 1j * random.uniform(0.5, 1.5, o.shape) if o.dtype.kind == "c" else weight)
        total = None
        for output, weight in zip(outputs, weights):
            part = (output * tensor(weight, dtype=output.dtype, device=output.device)).sum()
            part = elementwise.real(part) if output.dtype.kind == "c" else part
            total = part if total is None else total + part
        if total is None:
            raise DTypeError("gradcheck: the function returned no float or complex Tensor; return at least one")
        return total

    args = [tensor(b, device=p) for b, p in zip(base, places)]
    gradients = grad(loss, tuple(floats))(*args)
    worst: tuple[str, complex, complex, float] = ("", 0.0, 0.0, 0.0)
    rows = []

    def slope(i: int, index: tuple[int, ...], step: complex) -> float:
        sides = []
        for sign in (1.0, -1.0):
            moved = base[i].copy()
            moved[index] += sign * step
            stepped = [tensor(moved, device=places[i]) if j == i else a for j, a in enumerate(args)]
            sides.append(loss(*stepped).item())
        return (sides[0] - sides[1]) / (2 * eps)

    with tape.no_grad():
        for i, gradient in zip(floats, gradients):
            analytic = gradient.numpy()
            for index in np.ndindex(base[i].shape):
                numeric: complex = slope(i, index, eps)
                if analytic.dtype.kind == "c":
                    numeric -= 1j * slope(i, index, 1j * eps)
                found = analytic[index].item()
                error = abs(found - numeric) / max(abs(found), abs(numeric), 1e-12)
                excess = abs(found - numeric) / (atol + rtol * abs(numeric))
                excess = excess if excess == excess else float("inf")  # a NaN on either side never passes
                label = f"input {i} {list(index)}"
                rows.append((label, found, numeric, error))
                if excess > max(worst[3], 1.0):
                    worst = (label, found, numeric, excess)
    if table:
        print(f"{'index':<20} {'analytic':>16} {'numeric':>16} {'relative error':>15}")
        for label, found, numeric, error in rows:
            print(f"{label:<20} {found:>16.9g} {numeric:>16.9g} {error:>15.2e}")
    if worst[3] > 1.0:
        raise TapeError(
            f"gradcheck: {_name(f)} at {worst[0]}: gradient {worst[1]:.9g}, central difference {worst[2]:.9g}; "
            "the rule is wrong, or the function is not smooth there"
        )
    return True
