"""The optimisers. Each is a formula, its hyperparameters, and the names of its state, as PyTorch names them.

In the formulas g is the gradient (negated when `maximize`, plus weight_decay p where decay is not decoupled), p the
parameter, t the number of this step. Every optimiser takes `master_weights`, which Optimizer explains.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import DataError
from .optimizer import Optimizer, require, require_betas


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

        b = momentum b + (1 - dampening) g      (b = g at the first step)
        p = p - lr b                            Nesterov: p - lr (g + momentum b); without momentum: p - lr g

    lr: step size. momentum: share of the last direction that is kept. dampening: share of the gradient that is left
    out of the momentum. weight_decay: L2 penalty. nesterov: look ahead (needs momentum, no dampening). maximize: climb.

    Robbins and Monro, A Stochastic Approximation Method, 1951; momentum: Polyak, 1964; Nesterov's form: Sutskever,
    Martens, Dahl and Hinton, On the importance of initialization and momentum in deep learning, 2013.
    """

    update = "sgd_update"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ):
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, master_weights)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        require("SGD", group, "momentum", lambda v: v >= 0, "must be zero or more")
        require("SGD", group, "dampening", lambda v: v == v, "must be a number")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise DataError(
                f"SGD: nesterov=True with momentum={group['momentum']} and dampening={group['dampening']}; "
                "Nesterov's form needs a momentum above 0 and no dampening"
            )

    def numbers(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["momentum"], group["dampening"]

    def state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("momentum_buffer" if group["momentum"] else None,)

    def switches(self, group: dict[str, Any]) -> dict[str, bool]:
        return {"nesterov": bool(group["nesterov"]), "maximize": bool(group["maximize"])}


class Adam(Optimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    lr: step size. betas: decay of the two averages. eps: added to the denominator. weight_decay: L2 penalty, added to
    the gradient. amsgrad: use the largest v so far. maximize: climb.

    Kingma and Ba, Adam: A Method for Stochastic Optimization, arXiv:1412.6980; amsgrad: Reddi, Kale and Kumar, On the
    Convergence of Adam and Beyond, arXiv:1904.09237.
    """

    update = "adam_update"
    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, master_weights)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        require_betas(type(self).__name__, group)

    def numbers(self, group: dict[str, Any]) -> tuple[float, ...]:
        return (*group["betas"], group["eps"])

    def state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return "exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None

    def switches(self, group: dict[str, Any]) -> dict[str, bool]:
        return {"decoupled": self.decoupled, "maximize": bool(group["maximize"])}


class AdamW(Adam):
    """Adam with decoupled weight decay: p = p - lr weight_decay p, then Adam's step on the plain gradient.

    lr, betas, eps, amsgrad, maximize: as Adam's. weight_decay: share of a parameter that is taken off, times lr.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, master_weights=master_weights
        )


class RMSprop(Optimizer):
    """RMSprop: the gradient divided by a running root mean square.

        v = alpha v + (1 - alpha) g^2
        a = alpha a + (1 - alpha) g,  r = v - a^2       (centered; otherwise r = v)
        b = momentum b + g / (sqrt(r) + eps)
        p = p - lr b

    lr: step size. alpha: decay of the averages. eps: added to the denominator. weight_decay: L2 penalty. momentum:
    share of the last direction that is kept. centered: divide by the standard deviation. maximize: climb.

    Tieleman and Hinton, Lecture 6.5 of Neural Networks for Machine Learning, 2012; centred: Graves, Generating
    Sequences With Recurrent Neural Networks, arXiv:1308.0850.
    """

    update = "rmsprop_update"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ):
        defaults = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, master_weights)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        require("RMSprop", group, "alpha", lambda v: 0 <= v < 1, "must be in [0, 1)")
        require("RMSprop", group, "momentum", lambda v: v >= 0, "must be zero or more")

    def numbers(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["alpha"], group["eps"], group["momentum"]

    def state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return (
            "square_avg",
            "grad_avg" if group["centered"] else None,
            "momentum_buffer" if group["momentum"] else None,
        )

    def switches(self, group: dict[str, Any]) -> dict[str, bool]:
        return {"maximize": bool(group["maximize"])}


class Adagrad(Optimizer):
    """Adagrad: each element's step shrinks with the sum of its squared gradients.

        s = s + g^2
        p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    lr: step size. lr_decay: how fast it falls with t. weight_decay: L2 penalty. initial_accumulator_value: s before
    the first step. eps: added to the denominator. maximize: climb.

    Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization, JMLR 12,
    2011.
    """

    update = "adagrad_update"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ):
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, master_weights)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        require("Adagrad", group, "lr_decay", lambda v: v >= 0, "must be zero or more")
        require("Adagrad", group, "initial_accumulator_value", lambda v: v >= 0, "must be zero or more")

    def numbers(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr_decay"], group["eps"]

    def state_names(self, group: dict[str, Any]) -> tuple[str | None, ...]:
        return ("sum",)

    def switches(self, group: dict[str, Any]) -> dict[str, bool]:
        return {"maximize": bool(group["maximize"])}

    def initial(self, group: dict[str, Any], name: str) -> float:
        return float(group["initial_accumulator_value"])
