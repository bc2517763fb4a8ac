"""Learning rates that change from step to step. Formulas and names are PyTorch's.

A scheduler sets `group["lr"]`, which writes through to the device, so captured steps follow it. Each rate is a closed
formula of the group's first rate and of t, the number of `step()` calls (`last_epoch`, whatever it counts).
"""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import CheckpointError, DataError, DTypeError
from ..core.modes import modes
from ..ops.reduction import as_real
from .optimizer import Optimizer


def refuse_in_capture(scheduler: Any) -> None:
    """A captured function would count one step, once, however often it is called."""
    if modes.recorder is not None:
        name = type(scheduler).__name__
        modes.recorder.refuse(f"{name}.step() inside a captured function counts once; call it outside, after the step")


class _Scheduler:
    """What schedulers by time and by metric share."""

    optimizer: Optimizer

    def get_last_lr(self) -> list[float]:
        """The learning rates that are set now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {k: v for k, v in vars(self).items() if k != "optimizer"}


class LRScheduler(_Scheduler):
    """Base class: a subclass gives `rates()`, the learning rate of each group at time `last_epoch`."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        _check_optimizer(self, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise DataError(
                    f"{type(self).__name__}: parameter group {i} has no initial_lr to resume from at "
                    f"last_epoch={last_epoch}; load the optimizer's state first, or start with last_epoch=-1"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
        self._apply()

    def rates(self) -> list[float]:
        raise NotImplementedError

    def _apply(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.rates()):
            group["lr"] = lr

    def step(self) -> None:
        """Count one step (or epoch) and set the learning rates."""
        refuse_in_capture(self)
        self.last_epoch += 1
        self._apply()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` gave, and set the learning rates of that time."""
        _check_state(self, state_dict)
        vars(self).update(state_dict)
        self._apply()


class StepLR(LRScheduler):
    """lr = initial lr * gamma^(t // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        _positive(self, "step_size", step_size)
        self.step_size = step_size
        self.gamma = _number(self, "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) (1 + cos(pi t / T_max)) / 2.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983 (without restarts).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        _positive(self, "T_max", T_max)
        self.T_max = T_max
        self.eta_min = _number(self, "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        wave = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * wave for base in self.base_lrs]


class LinearWarmup(LRScheduler):
    """lr = initial lr * (start_factor + (1 - start_factor) t / total_iters) until t = total_iters.

    Then the initial lr stays, or `after`, a scheduler of the same optimizer made before this one, takes over at its
    own t = 0. With start_factor = 1/3 these are the rates of PyTorch's LinearLR.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int,
        start_factor: float = 1.0 / 3,
        after: LRScheduler | None = None,
        last_epoch: int = -1,
    ):
        _positive(self, "total_iters", total_iters)
        start_factor = _number(self, "start_factor", start_factor)
        if not 0 <= start_factor <= 1:
            raise DataError(f"LinearWarmup: start_factor={start_factor} is out of range; it must be in [0, 1]")
        self.total_iters = total_iters
        self.start_factor = start_factor
        self.after = after
        if after is not None:
            if after.optimizer is not optimizer:
                raise DataError("LinearWarmup: `after` schedules another optimizer; make both for the same one")
            for group, base in zip(optimizer.param_groups, after.base_lrs):
                group["lr"] = base
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        done = min(self.last_epoch / self.total_iters, 1.0)
        factor = self.start_factor + (1 - self.start_factor) * done
        return [base * factor for base in self.base_lrs]

    def _apply(self) -> None:
        if self.after is not None and self.last_epoch >= self.total_iters:
            self.after.last_epoch = self.last_epoch - self.total_iters
            self.after._apply()
        else:
            super()._apply()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["after"] = None if self.after is None else self.after.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _check_state(self, state_dict)
        if (state_dict["after"] is None) != (self.after is None):
            raise CheckpointError("LinearWarmup.load_state_dict: the saved one or this one lacks `after`")
        if self.after is not None:
            self.after.load_state_dict(state_dict["after"])
        super().load_state_dict({**state_dict, "after": self.after})


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, then down to the first rate / final_div_factor, once.

    The rise takes `pct_start` of the steps. total_steps: of the whole cycle, or give epochs and steps_per_epoch.
    anneal_strategy: "cos" or "linear". cycle_momentum: momentum (or beta1) goes the other way, from max_momentum to
    base_momentum and back. three_phase: fall symmetrically to the first rate, then on. max_lr and the momenta may be
    lists, one value a group.

    Smith and Topin, Super-Convergence, arXiv:1708.07120.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Any,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Any = 0.85,
        max_momentum: Any = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        _check_optimizer(self, optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise DataError("OneCycleLR: the length is missing; give total_steps, or epochs and steps_per_epoch")
            _positive(self, "epochs", epochs)
            _positive(self, "steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _positive(self, "total_steps", total_steps)
        pct_start, div_factor = _number(self, "pct_start", pct_start), _number(self, "div_factor", div_factor)
        final_div_factor = _number(self, "final_div_factor", final_div_factor)
        if not 0 <= pct_start <= 1:
            raise DataError(f"OneCycleLR: pct_start={pct_start} is out of range; it must be in [0, 1]")
        if anneal_strategy not in ("cos", "linear"):
            raise DataError(f'OneCycleLR: anneal_strategy={anneal_strategy!r} is unknown; use "cos" or "linear"')
        groups = optimizer.param_groups
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise DataError(
                f"OneCycleLR: {type(optimizer).__name__} has no momentum to cycle; pass cycle_momentum=False"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        top = _each(self, "max_lr", max_lr, len(groups))
        self.max_lrs = top
        self.initial_lrs = [lr / div_factor for lr in top]
        self.final_lrs = [lr / final_div_factor for lr in self.initial_lrs]
        self.base_momenta = _each(self, "base_momentum", base_momentum, len(groups))
        self.max_momenta = _each(self, "max_momentum", max_momentum, len(groups))
        up = pct_start * total_steps - 1
        # (end of the phase, start and end of the rate, start and end of the momentum), by name
        if three_phase:
            self.phases = [(up, "initial", "max"), (2 * up, "max", "initial"), (total_steps - 1.0, "initial", "final")]
        else:
            self.phases = [(up, "initial", "max"), (total_steps - 1.0, "max", "final")]
        if last_epoch == -1:
            for group, lr in zip(groups, self.initial_lrs):
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)

    def _between(self) -> tuple[str, str, float]:
        """The ends of the phase that it is in, and how far, from 0 to 1."""
        t = self.last_epoch
        if t > self.total_steps:
            raise DataError(
                f"OneCycleLR: step {t} of a cycle of {self.total_steps} steps; make total_steps as many as there are"
            )
        begin = 0.0
        for i, (end, first, last) in enumerate(self.phases):
            if t <= end or i == len(self.phases) - 1:
                # one call too many is usual (after the last step): the cycle's end stays
                return first, last, min((t - begin) / (end - begin), 1.0) if end != begin else 1.0
            begin = end
        raise AssertionError

    def _anneal(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start

    def rates(self) -> list[float]:
        first, last, part = self._between()
        ends = {"initial": self.initial_lrs, "max": self.max_lrs, "final": self.final_lrs}
        return [self._anneal(a, b, part) for a, b in zip(ends[first], ends[last])]

    def _apply(self) -> None:
        super()._apply()
        if not self.cycle_momentum:
            return
        first, last, part = self._between()
        ends = {"initial": self.max_momenta, "max": self.base_momenta, "final": self.max_momenta}
        for group, a, b in zip(self.optimizer.param_groups, ends[first], ends[last]):
            value = self._anneal(a, b, part)
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value


class ReduceLROnPlateau(_Scheduler):
    """lr = max(lr * factor, min_lr) when a metric has not improved for more than `patience` steps.

    mode: "min" or "max", what an improvement is. threshold, threshold_mode: the least change that counts, "rel"ative
    to the best or "abs"olute. cooldown: steps to wait after a reduction. eps: smaller reductions are left out.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Any = 0.0,
        eps: float = 1e-8,
    ):
        _check_optimizer(self, optimizer)
        factor, eps = _number(self, "factor", factor), _number(self, "eps", eps)
        if not 0 <= factor < 1:
            raise DataError(f"ReduceLROnPlateau: factor={factor} is out of range; it must be in [0, 1)")
        if mode not in ("min", "max"):
            raise DataError(f'ReduceLROnPlateau: mode={mode!r} is unknown; use "min" or "max"')
        if threshold_mode not in ("rel", "abs"):
            raise DataError(f'ReduceLROnPlateau: threshold_mode={threshold_mode!r} is unknown; use "rel" or "abs"')
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = _number(self, "threshold", threshold)
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = _each(self, "min_lr", min_lr, len(optimizer.param_groups))
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at the metric of one more step (or epoch)."""
        refuse_in_capture(self)
        value = float(metrics)
        self.last_epoch += 1
        if self.is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs):
                lr = max(group["lr"] * self.factor, least)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def is_better(self, value: float) -> bool:
        """True if the value improves on the best so far by more than the threshold."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1.0 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` gave."""
        _check_state(self, state_dict)
        vars(self).update(state_dict)


# ---------------------------------------------------------------------------------------------------------------------
# checks


def _check_optimizer(scheduler: Any, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(
            f"{type(scheduler).__name__}: a {type(optimizer).__name__} is not an optimizer; pass one of gb.optim"
        )


def _check_state(scheduler: Any, state: Any) -> None:
    name = type(scheduler).__name__
    known = set(scheduler.state_dict())
    if not isinstance(state, dict) or set(state) != known:
        given = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{name}.load_state_dict: a state with {sorted(known)} is needed, not {given}")


def _positive(scheduler: Any, key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise DataError(f"{type(scheduler).__name__}: {key}={value!r} is not a positive integer")


def _number(scheduler: Any, key: str, value: Any) -> float:
    return as_real(type(scheduler).__name__, key, value)


def _each(scheduler: Any, key: str, value: Any, groups: int) -> list[float]:
    if not isinstance(value, (list, tuple)):
        return [_number(scheduler, key, value)] * groups
    if len(value) != groups:
        raise DataError(
            f"{type(scheduler).__name__}: {len(value)} values of {key} for {groups} parameter groups; give one for each"
        )
    return [_number(scheduler, key, v) for v in value]
