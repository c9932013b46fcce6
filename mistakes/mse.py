"""Wrong gradients of the mean squared error."""

# --8<-- [start:imports]
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:grad_A_wrong_sign]
def grad_A_wrong_sign(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return 2 * (Y - A) / A.numel()


# --8<-- [end:grad_A_wrong_sign]


# --8<-- [start:grad_A_without_2]
def grad_A_without_2(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return (A - Y) / A.numel()


# --8<-- [end:grad_A_without_2]


# --8<-- [start:grad_A_mean_over_rows]
def grad_A_mean_over_rows(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    return 2 * (A - Y) / len(A)


# --8<-- [end:grad_A_mean_over_rows]


# --8<-- [start:grad_A_broadcast]
def grad_A_broadcast(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Tensor:
    return 2 * (A - Y[:, 0]) / A.numel()


# --8<-- [end:grad_A_broadcast]
