"""One training step of an MLP against its peers: same network, data and optimiser, side by side.

    python benchmarks/mlp_step.py --against torch,jax,autograd

Each peer runs in a process of its own, which also gives its peak memory; the processes take turns, a few steps a turn,
so that whatever else the machine does hits all of them alike. The ratio is the median over the rounds of our time
over the peer's in the same round. A step is: forward, mean cross-entropy, backward, Adam. Before anything is timed,
the losses of the first steps are compared: all peers start from the same weights.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NETWORKS = {
    "64-32-10": 32,
    "784-256-128-10": 128,
    "784-1024-1024-10": 256,
    "784-4096-4096-4096-10": 512,
}
LR = 1e-3
CHECKED_STEPS = 5


def problem(network: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Inputs (batch, in), labels (batch,), and the first weights (out, in) and biases (out,) of every layer."""
    sizes = [int(n) for n in network.split("-")]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((NETWORKS[network], sizes[0])).astype(np.float32)
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


# Each peer: a function that sets a network up and returns step() -> loss (anything float() takes) and a
# function that waits until work is done. LeftOut says why a peer cannot run on the device.

Step = Callable[[], object]


class LeftOut(Exception):
    """A peer that cannot run on the device asked for."""


def gpu_backprop(network: str, device: str) -> tuple[Step, Callable[[], None]]:
    import gpu_backprop as gb

    x, y, layers = problem(network)
    with gb.device(device):
        model = gb.nn.MLP([x.shape[1], *(len(b) for _, b in layers)])
        linears = [m for m in model.modules() if isinstance(m, gb.nn.Linear)]
        with gb.no_grad():
            for linear, (weight, bias) in zip(linears, layers):
                linear.weight.copy_(gb.asarray(weight, device=device))
                linear.bias.copy_(gb.asarray(bias, device=device))
        xs, ys = gb.tensor(x), gb.tensor(y)
    loss_function = gb.nn.CrossEntropyLoss()
    optimizer = gb.optim.Adam(model.parameters(), lr=LR)

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_function(model(xs), ys)
        loss.backward()
        optimizer.step()
        return loss

    return step, lambda: gb.synchronize(device)


def torch_model(network: str, device: str):  # type: ignore[no-untyped-def]
    import torch

    x, y, layers = problem(network)
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    loss_function = torch.nn.CrossEntropyLoss()
    return model, optimizer, loss_function, torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def _torch_wait(device: str) -> Callable[[], None]:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise LeftOut("this PyTorch has no CUDA")
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def torch_eager(network: str, device: str) -> tuple[Step, Callable[[], None]]:
    wait = _torch_wait(device)
    model, optimizer, loss_function, x, y = torch_model(network, device)

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, wait


def jax_jit(network: str, device: str) -> tuple[Step, Callable[[], None]]:
    import jax
    import jax.numpy as jnp
    import optax

    if device == "cuda" and jax.default_backend() != "gpu":
        raise LeftOut("this JAX has no CUDA")
    x, y, layers = problem(network)
    xs, ys = jnp.asarray(x), jnp.asarray(y)
    params = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in layers]
    optimizer = optax.adam(LR)

    def loss_function(params, x, y):  # type: ignore[no-untyped-def]
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()

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


def hips_autograd(network: str, device: str) -> tuple[Step, Callable[[], None]]:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    if device == "cuda":
        raise LeftOut("HIPS autograd runs on the CPU")
    x, y, layers = problem(network)
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


PEERS = {
    "gpu_backprop": (gpu_backprop, "gpu_backprop"),
    "torch": (torch_eager, "torch"),
    "jax": (jax_jit, "jax"),
    "autograd": (hips_autograd, "autograd"),
}


def worker(peer: str, network: str, device: str) -> None:
    """Answer requests on standard input: {"steps": n} -> {"seconds": of a step}, {"memory": true} -> {"peak_bytes"}."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    try:
        step, wait = PEERS[peer][0](network, device if peer == "gpu_backprop" or device == "cuda" else "cpu")
    except LeftOut as error:
        print(json.dumps({"left_out": str(error)}), file=out, flush=True)
        return
    losses = [float(step()) for _ in range(CHECKED_STEPS)]  # type: ignore[arg-type]
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
    def __init__(self, peer: str, network: str, device: str):
        command = [sys.executable, __file__, "--worker", peer, "--network", network, "--device", device]
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


def measure(network: str, peers: list[str], device: str, rounds: int, seconds: float) -> list[dict]:
    """Rows of {network, peer, milliseconds, ratio, peak_mib, loss_deviation}; ratio is ours over the peer's."""
    workers = {peer: Worker(peer, network, device) for peer in peers}
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
                "network": network,
                "batch": NETWORKS[network],
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
        f"| {r['ours_over_theirs']:.2f} | {r['peak_mib']:.0f} | {r['loss_deviation']:.0e} |"
        for r in rows
    ]
    return "\n".join(lines)


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
    parser.add_argument("--against", default="torch,jax,autograd", help="peers, those installed are used")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "emulated"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn")
    parser.add_argument("--out", type=Path, help="folder for mlp_step_<device>.json and .md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.network, args.device)
        return
    wanted = [p for p in args.against.split(",") if p]
    unknown = set(wanted) - set(PEERS)
    if unknown:
        parser.error(f"unknown peers {sorted(unknown)}; choose from {sorted(set(PEERS) - {'gpu_backprop'})}")
    peers = ["gpu_backprop", *(p for p in wanted if importlib.util.find_spec(PEERS[p][1]))]
    for missing in set(wanted) - set(peers):
        print(f"{missing} is not installed and left out", file=sys.stderr)
    rows = []
    for network in args.networks.split(","):
        measured = measure(network, peers, args.device, args.rounds, args.seconds)
        rows += measured
        print(table(measured) + "\n", flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine(args.device), "rows": rows}
        (args.out / f"mlp_step_{args.device}.json").write_text(json.dumps(report, indent=2) + "\n")
        notes = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
        (args.out / f"mlp_step_{args.device}.md").write_text(f"{table(rows)}\n\n{notes}\n")


if __name__ == "__main__":
    main()
