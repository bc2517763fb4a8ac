"""The short way of elementwise operations (core/operators.py) leaves what tape.apply leaves."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.array_api import elementwise_functions
from gpu_backprop.core import tape
from gpu_backprop.core.tensor import Tensor
from gpu_backprop.ops import elementwise as ew

UNARY = elementwise_functions._UNARY
BINARY = elementwise_functions._BINARY


def seen(x: Any) -> Any:
    """What a Tensor, or what a Node holds, comes down to."""
    if isinstance(x, weakref.ref):
        return "weak", seen(x())
    if isinstance(x, tape.Node):  # casts are made anew
        return ("astype", seen(x.edges)) if x.primitive.name == "astype" else id(x)
    if isinstance(x, Tensor):
        return id(x) if x.is_leaf and x.requires_grad else (x.numpy().tobytes(), x.dtype, seen(x.node))
    if isinstance(x, (list, tuple)):
        return [seen(part) for part in x]
    return x.tobytes() if hasattr(x, "tobytes") else x  # an array, NumPy's or CuPy's


def look(out: Tensor) -> dict[str, Any]:
    node = out.node
    found = {"values": out.numpy().tobytes(), "dtype": out.dtype, "shape": out.shape, "device": out.device}
    found |= {"requires_grad": out.requires_grad, "version": seen(out._version_cell), "extra": out._extra}
    if node is not None:
        fields = ("attrs", "device", "hooks", "mask", "primitive", "retained", "scope", "spec")
        found |= {name: getattr(node, name) for name in fields}
        found |= {name: seen(getattr(node, name)) for name in ("edges", "saved", "specs", "unsaved")}
    return found


def outcome(function: Any, *operands: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return look(function(*operands))
    except gb.GpuBackpropError as error:
        return type(error), str(error)


def operands(device: str) -> dict[str, Any]:
    values = np.array([[0.5, 0.25, 2.0], [1.0, 0.75, 0.125]])
    found: dict[str, Any] = {"number": 0.5, "integer": 2, "huge": 10**400, "truth": True}
    for dtype in ("float32", "float64", "float16", "int64", "bool"):
        found[dtype] = gb.tensor(values.astype(dtype), device=device)
    for dtype in ("float32", "float64", "float16"):
        found[f"{dtype} leaf"] = gb.tensor(values.astype(dtype), device=device, requires_grad=True)
    found["computed"] = found["float32 leaf"] * found["float32"]
    found["written"] = gb.tensor(values.astype("float32"), device=device)
    found["written"][0] = 0.25
    found["one"] = gb.tensor(0.5, device=device)
    found["one leaf"] = gb.tensor(0.5, device=device, requires_grad=True)
    found["row"] = gb.tensor([0.5, 0.25, 0.125], device=device, requires_grad=True)
    found["misfit"] = gb.tensor([0.5, 0.25], device=device)
    found["parameter"] = gb.nn.Parameter(gb.tensor(values.astype("float32"), device=device))
    return found


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name: str, device: str) -> None:
    for label, x in operands(device).items():
        for recorded in (True, False):
            with tape.set_grad_mode(recorded):
                assert outcome(getattr(gb, name), x) == outcome(getattr(ew, name), x), (label, recorded)


@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name: str, device: str) -> None:
    found = operands(device)
    for (first, x), (second, y) in itertools.product(found.items(), repeat=2):
        assert outcome(getattr(gb, name), x, y) == outcome(getattr(ew, name), x, y), (first, second)
    x, y = found["float32 leaf"], found["float32"]
    with gb.no_grad():
        assert outcome(getattr(gb, name), x, y) == outcome(getattr(ew, name), x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [np.float32(0.1), np.float64(0.1), np.float64(1e300), np.float32("nan")])
def test_numpys_numbers_are_as_pythons(number: Any, dtype: str) -> None:
    for recorded in (False, True):
        x = gb.tensor([0.5, -2.0], dtype=dtype, requires_grad=recorded)
        with np.errstate(all="ignore"):
            found, same = x * number, x * float(number)
        assert (found.dtype, found.numpy().tobytes()) == (same.dtype, same.numpy().tobytes())
        if recorded:
            found.sum().backward()
            np.testing.assert_array_equal(x.grad.numpy(), np.full(2, number, dtype))


def test_operands_of_two_devices_are_refused() -> None:
    x, y = gb.ones(3, device="cpu"), gb.ones(3, device="emulated")
    with pytest.raises(gb.DeviceError, match="add: operands on cpu and emulated"):
        x + y


def test_what_watches_sees_every_operation() -> None:
    seen: list[str] = []
    from gpu_backprop.core.modes import modes

    modes.watch = lambda name, *_: seen.append(name)
    try:
        x = gb.ones(3, device="cpu")
        gb.exp(x + x)
    finally:
        modes.watch = None
    assert seen == ["add", "exp"]
