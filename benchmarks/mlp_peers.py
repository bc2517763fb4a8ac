"""What benchmarks/mlp_step.py times: one network and its data, set up in each library.

A peer is a function that is given a Setting and returns step() -> loss (or logits), and a function that waits until
work is done. All start from the same weights and take the same data, and keep what they keep in the same precision:

    float32   every product exact            tf32   a GPU may round the operands of float32 products to 10 bits
    bfloat16  weights, activations and gradients of 16 bits; losses, the weights that the optimiser works on, and its
              state are float32 (here by gb.nn.cast and master_weights, in PyTorch by autocast)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

LR = 1e-3
WEIGHT_DECAY = 1e-2  # AdamW's, PyTorch's default
PRECISIONS = ("float32", "tf32", "bfloat16")

Step = Callable[[], object]
Made = tuple[Step, Callable[[], object]]


class LeftOut(Exception):
    """A peer that cannot run what is asked for, and why."""


class Setting(NamedTuple):
    """What is timed.

    network: widths, or "8192x8" for 8 layers of that width. mode: of torch.compile on CUDA, always with CUDA graphs;
    with "max-autotune" algorithms are timed, ours too.
    """

    network: str
    batch: int
    device: str
    training: bool = True
    precision: str = "float32"
    optimizer: str = "adam"
    mode: str = "max-autotune"


def widths(network: str) -> tuple[int, ...]:
    """Input, hidden layers, classes."""
    width, times, layers = network.partition("x")
    return (int(width),) * (int(layers) + 1) if times else tuple(int(n) for n in network.split("-"))


def flops(setting: Setting) -> float:
    """Floating-point operations of a step's matrix products: the first layer needs no gradient of its input."""
    pairs = list(itertools.pairwise(widths(setting.network)))
    passes = [2 if i == 0 else 3 for i in range(len(pairs))] if setting.training else [1] * len(pairs)
    return sum(2.0 * setting.batch * n_in * n_out * times for times, (n_in, n_out) in zip(passes, pairs))


@functools.lru_cache(maxsize=1)
def problem(setting: Setting) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Inputs (batch, in), labels (batch,), and the first weights (out, in) and biases (out,) of every layer.

    All float32, with the digits of a bfloat16 where that is the precision.
    """
    sizes = widths(setting.network)
    rng = np.random.default_rng(0)
    mask = np.uint32(0xFFFF0000 if setting.precision == "bfloat16" else 0xFFFFFFFF)

    def rounded(array: np.ndarray) -> np.ndarray:
        array.view(np.uint32)[...] &= mask
        return array

    def uniform(bound: float, *shape: int) -> np.ndarray:
        array = rng.random(shape, np.float32)
        array -= np.float32(0.5)
        array *= np.float32(2 * bound)
        return rounded(array)

    x = rounded(rng.standard_normal((setting.batch, sizes[0]), np.float32))
    y = rng.integers(0, sizes[-1], len(x))
    layers = [
        (uniform(n_in**-0.5, n_out, n_in), uniform(n_in**-0.5, n_out)) for n_in, n_out in itertools.pairwise(sizes)
    ]
    return x, y, layers


def gpu_backprop(setting: Setting, captured: bool = True) -> Made:
    import gpu_backprop as gb

    x, y, layers = problem(setting)
    half = setting.precision == "bfloat16"
    gb.set_matmul_precision("high" if setting.precision == "tf32" else "highest")
    gb.tune_matmul(setting.mode == "max-autotune")
    with gb.device(setting.device):
        with mock.patch.object(gb.nn.Linear, "reset_parameters"):  # drawing weights, to be replaced, takes minutes
            model = gb.nn.MLP(widths(setting.network))
        linears = [m for m in model.modules() if isinstance(m, gb.nn.Linear)]
        with gb.no_grad():
            for linear, (weight, bias) in zip(linears, layers):
                linear.weight.copy_(gb.asarray(weight, device=setting.device))
                linear.bias.copy_(gb.asarray(bias, device=setting.device))
        xs, ys = gb.tensor(x, dtype="bfloat16" if half else None), gb.tensor(y)
    if half:
        gb.nn.cast(model, "bfloat16")
    capture = gb.capture if captured else lambda function: function
    wait = functools.partial(gb.synchronize, setting.device)
    if not setting.training:
        predict = capture(gb.no_grad()(model.eval().forward))
        return lambda: predict(xs), wait
    loss_function = gb.nn.CrossEntropyLoss()
    kind = {"adam": gb.optim.Adam, "adamw": gb.optim.AdamW}[setting.optimizer]
    optimizer = kind(model.parameters(), lr=LR, master_weights=half)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = capture(step)
    return lambda: step(xs, ys), wait


def torch_eager(setting: Setting, compiled: bool = False, graph: bool = False) -> Made:
    """With its fused optimiser; `compiled`: forward and loss by torch.compile, on CUDA with CUDA graphs.

    `graph`: the whole step, the optimiser's too, as one CUDA graph around what torch.compile made.
    """
    import torch

    if graph and (setting.device != "cuda" or not setting.training):
        raise LeftOut("a CUDA graph of the whole step needs CUDA and a training step")

    device, half = setting.device, setting.precision == "bfloat16"
    if device == "cuda" and not torch.cuda.is_available():
        raise LeftOut("this PyTorch has no CUDA")
    torch.set_float32_matmul_precision("high" if setting.precision == "tf32" else "highest")
    x, y, layers = problem(setting)
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta").to_empty(device=device)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    xs, ys = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    xs = xs.bfloat16() if half else xs
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def ready(function: Callable[..., Any]) -> Callable[..., Any]:
        if not compiled:
            return function
        modes = {"max-autotune": "max-autotune-no-cudagraphs", "reduce-overhead": "default"} if graph else {}
        return torch.compile(function, mode=modes.get(setting.mode, setting.mode) if device == "cuda" else None)

    if not setting.training:
        predict = ready(model.bfloat16().eval() if half else model.eval())

        def infer() -> object:
            with torch.inference_mode():
                return predict(xs)

        return infer, wait
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[setting.optimizer]
    decay = {} if setting.optimizer == "adam" else {"weight_decay": WEIGHT_DECAY}
    optimizer = kind(model.parameters(), lr=LR, fused=True, capturable=graph, **decay)

    @ready
    def loss_of(x: Any, y: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            return torch.nn.functional.cross_entropy(model(x), y)

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_of(xs, ys)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return (as_graph(step, model, optimizer) if graph else step), wait


def as_graph(step: Step, model: Any, optimizer: Any) -> Step:
    """A training step of PyTorch as one CUDA graph; weights and state are then as they were before."""
    import torch

    before = [p.detach().clone() for p in model.parameters()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, and makes the optimiser's state
            step()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        loss = step()
    with torch.no_grad():
        for p, values in zip(model.parameters(), before):
            p.copy_(values)
        for state in optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def replay() -> object:
        recorded.replay()
        return loss

    return replay


def jax_jit(setting: Setting) -> Made:
    import jax
    import jax.numpy as jnp
    import optax

    if setting.device == "cuda" and jax.default_backend() != "gpu":
        raise LeftOut("this JAX has no CUDA")
    products = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
    jax.config.update("jax_default_matmul_precision", products[setting.precision])
    kind = jnp.bfloat16 if setting.precision == "bfloat16" else jnp.float32
    x, y, layers = problem(setting)
    xs, ys = jnp.asarray(x, kind), jnp.asarray(y)
    params = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in layers]
    optimizer = optax.adam(LR) if setting.optimizer == "adam" else optax.adamw(LR, weight_decay=WEIGHT_DECAY)

    def forward(params: Any, x: Any) -> Any:
        *hidden, last = [(w.astype(kind), b.astype(kind)) for w, b in params]
        for w, b in hidden:
            x = jax.nn.relu(x @ w + b)
        return x @ last[0] + last[1]

    if not setting.training:
        params = [(w.astype(kind), b.astype(kind)) for w, b in params]
        predict = jax.jit(forward)
        return lambda: jax.block_until_ready(predict(params, xs)), lambda: None

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        logits = forward(params, x).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def update(params: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    compiled = jax.jit(update, donate_argnums=(0, 1))
    state = optimizer.init(params)

    def step() -> object:
        nonlocal params, state
        params, state, loss = compiled(params, state, xs, ys)
        return loss

    return step, lambda: jax.block_until_ready(params)


def hips_autograd(setting: Setting) -> Made:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    if (setting.device, setting.training, setting.precision, setting.optimizer) != ("cpu", True, "float32", "adam"):
        raise LeftOut("HIPS autograd trains here with Adam, in float32, on the CPU")
    x, y, layers = problem(setting)
    params = [array for w, b in layers for array in (w.T.copy(), b.copy())]
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    rows = np.arange(len(y))
    t = 0

    def loss_function(params: Any) -> Any:
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


def products_by(setting: Setting) -> str:
    """The package that multiplies."""
    return "torch" if setting.device == "cuda" or setting.precision == "bfloat16" else "numpy"


def products(setting: Setting) -> Made:
    """The matrix products alone: forward, and for training those of weights' and inputs' gradients.

    NumPy's, but PyTorch's on CUDA and in bfloat16; launched one by one: a floor for steps that take longer than that.
    """
    first, _, layers = problem(setting)
    make: Callable[[np.ndarray], Any] = lambda array: array
    dot: Callable[..., Any] = np.dot
    wait: Callable[[], object] = lambda: None
    if products_by(setting) == "torch":
        import torch

        torch.set_float32_matmul_precision("high" if setting.precision == "tf32" else "highest")
        kind = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
        make = lambda array: torch.from_numpy(array).to(setting.device, kind)
        dot = torch.mm
        wait = torch.cuda.synchronize if setting.device == "cuda" else wait
    calls = []
    x = make(first)
    for i, (array, _) in enumerate(layers):
        weight = make(array)
        out = make(np.empty((len(first), len(array)), np.float32))
        calls.append((x, weight.T, out))
        if setting.training:
            calls.append((out.T, x, make(np.empty_like(array))))
            if i:
                calls.append((out, weight, make(np.empty((len(first), array.shape[1]), np.float32))))
        x = out

    def step() -> object:
        for a, b, out in calls:
            dot(a, b, out=out)
        return math.nan

    return step, wait


class Peer(NamedTuple):
    """package: what must be installed, and gives the version."""

    make: Callable[[Setting], Made]
    package: Callable[[Setting], str]


# the first one is what the others are compared with
PEERS = {
    "gpu_backprop": Peer(gpu_backprop, lambda _: "gpu_backprop"),
    "gpu_backprop eager": Peer(functools.partial(gpu_backprop, captured=False), lambda _: "gpu_backprop"),
    "torch": Peer(torch_eager, lambda _: "torch"),
    "torch.compile": Peer(functools.partial(torch_eager, compiled=True), lambda _: "torch"),
    "torch CUDA graph": Peer(functools.partial(torch_eager, compiled=True, graph=True), lambda _: "torch"),
    "jax": Peer(jax_jit, lambda _: "jax"),
    "autograd": Peer(hips_autograd, lambda _: "autograd"),
    "products": Peer(products, products_by),
}
