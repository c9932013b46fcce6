"""Wrong gradients of the linear layer."""

# --8<-- [start:imports]
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:grad_W_without_sum]
def grad_W_without_sum(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "N D M"]:
    return X.unsqueeze(-1) * dJ_dZ.unsqueeze(1)


# --8<-- [end:grad_W_without_sum]


# --8<-- [start:grad_b_by_mean]
def grad_b_by_mean(
    dJ_dZ: Float[Tensor, "N M"],
) -> Float[Tensor, "M"]:
    return dJ_dZ.mean(0)


# --8<-- [end:grad_b_by_mean]


# --8<-- [start:grad_b_over_outputs]
def grad_b_over_outputs(
    dJ_dZ: Float[Tensor, "N M"],
) -> Float[Tensor, "N"]:
    return dJ_dZ.sum(1)


# --8<-- [end:grad_b_over_outputs]


# --8<-- [start:grad_X_untransposed]
def grad_X_untransposed(
    dJ_dZ: Float[Tensor, "N D"], W: Float[Tensor, "D D"]
) -> Float[Tensor, "N D"]:
    return dJ_dZ @ W


# --8<-- [end:grad_X_untransposed]
