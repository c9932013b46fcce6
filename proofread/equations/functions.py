"""The functions that a formula may call without declaring them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .problem import Undefined


def _square(x: torch.Tensor, what: str) -> torch.Tensor:
    if x.dim() < 2 or x.shape[-1] != x.shape[-2]:
        raise Undefined(f"{what} needs a square matrix")
    return x


def _diag(x: torch.Tensor) -> torch.Tensor:
    if x.dim() == 0:
        raise Undefined("diag needs a vector or a matrix")
    if x.dim() == 1:
        return torch.diag(x)
    if 1 in x.shape:
        return torch.diag(x.reshape(-1))
    return torch.diagonal(_square(x, "diag"))


def _trace(x: torch.Tensor) -> torch.Tensor:
    return x if x.dim() == 0 else torch.trace(_square(x, "the trace"))


def _vec(x: torch.Tensor) -> torch.Tensor:
    return x.mT.reshape(-1) if x.dim() == 2 else x.reshape(-1)


ELEMENTWISE = {
    "log": torch.log,
    "ln": torch.log,
    "lg": torch.log10,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "coth": lambda x: 1 / torch.tanh(x),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "cot": lambda x: 1 / torch.tan(x),
    "sec": lambda x: 1 / torch.cos(x),
    "csc": lambda x: 1 / torch.sin(x),
    "sech": lambda x: 1 / torch.cosh(x),
    "arcsin": torch.arcsin,
    "arccos": torch.arccos,
    "arctan": torch.arctan,
    "abs": torch.abs,
    "sgn": torch.sign,
    "sign": torch.sign,
    "erf": torch.erf,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "leakyrelu": F.leaky_relu,
    "elu": F.elu,
    "logistic": torch.sigmoid,
    "\\sigma": torch.sigmoid,
}
ROW = {
    "softmax": lambda x: torch.softmax(x, -1),
    "logsoftmax": lambda x: torch.log_softmax(x, -1),
}
WHOLE = {
    "det": torch.det,
    "tr": _trace,
    "trace": _trace,
    "diag": _diag,
    "vec": _vec,
    "sum": torch.sum,
    "mean": torch.mean,
    "var": lambda x: torch.var(x, correction=0),
    "std": lambda x: torch.std(x, correction=0),
    "lse": lambda x: torch.logsumexp(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "norm": torch.linalg.vector_norm,
}
CHAIN = "prod"
EXTREMES = {"max": torch.maximum, "min": torch.minimum}
KNOWN = frozenset({*ELEMENTWISE, *ROW, *WHOLE, *EXTREMES, CHAIN})
