"""The optimiser updates: one launch for a contiguous run of flat buffers."""

from __future__ import annotations

import numpy as np

from ...core.errors import DTypeError, ShapeError
from .. import table
from ..base import Array
from .shared import BLOCK, Function, Launch, c_name, ceil_div, index_of, packs


class UpdateLaunches:
    """Functions of optimizer.cu."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {name: getattr(self, name) for name in table.UPDATES}

    def update(
        self, name: str, param: Array, arrays: tuple[Array | None, ...], hyper: Array, steps: Array, first: int,
        count: int, flags: tuple[bool, ...],
    ) -> None:  # fmt: skip
        dtype = c_name(param.dtype)
        if dtype is None:
            raise DTypeError(f"{name}: parameters of {param.dtype} cannot be optimised; use a float type")
        for x in arrays:
            if x is not None and (x.shape != param.shape or x.dtype != param.dtype or not x.flags.c_contiguous):
                raise ShapeError(
                    f"{name}: every buffer must be a contiguous run of {param.size} {param.dtype} like the parameters, "
                    f"not {x.shape} {x.dtype}; slice all flat buffers alike"
                )
        if param.size == 0:
            return
        index, kind = index_of(param.size)
        grid = (self.launch.blocks(ceil_div(packs(param.size, param.dtype), BLOCK)),)
        self.launch.backend.launch_counted(
            table.update(name, dtype, index), grid, (BLOCK,),
            (kind(param.size), param, *arrays, hyper, steps[first : first + count], np.int64(count),
             *map(np.bool_, flags), self.launch.backend.tickets()),
        )  # fmt: skip

    def sgd_update(self, param, grad, momentum_buffer, hyper, steps, first, count, nesterov=False, maximize=False):
        self.update("sgd_update", param, (grad, momentum_buffer), hyper, steps, first, count, (nesterov, maximize))

    def adam_update(
        self, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper, steps, first, count, decoupled=False,
        maximize=False,
    ):  # fmt: skip
        state = (grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
        self.update("adam_update", param, state, hyper, steps, first, count, (decoupled, maximize))

    def rmsprop_update(
        self, param, grad, square_avg, grad_avg, momentum_buffer, hyper, steps, first, count, maximize=False
    ):
        state = (grad, square_avg, grad_avg, momentum_buffer)
        self.update("rmsprop_update", param, state, hyper, steps, first, count, (maximize,))

    def adagrad_update(self, param, grad, state_sum, hyper, steps, first, count, maximize=False):
        self.update("adagrad_update", param, (grad, state_sum), hyper, steps, first, count, (maximize,))
