"""Layers, losses and networks. Names, defaults, formulas and state_dict layouts are PyTorch's."""

from . import functional, init
from .activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .containers import MLP, Sequential
from .layers import Dropout, Embedding, Linear, Standardize
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss
from .module import Module
from .norms import BatchNorm1d, LayerNorm, RMSNorm
from .parameter import Parameter
from .precision import cast
from .serialization import register

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "HuberLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "cast",
    "functional",
    "init",
    "register",
]
