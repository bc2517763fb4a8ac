"""The commands and their options; what they do is in the modules beside this one, imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    help="Backpropagation on NVIDIA GPUs and CPUs: train a network, see what this machine has, compare its devices.",
)

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON line on standard output, the rest on stderr.")
]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and dropout.")]
Optimizer = Annotated[str, typer.Option(help="sgd, adam, adamw, rmsprop or adagrad.")]


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from .. import __version__

        print(__version__)
        raise typer.Exit
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz file with arrays X and y, or a .csv whose last column is the class.", show_default="digits"
        ),
    ] = None,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers.")] = "256,128",
    activation: Annotated[str, typer.Option(help="relu, gelu, tanh, ... between the layers.")] = "relu",
    dropout: Annotated[float, typer.Option(help="Share of hidden units dropped in each step.")] = 0.0,
    norm: Annotated[str | None, typer.Option(help="layer, rms or batch normalisation.", show_default="none")] = None,
    optimizer: Optimizer = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate, at its peak.", show_default="by optimizer")] = None,
    schedule: Annotated[
        str, typer.Option(help="Of the learning rate: constant, cosine, onecycle, step, warmup or plateau.")
    ] = "onecycle",
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 64,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 20,
    seed: Seed = 0,
    precision: Annotated[
        str, typer.Option(help="float32, tf32, bfloat16 or float16; master weights are float32, as is what is saved.")
    ] = "float32",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, emulated.", show_default="cuda if usable")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use this many samples only.", show_default="all")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time every operation; print a table, write trace.json for Perfetto.")
    ] = False,
    capture: Annotated[bool, typer.Option(help="Record the step once and replay it.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/<time>")] = None,
    json: Json = False,
) -> None:
    """Train a network on handwritten digits, or your table; write metrics.json, loss.png and model.safetensors."""
    from . import training

    training.run(
        training.Settings(
            data=data, hidden=hidden, activation=activation, dropout=dropout, norm=norm, optimizer=optimizer, lr=lr,
            schedule=schedule, batch_size=batch_size, epochs=epochs, seed=seed, precision=precision, device=device,
            limit=limit, out=out, capture=capture, profile=profile,
        ),
        json_line=json,
    )  # fmt: skip


@app.command()
def info(json: Json = False) -> None:
    """Show devices, versions, whether kernels compile here, what is missing and how to install it."""
    from . import information

    information.run(json_line=json)


@app.command()
def bench(
    widths: Annotated[
        str, typer.Option(help="Widths of the hidden layers: from-to in steps of 2x, or a list with commas.")
    ] = "64-16384",
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 256,
    seconds: Annotated[
        float, typer.Option(help="Time for one width on one device; where it is not enough, wider ones are left out.")
    ] = 60.0,
    networks: Annotated[
        str | None,
        typer.Option(help="Instead of widths: time the parts of a step of networks as 784-256-10@128, with commas."),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="Devices to compare.", show_default="cpu and cuda if usable")
    ] = None,
    optimizer: Optimizer = "adam",
    repeats: Annotated[int, typer.Option(help="Measurements of each, of which the median counts.")] = 30,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A picture (.png, .svg, .pdf), beside which the numbers go, or a folder.",
            show_default="runs/bench-<time>",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare devices: draw the time of a training step, and the speed-up, over the width of the network.

    The network is 784-width-width-10, the step captured, all in float32. With --networks: copies, forward, backward,
    optimiser and whole step of those.
    """
    from . import benchmark

    benchmark.run(
        benchmark.Settings(
            networks=networks, widths=widths, batch_size=batch_size, devices=devices, optimizer=optimizer,
            repeats=repeats, seconds=seconds, seed=seed, out=out,
        ),
        json_line=json,
    )  # fmt: skip


@app.command()
def diff(
    device: Annotated[
        list[str] | None,
        typer.Option(help="Devices to compare, one an option; the first is the reference.", show_default="all usable"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A Python file that defines model(), which gives a gb.nn.Module, batch(), which gives inputs and "
            "target, and, if need be, loss(prediction, target); otherwise integer targets are classes for the "
            "cross-entropy, others for the mean squared error.",
            show_default="digits",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float64, bfloat16 or float16.", show_default="float32, or the model's"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples of the digits; a model file has its own.", show_default="64")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Errors up to so many ulp are none.", show_default="by operation: 0, 2, 8 or 32"),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare one training step on several devices, operation by operation, each from the same bits.

    Names the first operation that differs by more than its bound, and then ends with exit code 1.
    A gb.primitive of a model file is a function of its own and not compared.
    """
    from . import comparison

    summary = comparison.run(
        comparison.Settings(
            devices=tuple(device or ()), model=model, dtype=dtype, batch_size=batch_size, tolerance=tolerance, seed=seed
        ),
        json_line=json,
    )
    if not summary["agree"]:
        raise typer.Exit(1)
