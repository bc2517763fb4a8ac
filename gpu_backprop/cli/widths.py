"""`gpu-backprop bench` over the width of a network: where a GPU begins to pay, and by how much.

The network is 784-width-width-10. A device stops growing where a step would take too long, or where memory ends; what
is left out is said, with the reason.
"""

from __future__ import annotations

import gc
import itertools
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core.devices import Device
from ..core.errors import DataError, DeviceError
from ..viz import curves
from .measuring import AGREEMENT, AGREEMENT_STEPS, Bench, Network, Settings, differences
from .output import Output

INPUT, CLASSES = 784, 10
FEWEST = 3  # measurements
TURN = 0.05  # seconds: so many steps in a row as fill them
BUDGET = 0.5  # seconds of measurements, where there are enough of them
RATE = 0.064  # times 1 / width: learning rates with which steps move networks of all widths alike


def networks(settings: Settings) -> list[Network]:
    """The widths asked for, from narrow to wide."""
    text = settings.widths.replace(" ", "")
    pair = re.fullmatch(r"(\d+)-(\d+)", text)
    if pair:
        first, last = map(int, pair.groups())
        doubled = itertools.takewhile(lambda w: w <= last, (first << i for i in itertools.count())) if first else ()
        found = list(doubled)
    else:
        found = sorted({int(w) for w in text.split(",")}) if re.fullmatch(r"\d+(,\d+)*", text) else []
    if not found or found[0] < 1:
        raise DataError(f"--widths {settings.widths!r} names no widths; write for example 64-16384, or 64,100,1000")
    if settings.batch_size < 1:
        raise DataError(f"--batch-size {settings.batch_size} is no batch; use at least 1")
    if not settings.seconds > 0:
        raise DataError(f"--seconds {settings.seconds:g} leaves no time; use more than 0")
    return [Network((INPUT, w, w, CLASSES), settings.batch_size) for w in found]


def run(
    output: Output, found: list[Network], places: list[Device], settings: Settings, picture: Path
) -> dict[str, Any]:
    """Measure every width on every device, print the table, draw the picture."""
    results: list[dict[str, Any]] = []
    left_out: dict[str, dict[str, Any]] = {}
    interrupted = False
    try:
        for result in sweep(found, places, settings, left_out):
            results.append(result)
            if output.is_terminal:
                times = result["milliseconds"].items()
                output.line(f"{result['width']}: " + ", ".join(f"{device} {ms:,.3f} ms" for device, ms in times))
    except KeyboardInterrupt:  # what there is, is shown first
        interrupted = True
        rest = [network.widths[1] for network in found[len(results) :]]
        for place in places:
            left_out[place.name] = left_out.get(place.name) or {"widths": rest, "reason": "interrupted"}
    names = [place.name for place in places]
    if not any(result["milliseconds"] for result in results):
        if interrupted:
            raise KeyboardInterrupt
        reasons = "; ".join(f"{name}: {what['reason']}" for name, what in left_out.items())
        raise DataError(f"bench: no width could be measured ({reasons}); start with a narrower one")
    _table(output, f"{_title(settings)}; ms a step", names, results)
    _compare(output, names, results)
    for name, what in left_out.items():
        output.sentence(f"{name}: {', '.join(map(str, what['widths']))} left out: {what['reason']}")
    labels = {place.name: f"{place.name}: {machine(place)}" for place in places}
    times = {
        label: {r["width"]: r["milliseconds"][name] for r in results if name in r["milliseconds"]}
        for name, label in labels.items()
    }
    curves.over_width(times, picture, _title(settings))
    return {
        "network": "784-width-width-10",
        "results": results,
        "left_out": left_out,
        "labels": labels,
        "interrupted": interrupted,
    }


def sweep(
    found: list[Network], places: list[Device], settings: Settings, left_out: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The results of each width on all devices; what is not measured goes into `left_out`, by device."""
    last: dict[str, tuple[Network, dict[str, Any]]] = {}  # by device: the network before, and its times
    for network in found:
        width = network.widths[1]
        result: dict[str, Any] = {
            "width": width,
            "parameters": network.parameters,
            "milliseconds": {},
            "first_step": {},
        }
        losses: dict[str, list[float]] = {}
        for place in places:
            if place.name in left_out:
                left_out[place.name]["widths"].append(width)
                continue
            reason = too_large(network, place) or too_long(network, last.get(place.name), settings.seconds)
            if not reason:
                try:
                    measured = measure(network, place, settings)
                except (DeviceError, MemoryError) as error:
                    reason = " ".join(str(error).split()) or "out of memory"
                gc.collect()  # the next one needs the room
            if reason:
                left_out[place.name] = {"widths": [width], "reason": reason}
                continue
            last[place.name] = network, measured
            losses[place.name] = measured["losses"]
            for part in ("milliseconds", "first_step"):
                result[part][place.name] = measured[part]
        result["relative_difference"] = differences(losses) if places[0].name in losses else {}
        yield result


def measure(network: Network, place: Device, settings: Settings) -> dict[str, Any]:
    """Of captured steps: losses of the first ones, milliseconds of the very first and of later ones, all seconds."""
    begun = time.perf_counter()
    bench = Bench(network, place, settings, lr=RATE / network.widths[1])
    losses: list[float] = []
    each = [bench.seconds(lambda: losses.append(bench.captured_step().item())) for _ in range(AGREEMENT_STEPS)]
    times = max(1, round(TURN / min(each[1:])))
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) < settings.repeats and (len(samples) < FEWEST or time.perf_counter() - started < BUDGET):
        samples.append(bench.seconds(bench.captured_step, times) / times)
    return {
        "losses": losses,
        "first_step": 1e3 * each[0],
        "milliseconds": 1e3 * statistics.median(samples),
        "seconds": time.perf_counter() - begun,
    }


# where to stop -------------------------------------------------------------------------------------------------------


def too_long(network: Network, last: tuple[Network, dict[str, Any]] | None, seconds: float) -> str:
    """Why the network would take more than these seconds, judged by the one before; "" if it would not."""
    if last is None:
        return ""
    smaller, measured = last
    step = measured["milliseconds"] / 1e3 * network.parameters / smaller.parameters
    if step * (AGREEMENT_STEPS + FEWEST) > seconds:
        return f"{AGREEMENT_STEPS + FEWEST} steps of about {step:.2g} s would take more than --seconds {seconds:g}"
    if measured["seconds"] > seconds:
        return f"{smaller.widths[1]} took {measured['seconds']:.0f} s, more than --seconds {seconds:g}"
    return ""


def too_large(network: Network, place: Device) -> str:
    """Why memory does not suffice for weights, gradients, two states of the optimiser, the first weights, and a spare.

    Adam on a CPU took 5.1 times the weights of a network of 8,192.
    """
    weights, activations = 4 * network.parameters, 4 * network.batch * sum(network.widths)
    needs = 6 * weights + 4 * activations
    free = {"this machine's memory": (3 * weights if place.name.startswith("cuda") else needs, free_memory())}
    info = place.backend.info()
    if "memory free" in info:
        free[place.name] = needs, info["memory free"] + info["memory in CuPy's pool"]
    for where, (need, there) in free.items():
        if there is not None and need > there:
            return f"about {need / 2**30:.1f} GiB are needed, {there / 2**30:.1f} GiB free, in {where}"
    return ""


def free_memory() -> int | None:
    """Bytes that this process may still take; None where nobody says."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        group = Path("/sys/fs/cgroup")  # a container's limit
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


# what is said --------------------------------------------------------------------------------------------------------


def machine(place: Device) -> str:
    """The device's name, for people."""
    info = place.backend.info()
    if place.name == "emulated":
        return "CUDA kernels played out on the CPU, no GPU's speed"
    if "name" in info:
        return str(info["name"])
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = str(info.get("processor", platform.machine()))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def _title(settings: Settings) -> str:
    return f"784-width-width-10, batch {settings.batch_size}, {settings.optimizer}, float32, captured"


def _table(output: Output, title: str, names: list[str], results: list[dict[str, Any]]) -> None:
    first, *others = names

    def cell(row: dict[str, Any], name: str) -> str:
        return f"{row['milliseconds'][name]:,.3f}" if name in row["milliseconds"] else ""

    def faster(row: dict[str, Any], name: str) -> str:
        times = row["milliseconds"]
        return f"{times[first] / times[name]:.2f}x" if first in times and name in times else ""

    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "width": lambda r: str(r["width"]),
        "parameters": lambda r: f"{r['parameters']:,}",
        **{name: lambda r, name=name: cell(r, name) for name in names},  # type: ignore[misc]
        **{f"{first} / {name}": lambda r, name=name: faster(r, name) for name in others},  # type: ignore[misc]
    }
    output.table(title, list(columns), [[make(row) for make in columns.values()] for row in results], words=0)


def _compare(output: Output, names: list[str], results: list[dict[str, Any]]) -> None:
    """Say whether the devices compute the same, and where they do not."""
    for other in names[1:]:
        found = {r["width"]: r["relative_difference"][other] for r in results if other in r["relative_difference"]}
        wrong = [str(width) for width, difference in found.items() if not difference <= AGREEMENT]
        if wrong:
            output.line(f"{names[0]} and {other} DISAGREE at {', '.join(wrong)}: by up to {max(found.values()):.1e}")
        elif found:
            output.line(
                f"{names[0]} and {other} agree: {AGREEMENT_STEPS} losses of each width within {max(found.values()):.1e}"
                " (relative)"
            )
