"""`gpu-backprop bench`: what each part of a training step costs on each device.

First every device takes the same few steps from the same seed, and their losses are compared: a device that computes
something else need not be timed. Then, after a first step (which compiles kernels, and is told apart) and some more
to warm up, each part is timed between two synchronisations; the median counts. The whole step is timed over several
in a row, as in training, where nobody waits in between.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, random, train
from ..backends.cuda_machine import cuda_status
from ..core import devices
from ..core.devices import Device
from ..core.errors import DataError
from ..core.tensor import Tensor, tensor
from ..train.names import look_up
from ..viz import curves
from .information import versions
from .output import Output, run_folder, write_json

PARTS = ("copies", "forward", "backward", "optimiser", "whole step")
AGREEMENT_STEPS = 5
AGREEMENT = 1e-3  # relative; float32 sums in another order differ by some 1e-6, and steps amplify it
WARM_UP = 5  # steps
ROW = 10  # whole steps in a row
BUDGET = 2.0  # seconds a part; large networks on slow devices are measured less often


@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    networks: str
    devices: str | None = None
    optimizer: str = "adam"
    repeats: int = 30
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Network:
    """Widths of an MLP, input and classes included, and the samples of a batch."""

    widths: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.widths))}, batch {self.batch}"


def run(settings: Settings, json_line: bool = False) -> dict[str, Any]:
    """Measure, print tables, fill the run folder; returns what the JSON line holds."""
    output = Output(json_line)
    curves.require()
    networks = parse(settings.networks)
    look_up("optimizer", settings.optimizer, train.OPTIMIZERS)
    if settings.repeats < 1:
        raise DataError(f"--repeats {settings.repeats} measures nothing; use at least 1")
    places, alone = _devices(settings.devices)
    folder = run_folder(settings.out, "bench-")
    if alone:
        output.line(f"cpu alone: {alone}")
    results: list[dict[str, Any]] = []
    for network in networks:
        first = {place.name: first_steps(network, place, settings) for place in places}
        agreement = _compare(output, network, {name: losses for name, (losses, _) in first.items()})
        parts = {name: {"first step": milliseconds} for name, (_, milliseconds) in first.items()}
        results.append({"network": str(network), "agreement": agreement, "parts": parts})
    for network, result in zip(networks, results):
        measured = {p.name: {**result["parts"][p.name], **measure(network, p, settings)} for p in places}
        result["parts"] = measured
        _table(output, network, measured)
    heights = {r["network"]: {d: {p: m[p] for p in PARTS} for d, m in r["parts"].items()} for r in results}
    curves.bars(heights, folder / "bench.png", f"a training step with {settings.optimizer}", "ms")
    summary = {
        "devices": [place.name for place in places],
        "alone_because": alone or None,
        "unit": "ms",
        "results": results,
        "run_dir": str(folder),
    }
    about = {place.name: place.backend.info() for place in places}
    write_json(
        folder / "bench.json", {**summary, "settings": asdict(settings), "machines": about, "versions": versions()}
    )
    output.line(f"written to {folder}: bench.json, bench.png")
    output.result(summary)
    return summary


def parse(text: str) -> list[Network]:
    """ "64-32-10@32,784-10@128" as Networks."""
    networks = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+(?:-\d+)+)@(\d+)\s*", part)
        widths = tuple(map(int, match[1].split("-"))) if match else ()
        if not match or 0 in widths or not int(match[2]):
            raise DataError(f"--networks {part!r} is not widths@batch; write for example 784-256-128-10@128")
        networks.append(Network(widths, int(match[2])))
    return networks


def _devices(names: str | None) -> tuple[list[Device], str]:
    """The devices to compare, and why the CPU is alone if nobody chose that."""
    if names is not None:
        return [devices.device(name.strip()) for name in dict.fromkeys(names.split(","))], ""
    count, reason = cuda_status()
    return [devices.device(name) for name in ("cpu", "cuda")[: 2 if count else 1]], reason


class Bench:
    """One network on one device, with a batch of random data: the same for the same seed on every device."""

    def __init__(self, network: Network, place: Device, settings: Settings):
        source = random.Generator(settings.seed)
        self.place = place
        self.x_host: Any = source.normal((network.batch, network.widths[0]), device="cpu").numpy()
        self.y_host: Any = source.integers(0, network.widths[-1], (network.batch,), device="cpu").numpy()
        random.manual_seed(settings.seed)
        self.model = nn.MLP(network.widths, device="cpu").to(place)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = train.OPTIMIZERS[settings.optimizer](self.model.parameters())
        self.train_step = train.make_step(self.model, self.criterion, self.optimizer)
        self.x, self.y = tensor(self.x_host, device=place), tensor(self.y_host, device=place)
        self.loss: Tensor | None = None

    def copies(self) -> None:
        """A batch to the device and back, which on the CPU takes one copy."""
        for host in (self.x_host, self.y_host):
            tensor(host, device=self.place).numpy()

    def forward(self) -> None:
        self.loss = self.criterion(self.model(self.x), self.y)

    def backward(self) -> None:
        assert self.loss is not None
        self.loss.backward()

    def step(self) -> Tensor:
        return self.train_step(self.x, self.y)[0]

    def synchronize(self) -> None:
        self.place.backend.synchronize()


def first_steps(network: Network, place: Device, settings: Settings) -> tuple[list[float], float]:
    """The losses of the first steps, and the milliseconds of the very first, which compiles what is not cached yet."""
    bench = Bench(network, place, settings)
    bench.synchronize()
    begun = time.perf_counter()
    losses = [bench.step().item()]
    first = 1e3 * (time.perf_counter() - begun)
    return losses + [bench.step().item() for _ in range(AGREEMENT_STEPS - 1)], first


def measure(network: Network, place: Device, settings: Settings) -> dict[str, float]:
    """Milliseconds of each part, and samples a second."""
    bench = Bench(network, place, settings)
    result: dict[str, float] = {}
    for _ in range(WARM_UP):
        bench.step()

    def prepare() -> None:
        bench.optimizer.zero_grad()
        bench.forward()

    def gradients() -> None:
        prepare()
        bench.backward()

    def row() -> None:
        for _ in range(ROW):
            bench.step()

    timed: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "copies": (lambda: None, bench.copies),
        "forward": (lambda: None, bench.forward),
        "backward": (prepare, bench.backward),
        "optimiser": (gradients, bench.optimizer.step),
        "whole step": (lambda: None, row),
    }
    for name, (before, part) in timed.items():
        samples: list[float] = []
        begun = time.perf_counter()
        while len(samples) < settings.repeats and (len(samples) < 3 or time.perf_counter() - begun < BUDGET):
            before()
            samples.append(_seconds(bench, part))
        result[name] = 1e3 * statistics.median(samples) / (ROW if name == "whole step" else 1)
    result["samples a second"] = 1e3 * network.batch / result["whole step"]
    return result


def _seconds(bench: Bench, function: Callable[[], Any]) -> float:
    bench.synchronize()
    begun = time.perf_counter()
    function()
    bench.synchronize()
    return time.perf_counter() - begun


def _compare(output: Output, network: Network, losses: dict[str, list[float]]) -> dict[str, Any]:
    """Say whether the devices compute the same, before anything is timed."""
    first, *others = losses
    worst = {}
    for other in others:
        pairs = np.array([losses[first], losses[other]])
        worst[other] = float(np.abs(pairs[0] - pairs[1]).max() / np.abs(pairs[0]).max())
        verdict = "agree" if worst[other] <= AGREEMENT else "DISAGREE"
        output.line(
            f"{network}: {first} and {other} {verdict}: {AGREEMENT_STEPS} losses within {worst[other]:.1e} (relative)"
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
