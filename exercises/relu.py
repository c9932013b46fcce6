"""Your turn: the gradient of A = relu(Z).

Write the function, then run `python -m proofread gradients exercises/relu.py`.
Z, A and dJ_dA are (N, M).
"""

import torch  # noqa: F401 - for you to use
from jaxtyping import Float
from torch import Tensor


def grad_Z(Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
    """Return dJ/dZ."""
    raise NotImplementedError
