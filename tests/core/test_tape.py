"""Recording and walking back: backward, hooks, retained gradients, in-place writes and what is refused."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest

import gpu_backprop as gb


def leaf(*values: float, dtype: str = "float64") -> gb.Tensor:
    return gb.tensor(list(values), dtype=dtype, requires_grad=True)


# backward ------------------------------------------------------------------------------------------------------------


def test_backward_adds_up(device: str) -> None:
    x = leaf(1, 2, 3)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 4, 6]
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5, 7, 9]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_backward_of_a_diamond_visits_each_node_once() -> None:
    x = leaf(2)
    calls = []
    y = x * x
    y.register_hook(lambda g: calls.append(g.tolist()))
    (y * 3 + y * 4).sum().backward()
    assert calls == [[7]]
    assert x.grad.tolist() == [28]


def test_backward_with_a_gradient() -> None:
    x = leaf(1, 2)
    (x * x).backward(gb.tensor([10.0, 100.0], dtype="float64"))
    assert x.grad.tolist() == [20, 400]
    (x * x).backward([1.0, 1.0])
    assert x.grad.tolist() == [22, 404]


def test_backward_of_a_leaf_itself() -> None:
    x = gb.tensor(3.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1


def test_gradients_of_two_leaves_do_not_share_memory() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    (x + y).sum().backward()
    with gb.no_grad():
        x.grad += 1
    assert x.grad.tolist() == [2, 2]
    assert y.grad.tolist() == [1, 1]


def test_a_gradient_does_not_share_memory_with_the_seed() -> None:
    x = leaf(1, 2)
    seed = gb.tensor([1.0, 1.0], dtype="float64")
    (x + 0.0).backward(seed)
    seed += 5
    assert x.grad.tolist() == [1, 1]


def test_backward_twice_is_refused_unless_retained() -> None:
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 8]
    with pytest.raises(gb.TapeError, match=r"'sum' was freed.*retain_graph=True"):
        y.backward()


def test_backward_twice_through_a_shared_part_is_refused() -> None:
    x = leaf(1, 2)
    h = x * x
    h.sum().backward()
    with pytest.raises(gb.TapeError, match="'multiply' was freed"):
        (h * 2).sum().backward()


def test_backward_that_needs_a_gradient() -> None:
    x = leaf(1, 2)
    with pytest.raises(gb.TapeError, match=r"shape \[2\] is not a scalar; reduce it first"):
        (x * x).backward()
    with pytest.raises(gb.ShapeError, match=r"gradient of shape \[3\] for a result of shape \[2\]"):
        (x * x).backward([1.0, 2.0, 3.0])


def test_backward_without_a_tape() -> None:
    with pytest.raises(gb.TapeError, match="does not depend on anything that requires grad"):
        gb.ones(3).sum().backward()
    x = leaf(1)
    with gb.no_grad():
        y = (x * x).sum()
    assert not y.requires_grad
    with pytest.raises(gb.TapeError, match="requires_grad=True"):
        y.backward()


def test_no_grad_and_enable_grad_nest() -> None:
    x = leaf(1)
    assert gb.is_grad_enabled()
    with gb.no_grad():
        assert not gb.is_grad_enabled()
        assert not (x * 2).requires_grad
        with gb.enable_grad():
            assert (x * 2).requires_grad
        assert not gb.is_grad_enabled()

    @gb.no_grad()
    def double(x: gb.Tensor) -> gb.Tensor:
        return x * 2

    assert not double(x).requires_grad
    with pytest.raises(ZeroDivisionError), gb.no_grad():
        raise ZeroDivisionError
    assert gb.is_grad_enabled()


def test_create_graph_gives_second_derivatives(device: str) -> None:
    x = leaf(1, 2, 3)
    (x**3).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    assert g.tolist() == [3, 12, 27]
    g.sum().backward()
    assert x.grad.tolist() == [6, 12, 18]


def test_detach_shares_memory_and_stops_gradients() -> None:
    x = leaf(1, 2)
    y = x.detach()
    assert not y.requires_grad
    assert np.shares_memory(y.array, x.array)
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [1, 2]


def test_gradients_have_the_dtype_and_shape_of_their_leaf() -> None:
    a = gb.ones((3, 1), dtype="float32").requires_grad_()
    b = gb.ones((2, 1, 4), dtype="float64").requires_grad_()
    (a * b).sum().backward()
    assert (a.grad.shape, a.grad.dtype) == ((3, 1), gb.float32)
    assert (b.grad.shape, b.grad.dtype) == ((2, 1, 4), gb.float64)
    assert a.grad.tolist() == [[8]] * 3


def test_integers_do_not_require_grad() -> None:
    with pytest.raises(gb.DTypeError, match=r"int64 has no gradients; use t.astype"):
        gb.tensor([1, 2], requires_grad=True)
    x = leaf(1.5, 2.5)
    assert not x.astype("int64").requires_grad
    assert not (x > 2).requires_grad
    assert not x.argmax().requires_grad


def test_assigning_grad_is_checked() -> None:
    x = leaf(1, 2)
    with pytest.raises(gb.ShapeError, match=r"shape \[3\] for a Tensor of shape \[2\]"):
        x.grad = gb.zeros(3)
    with pytest.raises(gb.DTypeError, match="ndarray is not a Tensor"):
        x.grad = np.zeros(2)
    x.grad = gb.ones(2, dtype="float64")
    x.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_computed_tensors_stay_on_the_tape() -> None:
    y = leaf(1) * 2
    with pytest.raises(gb.TapeError, match=re.escape("use t.detach()")):
        y.requires_grad_(False)
    x = leaf(1)
    assert not x.requires_grad_(False).requires_grad


# hooks and retained gradients ----------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1, 2)
    y = x * 3
    seen: list[list[float]] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    remove = x.register_hook(lambda g: g + 1)
    (y * y).sum().backward()
    assert seen == [[6, 12]]
    assert x.grad.tolist() == [181, 361]
    remove()
    remove()  # twice does no harm
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_a_leaf_hook_sees_the_whole_gradient_once() -> None:
    x = leaf(1)
    seen: list[list[float]] = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 2 + x * 3 + x).sum().backward()
    assert seen == [[6]]


def test_hooks_need_something_to_hook() -> None:
    with pytest.raises(gb.TapeError, match="nothing will flow"):
        gb.ones(2).register_hook(lambda g: None)
    with pytest.raises(gb.TapeError, match="nothing will flow"):
        gb.ones(2).retain_grad()


def test_retain_grad_keeps_hidden_gradients() -> None:
    x = leaf(1, 2)
    h = x * x
    other = x * 1
    h.retain_grad()
    (h * h + other).sum().backward()
    assert h.grad.tolist() == [2, 8]
    assert other.grad is None
    assert x.grad.tolist() == [5, 33]
    x.retain_grad()  # a leaf keeps its gradient anyway


def test_retain_grad_keeps_the_gradient_after_hooks() -> None:
    x = leaf(1)
    h = x * 2
    h.retain_grad()
    h.register_hook(lambda g: g * 5)
    h.sum().backward()
    assert h.grad.tolist() == [5]
    assert x.grad.tolist() == [10]


# in-place writes -----------------------------------------------------------------------------------------------------


def test_writing_to_a_saved_input_is_found() -> None:
    x = leaf(1, 2)
    w = gb.tensor([3.0, 4.0], dtype="float64")
    y = (x * w).sum()
    w += 1
    with pytest.raises(gb.TapeError, match=r"input of shape \[2\] of 'multiply' was changed in place.*t\.copy\(\)"):
        y.backward()


def test_writing_to_index_arrays_is_found() -> None:
    for use in (lambda x, i: x[i], lambda x, i: gb.take(x, i)):
        x, i = leaf(1, 2), gb.tensor([0, 1])
        y = use(x, i).sum()
        i += 1
        with pytest.raises(gb.TapeError, match="changed in place"):
            y.backward()


def test_writing_to_what_is_not_saved_is_fine() -> None:
    x = leaf(1, 2)
    w = gb.tensor([3.0, 4.0], dtype="float64")
    y = (x + w).sum()
    w += 1
    y.backward()
    assert x.grad.tolist() == [1, 1]


def test_writing_to_a_saved_output_is_found() -> None:
    x = leaf(1, 2)
    y = gb.exp(x)
    with gb.no_grad():
        y[0] = 5.0
    with pytest.raises(gb.TapeError, match="output of 'exp' was changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("write", ["view", "base", "detached", "transposed", "view of a view", "copy_"])
def test_views_share_their_base_version(write: str) -> None:
    x = gb.ones((2, 3), dtype="float64").requires_grad_()
    w = gb.ones((2, 3), dtype="float64")
    used = w[0] if write == "base" else w
    y = (x * used).sum()
    if write == "view":
        w[1] += 1
    elif write == "base":
        w += 1
    elif write == "detached":
        d = w.detach()
        d += 1
    elif write == "transposed":
        t = w.T
        t[0, 0] = 7.0
    elif write == "view of a view":
        v = w[:, 1:][0]
        v *= 2
    else:
        w.reshape(-1).copy_(0.0)
    with pytest.raises(gb.TapeError, match="changed in place"):
        y.backward()


def test_writing_a_leaf_inside_no_grad_is_found_by_an_older_tape() -> None:
    w = leaf(1, 2)
    y = (w * w).sum()
    with gb.no_grad():
        w -= 0.1
    with pytest.raises(gb.TapeError, match="changed in place"):
        y.backward()
    (w * w).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), [1.8, 3.8])


def test_in_place_operators_write_only_what_nobody_differentiates() -> None:
    x = gb.ones(3)
    before, memory = x, x.array
    x += 1
    x -= 0.5
    x *= 4
    x /= 2
    assert x is before
    assert x.array is memory
    assert x.version == 4
    assert x.tolist() == [3, 3, 3]

    y = leaf(1, 2)
    original = y
    y += 1  # rebinds
    assert y is not original
    y.sum().backward()
    assert original.grad.tolist() == [1, 1]

    z = gb.ones(2, dtype="float64")
    base = z
    z *= leaf(2, 3)  # the other side is differentiated: functional
    assert z is not base
    assert base.tolist() == [1, 1]
    assert z.requires_grad


def test_in_place_results_must_fit() -> None:
    x = gb.ones(3)
    with pytest.raises(gb.ShapeError, match=r"in-place add: a result of float32\[2, 3\] does not fit"):
        x += gb.ones((2, 3))
    i = gb.arange(3)
    with pytest.raises(gb.DTypeError, match="in-place divide"):
        i /= 2
    assert i.tolist() == [0, 1, 2]


def test_item_assignment() -> None:
    x = gb.zeros((3, 3))
    x[1] = 5
    x[:, 0] = gb.tensor([1.0, 2.0, 3.0])
    x[np.array([0, 2]), np.array([1, 1])] = [7.0, 8.0]
    x[x > 7] = 0
    assert x.tolist() == [[1, 7, 0], [2, 5, 5], [3, 0, 0]]
    with pytest.raises(gb.ShapeError, match=r"item assignment.*shape \[3, 3\]"):
        x[0] = [1.0, 2.0]
    with pytest.raises(IndexError, match="item assignment"):
        x[7] = 1


def test_item_assignment_on_the_tape_is_refused() -> None:
    x = leaf(1, 2)
    with pytest.raises(gb.TapeError, match=r"gb\.where"):
        x[0] = 1.0
    with pytest.raises(gb.TapeError, match=r"gb\.where"):
        gb.zeros(2, dtype="float64")[0] = x[0]
    with pytest.raises(gb.TapeError, match=r"gb\.where"):
        x.copy_([1.0, 2.0])
    with gb.no_grad():
        x[0] = 9.0
    assert x.tolist() == [9, 2]


def test_numpy_view_of_a_leaf_is_read_only() -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 3
    plain = gb.zeros(2)
    plain.numpy()[0] = 3
    assert plain.tolist() == [3, 0]


# the tape lets go ----------------------------------------------------------------------------------------------------


def test_backward_frees_what_was_saved() -> None:
    x = leaf(1, 2)
    h = gb.exp(x)
    y = gb.sin(h * 2)
    saved = weakref.ref(h.array)
    del h
    loss = y.sum()
    assert saved() is not None
    loss.backward()
    assert saved() is None
    assert loss.node.saved is None


def test_nothing_holds_an_output() -> None:
    x = leaf(1, 2)
    for f in (gb.exp, gb.tanh, gb.sqrt, lambda x: x.max(), lambda x: x[0], lambda x: x * x, lambda x: x @ x):
        out = weakref.ref(f(x))
        assert out() is None, "an output outlived its last name: there is a reference cycle"


def test_a_hook_that_writes_to_its_gradient_harms_no_later_walk() -> None:
    x = gb.tensor(2.0, requires_grad=True)
    loss = x * 3

    def scale(g: gb.Tensor) -> None:
        g *= 7

    loss.register_hook(scale)
    loss.backward()
    y = gb.tensor(2.0, requires_grad=True)
    (y * 3).backward()
    assert y.grad.item() == 3.0


def test_a_gradient_that_a_hook_keeps_is_its_own() -> None:
    kept = []
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: kept.append(g))
    (x * 3).sum().backward()
    with gb.no_grad():
        x.grad *= 10
    np.testing.assert_array_equal(kept[0].numpy(), [3, 3])


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [(2.0, gb.DTypeError, "hook: returned a float"), (gb.ones(()), gb.ShapeError, r"hook: returned shape \[\]")],
)
@pytest.mark.parametrize("leaf", [True, False])
def test_what_a_hook_returns_is_checked(result, error, words, leaf) -> None:
    x = gb.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    (x if leaf else y).register_hook(lambda g: result)
    with pytest.raises(error, match=words):
        y.sum().backward()
