"""Your turn: layers as objects.

Write each `backward`, then run `python -m proofread gradients exercises/layers.py`. What a
`backward` needs, the forward has to keep: add the lines. X is (N, D), W (D, M), b (M,), Z, A
and Y are (N, M).
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Linear", "LinearFunction", "Mse", "Relu", "Sigmoid"]


class Linear:
    """Z = XW + b. `backward` returns dJ/dX, and leaves dJ/dW and dJ/db in self.dJ_dW, self.dJ_db."""

    def __init__(self, W: Float[Tensor, "D M"], b: Float[Tensor, "M"]):
        self.W, self.b = W, b

    def __call__(self, X: Float[Tensor, "N D"]) -> Float[Tensor, "N M"]:
        return X @ self.W + self.b

    def backward(self, dJ_dZ: Float[Tensor, "N M"]) -> Float[Tensor, "N D"]:
        raise NotImplementedError


class Relu:
    """A = relu(Z). `backward` returns dJ/dZ."""

    def __call__(self, Z: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        return torch.relu(Z)

    def backward(self, dJ_dA: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        raise NotImplementedError


class Sigmoid:
    """A = 1 / (1 + exp(-Z)). `backward` returns dJ/dZ."""

    def __call__(self, Z: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        return torch.sigmoid(Z)

    def backward(self, dJ_dA: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        raise NotImplementedError


class Mse:
    """J, the mean squared error. `backward` returns dJ/dA; nothing comes before it."""

    def __call__(self, A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]) -> Float[Tensor, ""]:
        return (A - Y).square().mean()

    def backward(self) -> Float[Tensor, "N M"]:
        raise NotImplementedError


class LinearFunction(torch.autograd.Function):
    """Z = XW + b again. `backward` returns dJ/dX, dJ/dW and dJ/db, in this order."""

    @staticmethod
    def forward(
        X: Float[Tensor, "N D"], W: Float[Tensor, "D M"], b: Float[Tensor, "M"]
    ) -> Float[Tensor, "N M"]:
        return X @ W + b

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass  # ctx.save_for_backward(…)

    @staticmethod
    def backward(ctx, dJ_dZ):
        raise NotImplementedError
