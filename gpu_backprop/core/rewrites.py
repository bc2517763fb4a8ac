"""Recorded calls that are replaced by fewer: the table REWRITES.

Each row looks at the calls of a Program before memory is planned, and gives the calls that do the same in less time.
An exact one keeps every bit on the devices that it names; `gb.capture(rewrite="exact")` leaves the others out. What
changes bits keeps a bound: a sum of n terms, added up in another order and, in 16-bit floats, rounded once where it was
twice, moves by at most n epsilons of the sum of the terms' magnitudes, and an activation of it as its input does.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..backends import table
from ..backends.gemm_plan import mask_shape, value_shape
from ..backends.launching.chain import MAX_INPUTS, Chain
from . import dtypes
from .calls import Call, Slot, Value, address_of, is_array, span_of
from .devices import Device


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
    flipped = _flipped(ref)
    contiguous = flipped.is_contiguous if isinstance(ref, Slot) else flipped.flags.c_contiguous
    return flipped if contiguous else None


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
        if not _sums_rows(call) or not isinstance(call.args[0], Slot):
            continue
        d = call.args[0]
        j = made.get(d.value, -1)
        if j < 0 or calls[j].name != "relu_backward" or d != _rows(calls[j].results[0]) or j in dropped:
            continue
        if _is_free(calls, j, i):
            name = "relu_bias_backward"
            calls[j] = replace(
                calls[j], name=name, function=_function(call, name), results=(*calls[j].results, *call.results),
                takes_out=True, writes=call.writes,
            )  # fmt: skip
            dropped.add(i)
    return [call for j, call in enumerate(calls) if j not in dropped]


def _sums_rows(call: Call) -> bool:
    """Is it the sum of a matrix over its rows?"""
    plain = call.name == "sum" and call.attrs.get("axis") == (0,) and not call.attrs.get("keepdims")
    return plain and len(call.args[0].shape) == 2


def _is_free(calls: list[Call], j: int, i: int) -> bool:
    """Can call i be made along with the earlier call j? Those between give it nothing, and do not touch its result."""
    between = calls[j + 1 : i]
    given = [r for c in between for r in (*c.results, *c.writes) if r is not None]
    touched = [*calls[j].args, *(a for c in between for a in c.arrays())]
    return not any(_overlap(g, a) for g in given for a in calls[i].args if _array(a)) and not any(
        _overlap(result, a) for result in calls[i].results for a in touched if _array(a)
    )


# ---------------------------------------------------------------------------------------------------------------------
# products whose epilogue does what follows them, where the device has one that fits (Backend.fuses)


def _relu_in_products(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """y = linear_relu(...), relu_bias_backward(g @ weight, y) as linear_relu_mask(...), matmul_relu_backward(...)."""
    made = _made_by(calls)
    dropped: set[int] = set()
    pairs: dict[int, tuple[_Masked, Slot]] = {}  # by the first call, which writes the mask
    for i, call in enumerate(calls):
        j = _product_before(calls, made, uses, i) if call.name == "relu_bias_backward" and call.takes_out else None
        if j is None:
            continue
        (g, weight), (dx, db), y = calls[j].args, call.results, call.args[1]
        k = made.get(y.value, -1) if isinstance(y, Slot) else -1
        if k < 0 or calls[k].name not in ("linear_relu", "linear_relu_mask") or _changed(calls[k + 1 : i], [y]):
            continue
        forward, bias = calls[k], calls[k].args[2]
        if y != forward.results[0] or bias is None or not forward.takes_out:
            continue
        shape = mask_shape(math.prod(y.shape[:-1]), y.shape[-1])
        mask = pairs[k][1] if k in pairs else _memory(shape, np.dtype(np.uint8), call.device)
        if _layer_fuses(forward, y, "bias_relu_mask", mask) and _fuses(
            call, _rows(g), weight, _rows(dx), "relu_backward_bias", bias=db, aux=mask
        ):
            pair, _ = pairs.setdefault(k, (_Masked(call), mask))
            calls[k] = replace(forward, name="linear_relu_mask", function=pair.forward, results=(y, mask))
            calls[i] = replace(call, name="matmul_relu_backward", function=pair.backward, args=(g, weight, y, mask))
            dropped.add(j)
    return [call for j, call in enumerate(calls) if j not in dropped]


class _Masked:
    """linear_relu_mask and matmul_relu_backward of one layer: if the first gave no mask, the second does without."""

    def __init__(self, call: Call):
        self.product, self.gradients = (_function(call, n) for n in ("linear_relu_mask", "matmul_relu_backward"))
        self.mask: Any = None

    def forward(self, *args: Any, out: Any) -> None:
        _, self.mask = self.product(*args, out=out)

    def backward(self, g: Any, weight: Any, y: Any, _: Any, out: Any) -> None:
        self.gradients(g, weight, y, self.mask, out=out)


def _gelu_in_products(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """gelu(linear(...)), and its gradient of g @ weight with its sum, as linear_gelu_value and matmul_gelu_backward."""
    made = _made_by(calls)
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        j = _product_before(calls, made, uses, i) if _is_tanh(call, "gelu_backward") else None
        x = call.args[1] if j is not None else None
        k = made.get(x.value, -1) if isinstance(x, Slot) else -1
        if j is None or k < 0 or calls[k].name != "linear" or x != calls[k].results[0] or uses[x.value] != 3:
            continue
        d, inner = call.results[0], calls[k]
        m = next((n for n in range(k + 1, i) if _is_tanh(calls[n], "gelu") and _is(calls[n].args[0], x)), None)
        s = next((n for n in range(i, len(calls)) if _sums_rows(calls[n]) and _is(calls[n].args[0], _rows(d))), None)
        if m is None or s is None or inner.args[2] is None or _changed(calls[k + 1 : m], filter(_array, inner.args)):
            continue
        if not calls[s].takes_out or not _is_free(calls, i, s):
            continue
        (g, weight), y, db, rows = calls[j].args, calls[m].results[0], calls[s].results[0], math.prod(x.shape[:-1])
        kept = _memory(value_shape(rows, x.shape[-1]), x.dtype, call.device)
        value = kept._replace(shape=(rows, x.shape[-1]))
        forward = replace(calls[m], name="linear_gelu_value", args=inner.args, attrs={}, results=(y, kept))
        if _layer_fuses(forward, y, "bias_gelu_value", kept) and _fuses(
            call, _rows(g), weight, _rows(d), "gelu_backward_bias", bias=db, aux=value
        ):
            calls[m] = replace(forward, function=_function(forward, forward.name))
            name = "matmul_gelu_backward"
            calls[i] = replace(
                call, name=name, function=_function(call, name), args=(g, weight, value), attrs={}, results=(d, db),
                writes=(*call.writes, *calls[s].writes),
            )  # fmt: skip
            dropped |= {j, k, s}
    return [call for j, call in enumerate(calls) if j not in dropped]


def _added_weight_gradients(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """total += linear_weight_gradient(g, x), outside, as a product that adds."""
    made = _made_by(calls)
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        if call.name != "add" or not call.takes_out or not is_array(call.results[0]):
            continue
        total = call.results[0]
        for kept, dw in (call.args, call.args[::-1]):
            j = made.get(dw.value, -1) if isinstance(dw, Slot) else -1
            if j < 0 or calls[j].name != "linear_weight_gradient" or uses[dw.value] != 2 or dw != calls[j].results[0]:
                continue
            g, x = calls[j].args
            if (
                _is(kept, total)
                and not _changed(calls[j + 1 : i], (g, x))
                and not any(_overlap(total, a) for a in (g, x))
                and _weights_fuse(call, g, x, total, "none", accumulate=True)
            ):
                name = "add_linear_weight_gradient"
                calls[i] = replace(call, name=name, function=_function(call, name), args=(g, x))
                dropped.add(j)
                break
    return [call for j, call in enumerate(calls) if j not in dropped]


def _weight_gradients_with_bias(calls: list[Call], uses: Counter[Value]) -> list[Call]:
    """linear_weight_gradient(g, x) and sum(g, axis 0) as linear_gradients(g, x)."""
    dropped: set[int] = set()
    sums = {_Key(call.args[0]): i for i, call in enumerate(calls) if _sums_rows(call) and call.takes_out}
    for j, call in enumerate(calls):
        if call.name != "linear_weight_gradient" or not call.takes_out:
            continue
        (g, x), dw = call.args, call.results[0]
        key = _Key(_rows(g))
        i = sums.get(key, -1)
        if i < 0 or not _is_free(calls, *sorted((i, j))):
            continue
        db = calls[i].results[0]
        if _weights_fuse(call, g, x, dw, "sum_first", bias=db):
            name = "linear_gradients"
            calls[min(i, j)] = replace(
                call, name=name, function=_function(call, name), results=(dw, db),
                writes=(*call.writes, *calls[i].writes),
            )  # fmt: skip
            dropped.add(max(i, j))
            del sums[key]
    return [call for j, call in enumerate(calls) if j not in dropped]


def _product_before(calls: list[Call], made: dict[Value, int], uses: Counter[Value], i: int) -> int | None:
    """The call g @ weight whose result only call i reads, as its first operand; it could be made as late as call i."""
    p = calls[i].args[0]
    j = made.get(p.value, -1) if isinstance(p, Slot) else -1
    fits = (
        j >= 0
        and calls[j].name == "matmul"
        and uses[p.value] == 2
        and p == calls[j].results[0]
        and len(calls[j].args[1].shape) == 2
        and not _changed(calls[j + 1 : i], calls[j].args)
    )
    return j if fits else None


def _is_tanh(call: Call, name: str) -> bool:
    """Is it GELU, or its gradient, in the form that cuBLASLt has?"""
    return call.name == name and call.attrs.get("approximate") == "tanh" and call.takes_out


def _layer_fuses(call: Call, y: Any, epilogue: str, aux: Slot) -> bool:
    x, weight, bias = call.args
    return _fuses(call, x, _flipped(weight), y, epilogue, bias=bias, aux=aux)


def _weights_fuse(call: Call, g: Any, x: Any, dw: Any, epilogue: str, **more: Any) -> bool:
    return _fuses(call, _flipped(_rows(g)), _rows(x), dw, epilogue, **more)


def _fuses(call: Call, first: Any, second: Any, out: Any, epilogue: str, **more: Any) -> bool:
    """Would the device compute first @ second with an epilogue as one product? None: an array that does not lie so."""
    if any(x is None or len(x.shape) < 2 for x in (first, second, out)):
        return False
    return call.device.plain.backend.fuses(first, second, out, epilogue, _address, **more)


def _address(ref: Any) -> int:
    """Where an array will be; of memory that is not planned yet, how far behind a multiple of ALIGNMENT."""
    if not isinstance(ref, Slot):
        return address_of(ref)
    return ref.offset + (ref.value.address if ref.value.owner() is not None else 0)


def _memory(shape: tuple[int, ...], dtype: Any, device: Device) -> Slot:
    """Memory in C order that no recorded call made."""
    strides = tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))
    return Slot(Value(lambda: None, 0, math.prod(shape) * dtype.itemsize, device), 0, shape, dtype, strides)


def _rows(ref: Any) -> Any:
    """All axes but the last as one; None if they do not lie so."""
    if ref is None or len(ref.shape) == 2:
        return ref
    rows, n = math.prod(ref.shape[:-1]), ref.shape[-1]
    if not isinstance(ref, Slot):
        return ref.reshape(rows, n) if ref.flags.c_contiguous else None
    strides = (n * ref.dtype.itemsize, ref.dtype.itemsize)
    return ref._replace(shape=(rows, n), strides=strides) if ref.is_contiguous else None


def _flipped(ref: Any) -> Any:
    """The transposed view of a matrix."""
    if ref is None or not isinstance(ref, Slot):
        return ref if ref is None else ref.T
    return ref._replace(shape=ref.shape[::-1], strides=ref.strides[::-1])


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
                and all(
                    a == operand for a in inputs if isinstance(a, Slot) and a.value is operand.value
                )  # not t + t.mT
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


def _is(a: Any, b: Any) -> bool:
    """Are they the same array?"""
    return _Key(a) == _Key(b)


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
    # where cuBLASLt has the product with its epilogue, and would run it so: each row asks the device (Backend.fuses)
    Rewrite("relu in products", (), _relu_in_products),
    Rewrite("gelu in products", (), _gelu_in_products),
    Rewrite("weight gradient added in its product", (), _added_weight_gradients),
    Rewrite("weight gradient with bias", (), _weight_gradients_with_bias),
    Rewrite("elementwise chain", ("cpu", "emulated", "cuda"), _chains),
)
