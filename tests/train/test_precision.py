"""fit in other precisions: as accurate as float32, and the model is float32 again afterwards."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.train import EarlyStopping, evaluate, fit

from .test_fit import blobs, network, run

HALVES = ("bfloat16", "float16")


def weights(model):
    return [p.detach().numpy().copy() for p in model.parameters()]


def digits(precision, device, hidden, epochs, lr, batch_size):
    """The history of digits learnt, with the test accuracy."""
    gb.manual_seed(0)
    train, test = gb.data.stratified_split(*gb.data.load_digits())
    model = gb.nn.MLP([64, hidden, 10], device="cpu").to(device)
    settings = {"loss": "cross_entropy", "optimizer": "adam", "schedule": "onecycle", "metrics": ["accuracy"]}
    return fit(
        model, train, validation=test, epochs=epochs, lr=lr, batch_size=batch_size, precision=precision, progress=False,
        **settings,
    )  # fmt: skip


# accuracy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", HALVES)
def test_digits_are_learnt_as_well_as_in_float32(precision):
    found = {p: digits(p, "cpu", 64, 10, 3e-3, 64)["val_accuracy"][-1] for p in ("float32", precision)}
    assert found["float32"] > 0.96
    assert found[precision] > found["float32"] - 0.005


@pytest.mark.emulated
@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_digits_are_learnt_as_well_through_the_kernels(device):
    found = {p: digits(p, device, 32, 6, 1e-2, 64)["val_accuracy"][-1] for p in ("float32", "bfloat16")}
    assert found["float32"] > 0.92
    assert found["bfloat16"] > found["float32"] - 0.005


@pytest.mark.parametrize("precision", HALVES)
def test_losses_stay_near_those_of_float32(precision, device):
    plain, low = (run(network(device), epochs=2, precision=p, metrics=["accuracy"]) for p in ("float32", precision))
    assert low.steps["loss"] != plain.steps["loss"]
    np.testing.assert_allclose(low.steps["loss"], plain.steps["loss"], rtol=0.01)
    extra = {"skipped", "loss_scale"} if precision == "float16" else set()
    assert set(low.epochs) == {*plain.epochs, *extra}
    assert set(low.steps) == set(plain.steps)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("precision", HALVES)
def test_a_captured_training_is_the_eager_one(precision, device):
    ends = []
    for capture in (True, False):
        model = network(device, dropout=0.2)
        history = run(model, precision=precision, max_norm=0.5, capture=capture, validation=blobs(20, 1))
        ends.append((history.steps["loss"], history["val_loss"], *weights(model)))
    for a, b in zip(*ends):
        if device == "cuda":  # where products take in what follows them, and so round once in place of twice
            np.testing.assert_allclose(a, b, rtol=0.02, atol=0.01)
        else:
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


# what the model is meanwhile, and afterwards --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", HALVES)
def test_the_network_computes_in_16_bits_and_its_losses_do_not(precision, device):
    seen = set()

    def loss(prediction, target):
        seen.add(("prediction", prediction.dtype.name))
        seen.update(("parameter", p.dtype.name) for p in model.parameters())
        return gb.nn.functional.cross_entropy(prediction, target)

    model = network(device)
    run(model, loss=loss, epochs=1, validation=blobs(20, 1), precision=precision)
    assert seen == {("prediction", "float32"), ("parameter", precision)}
    assert {p.dtype.name for p in model.parameters()} == {"float32"}


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("given", ["by name", "made before", "with master weights"])
def test_the_master_weights_come_back(given, precision, device):
    """The model ends with digits that 16 bits do not hold, and casting it gives the network that was measured."""
    model = network(device)
    options = {"master_weights": True} if given == "with master weights" else {}
    optimizer = "adam" if given == "by name" else gb.optim.Adam(model.parameters(), **options)
    history = run(model, optimizer=optimizer, precision=precision, validation=blobs(50, 1))
    for w in weights(model):
        assert w.dtype == np.float32
        assert (w != w.astype(gb.zeros(0, dtype=precision).numpy().dtype)).any()
    if given != "by name":
        assert optimizer.master_weights is bool(options)
        assert {values["exp_avg"].dtype.name for values in optimizer.state.values()} == {"float32"}
        steps = 15 - sum(history.epochs.get("skipped", ()))
        assert {values["step"] for values in optimizer.state.values()} == {steps}
    gb.nn.cast(model, precision)
    assert evaluate(model, blobs(50, 1), loss="cross_entropy")["loss"] == history["val_loss"][-1]


def test_what_a_callback_writes_into_a_frozen_parameter_stays(device):
    model = network(device)
    frozen = model[0].weight.requires_grad_(False)
    before = frozen.numpy().copy()

    def write(run):
        frozen[0] = 0.5

    trained = [p for p in model.parameters() if p.requires_grad]
    run(model, optimizer=gb.optim.SGD(trained, lr=0.1), precision="bfloat16", callbacks=[write])
    assert (frozen.numpy()[0] == 0.5).all()
    np.testing.assert_array_equal(frozen.numpy()[1:], before[1:])


def test_a_step_of_nothing_keeps_every_bit(device):
    """With steps of nothing, the weights are afterwards bit for bit what they were."""
    for precision in HALVES:
        model = network(device)
        model[0].weight.requires_grad_(False)
        before = weights(model)
        trained = [p for p in model.parameters() if p.requires_grad]  # the frozen one has no optimiser that keeps it
        run(model, optimizer=gb.optim.SGD(trained, lr=0.0), precision=precision)
        for a, b in zip(weights(model), before):
            np.testing.assert_array_equal(a, b)


def test_two_halves_of_a_training_are_the_whole(device):
    """What the optimiser knows survives the way back to float32 and down again."""
    ends = []
    for parts in ((2,), (1, 1)):
        model = network(device)
        optimizer = gb.optim.Adam(model.parameters(), lr=0.01)
        loader = gb.data.DataLoader(blobs(), batch_size=16)
        for epochs in parts:
            how = {"precision": "bfloat16", "capture": device != "cuda"}  # a replay rounds otherwise there
            run(model, loader, batch_size=None, optimizer=optimizer, epochs=epochs, **how)
        ends.append(weights(model))
    for a, b in zip(*ends):
        np.testing.assert_array_equal(a, b)


def test_a_training_in_float32_can_follow(device):
    model = network(device)
    optimizer = gb.optim.SGD(model.parameters(), lr=0.1)
    run(model, optimizer=optimizer, precision="float16", epochs=1)
    assert optimizer.param_groups[0].flats[0].master is None
    assert all(p.grad is None for p in model.parameters())  # one that carries a scale
    before = [p.detach() for p in model.parameters()]
    start = weights(model)
    run(model, blobs(16), optimizer=optimizer, epochs=1)
    for p, b, a in zip(model.parameters(), before, start):  # no scale is left
        np.testing.assert_allclose(b.numpy(), a - 0.1 * p.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_an_error_gives_the_weights_back_too():
    def fail(run):
        raise KeyError("mine")

    model = network()
    with pytest.raises(KeyError, match="mine"):
        run(model, precision="float16", callbacks=[fail])
    assert {p.dtype.name for p in model.parameters()} == {"float32"}


def test_early_stopping_gives_back_the_best_weights():
    model, kept = network(), {}

    def spoil(run):
        if run.epoch == 1:
            kept.update({k: v.numpy().copy() for k, v in run.model.state_dict().items()})
        run.history["val_loss"][-1] = float(run.epoch)

    stopping = EarlyStopping(patience=2)
    run(model, epochs=5, precision="bfloat16", validation=blobs(20, 1), callbacks=[spoil, stopping])
    for name, value in gb.nn.cast(model, "bfloat16").state_dict().items():
        np.testing.assert_array_equal(value.numpy(), kept[name])


def test_a_saved_model_loads_and_predicts(tmp_path, device):
    model = network(device)
    run(model, precision="bfloat16")
    gb.save(model.eval(), tmp_path / "m.safetensors")
    loaded = gb.load(tmp_path / "m.safetensors")
    x = gb.tensor(blobs(9)[0])
    assert loaded(x).dtype == "float32"
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())


def test_parameters_of_16_bits_stay_so(device):
    model = gb.nn.cast(network(device), "bfloat16")
    run(model, precision="bfloat16")
    assert {p.dtype.name for p in model.parameters()} == {"bfloat16"}


def test_statistics_of_batch_norm_stay_float32(device):
    model = network(device, norm="batch")
    run(model, precision="bfloat16", validation=blobs(20, 1))
    plain = network(device, norm="batch")
    run(plain, validation=blobs(20, 1))
    for a, b in zip(model.buffers(), plain.buffers()):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0.02, atol=0.02)


# float16 --------------------------------------------------------------------------------------------------------------


def poisoned(share):
    """Data of which the last `share` of the samples have no finite loss, in batches of 10 and in order."""
    X, y = blobs(60)
    X[round(60 * (1 - share)) :] = math.nan
    return gb.data.DataLoader((X, y), batch_size=10)


def test_a_loss_that_is_not_finite_is_skipped_counted_and_left_out(capsys, device):
    model, twin = network(device), network(device)
    history = run(model, poisoned(1 / 3), batch_size=None, epochs=2, precision="float16", progress=True)
    assert history.stopped is None
    assert history["skipped"] == [2, 2]
    assert history["loss_scale"] == [2.0**14, 2.0**12]
    finite = np.isfinite(history.steps["loss"])
    assert finite.tolist() == [*[True] * 4, *[False] * 2] * 2
    assert history["loss"][0] == pytest.approx(np.mean(history.steps["loss"][:4]))
    assert capsys.readouterr().out.splitlines()[1].count("skipped 2") == 1
    X, y = blobs(60)
    run(twin, gb.data.DataLoader((X[:40], y[:40]), batch_size=10), batch_size=None, epochs=2, precision="float16")
    for a, b in zip(weights(model), weights(twin)):  # as if those batches were not there
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_hundred_skipped_in_a_row_are_an_error():
    seen = []

    def note(run):
        seen.append(run.epoch)

    with pytest.raises(gb.DataError, match=r"102 steps in a row were skipped.*loss scale is 1\.29e-26.*bfloat16"):
        run(
            None,
            poisoned(1),
            batch_size=None,
            epochs=30,
            precision="float16",
            callbacks=[lambda r: seen.append(r.epoch)],
        )
    assert seen == [*range(1, 17)]  # six steps an epoch


def test_float16_waits_once_more_an_epoch(monkeypatch):
    """Once for the losses and once for the scaler, however many steps there are."""
    backend = gb.device("cpu").backend
    original, reads = backend.to_host, []
    monkeypatch.setattr(backend, "to_host", lambda array: (reads.append(array.shape), original(array))[1])
    totals = []
    for steps in (20, 40):
        model, data = network(), blobs(steps)
        reads.clear()
        run(model, data, batch_size=1, epochs=2, precision="float16")
        assert (reads.count((steps,)), reads.count((5,))) == (2, 2)
        totals.append(len(reads))
    assert totals[0] == totals[1]  # what else is read is read where the training begins and ends


# products -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "during"), [("float32", "highest"), ("tf32", "high"), (None, "high")])
def test_products_are_rounded_during_the_training_alone(precision, during):
    seen = []
    gb.set_matmul_precision("high" if precision is None else "highest")
    try:
        before = gb.get_matmul_precision()
        run(precision=precision, epochs=1, callbacks=[lambda run: seen.append(gb.get_matmul_precision())])
        assert seen == [during]
        assert gb.get_matmul_precision() == before
        with pytest.raises(gb.DataError):
            run(precision=precision, data=(blobs()[0], blobs()[1] + 1))
        assert gb.get_matmul_precision() == before
    finally:
        gb.set_matmul_precision("highest")


def test_tf32_is_float32_where_there_is_none(device):
    if device == "cuda":
        pytest.skip("there is one")
    losses = [run(network(device), precision=p).steps["loss"] for p in ("tf32", None)]
    assert losses[0] == losses[1]


# clipping -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [None, *HALVES])
def test_gradients_are_clipped_without_their_scale(precision, device):
    """With plain SGD a step is as long as the clipped gradient."""
    model = network(device)
    before = weights(model)
    optimizer = gb.optim.SGD(model.parameters(), lr=1.0)
    run(model, blobs(16), epochs=1, optimizer=optimizer, precision=precision, max_norm=1e-2)
    moved = np.concatenate([(a - b).ravel() for a, b in zip(weights(model), before)])
    assert np.linalg.norm(moved) == pytest.approx(1e-2, rel=1e-3)


# bad input ------------------------------------------------------------------------------------------------------------


def test_bad_input_is_named():
    with pytest.raises(gb.DataError, match="precision 'fp8' is not known; use one of float32, tf32, bfloat16"):
        run(precision="fp8")
    with pytest.raises(gb.DTypeError, match=r'precision="bfloat16" for parameters of float64.*model\.float\(\)'):
        run(network().to("float64"), precision="bfloat16")
    with pytest.raises(gb.DataError, match="max_norm=-1"):
        run(max_norm=-1)
    with pytest.raises(gb.DataError, match=r"set_matmul_precision: 'medium' is unknown"):
        gb.set_matmul_precision("medium")
