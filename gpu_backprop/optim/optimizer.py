"""What all optimisers share: parameter groups, flat buffers, step, state dictionaries."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import tape
from ..core.dtypes import float64, is_floating, is_half
from ..core.errors import CheckpointError, DataError, DTypeError
from ..core.modes import modes
from ..core.tensor import Tensor, tensor, zero_grad
from ..ops import elementwise as ew
from ..ops.reduction import as_constant
from .clip import gradient_pieces, power_sum, shrink_factor
from .flat import Flat, bind, zeros

GRAD_SCALE, SKIP = 2, 3  # places in the hyper array, between lr and weight_decay and an optimiser's own numbers


class _Clip(NamedTuple):
    """What `clip_grad_norm` was asked for and found, and the scale and skip of each hyper array before."""

    norm: Tensor
    max_norm: float
    skip_nonfinite: bool
    kept: list[tuple[Any, Any, Tensor]]  # device, hyper array, what it held


class ParamGroup(dict[str, Any]):
    """Parameters with their own hyperparameters. What is assigned is checked and written through to the device."""

    flats: list[Flat]
    hypers: dict[Any, Any]  # device -> float64 array that the updates read
    mirror: list[float]  # what the hyper arrays hold
    optimizer: weakref.ref[Optimizer]  # weak: an optimiser that is dropped frees its buffers at once

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        new = dict(*args, **kwargs)
        if "params" in new and new["params"] is not self.get("params"):
            raise DataError(
                "param_groups: the parameters of a group are fixed when it is made; use optimizer.add_param_group(...)"
            )
        optimizer = self.optimizer()
        if optimizer is not None:
            optimizer.check({**self, **new})
        super().update(new)
        if optimizer is not None:
            optimizer.write_through(self)

    def __ior__(self, other: Any) -> ParamGroup:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]


class Optimizer:
    """Base class of the optimisers: moves parameters into flat buffers and updates each with one launch.

    A subclass names the backend's `update` function and says, for a group, which numbers, state buffers and switches
    the function takes (`numbers`, `state_names`, `switches`), and what is wrong with its values (`check`).

    The parameters of a group become views of one buffer per dtype and device. One that moves elsewhere later, by
    `Module.to` or a second optimiser, is brought back, with its state, at the next step.

    master_weights: keep a float32 copy, and float32 state, of float16 and bfloat16 parameters, so that steps that are
    small beside the parameters add up instead of being rounded away (Micikevicius et al., Mixed Precision Training,
    arXiv:1710.03740). Other parameters need none. What is written into a parameter between steps counts.
    """

    update = ""  # the backend's function

    def __init__(self, params: Any, defaults: dict[str, Any], master_weights: bool = False):
        self.defaults = defaults
        self.master_weights = bool(master_weights)
        self._clip: _Clip | None = None
        self.check(defaults)
        self.param_groups: list[ParamGroup] = []
        self._params: list[Any] = []
        for group in _as_groups(type(self).__name__, params):
            self.add_param_group(group)

    # what subclasses say ---------------------------------------------------------------------------------------------

    def check(self, group: dict[str, Any]) -> None:
        """Raise DataError for hyperparameters out of their domain."""
        name = type(self).__name__
        for key in ("lr", "eps", "weight_decay"):
            require(name, group, key, lambda v: v >= 0, "must be zero or more")

    def numbers(self, group: dict[str, Any]) -> tuple[float, ...]:
        """The numbers of the hyper array after the first four."""
        raise NotImplementedError

    def state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        """State buffers in the order of the update's arguments; None where the group needs none."""
        raise NotImplementedError

    def switches(self, group: dict[str, Any]) -> dict[str, bool]:
        """The update's attributes."""
        raise NotImplementedError

    def initial(self, group: dict[str, Any], name: str) -> float:
        """What a state buffer starts with."""
        return 0.0

    # groups ----------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, `{"params": ...}`, with hyperparameters of their own; the others are the defaults."""
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise DataError(f'{name}: a parameter group is a dict with a key "params", not {_short(param_group)}')
        unknown = sorted(set(param_group) - set(self.defaults) - {"params", "initial_lr"})
        if unknown:
            raise DataError(
                f"{name}: unknown option {', '.join(map(repr, unknown))} in a parameter group; "
                f"use {', '.join(self.defaults)}"
            )
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        seen = {id(p) for p in self._params}
        for p in params:
            _check_parameter(name, p)
            if id(p) in seen:
                raise DataError(
                    f"{name}: a parameter of shape {list(p.shape)} is in the parameters twice; give each only once"
                )
            seen.add(id(p))
        if not params:
            raise DataError(f"{name}: the list of parameters is empty; pass model.parameters()")
        values = {**self.defaults, **{k: v for k, v in param_group.items() if k != "params"}}
        self.check(values)
        group = ParamGroup(params=params, **values)
        group.optimizer = weakref.ref(self)
        group.mirror = []
        group.hypers = {}
        group.flats = []
        self.param_groups.append(group)
        self._params += params
        self._flatten(group)

    def _flatten(self, group: ParamGroup) -> None:
        """Lay the parameters of a group into flat buffers, one for each dtype and device."""
        kinds: dict[tuple[Any, Any], list[Any]] = {}
        for p in group["params"]:
            kinds.setdefault((p.device, p.dtype), []).append(p)
        group.flats = [Flat(params, self.master_weights) for params in kinds.values()]
        group.hypers = {}  # one left behind on another device would miss changes
        self.write_through(group)
        for flat in group.flats:
            flat.fill({n: self.initial(group, n) for n in flat.state})

    def _flatten_anew(self, group: ParamGroup) -> None:
        """The parameters were moved to other memory, another dtype or device: flatten them again, keeping the state."""
        self._unclip()
        state = {id(p): flat.digits(i) | host for flat in group.flats for i, (p, host) in enumerate(flat.read_all())}
        device, hyper = next(iter(group.hypers.items()))
        held = device.backend.to_host(hyper).tolist()
        for i in (GRAD_SCALE, SKIP):  # a Tensor may have set them on the device alone
            group.mirror[i] = held[i]
        self._flatten(group)
        for flat in group.flats:
            flat.write_all([state[id(p)] for p in flat.params])

    def write_through(self, group: ParamGroup) -> None:
        """Bring the device's hyper arrays, and the launches, up to the values in the group."""
        own = self.numbers(group)
        before = group.mirror or [0.0, 0.0, 1.0, 0.0]
        numbers = [group["lr"], group.get("weight_decay", 0.0), before[GRAD_SCALE], before[SKIP], *own]
        numbers = [float(v) for v in numbers]
        for device in {flat.device for flat in group.flats}:
            hyper = group.hypers.get(device)
            if hyper is None:
                group.hypers[device] = hyper = zeros(device, len(numbers), float64)
                old: list[Any] = [None] * len(numbers)
            else:
                old = group.mirror
            for i, (a, b) in enumerate(zip(old, numbers)):
                if a != b and modes.recorder is not None:
                    modes.recorder.refuse(
                        f"{type(self).__name__}: a hyperparameter changes from {a} to {b} inside a captured function, "
                        "which would set it to the same number at every call; change it (or call scheduler.step()) "
                        "outside, between the calls"
                    )
                if a != b:
                    device.backend.write(hyper, i, b)
        group.mirror = numbers
        names, switches = self.state_names(group), self.switches(group)
        for flat in group.flats:
            if flat.names != names or flat.switches != switches:
                flat.plan(names, switches, bind(self.update, group.hypers[flat.device], switches, flat.device))

    def _set_everywhere(self, index: int, value: Any) -> None:
        self._unclip()
        for group in self.param_groups:
            for device, hyper in group.hypers.items():
                raw = value.to(device).array if isinstance(value, Tensor) else float(value)
                device.backend.write(hyper, index, raw)
            if not isinstance(value, Tensor):
                group.mirror[index] = float(value)

    def set_grad_scale(self, scale: Any) -> None:
        """Multiply gradients by `scale` (a number, or a scalar Tensor on the device) in every step from now on."""
        self._set_everywhere(GRAD_SCALE, as_constant("set_grad_scale", "scale", scale))

    def set_skip(self, skip: Any) -> None:
        """While `skip` (a bool, or a scalar Tensor on the device) is not zero, steps change nothing.

        A clipping that was asked for stays.
        """
        clip = self._clip
        self._set_everywhere(SKIP, skip)
        if clip is not None:
            self._shrink(clip.norm, clip.max_norm, clip.skip_nonfinite)

    def keep_master_weights(self, keep: bool = True) -> None:
        """Keep float32 copies of 16-bit parameters from now on, or no longer; see `master_weights`.

        Parameters that were float32 when the optimiser took them, and were cast since, keep their digits in the copy.
        Takes effect at once. Waits for the device.
        """
        self.master_weights = bool(keep)
        self._bring_back()
        for group in self.param_groups:
            if any((flat.master is not None) != (keep and is_half(flat.dtype)) for flat in group.flats):
                self._flatten_anew(group)
            for flat in group.flats:
                flat.settle()

    def masters(self) -> dict[Any, Tensor]:
        """Parameter -> its float32 copy, for those that have one; the Tensors share the optimiser's memory."""
        self._bring_back()
        found: dict[Any, Tensor] = {}
        for group in self.param_groups:
            for flat in group.flats:
                flat.settle()
                found |= {p: values["master"] for p, values in flat.read_all() if "master" in values}
        return found

    # clipping --------------------------------------------------------------------------------------------------------

    def clip_grad_norm(self, max_norm: float, *, skip_nonfinite: bool = False) -> Tensor:
        """Have the next step shrink the gradients so that their norm, as one vector, is at most `max_norm`.

        As `clip_grad_norm_`, but the gradients are read once and stay as they are: the factor is computed on the
        device, and the step applies it as it reads them. Returns the norm before, a float64 Tensor on the device;
        nothing waits for it. It is the norm of the gradients times the scale of `set_grad_scale`, so a loss scale needs
        no pass of its own; set the scale first, for setting it forgets the clipping.
        skip_nonfinite: the next step changes nothing if the norm is infinite or NaN. `zero_grad` forgets the clipping.
        """
        as_constant("clip_grad_norm", "max_norm", max_norm)
        if isinstance(max_norm, (bool, str)) or not float(max_norm) >= 0:
            raise DataError(f"clip_grad_norm: max_norm={max_norm!r} is out of range; it must be a number, zero or more")
        self._unclip()
        self._bring_back()
        with tape.no_grad():
            norm = self._grad_norm()
        self._shrink(norm, max_norm, skip_nonfinite)
        return norm

    def _shrink(self, norm: Tensor, max_norm: float, skip_nonfinite: bool) -> None:
        """Change scale and skip for one step so that gradients of this norm are clipped."""
        with tape.no_grad():
            factor, bad = shrink_factor(norm, max_norm), ew.logical_not(ew.isfinite(norm))
            kept = []
            for group in self.param_groups:
                for device, hyper in group.hypers.items():
                    held = Tensor(hyper[GRAD_SCALE : SKIP + 1], device).copy()
                    kept.append((device, hyper, held))
                    device.backend.write(hyper, GRAD_SCALE, (held[0] * factor.to(device)).array)
                    if skip_nonfinite:
                        device.backend.write(hyper, SKIP, (held[1] + bad.to(device)).array)
        self._clip = _Clip(norm, max_norm, skip_nonfinite, kept)

    def _grad_norm(self) -> Tensor:
        """The norm of all gradients, scaled, in float64."""
        home = self._params[0].device
        total = tensor(0.0, dtype=float64, device=home)
        for group in self.param_groups:
            for x in gradient_pieces(group["params"]):
                scale = Tensor(group.hypers[x.device][GRAD_SCALE : GRAD_SCALE + 1].reshape(()), x.device)
                total = total + (power_sum(x, 2.0).astype(float64) * scale * scale).to(home)
        return ew.sqrt(total)

    def _unclip(self) -> None:
        """Put back the scale and the skip that clipping changed for one step."""
        if modes.recorder is not None:
            modes.recorder.clips(self)
        if self._clip is not None:
            for device, hyper, held in self._clip.kept:
                device.backend.write(hyper, slice(GRAD_SCALE, SKIP + 1), held.array)
            self._clip = None

    # the step --------------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient. `closure`, if given, computes the loss, which is returned."""
        if modes.recorder is not None:
            modes.recorder.clips(self)
        loss = None
        if closure is not None:
            with tape.enable_grad():
                loss = closure()
        self._bring_back()  # first, so that none steps twice
        for group in self.param_groups:
            for flat in group.flats:
                flat.step()
        self._unclip()
        return loss

    def _bring_back(self) -> None:
        """Flatten anew where parameters were moved; the new buffers then hear of the clipping too."""
        clip = self._clip
        for group in self.param_groups:
            for flat in group.flats:
                if flat.has_moved():
                    if modes.recorder is not None:
                        modes.recorder.refuse(
                            f"parameters of {type(self).__name__} were moved (by Module.to, or a second optimiser) and "
                            "would be brought back inside; call its step() once outside before"
                        )
                    self._flatten_anew(group)
                    break
        if clip is not None and self._clip is None:
            self.clip_grad_norm(clip.max_norm, skip_nonfinite=clip.skip_nonfinite)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients (or, with `set_to_none=False`, make them zero)."""
        self._unclip()
        if modes.recorder is not None and not set_to_none:
            for p in self._params:
                modes.recorder.consults(p)
        if set_to_none:
            for p in self._params:
                p._grad = None
            if modes.recorder is not None:
                modes.recorder.replace_grads(self._params)
            return
        for p in self._params:
            zero_grad(p)

    # state -----------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Any, dict[str, Any]]:
        """Parameter -> its state by name; the Tensors share the optimiser's memory. Waits for the device."""
        found = {}
        for group in self.param_groups:
            for flat in group.flats:
                for p, values in flat.read_all():
                    if values["step"]:
                        found[p] = values
        return found

    def state_dict(self) -> dict[str, Any]:
        """State and hyperparameters as PyTorch lays them out: `state` by parameter number, `param_groups`."""
        state = self.state
        number = {id(p): i for i, p in enumerate(self._params)}
        groups = []
        for group in self.param_groups:
            packed = {k: v for k, v in group.items() if k != "params"}
            groups.append({**packed, "params": [number[id(p)] for p in group["params"]]})
        return {"state": {number[id(p)]: values for p, values in state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` gave, writing in place. Raises CheckpointError if it does not fit."""
        name = type(self).__name__
        try:
            groups, state = state_dict["param_groups"], dict(state_dict["state"])
            lengths = [len(g["params"]) for g in groups]
        except (TypeError, KeyError, ValueError):
            raise CheckpointError(
                f"{name}.load_state_dict: {_short(state_dict)} is not an optimiser's state; "
                'give a dict with "state" and "param_groups", from state_dict()'
            ) from None
        expected = [len(g["params"]) for g in self.param_groups]
        if lengths != expected:
            raise CheckpointError(
                f"{name}.load_state_dict: groups of {lengths} parameters for an optimiser with groups of {expected}; "
                "make the optimiser with the same parameter groups as the saved one"
            )
        values: dict[int, dict[str, Any]] = {}
        wrong = []
        for mine, theirs in zip(self.param_groups, groups):
            for p, key in zip(mine["params"], theirs["params"]):
                host = {k: _host(v) for k, v in state.get(key, {}).items() if v is not None}
                wrong += [
                    f"{key}.{k} {list(v.shape)} for a parameter {list(p.shape)}"
                    for k, v in host.items()
                    if k != "step" and v.shape != p.shape
                ]
                if host:
                    # PyTorch's SGD does not count; with a momentum buffer there was a step
                    host["step"] = float(host["step"]) if "step" in host else 1.0
                values[id(p)] = host
        if wrong:
            raise CheckpointError(f"{name}.load_state_dict: state of other shapes: {'; '.join(wrong)}")
        for mine, theirs in zip(self.param_groups, groups):
            mine.update({k: v for k, v in theirs.items() if k in self.defaults or k == "initial_lr"})
        for mine in self.param_groups:
            for flat in mine.flats:
                flat.fill({n: self.initial(mine, n) for n in flat.state})
                flat.write_all([values[id(p)] for p in flat.params])

    def __reduce__(self) -> Any:
        # For copy.deepcopy and pickle: the copy lays the copied parameters into buffers of its own.
        known = {*self.defaults, "params", "initial_lr"}
        groups = [{k: v for k, v in group.items() if k in known} for group in self.param_groups]
        return _rebuild, (type(self), groups, self.state_dict(), self.master_weights)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _rebuild(
    cls: Callable[..., Optimizer], groups: list[dict[str, Any]], state: dict[str, Any], master_weights: bool = False
) -> Optimizer:
    optimizer = cls(groups, master_weights=True) if master_weights else cls(groups)
    optimizer.load_state_dict(state)
    return optimizer


# ---------------------------------------------------------------------------------------------------------------------
# checks


def require(name: str, group: dict[str, Any], key: str, holds: Callable[[Any], bool], rule: str) -> None:
    """Raise unless group[key] is a number that obeys the rule; a group without the key passes."""
    if key not in group:
        return
    value = group[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        as_constant(name, key, value)
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            value = float(value)  # NumPy's scalars and Tensors of one element
        except (TypeError, ValueError):
            raise DTypeError(f"{name}: {key}={_short(value)} is not a number; give a Python float") from None
    if value in (math.inf, -math.inf):
        raise DataError(f"{name}: {key}={value} is not finite; it {rule}")
    if not holds(value):  # also catches NaN
        raise DataError(f"{name}: {key}={value} is out of range; it {rule}")


def require_betas(name: str, group: dict[str, Any]) -> None:
    """Raise unless betas are two numbers in [0, 1)."""
    betas = group["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise DataError(f"{name}: betas={_short(betas)} are not two numbers; give a pair such as (0.9, 0.999)")
    for i, value in enumerate(betas):
        require(name, {f"betas[{i}]": value}, f"betas[{i}]", lambda v: 0 <= v < 1, "must be in [0, 1)")


def _as_groups(name: str, params: Any) -> list[dict[str, Any]]:
    if isinstance(params, Tensor):
        raise DTypeError(f"{name}: parameters are given as a list; pass [tensor] or model.parameters()")
    try:
        items = list(params)
    except TypeError:
        raise DTypeError(f"{name}: {_short(params)} is not a list of parameters; pass model.parameters()") from None
    if not items:
        raise DataError(f"{name}: the list of parameters is empty; pass model.parameters()")
    return items if isinstance(items[0], dict) else [{"params": items}]


def _check_parameter(name: str, p: Any) -> None:
    if not isinstance(p, Tensor):
        raise DTypeError(f"{name}: a {type(p).__name__} is not a parameter; pass Tensors, such as model.parameters()")
    if p.node is not None:
        raise DataError(f"{name}: a computed Tensor of shape {list(p.shape)} cannot be optimised; pass leaves")
    if not is_floating(p.dtype):
        raise DTypeError(f"{name}: a parameter of {p.dtype} has no gradient; pass floating-point Tensors")


def _host(value: Any) -> Any:
    """A state value as a host array."""
    if isinstance(value, Tensor):
        return value.device.backend.to_host(value.array)
    return tensor(value, device="cpu").array


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
