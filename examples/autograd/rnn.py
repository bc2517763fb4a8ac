"""A recurrent network that learns to continue a sequence of letters."""

import numpy.random as npr

import gpu_backprop as np
from gpu_backprop import grad, logsumexp

TEXT = "to be or not to be "
LETTERS = sorted(set(TEXT))


def one_hot(text):
    return np.array([[float(a == b) for b in LETTERS] for a in text])


def init_params(state_size, scale, rs):
    n = len(LETTERS)
    return {
        "init hiddens": scale * np.array(rs.randn(1, state_size)),
        "change": scale * np.array(rs.randn(n + state_size + 1, state_size)),
        "predict": scale * np.array(rs.randn(state_size + 1, n)),
    }


def concat_and_multiply(weights, *args):
    cat_state = np.hstack([*args, np.ones((args[0].shape[0], 1))])
    return np.dot(cat_state, weights)


def log_likelihood(params, inputs):
    """Of each letter, by the ones before it."""
    hiddens = params["init hiddens"]
    total = 0.0
    for t in range(len(inputs) - 1):
        hiddens = np.tanh(concat_and_multiply(params["change"], inputs[t : t + 1], hiddens))
        output = concat_and_multiply(params["predict"], hiddens)
        output = output - logsumexp(output, axis=1, keepdims=True)
        total = total + np.sum(output * inputs[t + 1])
    return total / (len(inputs) - 1)


def main():
    inputs = one_hot(TEXT)
    params = init_params(12, 0.2, npr.RandomState(1))
    gradient = grad(log_likelihood)
    values = []
    for _ in range(12):
        values.append(log_likelihood(params, inputs))
        g = gradient(params, inputs)
        params = {name: params[name] + 1.0 * g[name] for name in params}
    return [np.array(values), *[params[name] for name in sorted(params)]]


if __name__ == "__main__":
    values = main()[0]
    print(f"log-likelihood a letter: before {values[0]:.3f}, after {values[-1]:.3f}")
