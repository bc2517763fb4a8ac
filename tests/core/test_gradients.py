"""grad, value_and_grad, vjp, jvp, hvp, checkpoint, and losses that contain gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import gpu_backprop as gb

X = np.array([0.3, -0.7, 1.2])


def cubic(x: gb.Tensor) -> gb.Tensor:
    return (x**3 + gb.sin(x)).sum()


# grad and value_and_grad ---------------------------------------------------------------------------------------------


def test_grad_and_its_derivatives() -> None:
    np.testing.assert_allclose(gb.grad(cubic)(X).numpy(), 3 * X**2 + np.cos(X))
    second = gb.grad(lambda x: gb.grad(cubic)(x).sum())
    np.testing.assert_allclose(second(X).numpy(), 6 * X - np.sin(X))
    third = gb.grad(lambda x: second(x).sum())
    np.testing.assert_allclose(third(X).numpy(), 6 - np.cos(X))


def test_grad_of_grad_of_scalars() -> None:
    f = gb.grad(gb.grad(gb.grad(lambda x: x**4)))
    assert f(2.0).item() == 48
    assert gb.grad(lambda x: x * x)(3).item() == 6  # an int is taken as a float


def test_grad_leaves_the_caller_alone() -> None:
    x = gb.tensor(X, requires_grad=True)
    w = gb.tensor(X, requires_grad=True)
    gb.grad(lambda x: (x * w).sum())(x)
    assert x.grad is None
    assert w.grad is None
    plain = gb.tensor(X)
    g = gb.grad(cubic)(plain)
    assert not plain.requires_grad
    assert not g.requires_grad  # nothing of the caller's requires grad


def test_grad_is_recorded_when_something_requires_grad() -> None:
    x = gb.tensor(X, requires_grad=True)
    g = gb.grad(cubic)(x)
    assert g.requires_grad
    g.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * X - np.sin(X))
    w = gb.tensor(X, requires_grad=True)
    g = gb.grad(lambda x: (x * x * w).sum())(gb.tensor(X))
    g.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * X)
    with gb.no_grad():
        assert not gb.grad(cubic)(x).requires_grad


def test_argnums_and_keywords() -> None:
    def f(a: gb.Tensor, b: gb.Tensor, *, scale: float = 1.0) -> gb.Tensor:
        return (a * a * b * scale).sum()

    a, b = gb.tensor(X), gb.tensor(X + 1)
    np.testing.assert_allclose(gb.grad(f, 1)(a, b, scale=2.0).numpy(), 2 * X**2)
    da, db = gb.grad(f, (0, 1))(a, b)
    np.testing.assert_allclose(da.numpy(), 2 * X * (X + 1))
    np.testing.assert_allclose(db.numpy(), X**2)
    np.testing.assert_allclose(gb.grad(f, argnums=-1)(a, b).numpy(), X**2)
    (only,) = gb.grad(f, (1,))(a, b)
    np.testing.assert_allclose(only.numpy(), X**2)
    np.testing.assert_allclose(gb.grad(f, argnum=np.int64(1))(a, b).numpy(), X**2)  # as HIPS autograd names it
    assert len(gb.value_and_grad(f, argnum=[0, 1])(a, b)[1]) == 2
    with pytest.raises(gb.ShapeError, match="argnums 2, but f was called with 2"):
        gb.grad(f, 2)(a, b)
    for twice in ((0, 0), (1, -1)):
        with pytest.raises(gb.ShapeError, match="name an argument twice"):
            gb.grad(f, twice)(a, b)
    for odd in ("x", 1.5, True, None):
        with pytest.raises(gb.DTypeError, match=r"argnums .* is not made of integers"):
            gb.grad(f, odd)


class Layer(NamedTuple):
    weight: Any
    bias: Any


def test_nests_come_back_in_their_form() -> None:
    params = {
        "layers": [Layer(gb.ones((2, 3)), gb.zeros(3)), Layer(gb.ones((3, 1)), gb.zeros(1))],
        "scale": (2.0, np.float32(3.0)),
        "name": "net",
        "nothing": None,
    }

    def loss(p: Any, x: gb.Tensor) -> gb.Tensor:
        assert p["name"] == "net"
        for layer in p["layers"]:
            x = x @ layer.weight + layer.bias
        return (x * p["scale"][0] * p["scale"][1]).sum()

    value, g = gb.value_and_grad(loss)(params, gb.ones((4, 2)))
    assert value.item() == 4 * 6 * 6
    assert isinstance(g["layers"][0], Layer)
    assert g["layers"][0].weight.tolist() == [[24.0] * 3] * 2
    assert g["layers"][1].bias.tolist() == [24.0]
    assert g["scale"][0].item() == 4 * 6 * 3
    assert g["name"] == "net"
    assert g["nothing"] is None


def test_an_argument_without_a_path_has_a_zero_gradient() -> None:
    da, db = gb.grad(lambda a, b: (a * 2).sum(), (0, 1))(X, X)
    assert da.tolist() == [2, 2, 2]
    assert db.tolist() == [0, 0, 0]
    assert gb.grad(lambda x: gb.tensor(1.0))(X).tolist() == [0, 0, 0]


def test_value_and_grad_with_aux() -> None:
    def f(x: gb.Tensor) -> tuple[gb.Tensor, dict[str, Any]]:
        y = x * x
        return y.sum(), {"squares": y, "n": 3}

    (value, aux), g = gb.value_and_grad(f, has_aux=True)(X)
    assert value.item() == pytest.approx((X**2).sum())
    np.testing.assert_allclose(aux["squares"].numpy(), X**2)
    assert aux["n"] == 3
    assert not aux["squares"].requires_grad, "aux must not keep the tape alive"
    np.testing.assert_allclose(g.numpy(), 2 * X)
    g, aux = gb.grad(f, has_aux=True)(X)
    np.testing.assert_allclose(g.numpy(), 2 * X)
    x = gb.tensor(X, requires_grad=True)
    _, aux = gb.grad(f, has_aux=True)(x)
    assert aux["squares"].requires_grad, "aux of something that requires grad can be differentiated"


def test_what_grad_refuses() -> None:
    with pytest.raises(gb.ShapeError, match=r"square returned shape \[3\]; reduce it to a scalar, or use gb.vjp"):
        gb.grad(gb.square)(X)
    with pytest.raises(gb.DTypeError, match="returned a float; it must return a scalar Tensor"):
        gb.grad(lambda x: 1.0)(X)
    with pytest.raises(gb.DTypeError, match="int64 has no gradient"):
        gb.grad(lambda x: x.sum())(gb.arange(3))


# vjp, jvp, hvp -------------------------------------------------------------------------------------------------------

A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_vjp_of_several_arguments_and_results() -> None:
    def f(x: gb.Tensor, y: gb.Tensor) -> dict[str, gb.Tensor]:
        return {"product": x * y, "sum": (x + y).sum()}

    out, pull = gb.vjp(f, X, X + 1)
    np.testing.assert_allclose(out["product"].numpy(), X * (X + 1))
    for _ in range(2):  # pull can be called again
        dx, dy = pull({"product": gb.ones(3, dtype="float64"), "sum": gb.tensor(10.0, dtype="float64")})
        np.testing.assert_allclose(dx.numpy(), X + 1 + 10)
        np.testing.assert_allclose(dy.numpy(), X + 10)
    with pytest.raises(gb.ShapeError, match=r"cotangent of shapes \[\[2\], \[\]\]"):
        pull({"product": gb.ones(2), "sum": gb.tensor(1.0)})


def test_vjp_rows_make_the_jacobian() -> None:
    def f(x: gb.Tensor) -> gb.Tensor:
        return gb.tanh(gb.asarray(A) @ x)

    x = np.array([0.1, -0.2])
    out, pull = gb.vjp(f, x)
    jacobian = np.stack([pull(row)[0].numpy() for row in np.eye(3)])
    expected = (1 - np.tanh(A @ x) ** 2)[:, None] * A
    np.testing.assert_allclose(jacobian, expected)
    for v in np.eye(2):
        value, product = gb.jvp(f, (x,), (v,))
        np.testing.assert_allclose(value.numpy(), out.numpy())
        np.testing.assert_allclose(product.numpy(), expected @ v)


def test_jvp_of_nests_and_of_what_does_not_depend() -> None:
    def f(p: Any, y: gb.Tensor) -> tuple[gb.Tensor, gb.Tensor]:
        return p["a"] * y, y * 0 + 1

    (out, _), (tangent, none) = gb.jvp(f, ({"a": X}, X), ({"a": np.ones(3)}, np.zeros(3)))
    np.testing.assert_allclose(out.numpy(), X * X)
    np.testing.assert_allclose(tangent.numpy(), X)
    assert none.tolist() == [0, 0, 0]
    with pytest.raises(gb.ShapeError, match="tangents of shapes"):
        gb.jvp(gb.exp, (X,), (np.ones(2),))


def test_jvp_differentiates() -> None:
    """d/dx of (J(x) v) for exp is exp(x) v."""
    x = gb.tensor(X, requires_grad=True)
    _, tangent = gb.jvp(gb.exp, (x,), (np.array([1.0, 2.0, 3.0]),))
    tangent.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(X) * [1, 2, 3])


def test_hvp_is_the_hessian_times_a_vector() -> None:
    H = np.array([[2.0, 1.0], [1.0, 5.0]])
    f = lambda x: (x * (gb.asarray(H) @ x)).sum() / 2 + (x**3).sum()
    x, v = np.array([0.5, -1.0]), np.array([2.0, 3.0])
    (product,) = gb.hvp(f, (x,), (v,))
    np.testing.assert_allclose(product.numpy(), H @ v + 6 * x * v)
    a, b = gb.hvp(lambda x, y: (x * x * y).sum(), (X, X), (np.ones(3), np.zeros(3)))
    np.testing.assert_allclose(a.numpy(), 2 * X)
    np.testing.assert_allclose(b.numpy(), 2 * X)


# losses that contain gradients ---------------------------------------------------------------------------------------


def network(params: list[gb.Tensor], x: gb.Tensor) -> gb.Tensor:
    w1, b1, w2 = params
    return (gb.tanh(x * w1 + b1) * w2).sum()


def test_jacobian_and_hessian_of_every_shape() -> None:
    def curve(xp):  # shapes (2, 3), (2,) -> (3, 2)
        return lambda a, b: xp.stack([xp.sin(a[0]) * b[0], a[1] * a[0] * b[1]], axis=-1)

    def bowl(xp):
        return lambda a, b: (xp.exp(a[0] * b[0]) * a[1]).sum() + (b * b * b).sum()

    a, b = np.linspace(-1, 1, 6).reshape(2, 3), np.array([0.5, -2.0])
    for argnum, f in ((0, curve), (1, curve), (0, bowl), (1, bowl)):
        expected = autograd.jacobian(f(anp), argnum)(a, b)
        np.testing.assert_allclose(gb.jacobian(f(gb), argnum)(a, b).numpy(), expected, rtol=1e-12, strict=True)
        expected = autograd.hessian(f(anp), argnum)(a, b)
        found = gb.hessian(f(gb), argnum)(a, b).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14, strict=True)


def test_jacobian_of_nests_and_of_nothing() -> None:
    found = gb.jacobian(lambda p: p["w"] @ p["x"][0])({"w": gb.ones((2, 3)), "x": [gb.tensor([1.0, 2.0, 3.0])]})
    assert found["w"].shape == (2, 2, 3)
    assert found["w"][1].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert found["x"][0].tolist() == [[1, 1, 1]] * 2
    assert gb.jacobian(lambda x: x[:0])(gb.ones(3)).shape == (0, 3)
    assert gb.jacobian(lambda x: gb.ones(2))(gb.ones(3)).tolist() == [[0] * 3] * 2
    assert gb.jacobian(lambda x: x * x)(3.0).item() == 6.0
    w = gb.tensor([2.0, 5.0], requires_grad=True)
    gb.jacobian(lambda x: w * x * x)(gb.tensor([1.0, 3.0])).sum().backward()  # recorded: it hangs on w
    assert w.grad.tolist() == [2.0, 6.0]


def test_elementwise_grad_again_and_again() -> None:
    import autograd
    import autograd.numpy as anp

    ours, theirs = gb.tanh, anp.tanh
    x = np.linspace(-3, 3, 11)
    for _ in range(5):
        ours, theirs = gb.elementwise_grad(ours), autograd.elementwise_grad(theirs)
        np.testing.assert_allclose(ours(x).numpy(), theirs(x), rtol=1e-10, atol=1e-12, strict=True)
    assert gb.elementwise_grad(lambda a, b: a * b * b, 1)(gb.ones(2), gb.tensor([1.0, 2.0])).tolist() == [2, 4]


def test_several_arguments() -> None:
    for function in (gb.elementwise_grad, gb.jacobian):
        assert [d.item() for d in function(lambda a, b: a * b * b, (0, -1))(2.0, 3.0)] == [9.0, 12.0]
    with pytest.raises(gb.DTypeError, match=r"hessian: argnum .* use one integer"):
        gb.hessian(gb.multiply, (0, 1))


def test_complex_derivatives_have_both_parts_or_are_refused() -> None:
    x, z = np.array([0.5, 2.0]), np.array([1 + 2j, -0.5j])
    wave, slope = lambda v: gb.exp(v * 1j), 1j * np.exp(1j * x)
    np.testing.assert_allclose(gb.elementwise_grad(wave)(x).numpy(), slope)
    np.testing.assert_allclose(gb.jacobian(wave)(x).numpy(), np.diag(slope))
    np.testing.assert_allclose(gb.hessian(wave)(x[:1]).numpy(), 1j * slope[:1, None, None])
    assert gb.jacobian(lambda v: wave(v)[:0])(x).dtype == np.complex128
    np.testing.assert_allclose(gb.elementwise_grad(lambda v: v * v, holomorphic=True)(z).numpy(), 2 * z)
    np.testing.assert_allclose(gb.jacobian(lambda v: gb.abs(v) ** 2)(z).numpy(), np.diag(2 * z.conj()), atol=1e-15)
    for function in (gb.jacobian, gb.elementwise_grad):
        with pytest.raises(gb.DTypeError, match=f"{function.__name__}: .* say holomorphic=True"):
            function(gb.conj)(z)


@pytest.mark.parametrize("name", ["elementwise_grad", "jacobian", "hessian"])
def test_what_they_refuse(name: str) -> None:
    function = getattr(gb, name)
    with pytest.raises(gb.DTypeError, match=r"returned a (float|tuple); it must return one Tensor"):
        function(lambda x: 1.0)(gb.ones(2))
    with pytest.raises(gb.ShapeError, match="argnums 2"):
        function(lambda x: x, 2)(gb.ones(2))
    with pytest.raises(gb.DTypeError, match="an argument of int64 has no gradient"):
        function(lambda x: x)(gb.arange(2))


def test_a_physics_informed_loss_has_right_gradients() -> None:
    """u'' + u over some points, differentiated with respect to the network's weights."""
    rng = np.random.default_rng(0)
    params = [gb.tensor(rng.normal(size=4), requires_grad=True) for _ in range(3)]

    def residual(params: list[gb.Tensor], t: float) -> gb.Tensor:
        u = lambda x: network(params, x)
        return (gb.grad(gb.grad(u))(gb.tensor(t, dtype="float64")) + u(gb.tensor(t, dtype="float64"))) ** 2

    def loss(*params: gb.Tensor) -> gb.Tensor:
        return residual(list(params), 0.3) + residual(list(params), -0.8)

    assert gb.gradcheck(loss, tuple(params))
    loss(*params).backward()
    expected = gb.grad(loss, (0, 1, 2))(*params)
    for p, e in zip(params, expected):
        np.testing.assert_allclose(p.grad.numpy(), e.numpy())


def test_a_physics_informed_loss_trains() -> None:
    rng = np.random.default_rng(0)
    params = [gb.tensor(rng.normal(size=8), requires_grad=True) for _ in range(3)]
    t = gb.linspace(0, 1, 8, dtype="float64")

    def loss() -> gb.Tensor:  # u' = -u, u(0) = 1
        u = lambda x: (gb.tanh(x.reshape(-1, 1) * params[0] + params[1]) * params[2]).sum(axis=1)
        slope = gb.grad(lambda x: u(x).sum())(t)
        return ((slope + u(t)) ** 2).mean() + ((u(gb.zeros(1, dtype="float64")) - 1) ** 2).sum()

    start = loss().item()
    for _ in range(150):
        loss().backward()
        with gb.no_grad():
            for p in params:
                p -= p.grad * 0.05
                p.grad = None
    assert loss().item() < start * 0.02


def test_gradient_matching() -> None:
    """Choose an input whose gradient equals a target gradient: the loss is a function of gb.grad."""
    w = gb.tensor([0.5, -0.3], dtype="float64")
    f = lambda w, x: gb.tanh((w * x).sum())
    target = gb.grad(f)(w, gb.tensor([1.0, 2.0], dtype="float64"))
    match = lambda x: ((gb.grad(f)(w, x) - target) ** 2).sum()
    assert gb.gradcheck(match, gb.tensor([0.2, 0.1], dtype="float64"))
    x = gb.tensor([0.2, 0.1], dtype="float64", requires_grad=True)
    match(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), gb.grad(match)(x).numpy())


def test_a_gradient_penalty_reaches_parameters_closed_over() -> None:
    w = gb.tensor([2.0, 3.0], dtype="float64", requires_grad=True)
    x = gb.tensor([1.0, -1.0], dtype="float64")
    penalty = (gb.grad(lambda x: (w * x**2).sum())(x) ** 2).sum()  # sum (2 w x)^2
    penalty.backward()
    np.testing.assert_allclose(w.grad.numpy(), [16, 24])


# checkpoint ----------------------------------------------------------------------------------------------------------


def block(x: gb.Tensor, w: gb.Tensor) -> gb.Tensor:
    return gb.tanh(x @ w) @ w


@pytest.mark.parametrize("closed", [False, True], ids=["argument", "closed over"])
def test_checkpoint_agrees_with_running_plainly(closed: bool) -> None:
    rng = np.random.default_rng(1)
    w = gb.tensor(rng.normal(size=(3, 3)), requires_grad=True)
    x = gb.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    block(block(x, w), w).sum().backward()
    expected = x.grad.numpy().copy(), w.grad.numpy().copy()
    x.grad = w.grad = None
    if closed:
        out = gb.checkpoint(lambda h: block(h, w), gb.checkpoint(lambda h: block(h, w), x))
    else:
        out = gb.checkpoint(block, gb.checkpoint(block, x, w), w)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), expected[0])
    np.testing.assert_allclose(w.grad.numpy(), expected[1])


def test_checkpoint_keeps_only_its_inputs() -> None:
    import tracemalloc

    x = gb.ones((256, 256)).requires_grad_()

    def tower(x: gb.Tensor) -> gb.Tensor:
        for _ in range(20):
            x = gb.sin(x)
        return x

    def held(run) -> int:
        tracemalloc.start()
        out = run()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del out
        return size

    plain, saved = held(lambda: tower(x)), held(lambda: gb.checkpoint(tower, x))
    assert plain > 19 * x.nbytes
    assert saved < 2 * x.nbytes


def test_checkpoint_draws_the_same_random_numbers_again() -> None:
    x = gb.tensor(np.arange(1.0, 1001.0), requires_grad=True)

    def drop(x: gb.Tensor) -> gb.Tensor:
        return x * x * (gb.random.uniform(x.shape, dtype="float64") > 0.5).astype("float64")

    gb.manual_seed(3)
    out = gb.checkpoint(drop, x)
    after = gb.random.uniform(4).tolist()
    gb.manual_seed(3)
    expected = drop(x.detach())
    assert gb.random.uniform(4).tolist() == after
    np.testing.assert_array_equal(out.numpy(), expected.numpy())
    gb.random.uniform(17)  # the stream moves on before backward
    state = gb.random.default_generator().get_state()
    out.sum().backward()
    assert gb.random.default_generator().get_state() == state
    np.testing.assert_allclose(x.grad.numpy(), 2 * expected.numpy() / x.numpy())


def test_checkpoint_draws_again_in_a_thread_that_had_no_generator_yet() -> None:
    import threading

    failures: list[BaseException] = []

    def work() -> None:
        try:
            x = gb.tensor(np.arange(1.0, 1001.0), requires_grad=True)
            out = gb.checkpoint(lambda x: x * (gb.random.uniform(1000) > 0.5).astype("float64"), x)
            out.sum().backward()
            np.testing.assert_allclose(x.grad.numpy(), out.numpy() / x.numpy())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures, failures


def test_checkpoint_in_grad_of_grad() -> None:
    w = gb.tensor(X + 2, requires_grad=True)
    f = lambda x: gb.checkpoint(lambda h: gb.sin(h * w) * h, x).sum()
    plain = lambda x: (gb.sin(x * w) * x).sum()
    for g, e in (
        (gb.grad(f)(X), gb.grad(plain)(X)),
        (gb.grad(lambda x: gb.grad(f)(x).sum())(X), gb.grad(lambda x: gb.grad(plain)(x).sum())(X)),
        (gb.hvp(f, (X,), (X,))[0], gb.hvp(plain, (X,), (X,))[0]),
    ):
        np.testing.assert_allclose(g.numpy(), e.numpy())
    (gb.grad(f)(gb.tensor(X)) ** 2).sum().backward()
    found, w.grad = w.grad, None
    (gb.grad(plain)(gb.tensor(X)) ** 2).sum().backward()
    np.testing.assert_allclose(found.numpy(), w.grad.numpy())


def test_checkpoint_of_several_results_and_constants() -> None:
    x = gb.tensor(X, requires_grad=True)
    a, (b, c) = gb.checkpoint(lambda x, k: (x * k, (gb.exp(x), x > 0)), x, 3.0)
    assert not c.requires_grad
    (a.sum() + (b * b).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 + 2 * np.exp(2 * X))
    with gb.no_grad():
        assert not gb.checkpoint(gb.exp, x).requires_grad
    assert not gb.checkpoint(gb.exp, gb.tensor(X)).requires_grad


def test_checkpoint_refuses_computed_tensors_closed_over() -> None:
    x = gb.tensor(X, requires_grad=True)
    h = x * 2
    with pytest.raises(
        gb.TapeError, match=r"closes over a computed Tensor \(from 'multiply'\); pass it as an argument"
    ):
        gb.checkpoint(lambda x: x * h, x)


def test_checkpoint_pulled_back_in_another_thread() -> None:
    """The random numbers are those of the forward pass, not of the thread that runs backward."""
    import threading

    gb.manual_seed(11)
    x = gb.tensor(np.arange(1.0, 501.0), requires_grad=True)
    out = gb.checkpoint(lambda x: x * (gb.random.uniform(500) > 0.5).astype("float64"), x)
    thread = threading.Thread(target=out.sum().backward)
    thread.start()
    thread.join()
    np.testing.assert_allclose(x.grad.numpy(), out.numpy() / x.numpy())


def test_gradients_that_nobody_asked_for_are_not_computed() -> None:
    calls: list[str] = []

    def counting(name: str, rule):
        def run(g, x, y):
            calls.append(name)
            return rule(g, x, y)

        return run

    times = gb.primitive(
        lambda x, y: x * y,
        vjp=[counting("x", lambda g, x, y: g * y), counting("y", lambda g, x, y: g * x)],
        name="times",
    )
    w = gb.tensor(X, requires_grad=True)
    x = gb.tensor(X, requires_grad=True)
    loss = times(x, w * 2.0).sum()
    gb.core.tape.walk([loss], [gb.ones_like(loss)], targets=[x], retain_graph=True)
    assert calls == ["x"]
    loss.backward()
    assert sorted(calls[1:]) == ["x", "y"]


def test_gradients_at_points_where_formulas_divide_by_zero() -> None:
    """As PyTorch has them: 0 for std of equal elements and for atan2 at the origin, 1 and 0 for logaddexp(inf, 1)."""
    assert not gb.grad(lambda x: gb.std(x))(gb.tensor([2.0, 2.0, 2.0])).numpy().any()
    dx, dy = gb.grad(lambda x, y: gb.atan2(x, y), (0, 1))(gb.tensor(0.0), gb.tensor(0.0))
    assert (dx.item(), dy.item()) == (0.0, 0.0)
    dx, dy = gb.grad(lambda x, y: gb.logaddexp(x, y), (0, 1))(gb.tensor(float("inf")), gb.tensor(1.0))
    assert (dx.item(), dy.item()) == (1.0, 0.0)
    dx, dy = gb.grad(lambda x, y: gb.maximum(x, y), (0, 1))(gb.tensor(float("nan")), gb.tensor(1.0))
    assert (dx.item(), dy.item()) == (1.0, 1.0)


def test_a_checkpoint_of_nothing() -> None:
    with pytest.raises(gb.DTypeError, match=r"checkpoint: .* returned no Tensor"):
        gb.checkpoint(lambda x: 3, gb.ones(2))
