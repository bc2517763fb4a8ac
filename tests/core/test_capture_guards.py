"""What Python does around the recorded operations: attributes, hooks, counters; seen, or refused in words."""

from __future__ import annotations

import ctypes
import gc
import itertools
import random
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.core import devices
from gpu_backprop.core.recording import Recorder

from .capture_jobs import CLASSES, FEATURES, JOBS, batches, bits, flat, history, network, training_step

# attributes and hooks, changed between calls ------------------------------------------------------------------------


def hook_that_halves(model: Any, optimizer: Any, scaler: Any) -> None:
    next(model.parameters()).register_hook(lambda g: g * 0.5)


def hook_and_away(model: Any, optimizer: Any, scaler: Any) -> None:
    remove = next(model.parameters()).register_hook(lambda g: g * 0.5)
    remove()


def replace_layer(model: Any, optimizer: Any, scaler: Any) -> None:
    model.scale = Scale(3.0)


CHANGES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "dropout": lambda m, o, s: setattr(m.drop, "p", 0.9),
    "slope": lambda m, o, s: setattr(m.leaky, "negative_slope", 0.5),
    "minus zero": lambda m, o, s: setattr(m.scale, "factor", -0.0),
    "a number of a layer that is not called": lambda m, o, s: setattr(m.uncalled, "factor", 7.0),
    "a new attribute": lambda m, o, s: setattr(m, "extra", 2.0),
    "a layer": replace_layer,
    "smoothing": lambda m, o, s: setattr(m.loss, "label_smoothing", 0.3),
    "hook": hook_that_halves,
    "hook, and away with it": hook_and_away,
    "growth": lambda m, o, s: setattr(s, "growth_factor", 4.0),
    "interval": lambda m, o, s: s.load_state_dict({**s.state_dict(), "growth_interval": 1}),
    "evaluation": lambda m, o, s: m.eval(),
}


class Scale(gb.nn.Module):
    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Varied(gb.nn.Module):
    def __init__(self):
        self.first = gb.nn.Linear(FEATURES, 8)
        self.drop, self.leaky = gb.nn.Dropout(0.2), gb.nn.LeakyReLU(0.1)
        self.scale, self.uncalled = Scale(1.5), Scale(2.0)
        self.last = gb.nn.Linear(8, CLASSES)
        self.loss = gb.nn.CrossEntropyLoss()

    def forward(self, x):
        hidden = self.scale(self.leaky(self.drop(self.first(x)))) + self.uncalled.factor
        return self.last(hidden) * getattr(self, "extra", 1.0)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_attributes_and_hooks_that_change_between_calls_are_seen(name, check):
    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        gb.manual_seed(5)
        model = Varied()
        optimizer = gb.optim.SGD(model.parameters(), lr=0.05)
        scaler = gb.optim.LossScaler(optimizer, init_scale=2.0, growth_interval=2)

        def step(x, y):
            optimizer.zero_grad()
            loss = model.loss(model(x), y)
            scaler.scale(loss).backward()
            scaler.step()
            return loss, scaler.loss_scale.copy()

        step = wrap(step)
        history = []
        for i, (x, y) in enumerate(batches("cpu", 10)):
            if i == 5:
                CHANGES[name](model, optimizer, scaler)
            history.append(bits(flat(step(x, y))))
        return history

    assert run(gb.capture(check=check)) == run(lambda step: step)


# attributes that the function itself assigns -------------------------------------------------------------------------


class Counts(gb.nn.Module):
    count = 0

    def forward(self, x):
        self.count = self.count + 1
        return x * self.count


class Flips(gb.nn.Module):
    flip = False

    def forward(self, x):
        self.flip = not self.flip
        return x * 2 if self.flip else x - 1


class Lazy(gb.nn.Module):
    table = None

    def forward(self, x):
        if self.table is None:
            self.table = gb.random.uniform(x.shape, device=x.device)
        return x + self.table


class Keeps(gb.nn.Module):
    hidden = None

    def forward(self, x):
        self.hidden = x * 3
        return self.hidden + 1


class HoldsATuple(gb.nn.Module):
    state: Any = (None,)

    def forward(self, x):
        self.state = ((x if self.state[0] is None else self.state[0] + x),)
        return self.state[0] * 2


class HoldsAList(gb.nn.Module):
    state: Any = None

    def forward(self, x):
        self.state = [x] if self.state is None else [self.state[0] + x, *self.state][:3]
        return self.state[-1] * 2


class HoldsADict(gb.nn.Module):
    state: Any = None

    def forward(self, x):
        self.state = {"h": x if self.state is None else self.state["h"] + x}
        return self.state["h"] * 2


class Cools(gb.nn.Module):
    temperature: Any = np.float32(8)

    def forward(self, x):
        self.temperature = np.float32(self.temperature * 0.5)
        return x * float(self.temperature)


class Switches(gb.nn.Module):
    def forward(self, x):
        self.train()
        first = gb.nn.functional.dropout(x, 0.5, self.training)
        self.eval()
        return first + gb.nn.functional.dropout(x, 0.5, self.training)


class Deletes(gb.nn.Module):
    def forward(self, x):
        self.left = x * 2
        self.gone = x + 1
        del self.gone
        return self.left + 1


@pytest.mark.parametrize(
    "kind", [Counts, Flips, Lazy, Keeps, HoldsATuple, HoldsAList, HoldsADict, Cools, Switches, Deletes]
)
def test_attributes_that_the_function_assigns_are_as_in_eager_code(kind):
    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        gb.manual_seed(1)
        model = kind()
        function = wrap(model)
        history = []
        with gb.no_grad():
            for x, _ in batches("cpu", 8):
                history.append(bits([function(x)]))
                history += [(k, bits(flat(v)) if isinstance(v, gb.Tensor) else None) for k, v in vars(model).items()]
                history += [v for v in vars(model).values() if isinstance(v, (int, np.float32))]
        return history

    assert run(gb.capture) == run(lambda f: f)


def test_what_another_call_has_assigned_is_assigned_again():
    """An evaluation in between leaves its own tensor in the attribute; the next replay is the last to write it."""
    model = Keeps()
    captured = gb.capture(model)
    (x, _), (y, _) = batches("cpu", 2)
    with gb.no_grad():
        for _ in range(3):
            captured(x)
        model(y)
        captured(x)
    assert len(captured.programs) == 1  # it was never read
    assert model.hidden.numpy().tobytes() == (x * 3).numpy().tobytes()


def test_attributes_are_seen_whoever_reads_them():
    """Not only in forward: methods, and layers that are used alone."""

    class Coder(gb.nn.Module):
        def __init__(self):
            self.layer, self.scale = gb.nn.Linear(FEATURES, 3), 1.0

        def encode(self, x):
            return self.layer(x) * self.scale

    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        gb.manual_seed(0)
        model = Coder()
        functions = [wrap(model.encode), wrap(lambda x: model.layer(x)), wrap(lambda x: sum_of(model.parameters()) * x)]
        history = []
        with gb.no_grad():
            for i, (x, _) in enumerate(batches("cpu", 6)):
                if i == 3:
                    model.scale = 9.0
                if i == 4:
                    model.layer = gb.nn.Linear(FEATURES, 3)
                if i == 5:
                    model.more = gb.nn.Linear(2, 2)
                history += [bits([f(x)]) for f in functions]
        return history

    def sum_of(parameters):
        total = gb.zeros(())
        for p in parameters:
            total = total + p.sum()
        return total

    assert run(gb.capture) == run(lambda f: f)


def test_attributes_that_nobody_reads_stop_no_replay():
    model = Varied()
    calls = []

    def function(x):
        calls.append(1)
        model.note = "seen"
        return model(x)

    captured = gb.capture(function)
    with gb.no_grad():
        for i, (x, _) in enumerate(batches("cpu", 6)):
            model.step = i
            captured(x)
    assert len(calls) == 1
    assert model.note == "seen"


def test_an_attribute_that_always_changes_is_named():
    model = Counts()
    captured = gb.capture(model, strict=False, max_programs=2)
    (x, _), _ = batches("cpu", 2)
    with warnings.catch_warnings(record=True) as told, gb.no_grad():
        warnings.simplefilter("always")
        for _ in range(12):
            captured(x)
    assert [str(w.message).count("Counts.count is another at each call") for w in told] == [1]


def test_layers_that_were_replaced_do_not_live_on_in_programs():
    model = Varied()
    captured = gb.capture(lambda x: model(x))
    (x, _), _ = batches("cpu", 2)
    layers = []
    with gb.no_grad():
        for _ in range(4):
            captured(x)
            layers.append(weakref.ref(model.first))
            model.first = gb.nn.Linear(FEATURES, 8)
        captured(x)
    gc.collect()
    assert [layer() is None for layer in layers] == [True] * 4
    assert len(captured.programs) == 1


def test_constants_that_are_written_into_begin_anew():
    def function(x):
        total = gb.tensor([1.0, 2.0])
        total[0:1] += x.sum()
        kept = gb.asarray(np.arange(3.0))
        kept.copy_(kept * 2)
        return total, kept

    captured = gb.capture(function, check=True)
    for x, _ in batches("cpu", 5):
        assert bits(flat(captured(x))) == bits(flat(function(x)))
    assert captured.program.is_built


def test_a_gradient_that_somebody_kept_stays_what_it_was_between_shapes():
    gb.manual_seed(0)
    model = network(gb.nn.ReLU)
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)
    step = gb.capture(training_step(model, optimizer), check=True)
    kept = []
    for i, (x, y) in enumerate(batches("cpu", 12)):
        step(x, y) if i % 3 else step(x[:5], y[:5])
        gradient = next(model.parameters()).grad
        kept.append((gradient, gradient.numpy().tobytes()))
    assert all(gradient.numpy().tobytes() == was for gradient, was in kept)


def test_a_state_that_is_replaced_is_refused_even_if_the_old_one_is_held():
    class Running(gb.nn.Module):
        def __init__(self):
            self.mean = gb.zeros(FEATURES)

        def forward(self, x):
            self.mean = self.mean * 0.9 + x.mean(axis=0) * 0.1
            return x - self.mean

    model = Running()
    held = model.mean
    (x, _), _ = batches("cpu", 2)
    with pytest.raises(gb.CaptureError, match=r"Running\.mean is read and then replaced.*copy_"):
        gb.capture(model)(x)
    assert held.shape == (FEATURES,)


# what is found out by a second recording -----------------------------------------------------------------------------

numbers = itertools.count()
held: list[Any] = []


def noise():
    return gb.asarray(np.random.default_rng().random(FEATURES, np.float32))


def rebinds(x):
    held.append(held[-1] * 0.5 + 1.0)
    return x * held[-1]


VARYING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a counter": (lambda x: x * next(numbers), "took 0, then 1|took 2, then 3|mul"),
    "Python's random": (lambda x: x * random.random(), "took 0.*, then 0."),
    "NumPy's random": (
        lambda x: x + gb.asarray(np.random.default_rng().random(FEATURES, np.float32)),
        "another float32",
    ),
    "another operation": (lambda x: x + 2.0 if next(numbers) % 2 else x - 2.0, "was (add|subtract), then"),
    "fewer operations": (lambda x: x + 2.0 if next(numbers) % 2 else (x + 2.0) - 1.0, "operations, then"),
    "another dtype": (
        lambda x: x.astype("float64" if next(numbers) % 2 else "float16"),
        "float.*, then .*float",
    ),
    "a number returned": (lambda x: (x, next(numbers)), "something else was returned"),
    "a state that was rebound": (rebinds, r"another float32\[6\]"),
}


@pytest.mark.parametrize("name", VARYING)
def test_a_function_that_does_otherwise_at_its_second_call_is_refused(name):
    function, message = VARYING[name]
    held[:] = [gb.ones(FEATURES)]
    (x, _), _ = batches("cpu", 2)
    captured = gb.capture(function, check=True)
    captured(x)
    with pytest.raises(gb.CaptureError, match=f"did not do the same at its second call.*({message})"):
        captured(x)

    held[:] = [gb.ones(FEATURES)]
    lenient = gb.capture(function, check=True, strict=False)
    lenient(x)
    with pytest.warns(UserWarning, match="runs eagerly: .* did not do the same"):
        lenient(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lenient(x)
    assert not lenient.programs


@pytest.mark.parametrize("name", JOBS)
def test_a_function_that_does_the_same_is_replayed_from_the_third_call_on(name):
    data = batches("cpu", 5)
    eager, _ = history(name, lambda step: step, data, 12)
    captured, step = history(name, gb.capture(check=True), data, 12)
    assert captured == eager
    assert step.program.is_built


def test_only_a_checked_function_can_be_looked_at_again():
    with pytest.raises(gb.CaptureError, match=r"check_again: .*gb.capture\(\.\.\., check=True\)"):
        gb.capture(lambda x: x).check_again()


def test_what_is_recorded_again_and_again_is_left_alone_where_that_is_allowed():
    captured = gb.capture(lambda x, n: x * n, max_programs=2, strict=False)
    (x, _), _ = batches("cpu", 2)
    with pytest.warns(UserWarning, match="runs eagerly from now on: it was recorded 7 times"):
        [captured(x, n) for n in range(7)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured(x, 50).numpy().tobytes() == (x * 50).numpy().tobytes()


# arguments -----------------------------------------------------------------------------------------------------------


def test_an_own_primitive_that_writes_into_an_argument_is_refused():
    def add_one(array):
        array += 1
        return array * 2

    bump = gb.primitive(add_one, vjp=lambda g: g)
    (x, _), _ = batches("cpu", 2)
    with pytest.raises(gb.CaptureError, match=r"add_one.*writes into argument 0"):
        gb.capture(bump)(x)


def test_arguments_laid_out_otherwise_are_summed_as_they_lie():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((257, 129)).astype(np.float32)
    layouts = [gb.asarray(wide.T.copy()), gb.asarray(wide).T, gb.asarray(np.repeat(wide, 2, 0))[::2].T]
    captured = gb.capture(lambda x: (x.sum(), x.sum(axis=0), x.mean(axis=1)))
    for _ in range(2):
        for x in layouts:
            assert bits(flat(captured(x))) == bits([x.sum(), x.sum(axis=0), x.mean(axis=1)])
    assert len(captured.programs) == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: gb.nn.functional.linear(x, w, w[:, 0]),
        lambda x, w: (x, x @ w.T),
        lambda x, w: (x @ w.T, w @ x.T),
        lambda x, w: (gb.exp(x * 2.0) + x) @ w.T,
        lambda x, w: (x[1:] @ w.T, x[:, ::-1] @ w.T),
        lambda x, w: gb.nn.functional.relu(x).sum(axis=0),
        lambda x, w: (x @ w.T + x @ w.T, x.copy()),
    ],
)
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "inside"])
def test_arguments_are_read_where_they_lie_or_copied(function, layout):
    captured = gb.capture(function)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x = rng.standard_normal((40, 30)).astype(np.float32)
        laid = {"C": x, "F": np.asfortranarray(x), "reversed": x[::-1], "inside": np.pad(x, 3)[3:-3, 3:-3]}[layout]
        w = rng.standard_normal((20, 30)).astype(np.float32)
        got = captured(gb.asarray(laid), gb.asarray(w))
        expected = function(gb.tensor(np.ascontiguousarray(laid)), gb.tensor(w))
        for a, b in zip(flat(got), flat(expected), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)
    assert len(captured.programs) == 1


def test_no_argument_outlives_the_recording():
    """One that does counts as kept by somebody, and every replay copies into it."""
    seen = []

    @gb.capture
    def function(x, y):
        seen.extend([weakref.ref(x.array), weakref.ref(y.array)])
        return x @ y

    function(gb.ones((4, 5)), gb.ones((5, 3)))
    assert [ref() for ref in seen] == [None, None]


def test_an_argument_that_is_not_aligned_is_copied():
    captured = gb.capture(lambda x, w: x @ w.T)
    w = gb.asarray(np.ones((20, 30), np.float32))
    room = np.zeros(40 * 30 * 4 + 1, np.uint8)
    odd = room[1:].view(np.float32).reshape(40, 30)
    for x in (np.ones((40, 30), np.float32), odd, np.full((40, 30), 2, np.float32)):
        tensor = gb.Tensor(x, gb.device("cpu"))
        assert captured(tensor, w).numpy().tobytes() == np.full((40, 20), x.sum() / 40, np.float32).tobytes()


# fit ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["a value in Python", "a counter"])
def test_fit_goes_eagerly_with_one_warning_where_a_model_cannot_be_captured(what):
    class Odd(gb.nn.Module):
        def __init__(self):
            self.layer = gb.nn.Linear(FEATURES, CLASSES)

        def forward(self, x):
            if what == "a value in Python":
                return self.layer(x) * (2.0 if float(x.sum()) > 0 else 1.0)
            return self.layer(x) * (1.0 + next(numbers) % 3)

    def weights(capture):
        global numbers
        numbers = itertools.count()
        gb.manual_seed(0)
        model = Odd()
        rng = np.random.default_rng(1)
        data = rng.standard_normal((40, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, 40)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            gb.train.fit(
                model, data, loss="cross_entropy", optimizer="sgd", lr=0.1, epochs=2, batch_size=8, progress=False,
                capture=capture,
            )  # fmt: skip
        return bits(list(model.parameters())), [str(w.message) for w in seen]

    eager, silent = weights(False)
    captured, told = weights(True)
    assert captured == eager
    assert not silent
    assert len(told) == 1
    assert "runs eagerly" in told[0]


def test_callbacks_may_change_anything_that_fit_has_captured():
    """Also what cannot be seen, and also for the smaller last batch: the first step of an epoch is looked at again."""

    def losses(capture):
        gb.manual_seed(0)
        weight = {"weight": 1.0}
        model = gb.nn.MLP([FEATURES, 16, CLASSES])
        entropy = gb.nn.CrossEntropyLoss()
        rng = np.random.default_rng(1)
        data = rng.standard_normal((44, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, 44)

        def change(run):
            weight.update(weight=1.0 / (1 + run.epoch // 2))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            history = gb.train.fit(
                model, data, loss=lambda p, y: entropy(p, y) * weight["weight"], optimizer="adam", epochs=7,
                batch_size=8, progress=False, capture=capture, callbacks=[change],
            )  # fmt: skip
        return history.steps["loss"], bits(list(model.parameters()))

    assert losses(True) == losses(False)


def test_callbacks_may_change_a_model_that_fit_has_captured():
    def weights(capture):
        gb.manual_seed(0)
        model = gb.nn.MLP([FEATURES, 16, CLASSES], dropout=0.5)
        (drop,) = [m for m in model.modules() if isinstance(m, gb.nn.Dropout)]

        def less(run):
            drop.p = 0.5 / (1 + run.epoch)
            if run.epoch == 3:
                next(model.parameters()).requires_grad_(False)

        rng = np.random.default_rng(1)
        data = rng.standard_normal((40, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, 40)
        gb.train.fit(
            model, data, loss="cross_entropy", optimizer="adam", epochs=5, batch_size=8, progress=False,
            capture=capture, callbacks=[less],
        )  # fmt: skip
        return bits(list(model.parameters()))

    assert weights(True) == weights(False)


def test_a_constant_is_known_by_where_it_lies():
    """An array that was carved out of CuPy's memory has no base to be known by."""
    recorder, host = Recorder(), np.arange(6.0)
    recorder.constant(host, host, devices.device("cpu"))
    address = host.__array_interface__["data"][0]
    carved = np.frombuffer((ctypes.c_char * 24).from_address(address + 16), np.float64)
    assert carved.tolist() == [2, 3, 4]
    assert recorder.constant_behind(carved).array is host
    assert recorder.constant_behind(np.arange(6.0)) is None
