"""An independent reference: a 3-layer perceptron and the optimisers in plain float64 NumPy, from the papers' formulas.

Nothing here knows the library. Each update takes one parameter, its gradient, its state (a dict that it fills) and the
hyperparameters, and returns the new parameter.
"""

from __future__ import annotations

import itertools

import numpy as np


def sgd(p, g, state, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    state["step"] = state.get("step", 0) + 1
    if momentum == 0:
        return p - lr * g
    b = state.get("momentum_buffer")
    b = state["momentum_buffer"] = g.copy() if b is None else momentum * b + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b)


def adam(
    p, g, state, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False, decoupled=False
):
    g = -g if maximize else g
    t = state["step"] = state.get("step", 0) + 1
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = state["exp_avg"] = betas[0] * state.get("exp_avg", 0.0) + (1 - betas[0]) * g
    v = state["exp_avg_sq"] = betas[1] * state.get("exp_avg_sq", 0.0) + (1 - betas[1]) * g * g
    if amsgrad:
        v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0.0), v)
    return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adamw(p, g, state, weight_decay=1e-2, **options):
    return adam(p, g, state, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, g, state, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    state["step"] = state.get("step", 0) + 1
    v = state["square_avg"] = alpha * state.get("square_avg", 0.0) + (1 - alpha) * g * g
    if centered:
        a = state["grad_avg"] = alpha * state.get("grad_avg", 0.0) + (1 - alpha) * g
        v = v - a * a
    step = g / (np.sqrt(v) + eps)
    if momentum:
        step = state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + step
    return p - lr * step


def adagrad(
    p, g, state, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, maximize=False
):
    g = (-g if maximize else g) + weight_decay * p
    t = state["step"] = state.get("step", 0) + 1
    s = state["sum"] = state.get("sum", initial_accumulator_value) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s) + eps)


UPDATES = {"SGD": sgd, "Adam": adam, "AdamW": adamw, "RMSprop": rmsprop, "Adagrad": adagrad}


def _every(name, base, **choices):
    """All combinations of the options given."""
    for values in itertools.product(*choices.values()):
        yield name, {**base, **dict(zip(choices, values))}


CASES = [
    *_every("SGD", {"lr": 0.05}, weight_decay=[0.0, 0.01]),
    *_every("SGD", {"lr": 0.05, "momentum": 0.9}, weight_decay=[0.0, 0.01], dampening=[0.0, 0.2]),
    *_every("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}, weight_decay=[0.0, 0.01]),
    # climbing runs away, and its rounding with it: small steps
    *_every("SGD", {"lr": 0.001, "maximize": True}, weight_decay=[0.0, 0.01], momentum=[0.0, 0.9]),
    *_every("Adam", {"lr": 0.01}, weight_decay=[0.0, 0.01], amsgrad=[False, True], maximize=[False, True]),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4}),
    *_every("AdamW", {"lr": 0.01}, weight_decay=[0.01, 0.1], amsgrad=[False, True], maximize=[False, True]),
    *_every("RMSprop", {}, weight_decay=[0.0, 0.01], momentum=[0.0, 0.9], centered=[False, True]),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-4, "maximize": True}),
    *_every("Adagrad", {"lr": 0.05}, weight_decay=[0.0, 0.01], lr_decay=[0.0, 0.1]),
    *_every("Adagrad", {"lr": 0.05, "lr_decay": 0.1}, weight_decay=[0.0, 0.01], initial_accumulator_value=[0.1]),
    ("Adagrad", {"lr": 0.05, "eps": 1e-5, "maximize": True}),
]


def case_id(case) -> str:
    name, options = case
    return name + "".join(f"-{k}={v}" for k, v in options.items() if k != "lr")


SIZES = (5, 8, 7, 3)


def problem(seed=0):
    """Weights and biases of a 5-8-7-3 perceptron, inputs and targets."""
    rng = np.random.default_rng(seed)
    params = []
    for n_in, n_out in itertools.pairwise(SIZES):
        params += [rng.uniform(-1, 1, (n_out, n_in)) / np.sqrt(n_in), rng.uniform(-1, 1, n_out) / np.sqrt(n_in)]
    return params, rng.normal(size=(16, SIZES[0])), rng.normal(size=(16, SIZES[-1]))


def loss_and_gradients(params, x, y):
    """Mean squared error of tanh layers and a linear one, and its gradient by the chain rule."""
    w1, b1, w2, b2, w3, b3 = params
    h1 = np.tanh(x @ w1.T + b1)
    h2 = np.tanh(h1 @ w2.T + b2)
    error = h2 @ w3.T + b3 - y
    g3 = 2 * error / error.size
    g2 = (g3 @ w3) * (1 - h2 * h2)
    g1 = (g2 @ w2) * (1 - h1 * h1)
    gradients = [g1.T @ x, g1.sum(0), g2.T @ h1, g2.sum(0), g3.T @ h2, g3.sum(0)]
    return np.mean(error * error), gradients
