"""docs/gradients.md against the namespace, the primitives and the tables of checks; what has no gradient says so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop import array_api, ops
from gpu_backprop.core import tape
from gpu_backprop.ops.primitive import Primitive

from .opinfo import OPS, Op
from .opinfo.movement import INDEXING, MOVEMENT
from .opinfo.products import PRODUCTS
from .opinfo.reductions import REDUCTIONS
from .opinfo.scans import SCANS
from .opinfo.sorting import SORTING
from .test_linalg_gradients import CASES
from .test_ops import modules_of, tensors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gradients.md"


def listed(chapter: str) -> set[str]:
    """The names in the tables of a chapter of the page."""
    text = PAGE.read_text().split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[2] for line in text.splitlines() if line.startswith("|")]
    return set(re.findall(r"`(\w+)`", " ".join(cells))) - {"None"}


DIFFERENTIABLE, ZERO, WITHOUT, NOT_OF_VALUES = map(
    listed, ("Differentiable", "Zero", "Without a gradient", "Not of values")
)
# cases of other names
OTHERWISE = {"fftshift": "shifts", "ifftshift": "shifts", "matrix_norm": "matrix norm fro", "vector_norm": "norm 2"}
CHECKED = {op.name.split()[0] for op in OPS if op.gradient} | {case.name.split()[0] for case in CASES}


def functions() -> set[str]:
    """All public functions of the sections of the standard."""
    named = {name: getattr(m, name) for m in modules_of(array_api) for name in getattr(m, "__all__", ())}
    return {name for name, f in named.items() if inspect.isfunction(f) and not name.startswith("_")}


def test_every_function_is_on_the_page_and_no_other() -> None:
    internal = {"accuracy", "class_indices", "identity", "one_hot", "repeat_indices", "unique"}
    everything = DIFFERENTIABLE | ZERO | WITHOUT | NOT_OF_VALUES
    assert functions() - everything == set(), "add to docs/gradients.md"
    assert everything - internal - functions() == set()
    both = {"unique_all"}  # their values have a gradient, their positions and counts none
    assert (DIFFERENTIABLE & WITHOUT) - both == set()
    assert not ZERO & (DIFFERENTIABLE | WITHOUT)
    assert not NOT_OF_VALUES & (DIFFERENTIABLE | ZERO | WITHOUT)


def test_everything_with_a_gradient_is_checked() -> None:
    assert set(OTHERWISE.values()) <= {case.name for case in CASES}
    assert (DIFFERENTIABLE | ZERO) - CHECKED - set(OTHERWISE) == set(), "add to tests/ops/opinfo"


def test_the_list_of_those_without_is_that_of_the_primitives() -> None:
    found = {p.name for m in modules_of(ops) for p in vars(m).values() if isinstance(p, Primitive) and p.no_gradient}
    composed = {"matrix_rank", "unique_all"}
    assert found == WITHOUT - composed


@pytest.mark.parametrize("op", [op for op in OPS if op.name.split()[0] in ZERO], ids=str)
def test_gradients_that_are_zero(op: Op) -> None:
    for sample in op.samples:
        xs = tensors(sample)
        op.f(*xs).sum().backward()
        for x in xs:
            np.testing.assert_array_equal(x.grad.numpy(), np.zeros(x.shape))


# what has none -------------------------------------------------------------------------------------------------------

NONE = [op for op in OPS if not op.gradient]


@pytest.mark.parametrize("op", NONE, ids=str)
def test_a_gradient_asked_of_what_has_none_is_an_error_by_name(op: Op) -> None:
    xs = tensors(op.samples[0])
    out = op.f(*xs)
    assert out.dtype.kind in "bi"
    assert not out.requires_grad
    with pytest.raises(gb.TapeError, match=r"backward: the result comes from .* no gradient"):
        out.backward(gb.ones(out.shape))
    with pytest.raises(gb.TapeError, match=r"vjp: the result comes from .* no gradient"):
        gb.vjp(op.f, *xs)[1](gb.ones(out.shape))
    with pytest.raises(gb.TapeError, match=r"jvp: the result comes from .* no gradient"):
        gb.jvp(op.f, xs, [gb.ones_like(x) for x in xs])


def test_every_public_function_without_gradient_has_such_a_row() -> None:
    rows = {op.name.split()[0] for op in NONE}
    integers_only = {name for name in WITHOUT if name.startswith("bitwise_")}
    internal = {"accuracy", "class_indices", "identity", "one_hot", "repeat_indices", "unique"}
    assert WITHOUT - rows - integers_only - internal == {"matrix_rank", "unique_all"}


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: gb.argmax(x), "argmax"),
        (lambda x: gb.argsort(x)[0], "argsort"),
        (lambda x: gb.sum(x > 0), "greater"),
        (lambda x: gb.all(gb.concat([x > 0, x == 1])), "greater"),
        (lambda x: gb.isclose(x, 1.5).sum(), "less_equal"),
        (lambda x: gb.digitize(x, gb.asarray([2.0], device=x.device)).sum(), "searchsorted"),
        (lambda x: gb.count_nonzero(x), "count_nonzero"),
        (lambda x: x[0] > x[1], "greater"),
        (lambda x: gb.all(x), "all"),
        (lambda x: gb.searchsorted(gb.arange(3.0), x[0]), "searchsorted"),
        (lambda x: gb.linalg.matrix_rank(x.reshape(1, -1)), "matrix_rank"),
        (lambda x: x.astype("int64").sum(), "operations of int64"),
    ],
)
def test_grad_names_the_operation(f: Callable[[gb.Tensor], gb.Tensor], name: str, device: str) -> None:
    x = gb.tensor([1.5, 2.5], device=device)
    with pytest.raises(gb.TapeError, match=rf"grad: the result comes from '?{name}.*no gradient; .*docs/gradients.md"):
        gb.grad(f)(x)
    x.requires_grad_()
    with pytest.raises(gb.TapeError, match=r"backward: the result comes from"):
        f(x).backward()
    with gb.no_grad():
        assert f(x)._extra is None


def test_what_decides_is_a_constant() -> None:
    """Beside others it does no harm, and alone, cast to floats, its gradient is zero."""
    x = gb.tensor([3.0, 1.0, 2.0])
    assert gb.grad(lambda x: (x * gb.astype(gb.argsort(x), gb.float32)).sum())(x).tolist() == [1.0, 2.0, 0.0]
    assert gb.grad(lambda x: x[gb.argmin(x)] + gb.astype(gb.argmin(x), gb.float32))(x).tolist() == [0.0, 1.0, 0.0]
    assert gb.grad(lambda x: gb.astype(x > 1, gb.float32).sum())(x).tolist() == [0.0] * 3
    pulled = gb.vjp(lambda x: (gb.sort(x), gb.argsort(x)), x)[1]((gb.tensor([1.0, 2.0, 3.0]), gb.zeros(3)))
    assert pulled[0].tolist() == [3.0, 1.0, 2.0]


# complex numbers -----------------------------------------------------------------------------------------------------

NAMES = {"matmul", "mean", "prod", "prod_of_others", "std", "sum", "tensordot", "var", "vecdot"}
COMPLEX = [*MOVEMENT, *INDEXING, *SCANS, *(op for op in SORTING if op.gradient)]
COMPLEX += [op for op in (*PRODUCTS, *REDUCTIONS) if op.name.split()[0] in NAMES]


@pytest.mark.parametrize("op", COMPLEX, ids=str)
def test_gradients_of_complex_numbers(op: Op) -> None:
    sample = op.samples[0]
    turned = [gb.asarray(x + 1j * np.roll(x, 1)) if x.dtype.kind == "f" else gb.asarray(x) for x in sample]
    assert gb.gradcheck(op.f, tuple(turned))


# where there is no derivative ----------------------------------------------------------------------------------------

x3 = gb.tensor([2.0, 2.0, 1.0])
KINKS: list[tuple[str, Callable[[gb.Tensor], gb.Tensor], list[float], list[float]]] = [
    ("max", lambda x: gb.max(x), [2.0, 2.0, 1.0], [0.5, 0.5, 0.0]),
    ("min of all", lambda x: gb.min(x), [2.0, 2.0, 2.0, 2.0], [0.25] * 4),
    ("maximum", lambda x: gb.maximum(x, 2.0).sum(), [2.0, 3.0], [0.5, 1.0]),
    ("clip with one bound", lambda x: gb.clip(x, 2.0).sum(), [2.0, 3.0, 1.0], [0.5, 1.0, 0.0]),
    ("clip", lambda x: gb.clip(x, 2.0, 3.0).sum(), [2.0, 3.0, 1.0], [1.0, 1.0, 0.0]),
    ("sort", lambda x: gb.sort(x)[0], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0]),
    ("unique_values", lambda x: gb.unique_values(x)[0], [2.0, 2.0], [1.0, 0.0]),
    ("prod", lambda x: gb.prod(x), [0.0, 3.0, 2.0], [6.0, 0.0, 0.0]),
    ("prod of two zeros", lambda x: gb.prod(x), [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
    ("cumulative_prod", lambda x: gb.cumulative_prod(x).sum(), [2.0, 0.0, 3.0, 0.0], [1.0, 8.0, 0.0, 0.0]),
    ("take", lambda x: gb.take(x, gb.tensor([0, 0, 1])).sum(), [2.0, 3.0], [2.0, 1.0]),
    ("repeat", lambda x: gb.repeat(x, [3, 0]).sum(), [2.0, 3.0], [3.0, 0.0]),
    ("abs", lambda x: gb.abs(x).sum(), [0.0, -1.0], [0.0, -1.0]),
    ("atan2", lambda x: gb.atan2(x[0], x[1]), [0.0, 0.0], [0.0, 0.0]),
    ("hypot", lambda x: gb.hypot(x[0], x[1]), [0.0, 0.0], [0.0, 0.0]),
    ("std", lambda x: gb.std(x), [2.0, 2.0], [0.0, 0.0]),
    ("pow", lambda x: gb.sum(x ** gb.tensor([0.0, 1.0, 2.0])), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    ("exponent", lambda y: gb.sum(gb.tensor([0.0, 0.0]) ** y), [1.0, 2.0], [0.0, 0.0]),
    ("sqrt", lambda x: gb.sqrt(x).sum(), [0.0, 4.0], [np.inf, 0.25]),
    ("remainder", lambda x: (x % 2.0).sum(), [4.0, 3.0], [1.0, 1.0]),
]


@pytest.mark.parametrize(("f", "at", "gradient"), [row[1:] for row in KINKS], ids=[row[0] for row in KINKS])
def test_kinks(f: Callable[[gb.Tensor], gb.Tensor], at: list[float], gradient: list[float]) -> None:
    with np.errstate(all="ignore"):
        assert gb.grad(f)(gb.tensor(at)).tolist() == gradient


@pytest.mark.parametrize("at", [1e-30, 1e25])
def test_gradients_where_squares_leave_the_dtype(at: float) -> None:
    x = gb.tensor([at])
    for y in (at, -3 * at):
        dx, dy = gb.elementwise_grad(gb.atan2, (0, 1))(x, gb.tensor([y]))
        length = np.hypot(at, y)
        np.testing.assert_allclose(dx.numpy(), [y / length / length], rtol=1e-6)
        np.testing.assert_allclose(dy.numpy(), [-at / length / length], rtol=1e-6)
    turn = gb.grad(lambda x: gb.angle(gb.asarray(1j * at) + x).sum())(x)
    np.testing.assert_allclose(turn.numpy(), [-0.5 / at], rtol=1e-6)
    np.testing.assert_allclose(gb.grad(lambda x: gb.asinh(x).sum())(x).numpy(), [1 / np.hypot(at, 1)], rtol=1e-6)


# writing in place ----------------------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[gb.Tensor], Any]] = {
    "integer": lambda x: x.__setitem__(0, 1.0),
    "slice": lambda x: x.__setitem__(slice(None, None, -1), 1.0),
    "mask": lambda x: x.__setitem__(x > 0, 1.0),
    "array": lambda x: x.__setitem__([0, 1], gb.tensor([1.0, 2.0])),
    "of a view": lambda x: x[1:].__setitem__(..., 1.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_assignment_to_what_requires_grad_says_what_to_write(name: str, device: str) -> None:
    x = gb.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    for t in (x, x * 2):
        with pytest.raises(gb.TapeError, match=r"item assignment: .*gb.where\(mask, new, t\), or write inside"):
            WRITES[name](t)
    plain = gb.zeros(3, device=device)
    with pytest.raises(gb.TapeError, match="item assignment"):
        plain[0] = x[0]
    instead = gb.where(gb.tensor([True, False, False], device=device), x[1] * 2, x)
    instead.sum().backward()
    assert instead.tolist() == [4.0, 2.0, 3.0]
    assert x.grad.tolist() == [0.0, 3.0, 1.0]


@pytest.mark.parametrize("name", WRITES)
def test_a_write_into_what_was_saved_is_an_error_and_no_wrong_gradient(name: str, device: str) -> None:
    w = gb.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    x = gb.tensor([4.0, 5.0, 6.0], device=device)
    loss = (w * x).sum()
    WRITES[name](x)
    with pytest.raises(gb.TapeError, match="'multiply' was changed in place"):
        loss.backward()
    y = w * x
    with gb.no_grad():
        WRITES[name](y)  # nothing has saved it
    (y * y).sum().backward()
    assert len(tape.nodes([y])) == 1
