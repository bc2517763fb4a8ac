"""What `gpu-backprop bench` times: a training step of a network on a device, whole or in parts, eager or captured."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, random, train
from ..core.capture import capture
from ..core.devices import Device
from ..core.tensor import Tensor, tensor

AGREEMENT_STEPS = 5
AGREEMENT = 1e-3  # relative; float32 sums in another order differ by some 1e-6, and steps amplify it


@dataclass(frozen=True)
class Settings:
    """The options of the command. networks: their parts are timed; None: a step of each of `widths` is."""

    networks: str | None = None
    widths: str = "64-16384"
    batch_size: int = 256
    devices: str | None = None
    optimizer: str = "adam"
    repeats: int = 30
    seconds: float = 60.0
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Network:
    """Widths of an MLP, input and classes included, and the samples of a batch."""

    widths: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.widths))}, batch {self.batch}"

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.widths, self.widths[1:]))


@functools.lru_cache(maxsize=1)
def first_model(network: Network, seed: int) -> Any:
    """The network on the CPU, to be copied: drawing the weights of a large one takes longer than many steps."""
    random.manual_seed(seed)
    return nn.MLP(network.widths, device="cpu")


class Bench:
    """One network on one device, with a batch of random data: the same for the same seed on every device."""

    def __init__(self, network: Network, place: Device, settings: Settings, **options: Any):
        """options: of the optimiser."""
        source = random.Generator(settings.seed)
        self.place = place
        self.x_host: Any = source.normal((network.batch, network.widths[0]), device="cpu").numpy()
        self.y_host: Any = source.integers(0, network.widths[-1], (network.batch,), device="cpu").numpy()
        self.model = copy.deepcopy(first_model(network, settings.seed)).to(place)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = train.OPTIMIZERS[settings.optimizer](self.model.parameters(), **options)
        self.train_step = train.make_step(self.model, self.criterion, self.optimizer)
        self.replay = capture(self.train_step)
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

    def captured_step(self) -> Tensor:
        return self.replay(self.x, self.y)[0]

    def seconds(self, function: Callable[[], Any], times: int = 1) -> float:
        """Of so many calls in a row, between two synchronisations."""
        self.place.backend.synchronize()
        begun = time.perf_counter()
        for _ in range(times):
            function()
        self.place.backend.synchronize()
        return time.perf_counter() - begun


def differences(losses: dict[str, list[float]]) -> dict[str, float]:
    """How far the losses of each device lie from those of the first one, at most, relative to the largest."""
    first, *others = losses
    return {
        other: float(np.abs(np.subtract(losses[first], losses[other])).max() / np.abs(losses[first]).max())
        for other in others
    }
