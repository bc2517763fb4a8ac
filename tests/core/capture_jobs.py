"""Functions to capture: layers, losses, optimisers, schedules and more, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gpu_backprop as gb

N, FEATURES, CLASSES = 12, 6, 4


class Job(NamedTuple):
    """A function of (x, y) to run again and again, and what it leaves behind."""

    step: Callable[..., Any]
    state: Callable[[], list[Any]]
    between: Callable[[], Any] = lambda: None


def network(*layers: Any, dtype: Any = "float32") -> Any:
    middle = [layer() for layer in layers]
    return gb.nn.Sequential(gb.nn.Linear(FEATURES, 8), *middle, gb.nn.Linear(8, CLASSES)).to(dtype=dtype)


def training(model, optimizer=None, loss=None, between=None, before_step=None, target=None) -> Job:
    """One step of training `model`, and its parameters and buffers."""
    optimizer = optimizer(model.parameters()) if optimizer else gb.optim.Adam(model.parameters(), lr=0.05)
    loss = loss or gb.nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y if target is None else target(x, y))
        value.backward()
        extra = before_step(model, optimizer) if before_step else None
        optimizer.step()
        return value, extra

    def state():
        found = [*model.state_dict().values()]
        for values in optimizer.state.values():
            found += [v for v in values.values() if isinstance(v, gb.Tensor)]
        return found

    return Job(step, state, between(optimizer) if between else lambda: None)


def training_step(model: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    """The plain one: forward, backward, update."""

    def step(x, y):
        optimizer.zero_grad()
        loss = gb.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def scheduled(make: Callable[[Any], Any], *arguments: Any) -> Callable[[Any], Callable[[], Any]]:
    def between(optimizer):
        schedule = make(optimizer)
        return lambda: schedule.step(*arguments)

    return between


def one_hot(x, y):
    return gb.nn.functional.one_hot(y, CLASSES).astype(x.dtype)


def ramp(x, y):
    return (y.astype(x.dtype).reshape((-1, 1)) / CLASSES).broadcast_to((y.shape[0], CLASSES))


def accumulation() -> Job:
    """Two backward passes a step, the gradients of the second added to the first's."""
    job_model = network(gb.nn.ReLU)
    optimizer = gb.optim.SGD(job_model.parameters(), lr=0.1, momentum=0.9)
    loss = gb.nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        total = 0.0
        for half in (slice(0, N // 2), slice(N // 2, N)):
            value = loss(job_model(x[half]), y[half]) / 2
            value.backward()
            total = total + value.detach()
        optimizer.step()
        return total

    return Job(step, lambda: [*job_model.state_dict().values()])


def without_optimizer() -> Job:
    """Gradients that pile up on leaves, and an update written by hand."""
    weight = gb.tensor(np.linspace(-1, 1, FEATURES * CLASSES).reshape(FEATURES, CLASSES), "float32", requires_grad=True)

    def step(x, y):
        value = gb.nn.functional.cross_entropy(x @ weight, y)
        value.backward()
        with gb.no_grad():
            weight.__isub__(0.1 * weight.grad)
        return value

    return Job(step, lambda: [weight, weight.grad])


def physics() -> Job:
    """A loss that holds derivatives of the network itself: u'' = -u (a PINN)."""
    model = network(gb.nn.Tanh)

    def residual(points):
        def u(t):
            return model(t).sum()

        slope = gb.grad(u)
        curve = gb.grad(lambda t: slope(t).sum())
        return ((curve(points) + points) ** 2).mean()

    optimizer = gb.optim.Adam(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        value = residual(x)
        value.backward()
        optimizer.step()
        return value

    return Job(step, lambda: [*model.state_dict().values()])


def gradient_matching() -> Job:
    """Data that are learned so that the gradients they give a network match those of other data."""
    model = network(gb.nn.Tanh)
    loss = gb.nn.CrossEntropyLoss()
    learned = gb.tensor(
        np.linspace(-1, 1, CLASSES * FEATURES).reshape(CLASSES, FEATURES), "float32", requires_grad=True
    )
    labels = gb.arange(CLASSES)
    optimizer = gb.optim.SGD([learned], lr=0.5)
    weight = next(model.parameters())

    def gradient(x, y):
        def of(w):
            hidden = gb.nn.functional.linear(x, w)
            return loss(hidden[:, :CLASSES], y)

        return gb.grad(of)(weight)

    def step(x, y):
        optimizer.zero_grad()
        value = ((gradient(learned, labels) - gradient(x, y).detach()) ** 2).sum()
        value.backward()
        optimizer.step()
        return value

    return Job(step, lambda: [learned])


def checkpointed() -> Job:
    model = network(gb.nn.ReLU, lambda: gb.nn.Dropout(0.4))
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        value = gb.nn.functional.cross_entropy(gb.checkpoint(model, x), y)
        value.backward()
        optimizer.step()
        return value

    return Job(step, lambda: [*model.state_dict().values()])


def own_primitive() -> Job:
    cube = gb.primitive(lambda x: x * x * x, vjp=lambda g, x: g * x * x * 3)
    model = network()
    return training(model, target=one_hot, loss=lambda p, t: (cube(p) * t).mean())


def noise() -> Job:
    """Random numbers of every kind inside the step, from the thread's generator."""
    model = network(gb.nn.ReLU)
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        order = gb.random.permutation(N, device=x.device)
        x, y = x[order], y[order]
        x = x + gb.random.normal(x.shape, device=x.device) + gb.random.uniform(x.shape, device=x.device)
        keep = gb.random.integers(0, 2, x.shape, device=x.device)
        optimizer.zero_grad()
        value = gb.nn.functional.cross_entropy(model(x * keep), y)
        value.backward()
        optimizer.step()
        return value

    return Job(step, lambda: [*model.state_dict().values()])


relu = gb.nn.ReLU
SGD, optim = gb.optim.SGD, gb.optim
JOBS: dict[str, Callable[[], Job]] = {
    # layers
    **{
        layer.__name__: lambda layer=layer: training(network(layer))
        for layer in (
            gb.nn.ELU, gb.nn.GELU, gb.nn.LeakyReLU, gb.nn.ReLU, gb.nn.Sigmoid, gb.nn.SiLU, gb.nn.Softplus, gb.nn.Tanh,
        )
    },
    "GELU tanh": lambda: training(network(lambda: gb.nn.GELU("tanh"))),
    "Softmax": lambda: training(network(lambda: gb.nn.Softmax(-1))),
    "Dropout": lambda: training(network(relu, lambda: gb.nn.Dropout(0.3), lambda: gb.nn.Dropout(0.2))),
    "LayerNorm": lambda: training(network(lambda: gb.nn.LayerNorm(8), relu)),
    "RMSNorm": lambda: training(network(lambda: gb.nn.RMSNorm(8), relu)),
    "BatchNorm1d": lambda: training(network(lambda: gb.nn.BatchNorm1d(8), relu)),
    "Embedding": lambda: training(
        gb.nn.Embedding(CLASSES, CLASSES), target=lambda x, y: y, loss=lambda p, t: (p * p).mean()
    ),
    "MLP": lambda: training(gb.nn.MLP([FEATURES, 8, CLASSES], dropout=0.2)),
    # losses
    "MSELoss": lambda: training(network(relu), loss=gb.nn.MSELoss(), target=one_hot),
    "L1Loss": lambda: training(network(relu), loss=gb.nn.L1Loss(), target=ramp),
    "HuberLoss": lambda: training(network(relu), loss=gb.nn.HuberLoss(delta=0.5), target=ramp),
    "BCEWithLogitsLoss": lambda: training(network(relu), loss=gb.nn.BCEWithLogitsLoss(), target=one_hot),
    "CrossEntropyLoss, all options": lambda: training(
        network(relu),
        loss=gb.nn.CrossEntropyLoss(weight=gb.tensor([1.0, 2.0, 0.5, 1.5]), label_smoothing=0.1, ignore_index=1),
    ),
    "CrossEntropyLoss, sum": lambda: training(network(relu), loss=gb.nn.CrossEntropyLoss(reduction="sum")),
    # optimisers
    "SGD": lambda: training(network(relu), lambda p: SGD(p, lr=0.1)),
    "SGD nesterov": lambda: training(network(relu), lambda p: SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True)),
    "Adam amsgrad": lambda: training(network(relu), lambda p: optim.Adam(p, amsgrad=True, weight_decay=0.01)),
    "AdamW": lambda: training(network(relu), lambda p: optim.AdamW(p, lr=0.01)),
    "RMSprop": lambda: training(network(relu), lambda p: optim.RMSprop(p, centered=True, momentum=0.5)),
    "Adagrad": lambda: training(network(relu), lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1)),
    "two groups": lambda: training(
        network(relu), lambda p: (lambda p: SGD([{"params": p[:2], "lr": 0.01}, {"params": p[2:]}], lr=0.1))([*p])
    ),
    "float64": lambda: training(network(relu, dtype="float64")),
    "bfloat16 with master weights": lambda: training(
        network(relu, dtype="bfloat16"), lambda p: optim.AdamW(p, master_weights=True)
    ),
    "float16": lambda: training(network(relu, dtype="float16"), lambda p: SGD(p, lr=0.1)),
    # learning rates, set between the calls
    "StepLR": lambda: training(network(relu), between=scheduled(lambda o: optim.lr_scheduler.StepLR(o, 10))),
    "CosineAnnealingLR": lambda: training(
        network(relu), between=scheduled(lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 50))
    ),
    "OneCycleLR": lambda: training(
        network(relu), between=scheduled(lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=60))
    ),
    "LinearWarmup": lambda: training(
        network(relu), between=scheduled(lambda o: optim.lr_scheduler.LinearWarmup(o, 20))
    ),
    "ReduceLROnPlateau": lambda: training(
        network(relu), between=scheduled(lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=3), 1.0)
    ),
    # gradients
    "clip_grad_norm_": lambda: training(
        network(relu), before_step=lambda m, o: gb.optim.clip_grad_norm_(m.parameters(), 0.1)
    ),
    "clip_grad_norm of the optimizer": lambda: training(
        network(relu), before_step=lambda m, o: o.clip_grad_norm(0.1, skip_nonfinite=True)
    ),
    "accumulation": accumulation,
    "without an optimizer": without_optimizer,
    "physics": physics,
    "gradient matching": gradient_matching,
    "checkpoint": checkpointed,
    "own primitive": own_primitive,
    "noise": noise,
}  # fmt: skip


def batches(device: str, count: int, dtype: str = "float32") -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(7)
    return [
        (
            gb.tensor(rng.standard_normal((N, FEATURES)).astype(np.float32), device=device),
            gb.tensor(rng.integers(0, CLASSES, N), device=device),
        )
        for _ in range(count)
    ]


def flat(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [leaf for r in result for leaf in flat(r)]
    return [result] if isinstance(result, gb.Tensor) else []


def history(name: str, wrap: Callable[[Any], Any], data: list[tuple[Any, Any]], steps: int) -> tuple[list[Any], Any]:
    """The bits of every result of a job of JOBS and of its state in the end, and its function as `wrap` made it."""
    gb.manual_seed(1)
    job = JOBS[name]()
    step = wrap(job.step)
    gb.manual_seed(3)
    results = []
    for i in range(steps):
        x, y = data[i % len(data)]
        results.append(bits(flat(step(y, y) if name == "Embedding" else step(x, y))))
        job.between()
    return [*results, bits(job.state())], step


def bits(tensors: list[Any]) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in tensors if t is not None]
