"""How near each kernel comes to a plain copy of memory, and to CuPy's and PyTorch's functions.

    python benchmarks/kernels.py --out benchmarks/results            # on a GPU
    python benchmarks/kernels.py --device emulated --out DIR         # rehearsal: tiny, its times mean nothing

A kernel's rate is the fewest bytes it must move, over its time. All contenders of a case and a device-to-device copy
take turns, a few milliseconds a turn, so that clocks and heat hit all alike; a ratio is the median over the rounds of
the ratios within one round. Arrays are larger than the GPU's caches. Before a case is timed, the contenders' first
results are compared. A call that fails is named below the table and left out: a peer's costs its column, ours the row
and the exit status. What is interrupted writes down what it has.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kernel_cases import Bench, Case, Step, cases, specified, updates


class Sizes(NamedTuple):
    """Of the arrays, of an optimiser's parameters; seconds a turn; what the sizes of SPECIFIED are divided by."""

    shape: tuple[int, int]
    parameters: int
    turn: float
    rounds: int
    scale: tuple[int, int]


SIZES = {
    "cuda": Sizes((16384, 4096), 120_000_000, 0.004, 9, (1, 1)),
    "emulated": Sizes((24, 40), 1000, 0.0, 2, (2048, 64)),
}
LIBRARIES = {"ours": "ours", "cupy": "CuPy", "torch": "PyTorch"}
# How far results may lie apart, for the largest value: peers add 16-bit floats up in ways of their own
TOLERANCE = {"float64": 1e-2, "float32": 1e-2, "float16": 5e-2, "bfloat16": 2e-1}


def timer(device: str, xp: Any) -> Callable[[Step, int], float]:
    """Seconds of so many steps in a row: between two events on CUDA, by the clock elsewhere."""

    def by_clock(step: Step, count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - begun

    def by_events(step: Step, count: int) -> float:
        begun, ended = xp.cuda.Event(), xp.cuda.Event()
        begun.record()
        for _ in range(count):
            step()
        ended.record()
        ended.synchronize()
        return xp.cuda.get_elapsed_time(begun, ended) / 1e3

    return by_events if device == "cuda" else by_clock


def on_host(b: Bench, result: Any) -> np.ndarray:
    """Some thousand values of a result, from all over it, in float64."""
    flat = result.reshape(-1)
    some = flat[:: int(np.prod(flat.shape)) // 4096 | 1]  # an odd step: every place of a pack comes up
    if b.torch is not None and isinstance(result, b.torch.Tensor):
        return some.detach().double().cpu().numpy()
    return b.backend.to_host(some.copy()).astype(np.float64)


def disagreement(b: Bench, case: Case) -> tuple[float, list[str]]:
    """The largest difference between our result and a peer's, relative to the largest value; the peers that failed.

    NaN if one result has NaN. Contenders write into the same memory: each one's result is fetched before the next
    begins, and wiped. Peers that fail are taken out of the case: a library may lack a dtype. What is wrong with ours is
    raised.
    """
    results, failed = [], []
    for name, step in list(case.steps.items()):
        b.out.fill(np.nan)
        try:
            result = step()
        except Exception as error:
            if name == "ours":
                raise
            failed.append(f"{LIBRARIES[name]}'s {case.name}: {type(error).__name__}: {error}")
            del case.steps[name]
            continue
        if result is not None:
            results.append(on_host(b, result))
    if not results:
        return 0.0, failed
    first, *others = results
    scale = np.abs(first).max() or 1.0
    return float(np.max([np.abs(first - other).max() / scale for other in others], initial=0.0)), failed


def measure(b: Bench, case: Case, clock: Callable[[Step, int], float], turn: float, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    off, failed = disagreement(b, case)
    source, target = b.x, b.out
    steps = {"copy": lambda: b.xp.copyto(target, source), **case.steps}
    counts = {}
    for name, step in steps.items():
        clock(step, 2)
        counts[name] = max(1, min(1000, round(turn / max(clock(step, 3) / 3, 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(clock(step, counts[name]) / counts[name])
    copied = 2 * b.x.nbytes
    shares = [case.bytes / ours * copy / copied for ours, copy in zip(seconds["ours"], seconds["copy"])]
    row = {
        "kernel": case.name,
        "bytes": case.bytes,
        "microseconds": {name: statistics.median(s) * 1e6 for name, s in seconds.items()},
        "gb_per_second": case.bytes / statistics.median(seconds["ours"]) / 1e9,
        "of_copy": statistics.median(shares),
        "goal": case.goal,
        "specified": case.specified,
        "disagreement": off,
        "failed": failed,
    }
    for peer in ("cupy", "torch"):
        if peer in seconds:
            row[f"ours_over_{peer}"] = statistics.median(o / p for o, p in zip(seconds["ours"], seconds[peer]))
    return row


def reached(row: dict[str, Any]) -> bool:
    """The goal: near enough to the copy, and no slower (within 2 %, which is noise) than CuPy and PyTorch."""
    slower = any(row.get(f"ours_over_{peer}", 0.0) > 1.02 for peer in ("cupy", "torch"))
    return row["of_copy"] >= row["goal"] and not slower


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the project has set itself, as benchmarks/report.py lists it."""
    return [
        {
            "goal": f"{row['kernel']}, {report['dtype']}: at least {row['goal']:.2f} of what a copy moves a second",
            "measured": row["of_copy"],
            "reached": row["of_copy"] >= row["goal"],
        }
        for row in report["rows"]
        if row["specified"]
    ]


def table(report: dict[str, Any]) -> str:
    lines = [f"{report['title']}", ""]
    lines += [
        "| kernel | GB/s | of the copy | goal | us | CuPy us | PyTorch us | ours / CuPy | ours / PyTorch | reached |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in report["rows"]:
        times = [f"{row['microseconds'][name]:.1f}" if name in row["microseconds"] else "" for name in LIBRARIES]
        ratios = [f"{row[key]:.2f}" if (key := f"ours_over_{peer}") in row else "" for peer in ("cupy", "torch")]
        verdict = "rehearsal" if report["rehearsal"] else "yes" if reached(row) else "no"
        if not row["disagreement"] <= TOLERANCE[report["dtype"]]:  # NaN as well
            verdict = f"RESULTS DIFFER by {row['disagreement']:.0e}"
        cells = [row["kernel"], f"{row['gb_per_second']:.0f}", f"{row['of_copy']:.2f}", f"{row['goal']:.2f}"]
        lines.append("| " + " | ".join([*cells, *times, *ratios, verdict]) + " |")
    return "\n".join([*lines, "", *(f"- Not measured: {note}" for note in report["notes"])])


def load_torch(device: str) -> tuple[Any, str]:
    """PyTorch if it can see the device's arrays, else why not."""
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch, which is not installed"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return None, "PyTorch, which has no CUDA here"
    return torch, ""


def run(device: str, dtype: str, only: str) -> dict[str, Any]:
    from gpu_backprop.core import devices

    sizes = SIZES[device]
    backend = devices.device(device).backend
    torch, why = load_torch(device)
    b = Bench(backend, torch, sizes.shape, dtype)
    clock = timer(device, b.xp)
    rehearsal = "" if device == "cuda" else "rehearsal, times mean nothing: "
    report: dict[str, Any] = {
        "title": f"{rehearsal}{device}, {dtype}, arrays of {' x '.join(map(str, sizes.shape))}",
        "dtype": dtype,
        "rehearsal": device != "cuda",
        "machine": {k: v for k, v in backend.info().items() if not k.startswith("memory ")},
        "date": datetime.date.today().isoformat(),
        "rows": [],
        "failed": [],
        "notes": [why] if why else [],
    }
    usual = itertools.chain(cases(b, only), updates(b, sizes.parameters, only))
    sources = {
        "what the project has set itself": specified(b, sizes.scale, only),  # first: time may run out
        "the rest": ((b, case) for case in usual),
    }
    current = ""
    try:
        for current, source in sources.items():
            try:
                for bench, case in source:
                    _add(report, bench, case, clock, sizes)
            except Exception as error:  # while a case was made, so that the next one cannot be
                report["failed"].append(current)
                report["notes"].append(f"{current}: {type(error).__name__}: {error}")
    except KeyboardInterrupt:
        report["failed"].append(current)
        report["notes"].append(f"{current}: interrupted")
    return report | {"goals": goals(report)}


def _add(report: dict[str, Any], b: Bench, case: Case, clock: Callable[[Step, int], float], sizes: Sizes) -> None:
    """Measure a case and put it into the report."""
    try:
        row = measure(b, case, clock, sizes.turn, sizes.rounds)
    except Exception as error:
        report["failed"].append(case.name)
        report["notes"].append(f"{case.name}: {type(error).__name__}: {error}")
        return
    report["notes"] += row.pop("failed")
    report["rows"].append(row)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=list(SIZES))
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCE))
    parser.add_argument("--only", default="", help="measure kernels with this in their name")
    parser.add_argument("--out", type=Path, help="folder for kernels_<device>.json and .md")
    args = parser.parse_args()
    report = run(args.device, args.dtype, args.only)
    print(table(report))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        name = args.out / f"kernels_{args.device}{'' if args.dtype == 'float32' else '_' + args.dtype}"
        name.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
        name.with_suffix(".md").write_text(table(report) + "\n")
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
