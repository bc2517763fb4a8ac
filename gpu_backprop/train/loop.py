"""The training loop: steps, epochs, validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core import capture as capturing
from ..core import dtypes
from ..core.devices import Device
from ..core.errors import DataError, DeviceError, DTypeError
from ..core.tape import no_grad
from ..core.tensor import Tensor
from ..data.loader import DataLoader, TensorDataset
from ..optim import LossScaler, Optimizer
from .callbacks import Callback, Run, as_callback
from .history import History, Recorder
from .metrics import Metric, as_metric
from .names import LOSSES, METRICS, OPTIMIZERS, SCHEDULES, look_up
from .precision import training_in, wide
from .progress import default_progress

BATCH = 32
EVALUATION_BATCH = 1024


def fit(
    model: Any,
    train: Any,
    *,
    loss: Any,
    optimizer: Any,
    epochs: int,
    batch_size: int | None = None,
    validation: Any = None,
    metrics: Iterable[Any] = (),
    callbacks: Iterable[Any] = (),
    progress: bool | Callback = True,
    lr: float | None = None,
    schedule: Any = None,
    precision: str | None = None,
    max_norm: float | None = None,
    capture: bool = True,
) -> History:
    """Train `model` and return what happened, step by step and epoch by epoch.

    train: a DataLoader, or a pair (X, y) of NumPy or CuPy arrays or Tensors. A pair is copied to the model's device
        once, shuffled and batched there (float64 becomes float32 unless the parameters are float64); a DataLoader's
        batches are copied as they come. `gb.manual_seed` decides the order.
    loss: a function of (prediction, target) that gives a scalar, or one of the names in `gb.train.LOSSES`.
    optimizer: an optimiser of the model's parameters, or one of the names in `gb.train.OPTIMIZERS`, made with the
        learning rate `lr` (PyTorch's default when None).
    batch_size: samples a step when `train` is a pair (32 when None).
    validation: a pair or a DataLoader, measured after every epoch.
    metrics: names ("accuracy", "r2", "mae"), functions of (prediction, target), or gb.train.Metric.
    callbacks: gb.train.Callback objects, or functions called with the Run after every epoch.
    progress: a bar on a terminal, lines elsewhere; False for silence; a Callback to show it your way.
    schedule: a scheduler, stepped after every step (ReduceLROnPlateau: after every epoch, with the validation loss if
        there is one), or one of the names in `gb.train.SCHEDULES`, spread over the whole training.
    precision: what the training computes in, while it runs; None leaves model and settings as they are.
        "float32": products of float32 parameters are exact to float32. "tf32": a GPU may round what it multiplies to
        TF32 (`gb.set_matmul_precision`); other devices go on in float32. "bfloat16", "float16": weights and activations
        are of 16 bits (`gb.nn.cast`), while the optimiser works on float32 master weights and state. The model gets its
        dtype and the digits of the master weights back in the end, so what is saved then is float32, and casting it
        gives, bit for bit, the network that was trained and measured. float16 scales its loss (`gb.optim.LossScaler`):
        a step whose gradients are not finite is skipped, and if its loss is not finite it is left out of the epoch's
        averages; the columns "skipped" and "loss_scale" tell of it, and 100 skipped steps in a row raise DataError.
    max_norm: clip the gradients of a step so that their norm, as one vector, is at most this.
    capture: record the step and replay it (`gb.capture`): the same bits sooner, where model, loss and metrics do the
        same operations at every step (docs/capture.md). The second step is recorded too, and with callbacks the first
        one of each epoch; a step that needs a value in Python, or does something else than the one before, runs eagerly
        from there on, with one warning. What Python decides later and rarely is not seen (a layer that is left out now
        and then by `random.random()`, a counter that says so after 1,000 steps): give such a training capture=False.

    Losses and metrics see 16-bit predictions as float32. The loop never waits for the device inside an epoch. A loss
    that is not finite ends the training.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
        raise DataError(f"fit: epochs={epochs!r} is not a number of epochs; use an integer of at least 1")
    device, dtype = _place(model)
    criterion = _loss(loss)
    used = _metrics(metrics)
    loader = _loader("train", train, batch_size, device, dtype, shuffle=True)
    tested = None if validation is None else _loader("validation", validation, None, device, dtype, shuffle=False)
    if isinstance(optimizer, str):
        make = look_up("optimizer", optimizer, OPTIMIZERS)
        optimizer = make(model.parameters()) if lr is None else make(model.parameters(), lr=lr)
    elif lr is not None:
        raise DataError(f"fit: lr={lr} belongs to an optimizer given by name; set it in the {type(optimizer).__name__}")
    elif not isinstance(optimizer, Optimizer):
        what = optimizer.__name__ if isinstance(optimizer, type) else f"a {type(optimizer).__name__}"
        raise DTypeError(f"fit: {what} is not an optimizer; use {', '.join(OPTIMIZERS)}, or one of gb.optim, made")
    total = int(epochs) * len(loader)
    if isinstance(schedule, str):
        schedule = look_up("schedule", schedule, SCHEDULES)(optimizer, total)
    by_epoch = type(schedule).__name__ == "ReduceLROnPlateau"

    history = History(device.name)
    run = Run(model, optimizer, int(epochs), len(loader), history)
    callbacks = list(callbacks)
    hooks = [as_callback(c) for c in callbacks]
    if progress:
        hooks.insert(0, progress if isinstance(progress, Callback) else default_progress())
    after_step = [hook.on_step for hook in hooks if type(hook).on_step is not Callback.on_step]
    if schedule is not None and not by_epoch:
        # the last step has no successor that a learning rate could be for
        after_step.insert(0, lambda run: schedule.step() if run.step < total else None)
    device.backend.prepare()
    was_training = model.training
    begun: list[Callback] = []
    with training_in(precision, model, optimizer) as scaler:
        step = make_step(model, criterion, optimizer, used, scaler, max_norm)
        if capture:
            step = capturing.capture(step, strict=False, check=True)
        skipped = 0
        try:
            for hook in hooks:
                hook.on_begin(run)
                begun.append(hook)
            while run.epoch < run.epochs and not run.stop:
                run.epoch += 1
                if callbacks and isinstance(step, capturing.Captured):
                    step.check_again()
                recorder = Recorder(used, skipping=scaler is not None)
                row = _epoch(run, recorder, step, loader, device, after_step)
                if scaler is not None:
                    state = scaler.check()
                    row |= {"skipped": state.skipped - skipped, "loss_scale": state.scale}
                    skipped = state.skipped
                if tested is not None:
                    row |= {f"val_{k}": v for k, v in _measure(model, tested, criterion, used, device).items()}
                history.add_epoch(row)
                if by_epoch:
                    schedule.step(row.get("val_loss", row["loss"]))
                if not math.isfinite(row["loss"]) and not row.get("skipped"):
                    run.stop = f"the loss became {row['loss']} in epoch {run.epoch}; lower the learning rate"
                    history.stopped = run.stop
                for hook in hooks:
                    hook.on_epoch(run)
            if run.epoch < run.epochs:
                history.stopped = run.stop
        finally:
            model.train(was_training)
            for hook in reversed(begun):
                hook.on_end(run)
    return history


def _epoch(
    run: Run,
    recorder: Recorder,
    step: Callable[[Tensor, Tensor], Sequence[Tensor]],
    loader: Any,
    device: Device,
    after_step: Sequence[Callable[[Run], Any]],
) -> dict[str, float]:
    """Train on every batch once; the epoch's row. The device is waited for once, at the end."""
    run.recorder = recorder
    run.model.train()
    group = run.optimizer.param_groups[0]
    rate = 0.0
    for x, y in loader:
        rate = float(group["lr"])
        recorder.add(step(_to(x, device), _to(y, device)), len(x), rate)
        run.step += 1
        run.samples += len(x)
        for call in after_step:
            call(run)
    row = recorder.summary()
    seconds = time.perf_counter() - recorder.start
    run.history.seconds += seconds
    recorder.append_to(run.history.steps)
    return {**row, "lr": rate, "samples_per_second": sum(recorder.sizes) / seconds, "seconds": seconds}


def make_step(
    model: Any,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Any,
    metrics: Sequence[Metric] = (),
    scaler: LossScaler | None = None,
    max_norm: float | None = None,
) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    """The function of one training step: step(x, y) gives the loss and the parts of the metrics, on the device."""

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        prediction = wide(model(x))
        loss = criterion(prediction, y)
        if not isinstance(loss, Tensor):
            raise DTypeError(f"fit: the loss gave a {type(loss).__name__}; it must give a scalar Tensor")
        if scaler is None:
            loss.backward()
            if max_norm is not None:
                optimizer.clip_grad_norm(max_norm)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(max_norm)
        prediction = prediction.detach()
        return (loss.detach(), *(part for metric in metrics for part in metric.parts(prediction, y)))

    return step


def evaluate(
    model: Any, data: Any, *, loss: Any, metrics: Iterable[Any] = (), batch_size: int | None = None
) -> dict[str, float]:
    """The loss and the metrics of a model on data, every sample weighing the same.

    data: a pair (X, y) or a DataLoader, as in `fit`. The model runs in evaluation mode and nothing is recorded.
    """
    device, dtype = _place(model)
    loader = _loader("evaluate", data, batch_size, device, dtype, shuffle=False)
    return _measure(model, loader, _loss(loss), _metrics(metrics), device)


def _measure(
    model: Any, loader: Any, criterion: Callable[..., Any], metrics: Sequence[Metric], device: Device
) -> dict[str, float]:
    recorder = Recorder(metrics)
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            for x, y in loader:
                x, y = _to(x, device), _to(y, device)
                prediction = wide(model(x))
                parts = (part for metric in metrics for part in metric.parts(prediction, y))
                recorder.add((criterion(prediction, y), *parts), len(x), 0.0)
    finally:
        model.train(was_training)
    return recorder.summary()


def _place(model: Any) -> tuple[Device, np.dtype]:
    """The device and the dtype of a model's parameters."""
    parameters = getattr(model, "parameters", None)
    if parameters is None:
        raise DTypeError(f"fit: a {type(model).__name__} is not a model; give a gb.nn.Module")
    first = next(iter(parameters()), None)
    if first is None:
        raise DataError("fit: the model has no parameters to train; add a layer such as gb.nn.Linear")
    return first.device, first.dtype


def _loss(spec: Any) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(spec, str):
        return look_up("loss", spec, LOSSES)()
    if not callable(spec) or isinstance(spec, type):
        what = f"the class {spec.__name__}" if isinstance(spec, type) else f"a {type(spec).__name__}"
        raise DTypeError(f"fit: {what} is not a loss; use {', '.join(LOSSES)}, or a function")
    return spec


def _metrics(specs: Iterable[Any]) -> tuple[Metric, ...]:
    specs = (specs,) if isinstance(specs, (str, Metric)) or callable(specs) else specs
    return tuple(as_metric(spec, lambda name: look_up("metric", name, METRICS)) for spec in specs)


def _loader(what: str, data: Any, batch_size: int | None, device: Device, dtype: np.dtype, shuffle: bool) -> Any:
    """Data as something that yields batches (x, y) again and again."""
    if isinstance(data, (tuple, list)):
        if len(data) != 2:
            raise DataError(f"fit: {what} has {len(data)} parts; give a pair (X, y) or a DataLoader")
        wide = dtype == dtypes.float64
        dataset = TensorDataset(*data)
        moved = (_to(t, device) for t in dataset.tensors)
        data = TensorDataset(*(t if wide or t.dtype != dtypes.float64 else t.astype(dtypes.float32) for t in moved))
    if isinstance(data, TensorDataset):
        if batch_size is None:
            batch_size = BATCH if shuffle else EVALUATION_BATCH
        return DataLoader(data, batch_size, shuffle=shuffle)
    if not isinstance(data, DataLoader):
        raise DTypeError(f"fit: {what} is a {type(data).__name__}; give a pair (X, y) or a DataLoader")
    if batch_size is not None:
        raise DataError(f"fit: batch_size={batch_size} belongs to a pair (X, y); set it in the DataLoader")
    return data


def _to(t: Tensor, device: Device) -> Tensor:
    """Data on the model's device: copied from the CPU, but never silently from a GPU."""
    if t.device is device:
        return t
    if t.device.name != "cpu":
        raise DeviceError(f"fit: the data are on {t.device} and the model on {device}; use model.to({t.device.name!r})")
    return t.to(device)
