"""A multi-layer perceptron that tells three spirals apart, trained by Adam written out."""

from itertools import pairwise

import numpy.random as npr

import gpu_backprop as np
from gpu_backprop import grad, logsumexp


def spirals(n, rs):
    """Points on three arms, and which arm each is on as rows of zeros and a one."""
    t = np.linspace(0.5, 3.0, n)
    angles = [t + 2 * np.pi * k / 3 for k in range(3)]
    points = np.concatenate([np.column_stack([t * np.cos(a), t * np.sin(a)]) for a in angles])
    labels = np.repeat(np.eye(3), n, axis=0)
    return points + np.array(rs.normal(0, 0.05, (3 * n, 2))), labels


def init_random_params(scale, layer_sizes, rs):
    """A list of (weights, biases), one for each layer."""
    return [(scale * np.array(rs.randn(m, n)), scale * np.array(rs.randn(n))) for m, n in pairwise(layer_sizes)]


def predict(params, inputs):
    """Normalised log-probabilities of the classes."""
    for W, b in params:
        outputs = np.dot(inputs, W) + b
        inputs = np.tanh(outputs)
    return outputs - logsumexp(outputs, axis=1, keepdims=True)


def loss(params, inputs, targets, strength):
    log_prior = -strength * sum(np.sum(W**2) + np.sum(b**2) for W, b in params)
    return -(log_prior + np.sum(predict(params, inputs) * targets))


def accuracy(params, inputs, targets):
    return np.mean(np.argmax(targets, axis=1) == np.argmax(predict(params, inputs), axis=1))


def adam(gradient, params, steps, size=0.02, b1=0.9, b2=0.999, eps=1e-8):
    state = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in params]
    for i in range(steps):
        grads = gradient(params)
        new_params, new_state = [], []
        for layer, layer_grads, layer_state in zip(params, grads, state):
            moved = []
            for p, g, (m, v) in zip(layer, layer_grads, layer_state):
                m = (1 - b1) * g + b1 * m
                v = (1 - b2) * (g**2) + b2 * v
                mhat, vhat = m / (1 - b1 ** (i + 1)), v / (1 - b2 ** (i + 1))
                moved.append((p - size * mhat / (np.sqrt(vhat) + eps), (m, v)))
            new_params.append(tuple(p for p, _ in moved))
            new_state.append([s for _, s in moved])
        params, state = new_params, new_state
    return params


def main():
    rs = npr.RandomState(0)
    inputs, targets = spirals(30, rs)
    params = init_random_params(0.5, [2, 16, 16, 3], rs)
    objective_grad = grad(lambda params: loss(params, inputs, targets, 1e-3))
    before = loss(params, inputs, targets, 1e-3)
    params = adam(objective_grad, params, 40)
    return [before, loss(params, inputs, targets, 1e-3), accuracy(params, inputs, targets), predict(params, inputs)]


if __name__ == "__main__":
    before, after, right, _ = main()
    print(f"loss before {before:.3f}, after {after:.3f}; accuracy {right:.3f}")
