"""fit: it trains as a loop written by hand does, tells what happened, and does not wait for the device."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.train import Callback, EarlyStopping, evaluate, fit


def blobs(n=70, seed=0):
    """Three clouds in the plane, and the cloud of each point."""
    source = gb.random.Generator(seed)
    y = source.integers(0, 3, (n,), device="cpu").numpy()
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    X = source.normal((n, 2), device="cpu").numpy() * 0.7 + centres[y]
    return X.astype(np.float32), y


def network(device="cpu", **options):
    gb.manual_seed(7)
    return gb.nn.MLP([2, 16, 3], device="cpu", **options).to(device)


def run(model=None, data=None, **options):
    settings = {"loss": "cross_entropy", "optimizer": "adam", "epochs": 3, "batch_size": 16, "progress": False}
    return fit(network() if model is None else model, blobs() if data is None else data, **{**settings, **options})


def test_equals_a_loop_written_by_hand():
    X, y = blobs()
    model = network()
    history = run(model, lr=0.01)

    other = network()
    loader = gb.data.DataLoader((X, y), batch_size=16, shuffle=True)
    optimizer = gb.optim.Adam(other.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        for x, labels in loader:
            optimizer.zero_grad()
            loss = gb.nn.functional.cross_entropy(other(x), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert history.steps["loss"] == losses
    for a, b in zip(model.parameters(), other.parameters()):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_history_columns():
    history = run(data=blobs(70), metrics=["accuracy"], validation=blobs(40, 1))
    assert history.device == "cpu"
    assert len(history) == 3
    assert {len(column) for column in history.epochs.values()} == {3}
    assert {len(column) for column in history.steps.values()} == {15}  # 70 samples in batches of 16
    assert set(history.steps) == {"loss", "accuracy", "lr", "samples_per_second"}
    assert set(history.epochs) == {*history.steps, "seconds", "val_loss", "val_accuracy"}
    assert all(0 < v < math.inf for v in history["samples_per_second"] + history.steps["samples_per_second"])
    assert history.seconds == pytest.approx(sum(history["seconds"]))
    sizes = [16, 16, 16, 16, 6]  # every sample weighs the same
    for name in ("loss", "accuracy"):
        assert history[name][1] == pytest.approx(np.average(history.steps[name][5:10], weights=sizes))
    assert history.last()["val_loss"] == history["val_loss"][-1]
    assert history.to_dict()["epochs"] == history.epochs
    assert "3 epochs on cpu" in repr(history)


def test_learns(device):
    model = network(device)
    history = run(model, epochs=8, lr=0.02, metrics=["accuracy"], validation=blobs(60, 1))
    assert history.device == device
    assert history["val_accuracy"][-1] > 0.9 > history["accuracy"][0]
    assert history["loss"][-1] < 0.3 * history["loss"][0]


def test_devices_agree(device):
    here = run(network("cpu", dropout=0.2), metrics=["accuracy"])
    there = run(network(device, dropout=0.2), metrics=["accuracy"])
    np.testing.assert_allclose(there.steps["loss"], here.steps["loss"], rtol=1e-4)


def test_seed_decides():
    def losses(seed):
        model = network(dropout=0.5)
        gb.manual_seed(seed)
        return run(model).steps["loss"]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_regression_with_r2_and_float64_data():
    source = gb.random.Generator(0)
    X = source.normal((300, 3), dtype="float64", device="cpu").numpy()
    true = np.array([[1.0], [-2.0], [0.5]])
    y = X @ true + 3
    model = gb.nn.Linear(3, 1, device="cpu")
    seen = []

    def loss(prediction, target):
        seen.append(target.dtype)
        return gb.nn.functional.mse_loss(prediction, target)

    settings = {"epochs": 30, "optimizer": "sgd", "lr": 0.1, "progress": False}
    history = fit(model, (X, y), loss=loss, metrics=["r2", "mae"], **settings)
    assert history["r2"][-1] > 0.9999
    np.testing.assert_allclose(model.weight.numpy(), true.T, atol=1e-3)
    assert set(seen) == {np.dtype("float32")}
    fit(model.to("float64"), (X, y), loss=loss, **settings)
    assert seen[-1] == np.dtype("float64")


def test_a_loader_keeps_its_batches():
    loader = gb.data.DataLoader(blobs(), batch_size=70)
    history = run(data=loader, batch_size=None)
    assert len(history.steps["loss"]) == 3


@pytest.mark.parametrize("steps", [4, 40])
def test_does_not_wait_inside_an_epoch(monkeypatch, steps):
    """The number of reads from the device does not depend on the number of steps."""
    model, data = network(), blobs(steps)
    backend = gb.device("cpu").backend
    original, reads = backend.to_host, []
    monkeypatch.setattr(backend, "to_host", lambda array: (reads.append(array.shape), original(array))[1])
    run(model, data, batch_size=1, epochs=2, metrics=["accuracy"], schedule="cosine")
    assert len(reads) == 2
    assert reads[0] == (2 * steps,)


# evaluation -----------------------------------------------------------------------------------------------------------


def test_validation_is_evaluate():
    model = network()
    history = run(model, metrics=["accuracy"], validation=blobs(50, 1))
    result = evaluate(model, blobs(50, 1), loss="cross_entropy", metrics=["accuracy"], batch_size=7)
    assert result["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
    assert result["accuracy"] == pytest.approx(history["val_accuracy"][-1])
    X, y = blobs(50, 1)
    expected = gb.nn.functional.cross_entropy(model(gb.tensor(X)), gb.tensor(y)).item()
    assert result["loss"] == pytest.approx(expected, rel=1e-6)


def test_evaluation_mode_and_nothing_recorded():
    model = gb.nn.Sequential(network(), gb.nn.Dropout(0.9))
    seen = []

    def loss(prediction, target):
        seen.append((model.training, model[1].training, prediction.requires_grad))
        return gb.nn.functional.cross_entropy(prediction, target)

    model.eval()
    run(model, loss=loss, epochs=1, batch_size=70, validation=blobs(20, 1))
    assert seen == [(True, True, True), (False, False, False)]
    assert model.training is False  # as it was before
    model.train()
    assert evaluate(model, blobs(), loss=loss) == evaluate(model, blobs(), loss=loss)
    assert model.training is True


# callbacks ------------------------------------------------------------------------------------------------------------


class Log(Callback):
    def __init__(self):
        self.events = []

    def on_begin(self, run):
        self.events.append("begin")

    def on_step(self, run):
        self.events.append(f"step {run.step} of epoch {run.epoch}, {run.samples} samples")

    def on_epoch(self, run):
        self.events.append(f"epoch {run.epoch}, {len(run.history)} rows")

    def on_end(self, run):
        self.events.append("end")


def test_callbacks_see_the_run():
    log = Log()
    called = []
    run(data=blobs(20), epochs=2, batch_size=10, callbacks=[log, lambda run: called.append(run.epoch)])
    assert called == [1, 2]
    assert log.events == [
        "begin",
        "step 1 of epoch 1, 10 samples",
        "step 2 of epoch 1, 20 samples",
        "epoch 1, 1 rows",
        "step 3 of epoch 2, 30 samples",
        "step 4 of epoch 2, 40 samples",
        "epoch 2, 2 rows",
        "end",
    ]


def test_callbacks_end_after_an_error():
    log = Log()

    def fail(run):
        raise KeyError("mine")

    model = network().eval()
    with pytest.raises(KeyError, match="mine"):
        run(model, data=blobs(20), batch_size=20, callbacks=[log, fail])
    assert log.events[-1] == "end"
    assert model.training is False


def test_a_callback_can_stop():
    def stop(run):
        run.stop = "enough" if run.epoch == 2 else None

    history = run(epochs=5, callbacks=[stop])
    assert len(history) == 2
    assert history.stopped == "enough"
    assert run(epochs=2, callbacks=[stop]).stopped is None  # it was the last epoch anyway


def test_early_stopping_goes_back_to_the_best():
    model = network()
    kept = {}

    def spoil(run):
        if run.epoch == 2:
            kept.update({k: v.numpy().copy() for k, v in model.state_dict().items()})
        run.history["val_loss"][-1] = [3.0, 1.0, 2.0, 1.5, 1.0, 0.5][run.epoch - 1]

    stopping = EarlyStopping(patience=3)
    history = run(model, epochs=6, validation=blobs(20, 1), callbacks=[spoil, stopping])
    assert len(history) == 5
    assert history.stopped == "val_loss has not improved since epoch 2"
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), kept[name])
    assert EarlyStopping("val_accuracy").sign == 1.0
    assert EarlyStopping("val_mae").sign == -1.0
    assert EarlyStopping("loss", mode="max").sign == 1.0


def test_early_stopping_bad_input():
    with pytest.raises(gb.DataError, match="patience=0"):
        EarlyStopping(patience=0)
    with pytest.raises(gb.DataError, match="mode='up'"):
        EarlyStopping(mode="up")
    with pytest.raises(gb.DataError, match=r"no 'val_loss' to watch; use one of loss, lr"):
        run(callbacks=[EarlyStopping()])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_loss_that_is_not_finite_ends_the_training():
    X, y = blobs()
    X[5] = np.inf
    history = run(data=(X, y), epochs=5)
    assert len(history) == 1
    assert "nan in epoch 1; lower the learning rate" in history.stopped


# schedules ------------------------------------------------------------------------------------------------------------


def rates(schedule, **options):
    return run(data=blobs(64), epochs=5, lr=0.01, schedule=schedule, **options).steps["lr"]


def test_schedules_by_name():
    constant, cosine, cycle = rates("constant"), rates("cosine"), rates("onecycle")
    assert constant == [0.01] * 20
    np.testing.assert_allclose(cosine, [0.005 * (1 + math.cos(math.pi * i / 20)) for i in range(20)], rtol=1e-9)
    assert max(cycle) == pytest.approx(0.01)
    assert cycle[0] == pytest.approx(0.01 / 25)
    assert cycle[-1] < cycle[0] / 100
    np.testing.assert_allclose(rates("step"), [0.01] * 7 + [0.001] * 7 + [0.0001] * 6)
    warmup = rates("warmup")
    assert warmup[0] < warmup[1] < warmup[2] == 0.01
    assert warmup[2:] == [0.01] * 18
    for name in gb.train.OPTIMIZERS:
        rates("onecycle", optimizer=name)


def test_schedule_objects():
    model = network()
    optimizer = gb.optim.SGD(model.parameters(), lr=1.0)
    decay = gb.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    history = run(model, blobs(32), epochs=2, optimizer=optimizer, schedule=decay)
    assert history.steps["lr"] == [1.0, 0.5, 0.25, 0.125]
    assert decay.last_epoch == 3  # not stepped after the last step: a one-cycle schedule would be over its end

    plateau = gb.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
    optimizer.param_groups[0]["lr"] = 1.0
    history = run(model, blobs(32), epochs=3, optimizer=optimizer, schedule=plateau, validation=blobs(8, 1))
    assert history["lr"][0] == 1.0
    assert history["lr"][2] < 1.0  # it looks once an epoch


# progress -------------------------------------------------------------------------------------------------------------


def test_lines_where_there_is_no_terminal(capsys):
    run(progress=True, metrics=["accuracy"], validation=blobs(20, 1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("epoch 3/3  loss ")
    for part in ("  accuracy ", "  val_loss ", "  val_accuracy ", " samples/s"):
        assert part in lines[2]
    run(progress=True, epochs=100, batch_size=70)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[-1].startswith("epoch 100/100")
    run(progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    from rich import console as rich

    from gpu_backprop.train import progress

    monkeypatch.setattr(progress, "REFRESH", 0)
    monkeypatch.setattr(progress, "READ", 0)
    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=150)
    run(progress=progress.Bar(console), metrics=["accuracy"])
    text = screen.getvalue()
    for part in ("epoch 3/3", "loss ", "accuracy 0.", "samples/s", "time left", "0:00:00"):
        assert part in text


def test_a_bar_on_a_narrow_terminal_is_not_cut_off():
    from rich import console as rich

    from gpu_backprop.train import progress

    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=80)
    run(progress=progress.Bar(console), metrics=["accuracy"], validation=blobs(20, 1), epochs=10)
    text = screen.getvalue()
    assert "epoch 10/10" in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.12345, "0.1235"), (-2.5, "-2.5000"), (4.2e-7, "4.2e-07"), (3e27, "3.0e+27"), (np.inf, "inf")],
)
def test_figures_are_readable(value, text):
    from gpu_backprop.train import progress

    assert progress.describe({"loss": value, "lr": 0.1}) == f"loss {text}"


# bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, gb.DataError, "epochs=0"),
        ({"epochs": 2.5}, gb.DataError, "epochs=2.5"),
        ({"loss": "crossentropy"}, gb.DataError, "loss 'crossentropy' is not known; use one of cross_entropy, mse"),
        ({"loss": 3}, gb.DTypeError, "a int is not a loss"),
        ({"loss": gb.nn.MSELoss}, gb.DTypeError, "the class MSELoss is not a loss"),
        ({"optimizer": gb.optim.Adam}, gb.DTypeError, "Adam is not an optimizer; use sgd, adam"),
        ({"optimizer": "adm"}, gb.DataError, "optimizer 'adm' is not known; use one of sgd, adam"),
        ({"metrics": ["acc"]}, gb.DataError, "metric 'acc' is not known; use one of accuracy, mae, r2"),
        ({"schedule": "cos"}, gb.DataError, "schedule 'cos' is not known; use one of constant, cosine"),
        ({"lr": -0.1}, gb.DataError, "lr"),
        ({"batch_size": 0}, gb.DataError, "batch_size=0"),
        ({"callbacks": [3]}, gb.DataError, "a int is not a callback"),
        ({"data": blobs()[0]}, gb.DTypeError, "train is a ndarray; give a pair"),
        ({"data": (*blobs(), 1)}, gb.DataError, "train has 3 parts"),
        ({"data": (blobs()[0], blobs()[1][:5])}, gb.ShapeError, r"\[70, 2\], \[5\]"),
        ({"data": (np.zeros((0, 2)), np.zeros(0, int))}, gb.DataError, "0 samples"),
        ({"data": (blobs()[0], blobs()[1] + 1)}, gb.DataError, "label 3"),
        ({"data": (np.zeros((70, 5)), blobs()[1])}, gb.ShapeError, "5"),
        ({"data": gb.data.DataLoader(blobs())}, gb.DataError, "batch_size=16 belongs to a pair"),
        ({"validation": 5}, gb.DTypeError, "validation is a int"),
        ({"model": gb.nn.ReLU()}, gb.DataError, "no parameters"),
        ({"model": lambda x: x}, gb.DTypeError, "a function is not a model"),
        ({"loss": gb.nn.CrossEntropyLoss(reduction="none")}, gb.TapeError, "not a scalar"),
        (
            {"loss": lambda p, y: p.sum().item()},
            gb.DTypeError,
            "fit: the loss gave a float; it must give a scalar Tensor",
        ),
        ({"loss": "mse"}, gb.ShapeError, r"\[16, 3\]"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


def test_an_optimizer_brings_its_own_rate():
    model = network()
    with pytest.raises(gb.DataError, match=r"lr=0.1 belongs to an optimizer given by name"):
        run(model, optimizer=gb.optim.SGD(model.parameters()), lr=0.1)


@pytest.mark.emulated
@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_data_on_another_device_than_the_model(device):
    X, y = (gb.tensor(a, device="emulated") for a in blobs())
    with pytest.raises(
        gb.DeviceError, match=r"the data are on emulated and the model on cpu; use model.to\('emulated'\)"
    ):
        run(data=(X, y))


def test_fit_replays_its_step_with_the_same_bits(device):
    """Also the smaller last batch, which is a Program of its own."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((70, 5)).astype(np.float32), rng.integers(0, 3, 70)

    def weights(capture):
        gb.manual_seed(0)
        model = gb.nn.MLP([5, 8, 3], dropout=0.2, device=device)
        history = gb.train.fit(
            model, (X, y), loss="cross_entropy", optimizer="adam", schedule="onecycle", epochs=3, metrics=["accuracy"],
            progress=False, capture=capture,
        )  # fmt: skip
        return [p.numpy().tobytes() for p in model.parameters()], history["loss"], history["accuracy"]

    assert weights(True) == weights(False)


def test_fit_goes_on_eagerly_with_one_warning():
    """A loss that looks at a value cannot be replayed."""
    calls = []

    def loss(prediction, target):
        value = gb.nn.functional.mse_loss(prediction, target)
        calls.append(float(value))
        return value

    with pytest.warns(UserWarning, match=r"runs eagerly: .*test_fit.py") as warned:
        gb.train.fit(
            gb.nn.Linear(2, 1), (np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)), loss=loss,
            optimizer="sgd", lr=0.1, epochs=3, batch_size=4, progress=False, capture=True,
        )  # fmt: skip
    assert len(warned) == 1
    assert len(calls) == 6
    assert calls[-1] < calls[0]


def test_passes_are_compiled_before_the_clock_runs(monkeypatch):
    heard = []
    backend = gb.device("cpu").backend
    monkeypatch.setattr(type(backend), "prepare", lambda self: heard.append("prepared"))
    data = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    gb.train.fit(
        gb.nn.Linear(3, 2), data, loss="cross_entropy", optimizer="sgd", epochs=1, progress=False,
        callbacks=[lambda run: heard.append("epoch")],
    )  # fmt: skip
    assert heard == ["prepared", "epoch"]
