"""`gpu-backprop train`."""

from __future__ import annotations

import platform
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, data, nn, random, train
from ..core import devices, profiling
from ..core.errors import DataError
from ..nn.serialization import save
from ..train.progress import Bar, Lines, readable
from ..viz import curves
from .output import Output, run_folder, write_json

TEST_SHARE = 0.2
# Peak learning rates that train the digits to a test accuracy of about 0.98 over several seeds.
RATES = {"sgd": 0.1, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3, "adagrad": 1e-2}


@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    data: Path | None = None
    hidden: str = "256,128"
    activation: str = "relu"
    dropout: float = 0.0
    norm: str | None = None
    optimizer: str = "adam"
    lr: float | None = None
    schedule: str = "onecycle"
    batch_size: int = 64
    epochs: int = 20
    seed: int = 0
    precision: str = "float32"
    device: str | None = None
    limit: int | None = None
    capture: bool = True
    profile: bool = False
    out: Path | None = None


def run(settings: Settings, json_line: bool = False) -> dict[str, Any]:
    """Train, print a table, fill the run folder; returns what the JSON line holds."""
    output = Output(json_line)
    curves.require()
    place = devices.resolve(settings.device)
    train.names.look_up("optimizer", settings.optimizer, train.OPTIMIZERS)
    train.names.look_up("schedule", settings.schedule, train.SCHEDULES)
    train.names.look_up("precision", settings.precision, train.PRECISIONS)
    lr = RATES[settings.optimizer] if settings.lr is None else settings.lr
    settings = replace(settings, lr=lr, device=place.name)
    random.manual_seed(settings.seed)
    X, y, classes = _load(settings)
    (x_train, y_train), (x_test, y_test) = data.stratified_split(X, y, TEST_SHARE, settings.seed)
    with devices.device("cpu"):  # the same weights wherever they go
        model = _model(settings, x_train, len(classes)).to(place)
    loader = data.DataLoader(data.TensorDataset(x_train, y_train).to(place), settings.batch_size, shuffle=True)
    optimizer = train.OPTIMIZERS[settings.optimizer](model.parameters(), lr=lr)
    if settings.epochs < 1:
        raise DataError(f"--epochs {settings.epochs} trains nothing; use at least 1")
    folder = run_folder(settings.out)  # made when all that was asked for is known to make sense

    widths = "-".join(map(str, (X.shape[1], *widths_of(settings.hidden), len(classes))))
    name = settings.data.name if settings.data else "digits"
    title = f"{name}: a {widths} network on {place.name}"
    if settings.precision != "float32":
        title += f" in {settings.precision}"
    output.line(f"{title}, {len(x_train)} samples to train on, {len(x_test)} to test on")
    with profiling.profile() if settings.profile else nullcontext() as found:
        history = train.fit(
            model,
            loader,
            loss="cross_entropy",
            optimizer=optimizer,
            schedule=settings.schedule,
            epochs=settings.epochs,
            validation=(x_test, y_test),
            metrics=["accuracy"],
            precision=settings.precision,
            capture=settings.capture,
            progress=Bar(output.console) if output.is_terminal else Lines(output.stream),
        )
    last = history.last()
    result = {
        "train_loss": last["loss"],
        "test_loss": last["val_loss"],
        "test_accuracy": last["val_accuracy"],
        "epochs": len(history),
        "seconds": round(history.seconds, 4),
        "device": place.name,
        "run_dir": str(folder),
    }
    save(model.eval(), folder / "model.safetensors")
    curves.training(history, folder / "loss.png", title)
    about = {
        "settings": asdict(settings),
        "samples": {"train": len(x_train), "test": len(x_test)},
        "classes": classes.tolist(),
        "versions": {"gpu_backprop": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    write_json(folder / "metrics.json", {**result, "stopped": history.stopped, **about, "history": history.to_dict()})
    if found is not None:
        found.save(folder / "trace.json")
        output.line(str(found))
        output.line()
    written = "metrics.json, loss.png, model.safetensors" + ("" if found is None else ", trace.json")
    _report(output, result, history, last, written)
    output.result(result)
    return result


def _report(
    output: Output, result: dict[str, Any], history: train.History, last: dict[str, float], written: str
) -> None:
    if history.stopped:
        output.line(f"stopped early: {history.stopped}")
    rate = sum(history["samples_per_second"][-5:]) / len(history["samples_per_second"][-5:])
    skips = sum(history.epochs.get("skipped", ()))
    skipped = [("skipped steps", f"{skips:.0f}, whose float16 gradients were not finite")] if skips else []
    output.facts(
        "result",
        [
            ("train loss", readable(result["train_loss"])),
            ("test loss", readable(result["test_loss"])),
            ("train accuracy", f"{last['accuracy']:.4f}"),
            ("test accuracy", f"{result['test_accuracy']:.4f}"),
            ("epochs", result["epochs"]),
            *skipped,
            ("training time", f"{result['seconds']:.2f} s, {rate:,.0f} samples/s"),
            ("device", result["device"]),
            ("written to", f"{result['run_dir']}: {written}"),
        ],
    )


def widths_of(text: str) -> tuple[int, ...]:
    """ "256,128" as (256, 128); an empty text is no hidden layer."""
    try:
        widths = tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        widths = (0,)
    if any(width < 1 for width in widths):
        raise DataError(f"--hidden {text!r} is not a list of widths; use integers of at least 1, such as 256,128")
    return widths


def _model(settings: Settings, x_train: np.ndarray, n_classes: int) -> nn.Module:
    if not 0 <= settings.dropout < 1:
        raise DataError(f"--dropout {settings.dropout} is not a share of units; use at least 0 and less than 1")
    sizes = [x_train.shape[1], *widths_of(settings.hidden), n_classes]
    network = nn.MLP(sizes, activation=settings.activation, dropout=settings.dropout, norm=settings.norm)
    if settings.data is None:
        return network  # the digits' pixels are all of one scale
    return nn.Sequential(nn.Standardize(x_train.shape[1]).fit(x_train), network)


def _load(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (n, features) in float32, y (n,) as numbers of classes, and what the classes are called."""
    X, labels = data.load_digits() if settings.data is None else _read(settings.data)
    if settings.limit is not None:
        if settings.limit < 1:
            raise DataError(f"--limit {settings.limit} leaves no samples; use at least 20")
        rows = random.Generator(settings.seed).permutation(len(X), device="cpu").numpy()[: settings.limit]
        X, labels = X[rows], labels[rows]
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"train: all {len(y)} samples are of one class, {classes[0]}; give at least two classes")
    return X, y.astype(np.int64), classes


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels from a file of the user's."""
    if path.suffix == ".npz":
        arrays = data.read_npz(path)
        if "X" not in arrays or "y" not in arrays:
            held = ", ".join(arrays) or "nothing"
            raise DataError(f"train: {str(path)!r} holds {held}; it must hold arrays X (samples) and y (classes)")
        X, y = arrays["X"], arrays["y"]
    elif path.suffix == ".csv":
        columns = data.read_csv(path)
        if len(columns) < 2:
            raise DataError(f"train: {str(path)!r} has one column; it needs features, and the class in the last column")
        *features, target = columns
        words = [name for name in features if columns[name].dtype.kind not in "if"]
        if words:
            raise DataError(f"train: column {words[0]!r} of {str(path)!r} holds words; turn it into numbers first")
        X, y = np.stack([columns[name] for name in features], axis=1), columns[target]
    else:
        raise DataError(f"train: {str(path)!r} is neither .npz nor .csv; give a file of one of these kinds")
    if X.ndim < 2 or y.shape != X.shape[:1] or not len(X):
        raise DataError(
            f"train: {str(path)!r} has X {list(X.shape)} and y {list(y.shape)}; give (n, features) and (n,), n > 0"
        )
    if X.dtype.kind not in "biuf" or not np.isfinite(X).all():
        raise DataError(
            f"train: the features in {str(path)!r} are not all finite numbers; fill or drop what is missing"
        )
    if y.dtype.kind == "f" and not (y == np.round(y)).all():
        raise DataError(
            f"train: the last column of {str(path)!r} is not a class but a quantity; use gb.train.fit for regression"
        )
    return X.reshape(len(X), -1).astype(np.float32), y
