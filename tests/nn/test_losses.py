"""Losses against float64 NumPy formulas and central differences, first and second."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpu_backprop as gb

from .numeric import check_gradients

F = gb.nn.functional
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(5, 4)) * 2, rng.normal(size=(5, 4))
LABELS = np.array([3, 0, 1, 1, 2])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25])
REDUCE = {"mean": np.mean, "sum": np.sum, "none": lambda v: v}


def log_softmax(x, axis=1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def bce(x, y, pos_weight=1.0, weight=1.0):
    s = 1 / (1 + np.exp(-x))
    return -(pos_weight * y * np.log(s) + (1 - y) * np.log(1 - s)) * weight


REGRESSION = {
    "MSELoss": (lambda r: gb.nn.MSELoss(reduction=r), lambda d: d * d),
    "L1Loss": (lambda r: gb.nn.L1Loss(reduction=r), np.abs),
    "HuberLoss": (lambda r: gb.nn.HuberLoss(r), lambda d: np.where(abs(d) <= 1, d * d / 2, abs(d) - 0.5)),
    "HuberLoss delta": (
        lambda r: gb.nn.HuberLoss(r, 0.3),
        lambda d: np.where(abs(d) <= 0.3, d * d / 2, 0.3 * (abs(d) - 0.15)),
    ),
}


@pytest.mark.parametrize("reduction", REDUCE)
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses(name, reduction, device):
    make, formula = REGRESSION[name]
    out = make(reduction)(gb.tensor(X), gb.tensor(Y))
    np.testing.assert_allclose(out.numpy(), REDUCE[reduction](formula(X - Y)), rtol=1e-13)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_loss_gradients(name):
    check_gradients(REGRESSION[name][0]("none"), X, Y)
    check_gradients(REGRESSION[name][0]("mean"), X, Y)


@pytest.mark.parametrize("reduction", REDUCE)
def test_bce_with_logits(reduction, device):
    y = np.random.default_rng(1).uniform(size=X.shape)
    for options in ({}, {"pos_weight": WEIGHT}, {"weight": WEIGHT}, {"weight": WEIGHT, "pos_weight": 2 * WEIGHT}):
        out = gb.nn.BCEWithLogitsLoss(reduction=reduction, **options)(gb.tensor(X), gb.tensor(y))
        np.testing.assert_allclose(out.numpy(), REDUCE[reduction](bce(X, y, **options)), rtol=1e-12)
    check_gradients(
        lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction=reduction, pos_weight=gb.tensor(WEIGHT)),
        X[:2], y[:2],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_is_stable(dtype, device):
    """Sure and right: the loss is exp(-|x|), to all digits; sure and wrong: |x|. At 0, derivatives of all orders."""
    x = gb.tensor([30.0, -30.0, 1000.0, -1000.0, 0.0, 25.0], dtype=dtype, requires_grad=True)
    y = gb.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], dtype=dtype)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    expected = [math.log1p(math.exp(-30)), math.log1p(math.exp(-30)), 1000.0, 1000.0, math.log(2), 25 + math.exp(-25)]
    digits = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=digits)
    loss.sum().backward(create_graph=True)
    gradient = x.grad
    expected = [-math.exp(-30), math.exp(-30), 1, -1, -0.5, 1]
    np.testing.assert_allclose(gradient.detach().numpy(), expected, rtol=1e-5)
    x.grad = None
    gradient[4].backward()
    assert x.grad.tolist()[4] == pytest.approx(0.25)


def cross_entropy(x, labels, weight, ignore, smoothing, reduction):
    """Row by row, from the definition: the target is a distribution, each class weighed by its weight."""
    classes = x.shape[1]
    losses, weights = [], []
    for row, label in zip(log_softmax(x), labels):
        if label == ignore:
            losses.append(0.0)
            weights.append(0.0)
            continue
        target = np.full(classes, smoothing / classes)
        target[label] += 1 - smoothing
        losses.append(-(target * weight * row).sum())
        weights.append(weight[label])
    return np.sum(losses) / np.sum(weights) if reduction == "mean" else REDUCE[reduction](np.array(losses))


@pytest.mark.parametrize("reduction", REDUCE)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore", [-100, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(weighted, ignore, smoothing, reduction, device):
    options = {"ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}
    loss = gb.nn.CrossEntropyLoss(gb.tensor(WEIGHT) if weighted else None, **options)
    out = loss(gb.tensor(X), gb.tensor(LABELS))
    weight = WEIGHT if weighted else np.ones(4)
    np.testing.assert_allclose(out.numpy(), cross_entropy(X, LABELS, weight, ignore, smoothing, reduction), rtol=1e-12)
    if device == "cpu":
        check_gradients(lambda x: loss(x, gb.tensor(LABELS)), X)


@pytest.mark.parametrize("reduction", REDUCE)
def test_cross_entropy_of_probabilities(reduction, device):
    target = np.random.default_rng(2).dirichlet(np.ones(4), 5)
    smooth = 0.9 * target + 0.1 / 4
    out = F.cross_entropy(gb.tensor(X), gb.tensor(target), gb.tensor(WEIGHT), reduction=reduction, label_smoothing=0.1)
    np.testing.assert_allclose(out.numpy(), REDUCE[reduction](-(smooth * WEIGHT * log_softmax(X)).sum(1)), rtol=1e-12)
    check_gradients(lambda x, t: F.cross_entropy(x, t, reduction=reduction), X[:2], target[:2])


@pytest.mark.parametrize("reduction", REDUCE)
def test_cross_entropy_of_other_shapes(reduction, device):
    g = np.random.default_rng(3)
    x, labels = g.normal(size=(2, 4, 3)), g.integers(0, 4, (2, 3))
    picked = np.take_along_axis(log_softmax(x), labels[:, None], 1)[:, 0]
    out = F.cross_entropy(gb.tensor(x), gb.tensor(labels), reduction=reduction)
    np.testing.assert_allclose(out.numpy(), REDUCE[reduction](-picked), rtol=1e-12)
    out = F.cross_entropy(gb.tensor(X[0]), gb.tensor(3), reduction=reduction)
    np.testing.assert_allclose(out.numpy(), -log_softmax(X)[0, 3], rtol=1e-12)


def test_labels_of_any_integer_dtype(device):
    expected = F.cross_entropy(gb.tensor(X), gb.tensor(LABELS)).item()
    for dtype in ("uint8", "int32", "int16"):
        assert F.cross_entropy(gb.tensor(X), gb.tensor(LABELS, dtype=dtype)).item() == pytest.approx(expected)
    assert F.cross_entropy(gb.tensor(X), LABELS).item() == pytest.approx(expected)  # a NumPy array


def test_losses_of_huge_logits_are_finite():
    out = F.cross_entropy(gb.tensor([[1e4, 0.0], [0.0, -1e4]]), gb.tensor([0, 1]), reduction="none")
    assert out.tolist() == [0.0, 1e4]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits_cost_cross_entropy_no_digits(device, smoothing):
    """log(sum) is small beside a maximum of 1,000; rounded into one number with it, it would lose four digits."""
    x = (rng.normal(size=(40, 10)) + 1000).astype(np.float32)
    labels = np.arange(40) % 10
    logits = gb.tensor(x, requires_grad=True)
    loss = F.cross_entropy(logits, gb.tensor(labels), label_smoothing=smoothing)
    loss.backward()
    log_p = log_softmax(x.astype(np.float64))
    target = np.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    np.testing.assert_allclose(loss.item(), -(target * log_p).sum(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), (np.exp(log_p) - target) / 40, rtol=2e-6, atol=1e-9)


def test_the_target_takes_the_dtype_of_the_prediction():
    assert F.mse_loss(gb.ones(3), gb.ones(3, dtype="float64")).dtype == "float32"
    assert F.mse_loss(gb.ones(3), gb.ones(3, dtype="int64")).item() == 0.0


BAD = [
    (lambda: F.mse_loss(gb.ones((4, 1)), gb.ones(4)), gb.ShapeError, r"shape \[4, 1\] and target of shape \[4\]"),
    (lambda: F.l1_loss(gb.ones(3), gb.ones(1)), gb.ShapeError, "must be equal"),
    (lambda: F.huber_loss(gb.ones(3), gb.ones(3), delta=0.0), gb.DataError, "delta=0.0"),
    (lambda: F.mse_loss(gb.ones(0), gb.ones(0)), gb.DataError, "empty batch has no mean"),
    (lambda: F.mse_loss(gb.ones(2), gb.ones(2), reduction="avg"), gb.DataError, "'avg' is unknown"),
    (lambda: gb.nn.MSELoss(reduction="avg"), gb.DataError, "'avg' is unknown"),
    (lambda: F.mse_loss(gb.tensor([1]), gb.tensor([1])), gb.DTypeError, "int64 is not floating"),
    (
        lambda: F.binary_cross_entropy_with_logits(gb.ones(3), gb.ones(3), gb.ones((2, 3))),
        gb.ShapeError,
        r"weight of shape \[2, 3\] for a prediction of shape \[3\]",
    ),
    (
        lambda: F.binary_cross_entropy_with_logits(gb.ones((4, 3)), gb.ones((4, 3)), pos_weight=gb.ones(4)),
        gb.ShapeError,
        "one that broadcasts",
    ),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, 3])), gb.DataError, "label 3 in row 1"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, -1])), gb.DataError, "label -1 in row 1"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, 1, 2])), gb.ShapeError, r"labels of shape \[3\]"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0.0, 1.0])), gb.ShapeError, r"probabilities of shape \[2\]"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([True, False])), gb.DTypeError, "bool are not integers"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, 1]), gb.ones(2)), gb.ShapeError, "for 3 classes"),
    (lambda: F.cross_entropy(gb.ones((0, 3)), gb.ones(0, dtype="int64")), gb.DataError, "empty batch"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, 1]), label_smoothing=2), gb.DataError, "label_smoothing=2"),
    (lambda: F.cross_entropy(gb.ones((2, 3)), gb.tensor([0, 1]), reduction="x"), gb.DataError, "'x' is unknown"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[2])
def test_bad_input_is_named(case):
    run, error, message = case
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


def test_a_class_weight_that_requires_grad(device):
    """Beside labels it is refused, as by PyTorch, rather than left without a gradient; the remedies work."""
    x, labels = gb.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0]], requires_grad=True), gb.tensor([0, 2])
    weight = gb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for w in (weight, weight * 2):
        with pytest.raises(gb.TapeError, match=r"cross_entropy: a weight that requires grad .* weight\.detach\(\)"):
            F.cross_entropy(x, labels, w)
    with gb.no_grad():
        plain = F.cross_entropy(x, labels, weight, reduction="sum")
    assert F.cross_entropy(x, labels, weight.detach(), reduction="sum").item() == plain.item()
    soft = F.cross_entropy(x, F.one_hot(labels, 3, dtype=x.dtype), weight, reduction="sum")
    assert soft.item() == pytest.approx(plain.item(), rel=1e-6)
    soft.backward()
    terms = -log_softmax(x.numpy())[[0, 1], [0, 2]]
    np.testing.assert_allclose(weight.grad.numpy(), [terms[0], 0, terms[1]], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_leaves_ignored_rows_out_whatever_they_hold(device, reduction):
    rows = [[0.5, -1.0, 2.0], [float("nan"), float("inf"), 0.0], [1.0, 0.0, -1.0]]
    x = gb.tensor(rows, requires_grad=True)
    loss = F.cross_entropy(x, gb.tensor([0, -100, 2]), reduction=reduction).sum()
    loss.backward()
    clean = gb.tensor([rows[0], rows[2]], requires_grad=True)
    expected = F.cross_entropy(clean, gb.tensor([0, 2]), reduction=reduction).sum()
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy()[[0, 2]], clean.grad.numpy(), rtol=1e-5)
    assert not x.grad.numpy()[1].any()


def test_cross_entropy_with_nothing_to_count_has_a_zero_gradient(device):
    x = gb.tensor([[1.0, 2.0]], requires_grad=True)
    loss = F.cross_entropy(x, gb.tensor([-100]))
    assert np.isnan(loss.item())  # 0 / 0, as in PyTorch
    loss.backward()
    assert not x.grad.numpy().any()


HALVES = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # half the distance from 1 to the next number


def loss_calls():
    """Every loss of a prediction (5, 4) as a function of it."""
    return {
        "mse": lambda x: F.mse_loss(x, gb.tensor(Y)),
        "l1": lambda x: F.l1_loss(x, gb.tensor(Y)),
        "huber": lambda x: F.huber_loss(x, gb.tensor(Y)),
        "bce": lambda x: F.binary_cross_entropy_with_logits(x, gb.tensor(Y > 0), gb.tensor(WEIGHT)),
        "labels": lambda x: F.cross_entropy(x, gb.tensor(LABELS)),
        "weighted labels": lambda x: F.cross_entropy(x, gb.tensor(LABELS), gb.tensor(WEIGHT)),
        "probabilities": lambda x: F.cross_entropy(x, gb.tensor(np.full((5, 4), 0.25))),
    }


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", loss_calls())
def test_losses_of_16_bits_compute_in_float32(name, dtype, device):
    """The value has float32's digits, and the gradient is rounded once, when it comes back to the prediction."""
    loss = loss_calls()[name]
    x = gb.tensor(X, dtype=dtype).requires_grad_()
    exact = gb.tensor(x.detach().numpy().astype(np.float64)).requires_grad_()
    value, reference = loss(x), loss(exact)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value.item(), reference.item(), rtol=1e-5)
    (value * 65536.0).backward()  # a loss scale, which float16 itself cannot hold
    reference.backward()
    assert x.grad.dtype == dtype
    np.testing.assert_allclose(
        x.grad.numpy().astype(np.float64), exact.grad.numpy() * 65536.0, rtol=2 * HALVES[dtype], atol=1e-2
    )
