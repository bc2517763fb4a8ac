"""Recording what backends are asked to do, so that it can be done again (capture.py).

While a function is captured, the Devices hand out tables and backends that note every call before its result goes on
its way. What is noted is a list of Calls (calls.py), whose arrays are known by the memory that they view: so views cost
nothing, whoever made them.

What Python does between the calls (whose `.grad` is set, which versions are counted, where random numbers are drawn
from) is told to the Recorder by those who do it, through `modes.recorder`.
"""

from __future__ import annotations

import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import Functions
from ..ops.primitive import PRIMITIVES
from . import devices
from .attributes import Accesses
from .calls import (
    Call,
    Draw,
    Outside,
    Slot,
    Value,
    address_of,
    arrays_in,
    is_array,
    own_name,
    owner_of,
    replaced,
    span_of,
)
from .errors import CaptureError
from .modes import modes
from .tensor import Tensor

_PACKAGE = str(Path(__file__).resolve().parents[1])


def _holds(references: dict[int, Any], x: Tensor) -> bool:
    """Is there a weak reference to this very Tensor, and not to one that had its id before?"""
    reference = references.get(id(x))
    return reference is not None and reference() is x


@dataclass(eq=False)
class Constant:
    """An array whose values came from the host, and what they were."""

    array: Any
    host: np.ndarray
    device: devices.Device
    renewed: bool = False


@dataclass(eq=False)
class Recorder:
    """What one call of a captured function did.

    strict: what a replay could not do is an error; else recording stops there.
    """

    strict: bool = True
    calls: list[Call] = field(default_factory=list)
    leaves: dict[int, Any] = field(default_factory=dict)  # whose `.grad` is set, weakly
    entry: dict[int, Any] = field(default_factory=dict)  # the `.grad` that they must have before, where it matters
    cells: dict[int, list[int]] = field(default_factory=dict)  # version counters of what is written
    outside: dict[int, Any] = field(default_factory=dict)  # Tensors with memory from elsewhere, weakly
    accesses: Accesses = field(default_factory=Accesses)  # to attributes of modules
    generators: dict[int, tuple[Any, int]] = field(default_factory=dict)  # drawn from, and the place before
    renewed: list[Any] = field(default_factory=list)  # gradient buffers that part from what was lent out of them
    before: list[Callable[[], Any]] = field(default_factory=list)
    after: list[Callable[[], Any]] = field(default_factory=list)
    flats: list[Any] = field(default_factory=list)  # of the optimisers that stepped (optim/flat.py)
    optimizers: list[Any] = field(default_factory=list)  # that stepped or clipped
    drawn: list[tuple[Any, int]] = field(default_factory=list)  # generators, and how many blocks of each
    results: Any = None  # that the function returned: Slots and arrays, and the nest that they are in
    stopped: str = ""  # why nothing more is recorded

    def __post_init__(self) -> None:
        self.thread = threading.get_ident()
        self.values: dict[int, Value] = {}  # by id of the owner
        self.made: dict[int, Any] = {}  # weak references to Tensors made while recording
        self._foreign: dict[int, tuple[Any, str]] = {}  # owners of memory outside, and which call met them first
        self._constants: dict[int, Constant] = {}  # by the owners among them whose values came from the host
        self._gone: list[str] = []  # calls that met owners which are no more
        self._places: dict[tuple[Any, int], Draw] = {}

    # what it is told by the engine -----------------------------------------------------------------------------------

    def saw(self, name: str, out: Tensor, inputs: Sequence[Any], _: bool) -> None:
        """A primitive ran (modes.watch)."""
        for x in inputs:
            if isinstance(x, Tensor):
                self.meets(x)
        self.made[id(out)] = weakref.ref(out)

    def meets(self, x: Tensor) -> None:
        """The memory of a Tensor is read or written: if it is from elsewhere, a replay looks whether it still is."""
        if id(owner_of(x.array)) not in self.values and not _holds(self.outside, x):
            self.outside[id(x)] = weakref.ref(x)

    def consults(self, leaf: Tensor) -> None:
        """What happens next depends on `leaf._grad`, and may set it."""
        if not _holds(self.leaves, leaf):
            self.leaves[id(leaf)] = weakref.ref(leaf)
            self.entry[id(leaf)] = leaf._grad

    def replace_grads(self, leaves: Sequence[Tensor]) -> None:
        """`.grad` is set, whatever it was."""
        for leaf in leaves:
            if not _holds(self.leaves, leaf):
                self.leaves[id(leaf)] = weakref.ref(leaf)
                self.entry.pop(id(leaf), None)

    def keeps_grad(self, leaf: Tensor) -> bool:
        """Was the `.grad` that a leaf has now there before? Then what is added to it goes into its memory."""
        grad = leaf._grad
        if not _holds(self.leaves, leaf) or self.entry.get(id(leaf)) is not grad or grad is None:
            return False
        return (
            not grad.requires_grad
            and grad.array.dtype == leaf.array.dtype
            and bool(grad.array.flags.c_contiguous)
            and grad.device.backend.is_writable(grad.array)
        )

    def steps(self, flat: Any) -> None:
        """A flat buffer's parameters are updated, by launches that hold until its `generation` changes."""
        again = flat in self.flats
        if not again:
            self.flats.append(flat)
        if flat.master is not None:
            cells = [p._version_cell for p in flat.params]
            if flat.seen != [cell[0] for cell in cells] if again else any(id(cell) in self.cells for cell in cells):
                self.refuse(_MASTER)

    def clips(self, optimizer: Any) -> None:
        """An optimiser clips, or takes back a clipping."""
        if optimizer not in self.optimizers:
            self.optimizers.append(optimizer)
            if optimizer._clip is not None:
                self.refuse(
                    "clip_grad_norm was called outside of the captured function for a step inside, and a replay would "
                    "not take it back; clip inside, beside the step"
                )

    def goes_to(self, generator: Any, place: Any) -> None:
        """A generator goes to another place: back to where it was in this call, or it is refused."""
        key, offset = place
        start = self.generators.get(id(generator), (generator, generator.offset))[1]
        if key != generator.key or offset < start:
            self.refuse("set_state: a captured function would draw the same at every call; set the state outside")

    def bumped(self, cell: list[int]) -> None:
        self.cells[id(cell)] = cell

    def draws(self, generator: Any) -> None:
        """The next random numbers come from the generator's present place."""
        _, start = self.generators.setdefault(id(generator), (generator, generator.offset))
        self._places[generator.key, generator.offset] = Draw(generator, generator.offset - start)

    def each_replay(self, before: Callable[[], Any] | None = None, after: Callable[[], Any] | None = None) -> None:
        """What Python must do at every replay, before or after its calls."""
        if before is not None and before not in self.before:
            self.before.append(before)
        if after is not None and after not in self.after:
            self.after.append(after)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls inside are made, and not recorded."""
        thread, self.thread = self.thread, -1
        recorder, modes.recorder = modes.recorder, None
        try:
            yield
        finally:
            self.thread, modes.recorder = thread, recorder

    # what it is told by backends -------------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        """Is this the thread that is recorded, and not yet stopped?"""
        return self.thread == threading.get_ident() and not self.stopped

    def needs_value(self, what: str) -> None:
        """Python asked for a value, which a replay could not give it."""
        where = _line_of_the_user()
        reason = (
            f"{what} at {where}: a captured function runs its Python code once, so no value may decide there what "
            "happens next; return the Tensor and look at it outside"
        )
        self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """What was recorded cannot be replayed."""
        if self.strict:
            raise CaptureError(f"capture: {reason}; or capture with strict=False, which goes on eagerly")
        self.stopped = reason

    def position_of(self, array: Any) -> int:
        """Of which argument of the captured function this is memory; -1: of none."""
        value = self.values.get(id(owner_of(array)))
        return -1 if value is None else value.position

    def wrote_argument(self, name: str, position: int) -> None:
        self.refuse(
            f"{name} writes into argument {position} of the captured function at {_line_of_the_user()}; write into a "
            "copy (t.copy()), or into a Tensor from outside"
        )

    def argument(self, array: Any, device: devices.Device, position: int) -> Slot:
        """Memory of an argument, which every replay fills anew."""
        low, high = span_of(array)
        owner = owner_of(array)
        self.values[id(owner)] = Value(self._reference(owner), low, high - low, device, position)
        return self.slot(array, device, "argument")

    def ran(
        self, name: str, function: Callable[..., Any], device: devices.Device, args: Any, attrs: Any, result: Any
    ) -> None:
        """A call is over."""
        if name.startswith("getitem") and any(is_array(a) and a.dtype.kind == "b" for a in args[1:]):
            return self.needs_value("indexing by a mask, whose result has as many rows as the mask has True values,")
        if name in PRIMITIVES and PRIMITIVES[name].gives == "counted":
            return self.needs_value(f"{name}, whose result is as long as the values make it,")
        attrs = dict(attrs)
        out = attrs.pop("out", None)
        call = Call(
            name, function, device, self._slots(args, device, name), self._slots(attrs, device, name),
            scope=modes.scope, backward=modes.backward,
        )  # fmt: skip
        if name in _DRAWING:
            self._mark_draw(call)
        if name.endswith("_update") or name == "write":
            call.writes = tuple(arrays_in(call.args if name != "write" else call.args[:1]))
        elif name in PRIMITIVES and PRIMITIVES[name].writes:
            call.writes = tuple(call.args[i] for i in PRIMITIVES[name].writes if call.args[i] is not None)
        if out is not None:
            call.results, call.takes_out = tuple(arrays_in(self._slots(out, device, name))), True
            call.writes += call.results
        elif result is not None:
            arrays = result if isinstance(result, tuple) else (result,)
            call.results = self._made(arrays, device, name)
            if not any(isinstance(r, Slot) for r in call.results):
                owners = [owner_of(a) for a in args if is_array(a)]
                if all(any(owner_of(a) is owner for owner in owners) for a in arrays):
                    return None  # views of what is there already
                return self.refuse(
                    f"{name} gives its result in an array that it has used before; have it make a new one at every call"
                )
            primitive = PRIMITIVES.get(name)
            call.takes_out = (
                primitive is not None
                and primitive.gives == "out"
                and all(isinstance(r, Slot) and r.is_contiguous for r in call.results)
            )
        for written in call.writes:
            if isinstance(written, Slot) and written.value.position >= 0:
                return self.wrote_argument(name, written.value.position)
        self.calls.append(call)
        return None

    def made_empty(self, array: Any, device: devices.Device) -> None:
        """Memory that calls will fill."""
        self._made((array,), device, "empty")

    def _made(self, arrays: Sequence[Any], device: devices.Device, name: str) -> tuple[Any, ...]:
        """Slots for results; None for those that view memory that is known already."""
        fresh: dict[int, list[Any]] = {}
        for array in arrays:
            owner = owner_of(array)
            if id(owner) not in self.values and not self._is_foreign(owner):
                fresh.setdefault(id(owner), []).append(array)
        for key, group in fresh.items():
            spans = [span_of(array) for array in group]
            low, high = min(low for low, _ in spans), max(high for _, high in spans)
            self.values[key] = Value(self._reference(owner_of(group[0])), low, high - low, device)
        return tuple(self.slot(a, device, name) if id(owner_of(a)) in fresh else None for a in arrays)

    def _reference(self, owner: Any) -> Any:
        """A weak reference; when the owner goes, its id may become another's."""
        key = id(owner)

        def forget(_: Any) -> None:
            self.values.pop(key, None)

        return weakref.ref(owner, forget)

    def _slots(self, part: Any, device: devices.Device, name: str) -> Any:
        """Arguments with Slots and Outsides in the places of arrays."""
        return replaced(part, is_array, lambda array: self.slot(array, device, name))

    def slot(self, array: Any, device: devices.Device, name: str) -> Any:
        """What stands for an array of the call `name`."""
        owner = owner_of(array)
        value = self.values.get(id(owner))
        if value is not None:
            low, high = span_of(array)
            if low < value.address or high > value.address + value.nbytes:
                raise CaptureError(f"capture: {name} reads memory that no recorded operation filled")
            return Slot(value, address_of(array) - value.address, array.shape, array.dtype, array.strides)
        if not self._is_foreign(owner):
            if not isinstance(owner, device.array_type):  # memory of another library, which its array keeps
                self._foreign[id(owner)] = (lambda: owner), name
            else:
                self._foreign[id(owner)] = weakref.ref(owner), name
        if not isinstance(owner, device.array_type):
            return array
        offset = address_of(array) - span_of(owner)[0]
        return Outside(self._foreign[id(owner)][0], device, offset, array.shape, array.dtype, array.strides)

    def _is_foreign(self, owner: Any) -> bool:
        known, name = self._foreign.get(id(owner), (None, ""))
        if known is not None and known() is None:
            del self._foreign[id(owner)]  # another has its id now
            self._gone.append(name)
        return known is not None and known() is owner

    def constant(self, array: Any, host: np.ndarray, device: devices.Device) -> None:
        """Memory that has the same values at the beginning of every replay: kept."""
        owner = owner_of(array)
        self._foreign[id(owner)] = (lambda: owner), "from_host"
        self._constants[id(owner)] = Constant(array, np.array(host), device)

    def constant_behind(self, array: Any) -> Constant | None:
        """By address, for an array that was carved out of CuPy's memory has no base."""
        address = address_of(array)
        spans = ((constant, span_of(constant.array)) for constant in self._constants.values())
        return next((constant for constant, (low, high) in spans if low <= address < max(high, low + 1)), None)

    def _renew_constants(self) -> None:
        """What calls write into constants, a replay takes back before."""
        for call in self.calls:
            for written in arrays_in((call.args, call.attrs) if call.is_own else call.writes):
                constant = self._constants.get(id(written.owner())) if isinstance(written, Outside) else None
                if constant is not None and not constant.renewed:
                    constant.renewed = True
                    backend = constant.device.plain.backend
                    self.before.append(partial(backend.write, constant.array, ..., backend.from_host(constant.host)))

    def _mark_draw(self, call: Call) -> None:
        """Find the generator whose numbers a call draws."""
        place = (call.attrs["key"], call.attrs["offset"]) if "key" in call.attrs else (call.args[0], call.args[1])
        call.draw = self._places.get(place)

    # the end ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Put arrays in the places of Outsides; CaptureError when their memory is gone.

        A replay would read what eager code would not.
        """
        for flat in self.flats:
            if flat.master is not None and flat.seen != [p._version_cell[0] for p in flat.params]:
                return self.refuse(_MASTER)
        self.drawn = [(generator, generator.offset - start) for generator, start in self.generators.values()]
        for old, name in self.accesses.replaced():
            if _holds(self.outside, old):
                return self.refuse(
                    f"{name} is read and then replaced, and a replay would read the old one again; write into it "
                    "(t.copy_(...)), or pass it as an argument and return the new one"
                )
        self._renew_constants()
        gone = self._gone + [name for owner, name in self._foreign.values() if owner() is None]
        if gone:
            return self.refuse(
                f"an array that {gone[0]} reads was replaced or dropped while the function ran, so the next "
                "call would read an old one; write into a Tensor that stays (t.copy_(...)), or pass it as an "
                "argument and return the new one"
            )

        for call in self.calls:
            call.args, call.attrs, call.results, call.writes = (
                replaced(part, lambda p: isinstance(p, Outside), Outside.array)
                for part in (call.args, call.attrs, call.results, call.writes)
            )
        return None

    @contextmanager
    def at_work(self) -> Iterator[Recorder]:
        """This thread's calls are recorded inside."""
        watch = modes.watch
        with devices.layer(self._dress), self.accesses.noted():
            try:
                modes.recorder, modes.watch = self, self.saw
                yield self
            finally:
                modes.recorder, modes.watch = None, watch

    def _dress(self, device: devices.Device, below: devices.Tables) -> devices.Tables:
        plain = device.plain
        functions = _Functions(self, device, below.functions, plain.functions)
        native = functions if below.native is below.functions else _Functions(self, device, below.native, plain.native)
        return devices.Tables(functions, native, _Backend(self, device, below.backend))  # type: ignore[arg-type]


_MASTER = (
    "a 16-bit parameter that has a float32 master copy is written inside the captured function, and the master would "
    "not hear of it at a replay; write it between the calls"
)
_DRAWING = frozenset(
    ("dropout", "random_words", "random_uniform", "random_normal", "random_integers", "random_permutation")
)


def _line_of_the_user() -> str:
    """File, line and text of the innermost frame outside this package."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_PACKAGE):
            return f"{Path(frame.filename).name}:{frame.lineno} ({frame.line})"
    return "an unknown line"


class _Functions(Functions):
    """A device's functions, each call noted: those `below` are called, the `plain` ones are what a replay calls."""

    def __init__(self, recorder: Recorder, device: devices.Device, below: Functions, plain: Functions):
        super().__init__(lambda name: self._noting(name, below[name], plain[name]))
        self._recorder = recorder
        self._device = device

    def _noting(self, name: str, function: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
        recorder, device = self._recorder, self._device

        def run(*args: Any, **attrs: Any) -> Any:
            result = function(*args, **attrs)
            if recorder.listens:
                result = _as_arrays(result, device)
                recorder.ran(name, plain, device, args, attrs, result)
            return result

        return run


def _as_arrays(result: Any, device: devices.Device) -> Any:
    """Results as arrays, where a function gave NumPy's scalars."""
    if isinstance(result, tuple):
        return tuple(_as_arrays(r, device) for r in result)
    return result if result is None or type(result) is device.array_type else device.backend.xp.asarray(result)


class _Backend:
    """A backend, everything that makes or fills arrays noted, and everything that needs their values refused."""

    def __init__(self, recorder: Recorder, device: devices.Device, backend: Any):
        self._recorder = recorder
        self._device = device
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, forward: Callable[..., Any], arrays: Any, attrs: Any) -> Any:
        recorder = self._recorder
        ours = [a for a in arrays if is_array(a) and recorder.listens and recorder.position_of(a) >= 0]
        before = [a.tobytes() for a in ours]
        result = self._backend.run(forward, arrays, attrs)
        for array, was in zip(ours, before):
            if array.tobytes() != was:
                recorder.wrote_argument(own_name(forward), recorder.position_of(array))
        if recorder.listens:
            result = _as_arrays(result, self._device)
            name, plain = own_name(forward), self._device.plain.backend

            def function(*args: Any, **attrs: Any) -> Any:
                return plain.run(forward, args, attrs)

            recorder.ran(name, function, self._device, arrays, attrs, result)
        return result

    def write(self, array: Any, index: Any, value: Any) -> None:
        self._backend.write(array, index, value)
        if self._recorder.listens:
            self._recorder.ran("write", self._device.plain.backend.write, self._device, (array, index, value), {}, None)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = self._backend.empty(shape, dtype)
        if self._recorder.listens:
            self._recorder.made_empty(array, self._device)
        return array

    def from_host(self, array: np.ndarray, copy: bool = True) -> Any:
        result = self._backend.from_host(array, copy)
        if self._recorder.listens:
            self._recorder.constant(result, array, self._device)
        return result

    def to_host(self, array: Any) -> np.ndarray:
        if self._recorder.listens:
            self._recorder.needs_value("a value is needed in Python")
        return self._backend.to_host(array)
