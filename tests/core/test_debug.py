"""detect_anomaly and gradcheck: finding the operation that is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import gpu_backprop as gb


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """NumPy's own warnings of these operations are not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def test_forward_names_the_first_operation(device: str) -> None:
    x = gb.tensor([1.0, -1.0, 4.0])
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError) as found:
        gb.exp(gb.sqrt(x) * 2)
    assert "detect_anomaly: sqrt(float32[3]) gave nan at [1]; its inputs were all finite" in str(found.value)


def test_forward_says_when_an_input_was_bad_already() -> None:
    x = gb.tensor([1.0, float("inf")])
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError, match=r"add\(.*an input already held one"):
        x + 1.0


def test_backward_names_the_operation_whose_gradient_it_is() -> None:
    x = gb.tensor([4.0, 0.0], requires_grad=True)
    with gb.debug.detect_anomaly():
        y = (gb.sqrt(x) * 2).sum()
        with pytest.raises(gb.TapeError, match=r"the gradient of sqrt\(.*gave inf at \[1\]"):
            y.backward()


def test_backward_of_a_tape_recorded_before() -> None:
    x = gb.tensor([1.0, 0.0], requires_grad=True)
    y = (x**0.5).sum()
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError, match="the gradient of pow"):
        y.backward()


def test_gradients_of_fused_operations_are_watched() -> None:
    from gpu_backprop.ops import neural

    x = gb.tensor([[float("inf"), 0.0]], requires_grad=True)
    labels = gb.tensor([1])
    y = neural.softmax_cross_entropy(x, labels, None, reduction="mean", ignore_index=-100, label_smoothing=0.0)
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError, match="the gradient of softmax_cross_entropy"):
        y.backward()


def test_the_module_is_named() -> None:
    from gpu_backprop.core.tape import modes

    x = gb.tensor([1.0, 0.0], requires_grad=True)
    modes.scope = "layers.2"
    try:
        y = gb.log(x)
    finally:
        modes.scope = ""
    loss = y.sum()
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError, match=r"the gradient of log.* in module 'layers.2'"):
        loss.backward()


def test_it_ends_with_the_block() -> None:
    with gb.debug.detect_anomaly():
        pass
    assert np.isnan(gb.sqrt(gb.tensor([-1.0])).numpy()).all()
    x = gb.tensor([0.0], requires_grad=True)
    with gb.debug.detect_anomaly(), pytest.raises(gb.TapeError):
        gb.log(x)
    assert np.isinf(gb.log(x).numpy()).all()


# gradcheck -----------------------------------------------------------------------------------------------------------


def test_gradcheck_takes_nests_dtypes_and_several_inputs(device: str) -> None:
    assert gb.gradcheck(lambda x, i: {"a": x[i], "b": [x.sum()]}, (gb.tensor([1.0, 2.0, 3.0]), np.array([0, 2, 2])))
    assert gb.gradcheck(lambda x: x * 2, [np.ones(2)])
    assert gb.gradcheck(gb.exp, 0.5)


def test_gradcheck_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    gb.gradcheck(lambda x, y: x * y, (np.array([[2.0, 3.0]]), np.array(5.0)), table=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["index", "analytic", "numeric", "relative", "error"]
    assert [line[:16].rstrip() for line in lines[1:]] == ["input 0 [0, 0]", "input 0 [0, 1]", "input 1 []"]
    analytic, numeric, error = (float(v) for v in lines[1].split()[-3:])
    assert analytic == pytest.approx(numeric, rel=1e-6)
    assert error < 1e-6


def wrong(x: gb.Tensor) -> gb.Tensor:
    """Twice x in value, thrice in its gradient at one element."""
    factor = gb.tensor([2.0, 2.0, 3.0], dtype="float64")
    return x * factor - (x * (factor - 2)).detach()


def test_gradcheck_names_the_worst_element(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(gb.TapeError, match=r"gradcheck: wrong at input 0 \[2\]: .*gradient .*central difference"):
        gb.gradcheck(wrong, np.array([1.0, 2.0, 3.0]), table=True)
    assert "input 0 [2]" in capsys.readouterr().out  # the table is printed before it raises


def test_gradcheck_does_not_pass_nan() -> None:
    with pytest.raises(gb.TapeError, match="nan"):
        gb.gradcheck(gb.log, np.array([1.0, -1.0, 2.0]))
    with pytest.raises(gb.TapeError, match="nan"):
        gb.gradcheck(lambda x: gb.where(x > 0, x, gb.sqrt(x) * 0), np.array([1.0, -4.0]))


def test_gradcheck_needs_floats() -> None:
    with pytest.raises(gb.DTypeError, match="no input is of a float or complex dtype"):
        gb.gradcheck(lambda i: i, np.array([1, 2]))
    with pytest.raises(gb.DTypeError, match="returned no float or complex Tensor"):
        gb.gradcheck(lambda x: x > 0, np.array([1.0, 2.0]))
