"""`gpu-backprop bench`: a training step on each device, over the width of a network, or in its parts.

First every device takes the same few steps from the same seed, and their losses are compared: a device that computes
something else need not be timed. The first of them compiles kernels, and is told apart. Then what is timed is timed
between two synchronisations; the median counts. Whole steps are timed several in a row, as in training, where nobody
waits in between.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import train
from ..backends.cuda_machine import cuda_status
from ..core import devices
from ..core.devices import Device
from ..core.errors import DataError
from ..train.names import look_up
from ..viz import curves
from . import widths
from .information import versions
from .measuring import AGREEMENT, AGREEMENT_STEPS, Bench, Network, Settings, differences
from .output import Output, picture_path, write_json

PARTS = ("copies", "forward", "backward", "optimiser", "whole step", "captured step")
WARM_UP = 5  # steps
ROW = 10  # whole steps in a row
BUDGET = 2.0  # seconds a part; large networks on slow devices are measured less often


def run(settings: Settings, json_line: bool = False) -> dict[str, Any]:
    """Measure, print tables, write a picture and its numbers; returns what the JSON line holds."""
    output = Output(json_line)
    curves.require()
    networks = parse(settings.networks) if settings.networks is not None else widths.networks(settings)
    look_up("optimizer", settings.optimizer, train.OPTIMIZERS)
    if settings.repeats < 1:
        raise DataError(f"--repeats {settings.repeats} measures nothing; use at least 1")
    places, alone = _devices(settings.devices)
    picture = picture_path(settings.out, "bench-")
    if alone:
        output.line(f"cpu alone: {alone}")
    job = widths.run if settings.networks is None else parts
    summary = {
        "devices": [place.name for place in places],
        "alone_because": alone or None,
        "unit": "ms",
        **job(output, networks, places, settings, picture),
        "run_dir": str(picture.parent),
        "picture": str(picture),
    }
    about = {place.name: place.backend.info() for place in places}
    numbers = picture.with_suffix(".json")
    write_json(numbers, {**summary, "settings": asdict(settings), "machines": about, "versions": versions()})
    output.line(f"written to {picture.parent}: {numbers.name}, {picture.name}")
    if summary.get("interrupted"):
        raise KeyboardInterrupt
    output.result(summary)
    return summary


def parse(text: str) -> list[Network]:
    """ "64-32-10@32,784-10@128" as Networks."""
    networks = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+(?:-\d+)+)@(\d+)\s*", part)
        sizes = tuple(map(int, match[1].split("-"))) if match else ()
        if not match or 0 in sizes or not int(match[2]):
            raise DataError(f"--networks {part!r} is not widths@batch; write for example 784-256-128-10@128")
        networks.append(Network(sizes, int(match[2])))
    return networks


def _devices(names: str | None) -> tuple[list[Device], str]:
    """The devices to compare, and why the CPU is alone if nobody chose that."""
    if names is not None:
        return [devices.device(name.strip()) for name in dict.fromkeys(names.split(","))], ""
    count, reason = cuda_status()
    return [devices.device(name) for name in ("cpu", "cuda")[: 2 if count else 1]], reason


def parts(
    output: Output, networks: list[Network], places: list[Device], settings: Settings, picture: Path
) -> dict[str, Any]:
    """The parts of a step of each network: tables, and bars."""
    results: list[dict[str, Any]] = []
    for network in networks:
        first = {place.name: first_steps(network, place, settings) for place in places}
        agreement = _compare(output, network, {name: losses for name, (losses, _) in first.items()})
        times = {name: {"first step": milliseconds} for name, (_, milliseconds) in first.items()}
        results.append({"network": str(network), "agreement": agreement, "parts": times})
    for network, result in zip(networks, results):
        measured = {p.name: {**result["parts"][p.name], **measure(network, p, settings)} for p in places}
        result["parts"] = measured
        _table(output, network, measured)
    heights = {r["network"]: {d: {p: m[p] for p in PARTS} for d, m in r["parts"].items()} for r in results}
    curves.bars(heights, picture, f"a training step with {settings.optimizer}", "ms")
    return {"results": results}


def first_steps(network: Network, place: Device, settings: Settings) -> tuple[list[float], float]:
    """The losses of the first steps, and the milliseconds of the very first, which compiles what is not cached yet."""
    bench = Bench(network, place, settings)
    losses: list[float] = []
    first = 1e3 * bench.seconds(lambda: losses.append(bench.step().item()))
    return losses + [bench.step().item() for _ in range(AGREEMENT_STEPS - 1)], first


def measure(network: Network, place: Device, settings: Settings) -> dict[str, float]:
    """Milliseconds of each part, and samples a second of captured steps."""
    bench = Bench(network, place, settings)
    result: dict[str, float] = {}
    for _ in range(WARM_UP):
        bench.step()
        bench.captured_step()

    def prepare() -> None:
        bench.optimizer.zero_grad()
        bench.forward()

    def gradients() -> None:
        prepare()
        bench.backward()

    def nothing() -> None:
        pass

    timed: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {  # before it, the part, how often in a row
        "copies": (nothing, bench.copies, 1),
        "forward": (nothing, bench.forward, 1),
        "backward": (prepare, bench.backward, 1),
        "optimiser": (gradients, bench.optimizer.step, 1),
        "whole step": (nothing, bench.step, ROW),
        "captured step": (nothing, bench.captured_step, ROW),
    }
    for name, (before, part, times) in timed.items():
        samples: list[float] = []
        begun = time.perf_counter()
        while len(samples) < settings.repeats and (len(samples) < 3 or time.perf_counter() - begun < BUDGET):
            before()
            samples.append(bench.seconds(part, times))
        result[name] = 1e3 * statistics.median(samples) / times
    result["samples a second"] = 1e3 * network.batch / result["captured step"]
    return result


def _compare(output: Output, network: Network, losses: dict[str, list[float]]) -> dict[str, Any]:
    """Say whether the devices compute the same, before anything is timed."""
    worst = differences(losses)
    for other, difference in worst.items():
        verdict = "agree" if difference <= AGREEMENT else "DISAGREE"
        output.line(
            f"{network}: {next(iter(losses))} and {other} {verdict}: {AGREEMENT_STEPS} losses within {difference:.1e} "
            "(relative)"
        )
    return {"losses": losses, "relative_difference": worst, "agree": all(w <= AGREEMENT for w in worst.values())}


def _table(output: Output, network: Network, measured: dict[str, dict[str, float]]) -> None:
    names = list(measured)
    header = ["ms", *names]
    if len(names) == 2:
        header.append(f"{names[0]} / {names[1]}")
    rows = []
    for part in (*PARTS, "first step", "samples a second"):
        values = [measured[name][part] for name in names]
        label = "first step, with compilation" if part == "first step" else part
        row = [label, *(f"{v:,.0f}" if part == "samples a second" else f"{v:,.3f}" for v in values)]
        if len(names) == 2:
            row.append("" if part in ("first step", "samples a second") else f"{values[0] / values[1]:.2f}x")
        rows.append(row)
    output.line()
    output.table(str(network), header, rows)
