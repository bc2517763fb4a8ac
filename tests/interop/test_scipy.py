"""SciPy on Tensors, with SCIPY_ARRAY_API=1: equal to NumPy, and Tensors again; and the helper for scipy.optimize."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

import gpu_backprop as gb

from .processes import report

REFUSED = {
    *("special.log_expit", "special.log1p", "special.expm1", "special.beta"),  # ufuncs of SciPy's, as they are
    *("stats.spearmanr", "signal.argrelmax"),  # numpy.apply_along_axis, take(mode=)
}
NUMBERS = {"bool", "int"}  # Python's, which SciPy gives for NumPy arrays too


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return report("scipy_cases")


def test_what_scipy_dispatches_gives_tensors_equal_to_numpy(found) -> None:
    cases = found["dispatched"]
    assert len(cases) >= 260
    wrong = {name: case["error"] or case["types"] for name, case in cases.items() if case["error"]}
    foreign = {name: case["types"] for name, case in cases.items() if not {"Tensor"} | NUMBERS >= {*case["types"]}}
    assert wrong == {}
    assert foreign == {}
    assert sum("Tensor" not in case["types"] for case in cases.values()) == 2  # is_valid_linkage, num_obs_linkage


def test_gradients_flow_through_what_is_written_for_any_array_library(found) -> None:
    assert {name: case["error"] for name, case in found["gradients"].items() if case["error"]} == {}


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """What is written in the array API runs there; what is compiled for NumPy asks for a copy, which is refused."""
    found = report("scipy_cases", device="cuda")
    assert {name: case["error"] for name, case in found["gradients"].items() if case["error"]} == {}
    errors = [case["error"] for case in found["dispatched"].values() if case["error"]]
    assert len(found["dispatched"]) - len(errors) >= 90
    for error in errors:  # signal.group_delay makes an array on the CPU
        assert error.startswith(("DTypeError: numpy.asarray: this Tensor is on cuda", "DeviceError: multiply: ")), error


def test_what_scipy_computes_with_numpy_alone(found) -> None:
    """Not in SciPy's table of what takes other arrays, or marked there: equal values, or an error of type."""
    for name, case in (found["unlisted"] | found["NumPy only"]).items():
        assert case["error"] == "" or case["error"].startswith(("DTypeError", "TypeError: take()")), (name, case)
        if case["declared"] == "":  # by a SciPy newer than the list
            assert case["types"] == ["Tensor"], (name, case)
    refused = {name for name, case in (found["unlisted"] | found["NumPy only"]).items() if case["error"]}
    assert refused <= REFUSED


def test_what_asks_for_more_than_the_standard_is_refused_clearly(found) -> None:
    assert {name: case["error"].split(":")[0] for name, case in found["refused"].items()} == {
        "interpolate.RBFInterpolator": "MissingError"
    }


# scipy.optimize.minimize ----------------------------------------------------------------------------------------------


def test_l_bfgs_with_gradients_from_the_tape(device) -> None:
    """Rosenbrock's function, whose minimum is at ones."""

    def rosenbrock(x, scale):
        return (scale * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    objective = gb.interop.scipy.Objective(rosenbrock, device=device)
    x0 = np.array([-1.2, 1.0, 0.5])
    value, gradient = objective(x0, 100.0)
    assert isinstance(value, float)
    assert gradient.dtype == np.float64
    assert value == pytest.approx(optimize.rosen(x0), rel=1e-14)
    np.testing.assert_allclose(gradient, optimize.rosen_der(x0), rtol=1e-12)
    result = optimize.minimize(objective, x0, args=(100.0,), jac=True, method="L-BFGS-B")
    assert result.success
    np.testing.assert_allclose(result.x, np.ones(3), atol=1e-4)


def test_l_bfgs_fits_the_parameters_of_a_module() -> None:
    """Ridge regression by a Linear layer, against its closed form."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 3))
    targets = features @ np.array([1.0, -2.0, 0.5]) + 3.0 + 0.1 * rng.normal(size=50)
    model = gb.nn.Linear(3, 1, dtype="float64")
    x, y = gb.asarray(features), gb.asarray(targets)

    def loss():
        return ((model(x)[:, 0] - y) ** 2).sum() + 0.5 * (model.weight**2).sum()

    objective = gb.interop.scipy.Objective(loss, model.parameters())
    start = objective.x0
    assert start.shape == (4,)
    result = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    objective.write(result.x)
    design = np.column_stack([features, np.ones(50)])
    expected = np.linalg.solve(design.T @ design + np.diag([0.5, 0.5, 0.5, 0.0]), design.T @ targets)
    np.testing.assert_allclose(model.weight.numpy()[0], expected[:3], rtol=1e-6)
    np.testing.assert_allclose(model.bias.numpy(), expected[3:], rtol=1e-6)
    assert [p.grad for p in model.parameters()] == [None, None]


def test_objectives_of_float32_parameters_and_of_unused_ones() -> None:
    used, unused = gb.tensor([[1.0, 2.0]], requires_grad=True), gb.tensor([5.0], requires_grad=True)
    objective = gb.interop.scipy.Objective(lambda: (used**2).sum(), [used, unused])
    value, gradient = objective(np.array([3.0, 4.0, 5.0]))
    assert (value, gradient.tolist(), gradient.dtype) == (25.0, [6.0, 8.0, 0.0], np.float64)
    assert used.dtype == gb.float32
    assert objective.x0.tolist() == [3.0, 4.0, 5.0]


def test_what_is_no_objective() -> None:
    leaf = gb.tensor([1.0, 2.0], requires_grad=True)
    Objective = gb.interop.scipy.Objective
    with pytest.raises(gb.ShapeError, match=r"Objective: x of shape \[3\] for parameters of 2 elements"):
        Objective(lambda: leaf.sum(), [leaf])(np.zeros(3))
    with pytest.raises(gb.DTypeError, match="must be a real leaf that requires grad"):
        Objective(lambda: leaf.sum(), [leaf.detach()])
    with pytest.raises(gb.DTypeError, match="returned a float; it must return a scalar Tensor"):
        Objective(lambda: 1.0, [leaf])(np.zeros(2))
    with pytest.raises(gb.ShapeError, match="reduce it to a scalar"):
        Objective(lambda x: x)(np.zeros(2))
    with pytest.raises(gb.DTypeError, match="x0 needs parameters"):
        Objective(lambda x: x.sum()).x0  # noqa: B018
