"""scikit-learn on Tensors, with array_api_dispatch: equal to NumPy, and Tensors again."""

from __future__ import annotations

from typing import Any

import pytest

from .processes import report


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return report("sklearn_cases")


@pytest.mark.parametrize("group", ["estimators", "metrics", "tools"])
def test_results_equal_numpys(found, group) -> None:
    """Arrays are Tensors; scores are Python's floats, as scikit-learn gives them for NumPy too."""
    assert {name: case["error"] for name, case in found[group].items() if case["error"]} == {}
    allowed = {"Tensor"} if group == "estimators" else {"Tensor", "float"}
    assert {name: case["types"] for name, case in found[group].items() if not allowed >= {*case["types"]}} == {}


def test_nothing_is_left_out(found) -> None:
    assert [len(found[group]) for group in ("estimators", "metrics", "tools")] == [21, 52, 8]


def test_what_scikit_learn_computes_with_numpy_alone(found) -> None:
    """Equal values, be it as NumPy arrays, or an error of type that names NumPy's function."""
    for name, case in found["NumPy"].items():
        assert case["types"] or case["error"].startswith("DTypeError: numpy."), (name, case)
    refused = {name for name, case in found["NumPy"].items() if case["error"]}
    assert refused <= {"RobustScaler", "nan_euclidean_distances"}


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    found = report("sklearn_cases", device="cuda")
    names = {name: case["error"] for group in ("estimators", "metrics", "tools") for name, case in found[group].items()}
    errors = {name: error for name, error in names.items() if error}
    assert len(names) == 81
    assert set(errors) <= {"calibration_curve"}, errors  # which searches among numbers on the CPU
