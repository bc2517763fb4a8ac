"""The calls of a Program as one CUDA graph.

The first run makes the calls one by one: kernels are compiled and loaded, algorithms of products chosen, and whatever
else must not happen while a stream captures. The second records them into a graph, under a memory pool of its own:
what functions allocate on the way belongs to the graph, and is given to nobody else while the graph lives. From then on
a run is one launch on the current stream. Calls that cannot be captured are made one by one for good.

A launch of the graph passes every kernel the arguments that it was recorded with. What differs from run to run has to
lie in memory: the hyperparameters and step counts of optimisers, the places of random numbers (kernels/random.cu).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any


class GraphRun:
    """Runs calls that take the same arrays every time.

    machine: a CudaMachine, or what stands in for it: record_graph(run) gives a function that launches what `run` put on
    the stream. before: called before every launch. why_not: why the calls are made one by one, if that is known.
    """

    def __init__(self, machine: Any, calls: Sequence[Callable[[], Any]], before: Callable[[], Any], why_not: str = ""):
        self.machine = machine
        self.calls = calls
        self.before = before
        self.launch: Callable[[], Any] | None = None
        self.warm = False
        self.why_not = why_not

    @property
    def state(self) -> str:
        """For Program.stats."""
        return "launched as one" if self.launch is not None else self.why_not or "not recorded yet"

    def __call__(self) -> None:
        if self.launch is None and self.warm and not self.why_not:
            self._record()
        if self.launch is None:
            self._one_by_one()
            self.warm = True
        else:
            self.before()
            self.launch()

    def _record(self) -> None:
        try:
            self.launch = self.machine.record_graph(self._one_by_one)
        except Exception as error:  # CuPy's refusals, ours, CUDA's, of libraries; a call's own error comes again
            self.why_not = str(error) or type(error).__name__
            warnings.warn(
                f"capture: replays are made call by call, for no CUDA graph could be recorded: {self.why_not}",
                stacklevel=2,
            )

    def _one_by_one(self) -> None:
        for call in self.calls:
            call()
