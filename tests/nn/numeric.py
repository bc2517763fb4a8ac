"""Central differences for functions of Tensors, in float64."""

from __future__ import annotations

import numpy as np

import gpu_backprop as gb


def _difference(scalar, arrays, i, step=1e-5):
    """d scalar(arrays) / d arrays[i]."""
    result = np.zeros_like(arrays[i])
    for index in np.ndindex(arrays[i].shape):
        ends = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[i][index] += sign * step
            ends.append(scalar(moved))
        result[index] = (ends[0] - ends[1]) / (2 * step)
    return result


def check_gradients(function, *arrays, double=True, tolerance=1e-7):
    """The gradient of sum(weights * function(*arrays)) and, for `double`, of sum(directions * gradient)."""
    rng = np.random.default_rng(7)
    arrays = [np.asarray(a, np.float64) for a in arrays]
    with gb.no_grad():
        weights = rng.normal(size=function(*map(gb.tensor, arrays)).shape)
    directions = [rng.normal(size=a.shape) for a in arrays]

    def value(values):
        with gb.no_grad():
            return float((function(*map(gb.tensor, values)) * gb.tensor(weights)).sum())

    def slope(values, create_graph=False):
        leaves = [gb.tensor(v, requires_grad=True) for v in values]
        (function(*leaves) * gb.tensor(weights)).sum().backward(create_graph=create_graph)
        return leaves, [leaf.grad for leaf in leaves]

    _, gradients = slope(arrays)
    for i, gradient in enumerate(gradients):
        expected = _difference(value, arrays, i)
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=tolerance, atol=tolerance, err_msg=f"input {i}")
    if not double:
        return

    def directional(values):
        return sum(float((g.detach().numpy() * d).sum()) for g, d in zip(slope(values)[1], directions))

    leaves, gradients = slope(arrays, create_graph=True)
    total = sum((g * gb.tensor(d)).sum() for g, d in zip(gradients, directions))
    for leaf in leaves:
        leaf.grad = None
    if not total.requires_grad:  # linear functions
        for i in range(len(arrays)):
            np.testing.assert_allclose(_difference(directional, arrays, i), 0, atol=tolerance)
        return
    total.backward()
    for i, leaf in enumerate(leaves):
        expected = _difference(directional, arrays, i)
        found = np.zeros_like(expected) if leaf.grad is None else leaf.grad.detach().numpy()
        np.testing.assert_allclose(
            found, expected, rtol=tolerance * 10, atol=tolerance * 10, err_msg=f"double, input {i}"
        )
