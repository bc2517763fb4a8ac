"""One training step of an MLP against its peers: same network, data and optimiser, side by side.

    python benchmarks/mlp_step.py                      # the step, captured, against all peers that are installed
    python benchmarks/mlp_step.py --task inference     # logits of the same networks, batches of 1 and 256
    python benchmarks/mlp_step.py --device cuda --networks 8192x8@8192 --precisions bfloat16 --optimizer adamw

Each peer (mlp_peers.py) runs in a process of its own, which also gives its peak memory; the processes take turns, a few
steps a turn, so that whatever else the machine does hits all of them alike. A turn begins with some that do not count,
until the threads of the one before have ended their busy waiting. The ratio is the median over the rounds of
our time over the peer's in the same round. A step is: forward, mean cross-entropy, backward, Adam (or AdamW). Before
anything is timed, the losses (or first logits) of the first steps are compared: all peers start from the same weights,
and the deviation is the largest relative difference. "products" are the matrix products of a step alone, into memory
that is there already: what no step on this machine can go below. GFLOP/s count the products' operations for every peer.

A peer that fails, or whose first steps take longer than --patience, is left out and named below the table. Interrupted
while peers get ready, it measures those that are; interrupted later, it writes down what it has. GOALS are what the
project has set itself on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import math
import os
import platform
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlp_peers import PEERS, PRECISIONS, LeftOut, Setting, flops, problem

NETWORKS = "64-32-10@32,784-256-128-10@128,784-1024-1024-10@256,784-4096-4096-4096-10@512"  # @batch, of training
INFERENCE_BATCHES = (1, 256)
CHECKED_STEPS = 5
REST = 0.15  # seconds before a turn: OpenBLAS's threads look out for work for a tenth of a second after a product
OURS = next(iter(PEERS))


class Goal(NamedTuple):
    """Our time over the peer's, at most, in training on a GPU."""

    network: str
    batch: int
    precision: str
    peer: str
    ratio: float


GOALS = (
    Goal("8192x8", 8192, "bfloat16", "products", 1 / 0.75),
    Goal("8192x8", 8192, "bfloat16", "torch.compile", 1.0),
    *(
        Goal("784-1024-1024-10", 256, precision, peer, ratio)
        for precision in ("tf32", "bfloat16")
        for peer, ratio in (("torch.compile", 0.8), ("torch", 0.25))
    ),
)


# a peer, in its process ----------------------------------------------------------------------------------------------


def number(result: Any) -> float:
    """The first element of what a step gave."""
    if type(result).__module__.startswith("torch"):
        result = result.detach().float().cpu()
    return float(np.asarray(result.numpy() if hasattr(result, "numpy") else result).ravel()[0])


def worker(peer: str, setting: Setting) -> None:
    """Answer requests on standard input, a line each: "begin", "memory", or so many steps to time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side decides when to end
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    if not peer.startswith("gpu_backprop") and setting.device == "emulated":
        setting = setting._replace(device="cpu")
    step: Callable[[], Any] = lambda: None
    wait: Callable[[], Any] = lambda: None

    def begin() -> dict[str, Any]:
        nonlocal step, wait
        step, wait = PEERS[peer].make(setting)
        problem.cache_clear()
        return {"losses": [number(step()) for _ in range(CHECKED_STEPS)], "version": _version(peer, setting)}

    def run(steps: int) -> dict[str, Any]:
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        return {"seconds": (time.perf_counter() - start) / steps}

    with contextlib.suppress(ImportError):  # all peers do this at the same time, what follows one after another
        importlib.import_module(PEERS[peer].package(setting))
    problem(setting)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request == "begin":
                answer = begin()
            elif request == "memory":
                answer = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
            else:
                answer = run(request)
        except LeftOut as error:
            answer = {"left_out": str(error)}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _version(peer: str, setting: Setting) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PEERS[peer].package(setting).replace("_", "-"))
    except PackageNotFoundError:
        return "checkout"


# all peers, from outside ---------------------------------------------------------------------------------------------


class Lost(Exception):
    """A peer that gives no more times, and why; `expected`: it cannot do what is asked for, here or elsewhere."""

    expected = False


class Worker:
    def __init__(self, peer: str, setting: Setting):
        command = [sys.executable, __file__, "--worker", peer, "--setting", json.dumps(setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request: str | int, patience: float | None = None) -> dict[str, Any]:
        """The answer, within `patience` seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], patience)[0]:
            raise Lost(f"its first steps took longer than {patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Lost(f"its process ended with status {self.process.wait()}")
        answer = json.loads(line)
        if reason := answer.get("left_out") or answer.get("failed"):
            lost = Lost(reason)
            lost.expected = "left_out" in answer
            raise lost
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Measured(NamedTuple):
    """rows: of the table. notes: who was left out. complete: nothing interrupted it, and ours ran."""

    rows: list[dict[str, Any]]
    notes: list[str]
    complete: bool


def measure(setting: Setting, peers: list[str], rounds: int, seconds: float, patience: float) -> Measured:
    """One network: all peers are made ready one after another, then take turns."""
    where = f"{setting.network}, batch {setting.batch}, {setting.precision}"
    workers = {peer: Worker(peer, setting) for peer in peers}
    began: dict[str, dict[str, Any]] = {}  # what the peers said that are ready
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    notes: list[str] = []

    def everybody(job: Callable[[str, Worker], Any]) -> dict[str, Any]:
        results = {}
        for peer, one in list(workers.items()):
            try:
                results[peer] = job(peer, one)
            except Lost as lost:
                notes.append(f"{'' if lost.expected else where + ': '}{peer} is left out: {lost}")
                print(notes[-1], file=sys.stderr, flush=True)
                workers.pop(peer).close()
                if peer == OURS:
                    raise
        return results

    def turn(one: Worker, count: int) -> float:
        time.sleep(REST)
        one.ask(max(1, count // 4))
        return one.ask(count)["seconds"]

    def begin(peer: str, one: Worker) -> None:
        began[peer] = one.ask("begin", patience)

    complete = ready = False
    memory: dict[str, float] = {}
    try:
        try:
            everybody(begin)
            ready = True
        except KeyboardInterrupt:
            for peer in [peer for peer in workers if peer not in began]:
                workers.pop(peer).close()
                notes.append(f"{where}: {peer} is left out: interrupted before its first steps were done")
        everybody(lambda peer, one: one.ask(3))  # warm up, and find out how many steps fill a turn
        alone = everybody(lambda peer, one: one.ask(3)["seconds"])
        steps = {peer: max(1, round(seconds / s)) for peer, s in alone.items()}
        for _ in range(rounds):
            everybody(lambda peer, one: times[peer].append(turn(one, steps[peer])))
        memory = _peak_mib(setting.device, workers)
        complete = ready
    except KeyboardInterrupt:
        notes.append(f"{where}: interrupted after {len(times[OURS])} of {rounds} rounds")
    except Lost as lost:  # ours
        print(f"nothing to compare with: {lost}", file=sys.stderr)
    finally:
        for one in workers.values():
            one.close()
    if OURS not in workers:
        return Measured([], notes, False)
    return Measured(_rows(setting, {peer: began[peer] for peer in workers}, times, memory), notes, complete)


def _rows(
    setting: Setting, began: dict[str, dict[str, Any]], times: dict[str, list[float]], memory: dict[str, float]
) -> list[dict[str, Any]]:
    """The table's, of the rounds in which everybody had a turn."""
    rounds = min(len(times[peer]) for peer in began)
    seconds = {peer: np.array(times[peer][:rounds]) for peer in began}
    losses = {peer: np.array(said["losses"]) for peer, said in began.items()}
    rows = []
    for peer in began if rounds else ():
        median = float(np.median(seconds[peer]))
        row = {
            "network": setting.network,
            "batch": setting.batch,
            "precision": setting.precision,
            "optimizer": setting.optimizer if setting.training else None,
            "peer": peer,
            "version": began[peer]["version"],
            "milliseconds": median * 1e3,
            "ours_over_theirs": float(np.median(seconds[OURS] / seconds[peer])),
            "gflops": flops(setting) / median / 1e9,
            "peak_mib": memory.get(peer, math.nan),
            "loss_deviation": float(np.abs(losses[peer] / losses[OURS] - 1).max()),
        }
        if "products" in began:
            row["of_products"] = float(np.median(seconds["products"] / seconds[peer]))
        rows.append(row)
    return rows


def _peak_mib(device: str, workers: dict[str, Worker]) -> dict[str, float]:
    """Of the process; on CUDA what it holds of the GPU's memory, pools and graphs included."""
    if device != "cuda":
        return {peer: one.ask("memory")["peak_bytes"] / 2**20 for peer, one in workers.items()}
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=3).stdout.splitlines()
        held = {int(pid): float(mib) for pid, mib in (line.split(",") for line in lines)}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {peer: held[one.process.pid] for peer, one in workers.items() if one.process.pid in held}


# the report ----------------------------------------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "network": lambda r: r["network"],
    "batch": lambda r: str(r["batch"]),
    "precision": lambda r: r["precision"],
    "library": lambda r: f"{r['peer']} {r['version']}",
    "ms": lambda r: f"{r['milliseconds']:.3f}",
    "ours / theirs": lambda r: f"{r['ours_over_theirs']:.2f}",
    "GFLOP/s": lambda r: f"{r['gflops']:,.0f}" if r["gflops"] > 100 else f"{r['gflops']:.3g}",
    "of the products' rate": lambda r: f"{r['of_products']:.2f}" if "of_products" in r else "",
    "peak MiB": lambda r: "" if math.isnan(r["peak_mib"]) else f"{r['peak_mib']:.0f}",
    "deviation": lambda r: "" if math.isnan(r["loss_deviation"]) else f"{r['loss_deviation']:.0e}",
}
WORDS = ("network", "precision", "library")


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' if name in WORDS else '---:' for name in COLUMNS)} |",
        *(f"| {' | '.join(cell(row) for cell in COLUMNS.values())} |" for row in rows),
    ]
    return "\n".join(lines)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of GOALS whose networks were measured, as benchmarks/report.py lists them."""
    measured = {(r["network"], r["batch"], r["precision"], r["peer"]): r["ours_over_theirs"] for r in rows}
    found = []
    for goal in GOALS:
        what = f"a step of {goal.network}, batch {goal.batch}, {goal.precision}"
        if (goal.network, goal.batch, goal.precision, OURS) not in measured:
            continue
        ratio = measured.get(goal[:4])
        if goal.peer == "products":
            said = f"{what}: at least {1 / goal.ratio:.2f} of the rate of its matrix products alone"
            value = None if ratio is None else 1 / ratio
        else:
            said, value = f"{what}: at most {goal.ratio:.2f} of {goal.peer}'s time", ratio
        found.append({"goal": said, "measured": value, "reached": None if ratio is None else ratio <= goal.ratio})
    return found


def machine(device: str) -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": datetime.date.today().isoformat(),
    }


def write(path: Path, device: str, training: bool, rows: list[dict[str, Any]], notes: list[str]) -> None:
    """path.json and path.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = machine(device)
    report = {"machine": about, "rows": rows, "notes": notes}
    if training and device == "cuda":
        report["goals"] = goals(rows)
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    text = [table(rows), *(["\n".join(f"- {note}" for note in notes)] if notes else [])]
    text.append(", ".join(f"{k} {v}" for k, v in about.items()))
    path.with_suffix(".md").write_text("\n\n".join(text) + "\n")


def settings(args: argparse.Namespace) -> list[Setting]:
    """What is to be measured, one network after another."""
    found = []
    for text in args.networks.split(","):
        network, _, batch = text.partition("@")
        if not re.fullmatch(r"([1-9]\d*(-[1-9]\d*)+|[1-9]\d*x[1-9]\d*)@[1-9]\d*", text):
            raise ValueError(f"--networks {text!r} is not widths@batch, such as {NETWORKS.split(',')[1]}")
        for precision in args.precisions.split(","):
            if precision not in PRECISIONS:
                raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
            for size in (int(batch),) if args.task == "train" else INFERENCE_BATCHES:
                training = args.task == "train"
                found.append(Setting(network, size, args.device, training, precision, args.optimizer, args.mode))
    return found


@contextlib.contextmanager
def company(count: int) -> Iterator[None]:
    """Other programs that keep processors busy inside."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=",".join(PEERS), help="peers; those that are installed are used")
    parser.add_argument("--task", default="train", choices=["train", "inference"])
    parser.add_argument("--networks", default=NETWORKS, help="as 784-256-10@128, or 8192x8@8192, 8 layers; @batch")
    parser.add_argument("--precisions", default="float32", help=f"of {','.join(PRECISIONS)}")
    parser.add_argument("--optimizer", default="adam", choices=["adam", "adamw"])
    parser.add_argument("--mode", default="max-autotune", help="of torch.compile on CUDA, or reduce-overhead")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "emulated"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--busy", type=int, default=0, help="programs that compute beside, one thread each")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds for a peer's first steps")
    parser.add_argument("--out", type=Path, help="folder for <name>_<device>.json and .md")
    parser.add_argument("--name", help="of the files; default mlp_step, or mlp_inference")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, Setting(*json.loads(args.setting)))
        return 0
    wanted = [p for p in args.against.split(",") if p and p != OURS]
    if unknown := set(wanted) - set(PEERS):
        parser.error(f"unknown peers {sorted(unknown)}; choose from {', '.join(PEERS)}")
    try:
        jobs = settings(args)
    except ValueError as error:
        parser.error(str(error))
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    complete = True
    for setting in jobs:
        peers = [OURS, *(p for p in wanted if importlib.util.find_spec(PEERS[p].package(setting)))]
        missing = [f"{peer} is left out: it is not installed" for peer in wanted if peer not in peers]
        with company(args.busy):
            measured = measure(setting, peers, args.rounds, args.seconds, args.patience)
        rows += measured.rows
        notes += [note for note in (*missing, *measured.notes) if note not in notes]
        print(table(measured.rows) + "\n", flush=True)
        if args.out:
            name = args.name or ("mlp_step" if args.task == "train" else "mlp_inference")
            write(args.out / f"{name}_{args.device}", args.device, setting.training, rows, notes)
        complete &= measured.complete
        if any("interrupted" in note for note in measured.notes):
            break
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
