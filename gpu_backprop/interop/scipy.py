"""Functions of Tensors for scipy.optimize, which wants values and gradients as float64 NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.errors import DTypeError, ShapeError
from ..core.gradients import value_and_grad
from ..core.tape import enable_grad, no_grad
from ..core.tensor import Tensor, asarray

__all__ = ["Objective"]


class Objective:
    """What `scipy.optimize.minimize(objective, x0, jac=True)` calls: `objective(x)` gives f(x) and its gradient.

    f: a function of one float64 Tensor of the shape of x, and of SciPy's `args`, that returns a scalar. With
    `parameters` (leaf Tensors that require grad, as of a Module) f takes only `args`, and x is all parameters one
    behind the other: each call writes x into them before it calls f, and leaves their `.grad` None.

        objective = Objective(lambda: loss(model(X), y), model.parameters())
        result = scipy.optimize.minimize(objective, objective.x0, jac=True, method="L-BFGS-B")
        objective.write(result.x)  # the last x that was tried need not be the best

    device: where the Tensor is made that f gets. Raises ShapeError when x does not fit the parameters or f does not
    return a scalar, DTypeError when f returns no Tensor or a complex one.
    """

    def __init__(
        self, f: Callable[..., Tensor], parameters: Iterable[Tensor] | None = None, *, device: Any = None
    ) -> None:
        self.f = f
        self.device = device
        self.parameters = None if parameters is None else list(parameters)
        for p in self.parameters or ():
            if not p.requires_grad or p.node is not None or not dtypes.is_floating(p.dtype):
                raise DTypeError(
                    f"Objective: a parameter of {p.dtype}{list(p.shape)} must be a real leaf that requires grad; "
                    "use gb.tensor(data, requires_grad=True)"
                )

    @property
    def x0(self) -> np.ndarray:
        """The parameters as they are now, one behind the other."""
        return _flat([p.numpy() for p in self._given("x0")])

    def write(self, x: np.ndarray) -> None:
        """Write x into the parameters."""
        parameters = self._given("write")
        size = sum(p.size for p in parameters)
        if np.shape(x) != (size,):
            raise ShapeError(f"Objective: x of shape {list(np.shape(x))} for parameters of {size} elements in all")
        ends = np.cumsum([p.size for p in parameters])
        with no_grad():
            for p, part in zip(parameters, np.split(np.asarray(x), ends[:-1])):
                p[...] = asarray(part.reshape(p.shape).astype(p.dtype), device=p.device)

    def __call__(self, x: np.ndarray, *args: Any) -> tuple[float, np.ndarray]:
        if self.parameters is None:
            value, gradient = value_and_grad(self.f)(asarray(np.array(x, np.float64), device=self.device), *args)
            return float(value), gradient.numpy().astype(np.float64, copy=False)
        self.write(x)
        for p in self.parameters:
            p.grad = None
        with enable_grad():
            value = self.f(*args)
            if not isinstance(value, Tensor):
                raise DTypeError(f"Objective: f returned a {type(value).__name__}; it must return a scalar Tensor")
            value.backward()
        gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        return float(value), _flat(gradients)

    def _given(self, name: str) -> list[Tensor]:
        if self.parameters is None:
            raise DTypeError(f"Objective: {name} needs parameters; this one has a function of x alone")
        return self.parameters


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(a).astype(np.float64) for a in arrays]) if arrays else np.zeros(0)
