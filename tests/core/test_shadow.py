"""Operations done again on a second device; here another CPU, whose functions can be made wrong."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_backprop as gb
from gpu_backprop.backends.cpu import CpuBackend
from gpu_backprop.core.devices import Device
from gpu_backprop.core.shadow import _like, shadow

CPU = gb.device("cpu")


@pytest.fixture
def other():
    return Device("other", CpuBackend())


def values(*shape):
    return gb.tensor(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), dtype="float32", device="cpu")


def train_once(model, optimizer):
    optimizer.zero_grad()
    (model(values(5, 4)) ** 2).sum().backward()
    optimizer.step()


def test_every_operation_of_a_step_is_done_again(other):
    model = gb.nn.MLP([4, 3, 2], device="cpu")
    tables = CPU.functions, CPU.native
    with shadow(CPU, [other]) as operations:
        optimizer = gb.optim.Adam(model.parameters())
        train_once(model, optimizer)
    names = [operation.name for operation in operations]
    for name in ("linear_relu", "linear", "sum", "linear_weight_gradient", "relu_bias_backward", "adam_update"):
        assert name in names
    for operation in operations:
        result = operation.results["other"]
        assert (result.ulp, result.differing, result.error) == (0.0, 0, "")
        assert result.size > 0
        assert set(operation.seconds) == {"cpu", "other"}
    assert operations[0].operands[0] == ((5, 4), np.dtype("float32"))
    assert (CPU.functions, CPU.native) == tables
    count = len(operations)
    train_once(model, optimizer)  # its update was bound inside the block
    assert len(operations) == count


def test_the_step_itself_is_not_changed(other):
    def weights(shadows):
        gb.manual_seed(0)
        model = gb.nn.MLP([4, 3, 2], device="cpu")
        with shadow(CPU, shadows):
            optimizer = gb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for _ in range(3):
                train_once(model, optimizer)
        return [p.numpy().tobytes() for p in model.parameters()]

    assert weights([other]) == weights([])


def test_a_wrong_function_is_found_and_its_error_does_not_travel(other):
    other.native["multiply"] = lambda x, y, out=None: np.multiply(x, y) * np.float32(1.001)
    with shadow(CPU, [other]) as operations:
        gb.exp(values(3) * values(3)) + 1.0
    multiply, exp, add = (operation.results["other"] for operation in operations)
    assert multiply.ulp > 1000
    assert multiply.bound == 0
    assert multiply.differing == 2  # of the three, one is 0
    assert exp.differing == add.differing == 0


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x, y: np.float64(x) + y, "differs"),  # another dtype
        (lambda x, y: (x + y)[:1], "differs"),
        (lambda x, y: (x + y, x - y), "number of results: 2 instead of 1"),
        (lambda x, y: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
        (lambda x, y: np.add(x, y, out=x), "number of results: 0 instead of 1"),  # writes to its operand
    ],
)
def test_wrong_in_other_ways(other, function, found):
    other.native["add"] = function
    with shadow(CPU, [other]) as operations:
        values(3) + values(3)
    result = operations[0].results["other"]
    assert result.ulp == np.inf
    assert result.error == ("" if found == "differs" else found)


def test_an_operand_spoilt_beside_a_right_result_is_an_error(other):
    def spoil(x, y):
        result = x + y
        x[0] = 9
        return result

    other.native["add"] = spoil
    with shadow(CPU, [other]) as operations:
        values(3) + values(3)
    assert operations[0].results["other"].ulp > 0


def test_a_gradient_that_is_added_in_place(other):
    model = gb.nn.Linear(4, 2, device="cpu")
    with shadow(CPU, [other]) as operations:
        gb.optim.SGD(model.parameters())
        for _ in range(2):
            model(values(5, 4)).sum().backward()
    added = [operation for operation in operations if operation.name == "add"]
    assert len(added) == 2
    assert all(operation.results["other"].differing == 0 for operation in operations)


def test_16_bit_floats_use_their_own_functions(other):
    other.functions["exp"] = lambda x: x + 1
    with shadow(CPU, [other]) as operations:
        gb.exp(values(3).astype("bfloat16"))
        gb.exp(values(3))
    narrow, wide = (o.results["other"] for o in operations if o.name == "exp")
    assert narrow.differing == 2  # 0 + 1 is exp(0)
    assert wide.differing == 0


def test_an_error_of_the_first_device_is_the_computations_own(other):
    tables = CPU.functions, CPU.native
    with pytest.raises(gb.ShapeError, match="add"), shadow(CPU, [other]):
        values(3) + values(4)
    assert (CPU.functions, CPU.native) == tables


@pytest.mark.parametrize("device", ["cpu", pytest.param("emulated", marks=pytest.mark.emulated)], indirect=True)
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.T,
        lambda x: x[:, ::-1],
        lambda x: x[1::2, ::3],
        lambda x: x[::-1].T[:, 1:],
        lambda x: np.broadcast_to(x[:, :1], x.shape),
        lambda x: np.broadcast_to(x[0, 0], (2, 2)),
        lambda x: x[:0],
        lambda x: x[2, 3],
    ],
)
def test_copies_have_the_strides_of_the_original(view, device):
    place = gb.device(device)
    original = view(np.arange(24, dtype=np.float32).reshape(4, 6))
    copied = _like(place, np.array(original, order="C"), original.strides)
    np.testing.assert_array_equal(place.backend.to_host(copied), original, strict=True)
    assert copied.strides == original.strides or not original.size
