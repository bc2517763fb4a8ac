"""Draws docs/network.svg: one training step of a 2-3-1 network on real numbers. Run: python docs/network.py"""

from pathlib import Path

import gpu_backprop as gb

x = gb.tensor([[0.5, -1.0]])
target = gb.tensor([[1.0]])
w1 = gb.tensor([[0.4, -0.6], [0.9, 0.3], [-0.5, 0.8]], requires_grad=True)
b1 = gb.tensor([0.1, -0.2, 0.0], requires_grad=True)
w2 = gb.tensor([[0.7, -0.4, 0.6]], requires_grad=True)
b2 = gb.tensor([0.2], requires_grad=True)

hidden = gb.tanh(gb.nn.functional.linear(x, w1, b1))
prediction = gb.nn.functional.linear(hidden, w2, b2)
loss = ((prediction - target) ** 2).mean()

names = {"x": x, "target": target, "weight 1": w1, "bias 1": b1, "weight 2": w2, "bias 2": b2}
print(gb.viz.tape(loss, names=names))
gb.viz.draw(loss, names=names).save(Path(__file__).with_name("network.svg"))
