"""Gaussian process regression, its kernel's parameters fitted by the marginal likelihood."""

from scipy.optimize import minimize

import gpu_backprop as np
from gpu_backprop import value_and_grad

x = np.linspace(-3, 3, 20)
y = np.sin(x) + 0.1 * np.cos(7 * x)


def rbf(a, b, log_scale, log_length):
    differences = np.expand_dims(a, 1) - np.expand_dims(b, 0)
    return np.exp(log_scale) * np.exp(-0.5 * (differences / np.exp(log_length)) ** 2)


def covariance(params):
    return rbf(x, x, params[1], params[2]) + (np.exp(params[3]) + 1e-6) * np.eye(len(x))


def negative_log_marginal_likelihood(params):
    """params: the mean, and the logarithms of scale, length and noise."""
    K = covariance(params)
    L = np.linalg.cholesky(K)
    residual = y - params[0]
    alpha = np.linalg.solve(K, residual)
    return 0.5 * np.dot(residual, alpha) + np.sum(np.log(np.diag(L))) + 0.5 * len(x) * np.log(2 * np.pi)


def predict(params, xs):
    """The mean and the variance of the function at new points."""
    cross = rbf(xs, x, params[1], params[2])
    solved = np.linalg.solve(covariance(params), cross.T)
    mean = params[0] + np.dot(solved.T, y - params[0])
    return mean, np.exp(params[1]) - np.einsum("ij,ji->i", cross, solved)


def main():
    result = minimize(
        value_and_grad(negative_log_marginal_likelihood), np.array([0.0, 0.0, 0.0, -2.0]), jac=True, method="BFGS",
        options={"gtol": 1e-6},
    )  # fmt: skip
    params = np.array(result.x)
    mean, variance = predict(params, np.linspace(-4, 4, 9))
    return [negative_log_marginal_likelihood(params), params, mean, variance]


if __name__ == "__main__":
    value, params, mean, variance = main()
    print(f"negative log marginal likelihood {value:.4f}; noise {np.exp(params[3]):.5f}")
    print(f"mean {mean}\nvariance {variance}")
