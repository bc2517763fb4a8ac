"""The cpu device's compiled passes against the NumPy functions that serve without a compiler, pass by pass.

    python benchmarks/cpu_passes.py              # a table
    python benchmarks/cpu_passes.py --numba      # with Numba's serial loops for Adam and cross-entropy beside them
    OPENBLAS_NUM_THREADS=1 python benchmarks/cpu_passes.py --steps      # eager training steps of mlp_step.py's networks

All take turns on the same arrays, so that whatever else the machine does hits all alike; the ratio is the median over
the rounds of the pass's time over NumPy's in the same round. The time is the thread's own on a processor: on a busy
machine the clock also counts what other programs do meanwhile. (So threads of the BLAS would not be counted.) `bound`
is the call with its arguments fixed, as a replayed step does it. Shapes are those of steps of mlp_step.py's networks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlp_peers
import mlp_step

import gpu_backprop as gb
from gpu_backprop.backends import compiled, cpu, draws, generic, updates
from gpu_backprop.backends.base import Functions

Calls = dict[str, Callable[[], object]]

ROWS = (  # pass, its shape on three networks: small, 784-1024-1024-10 with batch 256, and a large one
    ("adam_update", (2_432,), (1_863_936,), (36_816_896,)),
    ("sgd_update", (2_432,), (1_863_936,), (36_816_896,)),
    ("linear", (32, 32), (256, 1024), (512, 4096)),
    ("linear_relu", (32, 32), (256, 1024), (512, 4096)),
    ("relu_backward", (32, 32), (256, 1024), (512, 4096)),
    ("relu_bias_backward", (32, 32), (256, 1024), (512, 4096)),
    ("softmax_cross_entropy", (32, 10), (256, 10), (512, 1000)),
    ("softmax_cross_entropy_backward", (32, 10), (256, 10), (512, 1000)),
)


def arguments(name: str, shape: tuple[int, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Operands and attributes of one call, outputs among them."""
    rng = np.random.default_rng(0)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, np.float32)

    if name.endswith("update"):
        state: list[Any] = [np.abs(normal(*shape)), np.abs(normal(*shape)), None]
        switches = {"decoupled": False} if name == "adam_update" else {"nesterov": False}
        hyper = np.array([1e-3, 0, 1, 0, 0.9, 0.999 if name == "adam_update" else 0, 1e-8])
        operands = [normal(*shape), normal(*shape), *(state if name == "adam_update" else state[:1])]
        return [*operands, hyper, np.ones(1)], {"first": 0, "count": 1, "maximize": False, **switches}
    rows, columns = shape
    x, out = normal(*shape), np.empty(shape, np.float32)
    if name.startswith("linear"):  # a product of depth 1, so that the pass behind it counts
        return [normal(rows, 1), normal(columns, 1), normal(columns)], {"out": out}
    if name == "relu_backward":
        return [x, normal(*shape)], {"out": out}
    if name == "relu_bias_backward":
        return [x, normal(*shape)], {"out": (out, np.empty(columns, np.float32))}
    labels = rng.integers(0, columns, rows)
    options = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}
    results = tuple(np.empty(size, np.float32) for size in ((), (rows, 1), (rows,), ()))
    if name == "softmax_cross_entropy":
        return [x, labels, None], {**options, "out": results}
    cpu.NUMPY["softmax_cross_entropy"](x, labels, None, **options, out=results)
    return [np.ones((), np.float32), x, labels, None, *results[1:]], {**options, "out": out}


def seconds_a_call(call: Callable[[], object], repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - start) / repeats


def measure(calls: Calls, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each call, and the median ratio to the first one in the same round; they take turns."""
    first = next(iter(calls))
    once = min(seconds_a_call(calls[first], 1) for _ in range(3))
    repeats = max(1, min(2000, int(0.01 / once)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_a_call(call, repeats))
    ratios = {name: statistics.median(t / f for t, f in zip(times[name], times[first])) for name in calls}
    return {name: statistics.median(t) for name, t in times.items()}, ratios


def numba_calls(name: str, operands: list[Any], attrs: dict[str, Any]) -> Calls:
    """The same pass as a serial Numba loop, the way one would write it."""
    from numba import njit

    # contract and nsz keep NaN and infinities as they are; reassoc lets sums over lanes become vector code
    if name == "adam_update":

        @njit(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
        def adam(p, g, m, v, b1, f1, b2, f2, root, eps):  # type: ignore[no-untyped-def]
            for i in range(p.size):
                m[i] = m[i] * b1 + g[i] * f1
                v[i] = v[i] * b2 + g[i] * g[i] * f2
                p[i] -= m[i] / (np.sqrt(v[i]) * root + eps)

        p, g, m, v, _, hyper, steps = operands
        one = np.float32

        def run() -> None:
            lr, b1, b2, eps = hyper[0], hyper[4], hyper[5], hyper[6]
            t = steps[0] + 1
            size = lr / (1 - b1**t)
            root = 1 / (np.sqrt(1 - b2**t) * size)
            adam(p, g, m, v, one(b1), one(1 - b1), one(b2), one(1 - b2), one(root), one(eps / size))
            steps[0] = t

        return {"numba": run}
    if name == "softmax_cross_entropy":

        @njit(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
        def forward(x, labels, loss, top, mass, total):  # type: ignore[no-untyped-def]
            whole = 0.0
            for i in range(x.shape[0]):
                most = x[i, 0]
                for j in range(x.shape[1]):
                    most = max(most, x[i, j])
                sums = np.float32(0)
                for j in range(x.shape[1]):
                    sums += np.exp(x[i, j] - most)
                if labels[i] < 0 or labels[i] >= x.shape[1]:
                    return i + 1
                top[i, 0] = most
                mass[i] = sums
                whole += np.log(sums) - (x[i, labels[i]] - most)
            total[()] = x.shape[0]
            loss[()] = whole / x.shape[0]
            return 0

        return {"numba": lambda: forward(operands[0], operands[1], *attrs["out"])}
    if name == "softmax_cross_entropy_backward":

        @njit(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
        def backward(g, x, labels, top, mass, total, dx):  # type: ignore[no-untyped-def]
            scale = g[()] / total[()]
            for i in range(x.shape[0]):
                share = scale / mass[i]
                for j in range(x.shape[1]):
                    dx[i, j] = np.exp(x[i, j] - top[i, 0]) * share
                dx[i, labels[i]] -= scale

        g, x, labels, _, top, mass, total = operands
        return {"numba": lambda: backward(g, x, labels, top, mass, total, attrs["out"])}
    return {}


def step_calls(network: str, batch: int, captured: bool) -> Calls:
    """A training step on the NumPy functions alone, and one with the passes."""
    device = gb.device("cpu")
    backend: Any = device.backend
    native = Functions(lambda name: generic.lookup(np, name))
    native.update(cpu.NUMPY)
    functions = generic.aware(native, np)
    functions.update(updates.TABLE | draws.TABLE)
    for table in (native, functions):
        table["chain"] = backend.native["chain"]
    calls: Calls = {}
    for name, tables in {"numpy": (functions, native), "compiled": (device.functions, device.native)}.items():

        def use(tables: Any = tables) -> None:
            device.functions, device.native = backend.functions, backend.native = tables
            device.plain = device.plain._replace(functions=tables[0], native=tables[1])  # what a capture records

        use()
        step, _ = mlp_peers.gpu_backprop(mlp_peers.Setting(network, batch, "cpu", True), captured)

        def run(use: Callable[[], None] = use, step: Callable[[], object] = step) -> None:
            use()
            step()

        calls[name] = run
    return calls


def steps(rounds: int) -> None:
    heads = "| network | batch | NumPy, ms | compiled, ms | ratio | captured: NumPy, ms | compiled, ms | ratio |"
    print(heads + "\n| --- |" + " ---: |" * 7)
    for text in mlp_step.NETWORKS.split(","):
        network, batch = text.split("@")
        cells = [network, batch]
        for captured in (False, True):
            few = max(3, rounds // 4) if "4096" in network else rounds
            times, ratios = measure(step_calls(network, int(batch), captured), few)
            cells += [f"{times[kind] * 1e3:,.3f}" for kind in times] + [f"{ratios['compiled']:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numba", action="store_true", help="also measure Numba, which must be installed")
    parser.add_argument("--steps", action="store_true", help="whole training steps instead of single passes")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    if not compiled.status().startswith("compiled"):
        raise SystemExit(f"the passes are {compiled.status()}")
    if options.steps:
        return steps(options.rounds)
    print(f"float32, numpy {np.__version__}, {compiled.status()}; microseconds, and the median ratio to NumPy's\n")
    heads = ["pass", "shape", "NumPy", "compiled", "", "bound", "", *(["Numba", ""] if options.numba else [])]
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * 2 + " ---: |" * (len(heads) - 2))
    for name, *shapes in ROWS:
        numpy = updates.TABLE.get(name) or cpu.NUMPY[name]
        function = compiled.instead_of(numpy, name)
        for shape in shapes:
            operands, attrs = arguments(name, shape)
            calls: Calls = {
                "numpy": lambda f=numpy, o=operands, a=attrs: f(*o, **a),  # type: ignore[misc]
                "compiled": lambda f=function, o=operands, a=attrs: f(*o, **a),  # type: ignore[misc]
                "bound": function.bind(*operands, **attrs),
            }
            if options.numba:
                calls |= numba_calls(name, operands, attrs)
            times, ratios = measure(calls, options.rounds)
            cells = [f"{times['numpy'] * 1e6:,.1f}"]
            for kind in list(calls)[1:]:
                cells += [f"{times[kind] * 1e6:,.1f}", f"{ratios[kind]:.2f}"]
            print(f"| {name} | {' x '.join(f'{n:,}' for n in shape)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
