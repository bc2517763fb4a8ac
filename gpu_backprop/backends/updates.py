"""The optimiser updates on NumPy arrays: what kernels/optimizer.cu does in one launch, in cache-sized blocks.

Each function changes a contiguous run of a flat parameter buffer and its state in place. `hyper` (float64) holds what a
user can change: 0 lr, 1 weight_decay, 2 grad_scale (the gradient is multiplied by it first), 3 skip (non-zero: nothing
is changed), then what each function says. `steps` (float64) counts updates; entries first .. first + count are this
run's, all equal, and t is their value plus one. 16-bit floats compute in float32 and are rounded once, at the end.
With a float32 `master` copy beside 16-bit parameters, the state is float32 too: the update reads and writes the master,
and `param` becomes its rounded copy.

A block is small enough for its arrays to stay in the second-level cache over the dozen passes of an update; scratch
memory is kept from call to call. Scalars are 0-d arrays, which NumPy's functions take faster than Python numbers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes

Array = Any
BLOCK = 32_768

_add, _divide, _maximum, _multiply, _sqrt, _subtract = np.add, np.divide, np.maximum, np.multiply, np.sqrt, np.subtract


class _Work:
    """Scratch memory for one dtype: two blocks, coefficients, and, for 16-bit runs, a wide copy of every array."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype
        self.first, self.second = np.empty(BLOCK, dtype), np.empty(BLOCK, dtype)
        self.pair = self.first, self.second
        self.coefficients = np.empty(10, dtype)
        self.scalars = tuple(self.coefficients[i : i + 1].reshape(()) for i in range(10))
        self.wide: list[np.ndarray] = []

    def load(self, *coefficients: float) -> tuple[np.ndarray, ...]:
        """The coefficients as 0-d arrays of this dtype."""
        n = len(coefficients)
        self.coefficients[:n] = coefficients
        return self.scalars[:n]

    def scratch(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays of n elements; the last pair is remembered, for an optimiser asks for the same one every time."""
        if self.pair[0].size != n:
            self.pair = self.first[:n], self.second[:n]
        return self.pair

    def widen(self, arrays: tuple[Array, ...]) -> list[Array]:
        """The blocks of a 16-bit run as float32; those that are (beside a master copy) as they are."""
        while len(self.wide) < len(arrays):
            self.wide.append(np.empty(BLOCK, self.dtype))
        wide = [x if x is None or x.dtype == self.dtype else w[: x.size] for x, w in zip(arrays, self.wide)]
        for w, x in zip(wide, arrays):
            if w is not x:
                w[...] = x
        return wide


class _Local(threading.local):
    def __init__(self) -> None:
        self.work: dict[np.dtype, _Work] = {}


_local = _Local()


def _work(dtype: np.dtype) -> _Work:
    found = _local.work.get(dtype)
    if found is None:
        accumulate = dtypes.float32 if dtypes.is_half(dtype) else dtype
        found = _local.work[dtype] = _Work(accumulate)
    return found


def _run(step: Callable[..., None], work: _Work, arrays: tuple[Array, ...], master: Array | None) -> None:
    """Call `step(*blocks, scratch, scratch)` for the blocks of flat arrays: parameters, gradients, state."""
    param: Any = arrays[0]
    n = param.size
    half = param.dtype != work.dtype
    if n <= BLOCK and not half:
        step(*arrays, *work.scratch(n))
        return
    if master is not None:
        arrays = (master, *arrays[1:])
    for start in range(0, n, BLOCK):
        blocks: Any = tuple([None if x is None else x[start : start + BLOCK] for x in arrays])
        size = blocks[0].size
        wide = work.widen(blocks) if half else blocks
        step(*wide, work.first[:size], work.second[:size])
        if half:
            for i, (block, value) in enumerate(zip(blocks, wide)):
                if block is not value and i != 1:  # all that was widened but the gradient
                    block[...] = value
        if master is not None:
            param[start : start + BLOCK] = wide[0]


def _gradient(work: _Work, hyper: list[float], maximize: bool, decay: float) -> Callable[..., Array] | None:
    """The function that scales, negates and decays a gradient into scratch; None if it is used as it is."""
    scale = -hyper[2] if maximize else hyper[2]
    if scale == 1.0 and decay == 0.0:
        return None
    work.coefficients[8:] = (scale, decay)
    scale_, decay_ = work.scalars[8:]

    def prepare(g: Array, p: Array, out: Array, scratch: Array) -> Array:
        _multiply(g, scale_, out)
        if decay:
            _multiply(p, decay_, scratch)
            _add(out, scratch, out)
        return out

    return prepare


def _quiet(eps: float) -> np.errstate | None:
    """Without eps the padding between parameters is 0 / 0; nobody reads it, so nobody need hear of it."""
    return np.errstate(invalid="ignore", divide="ignore") if eps == 0.0 else None


def _go(
    step: Callable[..., None], work: _Work, arrays: tuple[Array, ...], master: Array | None, eps: float = 1.0
) -> None:
    quiet = _quiet(eps)
    if quiet is None:
        _run(step, work, arrays, master)
    else:
        with quiet:
            _run(step, work, arrays, master)


def sgd_update(
    param: Array, grad: Array, momentum_buffer: Array, hyper: Array, steps: Array, *, first: int, count: int,
    nesterov: bool, maximize: bool, master: Array | None = None,
) -> None:  # fmt: skip
    """hyper: 4 momentum, 5 dampening. b = momentum b + (1 - dampening) g (b = g when t = 1);
    p -= lr (nesterov ? g + momentum b : b), or p -= lr g without a buffer."""
    h = hyper.tolist()
    if h[3]:
        return
    work = _work(param.dtype)
    fresh_start = steps.item(first) == 0.0
    lr, momentum, fresh = work.load(h[0], h[4], 1.0 - h[5])
    prepare = _gradient(work, h, maximize, h[1])
    dampened = h[5] != 0.0

    def step(p: Array, g: Array, b: Array, s: Array, d: Array) -> None:
        if prepare is not None:
            g = prepare(g, p, d, s)
        if b is not None:
            if fresh_start:
                b[...] = g
            else:
                _multiply(b, momentum, b)
                _add(b, _multiply(g, fresh, s) if dampened else g, b)
            g = _add(_multiply(b, momentum, s), g, s) if nesterov else b
        _multiply(g, lr, s)
        _subtract(p, s, p)

    _run(step, work, (param, grad, momentum_buffer), master)
    steps[first : first + count] += 1.0


def adam_update(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array, hyper: Array, steps: Array, *,
    first: int, count: int, decoupled: bool, maximize: bool, master: Array | None = None,
) -> None:  # fmt: skip
    """hyper: 4 beta1, 5 beta2, 6 eps. m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    u = v, or max(u, v) with a max_exp_avg_sq; p -= lr / (1 - beta1^t) m / (sqrt(u) / sqrt(1 - beta2^t) + eps),
    after p -= lr weight_decay p when decoupled."""
    h = hyper.tolist()
    lr, decay, _, skip, beta1, beta2, eps_ = h[:7]
    if skip:
        return
    work = _work(param.dtype)
    t = steps.item(first) + 1.0
    size_ = lr / (1.0 - beta1**t)
    # Dividing the denominator by the step size saves a pass, while the quotient is far from overflow.
    fold = size_ if size_ > 1e-20 else 1.0
    root_ = 1.0 / (math.sqrt(1.0 - beta2**t) * fold)
    b1, fresh1, b2, fresh2, root, eps, size, keep = work.load(
        beta1, 1.0 - beta1, beta2, 1.0 - beta2, root_, eps_ / fold, size_, 1.0 - lr * decay
    )
    prepare = _gradient(work, h, maximize, 0.0 if decoupled else decay)
    shrink = decoupled and decay != 0.0
    folded = fold == size_

    def step(p: Array, g: Array, m: Array, v: Array, u: Array, s: Array, d: Array) -> None:
        if prepare is not None:
            g = prepare(g, p, d, s)
        _multiply(m, b1, m)
        _add(m, _multiply(g, fresh1, s), m)
        _multiply(v, b2, v)
        _multiply(g, g, s)
        _multiply(s, fresh2, s)
        _add(v, s, v)
        _sqrt(v if u is None else _maximum(u, v, out=u), s)
        _multiply(s, root, s)
        _add(s, eps, s)
        _divide(m, s, s)
        if not folded:
            _multiply(s, size, s)
        if shrink:
            _multiply(p, keep, p)
        _subtract(p, s, p)

    _go(step, work, (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq), master, eps_)
    steps[first : first + count] += 1.0


def rmsprop_update(
    param: Array, grad: Array, square_avg: Array, grad_avg: Array, momentum_buffer: Array, hyper: Array, steps: Array,
    *, first: int, count: int, maximize: bool, master: Array | None = None,
) -> None:  # fmt: skip
    """hyper: 4 alpha, 5 eps, 6 momentum. v = alpha v + (1 - alpha) g^2; with a grad_avg a = alpha a + (1 - alpha) g and
    r = v - a^2, else r = v; b = momentum b + g / (sqrt(r) + eps); p -= lr b, or p -= lr g / (sqrt(r) + eps)."""
    h = hyper.tolist()
    if h[3]:
        return
    work = _work(param.dtype)
    lr, alpha, fresh, eps, momentum, zero = work.load(h[0], h[4], 1.0 - h[4], h[5], h[6], 0.0)
    prepare = _gradient(work, h, maximize, h[1])

    def step(p: Array, g: Array, v: Array, a: Array, b: Array, s: Array, d: Array) -> None:
        if prepare is not None:
            g = prepare(g, p, d, s)
        _multiply(v, alpha, v)
        _multiply(g, g, s)
        _multiply(s, fresh, s)
        _add(v, s, v)
        if a is None:
            _sqrt(v, s)
        else:
            _multiply(a, alpha, a)
            _add(a, _multiply(g, fresh, s), a)
            _multiply(a, a, s)
            _subtract(v, s, s)
            _maximum(s, zero, out=s)  # rounding can take a variance of nothing below 0
            _sqrt(s, s)
        _add(s, eps, s)
        _divide(g, s, s)
        if b is not None:
            _multiply(b, momentum, b)
            _add(b, s, b)
        _multiply(s if b is None else b, lr, s)
        _subtract(p, s, p)

    _go(step, work, (param, grad, square_avg, grad_avg, momentum_buffer), master, h[5])
    steps[first : first + count] += 1.0


def adagrad_update(
    param: Array, grad: Array, state_sum: Array, hyper: Array, steps: Array, *, first: int, count: int, maximize: bool,
    master: Array | None = None,
) -> None:  # fmt: skip
    """hyper: 4 lr_decay, 5 eps. s = s + g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)."""
    h = hyper.tolist()
    if h[3]:
        return
    work = _work(param.dtype)
    lr, eps = work.load(h[0] / (1.0 + steps.item(first) * h[4]), h[5])
    prepare = _gradient(work, h, maximize, h[1])

    def step(p: Array, g: Array, total: Array, s: Array, d: Array) -> None:
        if prepare is not None:
            g = prepare(g, p, d, s)
        _multiply(g, g, s)
        _add(total, s, total)
        _sqrt(total, s)
        _add(s, eps, s)
        _divide(g, s, s)
        _multiply(s, lr, s)
        _subtract(p, s, p)

    _go(step, work, (param, grad, state_sum), master, h[5])
    steps[first : first + count] += 1.0


def square_sum(x: Array) -> Array:
    """The sum of squares of a flat array, without a temporary: blocks by dot product, added up in float64."""
    if dtypes.is_half(x.dtype):
        blocks = (x[i : i + BLOCK].astype(np.float32) for i in range(0, x.size, BLOCK))
    else:
        blocks = (x[i : i + BLOCK] for i in range(0, x.size, BLOCK))
    total = sum(float(np.dot(block, block)) for block in blocks)
    return np.array(total, np.float32 if dtypes.is_half(x.dtype) else x.dtype)


def any_nonfinite(x: Array) -> Array:
    """Whether a flat array holds an infinity or a NaN, as a bool array of no dimension; stops at the first block."""
    return np.array(any(not np.isfinite(x[i : i + BLOCK]).all() for i in range(0, x.size, BLOCK)))


TABLE: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (sgd_update, adam_update, rmsprop_update, adagrad_update, square_sum, any_nonfinite)
}
