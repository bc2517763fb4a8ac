"""SciPy on Tensors, with SCIPY_ARRAY_API=1: equal to NumPy, and Tensors again; and the helper for scipy.optimize."""

from __future__ import annotations

from typing import Any

import pytest

from .processes import report

NUMBERS = {"bool", "int"}  # Python's, which SciPy gives for NumPy arrays too


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return report("scipy_cases", "scipy")


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


def test_what_scipy_computes_with_numpy_alone(found) -> None:
    """Listed by SciPy as such, or not at all; the values are right, or an error of type says that it cannot be."""
    for name, case in (found["unlisted"] | found["NumPy only"]).items():
        assert case["error"] == "" or case["error"].startswith(("DTypeError", "TypeError: take()")), (name, case)
    assert {case["declared"] for case in found["unlisted"].values()} == {None}
    assert {case["declared"] for case in found["NumPy only"].values()} == {"NumPy only", "out of scope"}


def test_what_asks_for_more_than_the_standard_is_refused_clearly(found) -> None:
    assert {name: case["error"].split(":")[0] for name, case in found["refused"].items()} == {
        "interpolate.RBFInterpolator": "MissingError"
    }
