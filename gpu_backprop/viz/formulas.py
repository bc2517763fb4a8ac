"""The rules of operations that are not elementwise, in words: how the gradient `g` of the result reaches each input."""

from __future__ import annotations

from typing import Any

from ..core.tape import PICK, Node

# primitive -> one formula an input; {n} is how many elements are reduced to one
FORMULAS: dict[str, tuple[str, ...]] = {
    "alias": ("g",),
    "astype": ("g in the input's dtype",),
    "batch_norm_backward": ("differentiated unfused",),
    "batch_norm_inference": ("g * weight * rstd", "sum(g * xhat) of each channel", "sum(g) of each channel"),
    "batch_norm_sums": ("differentiated unfused",),
    "batch_norm_training": (
        "weight * rstd * (g - mean(g) - xhat * mean(g * xhat))",
        *("sum(g * xhat) of each channel", "sum(g) of each channel"),
    ),
    "broadcast_to": ("g, summed where repeated",),
    "checkpoint": ("run again, then differentiated",),
    "copy": ("g",),
    "dropout": ("g / (1 - p) where kept, else 0",),
    "flip": ("g, flipped back",),
    "getitem": ("g put back at the index, else 0",),
    "getitem_backward": ("g at the index",),
    "layer_norm": (
        "rstd * (g w - mean(g w) - xhat * mean(g w xhat)), w the weight",
        *("sum(g * xhat) of each column", "sum(g) of each column"),
    ),
    "layer_norm_backward": ("differentiated unfused",),
    "layer_norm_sums": ("differentiated unfused",),
    "linear": ("g @ weight", "g.T @ x", "g, summed over the rows"),
    "linear_relu": ("(g where out > 0) @ weight", "(g where out > 0).T @ x", "g where out > 0, summed over the rows"),
    "linear_weight_gradient": ("x @ g.T", "first input @ g"),
    "log_softmax": ("g - softmax * sum(g)",),
    "log_softmax_backward": ("g - sum(g * softmax)", "-softmax * sum(g) * g"),
    "logsumexp": ("g * softmax(x)",),
    "matmul": ("g @ y.T", "x.T @ g"),
    "max": ("g where x is the largest, else 0",),
    "mean": ("g / {n}, repeated",),
    "min": ("g where x is the smallest, else 0",),
    "permute_dims": ("g, axes put back",),
    "prod": ("g * product of the others",),
    "prod_of_others": ("g * products of all but two",),
    "reshape": ("g in the input's shape",),
    "rms_norm": ("rstd * (g w - xhat * mean(g w xhat)), w the weight", "sum(g * xhat) of each column"),
    "softmax": ("out * (g - sum(g * out))",),
    "softmax_backward": ("out * (g - sum(g * out))", "differentiated unfused"),
    "softmax_cross_entropy": ("g * (softmax(x) - target)",),
    "softmax_cross_entropy_backward": ("g . (softmax(x) - target)", "differentiated unfused"),
    "sum": ("g, repeated",),
    "take": ("g added up at the indices",),
    "take_backward": ("g at the indices",),
    "transfer": ("g, moved back",),
    "var": ("g * 2 (x - mean) / (n - correction)",),
}


def formula(node: Node, i: int) -> str:
    """The rule for input `i` of a recorded operation, in words."""
    primitive = node.primitive
    if primitive is PICK:
        return "g, with zeros for the other outputs"
    if primitive.name == "concat":
        return "g, the slice that was this input"
    if primitive.name == "softmax_cross_entropy" and node.attrs["reduction"] == "mean":
        return "g * (softmax(x) - target) / rows"
    words = FORMULAS.get(primitive.name)
    if words is None:
        return "differentiated unfused" if primitive.unfused is not None else "its own rule"
    return words[min(i, len(words) - 1)].format(n=_reduced(node))


def _reduced(node: Node) -> int:
    axes: Any = node.attrs.get("axis", ())
    if not isinstance(axes, tuple):
        return 1
    n = 1
    for axis in axes:
        n *= node.specs[0][0][axis]
    return n
