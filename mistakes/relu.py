"""Wrong gradients of ReLU."""

# --8<-- [start:imports]
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:grad_Z_without_mask]
def grad_Z_without_mask(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return dJ_dA


# --8<-- [end:grad_Z_without_mask]


# --8<-- [start:grad_Z_masked_by_upstream]
def grad_Z_masked_by_upstream(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return dJ_dA * (dJ_dA > 0)


# --8<-- [end:grad_Z_masked_by_upstream]


# --8<-- [start:grad_Z_with_ties]
def grad_Z_with_ties(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return dJ_dA * (Z >= 0)


# --8<-- [end:grad_Z_with_ties]
