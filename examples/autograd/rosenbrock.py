"""Rosenbrock's banana-shaped valley, down which SciPy's optimisers go by our gradients."""

from scipy.optimize import minimize

import gpu_backprop as np
from gpu_backprop import grad, hessian, value_and_grad


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def main():
    start = [-1.2, 1.0]
    conjugate = minimize(value_and_grad(rosenbrock), start, jac=True, method="CG")
    quasi_newton = minimize(rosenbrock, start, jac=grad(rosenbrock), method="BFGS")
    newton = minimize(rosenbrock, start, jac=grad(rosenbrock), hess=hessian(rosenbrock), method="trust-exact")
    return [np.array(r.x) for r in (conjugate, quasi_newton, newton)] + [float(quasi_newton.nit), float(newton.nit)]


if __name__ == "__main__":
    for name, x in zip(("CG", "BFGS", "trust-exact"), main()):
        print(f"{name}: {x}")
