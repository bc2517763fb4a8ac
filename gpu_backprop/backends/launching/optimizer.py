"""The optimiser updates and what they ask of gradients: one launch for a contiguous run of flat buffers."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...core import dtypes
from ...core.errors import DTypeError, ShapeError
from .. import table
from ..base import Array
from .shared import BLOCK, PARTIALS, Function, Launch, accumulator, c_name, ceil_div, index_of, packs

HELD = 6  # blocks a multiprocessor holds at once: each turns the hyperparameters first, so there are no more than those


class UpdateLaunches:
    """Functions of optimizer.cu, and reductions of flat buffers to one number."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.functions: dict[str, Function] = {name: getattr(self, name) for name in table.UPDATES}
        self.functions |= {name: partial(self.reduction, name) for name in table.FLAT_REDUCTIONS}

    def update(
        self, name: str, param: Array, grad: Array, state: tuple[Array | None, ...], hyper: Array, steps: Array,
        first: int, count: int, flags: tuple[bool, ...], master: Array | None,
    ) -> None:  # fmt: skip
        dtype = c_name(param.dtype)
        if dtype is None:
            raise DTypeError(f"{name}: parameters of {param.dtype} cannot be optimised; use a float type")
        if master is not None and (not dtypes.is_half(param.dtype) or master.dtype != np.float32):
            raise DTypeError(
                f"{name}: a master copy of {master.dtype} beside parameters of {param.dtype}; "
                "use float32 beside a 16-bit float type"
            )
        wide = param.dtype if master is None else master.dtype
        for x, kind in ((param, param.dtype), (grad, param.dtype), *((x, wide) for x in (master, *state))):
            if x is not None and (x.shape != param.shape or x.dtype != kind or not x.flags.c_contiguous):
                raise ShapeError(
                    f"{name}: every buffer must be a contiguous run of {param.size} {kind} like the parameters, "
                    f"not {x.shape} {x.dtype}; slice all flat buffers alike"
                )
        if param.size == 0:
            return
        index, number = index_of(param.size)
        kernel = table.update(name, dtype, dtype if master is None else "float", index)
        few = HELD * self.launch.launcher.properties.multiprocessors
        grid = (min(few, self.launch.blocks(ceil_div(packs(param.size, param.dtype), BLOCK))),)
        self.launch.backend.launch_counted(
            kernel, grid, (BLOCK,),
            (number(param.size), param, master, grad, *state, hyper, steps[first : first + count], np.int64(count),
             *map(np.bool_, flags), self.launch.backend.tickets()),
        )  # fmt: skip

    def sgd_update(
        self, param, grad, momentum_buffer, hyper, steps, first, count, nesterov=False, maximize=False, master=None
    ):
        flags = (nesterov, maximize)
        self.update("sgd_update", param, grad, (momentum_buffer,), hyper, steps, first, count, flags, master)

    def adam_update(
        self, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper, steps, first, count, decoupled=False,
        maximize=False, master=None,
    ):  # fmt: skip
        state, flags = (exp_avg, exp_avg_sq, max_exp_avg_sq), (decoupled, maximize)
        self.update("adam_update", param, grad, state, hyper, steps, first, count, flags, master)

    def rmsprop_update(
        self,
        param,
        grad,
        square_avg,
        grad_avg,
        momentum_buffer,
        hyper,
        steps,
        first,
        count,
        maximize=False,
        master=None,
    ):
        state = (square_avg, grad_avg, momentum_buffer)
        self.update("rmsprop_update", param, grad, state, hyper, steps, first, count, (maximize,), master)

    def adagrad_update(self, param, grad, state_sum, hyper, steps, first, count, maximize=False, master=None):
        self.update("adagrad_update", param, grad, (state_sum,), hyper, steps, first, count, (maximize,), master)

    def reduction(self, name: str, x: Array) -> Array:
        """One number, left on the device: the buffer is a single row, split by its length alone."""
        dtype = c_name(x.dtype)
        if dtype is None:
            raise DTypeError(f"{name}: a buffer of {x.dtype} holds no gradients; use a float type")
        number = accumulator(x.dtype)
        out = self.launch.backend.empty((), np.dtype(number if name == "square_sum" else bool))
        if x.size == 0:
            out[...] = 0
            return out
        index, kind = index_of(x.size)
        splits = min(ceil_div(x.size, 8192), PARTIALS, self.launch.launcher.max_grid)
        sizes = tuple(map(kind, (1, x.size, x.size)))
        space = self.launch.backend.empty((splits,), np.dtype(number)) if splits > 1 else None  # the widest state
        self.launch.backend.launch_counted(
            table.reduction("reduce_rows", table.FLAT_REDUCTIONS[name], dtype, index), (1, splits), (BLOCK, 1),
            (*sizes, out, self.launch.contiguous(x), number(1), space, self.launch.backend.tickets()),
        )  # fmt: skip
        return out
