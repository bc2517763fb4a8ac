"""Every plan, run through the model of cuBLASLt on flat memory, is the row-major operation that was asked for."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backprop.backends import gemm
from gpu_backprop.core.errors import KernelError, ShapeError

from . import cublaslt_model as model

DTYPES = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
MATRICES = ("C", "F", "padded C", "padded F", "every second")  # how the matrices of an operand lie
FILL = 77.0  # what memory outside an array holds


class Placed(NamedTuple):
    """An array inside a flat piece of memory, which begins at its first element."""

    view: np.ndarray
    memory: np.ndarray

    @property
    def operand(self) -> gemm.Operand:
        size = self.view.itemsize
        return gemm.Operand(self.view.shape, tuple(s // size for s in self.view.strides))


def place(values: Any, dtype: np.dtype, how: str = "C") -> Placed:
    """values (..., rows, cols) as an array of `dtype`, its matrices laid out in one of the ways of MATRICES."""
    values = np.asarray(values)
    *batch, rows, cols = values.shape
    ld_pad = 3 if "padded" in how else 0
    if "F" in how:
        shape, strides = (*batch, cols, rows), (rows + ld_pad, 1)
    else:
        shape, strides = (*batch, rows, cols), (cols + ld_pad, 1)
    if how == "every second":
        strides = (2 * cols + 1, 2)
    step = shape[-2] * strides[0] + 5 * (ld_pad > 0)
    steps = []
    for n in reversed(batch):
        steps.append(step)
        step *= n
    memory = np.full(step + 8, FILL, dtype)
    size = dtype.itemsize
    strided = np.lib.stride_tricks.as_strided(
        memory, shape, tuple(s * size for s in (*reversed(steps), *strides)), writeable=True
    )
    view = np.swapaxes(strided, -1, -2) if "F" in how else strided
    view[...] = values.astype(dtype)
    return Placed(view, memory)


def integers(shape: Any, seed: int = 0) -> np.ndarray:
    """Small integers: their products and sums are exact in every float type's accumulator."""
    return np.random.default_rng(seed).integers(-3, 4, shape)


def matrix(layout: gemm.Layout) -> model.Matrix:
    return model.Matrix(**dataclasses.asdict(layout))


def execute(
    plan: gemm.Plan, first: Placed, second: Placed, out: Placed, bias: np.ndarray | None = None, aux: Any = None
) -> None:
    """The record, carried out by the model on flat memory."""
    memories = [
        np.ascontiguousarray(x.view).ravel() if copied else x.memory
        for x, copied in ((first, plan.copy_first), (second, plan.copy_second))
    ]
    a, b = reversed(memories) if plan.swapped else memories
    operation = model.Operation(
        plan.compute_type, plan.scale_type, plan.transa, plan.transb, plan.epilogue, bias, plan.bias_batch_stride,
        None if aux is None else aux.reshape(-1), plan.aux_ld, plan.aux_batch_stride,
    )  # fmt: skip
    c = d = out.memory
    model.matmul(
        operation, plan.alpha, a, matrix(plan.a), b, matrix(plan.b), plan.beta, c, matrix(plan.d), d, matrix(plan.d)
    )


def planned(first: Placed, second: Placed, out: Placed, epilogue: str = "none", **options: Any) -> gemm.Plan:
    found = gemm.plan(first.operand, second.operand, out.operand, out.view.dtype, epilogue, **options)
    assert isinstance(found, gemm.Plan), found
    return found


def reason(first: Placed, second: Placed, out: Placed, epilogue: str = "none", **options: Any) -> str:
    found = gemm.plan(first.operand, second.operand, out.operand, out.view.dtype, epilogue, **options)
    assert isinstance(found, gemm.Unfit), found
    return found.reason


def wide(x: Placed) -> np.ndarray:
    return x.view.astype(np.float64)


def check(out: Placed, expected: np.ndarray, exact: bool = True) -> None:
    """`out` holds the float64 result, rounded once, and nothing beside it was written."""
    dtype = out.view.dtype
    if exact:
        np.testing.assert_array_equal(out.view, expected.astype(dtype))
    else:
        np.testing.assert_allclose(
            wide(out),
            expected,
            rtol=2 * float(ml_dtypes.finfo(dtype).eps),
            atol=1e-12 + float(ml_dtypes.finfo(dtype).eps),
        )
    shadow = np.ones_like(out.memory, bool)
    offsets = np.zeros(out.view.shape, int)
    for axis, stride in enumerate(out.view.strides):
        where = np.arange(out.view.shape[axis]) * (stride // dtype.itemsize)
        offsets += where.reshape(-1, *[1] * (out.view.ndim - 1 - axis))
    shadow[offsets] = False
    assert (out.memory[shadow] == FILL).all()


# layouts and dtypes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_layout_of_every_operand(dtype):
    m, k, n = 5, 7, 3
    for ways in itertools.product(MATRICES, MATRICES, MATRICES[:-1]):
        first = place(integers((m, k)), dtype, ways[0])
        second = place(integers((k, n), 1), dtype, ways[1])
        out = place(np.zeros((m, n)), dtype, ways[2])
        plan = planned(first, second, out)
        assert (plan.copy_first, plan.copy_second) == tuple(way == "every second" for way in ways[:2])
        assert plan.swapped == ("C" in ways[2])
        execute(plan, first, second, out)
        check(out, wide(first) @ wide(second))


def test_a_row_major_product_copies_nothing_and_transposes_nothing():
    first, second = (place(integers(shape), np.dtype(np.float32)) for shape in ((4, 6), (6, 8)))
    plan = planned(first, second, place(np.zeros((4, 8)), np.dtype(np.float32)))
    assert plan == gemm.Plan(
        swapped=True, copy_first=False, copy_second=False, transa="N", transb="N",
        a=gemm.Layout("CUDA_R_32F", 8, 6, 8, 1, 0), b=gemm.Layout("CUDA_R_32F", 6, 4, 6, 1, 0),
        d=gemm.Layout("CUDA_R_32F", 8, 4, 8, 1, 0), compute_type="COMPUTE_32F", scale_type="CUDA_R_32F",
        alpha=1.0, beta=0.0, epilogue="DEFAULT", bias="", bias_length=0, bias_batch_stride=0, aux="", aux_is="",
        aux_ld=0, aux_batch_stride=0, aux_bytes=0, alignment_a=256, alignment_b=256, alignment_d=256,
        alignment_bias=256, alignment_aux=256, workspace=32 << 20,
    )  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.beta = 1.0  # type: ignore[misc]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from(MATRICES), st.sampled_from(MATRICES),
    st.sampled_from(MATRICES[:-1]), st.booleans(), st.sampled_from(DTYPES), st.integers(0, 99),
)  # fmt: skip
def test_any_size(m, k, n, first_lies, second_lies, out_lies, accumulate, dtype, seed):
    first = place(integers((m, k), seed), dtype, first_lies)
    second = place(integers((k, n), seed + 1), dtype, second_lies)
    out = place(integers((m, n), seed + 2), dtype, out_lies)
    before = wide(out).copy()
    plan = planned(first, second, out, accumulate=accumulate)
    assert plan.beta == float(accumulate)
    execute(plan, first, second, out)
    check(out, wide(first) @ wide(second) + (before if accumulate else 0))


# batches --------------------------------------------------------------------------------------------------------------

BATCHES = [
    # first, second, the strided batch that is left (1: folded into rows)
    ((3,), (), 1),
    ((2, 3), (), 1),
    ((3,), (1,), 1),
    ((), (3,), 3),
    ((1,), (3,), 3),
    ((3,), (3,), 3),
    ((2, 3), (2, 3), 6),
    ((2, 1, 3), (2, 1, 3), 6),
    ((1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("left", "right", "count"), BATCHES)
def test_batches(left, right, count, dtype):
    for ways in itertools.product(("C", "F", "every second"), ("C", "F", "every second"), ("C", "F")):
        first = place(integers((*left, 4, 5)), dtype, ways[0])
        second = place(integers((*right, 5, 3), 1), dtype, ways[1])
        out = place(np.zeros((*np.broadcast_shapes(left, right), 4, 3)), dtype, ways[2])
        plan = planned(first, second, out)
        if ways[0] != "F" and ways[2] == "C":
            assert plan.d.batch_count == count
        execute(plan, first, second, out)
        check(out, wide(first) @ wide(second))


def test_one_product_for_a_batch_of_rows():
    """x (batch, time, in) @ weight.T is one product; so is that of one row each."""
    dtype = np.dtype(np.float32)
    second = place(integers((5, 6), 1), dtype, "F")  # a weight (out, in), transposed by strides
    for shape in ((2, 3, 5), (4, 1, 5)):
        first, out = place(integers(shape), dtype), place(np.zeros((*shape[:-1], 6)), dtype)
        plan = planned(first, second, out)
        assert (plan.d.batch_count, plan.d.cols) == (1, shape[0] * shape[1])
        execute(plan, first, second, out)
        check(out, wide(first) @ wide(second))


def test_windows_that_overlap_stay_a_batch():
    """Rows that begin one element apart are no matrix: its leading dimension would be less than its rows are long."""
    dtype = np.dtype(np.float32)
    memory = integers(8).astype(dtype)
    first = Placed(np.lib.stride_tricks.sliding_window_view(memory, 4)[:, None], memory)  # (5, 1, 4)
    second, out = place(integers((4, 3), 1), dtype), place(np.zeros((5, 1, 3)), dtype)
    plan = planned(first, second, out)
    assert plan.d.batch_count == 5
    execute(plan, first, second, out)
    check(out, wide(first) @ wide(second))


def test_batches_that_do_not_fit():
    dtype = np.dtype(np.float32)
    first = place(integers((2, 1, 3, 4)), dtype)
    second = place(integers((1, 5, 4, 2)), dtype)
    assert "one stride" in reason(first, second, place(np.zeros((2, 5, 3, 2)), dtype))
    turned = Placed(place(integers((3, 3, 4)), dtype).view[::-1], np.zeros(1))
    second = place(integers((3, 4, 2)), dtype)
    assert "backwards" in reason(turned, second, place(np.zeros((3, 3, 2)), dtype))


# epilogues ------------------------------------------------------------------------------------------------------------

SIZES = [(1, 2, 1), (3, 2, 5), (8, 4, 128), (5, 3, 129), (2, 9, 200), (17, 2, 8)]  # m, k, n


def aux_for(epilogue: str, rows: int, columns: int, dtype: np.dtype) -> np.ndarray | None:
    kind = gemm.EPILOGUES[epilogue].aux
    if kind == "mask":
        return np.full(gemm.mask_shape(rows, columns), 0xA5, np.uint8)
    return np.full(gemm.value_shape(rows, columns), FILL, dtype) if kind else None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
def test_forward_then_backward(size, dtype, lead):
    """A layer and what comes back through it: aux goes from one plan's output to the other's input."""
    m, k, n = size
    first, second = place(integers((*lead, m, k)), dtype), place(integers((k, n), 1), dtype, "F")
    bias = integers(n, 2).astype(dtype)
    pre = wide(first) @ wide(second) + bias.astype(np.float64)
    rows = int(np.prod(lead, dtype=int)) * m
    for name, value, slope in (
        ("relu", np.maximum(pre, 0), (pre > 0).astype(float)),
        ("gelu", model.gelu(pre), model.gelu_slope(pre.astype(dtype).astype(float))),
    ):
        exact = name == "relu"
        forward = f"bias_{name}_{'mask' if exact else 'value'}"
        out, aux = place(np.zeros((*lead, m, n)), dtype), aux_for(forward, rows, n, dtype)
        if name == "gelu" and dtype == np.float64:
            assert "accuracy" in reason(first, second, out, forward)
            continue
        plan = planned(first, second, out, forward)
        assert plan.aux_bytes == aux.nbytes
        assert plan.bias_length == n
        execute(plan, first, second, out, bias, aux)
        check(out, value, exact)

        plain = place(np.zeros((*lead, m, n)), dtype)
        execute(planned(first, second, plain, f"bias_{name}"), first, second, plain, bias)
        check(plain, value, exact)

        g, weight = place(integers((*lead, m, 4), 3), dtype), place(integers((4, n), 4), dtype)
        expected = (wide(g) @ wide(weight)) * slope
        for backward in (f"{name}_backward", f"{name}_backward_bias"):
            dx, db = place(np.zeros((*lead, m, n)), dtype), np.zeros(n, dtype)
            plan = planned(g, weight, dx, backward)
            assert plan.bias_length == (n if "bias" in backward else 0)
            execute(plan, g, weight, dx, db if plan.bias else None, aux)
            check(dx, expected, exact)
            if plan.bias:
                total = expected.reshape(-1, n).sum(0)
                scale = np.abs(expected).reshape(-1, n).sum(0) + 1
                assert (np.abs(db.astype(float) - total) <= 2 * float(ml_dtypes.finfo(dtype).eps) * scale).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("out_lies", ["C", "F", "padded C"])
@pytest.mark.parametrize("accumulate", [False, True])
def test_sums_over_k(dtype, out_lies, accumulate):
    """g.T @ x and the sum of g over the batch; and the mirror image of it, a second operand summed."""
    rows, outs, ins = 6, 5, 3
    g, x = place(integers((rows, outs)), dtype), place(integers((rows, ins), 1), dtype)
    g_t, x_t = (Placed(p.view.T, p.memory) for p in (g, x))
    for first, second, epilogue, total in ((g_t, x, "sum_first", g), (x_t, g, "sum_second", g)):
        out = place(integers((first.view.shape[0], second.view.shape[1]), 2), dtype, out_lies)
        before, db = wide(out).copy(), np.zeros(outs, dtype)
        plan = planned(first, second, out, epilogue, accumulate=accumulate)
        assert plan.epilogue == {("sum_first", True): "BGRADB", ("sum_second", True): "BGRADA"}.get(
            (epilogue, plan.swapped), {"sum_first": "BGRADA", "sum_second": "BGRADB"}[epilogue]
        )
        assert plan.bias_length == outs
        execute(plan, first, second, out, db)
        check(out, wide(first) @ wide(second) + (before if accumulate else 0))
        np.testing.assert_array_equal(db, wide(total).sum(0).astype(dtype))


@pytest.mark.parametrize("lead", [(3,), (2, 2)], ids=str)
def test_epilogues_in_a_strided_batch(lead):
    dtype = np.dtype(np.float32)
    first, second = place(integers((*lead, 3, 4)), dtype), place(integers((*lead, 4, 130), 1), dtype)
    bias = integers(130, 2).astype(dtype)
    pre = wide(first) @ wide(second) + bias
    count = int(np.prod(lead))
    for epilogue, value in (("bias", pre), ("bias_relu", np.maximum(pre, 0)), ("bias_relu_mask", np.maximum(pre, 0))):
        out, aux = place(np.zeros((*lead, 3, 130)), dtype), aux_for(epilogue, count * 3, 130, dtype)
        plan = planned(first, second, out, epilogue)
        assert plan.d.batch_count == count
        execute(plan, first, second, out, bias, aux)
        check(out, value)
    g, weight = place(integers((*lead, 3, 2), 3), dtype), place(integers((*lead, 2, 130), 4), dtype)
    dx = place(np.zeros((*lead, 3, 130)), dtype)
    execute(planned(g, weight, dx, "relu_backward"), g, weight, dx, None, aux)
    check(dx, (wide(g) @ wide(weight)) * (pre > 0))
    assert "no single bias gradient" in reason(g, weight, dx, "relu_backward_bias")


# precision ------------------------------------------------------------------------------------------------------------


def test_tf32_is_asked_for_only_by_high_and_only_for_float32():
    values = np.random.default_rng(0).normal(size=(2, 8, 8))
    for dtype in DTYPES:
        first, second = place(values[0], dtype), place(values[1], dtype)
        results = []
        for precision in ("highest", "high"):
            out = place(np.zeros((8, 8)), dtype)
            plan = planned(first, second, out, precision=precision)
            execute(plan, first, second, out)
            results.append(wide(out))
            assert (plan.compute_type == "COMPUTE_32F_FAST_TF32") == (precision == "high" and dtype == np.float32)
        error = np.abs(results[0] - results[1]).max()
        assert (1e-5 < error < 1e-2) if dtype == np.float32 else error == 0


# what does not fit, and why -------------------------------------------------------------------------------------------


def test_reasons():
    dtype = np.dtype(np.float32)
    first, second, out = (place(integers(shape), dtype) for shape in ((4, 5), (5, 3), (4, 3)))
    thin, flat = place(integers((4, 1)), dtype), place(integers((1, 3)), dtype)
    for epilogue in ("relu_backward", "relu_backward_bias", "gelu_backward", "gelu_backward_bias", "sum_first"):
        assert "K = 1" in reason(thin, flat, out, epilogue)
    planned(thin, flat, out, "bias_relu_mask")
    assert "int32" in reason(*(place(integers(x.view.shape), np.dtype(np.int32)) for x in (first, second, out)))
    empty = place(np.zeros((0, 5)), dtype)
    assert "empty" in reason(empty, second, place(np.zeros((0, 3)), dtype))
    assert "empty" in reason(place(np.zeros((4, 0)), dtype), place(np.zeros((0, 3)), dtype), out)
    for epilogue in ("bias_relu", "bias_gelu_value", "relu_backward_bias"):
        assert "accumulated" in reason(first, second, out, epilogue, accumulate=True)
    across = place(np.zeros((4, 3)), dtype, "F")
    assert "row-major" in reason(first, second, across, "bias")
    assert "contiguous" in reason(first, second, place(np.zeros((4, 3)), dtype, "every second"))
    for aligned in (1, 8):
        assert "16 bytes" in reason(first, second, out, "relu_backward", aux_alignment=aligned)
    planned(first, second, out, "relu_backward", aux_alignment=16)
    assert "multiple of 128" in reason(first, second, out, "relu_backward", aux_ld=64)
    assert "multiple of 8" in reason(first, second, out, "gelu_backward", aux_ld=12)
    assert planned(first, second, out, "gelu_backward", aux_ld=16).aux_ld == 16
    assert "across k" in reason(first, second, out, "sum_first")
    assert "across k" in reason(first, place(integers((5, 3)), dtype, "F"), out, "sum_second")
    big = gemm.Operand((2**31, 2), (2, 1)), gemm.Operand((2, 3), (3, 1)), gemm.Operand((2**31, 3), (3, 1))
    assert gemm.plan(*big, dtype) == gemm.Unfit("a dimension exceeds 2^31 - 1")


def test_what_is_no_product_is_an_error():
    dtype = np.dtype(np.float32)
    first, second = place(integers((4, 5)), dtype), place(integers((4, 3)), dtype)
    with pytest.raises(ShapeError, match=r"\[4, 5\] @ \[4, 3\]"):
        reason(first, second, place(np.zeros((4, 3)), dtype))
    second = place(integers((5, 3)), dtype)
    with pytest.raises(ShapeError, match="does not give"):
        reason(first, second, place(np.zeros((3, 4)), dtype))
    with pytest.raises(KernelError, match="'swish' is unknown; use one of none, bias"):
        reason(first, second, place(np.zeros((4, 3)), dtype), "swish")


def test_alignment():
    assert [gemm.alignment(a) for a in (0, 1, 4, 24, 48, 512, 768, 2**40 + 16)] == [256, 1, 4, 8, 16, 256, 256, 16]
    first, second, out = (
        gemm.Operand(s, t, a) for s, t, a in (((2, 3), (6, 2), 4), ((3, 4), (4, 1), 8), ((2, 4), (4, 1), 16))
    )
    plan = gemm.plan(first, second, out, np.dtype(np.float32), "bias", bias_alignment=32)
    assert isinstance(plan, gemm.Plan)
    assert plan.copy_first  # and a copy is aligned as new memory is
    assert (plan.alignment_a, plan.alignment_b, plan.alignment_d, plan.alignment_bias) == (8, 256, 16, 32)
