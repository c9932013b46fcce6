"""Your turn: the gradients of the linear layer Z = X @ W + b.

Write each function, then run `python -m proofread gradients exercises/linear.py`.
X is (N, D), W (D, M), b (M,), Z and dJ_dZ (N, M).
"""

import torch  # noqa: F401 - for you to use
from jaxtyping import Float
from torch import Tensor


def grad_W(X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]) -> Float[Tensor, "D M"]:
    """Return dJ/dW."""
    raise NotImplementedError


def grad_b(dJ_dZ: Float[Tensor, "N M"]) -> Float[Tensor, "M"]:
    """Return dJ/db."""
    raise NotImplementedError


def grad_X(dJ_dZ: Float[Tensor, "N M"], W: Float[Tensor, "D M"]) -> Float[Tensor, "N D"]:
    """Return dJ/dX."""
    raise NotImplementedError
