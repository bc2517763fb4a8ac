"""Parameters side by side in one buffer, so that one launch updates them all.

A Flat holds the parameters of one group that share dtype and device. Each starts at a multiple of 256 bytes; the
padding is zero. The parameters become views of the buffer, gradients and optimiser state are buffers of that layout,
and backward writes a parameter's first gradient straight into its place (`extra["grad_buffer"]`). 16-bit parameters may
have a float32 master copy, which the updates read and write; the parameters are then its rounded copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from ..core.dtypes import float32, float64, is_half
from ..core.modes import modes
from ..core.tensor import GradBuffer, Tensor

ALIGNMENT = 256  # bytes; what cuBLASLt's heuristics assume, and whole cache lines on a CPU

_history = count(1)
Launch = Callable[[], None]


class FlatGrad(GradBuffer):
    """A parameter's place in the flat gradient buffer `flat[start:end]`, padding included."""

    __slots__ = ("end", "flat", "start")

    def __init__(self, flat: Any, start: int, end: int, shape: tuple[int, ...], size: int, device: Any):
        super().__init__(flat[start : start + size].reshape(shape), device)
        self.flat = flat
        self.start = start
        self.end = end

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return Tensor(self.array.copy(), self.device)  # a copy has no place in the buffer

    def __reduce__(self) -> Any:
        return Tensor, (self.array.copy(), self.device)


class Flat:
    """The flat buffers of some parameters of one dtype on one device, and the launches that update them."""

    def __init__(self, params: Sequence[Any], master_weights: bool = False):
        self.params = list(params)
        self.device = params[0].device
        self.dtype = params[0].dtype
        step = ALIGNMENT // self.dtype.itemsize
        self.starts: list[int] = []
        end = 0
        for p in params:
            self.starts.append(end)
            end += -(-p.size // step) * step
        self.ends = [*self.starts[1:], end]
        self.param = self.zeros(self.dtype)
        self.grad = self.zeros(self.dtype)
        self.master: Any = self.zeros(float32) if master_weights and is_half(self.dtype) else None
        self.seen = [-1] * len(params)  # the versions of the parameters that the master copy stands for
        self.state: dict[str, Any] = {}
        self.names: tuple[str | None, ...] = ()  # state in the order of the update's arguments
        self.switches: dict[str, bool] | None = None
        self.steps = zeros(self.device, len(params), float64)
        # Parameters with one number here have been in the same updates since the beginning, so their step counts are
        # equal on the device too, skipped steps included.
        self.histories = [0] * len(params)
        self.generation = 0  # changes when launches do: other histories, state or switches
        self.make_launch: Callable[..., Launch]
        self._runs: dict[tuple[int, int], Launch] = {}
        self.whole: Launch | None = None  # the launch for all parameters, while their histories are equal
        self._adopt()

    def zeros(self, dtype: Any) -> Any:
        """A zero-filled buffer as long as the parameters with their padding, at an aligned address."""
        return zeros(self.device, self.ends[-1], dtype)

    def _adopt(self) -> None:
        """Copy the parameters into the buffer and make them views of it; gradients that exist wait for the step."""
        self.members: list[tuple[Any, Any, FlatGrad]] = []
        for p, start, end in zip(self.params, self.starts, self.ends):
            view = self.param[start : start + p.size].reshape(p.shape)
            self.device.backend.write(view, ..., p.array)
            p.array = view
            if p._version_cell is None:
                p._version_cell = [0]
            buffer = FlatGrad(self.grad, start, end, p.shape, p.size, self.device)
            p._extra = p._extra or {}
            p._extra["grad_buffer"] = buffer
            self.members.append((p, view, buffer))

    def plan(
        self, names: tuple[str | None, ...], switches: dict[str, bool], make_launch: Callable[..., Launch]
    ) -> None:
        """Allocate the state that is named, in the order of the update's arguments, and forget old launches."""
        self.names = names
        self.switches = switches
        for name in names:
            if name is not None and name not in self.state:
                self.state[name] = self.zeros(self.dtype if self.master is None else float32)
        self.make_launch = make_launch
        self.forget()

    def forget(self) -> None:
        """Make the launches anew: histories or state changed."""
        self.generation += 1
        self._runs = {}
        last = len(self.params) - 1
        self.whole = self._run(0, last) if self.histories.count(self.histories[0]) == last + 1 else None

    def _run(self, i: int, j: int) -> Launch:
        """The launch that updates parameters i to j."""
        launch = self._runs.get((i, j))
        if launch is None:
            span = slice(self.starts[i], self.ends[j])
            arrays = [self.param[span], self.grad[span]]
            arrays += [None if name is None else self.state[name][span] for name in self.names]
            master = None if self.master is None else self.master[span]
            launch = self._runs[i, j] = self.make_launch(arrays, self.steps, first=i, count=j - i + 1, master=master)
        return launch

    def has_moved(self) -> bool:
        """True when a parameter is no longer a view of the buffer."""
        for p, view, _ in self.members:  # noqa: SIM110  (any() over a generator takes three times as long)
            if p.array is not view:
                return True
        return False

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        if modes.recorder is not None:
            modes.recorder.steps(self)
        if self.master is None:
            return self._step()
        if modes.recorder is None:
            self._refresh(self.master)
            self._step()
            self._note_versions()
        else:
            with modes.recorder.paused():
                self._refresh(self.master)
            modes.recorder.each_replay(before=lambda: self._refresh(self.master), after=self._note_versions)
            self._step()
            self._note_versions()
        return None

    def _note_versions(self) -> None:
        self.seen = [p._version_cell[0] for p, _, _ in self.members]

    def settle(self) -> None:
        """Bring the master copy up to the parameters now, not at the next step."""
        if self.master is not None:
            self._refresh(self.master)
            self._note_versions()

    def _refresh(self, master: Any) -> None:
        """Take over what was written into parameters since the last step; elsewhere the master keeps its digits."""
        functions = self.device.functions
        for (p, view, _), start, seen in zip(self.members, self.starts, self.seen):
            if p._version_cell[0] != seen:
                place = master[start : start + p.size].reshape(p.shape)
                same = functions["equal"](functions["astype"](place, dtype=self.dtype), view)
                fresh = functions["where"](same, place, functions["astype"](view, dtype=float32))
                self.device.backend.write(place, ..., fresh)

    def _step(self) -> None:
        if self.whole is None or modes.recorder is not None:
            return self._step_some()
        for p, _, buffer in self.members:
            if p._grad is not buffer:
                return self._step_some()
        self.whole()
        for p, _, _ in self.members:
            p._version_cell[0] += 1

    def _step_some(self) -> None:
        """The general case: gradients that are missing or lie elsewhere, step counts that differ."""
        moving = []
        for i, (p, _, buffer) in enumerate(self.members):
            if modes.recorder is not None:
                modes.recorder.consults(p)
            if p._grad is None:
                continue
            moving.append(i)
            if p._grad is not buffer:
                p.device.backend.write(buffer.array, ..., p._grad.array)
                buffer._bump_version()
        for i, j in self._spans(moving):
            self._run(i, j)()
        for i in moving:
            self.members[i][0]._bump_version()
        if len(moving) < len(self.params) and moving:
            self._part(moving)

    def _spans(self, moving: list[int]) -> list[tuple[int, int]]:
        """Neighbours with the same history as (first, last)."""
        spans: list[tuple[int, int]] = []
        for i in moving:
            if spans and spans[-1][1] == i - 1 and self.histories[i] == self.histories[i - 1]:
                spans[-1] = (spans[-1][0], i)
            else:
                spans.append((i, i))
        return spans

    def _part(self, moving: list[int]) -> None:
        """Give those that were updated a new history where others of the same history were not."""
        moved = set(moving)
        stayed = {self.histories[i] for i in range(len(self.params)) if i not in moved}
        fresh: dict[int, int] = {}
        for i in moving:
            old = self.histories[i]
            if old in stayed:
                if old not in fresh:
                    fresh[old] = next(_history)
                self.histories[i] = fresh[old]
        if fresh:
            self.whole = None
            self.generation += 1

    # state of single parameters --------------------------------------------------------------------------------------

    def _places(self, i: int) -> dict[str, Any]:
        p = self.params[i]
        span = slice(self.starts[i], self.starts[i] + p.size)
        buffers = {name: self.state[name] for name in self.names if name is not None}
        if self.master is not None:
            buffers["master"] = self.master
        return {name: buffer[span].reshape(p.shape) for name, buffer in buffers.items()}

    def digits(self, i: int) -> dict[str, Any]:
        """What a master copy of parameter i begins with if the parameter was float32 here and has been cast since."""
        if self.dtype != float32:
            return {}
        place = self.param[self.starts[i] : self.starts[i] + self.params[i].size]
        return {"master": Tensor(place.reshape(self.params[i].shape), self.device)}

    def fill(self, values: dict[str, float]) -> None:
        """Set state buffers to a number, the master copy to the parameters, and all step counts to zero."""
        write = self.device.backend.write
        for name, value in values.items():
            write(self.state[name], ..., value)
        if self.master is not None:
            write(self.master, ..., self.device.functions["astype"](self.param, dtype=float32))
            self.seen = [-1] * len(self.params)
        write(self.steps, ..., 0)
        self.histories = [0] * len(self.params)
        self.forget()

    def read_all(self) -> list[tuple[Any, dict[str, Any]]]:
        """Each parameter with its state: Tensors that share memory, and "step". Waits for the device."""
        steps = self.device.backend.to_host(self.steps).tolist()
        return [
            (p, {"step": steps[i], **{n: Tensor(a, self.device) for n, a in self._places(i).items()}})
            for i, p in enumerate(self.params)
        ]

    def write_all(self, values: Sequence[dict[str, Any]]) -> None:
        """Set step counts and state from what `read_all` gave, or from host arrays; empty: leave as it is."""
        known: dict[float, int] = {}
        for i, given in enumerate(values):
            step = given.get("step", 0.0)
            self.device.backend.write(self.steps, i, step)
            self.histories[i] = known.setdefault(step, next(_history))
            for name, place in self._places(i).items():
                value = given.get(name)
                if value is not None:
                    host = value.device.backend.to_host(value.array) if isinstance(value, Tensor) else value
                    value = self.device.functions["astype"](self.device.backend.from_host(host), dtype=place.dtype)
                    self.device.backend.write(place, ..., value)
        self.forget()


def bind(name: str, hyper: Any, attrs: dict[str, Any], device: Any) -> Callable[..., Launch]:
    """A maker of launches of the backend's update `name`, each a call without arguments."""

    def make_launch(arrays: list[Any], steps: Any, **run: Any) -> Launch:
        fixed: tuple[Any, Launch] | None = None

        def launch() -> None:
            nonlocal fixed
            function = device.functions[name]  # at every launch: a capture puts its own functions in their places
            if fixed is None or fixed[0] is not function:
                bind = getattr(function, "bind", None) or partial(partial, function)
                fixed = function, bind(*arrays, hyper, steps, **run, **attrs)
            fixed[1]()

        return launch

    return make_launch


def zeros(device: Any, n: int, dtype: Any) -> Any:
    """n zeros that start at a multiple of ALIGNMENT bytes."""
    spare = ALIGNMENT // dtype.itemsize
    array = device.backend.empty((n + spare,), dtype)
    device.backend.write(array, ..., 0)
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    skip = -interface["data"][0] % ALIGNMENT // dtype.itemsize
    return array[skip : skip + n]
