"""`gpu-backprop diff`: one training step on several devices, operation by operation.

The first device takes the step, forward, loss, backward and one update by Adam, while the others do each of its
operations again from the same bits (core/shadow.py). Then each of them takes the whole step on its own, from the same
weights and batch, to show what the errors add up to; that is told, not judged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, nn, optim, random, train
from ..core import agreement, devices, dtypes
from ..core.devices import Device
from ..core.errors import DataError
from ..core.shadow import Operation, Result, shadow
from ..core.tensor import Tensor, tensor
from .model_file import ModelFile
from .output import Output

WIDTHS = (64, 256, 128, 10)  # as in `gpu-backprop train`
BATCH = 64
LEGEND = """\
ulp: the largest error, in units of the last place of the element itself (exp,
tanh, ...), of the sum of the terms' absolute values (sums, products), or of the
largest element (the rest). bound: what is allowed. differ: share of elements
with other bits; with 0 ulp these are zeros of the other sign.
whole step: what the errors add up to. An optimiser's first step is sign-like
(Adam's is lr g / (|g| + eps)): where a gradient is rounding alone, as that of a
bias ahead of a batch norm, it may flip, and the weights end far apart.
"""


@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    devices: tuple[str, ...] = ()
    model: Path | None = None
    dtype: str | None = None
    batch_size: int | None = None
    tolerance: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """What one step trains, on the CPU."""

    title: str
    model: nn.Module
    inputs: Tensor
    target: Tensor
    loss: Any
    file: ModelFile | None
    seed: int


def run(settings: Settings, json_line: bool = False) -> dict[str, Any]:
    """Compare, print a table; returns what the JSON line holds."""
    output = Output(json_line)
    if settings.tolerance is not None and not settings.tolerance >= 0:
        raise DataError(f"--tolerance {settings.tolerance} is no error in ulp; use at least 0")
    first, *others = _places(settings.devices)
    task = _task(settings)
    output.sentence(f"{task.title}; operations from the bits of {first.name}")
    with shadow(first, others) as operations:
        outcome = _step(task, first)
    chained = {other.name: _chain(task, other, outcome) for other in others}
    verdicts = [_verdict(number, operation, settings.tolerance) for number, operation in enumerate(operations, 1)]
    beyond = next((v for v in verdicts if not v["within"]), None)
    summary = {
        "devices": [first.name, *chained],
        "step": task.title,
        "operations": verdicts,
        "first_difference": beyond,
        "first_other_bits": next((v for v in verdicts if any(r["differing"] for r in v["results"].values())), None),
        "loss": float(outcome["loss"]),
        "chained": chained,
        "agree": beyond is None and not any("error" in c for c in chained.values()),
    }
    _report(output, summary)
    output.result(summary)
    return summary


def _places(names: tuple[str, ...]) -> list[Device]:
    places = [devices.device(name) for name in names or devices.devices()]
    if len(places) < 2:
        where = "is the only device here" if not names else "was the only --device"
        raise DataError(f"diff: {places[0]} {where}; it takes two, such as --device cpu --device emulated")
    for place in places:
        if places.count(place) > 1:
            raise DataError(f"diff: --device {place} is given twice; give each device once")
    return places


# the step ------------------------------------------------------------------------------------------------------------


def _task(settings: Settings) -> Task:
    if settings.dtype is not None and not dtypes.is_floating(dtypes.as_dtype(settings.dtype)):
        raise DataError(f"--dtype {settings.dtype} is not a float type; use float32, float64, bfloat16 or float16")
    file = None if settings.model is None else ModelFile(settings.model)
    random.manual_seed(settings.seed)
    with devices.device("cpu"):  # the same weights wherever they go
        if file is None:
            model: nn.Module = nn.MLP(WIDTHS)
            batch = _digits(settings)
            title = f"digits: a {'-'.join(map(str, WIDTHS))} network"
        else:
            if settings.batch_size is not None:
                raise DataError("--batch-size is for the digits; with --model the file's batch() decides")
            model, batch = file.model(), file.batch()
            title = f"{file.path.name}: {type(model).__name__}"
        model.to("cpu", settings.dtype)
        dtype = next(model.parameters()).dtype
        with file.blamed("batch()") if file else nullcontext():
            inputs, target = (_as_data(values, dtype) for values in batch)
    loss = nn.CrossEntropyLoss() if file is None else file.loss(target)
    title = f"{title}, inputs {'x'.join(map(str, inputs.shape))}, {dtype}, Adam"
    return Task(title, model, inputs, target, loss, file, settings.seed)


def _digits(settings: Settings) -> tuple[Any, Any]:
    X, y = data.load_digits()
    count = BATCH if settings.batch_size is None else settings.batch_size
    if not 1 <= count <= len(X):
        raise DataError(f"--batch-size {count} is no number of digits; use 1 to {len(X)}")
    rows = random.Generator(settings.seed).permutation(len(X), device="cpu").numpy()[:count]
    return X[rows], y[rows]


def _as_data(values: Any, dtype: np.dtype) -> Tensor:
    """Data on the CPU, floats in the model's dtype."""
    t = values.detach().to("cpu") if isinstance(values, Tensor) else tensor(values, device="cpu")
    return t.astype(dtype) if dtypes.is_floating(t.dtype) else t


def _step(task: Task, place: Device) -> dict[str, np.ndarray]:
    """Take the step on a device; the loss, parameters and buffers after it."""
    with place, task.file.blamed("the step") if task.file else nullcontext():
        random.manual_seed(task.seed)
        model = copy.deepcopy(task.model).to(place).train()
        loss = copy.deepcopy(task.loss)
        if isinstance(loss, nn.Module):
            loss.to(place)
        step = train.make_step(model, loss, optim.Adam(model.parameters()))
        value = step(task.inputs.to(place), task.target.to(place))[0]
        named = {"loss": value, **dict(model.named_parameters()), **dict(model.named_buffers())}
        return {name: np.array(place.backend.to_host(t.array)) for name, t in named.items()}


def _chain(task: Task, place: Device, expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """How far the whole step on another device leads from the first one's: errors of the loss and of the weights."""
    try:
        found = _step(task, place)
    except Exception as error:
        return {"error": str(error)}
    errors = {name: agreement.distance(expected[name], found[name])[0] for name in expected}
    loss = errors.pop("loss")
    worst = max(errors, key=lambda name: errors[name])
    return {"loss": float(found["loss"]), "loss_ulp": loss, "weights_ulp": errors[worst], "furthest": worst}


# the report ----------------------------------------------------------------------------------------------------------


def _verdict(number: int, operation: Operation, tolerance: float | None) -> dict[str, Any]:
    """An operation as the JSON line tells it."""

    def told(result: Result) -> dict[str, Any]:
        bound = result.bound if tolerance is None else tolerance
        plain = {"ulp": result.ulp, "bound": bound, "differing": result.differing, "size": result.size}
        return {**plain, "within": not result.error and result.ulp <= bound, "error": result.error or None}

    results = {name: told(result) for name, result in operation.results.items()}
    floating = [dtype for _, dtype in operation.operands if dtypes.is_floating(dtype)]
    kinds = floating or [dtype for _, dtype in operation.operands]
    return {
        "number": number,
        "name": operation.name,
        "shapes": [list(shape) for shape, _ in operation.operands],
        "dtype": kinds[0].name if kinds else "",
        "results": results,
        "milliseconds": {name: 1e3 * seconds for name, seconds in operation.seconds.items()},
        "within": all(result["within"] for result in results.values()),
    }


def _report(output: Output, summary: dict[str, Any]) -> None:
    first, *others = summary["devices"]
    _operations(output, first, others, summary["operations"])
    output.line(LEGEND)
    for other, c in summary["chained"].items():
        output.sentence(f"whole step: {_chained(first, other, c, summary['loss'])}")
    output.sentence(_conclusion(summary))


def _operations(output: Output, first: str, others: Sequence[str], verdicts: Sequence[dict[str, Any]]) -> None:
    """The table of operations: devices beside each other or, on a narrow terminal, below each other."""
    names = [first, *others]
    several = len(others) > 1
    wide, narrow = [], []
    for v in verdicts:
        number, shapes = str(v["number"]), " ".join("x".join(map(str, shape)) or "()" for shape in v["shapes"])
        errors = [_errors(v["results"][other]) for other in others]
        times = [f"{1e3 * v['milliseconds'][name]:,.0f}" if name in v["milliseconds"] else "" for name in names]
        wide.append([number, v["name"], shapes, v["dtype"], *(cell for cells in errors for cell in cells), *times])
        lines = zip(names, *zip(("", "", ""), *errors), times)
        narrow.append([number, f"{v['name']}\n  {shapes}", v["dtype"], *map("\n".join, zip(*lines))])
    header = ["#", "operation", "shapes", "dtype"]
    for other in others:
        header += [f"{other} ulp" if several else "ulp", "bound", "differ"]
    header += [f"{name} µs" for name in names]
    if output.fits(header, wide):
        output.table("operations", header, wide, words=4)
    else:
        header = ["#", "operation, shapes", "dtype", "device", "ulp", "bound", "differ", "µs"]
        room = output.room(header, narrow, column=1)
        for row in narrow:
            name, shapes = row[1].split("\n")
            row[1] = f"{_folded(name, room)}\n{shapes}"
        output.table("operations", header, narrow, words=4)


def _folded(name: str, width: int) -> str:
    """A name in lines of at most `width`, broken behind underscores."""
    lines = [""]
    for part in re.split("(?<=_)", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _errors(result: dict[str, Any]) -> tuple[str, str, str]:
    """A device's cells: the largest error, its bound, the share of elements that differ."""
    if result["error"]:
        return "failed", "", ""
    part, whole = result["differing"], result["size"]
    share = 100 * part / max(whole, 1)
    differ = "0" if not part else "<0.1%" if share < 0.1 else f"{share:.1f}%"
    return _number(result["ulp"]), f"{result['bound']:g}", differ


def _chained(first: str, other: str, c: dict[str, Any], loss: float) -> str:
    if "error" in c:
        return f"{other} failed: {c['error']}"
    if not c["loss_ulp"] and not c["weights_ulp"]:
        return f"{first} and {other} have the same loss, {loss:.8g}, and the same weights after it"
    losses = f"loss {loss:.8g} on {first}, {c['loss']:.8g} on {other}"
    if not c["weights_ulp"]:
        return f"{losses}; the same weights after it"
    return f"{losses}; weights within {_number(c['weights_ulp'])} ulp of the largest, furthest in {c['furthest']}"


def _conclusion(summary: dict[str, Any]) -> str:
    beyond, other_bits, count = summary["first_difference"], summary["first_other_bits"], len(summary["operations"])
    if beyond is not None:
        name, result = next((n, r) for n, r in beyond["results"].items() if not r["within"])
        what = result["error"] or f"{_number(result['ulp'])} ulp, and {result['bound']:g} are allowed"
        return f"first difference: operation {beyond['number']}, {beyond['name']}, on {name}: {what}"
    if other_bits is None:
        return f"all {count} operations agree bit for bit"
    return (
        f"all {count} operations agree within their bounds; the first with other bits is {other_bits['number']}, "
        f"{other_bits['name']}"
    )


def _number(value: float) -> str:
    return f"{value:.1e}" if 1e6 <= value < np.inf else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
