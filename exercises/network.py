"""Your turn: the whole chain Z = X @ W + b, A = relu(Z), J = mse(A, Y).

Write the functions, then run `python -m proofread gradients exercises/network.py`.
X is (N, D), W (D, M), b (M,), Z, A and Y are (N, M); J is one number.
"""

import torch  # noqa: F401 - for you to use
from jaxtyping import Float
from torch import Tensor


def backward(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    Z: Float[Tensor, "N M"],
    A: Float[Tensor, "N M"],
    Y: Float[Tensor, "N M"],
) -> tuple[Float[Tensor, "D M"], Float[Tensor, "M"], Float[Tensor, "N D"]]:
    """Return dJ/dW, dJ/db and dJ/dX."""
    raise NotImplementedError


def grad_W_in_closed_form(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "D M"]:
    """Return dJ/dW, from the inputs of the chain alone."""
    raise NotImplementedError
