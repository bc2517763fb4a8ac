"""SciPy's optimisers on losses of Tensors, through gpu_backprop.interop.scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

import gpu_backprop as gb
from gpu_backprop.interop.scipy import Objective


def rosenbrock(x: gb.Tensor) -> gb.Tensor:
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def test_value_and_gradient_are_numpys() -> None:
    objective = Objective(rosenbrock, np.array([-1.2, 1.0, 0.7]))
    value, gradient = objective(objective.x0)
    assert type(value) is float
    assert type(gradient) is np.ndarray
    assert gradient.dtype == objective.x0.dtype == np.float64
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], objective.x0) < 1e-4


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP", "trust-constr"])
def test_methods_find_the_valley(method: str) -> None:
    objective = Objective(rosenbrock, np.array([-1.2, 1.0]))
    result = minimize(objective, objective.x0, jac=True, method=method, options={"maxiter": 200})
    np.testing.assert_allclose(objective.at(result.x).numpy(), [1, 1], atol=2e-3)


def test_newton_by_products_with_the_hessian() -> None:
    objective = Objective(rosenbrock, np.full(6, -0.5))
    result = minimize(objective, objective.x0, jac=True, hessp=objective.hessp, method="Newton-CG", tol=1e-8)
    assert result.success
    np.testing.assert_allclose(result.x, np.ones(6), atol=1e-6)


def test_a_fit_of_nested_parameters(device: str) -> None:
    """L-BFGS finds the least squares that a solver of linear equations finds."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(30, 3)), random.normal(size=30)
    inputs, targets = gb.asarray(X, device=device), gb.asarray(y, device=device)

    def loss(p: dict) -> gb.Tensor:
        return ((inputs @ p["w"] + p["b"][0] - targets) ** 2).mean()

    start = {"w": gb.zeros(3, dtype="float64"), "b": [gb.zeros((), dtype="float64")]}
    objective = Objective(loss, start)
    result = minimize(objective, objective.x0, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    fitted = objective.at(result.x)
    expected = np.linalg.lstsq(np.column_stack([np.ones(30), X]), y)[0]
    assert fitted["w"].device == device
    np.testing.assert_allclose(fitted["w"].numpy(), expected[1:], atol=1e-7)
    np.testing.assert_allclose(fitted["b"][0].item(), expected[0], atol=1e-7)
    assert start["w"].tolist() == [0, 0, 0]


def test_a_module_is_fitted_by_its_parameters() -> None:
    gb.manual_seed(0)
    X = np.linspace(-2, 2, 40)[:, None].astype(np.float32)
    inputs, targets = gb.asarray(X), gb.asarray(np.sin(2 * X))
    model = gb.nn.MLP([1, 16, 1])

    def loss(model: gb.nn.Module) -> gb.Tensor:
        return gb.nn.functional.mse_loss(model(inputs), targets)

    objective = Objective(loss, model)
    before, _ = objective(objective.x0)
    result = minimize(objective, objective.x0, jac=True, method="L-BFGS-B", options={"maxiter": 150})
    fitted = objective.at(result.x)
    assert fitted is model
    assert loss(model).item() < before / 50
    assert all(p.grad is None for p in model.parameters())
    assert all(p.dtype == gb.float32 for p in model.parameters())
    with pytest.raises(gb.DTypeError, match="hessp: not of a Module"):
        objective.hessp(objective.x0, objective.x0)


def test_bad_input() -> None:
    objective = Objective(rosenbrock, np.zeros(3))
    with pytest.raises(gb.ShapeError, match=r"a vector of shape \[2\] for 3 numbers to fit"):
        objective(np.zeros(2))
    with pytest.raises(gb.ShapeError, match="nothing to fit"):
        Objective(rosenbrock, [])
    with pytest.raises(gb.DTypeError, match="int64 cannot be fitted"):
        Objective(rosenbrock, np.arange(3))
    with pytest.raises(gb.ShapeError, match="reduce it to a scalar"):
        Objective(lambda x: x, np.zeros(3))(np.zeros(3))
