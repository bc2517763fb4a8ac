"""Layer norm and RMS norm: a warp or a block a row. Batch norm: tiles of channels. The gradients of their weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import table
from ..base import Array
from ..kernels import Kernel
from .shared import (
    BLOCK,
    TILE_BLOCKS,
    Function,
    Launch,
    accumulator,
    c_name,
    ceil_div,
    column_tiles,
    index_of,
    packs,
)  # fmt: skip

PACKS = {2: (2, 4), 4: (4, 8), 8: (4, 4)}  # itemsize -> packs of Pair and of Row in rows.cuh


class Tiles(NamedTuple):
    """How blocks walk x (outer, channels, inner): Tile of tiles.cuh."""

    layout: str  # "columns" where inner is 1, else "channels"
    sizes: tuple[int, int, int]
    block: tuple[int, int]
    number: int  # of tiles
    items: int  # of a tile, which its threads take in turn
    states: int  # of a block that shares a tile


class NormLaunches:
    """Functions of norms.cu and batch_norm.cu."""

    def __init__(self, launch: Launch):
        self.launch = launch
        self.empty, self.contiguous = launch.backend.empty, launch.contiguous
        self.functions: dict[str, Function] = {
            name: self.or_fallback(name, getattr(self, name))
            for name in (
                *("layer_norm", "rms_norm", "layer_norm_backward", "layer_norm_sums"),
                *("batch_norm_training", "batch_norm_inference", "batch_norm_sums", "batch_norm_backward"),
            )
        }

    def or_fallback(self, name: str, function: Function) -> Function:
        """`function`, or the array module's where no kernel fits: no elements, other dtypes."""
        fallback, ndarray, copy_to = self.launch.fallback(name), self.launch.xp.ndarray, self.launch.copy_to

        def run(*operands: Any, out: Array | None = None, **attrs: Any) -> Any:
            x = operands[0]
            if (
                c_name(x.dtype) is None
                or x.size == 0
                or any(o.__class__ is not ndarray for o in operands if o is not None)
            ):
                result = fallback(*operands, **attrs)
            elif out is not None and out.flags.c_contiguous:
                return function(*operands, out=out, **attrs)
            else:
                result = function(*operands, **attrs)
            return result if out is None else copy_to(result, out=out)

        return run

    def operand(self, x: Array | None, dtype: np.dtype) -> Array | None:
        """An operand as kernels want it: of this dtype, in C order."""
        if x is None:
            return None
        return self.contiguous(x if x.dtype == dtype else self.launch.fallback("astype")(x, dtype=dtype))

    # layer norm and RMS norm -----------------------------------------------------------------------------------------

    def layer_norm(self, x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, ...]:
        return self.forward_rows("layer_norm", x, weight, bias, eps)

    def rms_norm(self, x: Array, weight: Array | None, eps: float) -> tuple[Array, ...]:
        out, _, rstd = self.forward_rows("rms_norm", x, weight, None, eps)
        return out, rstd

    def forward_rows(
        self, name: str, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, ...]:
        rows, number = len(x), accumulator(x.dtype)
        out, mean = self.empty(x.shape, x.dtype), None
        if name == "layer_norm":
            mean = self.empty((2, rows), np.dtype(number))
        rstd = self.empty((rows,), np.dtype(number))
        arrays = (self.operand(a, x.dtype) for a in (x, weight, bias))
        self.launch_rows(f"{name} {self.part(x)}", x, (out, mean, rstd, *arrays, number(eps)))
        return out, mean, rstd

    def part(self, x: Array) -> str:
        """What may hold a thread's share of a row: Pair of rows.cuh, or Row where only Row is long enough."""
        n, pack = x.shape[1], 16 // x.dtype.itemsize
        _, (threads, _) = self.launch.row_geometry(*x.shape)
        pair, row = PACKS[x.dtype.itemsize]
        return "Row" if n % pack == 0 and pair < n / (pack * threads) <= row else "Pair"

    def layer_norm_backward(
        self, g: Array, x: Array, weight: Array | None, mean: Array | None, rstd: Array, eps: float,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        if out is None:
            out = self.empty(x.shape, x.dtype)
        arrays = (self.operand(a, x.dtype) for a in (g, x, weight))
        name = "rms_norm_backward" if mean is None else "layer_norm_backward"
        self.launch_rows(name, x, (out, *arrays, mean, rstd))
        return out

    def launch_rows(self, name: str, x: Array, args: tuple[Any, ...]) -> None:
        rows, n = x.shape
        kernel, kind = self.kernel(name, x)
        grid, block = self.launch.row_geometry(rows, n)
        self.launch.launcher.launch(kernel, grid, block, (kind(rows), kind(n), *args))

    def kernel(self, name: str, x: Array) -> tuple[Kernel, type]:
        """The kernel for x's dtype and size, and the type of its indices."""
        dtype = c_name(x.dtype)
        assert dtype is not None  # or_fallback saw to it
        index, kind = index_of(x.size)
        return table.norm(name, dtype, index), kind

    # sums over columns and channels ----------------------------------------------------------------------------------

    def layer_norm_sums(
        self, g: Array, x: Array, mean: Array | None, rstd: Array, eps: float, out: Array | None = None
    ) -> Array:
        return self.sums("layer_norm_sums", g, x, mean, rstd, eps, out)

    def batch_norm_sums(
        self, g: Array, x: Array, mean: Array | None, var: Array, eps: float, training: bool, out: Array | None = None
    ) -> Array:
        return self.sums("batch_norm_sums", g, x, mean, var, eps, out)

    def sums(
        self, name: str, g: Array, x: Array, mean: Array | None, spread: Array, eps: float, out: Array | None
    ) -> Array:
        number = accumulator(x.dtype)
        tiles = self.tiles(x)
        if out is None:
            out = self.empty((2, tiles.sizes[1]), np.dtype(number))
        high, low = self.two(mean, np.dtype(number))
        arrays = (self.operand(g, x.dtype), self.operand(x, x.dtype), high, low, self.operand(spread, np.dtype(number)))
        self.reduce(name, x, tiles, (out, *arrays, number(eps)), 2 * np.dtype(number).itemsize)
        return out

    # batch norm ------------------------------------------------------------------------------------------------------

    def batch_norm_training(
        self, x: Array, weight: Array | None, bias: Array | None, running_mean: Array | None,
        running_var: Array | None, momentum: float, eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        x, tiles, number = self.contiguous(x), self.tiles(x), accumulator(x.dtype)
        channels = tiles.sizes[1]
        mean, var = self.empty((2, channels), np.dtype(number)), self.empty((channels,), np.dtype(number))
        running = (running_mean, running_var)
        here = all(r is not None and r.dtype == x.dtype and r.flags.c_contiguous for r in running)
        arrays = (mean, var, *(running if here else (None, None)), x, number(momentum))
        self.reduce("batch_norm_statistics", x, tiles, arrays, 3 * np.dtype(number).itemsize)
        if running_mean is not None and running_var is not None and not here:
            n = x.size // channels
            for old, new in ((running_mean, mean[0]), (running_var, var * number(n / (n - 1)))):
                old[...] = old.astype(new.dtype) * number(1 - momentum) + new * number(momentum)
        out = self.empty(x.shape, x.dtype)
        return self.apply(out, x, weight, bias, mean, var, eps), mean, var

    def batch_norm_inference(
        self, x: Array, weight: Array | None, bias: Array | None, mean: Array | None, var: Array, eps: float,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        return self.apply(self.empty(x.shape, x.dtype) if out is None else out, x, weight, bias, mean, var, eps)

    def apply(
        self, out: Array, x: Array, weight: Array | None, bias: Array | None, mean: Array | None, var: Array, eps: float
    ) -> Array:
        number = accumulator(x.dtype)
        wide = np.dtype(number)
        x, weight, bias = (self.operand(a, x.dtype) for a in (x, weight, bias))
        arrays = (x, *self.two(mean, wide), self.operand(var, wide), weight, bias)
        self.launch_tiles("batch_norm_apply", x, self.tiles(x), (out, *arrays, number(eps)))
        return out

    def batch_norm_backward(
        self, g: Array, x: Array, weight: Array | None, mean: Array, var: Array, sums: Array, eps: float,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        number = accumulator(x.dtype)
        if out is None:
            out = self.empty(x.shape, x.dtype)
        arrays = (*(self.operand(a, x.dtype) for a in (g, x, weight)), mean, var, self.contiguous(sums))
        self.launch_tiles("batch_norm_backward", x, self.tiles(x), (out, *arrays, number(eps)))
        return out

    # tiles -----------------------------------------------------------------------------------------------------------

    def two(self, mean: Array | None, dtype: np.dtype) -> tuple[Array | None, Array | None]:
        """The two numbers of a mean (2, ...); a mean that was given is one number."""
        if mean is None or mean.ndim == 1:
            return self.operand(mean, dtype), None
        return mean[0], mean[1]

    def tiles(self, x: Array) -> Tiles:
        outer, channels, inner = x.shape if x.ndim == 3 else (*x.shape, 1)
        if inner > 1:
            items = outer * packs(inner, x.dtype)
            return Tiles("channels", (outer, channels, inner), (1, BLOCK), channels, items, 1)
        pack, number, block = column_tiles(outer, channels, x.dtype)
        return Tiles("columns", (outer, channels, inner), block, number, outer, block[0] * pack)

    def launch_tiles(self, name: str, x: Array, tiles: Tiles, args: tuple[Any, ...]) -> None:
        """A pass that leaves nothing to combine: as many blocks as fill the GPU."""
        height = tiles.block[1]
        grid = min(tiles.number, self.launch.launcher.max_grid)
        blocks = self.launch.blocks(tiles.number * ceil_div(tiles.items, height))
        splits = max(1, min(blocks // grid, ceil_div(tiles.items, height), 65535))
        kernel, kind = self.kernel(f"{name} {tiles.layout}", x)
        self.launch.launcher.launch(kernel, (grid, splits), tiles.block, (*map(kind, tiles.sizes), *args))

    def reduce(self, name: str, x: Array, tiles: Tiles, args: tuple[Any, ...], state: int) -> None:
        """A pass that combines states of `state` bytes; how it is split depends on the shape alone."""
        limit = self.launch.launcher.max_grid
        splits = min(ceil_div(tiles.items, 8 * tiles.block[1]), ceil_div(TILE_BLOCKS, tiles.number), limit)
        space = None
        if splits > 1:
            space = self.empty((tiles.number * splits * tiles.states * state,), np.dtype(np.uint8))
        kernel, kind = self.kernel(f"{name} {tiles.layout}", x)
        grid = (min(tiles.number, limit), splits)
        args = (*map(kind, tiles.sizes), *args, space, self.launch.backend.tickets())
        self.launch.backend.launch_counted(kernel, grid, tiles.block, args)
