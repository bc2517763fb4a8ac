"""What a primitive is: a name, the inputs it takes, and for each input the rule that pulls a gradient back.

A rule says by its parameter names what it needs, and only that is saved on the tape:

    g            the gradient of the output
    out          the output itself
    x, y, ...    an input, by the name the primitive gives it
    x_spec       the shape and dtype of an input that need not be saved
    lse, ...     a residual: something that the forward function returned beside its output
    axis, ...    an attribute of the call

so `multiply = Primitive("multiply", "x y", lambda g, y: g * y, lambda g, x: g * x)` saves y only when x needs a
gradient. Rules are written with differentiable operations, so gradients have gradients. A rule may leave broadcasting
alone: the tape sums a gradient down to the shape of its input, and casts it to its dtype, in one place.

Complex numbers follow JAX's convention (and HIPS autograd's): the gradient g of z = x + iy is what changes a real loss
by dL = Re(g dz), that is g = dL/dx - i dL/dy. So the rule of a holomorphic function reads as it does for real numbers,
g * f'(z); another one adds the conjugate of g * df/d(conj z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

Rule = Callable[..., Any]
PRIMITIVES: dict[str, Primitive] = {}  # by the name of the backend's function


class Spec(NamedTuple):
    """All that is left of an input that was not saved."""

    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True, slots=True)
class Tail:
    """A rule whose last step is one primitive, so that its result can be written where the gradient is to go.

    `arguments` has a rule's parameters and gives the inputs of `primitive`. The result has exactly the input's shape.
    """

    primitive: Primitive
    arguments: Rule
    attrs: dict[str, Any]

    def __call__(self, *needed: Any) -> Any:
        return self.primitive(*self.arguments(*needed), **self.attrs)


def tail(primitive: Primitive, arguments: Rule, **attrs: Any) -> Tail:
    return Tail(primitive, arguments, attrs)


class Primitive:
    """An operation that the engine records as one node.

    inputs: names of the inputs, "x y". "x *arrays": any number more, without gradients, which a rule names as a list.
        "*xs": any number, whose one rule takes `i`, the input's position, and `specs`, the specs of all.
    rules: for each input a rule, or None where it has no gradient.
    residuals: names of what the forward function returns beside the output, kept for the rules only.
    promotes: "same" brings the inputs to one dtype, "float" to one float or complex dtype, "real" to one float dtype,
        "" leaves them as they are; from input number `promotes_from` on.
    gives: how the forward function gives its result: "out" (into a given buffer too; into a tuple of them where it has
        several results, or residuals), "view", "alloc", or "counted": new memory, as much as the values ask for.
    before: a rule whose result takes the place of `g` in the others: the outer one of two functions fused into one, or
        what the others share. It may name `mask`: which inputs need a gradient, a bit for each.
    writes: names of inputs that the forward function writes in place; the tape counts that as a new version.
    unfused: for a fused primitive, the same value as a composition of other primitives; its gradient is taken instead.
    forward: the function over raw arrays, on every backend; None: the backend's function of this name.
    """

    __slots__ = (
        *("before", "defaults", "forward", "gives", "input_names", "name", "needs", "no_gradient", "promotes"),
        *("promotes_from", "pulls", "residuals", "rest", "rules", "saves", "spec_names", "takes_floats", "unfused"),
        *("variadic", "writes"),
    )

    def __init__(
        self,
        name: str,
        inputs: str,
        *rules: Rule | Tail | None,
        residuals: str = "",
        promotes: str = "",
        promotes_from: int = 0,
        gives: str = "alloc",
        before: Rule | None = None,
        writes: str = "",
        unfused: Rule | None = None,
        forward: Rule | None = None,
    ):
        self.name = name
        self.variadic = inputs.startswith("*")
        fixed, _, self.rest = inputs.partition("*")
        self.input_names = tuple(fixed.split())
        self.rules = rules
        self.residuals = tuple(residuals.split())
        self.promotes = promotes
        self.takes_floats = promotes in ("float", "real")
        self.promotes_from = promotes_from
        self.gives = gives
        self.before = None if before is None else (before, _picker(parameter_names(before)))
        self.writes = tuple(self.input_names.index(name) for name in writes.split())
        self.unfused = unfused
        self.forward = forward
        self.defaults: dict[str, Any] = {}  # attributes that a call may leave out (of the user's primitives)
        self.no_gradient = unfused is None and not any(rules)
        self.needs = tuple(parameter_names(rule) for rule in rules)
        # (input, rule, its needs out of a dict, does it end in one primitive?): what the walk goes through
        self.pulls = [
            (i, rule, _picker(needs), isinstance(rule, Tail))
            for i, (rule, needs) in enumerate(zip(rules, self.needs))
            if rule is not None
        ]
        asked = {name for names in self.needs for name in names}
        self.spec_names = [(i, f"{n}_spec") for i, n in enumerate(self.input_names) if f"{n}_spec" in asked]
        self.saves: dict[int, tuple[tuple[int, ...], bool, tuple[int, ...]]] = {}
        if forward is None:
            PRIMITIVES.setdefault(name, self)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        # core/tape.py puts its apply() here: ops know what can be computed, not how it is recorded.
        raise RuntimeError("the engine is not loaded: import gpu_backprop")

    def plan(self, mask: int) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
        """What to save when the inputs of the bits in `mask` need a gradient: inputs, the output?, residuals."""
        found = self.saves.get(mask)
        if found is None:
            if self.unfused is not None:
                found = (tuple(range(len(self.input_names))), False, ())
            else:
                needed = {name for i, names in enumerate(self.needs) if mask >> i & 1 for name in names}
                if self.before is not None:
                    needed.update(parameter_names(self.before[0]))
                found = (
                    tuple(i for i, name in enumerate(self.input_names) if name in needed),
                    "out" in needed,
                    tuple(i for i, name in enumerate(self.residuals) if name in needed),
                )
            self.saves[mask] = found
        return found


def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """A function that picks the values of `names` out of a dict."""
    if len(names) == 1:
        (name,) = names
        return lambda values: (values[name],)
    return itemgetter(*names)


def parameter_names(rule: Rule | Tail | None) -> tuple[str, ...]:
    if rule is None:
        return ()
    code = (rule.arguments if isinstance(rule, Tail) else rule).__code__  # type: ignore[attr-defined]
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
