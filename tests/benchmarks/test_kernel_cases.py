"""benchmarks/kernels.py and its table: every operation has a row, runs its kernel, and agrees with its peers."""

from __future__ import annotations

import importlib.util
import json
import math
import runpy
import subprocess
import sys
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import pytest

from gpu_backprop.backends import cuda, table
from gpu_backprop.backends.emulated import EmulatedLauncher
from gpu_backprop.backends.kernels import Kernel
from gpu_backprop.core import devices

from ..conftest import require_emulated
from .conftest import BENCHMARKS, ROOT, module

FLOATS = ("float", "__nv_bfloat16")  # the optimisers' rows with a master copy are bfloat16's
SHAPE = (24, 40)


@pytest.fixture
def kernel_cases(monkeypatch):
    return module(monkeypatch, "kernel_cases")


@pytest.fixture
def rows(monkeypatch):
    return module(monkeypatch, "kernel_table")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch, with which the cases are compared, is not installed")


def bench(kernel_cases: Any, torch: Any = None, dtype: str = "float32") -> Any:
    require_emulated()
    return kernel_cases.Bench(devices.device("emulated").backend, torch, SHAPE, dtype)


# the table -----------------------------------------------------------------------------------------------------------


def test_every_operation_has_a_row(kernel_cases, rows):
    own = [name for row in rows.TABLE for name in row.launches or (row.primitive,)]
    own += [row.primitive + suffix for row in kernel_cases.UPDATES for suffix in ("", " with master weights")]
    others = [name for names in rows.LIKE.values() for name in names]
    assert set(rows.LIKE) <= set(own)
    assert len(others) == len(set(others))
    assert not set(others) & set(own)
    assert set(own + others) - {"chain"} == {name for name, _ in table.operations(FLOATS, ("int",))}


def test_operations_go_by_a_row_that_makes_what_they_make(rows):
    for shown, names in rows.LIKE.items():
        if shown in table.INDEX_CHECKS or shown in table.NORMS:
            continue
        kinds = {table.ELEMENTWISE[name.removesuffix(" and sum")][3:] for name in (shown, *names)}
        assert len(kinds) == 1, shown


@pytest.mark.emulated
def test_every_case_runs_the_kernels_it_names(kernel_cases, monkeypatch):
    """And no others, so that no case measures a fallback; their bytes are those that docs/kernels.md gives."""
    page = runpy.run_path(str(ROOT / "docs" / "kernels.py"))
    kernels: dict[str, set[Kernel]] = defaultdict(set)
    for name, kernel in table.operations(FLOATS, ("int",)):
        kernels[name].add(kernel)
    launched: list[Kernel] = []
    launch = EmulatedLauncher.launch
    monkeypatch.setattr(
        EmulatedLauncher, "launch", lambda self, k, *a, **kw: (launched.append(k), launch(self, k, *a, **kw))[1]
    )
    require_emulated()
    watched = cuda.KernelBackend("emulated", np, EmulatedLauncher())  # the shared one may know the launch of before
    for case in kernel_cases.cases(kernel_cases.Bench(watched, None, SHAPE, "float32")):
        case.steps["ours"]()  # what is made once, too
        launched.clear()
        case.steps["ours"]()
        if case.launches == ("chain",):
            assert [k.expression.partition("<")[0] for k in launched] == ["chain_contiguous"]
            continue
        assert len(launched) == len(case.launches), case.name
        for kernel, name in zip(launched, case.launches, strict=True):
            assert kernel in kernels[name], case.name
        if case.launches == ("getitem",):  # our kernel looks at the indices; the rows are the array module's to move
            assert case.bytes == 2 * 4 * math.prod(SHAPE)
            continue
        formulas = [page["bytes_of"](page["row_of"](kernel)[1]) for kernel in launched]
        if "size of the other" not in formulas[0]:
            size = 8 if page["dtype_of"](launched[0]) is None else 4  # one-hot rows of int64, else float32
            fewest = sum(kernel_cases.moved(f.partition(",")[0], size) for f in formulas) * math.prod(SHAPE)
            if launched[0].file == "elementwise.cu":  # which counts operands that are a row, or a number, as arrays
                assert case.bytes <= fewest, case.name
            elif "rows of g" in formulas[0]:
                assert case.bytes == 2 * fewest, case.name
            else:
                assert case.bytes == fewest, case.name


def test_bytes_by_formula(kernel_cases):
    moved = kernel_cases.moved
    assert [moved(f, 2) for f in ("s", "3s", "2s + 1", "s + 1", "8", "12s")] == [2, 6, 5, 3, 8, 24]
    assert moved("s + o", 4, 2) == 6


@pytest.mark.emulated
@pytest.mark.parametrize(("dtype", "across"), [("float32", 28), ("float64", 56)])
def test_bytes_of_updates(kernel_cases, dtype, across):
    found = {
        case.name: case.bytes / 100 for case in kernel_cases.updates(bench(kernel_cases, None, dtype), 100, "adam")
    }
    masters = 2 * 2 + 6 * 4
    assert found == {
        "adam, 1.0e+02 parameters": across,  # parameter and two states read and written, gradient read
        "adamw, 1.0e+02 parameters": across,
        "adam with master weights, 1.0e+02 parameters": masters,
        "adamw with master weights, 1.0e+02 parameters": masters,
    }


# what is measured ----------------------------------------------------------------------------------------------------


@pytest.mark.emulated
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_case_agrees_with_its_peers(kernel_cases, monkeypatch, dtype):
    """On the CPU NumPy and SciPy stand where CuPy will be; PyTorch is compared with where it is installed."""
    kernels = module(monkeypatch, "kernels")
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    b = bench(kernel_cases, torch, dtype)
    libraries = set()
    for case in kernel_cases.cases(b):
        off, failed = kernels.disagreement(b, case)
        assert not failed
        assert off < 1e-5, case.name
        assert case.bytes > 0
        libraries |= set(case.steps)
    assert libraries == {"ours", "cupy"} | ({"torch"} if torch else set())


@pytest.mark.emulated
def test_a_wrong_kernel_is_noticed(kernel_cases, monkeypatch):
    """Though its peers put the right result into the same memory afterwards."""
    kernels = module(monkeypatch, "kernels")
    b = bench(kernel_cases, None)

    def ours(change: Any) -> Any:
        result = b.xp.add(b.x, b.y, out=b.out)
        change(result)
        return result

    for agrees, change in (
        (True, lambda out: None),
        (False, lambda out: out.__setitem__((3, 5), 100.0)),
        (False, lambda out: out.__setitem__((23, 39), np.nan)),
        (False, lambda out: out.fill(0.0)),
    ):
        steps = {"ours": partial(ours, change), "cupy": lambda: b.xp.add(b.x, b.y, out=b.out)}
        assert (kernels.disagreement(b, kernel_cases.Case("add", 1, 0.85, steps, ("add",)))[0] <= 1e-2) is agrees
    steps = {"ours": lambda: b.out, "cupy": lambda: b.xp.add(b.x, b.y)}  # a kernel that writes nothing
    assert not kernels.disagreement(b, kernel_cases.Case("add", 1, 0.85, steps, ("add",)))[0] <= 1e-2


@pytest.mark.emulated
def test_updates_follow_pytorchs(kernel_cases, torch):
    for case in kernel_cases.updates(bench(kernel_cases, torch), 100):
        if "torch" not in case.steps:
            assert "master" in case.name
            continue
        ours, theirs = case.steps["ours"], case.steps["torch"]
        parameter = theirs.__self__.param_groups[0]["params"][0]  # shares the memory that ours writes
        before = parameter.detach().clone()
        ours()
        after = parameter.detach().clone()
        with torch.no_grad():
            parameter.copy_(before)
        theirs()
        assert not torch.equal(before, after)
        torch.testing.assert_close(parameter.detach(), after, rtol=1e-5, atol=1e-6)


@pytest.mark.emulated
def test_sixteen_bits_reach_pytorch_unchanged(kernel_cases, torch):
    t = kernel_cases.Theirs(bench(kernel_cases, torch, "bfloat16"))
    assert t.x.dtype == torch.bfloat16
    assert t.mask.dtype == torch.bool
    np.testing.assert_array_equal(t.turned.float().numpy(), t.bench.turned.astype(np.float32))


# how it is measured --------------------------------------------------------------------------------------------------


@pytest.mark.emulated
def test_one_case_is_measured_and_written(tmp_path):
    require_emulated()
    command = [sys.executable, BENCHMARKS / "kernels.py", "--device", "emulated", "--only", "relu b", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    report = json.loads((tmp_path / "kernels_emulated.json").read_text())
    assert report["rehearsal"]
    assert [row["kernel"] for row in report["rows"]] == ["relu backward", "relu backward and sum"]
    for row in report["rows"]:
        assert row["gb_per_second"] == pytest.approx(row["bytes"] / row["microseconds"]["ours"] / 1e3)
    assert "rehearsal" in (tmp_path / "kernels_emulated.md").read_text()


def broken(error: BaseException) -> None:
    raise error


@pytest.mark.emulated
def test_what_fails_is_named_and_the_rest_is_measured(kernel_cases, monkeypatch):
    require_emulated()
    kernels = module(monkeypatch, "kernels")

    def cases(b: Any, only: str) -> Any:
        for name in ("good", "peer", "bad", "last"):
            steps = {"ours": lambda: b.x, "cupy": lambda: b.x}
            if name in ("peer", "bad"):
                steps["cupy" if name == "peer" else "ours"] = partial(broken, TypeError("no such dtype"))
            yield kernel_cases.Case(name, 8, 0.85, steps, ())
        yield kernel_cases.Case("late", 8, 0.85, {"ours": partial(broken, KeyboardInterrupt())}, ())

    def specified(b: Any, scale: Any, only: str) -> Any:
        yield b, kernel_cases.Case("promised", 8, 0.85, {"ours": lambda: b.x}, (), specified=True)
        raise MemoryError("no room for the next one")

    monkeypatch.setattr(kernels, "cases", cases)
    monkeypatch.setattr(kernels, "specified", specified)
    report = kernels.run("emulated", "float32", "")
    assert [row["kernel"] for row in report["rows"]] == ["promised", "good", "peer", "last"]
    assert ["ours_over_cupy" in row for row in report["rows"]] == [False, True, False, True]
    assert report["failed"] == ["what the project has set itself", "bad", "the rest"]
    assert [goal["goal"][:8] for goal in report["goals"]] == ["promised"]
    text = kernels.table(report)
    assert "- Not measured: what the project has set itself: MemoryError: no room" in text
    for note in ("CuPy's peer: TypeError: no such dtype", "bad: TypeError: no such dtype", "the rest: interrupted"):
        assert f"- Not measured: {note}" in text


@pytest.mark.emulated
def test_results_that_differ_or_are_no_numbers_are_shown(kernel_cases, monkeypatch):
    kernels = module(monkeypatch, "kernels")
    b = bench(kernel_cases)
    for wrong, shown in ((2 * b.x, "RESULTS DIFFER"), (b.x * np.nan, "RESULTS DIFFER by nan"), (b.x, "rehearsal")):
        case = kernel_cases.Case("case", 8, 0.85, {"ours": lambda: b.x, "cupy": lambda wrong=wrong: wrong}, ())
        row = kernels.measure(b, case, kernels.timer("emulated", np), 0.0, 2)
        report = {"title": "", "rows": [row], "rehearsal": True, "dtype": "float32", "notes": []}
        assert shown in kernels.table(report)


@pytest.mark.emulated
def test_what_the_project_has_set_itself(kernel_cases, monkeypatch):
    """Full sizes here by name; the rehearsal's small ones agree with the peers, and are listed as goals."""
    kernels = module(monkeypatch, "kernels")
    assert {name: shape for name, shape, _ in kernel_cases.SPECIFIED if "backward" not in name} == {
        "cross-entropy": (65536, 1024), "layer_norm": (65536, 4096), "sum of columns": (65536, 8192),
    }  # fmt: skip
    assert {goal for *_, goal in kernel_cases.SPECIFIED} == {0.85}
    assert kernel_cases.ADAMW_SPECIFIED == (10**9, 0.9)
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    scale = kernels.SIZES["emulated"].scale
    rows = []
    for b, case in kernel_cases.specified(bench(kernel_cases, torch), scale):
        assert set(case.steps) > {"ours"} or torch is None
        rows.append(kernels.measure(b, case, kernels.timer("emulated", np), 0.0, 1))
        assert not rows[-1]["failed"]
        assert rows[-1]["disagreement"] < 1e-5, case.name
        assert rows[-1]["specified"]
    assert [row["kernel"] for row in rows] == [
        *("cross-entropy, 32 x 16", "cross-entropy backward, 32 x 16", "layer_norm, 32 x 64"),
        *("layer_norm backward, 32 x 64", "sum of columns, 32 x 128", "adamw, 7.6e+03 parameters"),
    ]
    listed = kernels.goals({"rows": [*rows, {"specified": False}], "dtype": "float32"})
    assert listed[0]["goal"] == "cross-entropy, 32 x 16, float32: at least 0.85 of what a copy moves a second"
    assert not listed[0]["reached"]
    assert len(listed) == 6


def test_goals(monkeypatch):
    reached = module(monkeypatch, "kernels").reached
    assert reached({"of_copy": 0.9, "goal": 0.85, "ours_over_torch": 1.01})
    assert not reached({"of_copy": 0.8, "goal": 0.85})
    assert not reached({"of_copy": 0.9, "goal": 0.85, "ours_over_cupy": 1.1})
