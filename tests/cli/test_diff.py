"""`gpu-backprop diff`: what it finds, prints and refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends.cpu import CpuBackend
from gpu_backprop.cli import comparison, main
from gpu_backprop.core.devices import Device

from .helpers import run_json

CPU = gb.device("cpu")
GOOD = """
import gpu_backprop as gb
from gpu_backprop import nn

def model():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3))

def batch():
    return gb.random.normal((6, 4)), gb.random.integers(0, 3, (6,))
"""


@pytest.fixture
def other(monkeypatch):
    """A second CPU in place of the devices that are named, for tests to make wrong."""
    place = Device("other", CpuBackend())
    monkeypatch.setattr(comparison, "_places", lambda names: [CPU, place])
    return place


@pytest.fixture
def place(device):
    return gb.device(device)


def kernels(test):
    """A test that takes the fixture `place`, for each device that runs on kernels."""
    devices = [pytest.param("emulated", marks=pytest.mark.emulated), pytest.param("cuda", marks=pytest.mark.gpu)]
    return pytest.mark.parametrize("device", devices, indirect=True)(test)


def two(place, *more):
    return ["diff", "--device", "cpu", "--device", place.name, "--batch-size", "33", *more]


@kernels
def test_cpu_and_emulated_agree(capsys, place):
    found = run_json(capsys, two(place))
    assert found["devices"] == ["cpu", place.name]
    assert found["agree"] is True
    assert found["first_difference"] is None
    names = [operation["name"] for operation in found["operations"]]
    for name in ("linear_relu", "softmax_cross_entropy", "relu_bias_backward", "adam_update"):
        assert name in names
    first = found["operations"][0]
    assert first["shapes"] == [[33, 64], [256, 64], [256]]
    assert first["dtype"] == "float32"
    assert set(first["milliseconds"]) == {"cpu", place.name}
    assert all(operation["results"][place.name]["ulp"] <= 8 for operation in found["operations"])
    assert found["chained"][place.name]["loss"] == pytest.approx(found["loss"], rel=1e-6)
    assert found["loss"] == pytest.approx(np.log(10), rel=0.5)  # weights that know nothing


@kernels
def test_an_operation_made_wrong_is_named(capsys, place, monkeypatch):
    right = place.functions["relu_bias_backward"]
    monkeypatch.setitem(
        place.functions, "relu_bias_backward", lambda g, y: tuple(x * np.float32(1.0001) for x in right(g, y))
    )
    assert main(two(place, "--json")) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["agree"] is False
    assert found["first_difference"]["name"] == "relu_bias_backward"
    beyond = {operation["name"] for operation in found["operations"] if not operation["within"]}
    assert beyond == {"relu_bias_backward"}  # the error does not travel
    assert re.search(r"\nfirst difference: operation \d+, relu_bias_backward, on \w+: [\d,]+ ulp, and 32 are", err)


@kernels
def test_a_tolerance_takes_the_place_of_the_bounds(capsys, place):
    assert main(two(place, "--tolerance", "0")) == 1
    assert "and 0 are allowed" in capsys.readouterr().out
    assert main(two(place, "--tolerance", "16")) == 0


@kernels
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(capsys, place, dtype):
    found = run_json(capsys, two(place, "--dtype", dtype))
    assert found["agree"] is True
    loss = {"softmax_cross_entropy", "softmax_cross_entropy_backward"}  # of 16 bits in float32, there and back
    inner = {operation["dtype"] for operation in found["operations"] if operation["name"] not in {*loss, "astype"}}
    assert inner == {dtype}
    outer = {operation["dtype"] for operation in found["operations"] if operation["name"] in loss}
    assert outer == {dtype if dtype == "float64" else "float32"}


@kernels
def test_a_kernel_that_fails_is_a_difference(capsys, place, monkeypatch):
    def fail(*arrays, **attrs):
        raise gb.KernelError("sum: wrote outside argument 1\nmore of it")

    monkeypatch.setitem(place.functions, "sum", fail)
    assert main(two(place, "--tolerance", "inf")) == 1
    out = capsys.readouterr().out
    assert f", sum, on {place.name}: KernelError: sum: wrote outside argument 1\n" in out
    assert f"whole step: {place.name} failed: " in out


def test_the_same_device_agrees_bit_for_bit(capsys, other):
    assert main(["diff", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits: a 64-256-128-10 network, inputs 64x64, float32, Adam; operations from the bits of cpu"
    assert lines[2].split()[:6] == ["#", "operation", "shapes", "dtype", "ulp", "bound"]
    assert re.match(r"  1 +linear_relu +64x64 256x64 256 +float32 +0 +32 +0 +\S+ +\S+$", lines[3])
    assert re.match(r"whole step: cpu and other have the same loss, [\d.]+, and the same weights after it", lines[-2])
    assert re.match(r"all \d+ operations agree bit for bit$", lines[-1])


def test_a_difference_within_bounds_is_told(capsys, other):
    other.native["matmul"] = lambda x, y, out=None: np.nextafter(x @ y, np.float32(np.inf))
    assert main(["diff"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\nall \d+ operations agree within their bounds; the first with other bits is \d+, matmul\n", out)
    assert re.search(r"whole step: loss [\d.]+ on cpu, [\d.]+ on other; weights within [\d.]+ ulp of the largest", out)


def test_the_table_fits_a_terminal(capsys, other, monkeypatch):
    third = Device("third", CpuBackend())
    third.native["sum"] = lambda *arrays, **attrs: 1 // 0
    monkeypatch.setattr(comparison, "_places", lambda names: [CPU, other, third])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["diff"]) == 1
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    table = lines[1 : lines.index("")]
    assert max(map(len, lines)) <= 80
    start = next(i for i, line in enumerate(table) if " sum " in line)
    assert re.match(r"\d+ +sum +float32 +cpu +[\d,]+ *$", table[start])
    assert re.match(r" +64x10 +other +0 +32 +0 +[\d,]+ *$", table[start + 1])
    assert re.match(r" +third +failed *$", table[start + 2])
    assert " ".join(map(str.strip, lines[-2:])).endswith(
        ", sum, on third: ZeroDivisionError: integer division or modulo by zero"
    )
    monkeypatch.setenv("COLUMNS", "200")
    main(["diff"])
    wide = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "other ulp  bound  differ  third ulp  bound  differ  cpu µs  other µs  third µs" in wide


def test_a_narrow_terminal_folds_names_at_underscores(capsys, tmp_path, other, monkeypatch):
    losses = "gb.nn.functional.binary_cross_entropy_with_logits(p, gb.ones_like(p))"
    (tmp_path / "m.py").write_text(f"{GOOD}\ndef loss(p, t):\n    return {losses}\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for columns in (80, 64):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["diff", "--model", "m.py"]) == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
        table = lines[: lines.index("")]
        assert max(map(len, table)) <= columns
        names = [re.match(r"(?:\d+ +| +)([a-z_]+)(?: |$)", line) for line in table[3:]]
        joined = "".join(found[1] + " " * (not found[1].endswith("_")) for found in names if found)
        assert " binary_cross_entropy_with_logits_backward " in joined
        assert not any(name in joined for name in ("backwar ", " ackward", " logit "))


def test_a_step_that_flips_a_gradient_of_pure_rounding_is_explained(capsys, tmp_path, other):
    """The first bias is ahead of a batch norm, so that its gradient is 0 but for rounding."""
    (tmp_path / "m.py").write_text(GOOD)
    noise = np.float32(1e-8)
    other.native["sum"] = lambda x, out=None, **attrs: np.add(np.sum(x, **attrs), noise, out=out)
    assert main(["diff", "--model", "m.py"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"; weights within [\d,]{5,} ulp of the largest, furthest in 0\.bias\n", out)
    assert "first step is sign-like" in out
    assert max(map(len, comparison.LEGEND.splitlines())) <= 80


def test_seed_and_batch_size(capsys, other):
    losses = {seed: run_json(capsys, ["diff", "--seed", seed])["loss"] for seed in "34"}
    assert losses["3"] != losses["4"]
    assert run_json(capsys, ["diff", "--seed", "3"])["loss"] == losses["3"]
    assert run_json(capsys, ["diff", "--batch-size", "5"])["operations"][0]["shapes"][0] == [5, 64]


# model files ---------------------------------------------------------------------------------------------------------


@kernels
def test_a_model_file(capsys, tmp_path, place):
    (tmp_path / "m.py").write_text(GOOD)
    found = run_json(capsys, ["diff", "--device", "cpu", "--device", place.name, "--model", "m.py"])
    assert found["agree"] is True
    assert found["step"].startswith("m.py: Sequential, inputs 6x4, float32")
    assert found["chained"][place.name]["loss"] == pytest.approx(found["loss"], rel=1e-5)  # the same units dropped
    names = [operation["name"] for operation in found["operations"]]
    assert {"dropout", "gelu", "softmax_cross_entropy"} <= set(names)


def test_the_loss_of_a_model_file(capsys, tmp_path, other):
    regression = GOOD.replace("gb.random.integers(0, 3, (6,))", "gb.random.normal((6, 3), dtype='float64').numpy()")
    (tmp_path / "m.py").write_text(regression)
    arguments = ["diff", "--model", "m.py"]
    found = run_json(capsys, arguments)
    assert "softmax_cross_entropy" not in [operation["name"] for operation in found["operations"]]
    assert {o["dtype"] for o in found["operations"]} == {"float32", "int64"}  # the model's, and a count of batches
    (tmp_path / "m.py").write_text(regression + "\ndef loss(p, t):\n    return (p - t).sum() * 0 + 7\n")
    assert run_json(capsys, arguments)["loss"] == 7
    assert {o["dtype"] for o in run_json(capsys, [*arguments, "--dtype", "float64"])["operations"]} == {
        "float64",
        "int64",
    }


def test_a_model_file_beside_what_it_imports(capsys, tmp_path, other):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "beside_the_model.py").write_text(GOOD)
    (tmp_path / "folder" / "m.py").write_text("from beside_the_model import model, batch\n")
    assert main(["diff", "--model", "folder/m.py"]) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "--model 'm.py': there is no such file; give the path of a Python file"),
        ("x = 1\n\nx.y\n", "'m.py': the file raised AttributeError in line 3: 'int' object"),
        ("def model(:\n", "'m.py': the file raised SyntaxError in line 1: "),
        ("raise SystemExit", "'m.py': the file raised SystemExit in line 1"),
        ("import no_such_module", "ModuleNotFoundError in line 1: No module named 'no_such_module'"),
        ("batch = model = 3", "'m.py' defines no function model()"),
        (GOOD.replace("def batch", "def bath"), "'m.py' defines no function batch()"),
        (GOOD + "def model(): return 3", "model() gave a int, not a gb.nn.Module"),
        (GOOD + "def model(): return nn.ReLU()", "model() gave a Module without parameters"),
        (GOOD + "def model(): return 1 / 0", "model() raised ZeroDivisionError in line 10: division by zero"),
        (GOOD + "def batch(): return 3", "batch() gave no pair; return inputs, target"),
        (GOOD + "def batch(): return 'a', 'b'", "batch() raised DTypeError"),
        (GOOD + "def batch(): raise KeyError", "batch() raised KeyError in line 10"),
        (GOOD + "def batch(): return gb.zeros((6, 5)), gb.zeros(6)", "the step raised ShapeError"),
        (GOOD + "loss = 3", "loss is a int, not a function"),
        (GOOD + "def loss(p, t): return p", "the step raised TapeError"),
        (GOOD + "def loss(p, t):\n    return q", "the step raised NameError in line 11: name 'q' is not defined"),
    ],
)
def test_errors_of_model_files(capsys, tmp_path, other, source, message):
    if source is not None:
        (tmp_path / "m.py").write_text(source)
    tables = CPU.functions, CPU.native
    assert main(["diff", "--model", "m.py"]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert "operations\n" not in out
    assert (CPU.functions, CPU.native) == tables


def test_a_model_file_has_a_batch_of_its_own(capsys, tmp_path, other):
    (tmp_path / "m.py").write_text(GOOD)
    assert main(["diff", "--model", "m.py", "--batch-size", "3"]) == 2
    assert "--batch-size is for the digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "cpu was the only --device; it takes two"),
        (["--device", "cpu", "--device", "cpu"], "--device cpu is given twice"),
        (["--device", "cpu", "--device", "tpu"], "'tpu' is not a device"),
        (["--dtype", "float8"], "'float8' is not a data type"),
        (["--dtype", "int32"], "--dtype int32 is not a float type"),
        (["--batch-size", "0"], "--batch-size 0 is no number of digits; use 1 to 1797"),
        (["--batch-size", "1798"], "--batch-size 1798"),
        (["--tolerance", "-1"], "--tolerance -1.0 is no error in ulp"),
        (["--tolerance", "nan"], "--tolerance nan"),
        (["--tolerance", "little"], "'--tolerance'"),
        (["--seed", "-1"], "-1 is not a seed"),
    ],
)
def test_errors(capsys, monkeypatch, arguments, message):
    if "--device" not in arguments:
        monkeypatch.setattr(comparison, "_places", lambda names: [CPU, Device("other", CpuBackend())])
    assert main(["diff", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_machine_with_one_device(capsys, monkeypatch):
    monkeypatch.setattr(comparison.devices, "devices", lambda: ["cpu"])
    assert main(["diff"]) == 2
    assert "cpu is the only device here" in capsys.readouterr().err
