"""Pictures of trainings and measurements, drawn with matplotlib, which is imported when the first one is drawn.

gb.viz.curves.training(history, "loss.png")
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import GpuBackpropError

PathLike = str | os.PathLike[str]

INK = "#333333"
COLOURS = ("#3b6fb6", "#d9822b", "#4c9f70", "#b2456e", "#7a68a6")
PANEL = (5.2, 3.6)  # inches
LOG_FROM = 20  # a loss that falls by more than this factor is drawn on a logarithmic axis


def training(history: Any, path: PathLike | None = None, title: str = "") -> Any:
    """The loss of every step and epoch, and beside it the metrics by epoch; returns the figure, writes `path` if given.

    history: what `gb.train.fit` returned.
    """
    epochs: Mapping[str, Sequence[float]] = history.epochs
    steps: Mapping[str, Sequence[float]] = history.steps
    left_out = {"loss", "lr", "samples_per_second", "seconds"}
    metrics = [name for name in epochs if name not in left_out and not name.startswith("val_")]
    figure, panels = _figure(1 + len(metrics), title)
    x = range(1, len(epochs["loss"]) + 1)
    loss = panels[0]
    if steps.get("loss"):
        per_epoch = len(steps["loss"]) / len(x)
        by_step = [(i + 1) / per_epoch for i in range(len(steps["loss"]))]
        loss.plot(by_step, steps["loss"], color=COLOURS[0], alpha=0.25, linewidth=0.8, label="each step")
    _lines(loss, x, epochs, "loss")
    values = [v for name in ("loss", "val_loss") for v in epochs.get(name, ()) if v == v]
    if values and min(values) > 0 and max(values) / min(values) > LOG_FROM:
        loss.set_yscale("log")
    for panel, name in zip(panels[1:], metrics):
        _lines(panel, x, epochs, name)
    for panel in panels:  # the same axis in all of them, on which every step has room
        panel.set_xlim(-0.04 * len(x), 1.04 * len(x))
    return _save(figure, path)


def bars(
    table: Mapping[str, Mapping[str, Mapping[str, float]]],
    path: PathLike | None = None,
    title: str = "",
    unit: str = "",
) -> Any:
    """Grouped bars: table[panel][series][category] is a height; one panel beside the other, on a logarithmic axis."""
    figure, panels = _figure(len(table), title)
    for axes, (name, group) in zip(panels, table.items()):
        categories = list(dict.fromkeys(c for values in group.values() for c in values))
        width = 0.8 / len(group)
        for i, (series, values) in enumerate(group.items()):
            at = [k + (i - (len(group) - 1) / 2) * width for k in range(len(categories))]
            heights = [values.get(c, 0.0) for c in categories]
            drawn = axes.bar(at, heights, width * 0.92, color=COLOURS[i % len(COLOURS)], label=series)
            axes.bar_label(
                drawn, [f"{h:.2g}" if h < 10 else f"{h:.0f}" for h in heights], fontsize=7, padding=2, color=INK
            )
        axes.set_yscale("log")
        axes.margins(y=0.15)
        axes.set_xticks(range(len(categories)), categories, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_ylabel(unit)
        axes.set_title(name, fontsize=10, color=INK)
        axes.grid(visible=False, axis="x")
        axes.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def over_width(
    times: Mapping[str, Mapping[int, float]], path: PathLike | None = None, title: str = "", unit: str = "ms"
) -> Any:
    """times[series][width] as lines on logarithmic axes; beside them how much faster the others are than the first.

    What stands in the name of a series behind a colon is shown in the legend alone.
    """
    first, *others = times
    figure, panels = _figure(2 if others else 1, title, height=PANEL[1] + 0.25 * len(times))
    from matplotlib.ticker import LogLocator

    drawn = [_marked(panels[0], values, i, series) for i, (series, values) in enumerate(times.items())]
    panels[0].set_title(f"a training step, {unit}", fontsize=10, color=INK)
    if others:
        panels[1].set_title(f"times as fast as {first.partition(':')[0]}", fontsize=10, color=INK)
        panels[1].axhline(1.0, color=COLOURS[0], linewidth=1.8)
    for i, series in enumerate(others, 1):
        shared = {w: times[first][w] / t for w, t in times[series].items() if w in times[first]}
        _marked(panels[1], shared, i, series)
    widths = sorted({w for values in times.values() for w in values})
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(widths, [f"{w:,}" for w in widths], rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlim(widths[0] * 0.85, widths[-1] * 1.18)  # the same in both, also where a line ends early
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel("width")
    figure.legend(drawn, list(times), loc="outside lower center", frameon=False, fontsize=8)
    return _save(figure, path)


def _marked(axes: Any, values: Mapping[int, float], i: int, label: str) -> Any:
    """A line through marked points."""
    style = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.8, "marker": "o", "markersize": 4, "label": label}
    return axes.plot(list(values), list(values.values()), **style)[0]


def _lines(axes: Any, x: Sequence[int], epochs: Mapping[str, Sequence[float]], name: str) -> None:
    """A quantity by epoch, on the training and on the validation data."""
    marker = "o" if len(x) == 1 else None
    axes.plot(x, epochs[name], color=COLOURS[0], linewidth=1.8, marker=marker, label="training")
    if f"val_{name}" in epochs:
        axes.plot(x, epochs[f"val_{name}"], color=COLOURS[1], linewidth=1.8, marker=marker, label="validation")
    axes.set_xlabel("epoch")
    axes.set_title(name, fontsize=10, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8)


def require() -> None:
    """Raise unless matplotlib is installed: for programs that draw when hours of work are done. Imports nothing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise GpuBackpropError('viz.curves: matplotlib is not installed; run pip install "gpu-backprop[cli]"')


def _figure(n_panels: int, title: str, height: float = PANEL[1]) -> tuple[Any, list[Any]]:
    require()
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    figure = Figure(figsize=(PANEL[0] * n_panels, height), dpi=120, layout="constrained")
    panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return figure, panels


def _save(figure: Any, path: PathLike | None) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure
