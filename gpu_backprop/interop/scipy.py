"""A loss in the form that SciPy's optimisers take: of one float64 vector, with its gradient.

objective = Objective(loss, x0)
result = scipy.optimize.minimize(objective, objective.x0, jac=True, method="L-BFGS-B")
fitted = objective.at(result.x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes, tree
from ..core.errors import DTypeError, ShapeError
from ..core.gradients import hvp, ones_like, value_and_grad
from ..core.tape import no_grad, walk
from ..core.tensor import Tensor, asarray
from ..nn.module import Module


class Objective:
    """`loss` over all that it is fitted by, laid out as one vector of float64 on the CPU.

    loss: a function of one argument that returns a scalar Tensor.
    start: that argument as it begins: a Tensor or array, nested lists, tuples and dicts of them, or a Module, whose
        parameters are fitted. Each keeps its shape, dtype and device.

    Called with such a vector it returns the value (a float) and the gradient (such a vector): what `jac=True` wants.
    """

    def __init__(self, loss: Callable[[Any], Tensor], start: Any):
        self._loss = loss
        self._module = start if isinstance(start, Module) else None
        parameters = list(start.parameters()) if isinstance(start, Module) else start
        self._leaves, self._form = tree.flatten(tree.as_tensors(parameters))
        if not self._leaves:
            raise ShapeError("Objective: nothing to fit; start must hold at least one array")
        for leaf in self._leaves:
            if not dtypes.is_floating(leaf.dtype):
                raise DTypeError(f"Objective: an array of {leaf.dtype} cannot be fitted; make it float")
        self.x0 = self.vector(self._form(self._leaves))

    def __call__(self, x: Any) -> tuple[float, np.ndarray]:
        if self._module is None:
            value, gradient = value_and_grad(self._loss)(self._split(x))
            return float(value), self.vector(gradient)
        out = self._loss(self.at(x))
        gradients = walk([out], [ones_like(out)], targets=self._leaves)
        return float(out), _joined(g if g is not None else np.zeros(p.shape) for g, p in zip(gradients, self._leaves))

    def hessp(self, x: Any, v: Any) -> np.ndarray:
        """The product of the Hessian at `x` with a vector, as the argument `hessp` of SciPy's Newton methods."""
        if self._module is not None:
            raise DTypeError("Objective.hessp: not of a Module; give its parameters as start, and a function of them")
        points, _ = tree.flatten(self._split(x))
        directions, _ = tree.flatten(self._split(v))
        products = hvp(lambda *leaves: self._loss(self._form(list(leaves))), points, directions)
        return _joined(products)

    def at(self, x: Any) -> Any:
        """A vector in the form of `start`; of a Module, the Module itself, its parameters overwritten."""
        if self._module is None:
            return self._split(x)
        leaves, _ = tree.flatten(self._split(x))
        with no_grad():
            for parameter, leaf in zip(self._leaves, leaves):
                parameter.copy_(leaf)
        return self._module

    def vector(self, parts: Any) -> np.ndarray:
        """Something of the form of `start` as a vector."""
        return _joined(tree.flatten(tree.as_tensors(parts))[0])

    def _split(self, x: Any) -> Any:
        x = np.asarray(x, np.float64)
        sizes = [leaf.size for leaf in self._leaves]
        if x.shape != (sum(sizes),):
            raise ShapeError(f"Objective: a vector of shape {list(x.shape)} for {sum(sizes)} numbers to fit")
        parts = np.split(x, np.cumsum(sizes)[:-1])
        return self._form(
            [
                asarray(part.reshape(leaf.shape).astype(leaf.dtype), device=leaf.device)
                for part, leaf in zip(parts, self._leaves)
            ]
        )


def _joined(parts: Any) -> np.ndarray:
    return np.concatenate(
        [np.asarray(p.numpy() if isinstance(p, Tensor) else p, dtype=np.float64).ravel() for p in parts]
    )
