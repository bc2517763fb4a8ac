"""CUDA graphs played on a device like the emulated one: launches are kept with their arguments, and repeated so.

What runs while a graph is recorded and is no launch of a kernel or of cuBLASLt's is not in the graph, as on CUDA: a
Program that needs it gives other numbers when it is replayed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpu_backprop.backends import gemm
from gpu_backprop.backends.cuda import KernelBackend
from gpu_backprop.backends.emulated_launcher import EmulatedLauncher
from gpu_backprop.core import devices

from ..gemm.bindings import Machine, bindings


class Launcher(EmulatedLauncher):
    graphs: Graphs

    def launch(self, *args: Any) -> None:
        self.graphs.give(super().launch, args)


class Graphs:
    """What stands in for a CudaMachine's graphs, on a device of the name "emulated" that has them.

    count, launches: graphs recorded, and how often one was launched.
    """

    def __init__(self, monkeypatch: Any):
        launcher = Launcher()
        launcher.graphs = self
        self.kept: list[Callable[[], Any]] | None = None  # the launches of the graph that is recorded
        self.memory: list[Any] = []  # of graphs: given to nobody else
        self.descriptors: list[int] = []
        self.count = self.launches = 0
        self.library = gemm.Library(bindings(), Machine())
        self.lt = self.library.lt
        monkeypatch.setattr(self.lt, "matmul", lambda *args, run=self.lt.matmul: self.give(run, args))
        self.backend = KernelBackend("emulated", np, launcher)
        self.machine: Any = self.backend.machine
        self.machine.gemm, self.machine.record_graph = self.library, self.record_graph
        self.machine.cannot_record = lambda names: ""
        self.bind, self.empty = self.backend.bind, self.backend.empty
        monkeypatch.setattr(self.backend, "bind", self.bound)
        monkeypatch.setattr(self.backend, "empty", self.held)
        monkeypatch.setitem(devices._known, "emulated", devices.Device("emulated", self.backend))

    def held(self, shape: Any, dtype: Any) -> Any:
        array = self.empty(shape, dtype)
        if self.kept is not None:
            self.memory.append(array)
        return array

    def bound(self, name: str, function: Any, args: Any, attrs: Any, results: Any, takes_out: bool) -> Any:
        """Backend.bind, where the copy of a result that a function makes anew is a launch, as CuPy's is."""
        if takes_out or len(results) != 1:
            return self.bind(name, function, args, attrs, results, takes_out)
        return lambda: self.give(np.copyto, (results[0], function(*args, **attrs)))

    def give(self, launch: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """A launch is done at once, or kept."""
        if self.kept is None:
            launch(*args)
        else:
            self.kept.append(partial(launch, *map(self.as_now, args)))

    def as_now(self, argument: Any) -> Any:
        """An argument that stays what it is: of a descriptor, a copy."""
        kind, facts = self.lt.alive.get(argument, ("", {})) if isinstance(argument, int) else ("", {})
        if kind != "matmul_desc":
            return argument
        number = next(self.lt.numbers)
        self.lt.alive[number] = kind, copy.copy(facts)
        self.descriptors.append(number)
        return number

    def record_graph(self, run: Callable[[], Any]) -> Callable[[], Any]:
        self.kept = graph = []
        try:
            run()
        finally:
            self.kept = None
        self.count += 1

        def launch() -> None:
            self.launches += 1
            for one in graph:
                one()

        return launch

    def close(self) -> None:
        for number in self.descriptors:
            del self.lt.alive[number]
        self.library.close()
        assert self.lt.alive == {}
