"""The derivatives of tanh up to the sixth, from its definition."""

import gpu_backprop as np
from gpu_backprop import elementwise_grad, grad


def tanh(x):
    return (1.0 - np.exp(-2 * x)) / (1.0 + np.exp(-(2 * x)))


def main():
    slope = grad(tanh)(1.0)
    step = 1e-4
    difference = (tanh(1.0 + step / 2) - tanh(1.0 - step / 2)) / step
    x = np.linspace(-3, 3, 200)
    curves = [tanh(x)]
    derivative = tanh
    for _ in range(6):
        derivative = elementwise_grad(derivative)
        curves.append(derivative(x))
    return [slope, difference, *curves]


if __name__ == "__main__":
    slope, difference, *curves = main()
    print(f"slope at 1: {slope:.6f}, by a difference: {difference:.6f}")
    for order, curve in enumerate(curves):
        print(f"derivative {order}: largest value {np.max(np.abs(curve)):.4f}")
