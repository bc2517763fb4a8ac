"""What a Sequential runs as one operation."""

from __future__ import annotations

import numpy as np

import gpu_backprop as gb
from gpu_backprop import nn
from gpu_backprop.core import tape


def test_linear_and_relu_run_as_one_operation_with_the_same_bits(device):
    gb.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Tanh())
    x = gb.random.normal((6, 5))
    fused = model(x)
    assert [node.primitive.name for node in tape.nodes([fused])] == ["tanh", "linear_relu", "linear_relu"]
    fused.sum().backward()
    gradients = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    h = x
    for module in model:
        h = module(h)
    h.sum().backward()
    np.testing.assert_array_equal(h.numpy(), fused.numpy())
    for p, gradient in zip(model.parameters(), gradients):
        np.testing.assert_array_equal(p.grad.numpy(), gradient)


def test_an_edited_sequential_fuses_what_it_holds_now():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1] = nn.Tanh()
    assert [node.primitive.name for node in tape.nodes([model(gb.ones((1, 2)))])] == ["tanh", "linear"]
    model[1] = nn.ReLU()
    assert [node.primitive.name for node in tape.nodes([model(gb.ones((1, 2)))])] == ["linear_relu"]
