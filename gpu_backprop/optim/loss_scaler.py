"""Dynamic loss scaling: float16 gradients that neither vanish nor overflow, without a look from the host."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..core import tape
from ..core.dtypes import float32, float64
from ..core.errors import CheckpointError, DataError, DTypeError
from ..core.modes import Attributes
from ..core.tensor import Tensor, tensor
from ..ops import elementwise as ew
from ..ops.reduction import as_constant
from .clip import any_nonfinite
from .flat import zeros
from .optimizer import Optimizer

LEAST = 2.0**-126  # no scale is smaller: the smallest normal float32, whose reciprocal is finite
COUNTED = 2**24  # float32 counts so far without a gap
SKIPPED = ("skipped", "skipped_in_a_row", "most_skipped_in_a_row")  # in a state dictionary


class ScalerState(NamedTuple):
    """A LossScaler's numbers, read once from the device."""

    scale: float
    good: int  # steps since the scale last changed
    skipped: int  # steps of all
    in_a_row: int  # skipped steps at the end
    longest: int  # the most that were ever skipped in a row


class LossScaler(Attributes):
    """Multiplies the loss so that small float16 gradients do not vanish, and finds the factor by itself.

    scaler = LossScaler(optimizer)
    scaler.scale(loss).backward()
    scaler.step(max_norm=1.0)  # in the place of optimizer.step(); clips the gradients as they are without the scale

    The optimiser divides gradients by the scale as it reads them. A step whose gradients hold an infinity or a NaN
    changes nothing (neither parameters nor state nor step counts), and the scale is multiplied by `backoff_factor`;
    after `growth_interval` good steps in a row it is multiplied by `growth_factor`, if it stays finite. Factors that
    are powers of two cost no digits. This is the rule and these are the names of PyTorch's GradScaler, but that step
    and update are one.

    The scale and all counts are numbers on the device, updated there in place: a step waits for nothing. `read()` and
    `check()` wait for the device; call them now and then. While a scaler is in use, `set_grad_scale` and `set_skip` of
    the optimiser are the scaler's; `release()` gives them back.

    max_skipped: as many skipped steps in a row are an error, which `check()` raises: by then the scale is so small that
    it cannot be the reason.

    Micikevicius et al., Mixed Precision Training, arXiv:1710.03740.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        max_skipped: int = 100,
    ):
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(f"LossScaler: a {type(optimizer).__name__} is not an optimizer; use one of gb.optim, made")
        for name, value in (
            ("init_scale", init_scale),
            ("growth_factor", growth_factor),
            ("backoff_factor", backoff_factor),
        ):
            as_constant("LossScaler", name, value)
        _require("init_scale", init_scale, LEAST <= init_scale < math.inf, "above zero and finite")
        self._set_rule(growth_factor, backoff_factor, growth_interval)
        _require("max_skipped", max_skipped, 1 <= max_skipped <= COUNTED, "from 1 to 2^24")
        self.max_skipped = int(max_skipped)
        self.optimizer = optimizer
        self.device = device = optimizer.param_groups[0]["params"][0].device
        # one array, for one read; a view for each number
        self._numbers = Tensor(zeros(device, 5, float32)[:5], device)
        places = (Tensor(self._numbers.array[i : i + 1].reshape(()), device) for i in range(5))
        self.loss_scale, self._good, self._skipped, self._in_a_row, self._longest = places
        self._write((init_scale, 0, 0, 0, 0))

    def _set_rule(self, growth_factor: float, backoff_factor: float, growth_interval: int) -> None:
        _require("growth_factor", growth_factor, 1 < growth_factor < math.inf, "above 1 and finite")
        _require("backoff_factor", backoff_factor, 0 < backoff_factor < 1, "between 0 and 1")
        _require("growth_interval", growth_interval, 1 <= growth_interval <= COUNTED, "from 1 to 2^24")
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval = int(growth_interval)

    def _write(self, numbers: tuple[float, ...]) -> None:
        self._numbers.copy_(tensor(numbers, dtype=float32))
        self._tell()

    def _tell(self) -> None:
        """Let the optimiser know what to multiply gradients by."""
        self.optimizer.set_grad_scale(1.0 / self.loss_scale.astype(float64))

    # a step ----------------------------------------------------------------------------------------------------------

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale, in float32 or wider; what `backward` is called on."""
        if not isinstance(loss, Tensor):
            raise DTypeError(f"LossScaler.scale: a {type(loss).__name__} is not a loss; give a Tensor")
        return loss * self.loss_scale.to(loss.device)

    def step(self, max_norm: float | None = None) -> None:
        """Update the parameters, or skip the step if a gradient is not finite; then bring the scale up to date.

        max_norm: clip the gradients, without their scale, as `optimizer.clip_grad_norm` does; or call that first.
        """
        optimizer = self.optimizer
        if max_norm is not None:
            optimizer.clip_grad_norm(max_norm)
        with tape.no_grad():
            clip = optimizer._clip
            if clip is not None:  # every gradient has been looked at already
                bad = ew.logical_not(ew.isfinite(clip.norm)).to(self.device)
            else:
                bad = any_nonfinite(optimizer._params, self.device)
            optimizer.set_skip(bad)
            optimizer.step()
            self._update(bad)

    def _update(self, bad: Tensor) -> None:
        scale, good = self.loss_scale, self._good + 1.0
        due = ew.greater_equal(good, self.growth_interval)
        larger, smaller = scale * self.growth_factor, ew.maximum(scale * self.backoff_factor, LEAST)
        grown = ew.where(ew.logical_and(due, ew.isfinite(larger)), larger, scale)
        in_a_row = ew.where(bad, self._in_a_row + 1.0, 0.0)
        scale.copy_(ew.where(bad, smaller, grown))
        self._good.copy_(ew.where(ew.logical_or(bad, due), 0.0, good))
        self._skipped.copy_(self._skipped + bad)
        self._in_a_row.copy_(in_a_row)
        self._longest.copy_(ew.maximum(self._longest, in_a_row))
        self._tell()

    def release(self) -> None:
        """Have the optimiser take gradients as they are again."""
        self.optimizer.set_grad_scale(1.0)
        self.optimizer.set_skip(False)

    # from the host ---------------------------------------------------------------------------------------------------

    def read(self) -> ScalerState:
        """The scale and the counts. Waits for the device, once."""
        scale, *counts = self._numbers.numpy().tolist()
        good, skipped, in_a_row, longest = map(int, counts)
        return ScalerState(scale, good, skipped, in_a_row, longest)

    def check(self) -> ScalerState:
        """The same; raises DataError if `max_skipped` steps in a row were skipped."""
        state = self.read()
        if state.longest >= self.max_skipped:
            raise DataError(
                f"LossScaler: {state.longest} steps in a row were skipped, for their gradients were not finite, and "
                f"the loss scale is {state.scale:.3g} by now, so it is not the reason; look for NaN in the data and "
                "for the operation with gb.debug.detect_anomaly(), lower the learning rate, or train in bfloat16"
            )
        return state

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's keys, and the counts of skipped steps, as Python numbers. Waits for the device."""
        state = self.read()
        return {
            "scale": state.scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": state.good,
            **dict(zip(SKIPPED, (state.skipped, state.in_a_row, state.longest))),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` of this class, or of PyTorch's GradScaler, gave, writing in place."""
        try:
            scale, good = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
            rule = [state_dict[key] for key in ("growth_factor", "backoff_factor", "growth_interval")]
            skipped = [int(state_dict.get(key, 0)) for key in SKIPPED]  # PyTorch does not count them
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"LossScaler.load_state_dict: not a scaler's state ({type(error).__name__}: {error}); "
                "give a dict from state_dict()"
            ) from None
        if not LEAST <= scale < math.inf:
            raise CheckpointError(f"LossScaler.load_state_dict: scale={scale} is out of range; it must be above zero")
        self._set_rule(*rule)
        self._write((scale, good, *skipped))


def _require(name: str, value: Any, holds: bool, rule: str) -> None:
    if not holds:
        raise DataError(f"LossScaler: {name}={value!r} is out of range; it must be {rule}")
