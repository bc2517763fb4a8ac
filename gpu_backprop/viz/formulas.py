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
    "binary_cross_entropy_with_logits": ("g * (sigmoid(x) - y)", "-g * x", "g * loss", "g * loss at y"),
    "binary_cross_entropy_with_logits_backward": ("g . (sigmoid(x) - y)", "differentiated unfused"),
    "broadcast_to": ("g, summed where repeated",),
    "checkpoint": ("run again, then differentiated",),
    "cholesky": ("inv(L).T sym(half(L.T g)) inv(L)",),
    "cofactor": ("g . products of all singular values but two",),
    "copy": ("g",),
    "cumulative_prod": ("product of those before * (sum over later ends of g * product between)",),
    "cumulative_prod_backward": ("differentiated unfused", "differentiated unfused"),
    "cumulative_sum": ("g, summed from the end",),
    "det": ("g * cofactor(x)",),
    "dropout": ("g / (1 - p) where kept, else 0",),
    "eigh": ("V (diag(g) + (V.T g) / (w_j - w_i)) V.T",),
    "eigvalsh": ("V diag(g) V.T",),
    "embedding": ("g added up at the indices",),
    "embedding_backward": ("g at the indices",),
    "fft": ("fft(g)",),
    "flip": ("g, flipped back",),
    "getitem": ("g put back at the index, else 0",),
    "getitem_backward": ("g at the index",),
    "huber_loss": ("g * (x - y), held within delta", "-g * (x - y), held within delta"),
    "huber_loss_backward": ("g . (x - y), held within delta", "differentiated unfused"),
    "ifft": ("ifft(g)",),
    "inv": ("-out.T @ g @ out.T",),
    "irfft": ("rfft(g), inner frequencies twice",),
    "l1_loss": ("g * sign(x - y)", "-g * sign(x - y)"),
    "l1_loss_backward": ("g . sign(x - y)", "differentiated unfused"),
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
    "mse_loss": ("g * 2 (x - y)", "-g * 2 (x - y)"),
    "mse_loss_backward": ("g . 2 (x - y)", "differentiated unfused"),
    "permute_dims": ("g, axes put back",),
    "prod": ("g * product of the others",),
    "prod_of_others": ("g * products of all but two",),
    "relu_bias_backward": ("(g + that of the sum) where out > 0",),
    "reorder": ("g, in the order before",),
    "reshape": ("g in the input's shape",),
    "rfft": ("irfft(g), inner frequencies half",),
    "rms_norm": ("rstd * (g w - xhat * mean(g w xhat)), w the weight", "sum(g * xhat) of each column"),
    "roll": ("g, rolled back",),
    "slogdet": ("g * inv(x).T",),
    "softmax": ("out * (g - sum(g * out))",),
    "softmax_backward": ("out * (g - sum(g * out))", "differentiated unfused"),
    "softmax_cross_entropy": ("g * (softmax(x) - target)",),
    "softmax_cross_entropy_backward": ("g . (softmax(x) - target)", "differentiated unfused"),
    "solve": ("-inv(a).T @ g @ out.T", "inv(a).T @ g"),
    "sort": ("g, each where its value was",),
    "sum": ("g, repeated",),
    "svdvals": ("U diag(g) V.T",),
    "take": ("g added up at the indices",),
    "take_along_axis": ("g added up at the indices",),
    "take_along_axis_backward": ("g at the indices",),
    "take_backward": ("g at the indices",),
    "transfer": ("g, moved back",),
    "tril": ("g in the triangle, else 0",),
    "triu": ("g in the triangle, else 0",),
    "unique_values": ("g at the first of each value, else 0",),
    "unstack": ("the gs, stacked",),
    "var": ("g * 2 (x - mean) / (n - correction)",),
}


def formula(node: Node, i: int) -> str:
    """The rule for input `i` of a recorded operation, in words."""
    primitive = node.primitive
    if primitive is PICK:
        return "g, with zeros for the other outputs"
    if primitive.name == "concat":
        return "g, the slice that was this input"
    words = FORMULAS.get(primitive.name)
    if words is None:
        return "differentiated unfused" if primitive.unfused is not None else "its own rule"
    rule = words[min(i, len(words) - 1)].format(n=_reduced(node))
    if node.attrs.get("reduction") == "mean" and primitive.unfused is None:
        rule += " / rows" if primitive.name == "softmax_cross_entropy" else " / elements"
    return rule


def _reduced(node: Node) -> int:
    axes: Any = node.attrs.get("axis", ())
    if not isinstance(axes, tuple):
        return 1
    n = 1
    for axis in axes:
        n *= node.specs[0][0][axis]
    return n
