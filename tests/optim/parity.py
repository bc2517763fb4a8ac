"""How far the optimisers are from their formulas: `python -m tests.optim.parity [device ...]` prints a table.

float64: the largest difference of any parameter from the NumPy reference after 100 steps of a 3-layer perceptron.
float32: the largest difference after one step from the same state and gradient, relative to the largest parameter.
"""

from __future__ import annotations

import sys

import numpy as np

import gpu_backprop as gb

from .reference import CASES, UPDATES, loss_and_gradients, problem


def network(params, dtype="float64"):
    """The reference's perceptron in the library, with the same weights."""
    sizes = [params[0].shape[1], *(b.shape[0] for b in params[1::2])]
    model = gb.nn.MLP(sizes, activation="tanh", dtype=dtype)
    model.load_state_dict(dict(zip(model.state_dict(), params)))
    return model


def trajectory(name, options, steps=100):
    """The largest difference of parameters over `steps` steps in float64, and the number of parameters compared."""
    params, x, y = problem()
    model = network(params)
    optimizer = getattr(gb.optim, name)(model.parameters(), **options)
    loss_fn = gb.nn.MSELoss()
    inputs, targets = gb.tensor(x), gb.tensor(y)
    states = [{} for _ in params]
    worst = 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        expected_loss, gradients = loss_and_gradients(params, x, y)
        params = [UPDATES[name](p, g, s, **options) for p, g, s in zip(params, gradients, states)]
        worst = max(worst, abs(loss.item() - expected_loss) / max(1.0, abs(expected_loss)))
    for p, expected in zip(model.parameters(), params):
        # maximising runs away: its parameters are compared relative to their size
        worst = max(worst, np.abs(p.detach().numpy() - expected).max() / max(1.0, np.abs(expected).max()))
    return worst


def single_steps(name, options, steps=100):
    """The largest relative difference of parameters and state after one float32 step from the same state."""
    params, x, y = problem()
    recorded = []
    for _ in range(steps):  # gradients along a real descent
        gradients = loss_and_gradients(params, x, y)[1]
        params = [p - 0.05 * g for p, g in zip(params, gradients)]
        recorded.append([g.astype(np.float32) for g in gradients])
    model = network(problem()[0], "float32")
    optimizer = getattr(gb.optim, name)(model.parameters(), **options)
    worst = 0.0
    for gradients in recorded:
        before = optimizer.state
        expected = []
        for p, g in zip(model.parameters(), gradients):
            state = {k: v if k == "step" else v.numpy().astype(np.float64) for k, v in before.get(p, {}).items()}
            new = UPDATES[name](p.detach().numpy().astype(np.float64), g.astype(np.float64), state, **options)
            expected.append((p, new, state))
            p.grad = gb.tensor(g)
        optimizer.step()
        after = optimizer.state
        for p, new, state in expected:
            pairs = [(p.detach().numpy(), new), *((after[p][k].numpy(), v) for k, v in state.items() if k != "step")]
            for value, reference in pairs:
                worst = max(worst, np.abs(value - reference).max() / np.abs(reference).max())
    return worst


def main(devices):
    width = max(len(describe(case)) for case in CASES)
    print(f"{'':{width}}" + "".join(f"  {d + ' float64':>16}  {d + ' float32':>16}" for d in devices))
    for name, options in CASES:
        row = f"{describe((name, options)):{width}}"
        for device in devices:
            with gb.device(device):
                row += f"  {trajectory(name, options):16.1e}  {single_steps(name, options):16.1e}"
        print(row)


def describe(case):
    name, options = case
    return f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})"


if __name__ == "__main__":
    main(sys.argv[1:] or ["cpu"])
