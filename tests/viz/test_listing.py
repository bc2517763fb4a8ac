"""gb.viz.tape: what the listing says, and that reading changes nothing."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import tape
from gpu_backprop.viz import formulas, records

from ..core.test_memory import DEPTH, deep
from ..ops.test_ops import DIFFERENTIABLE, all_primitives, floats, tensors, weighted


def example() -> tuple[gb.Tensor, gb.Tensor, gb.Tensor]:
    x = gb.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    w = gb.tensor([3.0, 4.0], dtype="float64", requires_grad=True)
    return x, w, (gb.sin(x * w) * 2.0 + x.max()).sum()


def test_rows_in_the_order_of_the_chain_rule() -> None:
    x, w, loss = example()
    rows = gb.viz.tape(loss, names={"x": x, "w": w}).rows
    assert [r.operation for r in rows] == ["sum", "add", "max", "multiply", "sin", "multiply", "w", "x"]
    assert [r.number for r in rows] == list(range(1, 9))
    assert [r.kind for r in rows[-2:]] == ["parameter", "parameter"]
    _, add, _, doubled, sine, product, leaf_w, leaf_x = rows
    xs, ws = x.numpy(), w.numpy()
    np.testing.assert_allclose(product.value, xs * ws)
    np.testing.assert_allclose(sine.value, np.sin(xs * ws))
    np.testing.assert_allclose(doubled.value, 2 * np.sin(xs * ws))
    np.testing.assert_allclose(sine.local[0], np.cos(xs * ws))
    np.testing.assert_allclose(doubled.local[0], [2, 2])
    assert [label for label, _ in product.inputs] == ["x", "y"]
    np.testing.assert_allclose(product.local[0], ws)
    np.testing.assert_allclose(product.local[1], xs)
    np.testing.assert_allclose(product.gradient, 2 * np.cos(xs * ws))
    np.testing.assert_allclose(add.gradient, [1, 1])
    loss.backward()
    np.testing.assert_allclose(leaf_x.gradient, x.grad.numpy())
    np.testing.assert_allclose(leaf_w.gradient, w.grad.numpy())


def test_the_text_is_a_table() -> None:
    x, w, loss = example()
    text = str(gb.viz.tape(loss, names={"x": x, "w": w}))
    assert repr(gb.viz.tape(loss, names={"x": x, "w": w})) == text
    lines = text.splitlines()
    assert lines[0].split() == ["#", "operation", "inputs", "value", "local", "derivative", "gradient"]
    assert lines[2].split() == ["1", "sum", "x", "=", "#2", "6.261", "g,", "repeated", "1"]
    assert any("g where x is the largest, else 0" in line for line in lines)
    assert any(line.split()[:5] == ["4", "multiply", "x", "=", "#5"] for line in lines)
    assert any(line.split() == ["y", "=", "2"] for line in lines)
    assert max(map(len, lines)) < 160


def test_nothing_is_changed() -> None:
    x, w, loss = example()
    h = x * w
    h.retain_grad()
    total = (h * h).sum() + loss
    x.grad = gb.ones(2, dtype="float64")
    gb.viz.tape(total)
    gb.viz.draw(total)
    assert x.grad.tolist() == [1, 1]
    assert w.grad is None
    assert h.grad is None
    total.backward()  # the tape is whole
    assert h.grad is not None
    assert gb.is_grad_enabled()


def test_a_freed_tape_is_refused() -> None:
    for show, name in ((gb.viz.tape, "viz.tape"), (gb.viz.draw, "viz.draw")):
        _, _, loss = example()
        loss.backward()
        with pytest.raises(gb.TapeError, match=rf"{name}: the tape was freed by backward; .*before.*retain_graph=True"):
            show(loss)
        _, _, loss = example()
        loss.backward(retain_graph=True)
        show(loss)
        with pytest.raises(gb.TapeError, match="nothing was recorded"):
            show(gb.ones(1).sum())
        with pytest.raises(gb.TapeError, match=r"shape \[2\] is not a scalar; reduce it first"):
            show(gb.ones(2).requires_grad_() * 2)
        with pytest.raises(gb.DTypeError, match="a float has no tape"):
            show(1.0)


def test_values_that_the_tape_does_not_keep() -> None:
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    constant = gb.tensor([5.0, 7.0])
    y = (x + constant).sum()  # add saves nothing
    rows = gb.viz.tape(y).rows
    assert rows[1].value.tolist() == [6, 9]
    assert rows[-1].value.tolist() == [5, 7]
    del constant
    listing = gb.viz.tape(y)
    assert listing[1].value is None
    assert listing[-1].value is None
    assert "freed [2]" in str(listing)
    assert listing[0].value.tolist() == 15
    gb.viz.draw(y)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=str)
def test_every_operation_can_be_listed_and_drawn(op) -> None:
    """Values are recomputed right, elementwise slopes times gradients are the gradients."""
    sample = op.samples[0]
    xs = tensors(sample)
    loss = weighted(op, xs)
    listing = gb.viz.tape(loss)
    assert listing[0].value == pytest.approx(loss.item())
    assert "<svg" in gb.viz.draw(loss).svg
    assert str(listing)
    loss.backward()
    leaves = [r for r in listing if r.kind == "parameter"]
    expected = [xs[i].grad.numpy() for i in floats(sample) if xs[i].grad is not None]
    assert len(leaves) == len(expected)
    for e in expected:
        assert any(e.shape == leaf.shape and np.allclose(leaf.gradient, e) for leaf in leaves)
    for row in listing:
        for (_, source), slope in zip(row.inputs, row.local):
            if isinstance(slope, np.ndarray) and source.gradient is not None and source.shape == row.shape:
                assert slope.shape in (row.shape, ()), (row.operation, slope.shape)


def test_every_primitive_has_its_rule_in_words() -> None:
    named = {p.name for p in all_primitives() if not p.no_gradient and p not in records.ELEMENTWISE}
    assert named - set(formulas.FORMULAS) - {"concat"} == set()


def test_the_rule_of_a_mean_says_what_it_divides_by() -> None:
    x = gb.tensor([[1.0, 2.0]], requires_grad=True)
    assert "g * 2 (x - y) / elements" in str(gb.viz.tape(gb.nn.functional.mse_loss(x, gb.zeros((1, 2)))))
    assert "g * (softmax(x) - target) / rows" in str(gb.viz.tape(gb.nn.functional.cross_entropy(x, gb.tensor([0]))))


def test_several_outputs_checkpoints_and_own_primitives() -> None:
    split = gb.primitive(lambda x: (x[:1], x[1:] * 2), vjp=lambda g: gb.concat([g[0], g[1] * 2]), name="split")
    x = gb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    a, b = split(x)
    c = gb.checkpoint(lambda b: gb.exp(b) + 1.0, b)
    loss = a.sum() * c.sum()
    expected = c.numpy().copy()
    del a, b, c
    listing = gb.viz.tape(loss)
    text = str(listing)
    assert "split" in text
    assert "output 0" in text
    assert "run again, then differentiated" in text
    assert "its own rule" in text
    assert any(r.value is not None and r.value.shape == (2,) and np.allclose(r.value, expected) for r in listing)
    gb.viz.draw(loss)
    loss.backward()
    leaf = next(r for r in listing if r.kind == "parameter")
    np.testing.assert_allclose(leaf.gradient, x.grad.numpy())


def test_modules_give_names() -> None:
    gb.manual_seed(0)
    model = gb.nn.MLP([2, 3, 1], activation="tanh")
    loss = gb.nn.MSELoss()(model(gb.ones((4, 2))), gb.zeros((4, 1)))
    rows = gb.viz.tape(loss).rows
    assert {r.operation for r in rows if r.kind == "parameter"} == {
        *("MLP.0.weight", "MLP.0.bias", "MLP.2.weight", "MLP.2.bias")
    }
    assert "linear (MLP.0)" in str(gb.viz.tape(loss))
    named = gb.viz.tape(loss, names=model).rows
    assert {r.operation for r in named if r.kind == "parameter"} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_an_input_of_a_module_is_not_called_its_parameter() -> None:
    class Scale(gb.nn.Module):
        def __init__(self) -> None:
            self.by = gb.nn.Parameter([2.0])

        def forward(self, x: gb.Tensor) -> gb.Tensor:
            return gb.exp(x) * self.by

    loss = Scale()(gb.tensor([0.5], requires_grad=True)).sum()
    assert {r.operation for r in gb.viz.tape(loss) if r.kind == "parameter"} == {"leaf", "Scale.parameter"}


def test_a_deep_tape_is_listed_and_drawn() -> None:
    y = deep(gb.tensor(0.5, dtype="float64", requires_grad=True))
    listing = gb.viz.tape(y)
    assert len(listing) == DEPTH + 1
    text = str(listing)
    assert "more rows" in text
    assert len(text.splitlines()) < 1000
    drawing = gb.viz.draw(y)
    assert len(drawing.svg) < 60_000
    del y, listing, drawing
    gc.collect()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (1.0, "1"), (-3.0, "-3"), (0.12345, "0.1235"), (1234.5, "1234"), (1e-7, "1e-7")),
        *((123456789.0, "1.235e8"), (float("nan"), "nan"), (float("-inf"), "-inf"), (True, "True"), (7, "7")),
        (1.5 - 2j, "1.5-2j"),
        (np.complex64(complex(0.25, float("inf"))), "0.25+infj"),
    ],
)
def test_numbers_are_readable(value: float, text: str) -> None:
    from gpu_backprop.viz.figures import number

    assert number(value) == text


def test_arrays_are_abbreviated() -> None:
    from gpu_backprop.viz.figures import abbreviated

    assert abbreviated(np.array([[1.0, 2.5]])) == "[[1, 2.5]]"
    assert abbreviated(np.arange(100.0).reshape(4, 25)) == "[0, 1, ..., 99] 4 x 25"
    assert abbreviated(np.zeros((0, 3))) == "[]"


def test_hooks_are_seen_in_the_gradients() -> None:
    x = gb.tensor(2.0, requires_grad=True)
    h = x * 3.0
    h.register_hook(lambda g: g * 10)
    rows = gb.viz.tape(h * 1.0).rows
    assert rows[1].gradient == 10
    assert rows[-1].gradient == 30


def test_it_reads_on_other_devices(device: str) -> None:
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    loss = (gb.tanh(x) * x).sum()
    rows = gb.viz.tape(loss).rows
    np.testing.assert_allclose(rows[1].value, np.tanh([1, 2]) * [1, 2], rtol=1e-6)
    assert isinstance(rows[2].local[0], np.ndarray)
    assert tape.modes.grad
