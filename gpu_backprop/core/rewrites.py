"""Recorded calls that are replaced by fewer: the table REWRITES.

Each row looks at the calls of a Program before memory is planned, and gives the calls that do the same in less time.
An exact one keeps every bit on the devices that it names; `gb.capture(rewrite="exact")` leaves the others out.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from ..backends import table
from ..backends.launching.chain import MAX_INPUTS, Chain
from . import dtypes
from .calls import Call, Slot, Value, is_array, span_of


class Rewrite(NamedTuple):
    """apply: calls, and how often each Value is mentioned -> calls. exact: kinds of devices on which bits are kept."""

    name: str
    exact: tuple[str, ...]
    apply: Callable[[list[Call], Counter[Value]], list[Call]]


def rewrite(calls: list[Call], results: Iterable[Any], level: str) -> list[Call]:
    """The calls after all rewrites that the level allows; Values in `results` are read after the last call."""
    kinds = {call.device.name.partition(":")[0] for call in calls}
    for row in REWRITES:
        if level == "all" or (level == "exact" and kinds <= {*row.exact}):
            calls = row.apply(calls, _uses(calls, results))
    return calls


def _uses(calls: list[Call], results: Iterable[Any]) -> Counter[Value]:
    """In how many calls (and results) a Value is mentioned; one that somebody kept, in one more."""
    uses = Counter(value for call in calls for value in {a.value for a in call.arrays() if isinstance(a, Slot)})
    uses.update(ref.value for ref in results if isinstance(ref, Slot))
    uses.update(value for value in list(uses) if value.position < 0 and value.owner() is not None)
    return uses


def _made_by(calls: list[Call]) -> dict[Value, int]:
    """Which call makes a Value."""
    return {r.value: i for i, call in enumerate(calls) for r in call.results if isinstance(r, Slot)}


def _changed(calls: list[Call], arrays: Iterable[Any]) -> bool:
    """Does one of the calls write into one of the arrays?"""
    arrays = list(arrays)
    return any(_overlap(written, array) for call in calls for written in call.writes for array in arrays)


def _overlap(a: Any, b: Any) -> bool:
    if isinstance(a, Slot) or isinstance(b, Slot):
        return isinstance(a, Slot) and isinstance(b, Slot) and a.value is b.value
    (low, high), (start, end) = span_of(a), span_of(b)
    return start < high and low < end


# ---------------------------------------------------------------------------------------------------------------------
# products and what follows them


def _transposed(ref: Any) -> Any:
    """The transposed view of a matrix, if that lies in C order; else None."""
    if isinstance(ref, Slot):
        flipped = ref._replace(shape=ref.shape[::-1], strides=ref.strides[::-1])
        return flipped if flipped.is_contiguous else None
    return ref.T if ref.T.flags.c_contiguous else None


def _products_with_bias(calls: list[Call], uses: Counter[Value], half: bool = False) -> list[Call]:
    """add(matmul(x, weight^T), bias) as linear(x, weight, bias), which rounds 16-bit floats once, not twice."""
    made = _made_by(calls)
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        if call.name != "add" or not call.takes_out or dtypes.is_half(call.results[0].dtype) is not half:
            continue
        for product, bias in (call.args, call.args[::-1]):
            j = made.get(product.value, -1) if isinstance(product, Slot) else -1
            if j < 0 or calls[j].name != "matmul" or uses[product.value] != 2 or not _array(bias):
                continue
            x, y = calls[j].args
            weight = _transposed(y) if len(y.shape) == 2 else None
            fits = (
                weight is not None
                and len(x.shape) == 2
                and bias.shape == (y.shape[1],)
                and product == calls[j].results[0]
                and x.dtype == y.dtype == bias.dtype == call.results[0].dtype
                and not _changed(calls[j + 1 : i], (x, y))
            )
            if fits:
                dropped.add(j)
                calls[i] = replace(call, name="linear", function=_function(call, "linear"), args=(x, weight, bias))
                break
    return [call for j, call in enumerate(calls) if j not in dropped]


def _products_with_relu(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """relu(linear(x, weight, bias)) as linear_relu(x, weight, bias)."""
    made = _made_by(calls)
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        (x,) = call.args if call.name == "relu" else (None,)
        j = made.get(x.value, -1) if isinstance(x, Slot) else -1
        if j < 0 or calls[j].name != "linear" or uses[x.value] != 2 or x != calls[j].results[0] or not call.takes_out:
            continue
        if not _changed(calls[j + 1 : i], (a for a in calls[j].args if a is not None)):
            dropped.add(j)
            calls[i] = replace(call, name="linear_relu", function=_function(call, "linear_relu"), args=calls[j].args)
    return [call for j, call in enumerate(calls) if j not in dropped]


def _gradients_with_bias(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """d = relu_backward(g, y) and sum(d, axis 0) as relu_bias_backward(g, y)."""
    made = _made_by(calls)
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        if call.name != "sum" or not isinstance(call.args[0], Slot) or len(call.args[0].shape) != 2:
            continue
        d = call.args[0]
        j = made.get(d.value, -1)
        plain = call.attrs.get("axis") == (0,) and not call.attrs.get("keepdims")
        if j < 0 or calls[j].name != "relu_backward" or not plain or d != calls[j].results[0] or j in dropped:
            continue
        between = [*calls[j].args, *(a for c in calls[j + 1 : i] for a in c.arrays())]
        if not _changed(calls[j + 1 : i], [d]) and not any(_overlap(call.results[0], a) for a in between):
            name = "relu_bias_backward"
            calls[j] = replace(
                calls[j], name=name, function=_function(call, name), results=(d, *call.results), takes_out=True,
                writes=call.writes,
            )  # fmt: skip
            dropped.add(i)
    return [call for j, call in enumerate(calls) if j not in dropped]


# ---------------------------------------------------------------------------------------------------------------------
# chains


def _chains(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """Elementwise calls whose result only the next one reads, as one pass over memory."""
    made = _made_by(calls)
    links: dict[int, tuple[Chain, tuple[Any, ...]]] = {}
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        own = _link(call)
        if own is None:
            continue
        steps, inputs = own
        chain, operands = Chain(len(inputs), steps), inputs
        for operand in inputs:
            j = made.get(operand.value, -1) if isinstance(operand, Slot) else -1
            fits = (
                j in links
                and j not in dropped
                and uses[operand.value] == 2
                and operand == calls[j].results[0]
                and operand.shape == call.results[0].shape
                and not _changed(calls[j + 1 : i], (a for a in links[j][1] if _array(a)))
            )
            joined = _join(links[j], (chain, operands), operand) if fits else None
            if joined is not None:
                chain, operands = joined
                dropped.add(j)
        links[i] = chain, operands
    left = []
    for i, call in enumerate(calls):
        if i in dropped:
            continue
        if i in links and len(links[i][0].steps) > 1:
            chain, operands = links[i]
            call = replace(call, name="chain", function=_function(call, "chain"), args=operands, attrs={"chain": chain})
        left.append(call)
    return left


def _link(call: Call) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """A call as a chain of one step and its operands, if kernels have it."""
    name = f"{call.name}_{call.attrs['approximate']}" if call.name in table.VARIANTS else call.name
    row = table.ELEMENTWISE.get(name)
    if row is None or not call.takes_out or len(call.args) != row.arrays or not isinstance(call.results[0], Slot):
        return None
    if set(call.attrs) - {"approximate"} != set(row.numbers):
        return None
    operands = (*call.args, *(call.attrs[number] for number in row.numbers))
    floats = {a.dtype for a in operands if _array(a) and a.dtype != bool}
    kinds_fit = all(_array(a) or isinstance(a, (int, float)) for a in operands)
    if len(floats) != 1 or not dtypes.is_floating(*floats) or not kinds_fit:
        return None
    unique = tuple(dict.fromkeys(_Key(a) for a in operands))
    if len(unique) > MAX_INPUTS:
        return None
    places = tuple(unique.index(_Key(a)) for a in operands)
    return ((name, *places),), tuple(key.ref for key in unique)


def _join(
    first: tuple[Chain, tuple[Any, ...]], second: tuple[Chain, tuple[Any, ...]], between: Slot
) -> tuple[Chain, tuple[Any, ...]] | None:
    """The second chain with the first in the place of its operand `between`; None if that takes too many inputs."""
    keys = [_Key(a) for a in first[1]]
    keys += [k for k in map(_Key, second[1]) if k not in keys and k != _Key(between)]
    n, n_first = len(keys), len(first[0].steps)
    if n > MAX_INPUTS:
        return None
    steps: list[tuple[Any, ...]] = []
    for name, *places in first[0].steps:
        moved = (p if p < first[0].inputs else p - first[0].inputs + n for p in places)
        steps.append((name, *moved))
    for name, *places in second[0].steps:
        moved_places = []
        for p in places:
            if p >= second[0].inputs:
                moved_places.append(p - second[0].inputs + n + n_first)
            elif _Key(second[1][p]) == _Key(between):
                moved_places.append(n + n_first - 1)
            else:
                moved_places.append(keys.index(_Key(second[1][p])))
        steps.append((name, *moved_places))
    return Chain(n, tuple(steps)), tuple(key.ref for key in keys)


class _Key:
    """An operand that can be compared: Slots by what they are, arrays outside by their memory, numbers by value."""

    def __init__(self, ref: Any):
        self.ref = ref
        if isinstance(ref, Slot):
            self.key: Any = (id(ref.value), *ref[1:])
        elif is_array(ref):
            self.key = (*span_of(ref), ref.shape, ref.strides, ref.dtype)
        else:
            self.key = (type(ref), repr(ref))  # -0.0 is not 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _array(ref: Any) -> bool:
    return isinstance(ref, Slot) or is_array(ref)


def _function(call: Call, name: str) -> Callable[..., Any]:
    """The device's function of another name, of the table that the call's own is from."""
    half = call.results[0] is not None and call.results[0].dtype.itemsize == 2
    plain = call.device.plain  # not what a profile may have put in its place
    return (plain.functions if half else plain.native)[name]


REWRITES = (
    # on CUDA cuBLASLt may choose another algorithm for a product with an epilogue
    Rewrite("product with bias", ("cpu", "emulated"), _products_with_bias),
    Rewrite("product with bias, 16 bits", (), functools.partial(_products_with_bias, half=True)),
    Rewrite("product with relu", ("cpu", "emulated"), _products_with_relu),
    Rewrite("gradient with bias", ("cpu",), _gradients_with_bias),
    Rewrite("elementwise chain", ("cpu", "emulated", "cuda"), _chains),
)
