"""Your turn: the gradient of the mean squared error J = mse(A, Y).

Write the function, then run `python -m proofread gradients exercises/mse.py`.
A and Y are (N, M); J, the mean over all entries, is one number.
"""

import torch  # noqa: F401 - for you to use
from jaxtyping import Float
from torch import Tensor


def grad_A(A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
    """Return dJ/dA."""
    raise NotImplementedError
