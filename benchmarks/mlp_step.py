"""One training step of an MLP against its peers: same network, data and optimiser, side by side.

    python benchmarks/mlp_step.py                      # the step, captured, against all peers that are installed
    python benchmarks/mlp_step.py --task inference     # logits of the same networks, batches of 1 and 256

Each peer runs in a process of its own, which also gives its peak memory; the processes take turns, a few steps a turn,
so that whatever else the machine does hits all of them alike. The ratio is the median over the rounds of our time
over the peer's in the same round. A step is: forward, mean cross-entropy, backward, Adam. Before anything is timed,
the losses of the first steps are compared: all peers start from the same weights. "products" are the matrix products of
a step alone, in NumPy, into memory that is there already: what no step on this machine can go below.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NETWORKS = {
    "64-32-10": 32,
    "784-256-128-10": 128,
    "784-1024-1024-10": 256,
    "784-4096-4096-4096-10": 512,
}
INFERENCE_BATCHES = (1, 256)
LR = 1e-3
CHECKED_STEPS = 5


class Setting(NamedTuple):
    """What is timed."""

    network: str
    batch: int
    device: str
    training: bool


def problem(setting: Setting) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Inputs (batch, in), labels (batch,), and the first weights (out, in) and biases (out,) of every layer."""
    sizes = [int(n) for n in setting.network.split("-")]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((setting.batch, sizes[0])).astype(np.float32)
    y = rng.integers(0, sizes[-1], len(x))
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        bound = n_in**-0.5
        layers.append(
            (
                rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32),
                rng.uniform(-bound, bound, n_out).astype(np.float32),
            )
        )
    return x, y, layers


# Each peer: a function that sets a network up and returns step() -> loss, or logits, and a function that waits until
# work is done. LeftOut says why a peer cannot run on the device.

Step = Callable[[], object]


class LeftOut(Exception):
    """A peer that cannot run on the device asked for."""


def gpu_backprop(setting: Setting, captured: bool = True) -> tuple[Step, Callable[[], None]]:
    import gpu_backprop as gb

    x, y, layers = problem(setting)
    with gb.device(setting.device):
        model = gb.nn.MLP([x.shape[1], *(len(b) for _, b in layers)])
        linears = [m for m in model.modules() if isinstance(m, gb.nn.Linear)]
        with gb.no_grad():
            for linear, (weight, bias) in zip(linears, layers):
                linear.weight.copy_(gb.asarray(weight, device=setting.device))
                linear.bias.copy_(gb.asarray(bias, device=setting.device))
        xs, ys = gb.tensor(x), gb.tensor(y)

    def wait() -> None:
        gb.synchronize(setting.device)

    if not setting.training:
        forward = gb.no_grad()(model.eval().forward)
        forward = gb.capture(forward) if captured else forward
        return lambda: forward(xs), wait
    loss_function = gb.nn.CrossEntropyLoss()
    optimizer = gb.optim.Adam(model.parameters(), lr=LR)

    def step(x: object, y: object) -> object:
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = gb.capture(step) if captured else step
    return lambda: step(xs, ys), wait


def torch_eager(setting: Setting, compiled: bool = False) -> tuple[Step, Callable[[], None]]:
    import torch

    device = setting.device
    if device == "cuda" and not torch.cuda.is_available():
        raise LeftOut("this PyTorch has no CUDA")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    x, y, layers = problem(setting)
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1]).to(device)
    xs, ys = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    forward = torch.compile(model, mode="max-autotune" if device == "cuda" else None) if compiled else model
    if not setting.training:
        model.eval()

        def infer() -> object:
            with torch.inference_mode():
                return forward(xs)

        return infer, wait
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    loss_function = torch.nn.CrossEntropyLoss()

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_function(forward(xs), ys)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, wait


def jax_jit(setting: Setting) -> tuple[Step, Callable[[], None]]:
    import jax
    import jax.numpy as jnp
    import optax

    if setting.device == "cuda" and jax.default_backend() != "gpu":
        raise LeftOut("this JAX has no CUDA")
    x, y, layers = problem(setting)
    xs, ys = jnp.asarray(x), jnp.asarray(y)
    params = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in layers]
    optimizer = optax.adam(LR)

    def forward(params, x):  # type: ignore[no-untyped-def]
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    if not setting.training:
        compiled = jax.jit(forward)
        return lambda: jax.block_until_ready(compiled(params, xs)), lambda: None

    def loss_function(params, x, y):  # type: ignore[no-untyped-def]
        return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()

    def update(params, state, x, y):  # type: ignore[no-untyped-def]
        loss, gradients = jax.value_and_grad(loss_function)(params, x, y)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    compiled = jax.jit(update, donate_argnums=(0, 1))
    state = optimizer.init(params)

    def step() -> object:
        nonlocal params, state
        params, state, loss = compiled(params, state, xs, ys)
        return loss

    return step, lambda: jax.block_until_ready(params)


def hips_autograd(setting: Setting) -> tuple[Step, Callable[[], None]]:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    if setting.device == "cuda" or not setting.training:
        raise LeftOut("HIPS autograd trains, on the CPU")
    x, y, layers = problem(setting)
    params = [array for w, b in layers for array in (w.T.copy(), b.copy())]
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    rows = np.arange(len(y))
    t = 0

    def loss_function(params):  # type: ignore[no-untyped-def]
        h = x
        for i in range(0, len(params) - 2, 2):
            h = anp.maximum(anp.dot(h, params[i]) + params[i + 1], 0)
        logits = anp.dot(h, params[-2]) + params[-1]
        return anp.mean(logsumexp(logits, axis=1) - logits[rows, y])

    value_and_grad = autograd.value_and_grad(loss_function)

    def step() -> object:
        nonlocal t
        t += 1
        loss, gradients = value_and_grad(params)
        for p, g, m_, v_ in zip(params, gradients, m, v):
            m_ += 0.1 * (g - m_)
            v_ += 0.001 * (g * g - v_)
            p -= (LR / (1 - 0.9**t)) * m_ / (np.sqrt(v_ / (1 - 0.999**t)) + 1e-8)
        return loss

    return step, lambda: None


def products(setting: Setting) -> tuple[Step, Callable[[], None]]:
    """The matrix products alone: forward, and for training those of weights' and inputs' gradients."""
    if setting.device == "cuda":
        raise LeftOut("the products are NumPy's")
    x, _, layers = problem(setting)
    calls = []
    for i, (weight, _) in enumerate(layers):
        out = np.empty((len(x), len(weight)), np.float32)
        calls.append((x, weight.T, out))
        if setting.training:
            calls.append((out.T, x, np.empty_like(weight)))
            if i:
                calls.append((out, weight, np.empty_like(x)))
        x = out

    def step() -> object:
        for a, b, out in calls:
            np.dot(a, b, out=out)
        return math.nan

    return step, lambda: None


# name -> (function, package); the first one is what the others are compared with
PEERS: dict[str, tuple[Callable[[Setting], tuple[Step, Callable[[], None]]], str]] = {
    "gpu_backprop": (gpu_backprop, "gpu_backprop"),
    "gpu_backprop eager": (functools.partial(gpu_backprop, captured=False), "gpu_backprop"),
    "torch": (torch_eager, "torch"),
    "torch.compile": (functools.partial(torch_eager, compiled=True), "torch"),
    "jax": (jax_jit, "jax"),
    "autograd": (hips_autograd, "autograd"),
    "products": (products, "numpy"),
}


def number(result: object) -> float:
    """The first element of what a step gave."""
    if hasattr(result, "cpu"):
        result = result.cpu()
    return float(np.asarray(result.numpy() if hasattr(result, "numpy") else result).ravel()[0])


def worker(peer: str, setting: Setting) -> None:
    """Answer requests on standard input: {"steps": n} -> {"seconds": of a step}, {"memory": true} -> {"peak_bytes"}."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    if not peer.startswith("gpu_backprop") and setting.device == "emulated":
        setting = setting._replace(device="cpu")
    try:
        step, wait = PEERS[peer][0](setting)
    except LeftOut as error:
        print(json.dumps({"left_out": str(error)}), file=out, flush=True)
        return
    losses = [number(step()) for _ in range(CHECKED_STEPS)]
    out.write(json.dumps({"losses": losses, "version": _version(peer)}) + "\n")
    out.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "steps" in request:
            wait()
            start = time.perf_counter()
            for _ in range(request["steps"]):
                step()
            wait()
            answer: object = {"seconds": (time.perf_counter() - start) / request["steps"]}
        else:
            answer = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _version(peer: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PEERS[peer][1].replace("_", "-"))
    except PackageNotFoundError:
        return "checkout"


class Worker:
    def __init__(self, peer: str, setting: Setting):
        command = [sys.executable, __file__, "--worker", peer, "--setting", json.dumps(setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"a worker stopped: {' '.join(map(str, self.process.args))}")  # type: ignore[arg-type]
        return json.loads(line)

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self._read()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def measure(setting: Setting, peers: list[str], rounds: int, seconds: float) -> list[dict]:
    """Rows of {network, peer, milliseconds, ratio, peak_mib, loss_deviation}; ratio is ours over the peer's."""
    workers = {peer: Worker(peer, setting) for peer in peers}
    for peer in [peer for peer, worker_ in workers.items() if "left_out" in worker_.first]:
        left_out = workers.pop(peer)
        print(f"{peer} is left out: {left_out.first['left_out']}", file=sys.stderr)
        left_out.close()
    reference = np.array(workers[peers[0]].first["losses"])
    times: dict[str, list[float]] = {peer: [] for peer in workers}
    for worker_ in workers.values():  # warm up, and find out how many steps fill a turn
        worker_.ask({"steps": 3})
    steps = {p: max(1, round(seconds / w.ask({"steps": 3})["seconds"])) for p, w in workers.items()}
    for _ in range(rounds):
        for peer, worker_ in workers.items():
            times[peer].append(worker_.ask({"steps": steps[peer]})["seconds"])
    rows = []
    for peer, worker_ in workers.items():
        ratios = [ours / theirs for ours, theirs in zip(times[peers[0]], times[peer])]
        rows.append(
            {
                "network": setting.network,
                "batch": setting.batch,
                "peer": peer,
                "version": worker_.first["version"],
                "milliseconds": statistics.median(times[peer]) * 1e3,
                "ours_over_theirs": statistics.median(ratios),
                "peak_mib": worker_.ask({"memory": True})["peak_bytes"] / 2**20,
                "loss_deviation": float(np.abs(np.array(worker_.first["losses"]) / reference - 1).max()),
            }
        )
        worker_.close()
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        "| network | batch | library | ms a step | ours / theirs | peak MiB | loss deviation |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['network']} | {r['batch']} | {r['peer']} {r['version']} | {r['milliseconds']:.3f} "
        f"| {r['ours_over_theirs']:.2f} | {r['peak_mib']:.0f} | {_short(r['loss_deviation'])} |"
        for r in rows
    ]
    return "\n".join(lines)


def _short(deviation: float) -> str:
    return "" if math.isnan(deviation) else f"{deviation:.0e}"


def machine(device: str) -> dict:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=",".join(PEERS), help="peers; those that are installed are used")
    parser.add_argument("--task", default="train", choices=["train", "inference"])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "emulated"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--out", type=Path, help="folder for mlp_step_<device>.json and .md (mlp_inference_...)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, Setting(*json.loads(args.setting)))
        return
    wanted = [p for p in args.against.split(",") if p and p != "gpu_backprop"]
    unknown = set(wanted) - set(PEERS)
    if unknown:
        parser.error(f"unknown peers {sorted(unknown)}; choose from {', '.join(PEERS)}")
    peers = ["gpu_backprop", *(p for p in wanted if importlib.util.find_spec(PEERS[p][1]))]
    for missing in set(wanted) - set(peers):
        print(f"{missing} is not installed and left out", file=sys.stderr)
    rows = []
    for network in args.networks.split(","):
        for batch in (NETWORKS[network],) if args.task == "train" else INFERENCE_BATCHES:
            setting = Setting(network, batch, args.device, args.task == "train")
            measured = measure(setting, peers, args.rounds, args.seconds)
            rows += measured
            print(table(measured) + "\n", flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine(args.device), "rows": rows}
        name = f"mlp_{'step' if args.task == 'train' else 'inference'}_{args.device}"
        (args.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
        notes = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
        (args.out / f"{name}.md").write_text(f"{table(rows)}\n\n{notes}\n")


if __name__ == "__main__":
    main()
