"""gb.capture: a function that is recorded once for a signature, and replayed from then on."""

from __future__ import annotations

import copy
import functools
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import devices, dtypes, precision, tree
from .errors import CaptureError, DeviceError
from .modes import modes
from .tensor import Tensor

if TYPE_CHECKING:
    from .program import Program

MOST_ALIKE = 4  # Programs of one signature, which differ in what they need of things outside
LEVELS = ("all", "exact", "none")  # of rewrites.py
_recording = threading.RLock()  # one capture at a time: it changes what Devices hand out


class Captured:
    """A function behind `gb.capture`.

    programs: its Programs, the one used last at the end. eager: signatures that run eagerly, and why.
    """

    def __init__(self, function: Callable[..., Any], max_programs: int, strict: bool, rewrite: str, check: bool):
        self.function = function
        self.max_programs = max_programs
        self.strict = strict
        self.rewrite = rewrite
        self.check = check
        self._programs: OrderedDict[Any, list[tuple[Program, Any]]] = OrderedDict()
        self.eager: dict[Any, str] = {}
        self._last: Program | None = None
        self._recorded = 0
        self._in_vain = 0  # recordings of something new since the last replay
        self._given_up = False
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        functools.update_wrapper(self, function, updated=())

    @property
    def programs(self) -> list[Program]:
        return [program for group in self._programs.values() for program, _ in group]

    @property
    def program(self) -> Program:
        """The Program that ran last; printed, it is a listing."""
        if self._last is None:
            raise CaptureError(f"capture: {_name(self.function)} was not called yet, so there is no Program; call it")
        return self._last

    @property
    def stats(self) -> dict[str, Any]:
        """Of the Program that ran last: operations, buffers, planned_bytes, unplanned_bytes, alloc."""
        return self.program.stats

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # inside another capture, which records this; or somebody watches every operation; or it was in vain
        if modes.watch is not None or self._given_up:
            return self.function(*args, **kwargs)
        leaves: list[Tensor] = []
        key = self._signature(args, kwargs, leaves)
        again = None
        for program, form in self._programs.get(key, ()):
            if program.fits():
                if program.is_suspect or not program.is_built:
                    again = program
                    break
                if program is not self._last:
                    self._use(key, program)
                self._in_vain = 0
                return form(program.replay([t.array for t in leaves]))
        if key in self.eager:
            return self.function(*args, **kwargs)
        if modes.grad and any(t.requires_grad for t in leaves):
            reason = (
                f"an argument of {_name(self.function)} requires grad, and no gradient flows through a captured "
                "function; capture the function that computes the gradient too, or give the argument detached"
            )
            if self.strict:
                raise CaptureError(f"capture: {reason}")
            self._goes_eagerly(key, reason)
            return self.function(*args, **kwargs)
        return self._record(key, args, kwargs, leaves, again)

    def _use(self, key: Any, program: Program) -> None:
        """Note that a Program was used last."""
        with self._lock:
            if key in self._programs:  # another thread may have let it go
                self._programs[key].sort(key=lambda pair: pair[0] is program)
                self._programs.move_to_end(key)
            self._last = program

    def check_again(self) -> None:
        """Look whether the next calls still do the same, for somebody may have changed anything.

        Raises CaptureError unless the function was captured with check=True.
        """
        if not self.check:
            raise CaptureError(f"check_again: {_name(self.function)} is not checked; use gb.capture(..., check=True)")
        for program in self.programs:
            program.is_suspect = True

    def _forget(self, key: Any, program: Program | None) -> None:
        """Let a Program go, or all."""
        with self._lock:
            if program is None:
                self._programs.clear()
            else:
                self._programs[key] = [pair for pair in self._programs.get(key, ()) if pair[0] is not program]

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(f"capture: {_name(self.function)} {message}", stacklevel=5)

    def _goes_eagerly(self, key: Any, reason: str) -> None:
        self.eager[key] = reason
        warnings.warn(f"capture: {_name(self.function)} runs eagerly: {reason}", stacklevel=4)

    def _signature(self, args: Any, kwargs: Any, leaves: list[Tensor]) -> Any:
        # ids and numbers: hashing a Device or a dtype takes longer than all the rest
        parts: list[Any] = [
            modes.grad, dtypes.get_default_dtype().num, id(devices.chosen()), precision.get_matmul_precision(),
        ]  # fmt: skip
        for i, part in enumerate(args):
            parts.append(_describe(part, leaves, self.function, i))
        for name, part in kwargs.items():
            parts += name, _describe(part, leaves, self.function, name)
        return tuple(parts)

    def _record(self, key: Any, args: Any, kwargs: Any, leaves: list[Tensor], again: Program | None) -> Any:
        """Run the function and make a Program of what it does; `again`: which should be what that Program does."""
        with _recording:
            from .calls import Outside
            from .program import Program  # with what it needs, costs as much as the rest of the package
            from .recording import Recorder
            from .repetition import difference

            recorder = Recorder(self.strict)
            _, rebuild = tree.flatten((args, kwargs))
            stems = [_fresh(t) for t in leaves]
            slots = [recorder.argument(stem.array, stem.device, i) for i, stem in enumerate(stems)]
            own_args, own_kwargs = rebuild(stems)
            with recorder.at_work():
                result = self.function(*own_args, **own_kwargs)
            for i, g in [(i, stem._grad) for i, stem in enumerate(stems) if stem._grad is not None]:
                recorder.refuse(
                    f"backward() inside {_name(self.function)} leaves a gradient in argument {i}, which only its "
                    "first caller would see; return gb.grad(...) of it, or give it detached"
                )
                leaves[i]._grad = g
            if isinstance(result, Iterator):
                recorder.refuse(f"{_name(self.function)} returns an iterator, which runs later; return its values")
            outputs, form = tree.flatten(result)
            if any(t.node is not None and t.node.saved is not None for t in outputs):
                self._warn_once(
                    "returns Tensors off the tape, so no gradient flows through it; call it inside gb.no_grad(), or "
                    "capture the function that calls backward too"
                )
            refs = [(recorder.slot(t.array, t.device, "return"), t.device) for t in outputs]
            values = [Tensor(t.device.functions["copy"](t.array), t.device) for t in outputs]
            eager = result if recorder.stopped else None
            del result, outputs, own_args, own_kwargs, stems
            # what is alive from here on, somebody has kept
            if not recorder.stopped:
                recorder.settle()
            if recorder.stopped:
                self._goes_eagerly(key, recorder.stopped)
                return form(values) if eager is None else eager
            refs = [(ref.array() if isinstance(ref, Outside) else ref, device) for ref, device in refs]
            recorder.results = [ref for ref, _ in refs], form(list(range(len(refs))))
            program = Program(recorder)
            if again is not None:
                other = difference(again.recorder, recorder)  # type: ignore[arg-type]
                self._forget(key, None if other else again)
                if other and not again.is_suspect:
                    recorder.refuse(
                        f"{_name(self.function)} did not do the same at its second call: {other}; give what varies as "
                        "a Tensor among the arguments, or draw it from gb.random"
                    )
                    self._given_up = True
                    self._goes_eagerly(key, recorder.stopped)
                    return form(values)
                if other:  # it is the first one of its kind
                    again = None
            if self.check:
                program.recorder = recorder
            try:
                if again is not None or not self.check:
                    program.build(recorder, slots, refs, self.rewrite)
            except DeviceError as error:
                if self.strict:
                    raise
                self._goes_eagerly(key, str(error))
                return form(values)
        self._keep(key, program, form, again is None)
        return form(values)

    def _keep(self, key: Any, program: Program, form: tree.Form, is_new: bool) -> None:
        """Put a Program among the others; those that are too many go. Tells of too many recordings."""
        with self._lock:
            for known in list(self._programs):
                self._programs[known] = [pair for pair in self._programs[known] if not pair[0].is_gone()]
                if not self._programs[known]:
                    del self._programs[known]
            group = self._programs.setdefault(key, [])
            group.append((program, form))
            del group[:-MOST_ALIKE]
            self._programs.move_to_end(key)
            while len(self.programs) > self.max_programs:
                oldest = next(iter(self._programs))
                self._programs[oldest].pop(0)
                if not self._programs[oldest]:
                    del self._programs[oldest]
            if program.is_built:
                self._last = program
            self._recorded += is_new
            self._in_vain += is_new
        missed = next((m for p, _ in self._programs.get(key, ()) if p is not program and (m := p.needs.missed())), "")
        hint = (
            f"{missed} is another at each call; keep it out of the function, or hold it in a Tensor"
            if missed
            else "give it arguments of fewer shapes and values (numbers as Tensors), or raise max_programs"
        )
        if not self.strict and self._in_vain > 3 * self.max_programs:
            self._given_up = True
            self._warn_once(
                f"runs eagerly from now on: it was recorded {self._in_vain} times without being replayed; {hint}"
            )
        elif self.strict and self._recorded == 3 * self.max_programs:
            self._warn_once(f"was recorded {self._recorded} times, which costs more than it saves; {hint}")

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: dict[int, Any]) -> Captured:
        return Captured(copy.deepcopy(self.function, memo), self.max_programs, self.strict, self.rewrite, self.check)

    def __repr__(self) -> str:
        return f"<captured {_name(self.function)}, {len(self.programs)} programs>"


def capture(
    function: Callable[..., Any] | None = None,
    *,
    max_programs: int = 8,
    strict: bool = True,
    rewrite: str = "all",
    check: bool = False,
) -> Any:
    """`function` (one training step, or a model), recorded at its first call and replayed at every later one.

    A replay does the same operations on the same memory without running any Python of the function: on the CPU a list
    of calls that allocate nothing. It gives new, detached Tensors, with the same bits as the eager function.

    A new signature (shapes, dtypes and devices of the Tensors among the arguments, values of the others, training mode)
    is recorded anew; at most `max_programs` recordings are kept, the least recently used goes first. Tensors that
    the function finds elsewhere (parameters, optimiser state) are read and written where they are. Learning rates, step
    counts and random numbers go on as in eager code. A Tensor that is made inside and kept outside (`self.last = h`) is
    written anew by every replay.

    rewrite: which calls may be replaced by fewer: "all"; "exact", those that keep every bit on every device; or "none".

    check: record the second call of a signature too, and replay only if it did the same; where Python's own counters or
    random numbers make it differ, that is an error as below. For functions that somebody else wrote.

    Raises CaptureError where the function needs a value in Python (`float(t)`, `if t:`), or writes into an argument;
    with `strict=False` such a function goes on eagerly from there, with one warning, and one that is recorded again and
    again without being replayed is left alone in the end. May be used as a decorator. Runs
    eagerly inside gb.debug.detect_anomaly().
    """
    if function is None:
        return functools.partial(capture, max_programs=max_programs, strict=strict, rewrite=rewrite, check=check)
    if not callable(function):
        raise CaptureError(f"capture: a {type(function).__name__} cannot be captured; give a function or a model")
    if isinstance(max_programs, bool) or not isinstance(max_programs, int) or max_programs < 1:
        raise CaptureError(f"capture: max_programs={max_programs!r} is out of range; give an integer of at least 1")
    if rewrite not in LEVELS:
        raise CaptureError(f"capture: rewrite={rewrite!r} is unknown; use {', '.join(map(repr, LEVELS))}")
    return Captured(function, max_programs, strict, rewrite, check)


def _describe(part: Any, leaves: list[Tensor], function: Any, name: Any) -> Any:
    """An argument as something that can be compared, its Tensors added to `leaves`."""
    if isinstance(part, Tensor):
        leaves.append(part)
        array = part.array
        return array.shape, array.strides, array.dtype.num, id(part.device), part.requires_grad
    if isinstance(part, (tuple, list)):
        return type(part), tuple(_describe(p, leaves, function, name) for p in part)
    if isinstance(part, dict):
        return dict, tuple((k, _describe(v, leaves, function, name)) for k, v in part.items())
    if isinstance(part, np.ndarray) or hasattr(part, "__cuda_array_interface__"):
        raise CaptureError(
            f"capture: argument {name} of {_name(function)} is a {type(part).__name__}, whose values would be fixed by "
            "the first call; give a Tensor (gb.asarray(x))"
        )
    try:
        hash(part)
    except TypeError:
        raise CaptureError(
            f"capture: argument {name} of {_name(function)} is a {type(part).__name__}, which cannot be told from "
            "another; give Tensors, numbers, strings, or lists, tuples and dicts of them"
        ) from None
    return type(part), repr(part) if isinstance(part, float) else part  # -0.0 is not 0.0


def _fresh(t: Tensor) -> Tensor:
    """An argument with memory of its own, laid out as it is: sums may round by the order in which elements lie."""
    array, backend = t.array, t.device.backend
    if array.flags.c_contiguous:
        own = t.device.functions["copy"](array)
    else:
        from .calls import address_of, span_of

        low, high = span_of(array)
        memory = backend.empty((high - low,), np.dtype(np.uint8))
        own = backend.carve(memory, address_of(array) - low, array.shape, array.dtype, array.strides)
        backend.write(own, ..., array)
    out = Tensor(own, t.device)
    out.requires_grad = t.requires_grad
    return out


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
