"""What a training shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO

from .callbacks import Callback, Run

LINES = 20  # epochs that plain output tells of, evenly spread
REFRESH = 0.1  # seconds between two looks of the bar
WIDE = 120  # characters of a terminal that shows the speed beside the bar
READ = 1.0  # seconds between two readings of the loss in the middle of an epoch


def default_progress(stream: TextIO | None = None) -> Callback:
    """The bar where `stream` (standard output) is a terminal and rich is installed, else plain lines."""
    stream = stream or sys.stdout
    if stream.isatty():
        try:
            from rich.console import Console
        except ImportError:
            return Lines(stream)
        return Bar(Console(file=stream))
    return Lines(stream)


def describe(row: dict[str, float]) -> str:
    """The losses and metrics of an epoch on one line."""
    left_out = ("lr", "seconds", "samples_per_second", "skipped", "loss_scale")
    shown = [f"{name} {readable(value)}" for name, value in row.items() if name not in left_out]
    if row.get("skipped"):
        shown.append(f"skipped {row['skipped']:.0f}")
    return "  ".join(shown)


def readable(value: float) -> str:
    """Four decimals; of a value that these would show as 0 or as a long row of digits, the magnitude."""
    short = value == 0 or 5e-5 <= abs(value) < 1e5 or not math.isfinite(value)
    return f"{value:.4f}" if short else f"{value:.1e}"


class Lines(Callback):
    """A line an epoch; of long trainings a line every so many epochs."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def on_epoch(self, run: Run) -> None:
        every = -(-run.epochs // LINES)
        if run.epoch in (1, run.epochs) or run.epoch % every == 0 or run.stop:
            row = run.history.last()
            width = len(str(run.epochs))
            speed = f"{row['samples_per_second']:,.0f} samples/s"
            print(f"epoch {run.epoch:{width}}/{run.epochs}  {describe(row)}  {speed}", file=self.stream, flush=True)


class Bar(Callback):
    """A rich progress bar over all steps, with loss, metrics, samples a second and the time left."""

    def __init__(self, console: Any):
        self.console = console

    def on_begin(self, run: Run) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

        columns: list[ProgressColumn] = [
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("time left"),
            TimeRemainingColumn(),
        ]
        if self.console.width < WIDE:  # the bar shrinks by itself, text would be cut off
            del columns[3:5]
        self.bar = Progress(
            *columns,
            console=self.console,
            refresh_per_second=10,
        )
        total = run.epochs * run.steps_per_epoch
        self.task = self.bar.add_task("train", total=total, epoch=1, epochs=run.epochs, figures="", speed="")
        self.looked = self.read = time.perf_counter()
        self.bar.start()

    def on_step(self, run: Run) -> None:
        now = time.perf_counter()
        if now - self.looked < REFRESH:
            return
        self.looked = now
        if now - self.read > READ:
            self.read = now
            self.bar.update(self.task, figures=describe(run.so_far()))
        self.bar.update(self.task, completed=run.step, epoch=run.epoch)

    def on_epoch(self, run: Run) -> None:
        self.read = time.perf_counter()
        row = run.history.last()
        figures = {name: row[name] for name in row if not name.startswith("val_")}
        if "val_accuracy" in row:
            figures["val_accuracy"] = row["val_accuracy"]
        speed = f"{row['samples_per_second']:,.0f} samples/s"
        self.bar.update(self.task, completed=run.step, epoch=run.epoch, figures=describe(figures), speed=speed)

    def on_end(self, run: Run) -> None:
        self.bar.stop()
