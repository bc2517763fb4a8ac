"""What `Library.run` does with a plan, seen by stand-ins for nvmath-python's bindings and for the machine."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends import gemm
from gpu_backprop.core.errors import CaptureError, DataError, DeviceError, KernelError

from . import cublaslt_model as model
from .bindings import ComputeType, CudaDataType, Epilogue, Machine, Operation, bindings
from .test_plan import Placed, aux_for, check, integers, place, planned, wide

FLOAT = np.dtype(np.float32)


@pytest.fixture
def made(request: Any) -> Any:
    """A function that makes a Library on stand-ins; whatever it makes is closed, and must have destroyed all."""
    libraries = []

    def make(times: dict[int, float] | None = None, **settings: Any) -> gemm.Library:
        libraries.append(gemm.Library(bindings(**settings), Machine(times)))
        return libraries[-1]

    yield make
    for library in libraries:
        library.close()
        assert library.lt.alive == {}


@pytest.fixture(autouse=True)
def settings():
    yield
    gb.set_matmul_precision("highest")
    gb.tune_matmul(False)


def run(
    library: gemm.Library,
    plan: gemm.Plan,
    first: Placed,
    second: Placed,
    out: Placed,
    bias: Any = None,
    aux: Any = None,
) -> None:
    address = library.machine.address
    library.run(
        plan, *(address(x.view) for x in (first, second, out)), *(0 if x is None else address(x) for x in (bias, aux))
    )


def layer(dtype: np.dtype = FLOAT, epilogue: str = "bias_relu_mask") -> tuple[Any, ...]:
    first, second = place(integers((5, 4)), dtype), place(integers((4, 130), 1), dtype, "F")
    out, bias = place(np.zeros((5, 130)), dtype), integers(130, 2).astype(dtype)
    return planned(first, second, out, epilogue), first, second, out, bias, aux_for(epilogue, 5, 130, dtype)


# what is set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epilogue", list(gemm.EPILOGUES))
def test_exactly_the_record_is_set(made, epilogue):
    library = made()
    first = place(integers((5, 4)), FLOAT, "F" if epilogue == "sum_first" else "C")
    second, out = place(integers((4, 9), 1), FLOAT), place(np.zeros((5, 9)), FLOAT)
    aligned = (x.operand._replace(alignment=a) for x, a in ((first, 8), (second, 16), (out, 32)))
    plan = gemm.plan(*aligned, FLOAT, epilogue, bias_alignment=64, aux_alignment=128)
    assert isinstance(plan, gemm.Plan)
    assert (plan.alignment_a, plan.alignment_b, plan.alignment_d) == (16, 8, 32)
    bias, aux = np.zeros(9, FLOAT), aux_for(epilogue, 5, 9, FLOAT)
    run(library, plan, first, second, out, bias if plan.bias else None, aux)

    names = {"TRANSA": Operation[plan.transa], "TRANSB": Operation[plan.transb], "EPILOGUE": Epilogue[plan.epilogue]}
    if plan.bias:
        names |= {"BIAS_POINTER": bias.ctypes.data, "BIAS_BATCH_STRIDE": plan.bias_batch_stride}
    if plan.aux:
        names |= {
            "EPILOGUE_AUX_POINTER": aux.ctypes.data, "EPILOGUE_AUX_LD": plan.aux_ld,
            "EPILOGUE_AUX_BATCH_STRIDE": plan.aux_batch_stride,
        }  # fmt: skip
    alive = list(library.lt.alive.values())
    (operation,) = (facts for kind, facts in alive if kind == "matmul_desc")
    assert operation == {"compute_type": plan.compute_type, "scale_type": plan.scale_type, **names}
    layouts = [facts for kind, facts in alive if kind == "matrix_layout"]
    assert layouts == [
        {"type": x.type, "rows": x.rows, "cols": x.cols, "ld": x.ld, "ORDER": 0, "BATCH_COUNT": x.batch_count,
         "STRIDED_BATCH_OFFSET": x.batch_stride}
        for x in (plan.a, plan.b, plan.d)
    ]  # fmt: skip
    assert plan.compute_type in ComputeType.__members__
    assert plan.d.type in CudaDataType.__members__

    (asked,) = (facts for name, facts in library.lt.calls if name == "matmul_algo_get_heuristic")
    assert asked["preference"] == {
        "MAX_WORKSPACE_BYTES": plan.workspace, "MIN_ALIGNMENT_A_BYTES": plan.alignment_a,
        "MIN_ALIGNMENT_B_BYTES": plan.alignment_b, "MIN_ALIGNMENT_C_BYTES": plan.alignment_d,
        "MIN_ALIGNMENT_D_BYTES": plan.alignment_d,
    }  # fmt: skip
    # the heuristic reads the alignment of an epilogue's pointers off the pointers
    assert asked["operation"].get("BIAS_POINTER") == (plan.alignment_bias if plan.bias else None)
    assert asked["operation"].get("EPILOGUE_AUX_POINTER") == (plan.alignment_aux if plan.aux else None)


@pytest.mark.parametrize("epilogue", list(gemm.EPILOGUES))
def test_run_gives_what_the_record_says(made, epilogue):
    """The same product as test_plan's, but through descriptors and addresses."""
    library = made()
    for dtype in map(np.dtype, (np.float16, np.float32, np.float64)):
        if "gelu" in epilogue and dtype == np.float64:
            continue  # it has not that accuracy
        first = place(integers((5, 4)), dtype, "F" if epilogue == "sum_first" else "padded C")
        second, out = place(integers((4, 9), 1), dtype), place(np.zeros((5, 9)), dtype, "padded C")
        plan = planned(first, second, out, epilogue)
        bias = integers(plan.bias_length, 2).astype(dtype) if plan.bias else None
        aux = aux_for(epilogue, 5, 9, dtype)
        value = wide(first) @ wide(second)
        if plan.bias == "input":
            value = value + bias.astype(float)
        if epilogue.startswith("bias_"):
            value = np.maximum(value, 0) if "relu" in epilogue else model.gelu(value)
        if plan.aux_is == "input":  # 0xA5: every other bit; FILL: a slope of 1
            value = value * (np.unpackbits(aux, axis=1, bitorder="little")[:, :9] if plan.aux == "mask" else 1)
        run(library, plan, first, second, out, bias, aux)
        check(out, value, exact="gelu" not in epilogue)


# what is kept ---------------------------------------------------------------------------------------------------------


def test_descriptors_are_made_once(made):
    library = made()
    plan, *given = layer()
    for _ in range(3):
        run(library, plan, *given)
    assert [library.lt.count(f"{kind}_create") for kind in ("handle", "matmul_desc", "matrix_layout")] == [1, 1, 3]
    assert library.lt.count("matmul_algo_get_heuristic") == 1
    assert library.lt.count("matmul_preference_create") == library.lt.count("matmul_preference_destroy") == 1
    assert library.lt.count("matmul") == 3


def test_other_pointers_under_the_same_plan(made):
    library = made()
    for _ in range(2):
        plan, first, second, out, bias, aux = layer()
        run(library, plan, first, second, out, bias, aux)
        check(out, np.maximum(wide(first) @ wide(second) + bias, 0))
    assert library.lt.count("matmul_desc_create") == 1


def test_the_oldest_plan_goes_first(made, monkeypatch):
    monkeypatch.setattr(gemm, "KEPT", 2)
    library = made()
    for m in (2, 3, 4, 2):
        first, second = place(integers((m, 3)), FLOAT), place(integers((3, 2), 1), FLOAT)
        out = place(np.zeros((m, 2)), FLOAT)
        run(library, planned(first, second, out), first, second, out)
        check(out, wide(first) @ wide(second))
    assert library.lt.count("matmul_desc_create") == 4
    assert len(library.prepared) == 2
    assert len(library.lt.alive) == 1 + 2 * 4


def test_a_workspace_a_stream(made):
    library = made()
    plan, *given = layer()
    for stream in (1, 2, 1):
        library.machine.current = stream
        run(library, plan, *given)
    launches = [facts for name, facts in library.lt.calls if name == "matmul"]
    assert [x["stream"] for x in launches] == [16, 32, 16]
    assert launches[0]["workspace"] == launches[2]["workspace"] != launches[1]["workspace"]
    assert library.machine.made == 2


# what fails -----------------------------------------------------------------------------------------------------------

STEPS = ("matmul_desc_create", "matmul_desc_set_attribute", "matrix_layout_create", "matrix_layout_set_attribute")


@pytest.mark.parametrize("step", STEPS)
def test_half_made_descriptors_are_destroyed(made, step):
    library = made()
    plan, *given = layer()
    library.lt.fails = step
    with pytest.raises(KernelError, match=rf"{step} fails at the CUDA_R_32F product 5 x 4 x 130"):
        run(library, plan, *given)
    assert len(library.lt.alive) == 1  # the handle
    run(library, plan, *given)  # and the next try is a new one


@pytest.mark.parametrize("step", ["matmul_preference_create", "matmul_preference_set_attribute"])
def test_a_preference_that_fails(made, step):
    library = made()
    plan, *given = layer()
    library.lt.fails = step
    with pytest.raises(KernelError, match=step):
        run(library, plan, *given)
    assert len(library.lt.alive) == 1


def test_no_algorithm_is_remembered(made):
    library = made(unsupported=("RELU_AUX_BIAS",))
    plan, *given = layer()
    for _ in range(2):
        with pytest.raises(gemm.NoAlgorithm, match=r"product 5 x 4 x 130, epilogue RELU_AUX_BIAS.*NOT_SUPPORTED"):
            run(library, plan, *given)
    assert library.lt.count("matmul_algo_get_heuristic") == 1
    assert len(library.lt.alive) == 1
    assert made(candidates=0).refused == {}
    with pytest.raises(gemm.NoAlgorithm):
        run(made(candidates=0), plan, *given)


def test_a_launch_that_fails_names_the_product(made):
    library = made()
    plan, *given = layer()
    library.lt.fails = "matmul"
    with pytest.raises(KernelError, match=r"cuBLASLt: matmul fails at the CUDA_R_32F product 5 x 4 x 130"):
        run(library, plan, *given)


def test_a_library_that_does_not_start():
    given = bindings()
    given.lt.fails = "handle_create"
    with pytest.raises(KernelError, match="does not start"):
        gemm.Library(given, Machine())


def test_a_forked_child_leaves_the_handle_to_its_parent(made):
    library = made()
    library.process += 1
    library.close()
    assert len(library.lt.alive) == 1
    library.process -= 1


# capture and tuning ---------------------------------------------------------------------------------------------------


def test_the_algorithm_is_chosen_before_a_capture(made):
    library = made()
    plan, *given = layer()
    library.machine.captures = True
    with pytest.raises(CaptureError, match="not chosen yet"):
        run(library, plan, *given)
    library.machine.captures = False
    library.prepare(plan)
    library.machine.captures = True
    gb.tune_matmul(True)  # does not tune here: that would be captured too
    run(library, plan, *given)
    assert library.lt.algorithms == [1]


def test_tuning_takes_the_fastest_candidate_once(made):
    library = made(times={1: 3.0, 2: 1.0, 3: 2.0}, candidates=3)
    plan, *given = layer()
    run(library, plan, *given)
    assert library.lt.algorithms == [1]
    gb.tune_matmul(True)
    run(library, plan, *given)
    assert library.lt.algorithms[-1] == 2
    count = library.lt.count("matmul")
    run(library, plan, *given)
    gb.tune_matmul(False)
    run(library, plan, *given)
    assert library.lt.algorithms[-2:] == [2, 2]
    assert library.lt.count("matmul") == count + 2


def test_candidates_that_are_not_valid_are_passed_over(made):
    library = made(candidates=3)
    library.lt.invalid = (1, 3)
    plan, *given = layer()
    with pytest.raises(gemm.NoAlgorithm):
        run(library, plan, *given)  # which asks for one
    assert [a["data_"][0, 0] for a in library.heuristic(plan, described(library, plan), 3)] == [2]


def described(library: gemm.Library, plan: gemm.Plan) -> gemm.Prepared:
    """Descriptors without an algorithm, kept so that they are destroyed in the end."""
    made = library.prepared[plan] = gemm.Prepared()
    library.make_descriptors(plan, made)
    return made


def test_tuning_adds_once(made):
    library = made(times={1: 1.0, 2: 2.0}, candidates=2)
    gb.tune_matmul(True)
    first, second = place(integers((5, 4)), FLOAT), place(integers((4, 9), 1), FLOAT)
    out = place(integers((5, 9), 2), FLOAT, "padded C")
    before = wide(out).copy()
    run(library, planned(first, second, out, accumulate=True), first, second, out)
    check(out, wide(first) @ wide(second) + before)


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(DataError, match="'medium' is unknown"):
        gb.set_matmul_precision("medium")
    with pytest.raises(DataError, match="neither True nor False"):
        gb.tune_matmul("yes")  # type: ignore[arg-type]
    gb.set_matmul_precision("high")
    assert gb.get_matmul_precision() == "high"


# loading --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh():
    gemm.load.cache_clear()
    yield
    gemm.load.cache_clear()


def test_report_says_what_is_missing(fresh, monkeypatch):
    monkeypatch.setattr(gemm.importlib.util, "find_spec", lambda name: None)
    assert gemm.report() == (False, "nvmath-python is not installed")
    with pytest.raises(DeviceError, match="not installed"):
        gemm.load()


def test_report_of_an_installation_that_does_not_start(fresh, monkeypatch):
    monkeypatch.setattr(gemm.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "nvmath", None)
    works, text = gemm.report()
    assert not works
    assert "does not start" in text


@pytest.mark.parametrize(("version", "works"), [(130100, True), (110902, False)])
def test_report_of_one_that_does(fresh, monkeypatch, version, works):
    lt = bindings().lt
    lt.get_version = lambda: version
    nvmath = type(sys)("nvmath")
    nvmath.bindings = type(sys)("nvmath.bindings")
    nvmath.CudaDataType = CudaDataType
    nvmath.bindings.cublasLt = lt
    nvmath.bindings.cublas = type("cublas", (), {"Operation": Operation, "ComputeType": ComputeType})
    monkeypatch.setitem(sys.modules, "nvmath", nvmath)
    monkeypatch.setitem(sys.modules, "nvmath.bindings", nvmath.bindings)
    monkeypatch.setattr(gemm.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gemm.importlib.metadata, "version", lambda name: "1.0.0")
    expected = "cuBLASLt 13.1.0 through nvmath-python 1.0.0" if works else "cuBLASLt 110902 is too old; 12.0 is needed"
    assert gemm.report() == (works, expected)


def test_nothing_imports_nvmath_before_a_product_on_cuda():
    code = "import sys, gpu_backprop as gb; gb.ones((2, 2)) @ gb.ones((2, 2)); print('nvmath' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
