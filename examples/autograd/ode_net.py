"""A network as the right side of a differential equation: it learns a spiral from points on it."""

import numpy.random as npr

import gpu_backprop as np
from gpu_backprop import grad


def runge_kutta(f, state, dt, steps):
    """The classical method of fourth order: the states after each step."""
    states = [state]
    for _ in range(steps):
        k1 = f(state)
        k2 = f(state + 0.5 * dt * k1)
        k3 = f(state + 0.5 * dt * k2)
        k4 = f(state + dt * k3)
        state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(state)
    return np.array(states)


def network(params, state):
    for W, b in params[:-1]:
        state = np.tanh(np.dot(state, W) + b)
    W, b = params[-1]
    return np.dot(state, W) + b


def main():
    spiral = np.array([[-0.1, 2.0], [-2.0, -0.1]])
    start = np.array([2.0, 0.0])
    truth = runge_kutta(lambda s: np.dot(s, spiral), start, 0.1, 15)
    rs = npr.RandomState(0)
    params = [(0.3 * np.array(rs.randn(m, n)), np.zeros(n)) for m, n in ((2, 12), (12, 2))]

    def loss(params):
        return np.mean((runge_kutta(lambda s: network(params, s), start, 0.1, 15) - truth) ** 2)

    gradient = grad(loss)
    losses = []
    for _ in range(10):
        losses.append(loss(params))
        params = [(W - 0.1 * dW, b - 0.1 * db) for (W, b), (dW, db) in zip(params, gradient(params))]
    return [np.array(losses), *[W for W, _ in params]]


if __name__ == "__main__":
    losses = main()[0]
    print(f"mean squared error: before {losses[0]:.4f}, after {losses[-1]:.4f}")
