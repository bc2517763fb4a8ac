"""Logistic regression by gradient descent."""

import gpu_backprop as np
from gpu_backprop import grad

inputs = np.array([[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]])
targets = np.array([True, True, False, True])


def sigmoid(x):
    return 0.5 * (np.tanh(x / 2.0) + 1)


def logistic_predictions(weights, inputs):
    return sigmoid(np.dot(inputs, weights))


def training_loss(weights):
    """The negative log-likelihood of the labels."""
    preds = logistic_predictions(weights, inputs)
    label_probabilities = preds * targets + (1 - preds) * (1 - targets)
    return -np.sum(np.log(label_probabilities))


def main():
    training_gradient = grad(training_loss)
    weights = np.array([0.0, 0.0, 0.0])
    losses = [training_loss(weights)]
    for _ in range(100):
        weights -= training_gradient(weights) * 0.1
        losses.append(training_loss(weights))
    return [np.array(losses), weights, logistic_predictions(weights, inputs)]


if __name__ == "__main__":
    losses, weights, predictions = main()
    print(f"loss before {losses[0]:.4f}, after {losses[-1]:.4f}")
    print(f"weights {weights}, predictions {predictions}")
