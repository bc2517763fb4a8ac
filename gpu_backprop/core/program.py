"""A Program: recorded calls, bound to memory of their own, that run again in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.base import in_turn
from .attributes import Accesses, Needs
from .calls import Call, Slot, Value, address_of, replaced, span_of
from .devices import Device
from .errors import DeviceError
from .modes import Attributes, modes
from .planning import ALIGNMENT, Plan, plan
from .recording import Recorder
from .tensor import Tensor


class Program:
    """What a captured function did for one signature.

    Made of a Recorder whose function has returned, and built of the same; `outputs` are Slots, or arrays outside, with
    their devices; `level` says which rewrites are allowed (rewrites.py).
    """

    plan: Plan
    is_suspect = False  # may it be that the function does something else by now?
    recorder: Recorder | None = None  # kept where a later call may have to do the same (repetition.py)

    def __init__(self, recorder: Recorder):
        self._keep_state(recorder)

    @property
    def is_built(self) -> bool:
        """Can it run? Without memory it only says what it would need, until a second call has done the same."""
        return hasattr(self, "plan")

    def build(self, recorder: Recorder, inputs: list[Slot], outputs: list[tuple[Any, Device]], level: str) -> None:
        """Plan and take memory."""
        self.plan = plan(recorder.calls, inputs, [ref for ref, _ in outputs], level)
        self._lock = threading.Lock()
        self._memory: dict[Device, Any] = {}
        self._starts: dict[tuple[Any, Device], Any] = {}  # where each generator is before a replay, on a device
        self._views: dict[Value, list[Any]] = {slot.value: [] for slot in inputs}  # of the memory of arguments
        places = [self._array(slot) for slot in inputs]
        for views in self._views.values():
            views.clear()
        for call in self.plan.once:
            self._bound(call)()
        self._calls = [self._bound(call) for call in self.plan.calls]
        self._run = self._executor()
        self._outputs = [(device.backend.copier(self._array(ref)), device) for ref, device in outputs]
        self._fill = [
            slot.value.device.backend.filler(
                place, self._views[slot.value] if self._is_own(slot) else [place], self._calls
            )
            for slot, place in zip(inputs, places)
        ]
        del self._views

    # memory ----------------------------------------------------------------------------------------------------------

    def _own(self, device: Device) -> Any:
        """The Program's own memory on a device, at an aligned address."""
        if device not in self._memory:
            try:
                raw = device.backend.empty((self.plan.nbytes + ALIGNMENT,), np.dtype(np.uint8))
            except (MemoryError, DeviceError) as error:
                raise DeviceError(
                    f"capture: no room for the {self.plan.nbytes:,} bytes of a Program on {device} ({error}); use a "
                    "smaller batch, lower max_programs, or call the function without capture"
                ) from None
            skip = -address_of(raw) % ALIGNMENT
            self._memory[device] = raw[skip : skip + self.plan.nbytes]
        return self._memory[device]

    def _array(self, ref: Any) -> Any:
        """The array that a Slot is from now on; arrays outside as they are."""
        if not isinstance(ref, Slot):
            return ref
        value, backend = ref.value, ref.value.device.backend
        storage = self.plan.storages.get(value)
        if storage is None:  # an argument that nothing reads
            return backend.empty(ref.shape, ref.dtype)
        if storage.kept is None:
            memory, start = self._own(value.device), storage.offset
        else:  # memory of a Tensor that somebody kept; or the place outside that a copy would go to
            memory = storage.kept
            start = value.address - span_of(memory)[0] if memory is value.owner() else 0
        array = backend.carve(memory, start + ref.offset, ref.shape, ref.dtype, ref.strides)
        self._views.setdefault(value, []).append(array)
        return array

    def _is_own(self, slot: Slot) -> bool:
        """Is its memory the Program's own? Not where somebody kept the argument."""
        storage = self.plan.storages.get(slot.value)
        return storage is not None and storage.kept is None

    def _bound(self, call: Call) -> Callable[[], Any]:
        args, attrs = (replaced(part, lambda p: isinstance(p, Slot), self._array) for part in (call.args, call.attrs))
        results = tuple(None if r is None else self._array(r) for r in call.results)
        if call.draw is not None:
            start, blocks = self._start(call), call.draw.blocks
            if "key" in attrs:
                attrs |= {"key": start, "offset": blocks}
            else:
                args = (start, blocks, *args[2:])
        return call.device.backend.bind(call.name, call.function, args, attrs, results, call.takes_out)

    def _start(self, call: Call) -> Any:
        """Three words on the device of a call that draws; each replay puts there where the generator is.

        So the call has the same arguments every time, as what a CUDA graph repeats must have.
        """
        assert call.draw is not None
        key = call.draw.generator, call.device
        if key not in self._starts:
            self._starts[key] = call.device.backend.empty((3,), np.dtype(np.uint64))
        return self._starts[key]

    def _executor(self) -> Callable[[], Any]:
        """The device's way of making all calls; one by one where there are several devices."""
        places = {call.device for call in self.plan.calls}
        if len(places) != 1:
            return in_turn(self._calls)
        return places.pop().backend.executor(self._calls, [call.name for call in self.plan.calls])

    # what Python has to do -------------------------------------------------------------------------------------------

    def _keep_state(self, recorder: Recorder) -> None:
        leaves = {key: leaf() for key, leaf in recorder.leaves.items() if leaf() is not None}
        self.entry = [(leaf, recorder.entry[key]) for key, leaf in leaves.items() if key in recorder.entry]
        self.exit = [(leaf, leaf._grad) for leaf in leaves.values()]
        alive = [(t, t()) for t in recorder.outside.values() if t() is not None]
        self.outside = [(reference, t.array, t.requires_grad) for reference, t in alive]
        self.flats = [(flat, flat.generation) for flat in recorder.flats]
        self.optimizers = recorder.optimizers
        self.needs = Needs(recorder.accesses)
        recorder.accesses = Accesses()  # which holds what it saw
        self.hooks = [(leaf, _hooks(leaf)) for leaf in leaves.values()]
        self._mark: object = None  # when the two were found to be as they must be
        self.generators = recorder.drawn
        self.renewed = list(dict.fromkeys(recorder.renewed))
        self.before, self.after = recorder.before, recorder.after
        cells = dict(recorder.cells)
        for reference in recorder.made.values():
            tensor = reference()
            if tensor is not None:  # somebody kept it: every replay writes it
                if tensor._version_cell is None:
                    tensor._version_cell = [0]
                cells[id(tensor._version_cell)] = tensor._version_cell
        self.cells = list(cells.values())

    def is_gone(self) -> bool:
        """Can it never fit again?"""
        return (
            any(flat.generation != generation for flat, generation in self.flats)
            or any((tensor := reference()) is None or tensor.array is not array for reference, array, _ in self.outside)
            or self.needs.gone()
        )

    def fits(self) -> bool:
        """Is everything outside as it was when this was recorded?"""
        # loops, not all() over generators, which would take three times as long
        for reference, array, requires_grad in self.outside:
            tensor = reference()
            if tensor is None or tensor.array is not array or tensor.requires_grad is not requires_grad:
                return False
        for flat, generation in self.flats:
            if flat.generation != generation:
                return False
        for optimizer in self.optimizers:
            if optimizer._clip is not None:
                return False
        if Attributes.mark is not self._mark and not self._needs_met():
            return False
        for leaf, grad in self.entry:  # noqa: SIM110
            if leaf._grad is not grad:
                return False
        return True

    def _needs_met(self) -> bool:
        mark = Attributes.mark
        if self.needs.missed() or any(_hooks(leaf) != found for leaf, found in self.hooks):
            return False
        self._mark = mark
        return True

    # running ---------------------------------------------------------------------------------------------------------

    def replay(self, arrays: list[Any]) -> list[Tensor]:
        """Run on other arguments, of the same shapes, dtypes and devices; the outputs are new Tensors."""
        with self._lock:
            for buffer in self.renewed:
                if buffer.lent is not None:  # else nobody could notice
                    buffer.renew()
            for call in self.before:
                call()
            for fill, array in zip(self._fill, arrays):
                fill(array)
            for (generator, device), start in self._starts.items():
                device.plain.functions["start_draws"](start, generator.key, generator.offset)
            try:
                if modes.profile is None:
                    self._run()
                else:
                    modes.profile.replay(self, self.plan.calls, self._calls)
            finally:  # whatever came of it, numbers were drawn and memory was written
                for generator, blocks in self.generators:
                    generator.offset += blocks
                for cell in self.cells:
                    cell[0] += 1
            outputs = [Tensor(copy(), device) for copy, device in self._outputs]
            for leaf, grad in self.exit:
                leaf._grad = grad
            for call in self.after:
                call()
            if self.needs.assigned:
                self.needs.assign()
        return outputs

    # looking at it ---------------------------------------------------------------------------------------------------

    @property
    def stats(self) -> dict[str, Any]:
        """Operations, buffers, bytes with and without sharing; `alloc`: operations that make memory of their own.

        On CUDA also `graph`: whether a replay is one launch, or why it is not.
        """
        calls = self.plan.calls
        return {
            "operations": len(calls),
            "buffers": len(self.plan.buffers),
            "planned_bytes": self.plan.nbytes,
            "unplanned_bytes": self.plan.unplanned,
            "alloc": [call.name for call in calls if call.results and not call.takes_out],
            **({"graph": self._run.state} if hasattr(self._run, "state") else {}),
        }

    def __str__(self) -> str:
        rows = [("", "operation", "result", "memory", "bytes")]
        for number, call in enumerate(self.plan.calls):
            touched = [r for r in call.results or call.writes[:1] if r is not None]
            shapes = ", ".join(f"{r.dtype}{list(r.shape)}" for r in touched)
            places = ", ".join(self._place(r) for r in touched)
            size = sum(r.nbytes for r in touched)
            rows.append((str(number), call.title, shapes, places, f"{size:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            f"{n:>{widths[0]}}  {a:<{widths[1]}}  {b:<{widths[2]}}  {c:<{widths[3]}}  {d:>{widths[4]}}"
            for n, a, b, c, d in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _place(self, ref: Any) -> str:
        if not isinstance(ref, Slot):
            return "outside"
        storage = self.plan.storages[ref.value]
        return "outside" if storage.kept is not None else f"+{storage.offset + ref.offset:,}"


def _hooks(leaf: Tensor) -> tuple[Any, ...]:
    return tuple(leaf._extra.get("hooks", ())) if leaf._extra else ()
